"""The hinge loss (arXiv:1705.02894, arXiv:1802.05957)."""

import torch.nn.functional as F
from torch import Tensor

from equipoise.game.loss import Loss
from equipoise.game.losses.wasserstein import wasserstein_generator


def loss(smoothing: float, margin: float) -> Loss:
    """Return the loss."""
    return Loss(hinge_discriminator, wasserstein_generator, 0.0)


def hinge_discriminator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """max(0, 1−r) + max(0, 1+f): arXiv:1705.02894; arXiv:1802.05957, Eq. 16."""
    return F.relu(1 - real_logits) + F.relu(1 + fake_logits)
