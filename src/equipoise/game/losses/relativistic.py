"""Real and generated samples in pairs (arXiv:1807.00734, arXiv:2501.05441)."""

import torch.nn.functional as F
from torch import Tensor

from equipoise.game.loss import Loss


def loss(smoothing: float, margin: float) -> Loss:
    """Return the loss."""
    return Loss(relativistic_discriminator, relativistic_generator, uses_real=True)


def relativistic_discriminator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """softplus(f − r), real and generated samples in pairs: arXiv:1807.00734; arXiv:2501.05441, Eq. 2."""
    return F.softplus(fake_logits - real_logits)


def relativistic_generator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """softplus(r − f): arXiv:1807.00734; arXiv:2501.05441, Eq. 2."""
    return F.softplus(real_logits - fake_logits)
