"""A run as a folder: its files as typed records, and who may write to it."""

import contextlib
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from equipoise.errors import Command, Part, UserError
from equipoise.recipe import Recipe, from_dict, to_dict
from equipoise.runs import rules
from equipoise.storage import locks
from equipoise.storage.checkpoints import START_FILES, damage_of, named, write_folder
from equipoise.storage.files import read_json, sync, tidy, write_bytes, write_json
from equipoise.storage.locks import Holder
from equipoise.storage.logs import append, cut, drop_last, last_records
from equipoise.storage.records import (
    FORMAT,
    SNAPSHOT_NAME,
    DataRecord,
    Event,
    EventKind,
    Exhibits,
    IntervalsRecord,
    Pace,
    RemedyRecord,
    Rivals,
    RunState,
    Score,
    StepStats,
    plain,
    strict,
    whole_of,
)

if TYPE_CHECKING:
    from torch import Tensor

CUSTOM_LOOP = "custom loop"  # the name in the recipe of a run that a Watch follows; the recipe holds what applies
RESTORE = "Restore it from a copy"
NUM_RECENT_EVENTS = 256  # among which an event is looked for that a resume comes to again
MOST_PACES = 100_000  # between two checkpoints
SNAPSHOT_GROWTH = 1.2  # snapshots grow apart: some 40 of them for any length of run

Record = TypeVar("Record", bound=msgspec.Struct)


@dataclass(frozen=True)
class RunFolder:
    """One run on the disk; made by `create` or `open`."""

    path: Path

    @staticmethod
    def create(path: Path, recipe: Recipe | Mapping[str, Any], data: DataRecord | None = None) -> "RunFolder":
        """Make a new run folder; raises UserError where anything else is already, or nothing can be written.

        Of a recipe's plain values some may be left out, where they do not apply. The recipe comes last, as it makes the
        folder a run: what a kill leaves before it is begun again.
        """
        with RunFolder.begin(path, recipe, data) as run:
            return run

    @staticmethod
    @contextlib.contextmanager
    def begin(
        path: Path,
        recipe: Recipe | Mapping[str, Any],
        data: DataRecord | None = None,
        weights: "dict[str, Tensor] | None" = None,
        examples: bytes | None = None,
    ) -> Iterator["RunFolder"]:
        """Do what `create` does and hold the run while entered: nobody else can begin to train in it meanwhile.

        `weights` are those that it begins with, where they are another run's; `examples` is the file of the list of its
        examples, where they are known.
        """
        run = RunFolder(path)
        rules.refuse_taken(path)
        with contextlib.ExitStack() as stack:
            with rules.writing_to(path):
                _make(path)
                stack.enter_context(run.lock(rules.elsewhere(path)))
                if RunFolder.is_run(path):
                    raise rules.taken(path)
                for name in rules.SUBFOLDERS:
                    (path / name).mkdir(exist_ok=True)
                run.remove_start()
                if weights is not None:
                    write_folder(run.start, {START_FILES[0]: weights}, {})
                run.examples.unlink(missing_ok=True)
                if examples is not None:  # a run without it would not know what trained the weights it began with
                    write_bytes(run.examples, examples)
                if data is not None:
                    run.write_data(data)
                run.write_recipe(recipe)
            yield run

    @staticmethod
    def open(path: Path) -> "RunFolder":
        """Open an existing run; raises UserError that names runs nearby if this is not one."""
        try:
            if (path / "recipe.json").is_file():
                return RunFolder(path)
            problem = "is not a run (it has no recipe.json)" if path.exists() else "does not exist"
        except OSError as error:
            problem = f"cannot be read ({error.strerror})"
        if near := runs_near(path):
            raise UserError(path, problem, f"Runs nearby: {', '.join(map(str, near))}")
        raise UserError(path, problem, Command("train", "mnist"))

    @staticmethod
    def is_run(path: Path) -> bool:
        """Return whether a folder holds a run that can be read."""
        return rules.is_run(path)

    # Paths

    @property
    def steps(self) -> Path:
        """The log of stats."""
        return self.path / "log" / "steps.jsonl"

    @property
    def scores(self) -> Path:
        """The log of scores."""
        return self.path / "log" / "scores.jsonl"

    @property
    def events(self) -> Path:
        """The log of events."""
        return self.path / "log" / "events.jsonl"

    @property
    def paces(self) -> Path:
        """The log of how fast the training got on; never cut, as a resume follows it again."""
        return self.path / "log" / "pace.jsonl"

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints, one sub-folder each, named by samples."""
        return self.path / "checkpoints"

    @property
    def best(self) -> Path:
        """The folder of the best generator."""
        return self.path / "best"

    @property
    def candidates(self) -> Path:
        """The folder of the generators that may yet be the best one, one sub-folder each, named by samples."""
        return self.path / "candidates"

    @property
    def encoder(self) -> Path:
        """The weights of the evaluation encoder, where one judges."""
        return self.path / "encoder.safetensors"

    @property
    def groups(self) -> Path:
        """Which group each example belongs to, where networks are told that."""
        return self.path / "groups.safetensors"

    @property
    def start(self) -> Path:
        """The folder of the weights that the run began with, where they are another run's."""
        return self.path / rules.START

    @property
    def examples(self) -> Path:
        """The list of the examples that the run began with: hashes of their contents and names."""
        return self.path / "examples.safetensors"

    @property
    def later(self) -> Path:
        """The folder of best generators that a state gone back to does not know; nothing removes them."""
        return self.path / "later"

    @property
    def selected(self) -> Path:
        """The folder of the generator that an end has selected, kept for the next end where the training went on."""
        return self.path / "selected"

    @property
    def samples(self) -> Path:
        """The folder of what the report shows."""
        return self.path / "samples"

    @property
    def report(self) -> Path:
        """Where the report is."""
        return self.path / "report.html"

    # Records

    @property
    def is_custom_loop(self) -> bool:
        """Whether a Watch follows this run, in a training loop that is not Equipoise's."""
        return self.read_recipe().get("name") == CUSTOM_LOOP

    @property
    def has_saved(self) -> bool:
        """Whether a checkpoint of this run was ever written, as far as its state says."""
        return self.read_state().has_saved

    def read_recipe(self) -> dict[str, Any]:
        """Read the recipe's plain values; raises UserError if they are gone, damaged, or of another version."""
        path = self.path / "recipe.json"
        values = read_json(path)
        if values is None:
            raise UserError(path, "is missing", RESTORE)
        rules.refuse_other_format(path, values.pop("format", None))
        return values

    def recipe(self) -> Recipe:
        """Read the whole recipe; raises UserError that names the file."""
        try:
            return from_dict(self.read_recipe())
        except UserError as error:
            path = self.path / "recipe.json"
            raise UserError(path, f"{error.subject}: {error.problem}", *error.remedies, RESTORE) from None

    def write_recipe(self, recipe: Recipe | Mapping[str, Any]) -> None:
        """Write the recipe, or its plain values, in one step; raises OSError, as do the other writers."""
        values = to_dict(recipe) if isinstance(recipe, Recipe) else dict(recipe)
        write_json(self.path / "recipe.json", {"format": FORMAT, **values})

    def read_state(self) -> RunState:
        """Read how the run stands, "new" before its training; raises UserError if damaged."""
        path = self.path / "state.json"
        values = read_json(path, f"{RESTORE}, or remove it and resume the run")
        if values is None:
            return RunState()
        rules.refuse_other_format(path, values.get("format", FORMAT))
        return self._record(path, RunState, values, f"{RESTORE}, or remove it and resume the run")

    def next_state(self, **values: Any) -> RunState:
        """Return a new state, in which only is kept whether the run ever saved and how it was tested before."""
        before = self.read_state()
        return RunState(has_saved=before.has_saved, tested_before=before.test or before.tested_before, **values)

    def write_state(self, state: RunState) -> None:
        """Write how the run stands."""
        write_json(self.path / "state.json", state)

    def data(self) -> DataRecord:
        """Read what the run's data are; raises UserError where that is gone or damaged."""
        found = self.read_data()
        if found is None:
            raise UserError(self.path / "data.json", "is missing", RESTORE)
        return found

    def read_data(self) -> DataRecord | None:
        """Read what the data are, None if not written; raises UserError if damaged."""
        return self._read("data.json", DataRecord)

    def write_data(self, data: DataRecord) -> None:
        """Write what the data are."""
        write_json(self.path / "data.json", data)

    def read_intervals(self) -> IntervalsRecord:
        """Read how often what is done, empty before it is measured; raises UserError if damaged."""
        return self._read("intervals.json", IntervalsRecord) or IntervalsRecord()

    def write_intervals(self, intervals: IntervalsRecord) -> None:
        """Write how often what is done."""
        write_json(self.path / "intervals.json", intervals)

    def read_rivals(self) -> Rivals:
        """Read the rivals' scores on the validation split, empty where there are none; raises UserError if damaged."""
        return self._read("rivals.json", Rivals) or Rivals()

    def write_rivals(self, rivals: Rivals) -> None:
        """Write the rivals' scores."""
        write_json(self.path / "rivals.json", rivals)

    def read_exhibits(self) -> Exhibits:
        """Read what the report shows, empty before there is anything; raises UserError if damaged."""
        return self._read("exhibits.json", Exhibits) or Exhibits()

    def write_exhibits(self, exhibits: Exhibits, contents: Mapping[str, bytes]) -> None:
        """Write what the report shows: the files by their names, then the record of them."""
        self.samples.mkdir(exist_ok=True)
        for name, content in contents.items():
            write_bytes(self.samples / name, content)
        write_json(self.path / "exhibits.json", exhibits)

    def read_environment(self) -> dict[str, Any]:
        """Read versions and device, empty if not written yet; raises UserError if damaged."""
        return read_json(self.path / "environment.json") or {}

    def write_environment(self, values: Mapping[str, Any]) -> None:
        """Write versions and device."""
        write_json(self.path / "environment.json", values)

    def _read(self, name: str, kind: type[Record]) -> Record | None:
        path = self.path / name
        values = read_json(path)
        if values is None:
            return None
        return self._record(path, kind, values, RESTORE)

    def _record(self, path: Path, kind: type[Record], values: Any, remedy: str) -> Record:
        try:
            return strict(kind, values)
        except (msgspec.ValidationError, TypeError, RecursionError) as error:
            raise UserError(path, f"damaged ({str(error)[:200]})", remedy) from None

    # Logs

    def log_step(self, stats: StepStats) -> None:
        """Append one interval's stats."""
        append(self.steps, stats)

    def log_score(self, score: Score, *, is_best: bool) -> None:
        """Append one score, and whether it became the best."""
        append(self.scores, plain(score) | {"best": is_best})

    def log_pace(self, pace: Pace) -> None:
        """Append how fast the training gets on."""
        append(self.paces, pace)

    def read_paces(self, beyond: int) -> dict[int, Pace]:
        """Return what was measured beyond so many samples spent, by those; a damaged line counts as none."""
        found = {}
        for record in last_records(self.paces, MOST_PACES, lambda record: whole_of(record.get("spent")) > beyond):
            with contextlib.suppress(msgspec.ValidationError):
                pace = strict(Pace, record)
                if pace.is_sound:
                    found[pace.spent] = pace
        return found

    def first_threads(self) -> int | None:
        """Return the number of threads that the run began with, where it was measured."""
        first = self.read_paces(-1).get(0)
        return None if first is None else first.threads

    def log_event(
        self,
        samples: int,
        seconds: float,
        kind: EventKind,
        message: str,
        attempt: int = 0,
        remedy: RemedyRecord | None = None,
    ) -> None:
        """Append one event, unless a run that was killed and resumed comes to the very same one again."""
        event = Event(samples=samples, seconds=seconds, kind=kind, message=message, attempt=attempt, remedy=remedy)
        if not any(_is_same(record, event) for record in last_records(self.events, NUM_RECENT_EVENTS)):
            append(self.events, event)

    def sync_logs(self) -> None:
        """Put what the logs hold on the disk."""
        for path in (self.steps, self.scores, self.events, self.paces, self.path / "log"):
            if path.exists():
                sync(path)

    def cut_logs(self, samples: int, evaluated: int | None = None) -> None:
        """Drop from the logs and the snapshots what lies beyond a checkpoint's samples; events stay for good.

        `evaluated` is where its last evaluation was, if before that: one that was interrupted there is taken again.
        """
        cut(self.steps, samples)
        cut(self.scores, samples if evaluated is None else evaluated)
        for beyond, path in self.snapshots():
            if beyond > samples:
                path.unlink()

    def drop_scores_under(self, protocol: Mapping[str, Any]) -> None:
        """Drop the last scores that were found under a protocol: those of a change to it that was killed."""
        drop_last(self.scores, lambda record: record.get("protocol") == protocol)

    # Snapshots

    def snapshots(self) -> list[tuple[int, Path]]:
        """Return the snapshots of fixed inputs with their samples, in order."""
        found = ((path, re.fullmatch(SNAPSHOT_NAME, path.stem)) for path in self.samples.glob("[0-9]*.png"))
        return sorted((int(path.stem), path) for path, is_ours in found if is_ours and path.is_file())

    def write_snapshot(self, samples: int, content: bytes) -> None:
        """Write the snapshot at some samples."""
        self.samples.mkdir(exist_ok=True)
        write_bytes(self.samples / f"{samples:012d}.png", content)

    def is_snapshot_due(self, samples: int) -> bool:
        """Return whether the last snapshot is long enough ago, in proportion to the samples."""
        taken = [before for before, _ in self.snapshots()]
        return not taken or samples >= SNAPSHOT_GROWTH * taken[-1]

    # Writing

    def remove_start(self) -> None:
        """Remove the weights of a beginning that a kill has ended; raises OSError."""
        for name in (rules.START, f".{rules.START}.partial", f".{rules.START}.old"):
            if (self.path / name).exists():
                shutil.rmtree(self.path / name)

    def take_back(self) -> None:
        """Remove what a run that has just begun wrote, the recipe first, so that the rest is no run."""
        with contextlib.suppress(OSError):
            for name in ("state.json", "recipe.json", "data.json", self.examples.name):
                (self.path / name).unlink(missing_ok=True)
            self.remove_start()
            for name in rules.SUBFOLDERS:
                (self.path / name).rmdir()
            (self.path / locks.NAME).unlink()

    @contextlib.contextmanager
    def lock(self, *instead: Part) -> Iterator[None]:
        """Hold the run for one training; raises RunBusyError that names the holder, UserError where a part is a link.

        The kernel frees it on death. `instead` are further remedies where it is held.
        """
        rules.refuse_links(self)
        with contextlib.ExitStack() as stack:
            try:
                with rules.writing_into(self.path):
                    stack.enter_context(locks.held(self.path))
            except locks.Busy as busy:
                raise rules.busy(self.path, busy.holder, *instead) from None
            yield

    def holder(self) -> Holder | None:
        """Return who trains in this folder right now, None if nobody does."""
        return locks.holder_of(self.path)

    def tidy(self) -> None:
        """Clear up what a kill has left of writing; only for who holds the lock."""
        tidy(self.path)
        tidy(self.checkpoints)  # which may be a link, to a larger disk, say
        for folder in (self.path / "log", self.candidates, self.later, self.selected, self.samples, self.best):
            if not folder.is_symlink():
                tidy(folder)

    def newest_good(self) -> int | None:
        """Return the samples of the newest checkpoint that is intact, None where none can be found."""
        with contextlib.suppress(OSError, UserError):
            return next((int(path.name) for path in named(self.checkpoints) if damage_of(path) is None), None)
        return None


def run_name(recipe: Recipe) -> str:
    """Return what a run is called by default: `<recipe>-<source>`."""
    source = recipe.data.source.removeprefix("hub:").rstrip("/\\")
    last = re.split(r"[/\\]", source)[-1]
    return f"{recipe.name}-{re.sub(r'[.](npz|zip|csv)$', '', last, flags=re.IGNORECASE)}"


def new_path(base: Path, name: str) -> Path:
    """Return `base/name-001`, or the number after the highest that is there; odd characters become dashes."""
    clean = re.sub(r"[^\w.-]+", "-", name).strip("-.") or "run"
    clean = clean.encode()[:200].decode(errors="ignore")
    pattern = re.compile(re.escape(clean) + r"-(\d+)")
    entries = list(base.iterdir()) if base.is_dir() else []
    taken = [pattern.fullmatch(entry.name) for entry in entries]
    highest = max((int(match[1]) for match in taken if match), default=0)
    return base / f"{clean}-{highest + 1:03}"


def runs_near(path: Path, num: int = 3) -> list[Path]:
    """Return up to `num` of the newest runs in this folder, or else beside it."""
    for folder in (path, path.parent, Path("runs")):
        with contextlib.suppress(OSError):
            found = [entry for entry in folder.iterdir() if rules.is_run(entry)]
            if found:
                return sorted(found, key=lambda entry: entry.stat().st_mtime)[-num:]
    return []


def _make(path: Path) -> None:
    """Make a folder and those above it, each with its name on the disk."""
    if not path.is_dir():
        _make(path.absolute().parent)
        path.mkdir(exist_ok=True)
        sync(path.parent)


def _is_same(record: Mapping[str, Any], event: Event) -> bool:
    names = ("samples", "attempt", "kind", "message")
    return all(record.get(name) == getattr(event, name) for name in names)
