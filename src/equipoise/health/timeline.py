"""The conditions of a game along its log: what is told at each line, and from where to where a condition held."""

from collections.abc import Iterator, Sequence

from equipoise.health.conditions import examine
from equipoise.health.stats import SCORES, thinned
from equipoise.storage.records import Condition, Diagnosis, Score, Span, StepStats


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
    """Return every time of every condition, in the order in which the conditions first came.

    One that comes again is told since an earlier line: its second time begins no earlier than its first has ended.
    """
    found: dict[tuple[Condition, int], Span] = {}
    ends: dict[Condition, int] = {}
    for stats in steps:
        for diagnosis in stats.diagnoses:
            condition, since = diagnosis.condition, diagnosis.since
            before = found.get((condition, since))
            begin = max(min(since, stats.samples), ends.get(condition, since)) if before is None else before.begin
            is_sure = diagnosis.confidence != "possible" or (before is not None and before.is_sure)
            found[condition, since] = Span(condition, begin, stats.samples, is_sure)
            ends[condition] = stats.samples
    return list(found.values())


def spans_beyond(steps: Sequence[StepStats], begin: int) -> tuple[Span, ...]:
    """Return every time of every condition beyond some samples, cut off there."""
    found = spans([stats for stats in steps if stats.samples > begin])
    return tuple(Span(span.condition, max(span.begin, begin), span.end, span.is_sure) for span in found)
