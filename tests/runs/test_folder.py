import errno
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from equipoise.errors import Command, Option, RunBusyError, StorageError, UserError
from equipoise.recipe import Data, Recipe
from equipoise.runs import rules
from equipoise.runs.folder import RunFolder, new_path, run_name
from equipoise.storage.checkpoints import FILES
from equipoise.storage.files import write_json, written_whole
from equipoise.storage.records import FORMAT, DataRecord, IntervalsRecord, RunState, plain

HOLD = """
import sys, pathlib
from equipoise.runs.folder import RunFolder
with RunFolder(pathlib.Path(sys.argv[1])).lock():
    print("locked", flush=True)
    sys.stdin.read()
"""

CREATE = """
import sys, pathlib
from equipoise.errors import RunBusyError, UserError
from equipoise.recipe import Recipe
from equipoise.runs.folder import RunFolder
try:
    sys.stdin.readline()
    run = RunFolder.create(pathlib.Path(sys.argv[1]), Recipe())
    print("made")
except UserError as error:
    print("refused", type(error).__name__, *map(repr, error.remedies))
"""


def a_process(code: str, path: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, str(path)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def refusal(path: Path) -> UserError:
    with pytest.raises(UserError) as caught:
        RunFolder.create(path, Recipe())
    assert "\n" not in str(caught.value)
    return caught.value


DATA = DataRecord(source="mnist", digest="5d", num_train=8, num_validation=1, num_test=1)


def test_a_beginning_that_is_taken_back_leaves_nothing_of_itself(tmp_path):
    path = tmp_path / "run"
    with RunFolder.begin(path, Recipe(), DATA) as run:
        run.write_state(RunState())  # as a preparation does
        run.take_back()
    assert list(path.iterdir()) == []


def test_a_new_run_holds_its_recipe(tmp_path):
    run = RunFolder.create(tmp_path / "a" / "b", Recipe(seed=7))
    assert run.recipe() == Recipe(seed=7)
    assert RunFolder.open(run.path) == run
    assert (run.read_state(), run.read_data(), run.read_environment()) == (RunState(), None, {})
    assert repr(run.read_intervals()) == repr(IntervalsRecord())
    run.log_event(1, 2.0, "remedy", "why")
    assert (
        run.events.read_text()
        == '{"samples":1,"seconds":2.0,"kind":"remedy","message":"why","attempt":0,"remedy":null}\n'
    )


def test_an_event_that_a_resume_comes_to_again_is_logged_once(tmp_path):
    run = RunFolder.create(tmp_path / "run", Recipe())
    for seconds, message, attempt in ((1.0, "why", 0), (2.0, "why", 0), (2.0, "other", 0), (2.0, "why", 1)):
        run.log_event(100, seconds, "remedy", message, attempt)
    assert run.events.read_text().count("\n") == 3


@pytest.mark.parametrize(
    ("name", "version", "said"),
    [
        ("recipe.json", {}, "earlier"),
        ("recipe.json", {"format": FORMAT + 1}, str(FORMAT + 1)),
        ("state.json", {"format": FORMAT + 1}, str(FORMAT + 1)),
    ],
)
def test_a_run_of_an_earlier_or_a_newer_version_is_refused(tmp_path, name, version, said):
    run = RunFolder.create(tmp_path / "run", Recipe())
    write_json(run.path / name, {"status": "new", **version})
    with pytest.raises(UserError) as caught:
        run.read_recipe() if name == "recipe.json" else run.read_state()
    assert caught.value.subject == run.path / name
    assert said in caught.value.problem


def test_a_folder_with_a_run_is_refused_with_the_way_to_resume_it(tmp_path):
    path = tmp_path / "my run"
    RunFolder.create(path, Recipe(seed=7))
    error = refusal(path)
    assert (error.subject, error.remedies) == (path, (Command("resume", path), Option("out", tmp_path / "my run-2")))
    assert RunFolder(path).recipe().seed == 7


def test_a_folder_with_other_files_is_refused_and_left_as_it_is(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    error = refusal(tmp_path)
    assert (error.subject, error.remedies) == (tmp_path, (rules.elsewhere(tmp_path),))
    assert os.listdir(tmp_path) == ["thesis.txt"]


def test_a_file_and_a_place_that_cannot_be_written_are_refused_in_words(tmp_path):
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / ("x" * 300), Path("/proc/run")):
        error = refusal(path)
        assert error.subject == path
        assert isinstance(error.remedies[-1], Option)


def test_an_empty_folder_and_names_of_any_letters_are_welcome(tmp_path):
    for name in ("empty", "mit Leerzeichen", "数字", "-x", "y" * 255):
        (tmp_path / name).mkdir()
        assert RunFolder.is_run(RunFolder.create(tmp_path / name, Recipe()).path)


def test_opening_what_is_not_a_run_names_runs_nearby(tmp_path):
    run = RunFolder.create(tmp_path / "runs" / "one", Recipe())
    for path in (tmp_path / "runs", tmp_path / "runs" / "two"):
        with pytest.raises(UserError) as caught:
            RunFolder.open(path)
        assert caught.value.subject == path
        assert str(run.path) in str(caught.value.remedies[0])
    with pytest.raises(UserError) as caught:
        RunFolder.open(tmp_path / "elsewhere" / "deep")
    assert caught.value.remedies == (Command("train", "mnist"),)


def test_damaged_and_missing_files_are_named(tmp_path):
    run = RunFolder.create(tmp_path / "run", Recipe())
    for text in ('{"status": "run', '{"status": "asleep"}', '{"samples": -1}', "[]"):
        (run.path / "state.json").write_text(text)
        with pytest.raises(UserError) as caught:
            run.read_state()
        assert caught.value.subject == run.path / "state.json"
        assert caught.value.remedies
    (run.path / "recipe.json").unlink()
    with pytest.raises(UserError) as caught:
        run.read_recipe()
    assert caught.value.subject == run.path / "recipe.json"


READERS: dict[str, Callable[[RunFolder], Any]] = {
    "data.json": RunFolder.read_data,
    "intervals.json": RunFolder.read_intervals,
    "rivals.json": RunFolder.read_rivals,
    "exhibits.json": RunFolder.read_exhibits,
    "environment.json": RunFolder.read_environment,
    "recipe.json": RunFolder.recipe,
}
OF_OTHER_TYPES = {
    "data.json": '{"num_train": "many"}',
    "intervals.json": '{"horizon": "far"}',
    "rivals.json": '{"scores": [{}]}',
    "exhibits.json": '{"exhibits": {}}',
    "environment.json": "3",
    "recipe.json": '{"seed": "none"}',
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(
    "damage",
    ["", "{", "[]", "\udcff", "[" * 100_000, "of another type"],
    ids=["empty", "cut", "list", "not-text", "deep", "other-type"],
)
def test_a_damaged_file_is_named_whichever_it_is(tmp_path, name, damage):
    run = RunFolder.create(tmp_path / "run", Recipe(), DATA)
    text = OF_OTHER_TYPES[name] if damage == "of another type" else damage
    (run.path / name).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(UserError) as caught:
        READERS[name](run)
    assert caught.value.subject == run.path / name
    assert caught.value.remedies
    assert len(str(caught.value)) < 600 + len(str(run.path))


def test_a_second_training_is_refused_with_host_and_pid_and_a_killed_one_leaves_the_run_free(tmp_path):
    run = RunFolder.create(tmp_path / "run", Recipe())
    assert run.holder() is None
    process = a_process(HOLD, run.path)
    assert process.stdout
    assert process.stdout.readline() == "locked\n"
    try:
        holder = run.holder()
        assert holder is not None
        assert (holder.host, holder.pid) == (socket.gethostname(), process.pid)
        with pytest.raises(RunBusyError) as caught, run.lock():
            pass
        assert {str(process.pid), socket.gethostname()} <= set(caught.value.problem.split())
        assert isinstance(refusal(run.path), RunBusyError)
        assert run.read_recipe()  # readers are always allowed
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert run.holder() is None
    with run.lock():
        assert run.holder() is not None
    assert (run.path / "lock").read_bytes() == b""


def test_a_lock_is_released_when_training_fails(tmp_path):
    run = RunFolder.create(tmp_path / "run", Recipe())
    with pytest.raises(ZeroDivisionError), run.lock():
        raise ZeroDivisionError
    with run.lock():
        pass


def test_of_many_started_at_once_exactly_one_gets_the_folder(tmp_path):
    processes = [a_process(CREATE, tmp_path / "run") for _ in range(8)]
    for process in processes:
        assert process.stdin
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate()[0] for process in processes]
    assert sum(text == "made\n" for text in said) == 1
    assert all("resume" in text or "RunBusyError" in text for text in said if text != "made\n")


def test_default_names_count_up_and_hold_no_odd_letters(tmp_path):
    assert new_path(tmp_path / "none", "modern-mnist") == tmp_path / "none" / "modern-mnist-001"
    for name in ("modern-mnist-001", "modern-mnist-009", "modern-mnist-big-077", "other-100"):
        (tmp_path / name).mkdir()
    assert new_path(tmp_path, "modern-mnist").name == "modern-mnist-010"
    assert new_path(tmp_path, "../a b/<c>").name == "a-b-c-001"
    assert new_path(tmp_path, "///").name == "run-001"
    assert len(new_path(tmp_path, "é" * 400).name.encode()) <= 255


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("mnist", "modern-mnist"),
        ("a/photos/", "modern-photos"),
        ("b/faces.NPZ", "modern-faces"),
        ("hub:x/y", "modern-y"),
    ],
)
def test_a_run_is_called_by_recipe_and_source(source, name):
    assert run_name(Recipe(data=Data(source=source))) == name


def test_snapshots_grow_apart_and_those_beyond_a_checkpoint_go(tmp_path):
    run = RunFolder.create(tmp_path / "run", Recipe())
    taken = [
        samples for samples in range(100, 100_001, 100) if run.is_snapshot_due(samples) and not touch(run, samples)
    ]
    assert taken[:4] == [100, 200, 300, 400]
    assert 25 < len(taken) < 50
    assert [samples for samples, _ in run.snapshots()] == taken
    (run.samples / "real.png").touch()
    run.cut_logs(1000)
    assert [samples for samples, _ in run.snapshots()] == [samples for samples in taken if samples <= 1000]
    assert (run.samples / "real.png").exists()


def touch(run: RunFolder, samples: int) -> None:
    run.write_snapshot(samples, b"")


@pytest.mark.parametrize("writer", ["write_data", "write_recipe"])
def test_what_a_kill_leaves_before_the_recipe_is_not_a_run_and_is_begun_again(tmp_path, monkeypatch, writer):
    class Killed(BaseException):
        pass

    def kill(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, writer, kill)
        with pytest.raises(Killed):
            RunFolder.create(tmp_path / "run", Recipe(), DATA)
    assert not RunFolder.is_run(tmp_path / "run"), "a run must have all that a resume needs"
    assert RunFolder.create(tmp_path / "run", Recipe(), DATA).read_data() == DATA


def test_a_disk_that_fails_while_the_lock_is_freed_hides_nothing_that_failed_before(tmp_path, monkeypatch):
    run = RunFolder.create(tmp_path / "run", Recipe())

    def truncate(*_):
        raise OSError(errno.EROFS, "read-only")

    def fail(patch: pytest.MonkeyPatch) -> None:
        with run.lock():
            patch.setattr(os, "ftruncate", truncate)
            raise ZeroDivisionError

    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        fail(patch)
    with run.lock():
        pass


def test_pictures_that_a_run_did_not_take_are_the_users(tmp_path):
    run = RunFolder.create(tmp_path / "run", Recipe())
    for name in ("20261121.png", "000000000640.png", "best.png", "00000000000000000000000000.png"):
        (run.samples / name).write_bytes(b"picture")
    (run.samples / "000000009999.png").mkdir()
    assert run.snapshots() == [(640, run.samples / "000000000640.png")]
    run.cut_logs(0)
    assert not (run.samples / "000000000640.png").exists()
    assert (run.samples / "20261121.png").read_bytes() == b"picture"


def test_a_live_trainings_run_is_not_taken_although_its_lock_file_was_removed(tmp_path):
    run = RunFolder.create(tmp_path / "run", Recipe())
    process = a_process(HOLD, run.path)
    assert process.stdout
    assert process.stdout.readline() == "locked\n"
    try:
        (run.path / "lock").unlink()
        with pytest.raises(RunBusyError), run.lock():
            pass
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    with run.lock():
        assert run.holder() is not None


def test_a_first_checkpoint_that_was_refused_is_not_reported_as_lost(tmp_path):
    run = RunFolder.create(tmp_path / "run", Recipe())
    run.write_state(RunState(status="finished", has_saved=run.has_saved, samples=640))
    assert not run.has_saved
    rules.refuse_lost(run)


def test_a_run_whose_checkpoints_are_gone_is_not_begun_again_over_what_is_left(tmp_path):
    run = RunFolder.create(tmp_path / "run", Recipe())
    rules.refuse_lost(run)
    run.write_state(RunState(status="running", has_saved=True))
    with pytest.raises(UserError) as caught:
        rules.refuse_lost(run)
    assert caught.value.subject == run.checkpoints
    assert caught.value.remedies[-1] == Command("sample", run.path)
    (run.checkpoints / ".000000000064.old").mkdir()
    rules.refuse_lost(run)
    (run.checkpoints / ".000000000064.old").rename(run.checkpoints / "000000000064")
    rules.refuse_lost(run)


PARTS = ("lock", "log/events.jsonl", "log/steps.jsonl", "log", "candidates", "samples", "best")


@pytest.mark.parametrize("name", PARTS)
def test_a_part_of_a_run_that_is_a_link_is_refused_in_one_line_and_not_written_through(tmp_path, name):
    run = RunFolder.create(tmp_path / "run", Recipe())
    place, target = run.path / name, tmp_path / "precious"
    if name in ("log", "candidates", "samples", "best"):
        target.mkdir()
        shutil.rmtree(place, ignore_errors=True)
        precious = target / "steps.jsonl"
    else:
        place.unlink(missing_ok=True)
        precious = target
    precious.write_text("mine, without an end")
    place.symlink_to(target)
    assert run.holder() is None
    with pytest.raises(UserError) as caught, run.lock():
        pass
    assert caught.value.subject == place
    assert "\n" not in str(caught.value)
    assert precious.read_text() == "mine, without an end"


def test_a_link_put_there_at_the_last_instant_is_not_emptied(tmp_path, monkeypatch):
    run = RunFolder.create(tmp_path / "run", Recipe())
    (run.path / "lock").unlink()
    (tmp_path / "precious.txt").write_text("mine")
    (run.path / "lock").symlink_to(tmp_path / "precious.txt")
    monkeypatch.setattr(rules, "refuse_links", lambda run: None)
    with pytest.raises(UserError) as caught, run.lock():
        pass
    assert caught.value.subject == run.path
    assert (tmp_path / "precious.txt").read_text() == "mine"


def test_a_run_that_is_a_link_and_checkpoints_on_another_disk_work(tmp_path):
    whole = RunFolder.create(tmp_path / "run", Recipe())
    whole.checkpoints.rename(tmp_path / "large disk")
    whole.checkpoints.symlink_to(tmp_path / "large disk")
    (tmp_path / "link").symlink_to(whole.path)
    run = RunFolder(tmp_path / "link")
    (run.checkpoints / ".64.partial").mkdir()
    with run.lock():
        run.tidy()
        run.log_event(1, 2.0, "remedy", "why")
    assert whole.events.read_text().count("\n") == 1
    assert os.listdir(tmp_path / "large disk") == []


def test_candidates_that_are_a_link_are_not_cleared_up(tmp_path):
    run = RunFolder.create(tmp_path / "run", Recipe())
    (tmp_path / "other" / ".64.partial").mkdir(parents=True)
    run.candidates.symlink_to(tmp_path / "other")
    run.tidy()
    assert (tmp_path / "other" / ".64.partial").is_dir()


def test_a_lock_that_is_a_pipe_keeps_nobody_waiting(tmp_path):
    run = RunFolder.create(tmp_path / "run", Recipe())
    (run.path / "lock").unlink()
    os.mkfifo(run.path / "lock")
    assert run.holder() is None
    with pytest.raises(UserError) as caught, run.lock():
        pass
    assert caught.value.subject == run.path / "lock"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("lock", "my own notes"),
        ("lock", "[" * 3000),
        ("lock", '{"host": 1}'),
        ("data.json", "[1, 2]"),
        ("data.json", '{"digest": "5d", "size": 28}'),
        ("data.json", "no JSON"),
        (".aside-mine", "mine"),
    ],
)
def test_files_of_the_user_that_are_called_as_those_of_a_run_are_left_as_they_are(tmp_path, name, text):
    (tmp_path / "lock").touch()
    (tmp_path / name).write_text(text)
    assert refusal(tmp_path).remedies == (rules.elsewhere(tmp_path),)
    assert (tmp_path / name).read_text() == text


@pytest.mark.parametrize("name", ["lock", "data.json", "log"])
def test_links_that_are_called_as_parts_of_a_run_are_other_files(tmp_path, name):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "lock").touch()
    (tmp_path / "run" / name).unlink(missing_ok=True)
    if name == "log":
        (tmp_path / "mine").mkdir()
    else:
        (tmp_path / "mine").write_text(json.dumps(plain(DATA)) if name == "data.json" else "")
    (tmp_path / "run" / name).symlink_to(tmp_path / "mine")
    assert refusal(tmp_path / "run").remedies == (rules.elsewhere(tmp_path / "run"),)


@pytest.mark.parametrize("lock", ["", '{"host":"a","pid":7}'])
def test_what_a_kill_left_of_a_run_that_had_not_begun_is_begun_again(tmp_path, lock):
    (tmp_path / "lock").write_text(lock)
    write_json(tmp_path / "data.json", DATA)
    (tmp_path / ".aside-7-0123abcd").write_text("{")
    for name in ("log", "checkpoints"):
        (tmp_path / name).mkdir()
    assert RunFolder.is_run(RunFolder.create(tmp_path, Recipe()).path)


def whole_checkpoint(run: RunFolder, name: str) -> Path:
    with written_whole(run.checkpoints / name) as folder:
        for file in FILES:
            (folder / file).write_text("{}")
    return run.checkpoints / name


def test_the_newest_good_checkpoint_is_one_that_a_resume_would_take(tmp_path):
    run = RunFolder.create(tmp_path / "run", Recipe())
    assert run.newest_good() is None
    whole_checkpoint(run, f"{64:012d}")
    for name in ("128", "9" * 19, "²" * 12, "0000000000256"):  # no names of checkpoints
        whole_checkpoint(run, name)
    with written_whole(run.checkpoints / f"{512:012d}") as folder:
        (folder / "state.json").write_text("{}")  # whole by its manifest, and no checkpoint
    elsewhere = whole_checkpoint(run, f"{1024:012d}").rename(tmp_path / "elsewhere")
    (run.checkpoints / f"{1024:012d}").symlink_to(elsewhere)
    assert run.newest_good() == 64
    whole_checkpoint(run, f"{10**12:012d}")  # older by its text, and not by its samples
    assert run.newest_good() == 10**12


def test_what_stopped_a_run_claims_no_checkpoint_that_is_not_there_and_denies_none_that_may_be(tmp_path):
    run = RunFolder.create(tmp_path / "run", Recipe())
    error = OSError(errno.EIO, "Input/output error", "/data/photos.zip")

    def safe() -> str:
        found = rules.stopped_by(run, error)
        assert isinstance(found, StorageError)
        assert (found.subject, found.remedies[-1]) == ("/data/photos.zip", Command("resume", run.path))
        return str(found.remedies[0])

    none_yet = safe()
    path = whole_checkpoint(run, f"{64:012d}")
    assert "64" in safe()
    (path / "state.json").write_text("[]")
    none_good = safe()
    assert "64" not in none_good
    assert none_good != none_yet, "one is there, and it is damaged"
    shutil.rmtree(run.checkpoints)
    run.checkpoints.write_text("a file")
    assert safe() == none_good, "and here nobody can tell"
