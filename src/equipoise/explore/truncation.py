"""Truncation: latents that are kept near the middle give plainer pictures, and fewer kinds of them."""

import torch
from torch import Tensor

from equipoise.randomness import Randomness


def pulled(codes: Tensor, centre: Tensor, share: float) -> Tensor:
    """Return codes [N, W] pulled towards their centre [W]: c + ψ (w − c) (arXiv:1812.04948, appendix B)."""
    return centre + share * (codes - centre)


def truncated_normal(latents: Tensor, threshold: float, randomness: Randomness) -> Tensor:
    """Return normal latents [N, Z] of which each number beyond ± a threshold is drawn anew (arXiv:1809.11096, 3.1)."""
    found = latents.clone()
    generator = randomness.generator("truncation")
    while (beyond := found.abs() > threshold).any():
        found[beyond] = torch.randn(int(beyond.sum()), generator=generator)
    return found


def variety(images: Tensor) -> float:
    """Return the mean distance of two of the images [N, C, H, W], N at least 2: the root of the mean squared one."""
    flat = images.flatten(1)
    return float((2 * flat.var(0).mean()).sqrt())
