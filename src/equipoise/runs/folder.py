"""A run as a folder: its files, who may write to it, and what it is called."""

import contextlib
import errno
import fcntl
import os
import re
import shlex
import socket
import stat
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from equipoise.errors import RunBusyError, StorageError, UserError, is_of_disk, what_failed
from equipoise.recipe import Recipe, to_dict
from equipoise.storage.checkpoints import damage_of, named
from equipoise.storage.files import is_aside, read_json, sync, tidy, write_json
from equipoise.storage.logs import append, cut, drop_last
from equipoise.storage.safe_open import open_regular

SUBFOLDERS = ("log", "checkpoints", "samples")
DATA = {"digest", "size", "channels", "classes"}  # what every data.json tells, whatever else
OWN_LOOP = "own loop"  # the name in the recipe of a run that a Watch follows; the recipe holds what applies, no more
_RESTORE = "Restore it from a copy."
_PERMISSIONS = "Check the disk and the permissions"
_LONGEST = Path("checkpoints", f".{'0' * 18}.partial", "tensors.safetensors")  # the longest of a run's names
SNAPSHOT_GROWTH = 1.2  # snapshots grow apart: some 40 of them for any length of run


@dataclass(frozen=True)
class Holder:
    """The process that trains in a run folder."""

    host: str
    pid: int


UNKNOWN = Holder("unknown", 0)  # who holds the lock without its file saying who


@dataclass(frozen=True)
class RunFolder:
    """One run on the disk; made by `create` or `open`."""

    path: Path

    @staticmethod
    def create(path: Path, recipe: Recipe | Mapping[str, Any], data: Mapping[str, Any] | None = None) -> "RunFolder":
        """Make a new run folder; raises UserError where anything else is already, or nothing can be written.

        Of a recipe's plain values some may be left out, where they do not apply. `data` says what the images are. The
        recipe comes last, as it makes the folder a run: what a kill leaves before it is begun anew.
        """
        with RunFolder.begun(path, recipe, data) as run:
            return run

    @staticmethod
    @contextlib.contextmanager
    def begun(
        path: Path, recipe: Recipe | Mapping[str, Any], data: Mapping[str, Any] | None = None
    ) -> Iterator["RunFolder"]:
        """Do what `create` does and hold the run while entered: nobody else can begin to train in it meanwhile."""
        run = RunFolder(path)
        RunFolder.refuse_taken(path)
        with contextlib.ExitStack() as stack:
            with _writing_to(path):
                _make(path)
                stack.enter_context(run.lock())
                if RunFolder.is_run(path):
                    raise UserError(_taken(path))
                for name in SUBFOLDERS:
                    (path / name).mkdir(exist_ok=True)
                if data is not None:
                    run.write_data(data)
                run.write_recipe(recipe)
            yield run

    @staticmethod
    def refuse_taken(path: Path) -> None:
        """Raise UserError where no new run can be made, RunBusyError where one is training; writes nothing."""
        run, again = RunFolder(path), _elsewhere(path)
        with _writing_to(path):
            exists = path.exists()
            if exists and not path.is_dir():
                raise UserError(f"{path}: is a file, and a run needs a folder. {again}")
            if exists and (holder := run.holder()):
                raise RunBusyError(_busy(path, holder))
            if exists and RunFolder.is_run(path):
                raise UserError(_taken(path))
            if exists and not _is_begun(path):
                raise UserError(f"{path}: holds other files, and a run needs a folder of its own. {again}")
            above = path.absolute()
            while not above.exists():
                above = above.parent
            if not above.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            if not _is_writable(above):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                os.stat(path / _LONGEST)  # or the first checkpoint would find that the path is too long

    @property
    def is_own_loop(self) -> bool:
        """Return whether a Watch follows this run, in a training loop that is not Equipoise's."""
        return self.read_recipe().get("name") == OWN_LOOP

    def refuse_own_loop(self) -> None:
        """Raise UserError where only the loop that trained this run knows its networks."""
        if self.is_own_loop:
            raise UserError(
                f"{self.path}: was trained by a loop of its own, which alone knows its networks. To go on: start that "
                f"script with Watch({str(self.path)!r}, resume=True). Its best generator's weights are in {self.best}"
            )

    def refuse_unwritable(self) -> None:
        """Raise UserError where this run can be read and not be gone on with."""
        for folder in (self.path, *(self.path / name for name in SUBFOLDERS)):
            if folder.exists() and not _is_writable(folder):
                raise UserError(f"{folder}: cannot be written, so this run cannot go on. {_PERMISSIONS}")

    @property
    def has_saved(self) -> bool:
        """Return whether a checkpoint of this run was ever written, as far as its state says."""
        return self.read_state().get("has_saved") is True

    def refuse_lost(self) -> None:
        """Raise UserError where this run had checkpoints, and they are gone: to begin anew would cost what is left."""
        is_between = any(
            re.fullmatch("[.][0-9]{12,18}[.]old", path.name) for path in self.checkpoints.glob(".*.old")
        )  # two renames, which the next training puts right
        if self.has_saved and not is_between and not named(self.checkpoints):
            raise UserError(
                f"{self.checkpoints}: the checkpoints are gone, so this run cannot go on. Put them back from a copy, "
                f"or begin another run elsewhere. Its best generator: equipoise sample {shlex.quote(str(self.path))}"
            )

    def refuse_busy(self) -> None:
        """Raise RunBusyError while a training holds this run."""
        if holder := self.holder():
            raise RunBusyError(_busy(self.path, holder))

    @staticmethod
    def open(path: Path) -> "RunFolder":
        """Open an existing run; raises UserError that names runs nearby if this is none."""
        try:
            if (path / "recipe.json").is_file():
                return RunFolder(path)
            problem = "is no run (it has no recipe.json)" if path.exists() else "does not exist"
        except OSError as error:
            problem = f"cannot be read ({error.strerror})"
        near = _runs_near(path)
        hint = f"Runs nearby: {', '.join(map(str, near))}." if near else "To make one: equipoise train mnist"
        raise UserError(f"{path}: {problem}. {hint}")

    @staticmethod
    def is_run(path: Path) -> bool:
        """Return whether a folder holds a run that can be read."""
        try:
            return (path / "recipe.json").is_file()
        except OSError:
            return False

    @property
    def steps(self) -> Path:
        """Return the log of signals."""
        return self.path / "log" / "steps.jsonl"

    @property
    def scores(self) -> Path:
        """Return the log of scores."""
        return self.path / "log" / "scores.jsonl"

    @property
    def events(self) -> Path:
        """Return the log of events."""
        return self.path / "log" / "events.jsonl"

    @property
    def checkpoints(self) -> Path:
        """Return the folder of checkpoints, one sub-folder each, named by samples."""
        return self.path / "checkpoints"

    @property
    def best(self) -> Path:
        """Return the folder of the best generator."""
        return self.path / "best"

    @property
    def candidates(self) -> Path:
        """Return the folder of the generators that may yet be the best one, one sub-folder each, named by samples."""
        return self.path / "candidates"

    @property
    def samples(self) -> Path:
        """Return the folder of sample grids."""
        return self.path / "samples"

    @property
    def report(self) -> Path:
        """Return where the report is."""
        return self.path / "report.html"

    def read_recipe(self) -> dict[str, Any]:
        """Read the recipe's plain values; raises UserError if they are gone or damaged."""
        values = read_json(self.path / "recipe.json")
        if values is None:
            raise UserError(f"{self.path}: its recipe.json is gone. {_RESTORE}")
        return values

    def read_json(self, path: Path) -> dict[str, Any]:
        """Read any JSON object of this run, empty if there is no such file; raises UserError if damaged."""
        return read_json(path) or {}

    def read_state(self) -> dict[str, Any]:
        """Read how the run stands, `{"status": "new"}` before its training; raises UserError if damaged."""
        path, remedy = self.path / "state.json", f"{_RESTORE[:-1]}, or remove it and resume the run"
        state = read_json(path, remedy)
        if state is None:
            return {"status": "new"}
        scores = [state.get(name) for name in ("best", "test")]
        if not isinstance(state.get("status"), str) or not all(isinstance(line, dict | None) for line in scores):
            raise UserError(f"{path}: damaged, it does not say how the run stands. {remedy}")
        return state

    def read_data(self) -> dict[str, Any]:
        """Read what the images are, empty if not written yet; raises UserError if damaged."""
        return read_json(self.path / "data.json") or {}

    def read_pace(self) -> dict[str, Any]:
        """Read how often what is done, empty before it is measured; raises UserError if damaged."""
        return read_json(self.path / "pace.json") or {}

    def read_environment(self) -> dict[str, Any]:
        """Read versions and device, empty if not written yet; raises UserError if damaged."""
        return read_json(self.path / "environment.json") or {}

    def write_recipe(self, recipe: Recipe | Mapping[str, Any]) -> None:
        """Write the recipe, or its plain values, in one step; raises OSError, as do the other writers."""
        write_json(self.path / "recipe.json", to_dict(recipe) if isinstance(recipe, Recipe) else recipe)

    def write_state(self, values: Mapping[str, Any]) -> None:
        """Write how the run stands."""
        write_json(self.path / "state.json", values)

    def write_data(self, values: Mapping[str, Any]) -> None:
        """Write what the images are."""
        write_json(self.path / "data.json", values)

    def write_pace(self, values: Mapping[str, Any]) -> None:
        """Write how often what is done."""
        write_json(self.path / "pace.json", values)

    def write_environment(self, values: Mapping[str, Any]) -> None:
        """Write versions and device."""
        write_json(self.path / "environment.json", values)

    def log_step(self, record: Mapping[str, Any]) -> None:
        """Append one interval's signals."""
        append(self.steps, record)

    def log_score(self, record: Mapping[str, Any]) -> None:
        """Append one score."""
        append(self.scores, record)

    def log_event(self, samples: int, seconds: float, kind: str, message: str) -> None:
        """Append one event."""
        append(self.events, {"samples": samples, "seconds": seconds, "kind": kind, "message": message})

    def sync_logs(self) -> None:
        """Put what the logs hold on the disk."""
        for path in (self.steps, self.scores, self.events, self.path / "log"):
            if path.exists():
                sync(path)

    def tidy(self) -> None:
        """Clear up what a kill has left of writing; only for who holds the lock."""
        tidy(self.path)
        tidy(self.checkpoints)  # which may be a link, to a larger disk, say
        for folder in (self.path / "log", self.candidates, self.samples, self.best):
            if not folder.is_symlink():
                tidy(folder)

    def cut_logs(self, samples: int, judged: int | None = None) -> None:
        """Drop from the logs and the snapshots what lies beyond a checkpoint's samples.

        `judged` is where its last look was, if before that: a look that was given up there is taken again.
        """
        cut(self.steps, samples)
        cut(self.scores, samples if judged is None else judged)
        cut(self.events, samples)
        for beyond, path in self.snapshots():
            if beyond > samples:
                path.unlink()

    def drop_scores_under(self, protocol: Mapping[str, Any]) -> None:
        """Drop the last scores that were found under a protocol: those of a change to it that was killed."""
        drop_last(self.scores, lambda record: record.get("protocol") == protocol)

    def snapshots(self) -> list[tuple[int, Path]]:
        """Return the grids of fixed latents with their samples, in order."""
        found = ((path, re.fullmatch("[0-9]{12,18}", path.stem)) for path in self.samples.glob("[0-9]*.png"))
        return sorted((int(path.stem), path) for path, is_ours in found if is_ours and path.is_file())

    def snapshot_path(self, samples: int) -> Path:
        """Return where the grid of fixed latents at some samples belongs."""
        return self.samples / f"{samples:012d}.png"

    def is_snapshot_due(self, samples: int) -> bool:
        """Return whether the last snapshot is long enough ago, in proportion to the samples."""
        taken = [before for before, _ in self.snapshots()]
        return not taken or samples >= SNAPSHOT_GROWTH * taken[-1]

    def newest_good(self) -> int | None:
        """Return the samples of the newest checkpoint that is whole, None where none can be found."""
        with contextlib.suppress(OSError, UserError):
            return next((int(path.name) for path in named(self.checkpoints) if damage_of(path) is None), None)
        return None

    def stopped_by(self, error: OSError) -> StorageError:
        """Return in one line what failed in a training, what is safe, and how to go on."""
        safe, samples = "No good checkpoint was found", self.newest_good()
        if samples is not None:
            safe = f"The last good checkpoint, of {samples:,} samples, is intact"
        elif self._is_without_checkpoints():
            safe = "There is no checkpoint yet"
        resume = f"equipoise resume {shlex.quote(str(self.path))}"
        return StorageError(f"{self.failure_of(error)}. {safe}. Put that right, then go on: {resume}")

    def failure_of(self, error: OSError) -> str:
        """Return what failed, in words."""
        return what_failed(error, error.filename or self.path)

    def _is_without_checkpoints(self) -> bool:
        try:
            return not named(self.checkpoints)
        except UserError:
            return False  # nobody can tell

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run for one training; raises RunBusyError that names the holder, UserError where a part is a link.

        The kernel frees it on death.
        """
        self._refuse_links()
        try:
            descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        except OSError as error:
            kind = StorageError if is_of_disk(error) else UserError
            raise kind(f"{self.path}: cannot be written ({error.strerror}). {_PERMISSIONS}") from None
        try:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise UserError(f"{self.path / 'lock'}: is no regular file. Remove it, then go on")
            if not _locked(descriptor, self.path):
                raise RunBusyError(_busy(self.path, _read_holder(descriptor)))
            with _folder_locked(self.path):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, msgspec.json.encode(Holder(socket.gethostname(), os.getpid())), 0)
                try:
                    yield
                finally:
                    with contextlib.suppress(OSError):  # or a failing disk would hide what has failed before
                        os.ftruncate(descriptor, 0)
        finally:
            os.close(descriptor)

    def _refuse_links(self) -> None:
        """Raise UserError where writing, cutting or removing would reach what a link leads to, and may be another's."""
        folders = (self.path / "log", self.samples, self.candidates, self.best)
        for path in (self.path / "lock", *folders, self.steps, self.scores, self.events):
            if os.path.islink(path):
                raise UserError(f"{path}: is a link, which is not followed. Put what it leads to here, or remove it")

    def holder(self) -> Holder | None:
        """Return who trains in this folder right now, None if nobody does."""
        try:
            descriptor = os.open(self.path / "lock", os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _read_holder_soon(descriptor) or UNKNOWN
        except OSError:
            return None  # of a file system without locks nobody can tell
        else:
            return None
        finally:
            os.close(descriptor)


def run_name(recipe: Recipe) -> str:
    """Return what a run is called by default: `<recipe>-<source>`."""
    source = recipe.data.source.removeprefix("hub:").rstrip("/\\")
    last = re.split(r"[/\\]", source)[-1]
    return f"{recipe.name}-{re.sub(r'[.](npz|zip)$', '', last, flags=re.IGNORECASE)}"


def new_path(base: Path, name: str) -> Path:
    """Return `base/name-001`, or the number after the highest that is there; odd characters become dashes."""
    clean = re.sub(r"[^\w.-]+", "-", name).strip("-.") or "run"
    clean = clean.encode()[:200].decode(errors="ignore")
    pattern = re.compile(re.escape(clean) + r"-(\d+)")
    taken = [pattern.fullmatch(entry.name) for entry in base.iterdir()] if base.is_dir() else []
    highest = max((int(match[1]) for match in taken if match), default=0)
    return base / f"{clean}-{highest + 1:03}"


def _make(path: Path) -> None:
    """Make a folder and those above it, each with its name on the disk."""
    if not path.is_dir():
        _make(path.absolute().parent)
        path.mkdir(exist_ok=True)
        sync(path.parent)


def _is_begun(path: Path) -> bool:
    """Return whether a folder holds nothing, or no more than a kill can leave of `create`."""
    entries = list(path.iterdir())
    begun = any(entry.name == "lock" for entry in entries)
    return (begun or not entries) and all(map(_is_of_create, entries))


def _is_of_create(entry: Path) -> bool:
    """Return whether it is one of those that `create` makes, by its content too: the user may call a file `lock`."""
    if entry.is_symlink():
        return False
    if entry.name in SUBFOLDERS:
        return entry.is_dir() and not any(entry.iterdir())
    try:
        match entry.name:
            case "lock":
                with open_regular(entry) as file:
                    return not file.read(1) or _read_holder(file.fileno()) is not None
            case "data.json":
                return (read_json(entry) or {}).keys() >= DATA
            case _:
                return is_aside(entry)
    except (OSError, UserError):
        return False


def _locked(descriptor: int, path: Path) -> bool:
    """Try for a quarter of a second, since a reader asking who trains holds the lock for an instant.

    Many readers at once hold it for longer: as long as nobody has said that he trains, for two seconds.
    """
    for attempt in range(40):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if attempt >= 5 and _read_holder(descriptor) is not None:
                return False
            time.sleep(0.05)
        except OSError as error:
            raise UserError(
                f"{path}: this file system keeps no locks ({error.strerror}), so two trainings could not be kept "
                f"apart. {_elsewhere(Path('runs/new'))} on another disk"
            ) from None
        else:
            return True
    return False


@contextlib.contextmanager
def _folder_locked(path: Path) -> Iterator[None]:
    """Hold the folder itself, too: somebody may take the lock's file for one left behind, and remove it.

    Raises RunBusyError. A file system that does not lock folders goes without.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RunBusyError(_busy(path, None)) from None
        except OSError:
            pass
        yield
    finally:
        os.close(descriptor)


def _read_holder_soon(descriptor: int) -> Holder | None:
    """Wait an instant for who has just begun to hold the lock to say so."""
    for _ in range(10):
        if holder := _read_holder(descriptor):
            return holder
        time.sleep(0.02)
    return None


def _is_writable(folder: Path) -> bool:
    return os.access(folder, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids)


def _read_holder(descriptor: int) -> Holder | None:
    try:
        return msgspec.json.decode(os.pread(descriptor, 4096, 0), type=Holder)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OSError):
        return None


@contextlib.contextmanager
def _writing_to(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        kind = StorageError if is_of_disk(error) else UserError
        raise kind(f"{path}: a run cannot be written here ({reason}). Try a folder of yours: --out runs/new") from None


def _elsewhere(path: Path) -> str:
    other = path.with_name(path.name + "-2") if path.name else Path("runs/new")
    return f"Try another folder: --out {shlex.quote(str(other))}"


def _taken(path: Path) -> str:
    resume = f"equipoise resume {shlex.quote(str(path))}"
    return f"{path}: holds a run already. To go on with it: {resume}. {_elsewhere(path)}"


def _busy(path: Path, holder: Holder | None) -> str:
    who = f"process {holder.pid} on {holder.host}" if holder and holder != UNKNOWN else "another process"
    return f"{path}: {who} is training here. Wait for it or stop it, or train elsewhere with --out"


def _runs_near(path: Path) -> list[Path]:
    """Return up to three of the newest runs in this folder, or else beside it."""
    for folder in (path, path.parent, Path("runs")):
        with contextlib.suppress(OSError):
            found = [entry for entry in folder.iterdir() if RunFolder.is_run(entry)]
            if found:
                return sorted(found, key=lambda entry: entry.stat().st_mtime)[-3:]
    return []
