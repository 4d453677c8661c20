"""Cross-fitting: by how much the best of many looks better than it is, where the same real examples chose and score it.

Of KID, what a generator adds over a part S of the real examples is ff + mean_{j ∈ S} u_j, with ff the mean kernel
within its own samples w and u_j = −2 mean_i k(w_i, x_j). So its losses on K parts say all that is needed; what the
real examples add alone is the same for every generator, and cancels.
"""

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from equipoise.metrics.units import Measured

NUM_FOLDS = 5


def fold_shares(num: int, num_folds: int) -> Tensor:
    """Return the share of each fold [K] of `num` examples."""
    return torch.tensor([len(part) for part in torch.arange(num).tensor_split(num_folds)]).double() / num


def fold_losses(units: Sequence[Tensor], num_folds: int) -> tuple[float, ...]:
    """Return ff + the mean of u in each fold, from KID's influence values of generated [N] and of real samples [M].

    The folds are runs of neighbours: their order is random by content, in which exact copies stand side by side. The
    generated samples' values are 2 (mean_j k(w_i, w_j) − mean_j k(w_i, x_j)), whose mean is 2 ff + mean u.
    """
    generated, real = (values.double().cpu() for values in units)
    within = (generated.mean() - real.mean()) / 2
    return tuple((within + part.mean()).item() for part in real.tensor_split(num_folds))


def optimism(losses: Tensor, shares: Tensor) -> float:
    """Return by how much the lowest of T generators looks too good, from their losses by fold [T, K] and its share [K].

    g_k(t) is a loss on fold k with its share, G = Σ_k g_k, t* the argmin of G, t(k) that of G − g_k: the choice
    without fold k. The sum over k of g_k(t(k)) − g_k(t*) is returned. No term is negative, and it is 0 where
    t(k) = t*: g_k(t(k)) = G(t(k)) − (G − g_k)(t(k)) ≥ G(t*) − (G − g_k)(t*) = g_k(t*), as t* makes G smallest, and
    t(k) G − g_k.
    """
    parts = losses.double() * shares
    whole = parts.sum(1)
    best = int(whole.argmin())
    without = (whole[:, None] - parts).argmin(0)
    left_out = parts.gather(0, without[None])[0]
    return max(0.0, (left_out - parts[best]).sum().item())


def corrected(measured: Measured, amount: float, name: str) -> Measured:
    """Return a measurement with the optimism added to its loss, which is also its metric of that name."""
    loss = measured.loss + amount
    return dataclasses.replace(measured, loss=loss, values=measured.values | {name: loss})
