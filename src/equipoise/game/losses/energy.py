"""Energies of an autoencoder, with a margin (arXiv:1609.03126)."""

from functools import partial

import torch.nn.functional as F
from torch import Tensor

from equipoise.game.loss import Loss
from equipoise.game.losses.wasserstein import wasserstein_generator


def loss(smoothing: float, margin: float) -> Loss:
    """Return the loss."""
    return Loss(partial(energy_discriminator, margin=margin), wasserstein_generator)


def energy_discriminator(real_logits: Tensor, fake_logits: Tensor, margin: float) -> Tensor:
    """E(x) + max(0, m − E(G(z))), where a logit is minus an energy E ≥ 0: arXiv:1609.03126, Eq. 1."""
    return F.relu(margin + fake_logits) - real_logits
