"""Truncation: latents that are kept near the middle give plainer pictures, and fewer kinds of them."""

import math

import torch
from torch import Tensor

from equipoise.errors import Option, UserError
from equipoise.randomness import Randomness


def pulled(codes: Tensor, centre: Tensor, share: float) -> Tensor:
    """Return codes [N, W] pulled towards their centre [W]: c + ψ (w − c) (arXiv:1812.04948, appendix B)."""
    return centre + share * (codes - centre)


def truncated_normal(latents: Tensor, threshold: float, randomness: Randomness) -> Tensor:
    """Return normal latents [N, Z] of which each number beyond ± a threshold is drawn anew (arXiv:1809.11096, 3.1).

    It is drawn by the inverse of the truncated distribution, √2 erf⁻¹(u erf(t / √2)) of a uniform u between −1 and 1.
    Raises UserError unless the threshold is more than 0.
    """
    if not threshold > 0:
        raise UserError(Option("threshold", threshold), "allowed is a number above 0", Option("threshold", 1.0))
    beyond = latents.abs() > threshold
    uniform = 2 * torch.rand(int(beyond.sum()), generator=randomness.generator("truncation"), dtype=torch.float64) - 1
    drawn = math.sqrt(2) * torch.erfinv(uniform * math.erf(threshold / math.sqrt(2)))
    found = latents.clone()
    found[beyond] = drawn.clamp(-threshold, threshold).to(latents)
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
