"""Cross-entropy; the generator raises the probability that its samples are taken for real (arXiv:1406.2661)."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from equipoise.game.loss import Loss
from equipoise.game.losses.minimax import minimax_discriminator


def loss(smoothing: float, margin: float) -> Loss:
    """Return the loss."""
    return Loss(partial(minimax_discriminator, smoothing=smoothing), non_saturating_generator, 0.0, torch.sigmoid)


def non_saturating_generator(_: Tensor, fake_logits: Tensor) -> Tensor:
    """−log σ(f): arXiv:1406.2661, section 3."""
    return F.softplus(-fake_logits)
