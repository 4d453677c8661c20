"""Disks that are full, broken or read-only: the last checkpoint stays good, one line says so, and the run goes on."""

import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import lives
import pytest

from equipoise.errors import StorageError
from equipoise.recipe import Recipe
from equipoise.runs.folder import RunFolder
from equipoise.storage import files, logs
from equipoise.storage.checkpoints import FILES

STEP = "loop.take_generator_step"
# A function of the system, what its path must match, at which call it begins to fail, and with what.
FAILURES = {
    "write of a checkpoint": ("pathlib", "Path.write_bytes", "checkpoints/.*tensors", 3, errno.ENOSPC),
    "fsync of a checkpoint": ("os", "fsync", "checkpoints/.*tensors", 3, errno.EIO),
    "fsync of the folder": ("os", "fsync", "checkpoints$", 2, errno.EIO),
    "rename of a checkpoint": ("os", "rename", r"checkpoints/\.0", 3, errno.EDQUOT),
    "fsync of a log": ("os", "fsync", "log/steps", 3, errno.EIO),
    "line of the signals": ("os", "write", "steps.jsonl", 5, errno.ENOSPC),
    "line of the scores": ("os", "write", "scores.jsonl", 2, errno.EROFS),
    "state": ("os", "replace", r"run/\.aside", 4, errno.ENOSPC),  # the environment is the third
    "pace": ("os", "replace", r"run/\.aside", 5, errno.EIO),
    "candidate": ("os", "mkdir", "candidates/", 2, errno.ENOSPC),
    "best": ("os", "rename", "best", 2, errno.ENOSPC),
    "picture": ("os", "replace", r"samples/\.aside", 2, errno.ENOSPC),
    "model card and report": ("os", "replace", r"best/\.aside", 1, errno.EROFS),
}
CREATING = {
    "folder": ("os", "mkdir", "run$", 1, errno.ENOSPC),
    "lock": ("os", "open", "run/lock", 1, errno.ENOSPC),
    "recipe": ("os", "replace", r"run/\.aside", 2, errno.EIO),
}
CACHE = {
    "pool": ("os", "fsync", "pools/", 1, errno.ENOSPC),
    "source": ("os", "replace", "sources/", 1, errno.EDQUOT),
    "encoder": ("pathlib", "Path.write_bytes", "encoder-", 1, errno.ENOSPC),
}


def check_logs(run: RunFolder) -> None:
    """Every line is whole, and in order."""
    for path in (run.steps, run.scores):
        text = path.read_text() if path.exists() else ""
        assert text == "" or text.endswith("\n")
        at = [json.loads(line)["samples"] for line in text.splitlines()]
        assert at == sorted(set(at))


@pytest.mark.faults
@pytest.mark.parametrize("what", FAILURES)
def test_a_disk_that_fails_in_a_training_costs_no_checkpoint_and_says_how_to_go_on(
    command: lives.Command, tmp_path: Path, what: str
) -> None:
    life = command.begun(tmp_path / "run", partial(lives.fail, *FAILURES[what]))
    assert life.ended() == 4, f"{life.said()} {life.told()}"
    told, run = lives.one_line(life.told()), RunFolder(tmp_path / "run")
    assert str(run.path) in told
    assert f"equipoise resume {run.path}" in told
    check_logs(run)
    names = sorted(path.name for path in run.checkpoints.iterdir() if path.name.isdigit())
    assert not names or run.newest_good() == int(names[-1])
    assert (f"of {run.newest_good()} samples, is intact" if names else "no checkpoint yet") in told
    assert command.finished(run.path) == lives.expected(command)


@pytest.mark.faults
@pytest.mark.parametrize("what", [*CREATING, *CACHE])
def test_a_disk_that_fails_before_the_training_is_told_in_one_line_and_leaves_nothing_in_the_way(
    command: lives.Command, tmp_path: Path, what: str
) -> None:
    used = command if what in CREATING else lives.Command(command.source, tmp_path / "cache")
    life = used.begun(tmp_path / "run", partial(lives.fail, *(CREATING | CACHE)[what]))
    assert life.ended() == 4, f"{life.said()} {life.told()}"
    told = lives.one_line(life.told())
    assert str(tmp_path) in told
    assert not RunFolder.is_run(tmp_path / "run")
    assert command.finished(tmp_path / "run") == lives.expected(command)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of 4 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"a disk of 4 MB cannot be mounted here: {done.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


@pytest.mark.faults
def test_a_full_disk_of_4_mb_ends_the_training_and_room_lets_it_go_on(
    command: lives.Command, tmp_path: Path, small_disk: Path
) -> None:
    command.finished(tmp_path / "sized")
    size = sum(path.stat().st_size for path in (tmp_path / "sized").rglob("*") if path.is_file())
    for share in (0.05, 0.6):
        run, filler = small_disk / f"run-{share}", small_disk / "filler"
        free = os.statvfs(small_disk)
        filler.write_bytes(b"x" * max(0, free.f_bavail * free.f_frsize - int(share * size)))
        life = command.begun(run)
        assert life.ended() == 4, f"{life.said()} {life.told()}"
        assert "the disk is full" in lives.one_line(life.told()) or "No space left" in life.told()
        if RunFolder.is_run(run):
            check_logs(RunFolder(run))
        filler.unlink()
        assert command.finished(run) == lives.expected(command)
        shutil.rmtree(run)


@pytest.fixture
def public(shapes: Path) -> Iterator[Path]:
    """Return a folder of a user without privileges, outside of what only root may enter, with images in it."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    folder = Path(tempfile.mkdtemp())
    shutil.copytree(shapes, folder / "shapes")
    for path in [folder, *folder.rglob("*")]:
        os.chown(path, 65534, 65534)
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.faults
def test_a_permission_taken_away_in_the_middle_ends_the_training_and_given_back_lets_it_go_on(
    command: lives.Command, tmp_path: Path, public: Path
) -> None:
    mine = lives.Command(public / "shapes", public / "cache")
    for path in (public / "cache",):
        path.mkdir()
        os.chown(path, 65534, 65534)
    hook = partial(lives.both, lives.ordinary, partial(lives.at, STEP, 30, partial(lives.lock_up, public / "run")))
    life = mine.begun(public / "run", hook)
    assert life.ended() == 4, f"{life.said()} {life.told()}"
    assert "Permission denied" in lives.one_line(life.told())
    assert f"equipoise resume {public / 'run'}" in life.told()
    lives.unlock(public / "run")
    life = mine.begun(public / "run", lives.ordinary)
    assert life.ended() == 0, life.told()
    assert lives.parts_of(public / "run") == lives.expected(command)


EARLY = """
import contextlib, io, os, sys
import equipoise.runs.compare, equipoise.runs.resume_rules
from equipoise.cli import main
with contextlib.redirect_stderr(io.StringIO()):  # imports what Python's own folders may hide from another user
    main(["resume", "/nothing"])
    main(["train", "mnist", "--out", "/dev/null"])
os.setgid(65534); os.setuid(65534)
code = main(sys.argv[1:])
print(code, sorted({"torch", "numpy"} & set(sys.modules)))
"""


@pytest.mark.parametrize("what", ["parent", "run", "resumed run", "begun run", "runs", "cache", "no cache"])
def test_what_cannot_be_written_is_refused_before_torch_is_imported(public: Path, what: str) -> None:
    run = RunFolder.create(public / "old", Recipe(), {"digest": "x", "size": 8, "channels": 1, "classes": []})
    theirs = public / "theirs"
    theirs.mkdir()
    theirs.chmod(0o755)
    environment = os.environ | {"EQUIPOISE_CACHE": os.fspath(public / "cache")}
    (public / "cache").mkdir(mode=0o777)
    (public / "cache").chmod(0o777)
    public.chmod(0o777)
    train = ["train", public / "shapes", "--out"]
    arguments, place = {
        "parent": ([*train, theirs / "new"], theirs / "new"),
        "run": ([*train, theirs], theirs),
        "resumed run": (["resume", run.path], run.path),
        "begun run": ([*train, run.path, "--resume"], run.path),
        "runs": (["train", public / "shapes"], Path("runs")),
        "cache": ([*train, public / "new"], theirs),
        "no cache": ([*train, public / "new"], theirs / "deep" / "cache"),
    }[what]
    if what == "begun run":
        recipe = run.read_recipe()
        files.write_json(
            run.path / "recipe.json", recipe | {"data": recipe["data"] | {"source": str(public / "shapes")}}
        )
    if "cache" in what:
        environment |= {"EQUIPOISE_CACHE": os.fspath(place)}
    begin = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", EARLY, *map(str, arguments)],
        env=environment, cwd=theirs, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert time.monotonic() - begin < 20  # 2 s on a machine that does nothing else
    assert done.stdout == "2 []\n", done.stdout + done.stderr
    assert str(place) in lives.one_line(done.stderr)
    assert "annot be written" in done.stderr


def test_a_line_that_does_not_fit_leaves_no_half_and_the_next_one_follows_the_last_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, real = tmp_path / "log", os.write
    logs.append(path, {"samples": 1})
    for taken in (0, 1, 5):
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", lambda file, line, taken=taken: real(file, line[:taken]))
            with pytest.raises(OSError, match="No space left"):
                logs.append(path, {"samples": 2})
        assert path.read_bytes() == b'{"samples":1}\n'
    logs.append(path, {"samples": 3})
    assert path.read_bytes() == b'{"samples":1}\n{"samples":3}\n'


def test_what_stopped_a_training_is_told_with_the_place_what_is_safe_and_the_way_on(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "a run", Recipe())
    full = run.stopped_by(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/disk/x"))
    assert isinstance(full, StorageError)
    assert str(full).startswith("the disk is full (/disk/x). There is no checkpoint yet.")
    assert str(full).endswith(f"equipoise resume '{run.path}'")
    for samples in (80, 160):
        with files.written_whole(run.checkpoints / f"{samples:012d}") as folder:
            for name in FILES:
                (folder / name).write_text("{}")
    (run.checkpoints / f"{160:012d}" / "state.json").write_text("[]")
    broken = str(run.stopped_by(OSError(errno.EIO, os.strerror(errno.EIO))))
    what = f"{run.path}: cannot be read or written (Input/output error)"
    assert broken.startswith(f"{what}. The last good checkpoint, of 80 samples, is intact")
