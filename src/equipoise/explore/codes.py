"""How well pictures tell the codes of their latents (arXiv:1606.03657)."""

import torch
from torch import Tensor

from equipoise.tasks.image_groups import directions


def share_told(features: Tensor, categories: Tensor) -> float:
    """Return the share of pictures whose category is that of the nearest mean, of features [N, D] and int64 [N].

    The means are of the first half of the pictures, and the share is of the second half.
    """
    half = len(features) // 2
    known = categories[:half].unique()
    means = torch.stack([features[:half][categories[:half] == category].mean(0) for category in known])
    nearest = torch.cdist(features[half:], means).argmin(1)
    return float((known[nearest] == categories[half:]).float().mean())


def variance_told(features: Tensor, numbers: Tensor) -> Tensor:
    """Return R² [M] of numbers [N, M], each as a linear function of the principal components of features [N, D].

    The function is fitted to the first half of the pictures, and R² is of the second half: 0 or below where the
    pictures tell nothing.
    """
    half = len(features) // 2
    seen = features.double() - features[:half].double().mean(0)
    seen = seen @ directions(seen[:half])
    seen = torch.cat([seen, torch.ones_like(seen[:, :1])], 1)
    numbers = numbers.double()
    weights = torch.linalg.lstsq(seen[:half], numbers[:half], driver="gelsd").solution
    missed = (numbers[half:] - seen[half:] @ weights).square().mean(0)
    return 1 - missed / numbers[half:].var(0, correction=0).clamp(min=1e-12)
