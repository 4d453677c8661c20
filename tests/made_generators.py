"""Generators whose latents are known: for the tests of what is found out about trained ones."""

from typing import Any

import torch
from torch import Tensor, nn

SIDE = 4  # pixels of their images


class Linear(nn.Module):
    """Latents [N, Z] → images [N, 1, 4, 4]: a matrix, small enough that no image leaves [-1, 1]."""

    def __init__(self, matrix: Tensor):
        super().__init__()
        self.layer = nn.Linear(matrix.shape[1], matrix.shape[0])
        self.layer.load_state_dict({"weight": matrix, "bias": torch.zeros(len(matrix))})

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.layer(latents).view(-1, 1, SIDE, SIDE)


class Mapped(nn.Module):
    """Latents [N, Z] → codes [N, W] by a mapping network → images; the layers never see the latents."""

    def __init__(self, latent_size: int = 6, width: int = 5):
        super().__init__()
        self.mapping = nn.Sequential(nn.Linear(latent_size, width), nn.LeakyReLU(0.2), nn.Linear(width, width))
        self.first = nn.Linear(width, 8)
        self.second = nn.Linear(width, SIDE * SIDE)

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        codes = self.mapping(latents / latents.square().mean(1, keepdim=True).sqrt())
        scale = torch.sigmoid(self.first(codes)).repeat(1, 2)
        return torch.tanh(0.3 * scale * self.second(codes)).view(-1, 1, SIDE, SIDE)


class Split(nn.Module):
    """Latents [N, 6] of which each half enters a layer of its own, as in BigGAN."""

    def __init__(self):
        super().__init__()
        self.low = nn.Linear(3, 16, bias=False)
        self.high = nn.Linear(3, 16)

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        first, second = latents.split(3, dim=1)
        return torch.tanh(self.low(first).relu() * self.high(second)).view(-1, 1, SIDE, SIDE)


class Coded(nn.Module):
    """Latents [N, 6] of which the first two become a code, as in InfoGAN, and the others enter as they are."""

    def __init__(self):
        super().__init__()
        self.own = nn.Sequential(nn.Linear(6, 16), nn.Tanh())

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.own(torch.cat([latents[:, :2].sign(), latents[:, 2:]], dim=1)).view(-1, 1, SIDE, SIDE)


class Bent(nn.Module):
    """Latents that are squared before any layer sees them."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 16)

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.layer(latents.square()).view(-1, 1, SIDE, SIDE)


def ready(generator: nn.Module) -> Any:
    """Return a generator as a run's best one is: in evaluation mode, without gradients."""
    return generator.eval().requires_grad_(False)
