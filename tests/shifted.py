"""A custom loop of a generator whose images have a weight as their mean."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from equipoise.watch.watch import Watch

LATENTS = 4


class Shifted(nn.Module):
    """Latents to 8×8 images whose mean is a weight."""

    def __init__(self, mean: float = 0.0) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.tensor(mean))

    def forward(self, latents: Tensor) -> Tensor:
        return (self.mean + 0.2 * latents.repeat(1, 16).view(-1, 1, 8, 8)).clamp(-1, 1)


def opened(path: Path, real: Any, **options: Any) -> Watch:
    """Return a watch that evaluates by 100 generated images."""
    given: dict[str, Any] = {"latents": LATENTS, "log_every": 10, "say": None, "policy": "budget"}
    given["settings"] = ["evaluation.num_samples=100"]
    return Watch(path, real=real, **(given | options))
