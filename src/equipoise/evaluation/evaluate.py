"""Scoring a generator, for every loop: against the judge's real examples, and against the best one so far.

Every evaluation draws fresh inputs, the same ones for both generators, so that luck with one draw does not decide the
next comparison. Nothing here touches the game.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from equipoise.errors import UserError
from equipoise.host.deadline import Deadline
from equipoise.metrics.units import UNKNOWN, Measured, difference
from equipoise.randomness import Randomness, stream_seed
from equipoise.storage.records import Metric, Score
from equipoise.tasks.base import Evaluated, Judge, SplitLogits, chunks, num_outputs

LEAST_SCALE = 5.0  # standard errors by which D must tell its training samples from generated ones


@dataclass(frozen=True)
class Contender:
    """A generator and the samples that it was reached at."""

    generator: Any
    samples: int


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found: the score, and the measurement of the generator for further comparisons."""

    score: Score
    measured: Measured


def evaluate(
    task: Evaluated, judge: Judge, contender: Contender, best: Contender | None, deadline: Deadline
) -> Evaluation:
    """Score a generator and, on the same inputs, the best so far; raises what the deadline or the task raises."""
    begin = time.monotonic()
    seed = stream_seed(judge.seed, "judging", contender.samples)
    measured = measure(task, judge, contender.generator, seed, deadline)
    compared, found = 0, UNKNOWN
    if best is not None:
        previous = measure(task, judge, best.generator, seed, deadline)
        found = difference(previous, measured)
        compared = best.samples if math.isfinite(found.value) else 0
    score = Score(
        samples=contender.samples,
        seconds=time.monotonic() - begin,
        loss=measured.loss,
        error=measured.error,
        compared_with=compared,
        difference=found.value,
        difference_error=found.standard_error,
        values=measured.values,
        folds=measured.folds,
        broken=broken_guards(judge.metrics, measured.values),
        protocol=dict(judge.protocol),
    )
    return Evaluation(score, measured)


def measure(task: Evaluated, judge: Judge, generator: Any, seed: int, deadline: Deadline) -> Measured:
    """Measure a generator's outputs, chunk by chunk until the deadline; one seed gives one set of inputs."""
    measured = judge.measure(_outputs(task, judge, generator, seed, deadline))
    deadline.check()
    return measured


def _outputs(task: Evaluated, judge: Judge, generator: Any, seed: int, deadline: Deadline) -> Iterator[Any]:
    for begin, size in chunks(judge.num, task.chunk):
        deadline.check()
        outputs = task.outputs(generator, Randomness(seed, begin), judge.split, begin, size)
        yield checked_outputs(outputs, size)


def checked_outputs(outputs: Any, size: int, method: str = "outputs") -> Any:
    """Return outputs if there are as many as asked for; raises UserError that names the task's method."""
    num = num_outputs(outputs)
    if num is None:
        problem = (
            f"returned {type(outputs).__name__}; it must return a tensor, a tuple of tensors, or a list of outputs"
        )
        raise UserError(f"task.{method}()", problem)
    if num != size:
        raise UserError(f"task.{method}()", f"returned {num} outputs for size={size}; it must return {size}")
    return outputs


def broken_guards(metrics: tuple[Metric, ...], values: dict[str, float]) -> tuple[str, ...]:
    """Return the names of the metrics whose guard a generator breaks."""
    return tuple(metric.name for metric in metrics if not metric.is_kept_by(values.get(metric.name, math.nan)))


def discriminator_gap(found: SplitLogits) -> float:
    """Return (D(train) − D(validation)) / (D(train) − D(generated)), after arXiv:2006.06676, Eq. 1.

    Near 0 the discriminator knows its training samples no better than others, near 1 it has memorised them; NaN where
    it hardly tells them from generated ones, so that there is no scale to measure on.
    """
    scale = float(found.train.mean() - found.generated.mean())
    errors = [part.var() / len(part) for part in (found.train, found.generated)]
    if not scale > LEAST_SCALE * math.sqrt(float(torch.stack(errors).sum())):
        return math.nan
    return float(found.train.mean() - found.validation.mean()) / scale
