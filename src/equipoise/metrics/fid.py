"""Fréchet distance between Gaussians fitted to features (arXiv:1706.08500), from moments that add up."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from equipoise.errors import UserError


@dataclass(frozen=True)
class Moments:
    """A sample reduced to n, Σx [D] and Σxxᵀ [D, D] in float64; parts of a sample add up."""

    num: int
    total: Tensor
    outer: Tensor

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(self.num + other.num, self.total + other.total, self.outer + other.outer)

    @property
    def mean(self) -> Tensor:
        """The sample mean [D]."""
        return self.total / self.num

    @property
    def covariance(self) -> Tensor:
        """The unbiased sample covariance [D, D]."""
        return (self.outer - self.num * torch.outer(self.mean, self.mean)) / (self.num - 1)


@torch.no_grad()
def moments(features: Tensor) -> Moments:
    """Reduce features [N, D] to their moments."""
    features = features.double()
    return Moments(len(features), features.sum(0), features.T @ features)


@torch.no_grad()
def fid(a: Moments, b: Moments) -> float:
    """Return |μ_a − μ_b|² + tr(Σ_a + Σ_b − 2 (Σ_a Σ_b)^½); raises UserError below 2 samples.

    It carries no standard error: with fewer samples than it takes, its bias outweighs its spread (arXiv:1911.07023).
    NaN where its matrices cannot be decomposed: it is reported, and decides nothing.
    """
    if min(a.num, b.num) < 2:
        raise UserError("FID", f"{a.num} and {b.num} samples; give at least 2 of each")
    of_a, of_b = a.covariance, b.covariance
    # tr (Σ_a Σ_b)^½ is the sum of the singular values of Σ_a^½ Σ_b^½: no root of a rounding error is taken,
    # so that covariances of fewer samples than dimensions are no special case.
    try:
        cross = torch.linalg.svdvals(_square_root(of_a) @ _square_root(of_b)).sum()
    except RuntimeError:  # torch.linalg.LinAlgError is one
        return math.nan
    distance = (a.mean - b.mean).square().sum() + of_a.trace() + of_b.trace() - 2 * cross
    return max(distance.item(), 0.0)


def _square_root(covariance: Tensor) -> Tensor:
    try:
        values, vectors = torch.linalg.eigh(covariance)
    except RuntimeError:  # LinAlgError, seen with few samples in 1,280 dimensions: a thousand eigenvalues near zero
        vectors, values, _ = torch.linalg.svd(covariance)  # the same, as it is symmetric and not negative
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T
