"""What a loss is: two functions from logits to per-sample values, and what the logits mean under it."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

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
