"""Least squares: gradients that do not vanish far away (arXiv:1611.04076)."""

from functools import partial

import torch
from torch import Tensor

from equipoise.game.loss import Loss


def loss(smoothing: float, margin: float) -> Loss:
    """Return the loss."""
    return Loss(least_squares_discriminator, least_squares_generator, 0.5, partial(torch.clamp, min=0, max=1))


def least_squares_discriminator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """½(r−1)² + ½f²: arXiv:1611.04076, Eq. 2 with a = 0, b = 1."""
    return 0.5 * ((real_logits - 1).square() + fake_logits.square())


def least_squares_generator(_: Tensor, fake_logits: Tensor) -> Tensor:
    """½(f−1)²: arXiv:1611.04076, Eq. 2 with c = 1."""
    return 0.5 * (fake_logits - 1).square()
