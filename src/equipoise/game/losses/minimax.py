"""Cross-entropy; the generator lowers what the discriminator wins (arXiv:1406.2661, Eq. 1)."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from equipoise.game.loss import Loss


def loss(smoothing: float, margin: float) -> Loss:
    """Return the loss."""
    return Loss(partial(minimax_discriminator, smoothing=smoothing), minimax_generator, 0.0, torch.sigmoid)


def minimax_discriminator(real_logits: Tensor, fake_logits: Tensor, smoothing: float = 0.0) -> Tensor:
    """−(1−s) log σ(r) − s log(1−σ(r)) − log(1−σ(f)): arXiv:1406.2661, Eq. 1; with smoothing s: arXiv:1606.03498."""
    return F.softplus(-real_logits) + smoothing * real_logits + F.softplus(fake_logits)


def minimax_generator(_: Tensor, fake_logits: Tensor) -> Tensor:
    """log(1−σ(f)): arXiv:1406.2661, Eq. 1; flat where D is sure that f is generated."""
    return -F.softplus(fake_logits)
