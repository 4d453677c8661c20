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


def variety(images: Tensor, labels: Tensor | None = None) -> float:
    """Return the root mean squared distance of two of N images [N, C, H, W]; with labels, of two of the same one.

    0 where no two are of the same label.
    """
    flat = images.flatten(1)
    if labels is None:
        return float((2 * flat.var(0).mean()).sqrt())
    _, places = labels.unique(dim=0, return_inverse=True)
    parts = [flat[places == place] for place in range(int(places.max()) + 1)]
    spreads = [2 * part.var(0).mean() for part in parts if len(part) > 1]
    return float(torch.stack(spreads).mean().sqrt()) if spreads else 0.0
