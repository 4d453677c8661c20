"""Each sample beside the mean of the other side (arXiv:1807.00734)."""

import torch.nn.functional as F
from torch import Tensor

from equipoise.game.loss import Loss


def loss(smoothing: float, margin: float) -> Loss:
    """Return the loss."""
    return Loss(relativistic_average_discriminator, relativistic_average_generator, uses_real=True)


def relativistic_average_discriminator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """softplus(−(r − mean f)) + softplus(f − mean r): arXiv:1807.00734, section 4.2, the means over the batch."""
    return F.softplus(fake_logits.mean(0) - real_logits) + F.softplus(fake_logits - real_logits.mean(0))


def relativistic_average_generator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """softplus(r − mean f) + softplus(−(f − mean r)): arXiv:1807.00734, section 4.2, the means over the batch."""
    return F.softplus(real_logits - fake_logits.mean(0)) + F.softplus(real_logits.mean(0) - fake_logits)
