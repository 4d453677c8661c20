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
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import lives
import msgspec
import pytest

from equipoise.cli import main
from equipoise.errors import RunBusyError, UserError
from equipoise.recipe import Recipe
from equipoise.runs import rules
from equipoise.runs.folder import Holder, RunFolder

ROUND = "loop.set_rates"
HOLD = """
import sys, pathlib
from equipoise.runs.folder import RunFolder
with RunFolder(pathlib.Path(sys.argv[1])).lock():
    print("locked", flush=True)
    sys.stdin.read()
"""


def until_it_trains(life: lives.Life, run: RunFolder) -> None:
    """Wait until a process says in a run's lock that it trains there."""

    def is_holder() -> bool:
        assert life.process.is_alive(), life.told()
        holder = run.holder()
        return holder is not None and holder.pid == life.process.pid

    lives.until(is_holder)


def held_at(call: int, go: Path) -> lives.Deed:
    """Return a hook that keeps a training in one of its rounds until a file is there."""
    return partial(lives.at, ROUND, call, partial(lives.wait_for, go))


@contextlib.contextmanager
def asked(run: RunFolder) -> Iterator[threading.Event]:
    """Let a reader hold a run's lock while entered, for 0.6 s at most or until the event is set."""
    stop = threading.Event()
    has_begun = threading.Event()

    def ask() -> None:
        with (run.path / "lock").open() as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            has_begun.set()
            stop.wait(0.6)

    asking = threading.Thread(target=ask)
    asking.start()
    assert has_begun.wait(lives.LONGEST)
    yield stop
    asking.join()


@pytest.mark.faults
@pytest.mark.parametrize(("how", "num"), [("train", 20), ("resume", 6)])
def test_of_many_trainings_started_at_once_one_trains_and_the_others_name_it(
    command: lives.Command, tmp_path: Path, how: str, num: int
) -> None:
    """The one waits in its first round until the others are through."""
    run = tmp_path / "run"
    command.begun(tmp_path / "first").ended()  # the cache is filled, so that all of them come at once
    if how == "resume":
        stopped = command.begun(run, lives.signalled(ROUND, 20, signal.SIGTERM))
        assert stopped.ended() == 130
    arguments = command.train(run)
    arguments.remove("--resume")
    if how == "resume":
        arguments = ["resume", os.fspath(run)]
    many = [lives.begun(arguments, command.cache, held_at(1, tmp_path / "go")) for _ in range(num)]
    lives.until(lambda: sum(life.process.is_alive() for life in many) <= 1)
    (one,) = [life for life in many if life.process.is_alive()]
    (tmp_path / "go").touch()
    for life in many:
        if life is not one:
            assert life.ended() == 3, life.told()
            told = lives.one_line(life.told())
            assert str(one.process.pid) in told
            assert socket.gethostname() in told
    assert one.ended() == 0
    assert lives.parts_of(run) == lives.parts_of(tmp_path / "first")


@pytest.mark.faults
@pytest.mark.parametrize("content", ["", '{"host": "elsewhere", "pid": 1}'])
def test_a_live_training_is_never_robbed_whatever_its_lock_says_and_a_killed_one_is_recovered(
    command: lives.Command, tmp_path: Path, content: str
) -> None:
    """The lock is the kernel's; what its file says is for people."""
    run = RunFolder(tmp_path / "run")
    life = command.begun(run.path, held_at(10, tmp_path / "go"))
    until_it_trains(life, run)
    (run.path / "lock").write_text(content)
    for _ in range(2):
        other = command.begun(run.path)
        assert other.ended() == 3
        assert str(run.path) in lives.one_line(other.told())
    for arguments in (["status", "--json"], ["status"]):
        assert main([*arguments, os.fspath(run.path)]) == 0
    life.killed()
    assert run.holder() is None
    assert command.finished(run.path)


@pytest.mark.faults
def test_readers_are_welcome_while_a_run_trains(command: lives.Command, tmp_path: Path) -> None:
    """It waits in the round after its second evaluation and its fourth checkpoint."""
    run = tmp_path / "run"
    life = command.begun(run, held_at(50, tmp_path / "go"))
    lives.until(lambda: RunFolder(run).newest_good() == 320 or not life.process.is_alive())
    other = RunFolder.create(tmp_path / "other", Recipe())
    readers = (
        ["status", run], ["status", run, "--json"], ["digest", run], ["compare", run, other.path],
        ["sample", run, "-n", "1", "-o", tmp_path / "one.png"],
    )  # fmt: skip
    for arguments in readers:
        told = io.StringIO()
        with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
            code = main([str(argument) for argument in arguments])
        assert code == 0, f"{arguments}: {told.getvalue()}"
        assert life.process.is_alive()
    life.killed()
    assert command.finished(run)


def test_a_number_of_a_process_that_lives_again_as_another_keeps_nobody_out(tmp_path: Path) -> None:
    """It is written down, and nobody holds the lock."""
    run = RunFolder.create(tmp_path / "run", Recipe())
    (run.path / "lock").write_text(f'{{"host": "{socket.gethostname()}", "pid": {os.getpid()}}}')
    assert run.holder() is None
    with run.lock():
        assert run.holder() == Holder(socket.gethostname(), os.getpid())


@pytest.mark.parametrize("content", ["", "no JSON", "[]"])
def test_a_lock_that_does_not_say_whose_it_is_keeps_everybody_out_all_the_same(tmp_path: Path, content: str) -> None:
    """Then nobody can be named."""
    run = RunFolder.create(tmp_path / "run", Recipe())
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, run.path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with process:
        assert process.stdout
        assert process.stdout.readline() == "locked\n"
        (run.path / "lock").write_text(content)
        with pytest.raises(RunBusyError) as refused:
            rules.refuse_busy(run)
        assert str(process.pid) not in refused.value.problem
        with pytest.raises(RunBusyError) as refused, run.lock():
            pass
        assert str(process.pid) not in refused.value.problem
        process.kill()
    with run.lock():
        pass


def test_a_folder_is_held_from_its_creation_on(tmp_path: Path) -> None:
    """Nobody can begin to train in it before the one who made it."""
    me = Holder(socket.gethostname(), os.getpid())
    with RunFolder.begin(tmp_path / "run", Recipe()) as run:
        assert run.holder() == me
        with pytest.raises(RunBusyError) as refused, run.lock():
            pass
    assert refused.value.subject == run.path
    assert {str(me.pid), me.host} <= set(refused.value.problem.split())
    assert run.holder() is None


def test_many_who_ask_who_trains_keep_nobody_from_training(tmp_path: Path) -> None:
    """They hold the lock for longer than the quarter of a second that one trainer is given to go."""
    run = RunFolder.create(tmp_path / "run", Recipe())
    with asked(run) as stop, run.lock():
        stop.set()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Before anything of a run is there, and of one that is; reading needs no lock."""

    def refuse(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    run = RunFolder.create(tmp_path / "run", Recipe())
    monkeypatch.setattr(fcntl, "flock", refuse)
    assert run.holder() is None
    with pytest.raises(UserError) as refused, run.lock():
        pass
    assert refused.value.subject == run.path
    assert os.strerror(number) in refused.value.problem
    assert refused.value.remedies
    with pytest.raises(UserError) as refused:
        RunFolder.create(tmp_path / "other", Recipe())
    assert refused.value.subject == tmp_path / "other"
    assert not RunFolder.is_run(tmp_path / "other")


def test_a_reader_beside_what_a_kill_has_left_in_the_lock_keeps_nobody_from_training(tmp_path: Path) -> None:
    """The file still names the process that was killed, so that it looks as if somebody trained."""
    run = RunFolder.create(tmp_path / "run", Recipe())
    (run.path / "lock").write_bytes(msgspec.json.encode(Holder("elsewhere", 12345)))
    with asked(run) as stop:
        threading.Timer(0.1, stop.set).start()
        with run.lock():
            holder = run.holder()
    assert holder is not None
    assert holder.pid == os.getpid()


def test_a_forked_process_that_ends_within_the_lock_leaves_the_name_of_who_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder.create(tmp_path / "run", Recipe())
    own = os.getpid()
    with run.lock():
        monkeypatch.setattr("os.getpid", lambda: own + 1)
    assert (run.path / "lock").read_bytes()
    monkeypatch.undo()
    with run.lock():
        pass
    assert not (run.path / "lock").read_bytes()
