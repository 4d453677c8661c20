"""Floor, classical rivals and ceiling under the judge's protocol: what gives a score its scale."""

import contextlib
import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from equipoise.errors import UserError
from equipoise.evaluation.evaluate import checked_outputs
from equipoise.host.deadline import Abandoned, Deadline
from equipoise.metrics.units import Measured, difference
from equipoise.runs.folder import RunFolder
from equipoise.storage.records import Compared, Rivals, RivalScore
from equipoise.tasks.base import CHUNK, Evaluated, Judge, Rival, Split, chunks


@dataclasses.dataclass(frozen=True)
class JudgedRivals:
    """The rivals' scores, and their measurements, to compare a generator with."""

    rivals: Rivals
    measured: dict[str, Measured]


def rivals_once(
    run: RunFolder,
    task: Evaluated,
    judge: Judge,
    timeout: float,
    on_failure: Callable[[str], None],
    on_begin: Callable[[], None] = lambda: None,
) -> None:
    """Judge a training's rivals under its protocol and write down what was found, unless that was done before."""
    with contextlib.suppress(UserError):  # a damaged record of them is made again
        if run.read_rivals().protocol == dict(judge.protocol):
            return
    rivals = task.rivals()
    if rivals:
        on_begin()
        run.write_rivals(judge_rivals(rivals, judge, Deadline(timeout), on_failure, task.chunk).rivals)


def judge_rivals(
    rivals: Sequence[Rival],
    judge: Judge,
    deadline: Deadline,
    on_failure: Callable[[str], None],
    chunk: int = CHUNK,
) -> JudgedRivals:
    """Judge each rival as if it were a generator; one that fails is reported and left without a score."""
    scores: list[RivalScore] = []
    measured: dict[str, Measured] = {}
    for rival in rivals:
        num = judge.num if rival.num is None else min(judge.num, rival.num)
        try:
            found = judge.sized(num).measure(_outputs(rival, judge.split, num, chunk, deadline))
        except Abandoned:
            raise
        except Exception as error:
            failure = f"{type(error).__name__}: {error}"
            on_failure(f"{rival.name}: {failure}")
            scores.append(RivalScore(name=rival.name, role=rival.role, failure=failure))
            continue
        measured[rival.name] = found
        values = found.values if num == judge.num else {}  # what depends on the number of outputs does not compare
        scores.append(
            RivalScore(name=rival.name, role=rival.role, loss=found.loss, error=found.error, values=values, num=num)
        )
    return JudgedRivals(Rivals(protocol=dict(judge.protocol), scores=tuple(scores)), measured)


def compared_with(judged: JudgedRivals, best: Measured) -> Rivals:
    """Return the rivals with the differences of the best generator's loss to theirs."""
    scores = []
    for score in judged.rivals.scores:
        against = judged.measured.get(score.name)
        if against is not None:
            score = msgspec.structs.replace(score, best=_difference(against, best))
        scores.append(score)
    return msgspec.structs.replace(judged.rivals, scores=tuple(scores))


def _difference(rival: Measured, best: Measured) -> Compared:
    """Return the best's loss minus the rival's; where the two are of other numbers, as if they were independent."""
    found = difference(rival, best)
    if math.isfinite(found.value):
        return Compared(difference=found.value, error=found.standard_error)
    return Compared(difference=best.loss - rival.loss, error=math.hypot(best.error, rival.error))


def _outputs(rival: Rival, split: Split, num: int, chunk: int, deadline: Deadline) -> Iterator[Any]:
    for begin, size in chunks(num, chunk):
        deadline.check()
        yield checked_outputs(rival.outputs(split, begin, size), size, f"rivals()[{rival.name!r}].outputs")
