import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from equipoise.errors import RunBusyError, UserError
from equipoise.recipe import Data, Recipe, from_dict
from equipoise.runs.folder import RunFolder, new_path, run_name

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
    print("refused", error)
"""


def a_process(code: str, path: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", code, str(path)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        RunFolder.create(path, Recipe())
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_new_run_holds_its_recipe(tmp_path):
    run = RunFolder.create(tmp_path / "a" / "b", Recipe(seed=7))
    assert from_dict(run.read_recipe()) == Recipe(seed=7)
    assert RunFolder.open(run.path) == run
    assert run.read_state() == {"status": "new"}
    assert run.read_pace() == run.read_data() == run.read_environment() == {}
    run.log_event(1, 2.0, "remedy", "why")
    assert run.events.read_text() == '{"samples":1,"seconds":2.0,"kind":"remedy","message":"why"}\n'


def test_a_folder_with_a_run_is_refused_with_the_way_to_resume_it(tmp_path):
    RunFolder.create(tmp_path / "my run", Recipe(seed=7))
    text = refusal(tmp_path / "my run")
    assert f"equipoise resume '{tmp_path}/my run'" in text
    assert "--out" in text
    assert from_dict(RunFolder(tmp_path / "my run").read_recipe()).seed == 7


def test_a_folder_with_other_files_is_refused_and_left_as_it_is(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    assert "holds other files" in refusal(tmp_path)
    assert os.listdir(tmp_path) == ["thesis.txt"]


def test_a_file_and_a_place_that_cannot_be_written_are_refused_in_words(tmp_path):
    (tmp_path / "file").write_text("mine")
    assert "is a file" in refusal(tmp_path / "file")
    assert "cannot be written here" in refusal(tmp_path / "file" / "below")
    assert "cannot be written here" in refusal(tmp_path / ("x" * 300))
    assert "cannot be written here" in refusal(Path("/proc/run"))


def test_an_empty_folder_and_names_of_any_letters_are_welcome(tmp_path):
    for name in ("empty", "mit Leerzeichen", "数字", "-x", "y" * 255):
        (tmp_path / name).mkdir()
        assert RunFolder.is_run(RunFolder.create(tmp_path / name, Recipe()).path)


def test_opening_what_is_no_run_names_runs_nearby(tmp_path):
    run = RunFolder.create(tmp_path / "runs" / "one", Recipe())
    for path in (tmp_path / "runs", tmp_path / "runs" / "two"):
        with pytest.raises(UserError, match=str(run.path)):
            RunFolder.open(path)
    with pytest.raises(UserError, match="equipoise train"):
        RunFolder.open(tmp_path / "elsewhere" / "deep")


def test_a_damaged_state_is_told_by_name(tmp_path):
    run = RunFolder.create(tmp_path / "run", Recipe())
    (run.path / "state.json").write_text('{"status": "run')
    with pytest.raises(UserError, match=r"state\.json: damaged"):
        run.read_state()
    (run.path / "recipe.json").unlink()
    with pytest.raises(UserError, match=r"recipe\.json is gone"):
        run.read_recipe()


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
        with pytest.raises(RunBusyError, match=f"process {process.pid} on {socket.gethostname()}"), run.lock():
            pass
        with pytest.raises(RunBusyError):
            RunFolder.create(run.path, Recipe())
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
    told = [process.communicate()[0] for process in processes]
    assert sum(text == "made\n" for text in told) == 1
    assert all("equipoise resume" in text or "is training here" in text for text in told if text != "made\n")


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
    run.snapshot_path(samples).touch()
