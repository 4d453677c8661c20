"""Wasserstein distance, by its dual (arXiv:1701.07875)."""

from torch import Tensor

from equipoise.game.loss import Loss


def loss(smoothing: float, margin: float) -> Loss:
    """Return the loss."""
    return Loss(wasserstein_discriminator, wasserstein_generator)


def wasserstein_discriminator(real_logits: Tensor, fake_logits: Tensor) -> Tensor:
    """f − r: arXiv:1701.07875, Eq. 3; its negative is the estimate of the distance."""
    return fake_logits - real_logits


def wasserstein_generator(_: Tensor, fake_logits: Tensor) -> Tensor:
    """−f: arXiv:1701.07875; also the generator's side of hinge (arXiv:1802.05957, Eq. 17) and of energies."""
    return -fake_logits
