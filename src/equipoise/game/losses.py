"""The players' losses: logits [N] in, per-sample values [N] out, reduced in the update only; or [N, K] of K judges.

Below, r = D(x) and f = D(G(z)) are logits, σ is the logistic function, and softplus(t) = log(1 + eᵗ), so that
−log σ(t) = softplus(−t). A loss is a record of two functions `(real_logits [N], fake_logits [N]) -> [N]`, one for each
player, and of what its logits mean; a loss of your own goes to `equipoise.train(loss=Loss(...))`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import assert_never

import torch
import torch.nn.functional as F
from torch import Tensor

from equipoise.errors import Setting, UserError
from equipoise.recipe import LossName

LossFunction = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Loss:
    """A loss pair and what its logits mean.

    Args:
        discriminator: what D minimises, per sample `[N]`, from logits `[N]` of real and of generated samples.
        generator: what G minimises, per sample `[N]`, from the same.
        boundary: the logit that separates real from generated; None where only differences of logits mean something.
        probability: from logits to P(real) in [0, 1]; None where the loss speaks of no probability.
        uses_real: whether the generator's side looks at the logits of real samples, too (else they are zeros).

    Example:
        >>> import torch
        >>> from equipoise.game.losses import Loss
        >>> hinge = Loss(lambda r, f: (1 - r).relu() + (1 + f).relu(), lambda r, f: -f, boundary=0.0)
        >>> hinge.discriminator(torch.tensor([2.0]), torch.tensor([-3.0]))
        tensor([0.])
    """

    discriminator: LossFunction
    generator: LossFunction
    boundary: float | None = None
    probability: Callable[[Tensor], Tensor] | None = None
    uses_real: bool = False


def loss_named(name: LossName, smoothing: float = 0.0, margin: float = 1.0) -> Loss:
    """Return the loss of a name; `smoothing` lowers the real label of those that have one from 1 to 1 − smoothing.

    `margin` is that of energies.

    Raises UserError for "custom", which is given as functions.
    """
    match name:
        case "minimax":
            discriminator = partial(minimax_discriminator, smoothing=smoothing)
            return Loss(discriminator, minimax_generator, 0.0, torch.sigmoid)
        case "non-saturating":
            discriminator = partial(minimax_discriminator, smoothing=smoothing)
            return Loss(discriminator, non_saturating_generator, 0.0, torch.sigmoid)
        case "least-squares":
            return Loss(least_squares_discriminator, least_squares_generator, 0.5, partial(torch.clamp, min=0, max=1))
        case "wasserstein":
            return Loss(wasserstein_discriminator, wasserstein_generator)
        case "hinge":
            return Loss(hinge_discriminator, wasserstein_generator, 0.0)
        case "relativistic":
            return Loss(relativistic_discriminator, relativistic_generator, uses_real=True)
        case "relativistic-average":
            return Loss(relativistic_average_discriminator, relativistic_average_generator, uses_real=True)
        case "energy":
            return Loss(partial(energy_discriminator, margin=margin), wasserstein_generator)
        case "custom":
            problem = "its functions are needed; a recipe cannot hold them"
            raise UserError(Setting("game.loss", name), problem, "In Python: equipoise.train(loss=Loss(...))")
        case _ as unreachable:
            assert_never(unreachable)


def logit_stats(loss: Loss, real_logits: Tensor, fake_logits: Tensor) -> dict[str, Tensor]:
    """Return what logits `[N]` of one discriminator step mean under a loss, each a scalar.

    Where the loss gives logits a meaning, accuracy is the share on the right side of its boundary; where only their
    differences count, it is the share of pairs with the real one above. Probabilities are NaN for losses without.
    """
    if loss.boundary is None:
        num = min(len(real_logits), len(fake_logits))
        right = (real_logits[:num] > fake_logits[:num]).float()
    else:
        right = torch.cat([real_logits > loss.boundary, fake_logits < loss.boundary]).float()
    stats = {"real_logit": real_logits.mean(), "fake_logit": fake_logits.mean(), "accuracy": right.mean()}
    for name, logits in (("real_probability", real_logits), ("fake_probability", fake_logits)):
        if loss.probability is None:
            stats[name] = torch.full((), torch.nan, device=logits.device)
        else:
            stats[name] = loss.probability(logits).mean()
    return stats


def minimax_discriminator(real_logits: Tensor, fake_logits: Tensor, smoothing: float = 0.0) -> Tensor:
    """−(1−s) log σ(r) − s log(1−σ(r)) − log(1−σ(f)): arXiv:1406.2661, Eq. 1; with smoothing s: arXiv:1606.03498."""
    return F.softplus(-real_logits) + smoothing * real_logits + F.softplus(fake_logits)


def minimax_generator(_: Tensor, fake_logits: Tensor) -> Tensor:
    """log(1−σ(f)): arXiv:1406.2661, Eq. 1; flat where D is sure that f is generated."""
    return -F.softplus(fake_logits)


def non_saturating_generator(_: Tensor, fake_logits: Tensor) -> Tensor:
    """−log σ(f): arXiv:1406.2661, section 3."""
    return F.softplus(-fake_logits)


def least_squares_discriminator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """½(r−1)² + ½f²: arXiv:1611.04076, Eq. 2 with a = 0, b = 1."""
    return 0.5 * ((real_logits - 1).square() + fake_logits.square())


def least_squares_generator(_: Tensor, fake_logits: Tensor) -> Tensor:
    """½(f−1)²: arXiv:1611.04076, Eq. 2 with c = 1."""
    return 0.5 * (fake_logits - 1).square()


def wasserstein_discriminator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """f − r: arXiv:1701.07875, Eq. 3; its negative is the estimate of the distance."""
    return fake_logits - real_logits


def wasserstein_generator(_: Tensor, fake_logits: Tensor) -> Tensor:
    """−f: arXiv:1701.07875; also the generator's side of hinge (arXiv:1802.05957, Eq. 17) and of energies."""
    return -fake_logits


def hinge_discriminator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """max(0, 1−r) + max(0, 1+f): arXiv:1705.02894; arXiv:1802.05957, Eq. 16."""
    return F.relu(1 - real_logits) + F.relu(1 + fake_logits)


def energy_discriminator(real_logits: Tensor, fake_logits: Tensor, margin: float) -> Tensor:
    """E(x) + max(0, m − E(G(z))), where a logit is minus an energy E ≥ 0: arXiv:1609.03126, Eq. 1."""
    return F.relu(margin + fake_logits) - real_logits


def relativistic_discriminator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """softplus(f − r), real and generated samples in pairs: arXiv:1807.00734; arXiv:2501.05441, Eq. 2."""
    return F.softplus(fake_logits - real_logits)


def relativistic_generator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """softplus(r − f): arXiv:1807.00734; arXiv:2501.05441, Eq. 2."""
    return F.softplus(real_logits - fake_logits)


def relativistic_average_discriminator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """softplus(−(r − mean f)) + softplus(f − mean r): arXiv:1807.00734, section 4.2, the means over the batch."""
    return F.softplus(fake_logits.mean(0) - real_logits) + F.softplus(fake_logits - real_logits.mean(0))


def relativistic_average_generator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """softplus(r − mean f) + softplus(−(f − mean r)): arXiv:1807.00734, section 4.2, the means over the batch."""
    return F.softplus(real_logits - fake_logits.mean(0)) + F.softplus(real_logits.mean(0) - fake_logits)
