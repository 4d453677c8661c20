"""What is wrong with a game by its log: of a run, or of a training by another tool; and when each condition began."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equipoise.errors import Command, UserError
from equipoise.health.conditions import examine
from equipoise.health.stats import thinned
from equipoise.health.telling import title
from equipoise.runs.folder import RunFolder
from equipoise.runs.loss_logs import read_log
from equipoise.runs.rules import is_run
from equipoise.storage.logs import records
from equipoise.storage.records import Condition, Diagnosis, Score, StepStats, comparable, lenient, plain

NUM_SCORES = 64  # as many as a monitor remembers


@dataclass(frozen=True)
class Spell:
    """A condition from where it was first told to where it was told last, in the unit of the log."""

    condition: Condition
    begin: int
    end: int


@dataclass(frozen=True)
class Diagnosed:
    """What a log says: what is wrong at its end, what was wrong before, and what it does not say."""

    source: str
    num_lines: int
    begin: int
    end: int
    unit: str  # of its steps
    diagnoses: tuple[Diagnosis, ...]  # at its last line
    spells: tuple[Spell, ...]
    last_told: dict[Condition, Diagnosis]  # of each condition, as it was told last
    read: dict[str, str]
    missing: tuple[str, ...]


def diagnosed(path: Path) -> Diagnosed:
    """Return what the log of a run, or a file, says; raises UserError where it says nothing."""
    if is_run(path):
        run = RunFolder.open(path)
        lines = tuple(lenient(StepStats, record) for record in records(run.steps))
        if not lines:
            raise UserError(path, "this run has no log lines yet", Command("status", path))
        scores = tuple(comparable([lenient(Score, record) for record in records(run.scores)]))
        return _diagnosed(str(path), lines, scores, "samples", {}, ())
    if not path.exists():
        raise UserError(path, "no such file", Command("diagnose", "losses.csv"))
    if path.is_dir():
        raise UserError(path, "a folder, and not of a run", Command("diagnose", "losses.csv"))
    log = read_log(path)
    return _diagnosed(str(path), log.lines, log.scores, log.unit, log.read, log.missing)


def told_at_each(lines: Sequence[StepStats], scores: Sequence[Score]) -> Iterator[tuple[Diagnosis, ...]]:
    """Yield what is told at each log line, from this line, all before it, and the scores before it."""
    history: tuple[StepStats, ...] = ()
    found: tuple[Diagnosis, ...] = ()
    num_known = 0
    for line in lines:
        history = thinned((*history, line))
        while num_known < len(scores) and scores[num_known].samples < line.samples:
            num_known += 1
        found = examine(history, scores[max(0, num_known - NUM_SCORES) : num_known], found)
        yield found


def _diagnosed(
    source: str,
    lines: Sequence[StepStats],
    scores: Sequence[Score],
    unit: str,
    read: dict[str, str],
    missing: tuple[str, ...],
) -> Diagnosed:
    told = list(told_at_each(lines, scores))
    last: dict[Condition, Diagnosis] = {one.condition: one for found in told for one in found}
    spells = [spell for condition in last for spell in _spells(condition, lines, told)]
    ends = (lines[0].samples, lines[-1].samples)
    return Diagnosed(source, len(lines), *ends, unit, told[-1], tuple(spells), last, read, missing)


def _spells(condition: Condition, lines: Sequence[StepStats], told: Sequence[tuple[Diagnosis, ...]]) -> Iterator[Spell]:
    """Yield the stretches of log lines at which a condition was told."""
    begin: int | None = None
    end = 0
    for line, found in zip(lines, told, strict=True):
        one = next((one for one in found if one.condition == condition), None)
        if one is not None:
            begin = one.since if begin is None else begin
            end = line.samples
        elif begin is not None:
            yield Spell(condition, begin, end)
            begin = None
    if begin is not None:
        yield Spell(condition, begin, end)


def diagnosed_values(found: Diagnosed) -> dict[str, Any]:
    """Return what a log says as plain values."""
    return {
        "source": found.source,
        "log_lines": found.num_lines,
        "unit": found.unit,
        "begin": found.begin,
        "end": found.end,
        "diagnoses": [plain(one) for one in found.diagnoses],
        "timeline": [
            {"condition": one.condition, "title": title(one.condition), "begin": one.begin, "end": one.end}
            for one in found.spells
        ],
        "columns": found.read,
        "missing": list(found.missing),
    }
