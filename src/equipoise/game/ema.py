"""The exponential moving average of the generator's weights, its half-life counted in samples (arXiv:1710.10196)."""

from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

WARM_UP = 0.05  # the half-life is at most this share of the samples seen


def ema_decay(batch: int, half_life: float, samples: int) -> float:
    """Return β = 0.5^(batch / half-life) for one update after `samples` real samples were shown to D.

    The half-life grows with `samples` at first, so that the average forgets the initial weights (arXiv:2006.06676);
    a half-life of 0 gives 0, a plain copy.
    """
    half_life = min(half_life, WARM_UP * samples)
    return 0.5 ** (batch / half_life) if half_life > 0 else 0.0


@torch.no_grad()
def update_ema(average: nn.Module, module: nn.Module, decay: float) -> None:
    """Set average ← decay · average + (1 − decay) · module in place; buffers are copied.

    Singular vectors of a spectral norm are those of the averaged weights: each call is one power iteration for them.
    """
    for mean, value in zip(average.parameters(), module.parameters(), strict=True):
        mean.lerp_(value, 1 - decay)
    for (name, mean), value in zip(average.named_buffers(), module.buffers(), strict=True):
        if "parametrizations" not in name.split("."):
            mean.copy_(value)
    for layer in average.modules():
        if parametrize.is_parametrized(layer, "weight"):
            normed: Any = layer.parametrizations
            normed.weight.train()
            normed.weight()
            normed.weight.eval()
