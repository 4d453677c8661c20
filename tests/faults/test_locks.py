"""One training in one folder: of many one trains and the others name it; readers are always welcome."""

import contextlib
import errno
import fcntl
import io
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import lives
import pytest

from equipoise.cli import main
from equipoise.errors import RunBusyError, UserError
from equipoise.recipe import Recipe
from equipoise.runs.folder import Holder, RunFolder

HOLD = """
import sys, pathlib
from equipoise.runs.folder import RunFolder
with RunFolder(pathlib.Path(sys.argv[1])).lock():
    print("locked", flush=True)
    sys.stdin.read()
"""


def first_line(life: lives.Life, beginning: str) -> None:
    """Wait until a process has said this."""
    end = time.monotonic() + lives.LONGEST
    while beginning not in life.said():
        assert time.monotonic() < end, life.told()
        assert life.process.is_alive(), life.told()
        time.sleep(0.05)


@pytest.mark.faults
@pytest.mark.parametrize(("how", "num"), [("train", 20), ("resume", 6)])
def test_of_many_trainings_started_at_once_one_trains_and_the_others_name_it(
    command: lives.Command, tmp_path: Path, how: str, num: int
) -> None:
    run = tmp_path / "run"
    command.begun(tmp_path / "first").ended()  # the cache is filled, so that all of them come at once
    if how == "resume":
        stopped = command.begun(run, lives.signalled("loop.take_generator_step", 20, signal.SIGTERM))
        assert stopped.ended() == 130
    # The one that trains waits until the others are through.
    hold = partial(lives.at, "loop.take_generator_step", 1, partial(lives.wait_for, tmp_path / "go"))
    arguments = ["resume", os.fspath(run)] if how == "resume" else command.train(run)
    if how == "train":
        arguments.remove("--resume")
    many = [lives.begun(arguments, command.cache, hold) for _ in range(num)]
    end = time.monotonic() + 2 * lives.LONGEST
    while len(alive := [life for life in many if life.process.is_alive()]) > 1 and time.monotonic() < end:
        time.sleep(0.1)
    (one,) = alive
    (tmp_path / "go").touch()
    who = f"process {one.process.pid} on {socket.gethostname()}"
    for life in many:
        if life is not one:
            assert (life.ended(), who in lives.one_line(life.told())) == (3, True), life.told()
    assert one.ended() == 0
    assert lives.parts_of(run) == lives.parts_of(tmp_path / "first")


@pytest.mark.faults
@pytest.mark.parametrize("content", ["", '{"host": "elsewhere", "pid": 1}'])
def test_a_live_training_is_never_robbed_whatever_its_lock_says_and_a_killed_one_is_recovered(
    command: lives.Command, tmp_path: Path, content: str
) -> None:
    run = RunFolder(tmp_path / "run")
    life = command.begun(run.path, lives.signalled("loop.take_generator_step", 10, 0, 40.0))  # it waits there
    first_line(life, "left")
    (run.path / "lock").write_text(content)
    for _ in range(2):
        other = command.begun(run.path)
        assert other.ended() == 3
        assert "is training here" in lives.one_line(other.told())
    for arguments in (["status", "--json"], ["status"]):
        assert main([*arguments, os.fspath(run.path)]) == 0
    life.process.kill()
    life.process.join()
    assert run.holder() is None
    assert command.finished(run.path)


@pytest.mark.faults
def test_readers_are_welcome_while_a_run_trains(command: lives.Command, tmp_path: Path) -> None:
    run = tmp_path / "run"
    life = command.begun(run, lives.signalled("loop.take_generator_step", 50, 0, 40.0))
    end = time.monotonic() + lives.LONGEST
    while RunFolder(run).newest_good() != 320 and time.monotonic() < end:
        time.sleep(0.05)
    readers = (
        ["status", run], ["status", run, "--json"], ["digest", run], ["compare", run, run],
        ["sample", run, "-n", "1", "-o", tmp_path / "one.png"],
    )  # fmt: skip
    for arguments in readers:
        told = io.StringIO()
        with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
            code = main([str(argument) for argument in arguments])
        assert code == 0, f"{arguments}: {told.getvalue()}"
        assert life.process.is_alive()
    life.process.kill()
    life.process.join()
    assert command.finished(run)


def test_a_number_of_a_process_that_lives_again_as_another_keeps_nobody_out(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", Recipe())
    (run.path / "lock").write_text(f'{{"host": "{socket.gethostname()}", "pid": {os.getpid()}}}')
    assert run.holder() is None
    with run.lock():
        assert run.holder() == Holder(socket.gethostname(), os.getpid())


@pytest.mark.parametrize("content", ["", "no JSON", "[]"])
def test_a_lock_that_does_not_say_whose_it_is_keeps_everybody_out_all_the_same(tmp_path: Path, content: str) -> None:
    run = RunFolder.create(tmp_path / "run", Recipe())
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, run.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout
        assert process.stdout.readline() == "locked\n"
        (run.path / "lock").write_text(content)
        with pytest.raises(RunBusyError, match="another process is training here"):
            run.refuse_busy()
        with pytest.raises(RunBusyError, match="another process is training here"), run.lock():
            pass
        process.kill()
    with run.lock():
        pass


def test_a_folder_is_held_from_its_creation_on(tmp_path: Path) -> None:
    with RunFolder.begun(tmp_path / "run", Recipe()) as run:
        assert run.holder() == Holder(socket.gethostname(), os.getpid())
        with pytest.raises(RunBusyError, match=f"process {os.getpid()} on"), run.lock():
            pass
    assert run.holder() is None


def test_many_who_ask_who_trains_keep_nobody_from_training(tmp_path: Path) -> None:
    run, stop = RunFolder.create(tmp_path / "run", Recipe()), threading.Event()

    def ask() -> None:  # longer than the quarter of a second that one trainer is given to go
        with (run.path / "lock").open() as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            stop.wait(0.6)

    asking = threading.Thread(target=ask)
    asking.start()
    time.sleep(0.1)
    with run.lock():
        stop.set()
    asking.join()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    run = RunFolder.create(tmp_path / "run", Recipe())
    monkeypatch.setattr(fcntl, "flock", refuse)
    assert run.holder() is None, "reading needs no lock"
    with pytest.raises(UserError, match=r"keeps no locks .* --out"), run.lock():
        pass
    with pytest.raises(UserError, match="keeps no locks"):
        RunFolder.create(tmp_path / "other", Recipe())
