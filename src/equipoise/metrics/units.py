"""Comparing two generators: one difference with its standard error, whatever the metric.

A judge gives its deciding loss with **influence values by independent unit**: how much each image, row or pair moves
the loss. With the same inputs and the same real examples, most of the noise of two measurements is common to both and
cancels. One formula serves a mean (the values themselves), KID (two projections) and an AUROC (DeLong's placements).
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from equipoise.metrics.kid import Estimate

UNKNOWN = Estimate(math.nan, math.nan)


@dataclass(frozen=True)
class Measured:
    """What a judge found of some outputs: the deciding loss, every metric by name, and the units of the loss."""

    loss: float
    error: float  # standard error of the loss
    values: dict[str, float] = field(default_factory=dict)
    units: tuple[Tensor, ...] = ()  # influence values [n], one tensor for each independent sample; none: not comparable
    num: int = 0  # outputs measured
    folds: tuple[float, ...] = ()  # losses by parts of the real examples, up to what these add: metrics/crossfit.py


def difference(before: Measured, after: Measured) -> Estimate:
    """Return the loss of `after` minus that of `before`, with its standard error √(Σ Var(h)/n); negative: better.

    h are the differences of influence values of each sample, unit by unit, so both must be of the same inputs and the
    same real examples. Both are NaN where the two do not compare, the error where a sample has one unit alone.
    """
    shapes = [tuple(unit.shape) for unit in before.units]
    if not shapes or shapes != [tuple(unit.shape) for unit in after.units]:
        return UNKNOWN
    changes = [new - old for old, new in zip(before.units, after.units, strict=True)]
    return Estimate(after.loss - before.loss, standard_error(*changes))


def standard_error(*units: Tensor) -> float:
    """Return √(Σ Var(h)/n) for the influence values h [n] of each sample; NaN where one has fewer than two."""
    if any(len(values) < 2 for values in units):
        return math.nan
    return math.sqrt(sum(values.var().item() / len(values) for values in units))


def mean_measured(losses: Tensor, values: dict[str, float] | None = None) -> Measured:
    """Return the measurement of a loss that is a mean over units, from its values by unit [n]."""
    losses = losses.double().cpu()
    return Measured(losses.mean().item(), standard_error(losses), values or {}, (losses,), len(losses))


def by_cluster(values: Tensor, clusters: Tensor) -> Tensor:
    """Return the means [K] of values [n] by cluster, int64 [n]: what shares a speaker or an image counts once."""
    num = int(clusters.max()) + 1
    sums = torch.zeros(num, dtype=torch.float64).index_add_(0, clusters, values.double())
    counts = torch.zeros(num, dtype=torch.float64).index_add_(0, clusters, torch.ones_like(values, dtype=torch.float64))
    return (sums / counts)[counts > 0]
