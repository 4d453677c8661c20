"""Where a run may be written: what is refused before anything is trained, and what a failing disk means for it."""

import contextlib
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from equipoise.errors import Command, Option, Part, RunBusyError, StorageError, UserError, is_of_disk, what_failed
from equipoise.storage import locks
from equipoise.storage.checkpoints import START_FILES, named, tensor_header
from equipoise.storage.files import MANIFEST, is_aside, read_json
from equipoise.storage.locks import Holder
from equipoise.storage.records import FORMAT
from equipoise.storage.safe_open import open_regular

if TYPE_CHECKING:
    from equipoise.runs.folder import RunFolder

PERMISSIONS = "Check the disk and the permissions"
_DATA = {"digest", "source", "num_train"}  # what every data.json holds, whatever else
SUBFOLDERS = ("log", "checkpoints", "samples")
START = "start"  # the folder of the weights that a run began with, where they are another run's
_LONGEST = Path("checkpoints", f".{'0' * 18}.partial", "tensors.safetensors")  # the longest of a run's names


def is_run(path: Path) -> bool:
    """Return whether a folder holds a run that can be read."""
    try:
        return (path / "recipe.json").is_file()
    except OSError:
        return False


def refuse_other_format(path: Path, version: object) -> None:
    """Raise UserError where a run was written by another version of Equipoise; None stands for the first ones."""
    if version is None:
        problem = f"written by an earlier version, which named no format; this one reads format {FORMAT}"
        raise UserError(path, problem, "Train again")
    if not isinstance(version, int) or version > FORMAT:
        problem = f"written by a newer version (format {str(version)[:20]}); this one reads format {FORMAT}"
        raise UserError(path, problem, "Update: pip install --upgrade equipoise")


def refuse_taken(path: Path) -> None:
    """Raise UserError where no new run can be made, RunBusyError where one is training; writes nothing."""
    with writing_to(path):
        exists = path.exists()
        if exists and not path.is_dir():
            raise UserError(path, "is a file, and a run needs a folder", elsewhere(path))
        if exists and (holder := locks.holder_of(path)):
            raise busy(path, holder, elsewhere(path))
        if exists and is_run(path):
            raise taken(path)
        if exists and not _is_begun(path):
            raise UserError(path, "holds other files, and a run needs a folder of its own", elsewhere(path))
        above = path.absolute()
        while not above.exists():
            above = above.parent
        if not above.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if not _is_writable(above):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            os.stat(path / _LONGEST)  # or the first checkpoint would find that the path is too long


def refuse_custom_loop(run: "RunFolder") -> None:
    """Raise UserError where only the loop that trained this run knows its networks."""
    if run.is_custom_loop:
        raise UserError(
            run.path,
            f"was trained by a custom training loop, and only that knows its networks. The weights are in {run.best}",
            "To continue, start that script with the option below",
            Command("Watch", run.path, resume=True),
        )


def refuse_unwritable(run: "RunFolder") -> None:
    """Raise UserError where this run can be read and not be continued."""
    for folder in (run.path, *(run.path / name for name in SUBFOLDERS)):
        if folder.exists() and not _is_writable(folder):
            raise UserError(folder, "cannot be written, so this run cannot be continued", PERMISSIONS)


def refuse_lost(run: "RunFolder") -> None:
    """Raise UserError where this run had checkpoints, and they are gone: to begin again would cost what is left."""
    is_between = any(
        re.fullmatch("[.][0-9]{12,18}[.]old", path.name) for path in run.checkpoints.glob(".*.old")
    )  # two renames, which the next training puts right
    if run.has_saved and not is_between and not named(run.checkpoints):
        raise UserError(
            run.checkpoints,
            "the checkpoints are gone, so this run cannot be continued",
            "Put them back from a copy, or start a new run. Its best generator can still be used",
            Command("sample", run.path),
        )


def refuse_busy(run: "RunFolder", *instead: Part) -> None:
    """Raise RunBusyError while a training holds this run; `instead` are remedies that the command at hand takes."""
    if holder := run.holder():
        raise busy(run.path, holder, *instead)


def refuse_links(run: "RunFolder") -> None:
    """Raise UserError where writing, cutting or removing would reach what a link leads to, and may be another's."""
    folders = (run.path / "log", run.samples, run.candidates, run.best)
    for path in (run.path / locks.NAME, *folders, run.steps, run.scores, run.events, run.paces):
        if os.path.islink(path):
            raise UserError(path, "is a link, which is not followed", "Put what it leads to here, or remove it")


@contextlib.contextmanager
def writing_to(path: Path) -> Iterator[None]:
    """Report in one line that a run cannot be made here; raises StorageError for a failing disk, else UserError."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        kind = StorageError if is_of_disk(error) else UserError
        raise kind(path, f"a run cannot be written here ({reason})", Option("out", "runs/new")) from None


@contextlib.contextmanager
def writing_into(path: Path) -> Iterator[None]:
    """Report in one line that a run's folder cannot be written."""
    try:
        yield
    except OSError as error:
        kind = StorageError if is_of_disk(error) else UserError
        raise kind(path, f"cannot be written ({error.strerror})", PERMISSIONS) from None


def stopped_by(run: "RunFolder", error: OSError) -> StorageError:
    """Return in one line what failed in a training, what is safe, and how to continue."""
    safe = "No good checkpoint was found"
    samples = run.newest_good()
    if samples is not None:
        safe = f"The last good checkpoint, of {samples:,} samples, is intact"
    elif _is_without_checkpoints(run):
        safe = "There is no checkpoint yet"
    fix = "Fix the cause, then continue with the command"
    return StorageError(error.filename or run.path, what_failed(error), safe, fix, Command("resume", run.path))


def elsewhere(path: Path) -> Option:
    """Return the option that puts a run into a free folder beside a path."""
    if not path.name:
        return Option("out", "runs/new")
    return Option("out", path.with_name(f"{path.name}-2"))


def taken(path: Path) -> UserError:
    """Return the mistake of beginning a run where there is one."""
    return UserError(path, "holds a run already", Command("resume", path), elsewhere(path))


def busy(path: Path, holder: Holder | None, *instead: Part) -> RunBusyError:
    """Return the mistake of training where somebody trains.

    `instead` are further remedies: only a command that begins a run can be told of another folder.
    """
    if holder and locks.is_this_process(holder):
        problem = (
            f"process {holder.pid} on {holder.host} is training here, and that is this very process: a watch is still "
            "open, or another thread trains"
        )
        close = (
            "Close the watch: watch.close(). Where its name is lost, restart the process (in a notebook, the kernel)"
        )
        return RunBusyError(path, problem, close, *instead)
    return RunBusyError(path, f"{locks.named(holder)} is training here", "Wait for it or stop it", *instead)


def _is_without_checkpoints(run: "RunFolder") -> bool:
    try:
        return not named(run.checkpoints)
    except UserError:
        return False  # nobody can tell


def _is_begun(path: Path) -> bool:
    """Return whether a folder holds nothing, or no more than a kill can leave of a run's beginning."""
    entries = list(path.iterdir())
    begun = any(entry.name == locks.NAME for entry in entries)
    return (begun or not entries) and all(map(_is_of_beginning, entries))


def _is_of_beginning(entry: Path) -> bool:
    """Return whether it is one of those that a run's beginning makes, by its content too: `lock` may be the user's."""
    if entry.is_symlink():
        return False
    if entry.name in SUBFOLDERS:
        return entry.is_dir() and not any(entry.iterdir())
    try:
        match entry.name:
            case locks.NAME:
                with open_regular(entry) as file:
                    return locks.is_lock_file(file.fileno())
            case "data.json":
                return (read_json(entry) or {}).keys() >= _DATA
            case ".start.partial" | ".start.old" | "start":
                return {path.name for path in entry.iterdir()} <= {*START_FILES, MANIFEST}
            case "examples.safetensors":
                return tensor_header(entry)[0].keys() >= {"contents", "sha256"}
            case _:
                return is_aside(entry)
    except (OSError, UserError, ValueError):
        return False


def _is_writable(folder: Path) -> bool:
    return os.access(folder, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids)
