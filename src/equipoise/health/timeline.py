"""The conditions of a game along its log: what is told at each line, and from where to where a condition held."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from equipoise.health.conditions import examine
from equipoise.health.stats import SCORES, thinned
from equipoise.storage.records import Condition, Diagnosis, Score, StepStats


@dataclass(frozen=True)
class Span:
    """One time of a condition, in samples, or in the unit of the log."""

    condition: Condition
    begin: int
    end: int
    is_sure: bool  # at least likely at some log line


def told_at_each(lines: Sequence[StepStats], scores: Sequence[Score]) -> Iterator[tuple[Diagnosis, ...]]:
    """Yield what is told at each log line, from this line, all before it, and the scores before it."""
    history: tuple[StepStats, ...] = ()
    found: tuple[Diagnosis, ...] = ()
    num_known = 0
    for line in lines:
        history = thinned((*history, line))
        while num_known < len(scores) and scores[num_known].samples < line.samples:
            num_known += 1
        found = examine(history, scores[max(0, num_known - SCORES) : num_known], found)
        yield found


def spans(steps: Sequence[StepStats]) -> list[Span]:
    """Return every time of every condition, in the order in which the conditions first came."""
    found: dict[tuple[Condition, int], Span] = {}
    for stats in steps:
        for diagnosis in stats.diagnoses:
            key = (diagnosis.condition, diagnosis.since)
            before = found.get(key)
            is_sure = diagnosis.confidence != "possible" or (before is not None and before.is_sure)
            found[key] = Span(diagnosis.condition, min(diagnosis.since, stats.samples), stats.samples, is_sure)
    return list(found.values())
