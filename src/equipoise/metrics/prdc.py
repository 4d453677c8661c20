"""Precision and recall (arXiv:1904.06991), density and coverage (arXiv:2002.09797), from k-nearest-neighbour balls."""

from dataclasses import dataclass

import torch
from torch import Tensor

from equipoise.errors import UserError

CHUNK = 1024  # rows of a distance matrix held at once


@dataclass(frozen=True)
class PRDC:
    """How much of the fake sample is real-like (precision, density), and of the real one is reached."""

    precision: float
    recall: float
    density: float
    coverage: float


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Return ‖a_i − b_j‖² for [M, D] and [N, D] as [M, N], never negative."""
    products = torch.addmm(b.square().sum(1)[None, :], a, b.T, alpha=-2)
    return products.add_(a.square().sum(1)[:, None]).clamp_(min=0)


@torch.no_grad()
def squared_radii(features: Tensor, k: int) -> Tensor:
    """Return the squared distance of each sample [N, D] to its k-th nearest other sample, [N]."""
    if not 1 <= k < len(features):
        raise UserError("nearest neighbours", f"k={k} among {len(features)} samples; k must be from 1 to N − 1")
    radii = []
    for start in range(0, len(features), CHUNK):
        distances = squared_distances(features[start : start + CHUNK], features)
        distances.diagonal(start).fill_(torch.inf)
        radii.append(distances.topk(k, largest=False, sorted=False).values.amax(1))
    return torch.cat(radii)


@torch.no_grad()
def prdc(real: Tensor, fake: Tensor, k: int = 5, real_radii: Tensor | None = None) -> PRDC:
    """Return the four shares for features [N, D] and [M, D], exactly, in memory of order N + M.

    `real_radii` may hold `squared_radii(real, k)` from an earlier call.
    """
    # Around the real mean, so that ‖a‖² − 2ab + ‖b‖² loses no digits to a common offset.
    centre = real.mean(0)
    real, fake = real - centre, fake - centre
    of_real = squared_radii(real, k) if real_radii is None else real_radii
    of_fake = squared_radii(fake, k)
    balls = torch.zeros(len(fake), dtype=torch.int64, device=fake.device)  # real balls that hold each fake sample
    reached, covered = 0, 0
    for start in range(0, len(real), CHUNK):
        distances = squared_distances(real[start : start + CHUNK], fake)
        inside = distances < of_real[start : start + CHUNK, None]
        balls += inside.sum(0)
        covered += int(inside.any(1).sum())
        reached += int((distances < of_fake).any(1).sum())
    return PRDC(
        precision=(balls > 0).double().mean().item(),
        recall=reached / len(real),
        density=balls.double().mean().item() / k,
        coverage=covered / len(real),
    )
