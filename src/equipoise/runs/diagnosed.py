"""What is wrong with a game by its log: of a run, or of a training by another tool; and when each condition began."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from equipoise.errors import Command, UserError
from equipoise.health.telling import title
from equipoise.health.timeline import spans, told_at_each
from equipoise.runs.folder import RunFolder
from equipoise.runs.loss_logs import read_log
from equipoise.runs.rules import is_run
from equipoise.storage.logs import records
from equipoise.storage.records import Condition, Diagnosis, Score, Span, StepStats, comparable, lenient, plain

replace = msgspec.structs.replace


@dataclass(frozen=True)
class Diagnosed:
    """What a log says: what is wrong at its end, what was wrong before, and what it does not say."""

    source: str
    num_lines: int
    begin: int
    end: int
    unit: str  # of its steps
    diagnoses: tuple[Diagnosis, ...]  # at its last line
    spans: tuple[Span, ...]
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
    held = spans([replace(line, diagnoses=found) for line, found in zip(lines, told, strict=True)])
    ends = (lines[0].samples, lines[-1].samples)
    return Diagnosed(source, len(lines), *ends, unit, told[-1], tuple(held), last, read, missing)


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
            for one in found.spans
        ],
        "columns": found.read,
        "missing": list(found.missing),
    }
