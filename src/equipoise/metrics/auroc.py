"""The area under the ROC curve with DeLong's standard error (Biometrics 44:837, 1988)."""

import torch
from torch import Tensor

from equipoise.errors import UserError
from equipoise.metrics.units import Measured, standard_error


def auroc(positives: Tensor, negatives: Tensor) -> float:
    """Return the share of pairs in which the positive scores higher, ties by half, from scores [m] and [n]."""
    return placements(positives, negatives)[0].mean().item()


def placements(positives: Tensor, negatives: Tensor) -> tuple[Tensor, Tensor]:
    """Return for each positive the share of negatives below it [m], and for each negative that of positives above [n].

    Ties count by half. Raises UserError where a side is empty.
    """
    if not len(positives) or not len(negatives):
        problem = f"{len(positives)} positives and {len(negatives)} negatives; give at least one of each"
        raise UserError("AUROC", problem)
    of_positives = _share_below(positives.double(), negatives.double())
    of_negatives = 1 - _share_below(negatives.double(), positives.double())
    return of_positives, of_negatives


def auroc_measured(positives: Tensor, negatives: Tensor) -> Measured:
    """Return 1 − AUROC as a loss with its units: SE² = Var(V)/m + Var(W)/n for the placements V and W."""
    of_positives, of_negatives = placements(positives, negatives)
    area = of_positives.mean().item()
    error = standard_error(of_positives, of_negatives)
    num = len(positives) + len(negatives)
    return Measured(1 - area, error, {"auroc": area}, (-of_positives, -of_negatives), num)


def _share_below(values: Tensor, others: Tensor) -> Tensor:
    """Return for each value the share of the others that are smaller, ties by half."""
    order = others.sort().values
    below = torch.searchsorted(order, values)
    not_above = torch.searchsorted(order, values, right=True)
    return (below + not_above).double() / (2 * len(others))
