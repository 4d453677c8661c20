"""Kernel Inception Distance: the unbiased MMD² with the cubic kernel, and its standard error (arXiv:1801.01401).

With another kernel it is the maximum mean discrepancy of that one (JMLR 13:723, Eq. 3).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from equipoise.errors import UserError

CHUNK = 1024  # rows of a kernel matrix held at once

Kernel = Callable[[Tensor, Tensor], Tensor]  # features [M, D] and [N, D] to [M, N]


@dataclass(frozen=True)
class Estimate:
    """A number measured on a sample, and the standard deviation of its sampling error."""

    value: float
    standard_error: float


@dataclass(frozen=True)
class KernelSums:
    """A kernel matrix reduced to float64 sums; within one sample the diagonal is left out."""

    row_means: Tensor  # [m]
    column_means: Tensor  # [n]
    mean: float
    interaction: float  # mean square of what is left after row and column means are taken away


def polynomial_kernel(x: Tensor, y: Tensor) -> Tensor:
    """Return k(x, y) = (xᵀy/d + 1)³ for features [M, D] and [N, D] as [M, N]."""
    return (x @ y.T / x.shape[1] + 1) ** 3


def gaussian_kernel(x: Tensor, y: Tensor, widths: tuple[float, ...]) -> Tensor:
    """Return the mean of exp(−‖x − y‖²/2w²) over some widths, for features [M, D] and [N, D] as [M, N].

    It tells any two distributions apart, where the cubic kernel sees three moments only.
    """
    squared = torch.cdist(x, y).square()
    return torch.stack([torch.exp(squared / (-2 * width**2)) for width in widths]).mean(0)


@torch.no_grad()
def kernel_within(x: Tensor, kernel: Kernel = polynomial_kernel) -> KernelSums:
    """Reduce the kernel matrix of one sample with itself, pairs i ≠ j only; features [N, D]."""
    _check(x)
    num = len(x)
    rows, squares = torch.zeros(num, dtype=torch.float64), 0.0
    for start in range(0, num, CHUNK):
        part = kernel(x[start : start + CHUNK], x)
        part.diagonal(start).zero_()
        rows[start : start + CHUNK] = part.sum(1, dtype=torch.float64).cpu()
        squares += part.square_().sum(dtype=torch.float64).item()
    means = rows / (num - 1)
    mean = means.mean().item()
    # Σ_{i≠j} (k_ij − r_i − r_j + g)², multiplied out
    left = squares - 2 * num * means.square().sum().item() + num * (num + 1) * mean**2
    return KernelSums(means, means, mean, max(left, 0.0) / (num * (num - 1)))


@torch.no_grad()
def kernel_between(x: Tensor, y: Tensor, kernel: Kernel = polynomial_kernel) -> KernelSums:
    """Reduce the kernel matrix of two samples, all pairs; features [M, D] and [N, D]."""
    _check(x, y)
    rows, squares = [], 0.0
    columns = torch.zeros(len(y), dtype=torch.float64)
    for chunk in x.split(CHUNK):
        part = kernel(chunk, y)
        rows.append(part.sum(1, dtype=torch.float64).cpu() / len(y))
        columns += part.sum(0, dtype=torch.float64).cpu()
        squares += part.square_().sum(dtype=torch.float64).item()
    row_means = torch.cat(rows)
    column_means = columns / len(x)
    mean = row_means.mean().item()
    left = squares - len(y) * row_means.square().sum().item() - len(x) * column_means.square().sum().item()
    left += len(x) * len(y) * mean**2
    return KernelSums(row_means, column_means, mean, max(left, 0.0) / (len(x) * len(y)))


@dataclass(frozen=True)
class Discrepancy:
    """A KID with its standard error, and what two of them on the same real sample are compared by."""

    estimate: Estimate
    units: tuple[Tensor, Tensor]  # influence values of the generated [N] and of the real samples [M]


def kid(real: Tensor, fake: Tensor, within_real: KernelSums | None = None) -> Estimate:
    """Return KID of features [M, D] and [N, D] over all pairs, with its standard error.

    `within_real` may hold `kernel_within(real)` from an earlier call; raises UserError below 2 samples.
    """
    return discrepancy(real, fake, within_real).estimate


def discrepancy(
    real: Tensor, fake: Tensor, within_real: KernelSums | None = None, kernel: Kernel = polynomial_kernel
) -> Discrepancy:
    """Return the unbiased MMD² of features [M, D] and [N, D], with its influence values by sample.

    For generated samples w and real ones x the values are 2 (mean_j k(w_i, w_j) − mean_j k(w_i, x_j)) and
    −2 mean_i k(w_i, x_j). What the real samples alone add is the same for any two generators, and left out.
    """
    of_real = within_real or kernel_within(real, kernel)
    of_fake = kernel_within(fake, kernel)
    between = kernel_between(real, fake, kernel)
    value = of_real.mean + of_fake.mean - 2 * between.mean
    units = (2 * (of_fake.row_means - between.column_means), -2 * between.row_means)
    return Discrepancy(Estimate(value, _variance(of_real, of_fake, between) ** 0.5), units)


def _variance(of_real: KernelSums, of_fake: KernelSums, between: KernelSums) -> float:
    """Estimate the variance of MMD²_u, for the randomness of both samples; never negative.

    First order: 4 Var(h)/n per sample, h_i its projection. The h_i found in the sample contain the
    second-order term twice, which decides where the two distributions are equal; it is taken away once.
    """
    num_real, num_fake = len(of_real.row_means), len(of_fake.row_means)
    of_projections = (
        4 * (of_real.row_means - between.row_means).var() / num_real
        + 4 * (of_fake.row_means - between.column_means).var() / num_fake
    ).item()
    second_order = (
        2 * of_real.interaction / num_real**2
        + 2 * of_fake.interaction / num_fake**2
        + 4 * between.interaction / (num_real * num_fake)
    )
    return max(of_projections - second_order, second_order)


def _check(*samples: Tensor) -> None:
    for sample in samples:
        if sample.ndim != 2 or len(sample) < 2:
            raise UserError("KID", f"features of shape {tuple(sample.shape)}; give [N, D] with N at least 2")
    if len({sample.shape[1] for sample in samples}) > 1:
        sizes = [sample.shape[1] for sample in samples]
        raise UserError("KID", f"the features have dimensions {sizes}; use one feature extractor")
