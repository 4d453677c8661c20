"""Disks that are full, broken or read-only: the last checkpoint stays good, one line says so, and the run goes on."""

import errno
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import lives
import pytest

from equipoise.errors import Command, StorageError
from equipoise.recipe import Data, Recipe
from equipoise.report import report
from equipoise.runs import rules
from equipoise.runs.folder import RunFolder
from equipoise.storage import files, logs
from equipoise.storage.checkpoints import FILES
from equipoise.storage.records import DataRecord

ROUND = "loop.set_rates"
# A function of the system, what its path must match, at which call it begins to fail, and with what.
FAILURES = {
    "write of a checkpoint": ("pathlib", "Path.write_bytes", "checkpoints/.*tensors", 3, errno.ENOSPC),
    "fsync of a checkpoint": ("os", "fsync", "checkpoints/.*tensors", 3, errno.EIO),
    "fsync of the folder": ("os", "fsync", "checkpoints$", 2, errno.EIO),
    "rename of a checkpoint": ("os", "rename", r"checkpoints/\.0", 3, errno.EDQUOT),
    "fsync of a log": ("os", "fsync", "log/steps", 3, errno.EIO),
    "line of the steps": ("os", "write", "steps.jsonl", 5, errno.ENOSPC),
    "line of the scores": ("os", "write", "scores.jsonl", 2, errno.EROFS),
    "state": ("os", "replace", r"run/\.aside", 4, errno.ENOSPC),  # the environment is the third
    "baselines": ("os", "replace", r"run/\.aside", 6, errno.EDQUOT),
    "intervals": ("os", "replace", r"run/\.aside", 8, errno.EIO),
    "candidate": ("os", "mkdir", "candidates/", 2, errno.ENOSPC),
    "best": ("os", "rename", "best", 2, errno.ENOSPC),
    "snapshot": ("os", "replace", r"samples/\.aside", 2, errno.ENOSPC),
    "exhibits": ("os", "replace", r"samples/\.aside", 4, errno.ENOSPC),  # after three snapshots
    "model card and report": ("os", "replace", r"best/\.aside", 1, errno.EROFS),
}
NOBODY = 65534  # the number of a user without privileges
CREATING = {
    "folder": ("os", "mkdir", "run$", 1, errno.ENOSPC),
    "lock": ("os", "open", "run/lock", 1, errno.ENOSPC),
    "recipe": ("os", "replace", r"run/\.aside", 2, errno.EIO),
}
CACHE = {
    "pool": ("os", "fsync", "pools/", 1, errno.ENOSPC),
    "source": ("os", "replace", "sources/", 1, errno.EDQUOT),
    "encoder": ("os", "replace", r"cache/\.aside", 1, errno.ENOSPC),
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
    """Whatever is written, and however the disk fails; room lets it go on as if nothing had been."""
    life = command.begun(tmp_path / "run", partial(lives.fail, *FAILURES[what]))
    assert life.ended() == 4, f"{life.said()} {life.told()}"
    told = lives.one_line(life.told())
    run = RunFolder(tmp_path / "run")
    assert str(run.path) in told
    assert f"equipoise resume {run.path}" in told
    check_logs(run)
    names = sorted(path.name for path in run.checkpoints.iterdir() if path.name.isdigit())
    safe = []
    if names:
        safe = [str(int(names[-1]))]
        assert run.newest_good() == int(names[-1])
    assert re.findall("([0-9]+) samples", told) == safe
    assert command.finished(run.path) == lives.expected(command)


@pytest.mark.faults
@pytest.mark.parametrize("what", [*CREATING, *CACHE])
def test_a_disk_that_fails_before_the_training_is_told_in_one_line_and_leaves_nothing_in_the_way(
    command: lives.Command, tmp_path: Path, what: str
) -> None:
    """Neither a run, nor a cache that is taken for whole."""
    used = command
    if what in CACHE:
        used = lives.Command(command.source, tmp_path / "cache")
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
    """Once at its beginning, once in the middle."""
    command.finished(tmp_path / "sized")
    size = sum(path.stat().st_size for path in (tmp_path / "sized").rglob("*") if path.is_file())
    filler = small_disk / "filler"
    for share in (0.05, 0.6):
        run = small_disk / f"run-{share}"
        free = os.statvfs(small_disk)
        filler.write_bytes(b"x" * max(0, free.f_bavail * free.f_frsize - int(share * size)))
        life = command.begun(run)
        assert life.ended() == 4, f"{life.said()} {life.told()}"
        told = lives.one_line(life.told())
        assert str(small_disk) in told
        assert "disk is full" in told or os.strerror(errno.ENOSPC) in told
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
        os.chown(path, NOBODY, NOBODY)
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def compiled() -> None:
    """Compile the report's template, which imports what Python's own folders may hide from another user."""
    report._templates().get_template("template.html.j2")


@pytest.mark.faults
def test_a_permission_taken_away_in_the_middle_ends_the_training_and_given_back_lets_it_go_on(
    command: lives.Command, tmp_path: Path, public: Path
) -> None:
    """By another user than the one who trains, say."""
    mine = lives.Command(public / "shapes", public / "cache")
    mine.cache.mkdir()
    os.chown(mine.cache, NOBODY, NOBODY)
    hidden = partial(lives.at, ROUND, 30, partial(lives.lock_up, public / "run"))
    life = mine.begun(public / "run", partial(lives.both, compiled, lives.ordinary, hidden))
    assert life.ended() == 4, f"{life.said()} {life.told()}"
    told = lives.one_line(life.told())
    assert os.strerror(errno.EACCES) in told
    assert f"equipoise resume {public / 'run'}" in told
    lives.unlock(public / "run")
    life = mine.begun(public / "run", partial(lives.both, compiled, lives.ordinary))
    assert life.ended() == 0, life.told()
    assert lives.parts_of(public / "run") == lives.expected(command)


EARLY = """
import contextlib, io, os, sys
import equipoise.runs.compare, equipoise.runs.resume_rules
from equipoise.cli import main
with contextlib.redirect_stderr(io.StringIO()):  # imports what Python's own folders may hide from another user
    main(["resume", "/nothing"])
    main(["train", "mnist", "--out", "/dev/null"])
os.setgid(65534)
os.setuid(65534)
code = main(sys.argv[1:])
print(code, sorted({"torch", "numpy"} & set(sys.modules)))
"""


@pytest.mark.parametrize("what", ["parent", "run", "resumed-run", "begun-run", "runs", "cache", "no-cache"])
def test_what_cannot_be_written_is_refused_before_torch_is_imported(public: Path, what: str) -> None:
    """One line comes at once, as the true command line says it."""
    recipe = Recipe(data=Data(source=str(public / "shapes")))
    record = DataRecord(source="shapes", digest="x", num_train=8, num_validation=1, num_test=1)
    run = RunFolder.create(public / "old", recipe, record)
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
        "resumed-run": (["resume", run.path], run.path),
        "begun-run": ([*train, run.path, "--resume"], run.path),
        "runs": (["train", public / "shapes"], Path("runs")),
        "cache": ([*train, public / "new"], theirs),
        "no-cache": ([*train, public / "new"], theirs / "deep" / "cache"),
    }[what]
    if "cache" in what:
        environment |= {"EQUIPOISE_CACHE": os.fspath(place)}
    done = subprocess.run(
        [sys.executable, "-c", EARLY, *map(str, arguments)],
        env=environment, cwd=theirs, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == "2 []\n", done.stdout + done.stderr
    told = lives.one_line(done.stderr)
    assert str(place) in told
    assert "written" in told


def test_a_line_that_does_not_fit_leaves_no_half_and_the_next_one_follows_the_last_whole_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk may take a part of it, and refuse the rest."""
    path = tmp_path / "log"
    real = os.write
    logs.append(path, {"samples": 1})
    for taken in (0, 1, 5):
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", lambda file, line, taken=taken: real(file, line[:taken]))
            with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
                logs.append(path, {"samples": 2})
        assert path.read_bytes() == b'{"samples":1}\n'
    logs.append(path, {"samples": 3})
    assert path.read_bytes() == b'{"samples":1}\n{"samples":3}\n'


def test_what_stopped_a_training_is_told_with_the_place_what_is_safe_and_the_way_on(tmp_path: Path) -> None:
    """The last good checkpoint is safe, which need not be the last one."""
    run = RunFolder.create(tmp_path / "a run", Recipe())
    on = Command("resume", run.path)
    full = rules.stopped_by(run, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/disk/x"))
    assert isinstance(full, StorageError)
    assert (full.subject, full.remedies[-1]) == ("/disk/x", on)
    assert "full" in full.problem
    assert not re.search("[0-9]", str(full.remedies[0]))
    assert f"equipoise resume '{run.path}'" in full.told(in_shell=True)
    for samples in (80, 160):
        with files.written_whole(run.checkpoints / f"{samples:012d}") as folder:
            for name in FILES:
                (folder / name).write_text("{}")
    (run.checkpoints / f"{160:012d}" / "state.json").write_text("[]")
    broken = rules.stopped_by(run, OSError(errno.EIO, os.strerror(errno.EIO)))
    assert (broken.subject, broken.remedies[-1]) == (run.path, on)
    assert os.strerror(errno.EIO) in broken.problem
    assert re.findall("[0-9]+", str(broken.remedies[0])) == ["80"]
