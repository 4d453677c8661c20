"""The players' losses: logits [N] in, per-sample values [N] out, reduced in the loop only.

Below, r = D(x) and f = D(G(z)) are logits, σ is the logistic function, and softplus(t) = log(1 + eᵗ), so that
−log σ(t) = softplus(−t). To use a loss of your own, give the problem a pair of functions
`(real_logits [N], fake_logits [N]) -> [N]`, one for each player, in the place of `discriminator_loss` and
`generator_loss`.
"""

from typing import assert_never

import torch.nn.functional as F
from torch import Tensor

from equipoise.recipe import LossName


def discriminator_loss(name: LossName, real_logits: Tensor, fake_logits: Tensor, smoothing: float = 0.0) -> Tensor:
    """Return what D minimises, per sample [N], from logits [N] of real and of generated samples.

    `smoothing` lowers the real label from 1 to 1 − smoothing; a recipe allows it only for losses with such a label.
    """
    match name:
        case "minimax" | "non-saturating":
            return minimax_discriminator(real_logits, fake_logits, smoothing)
        case "least-squares":
            return least_squares_discriminator(real_logits, fake_logits)
        case "wasserstein":
            return wasserstein_discriminator(real_logits, fake_logits)
        case "hinge":
            return hinge_discriminator(real_logits, fake_logits)
        case "relativistic":
            return relativistic_discriminator(real_logits, fake_logits)
        case "relativistic-average":
            return relativistic_average_discriminator(real_logits, fake_logits)
        case _ as unreachable:
            assert_never(unreachable)


def generator_loss(name: LossName, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """Return what G minimises, per sample [N]; only the relativistic losses depend on `real_logits`."""
    match name:
        case "minimax":
            return minimax_generator(fake_logits)
        case "non-saturating":
            return non_saturating_generator(fake_logits)
        case "least-squares":
            return least_squares_generator(fake_logits)
        case "wasserstein" | "hinge":
            return wasserstein_generator(fake_logits)
        case "relativistic":
            return relativistic_generator(real_logits, fake_logits)
        case "relativistic-average":
            return relativistic_average_generator(real_logits, fake_logits)
        case _ as unreachable:
            assert_never(unreachable)


def minimax_discriminator(real_logits: Tensor, fake_logits: Tensor, smoothing: float = 0.0) -> Tensor:
    """−(1−s) log σ(r) − s log(1−σ(r)) − log(1−σ(f)): arXiv:1406.2661, Eq. 1; with smoothing s: arXiv:1606.03498."""
    return F.softplus(-real_logits) + smoothing * real_logits + F.softplus(fake_logits)


def minimax_generator(fake_logits: Tensor) -> Tensor:
    """log(1−σ(f)): arXiv:1406.2661, Eq. 1; flat where D is sure that f is generated."""
    return -F.softplus(fake_logits)


def non_saturating_generator(fake_logits: Tensor) -> Tensor:
    """−log σ(f): arXiv:1406.2661, section 3."""
    return F.softplus(-fake_logits)


def least_squares_discriminator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """½(r−1)² + ½f²: arXiv:1611.04076, Eq. 2 with a = 0, b = 1."""
    return 0.5 * ((real_logits - 1).square() + fake_logits.square())


def least_squares_generator(fake_logits: Tensor) -> Tensor:
    """½(f−1)²: arXiv:1611.04076, Eq. 2 with c = 1."""
    return 0.5 * (fake_logits - 1).square()


def wasserstein_discriminator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """f − r: arXiv:1701.07875, Eq. 3; its negative is the estimate of the distance."""
    return fake_logits - real_logits


def wasserstein_generator(fake_logits: Tensor) -> Tensor:
    """−f: arXiv:1701.07875; also the generator's side of the hinge loss, arXiv:1802.05957, Eq. 17."""
    return -fake_logits


def hinge_discriminator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """max(0, 1−r) + max(0, 1+f): arXiv:1705.02894; arXiv:1802.05957, Eq. 16."""
    return F.relu(1 - real_logits) + F.relu(1 + fake_logits)


def relativistic_discriminator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """softplus(f − r), real and generated samples in pairs: arXiv:1807.00734; arXiv:2501.05441, Eq. 2."""
    return F.softplus(fake_logits - real_logits)


def relativistic_generator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """softplus(r − f): arXiv:1807.00734; arXiv:2501.05441, Eq. 2."""
    return F.softplus(real_logits - fake_logits)


def relativistic_average_discriminator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """softplus(−(r − mean f)) + softplus(f − mean r): arXiv:1807.00734, section 4.2, the means over the batch."""
    return F.softplus(fake_logits.mean() - real_logits) + F.softplus(fake_logits - real_logits.mean())


def relativistic_average_generator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """softplus(r − mean f) + softplus(−(f − mean r)): arXiv:1807.00734, section 4.2, the means over the batch."""
    return F.softplus(real_logits - fake_logits.mean()) + F.softplus(real_logits.mean() - fake_logits)
