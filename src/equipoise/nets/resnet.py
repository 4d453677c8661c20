"""Residual networks as in spectrally normalised GANs (arXiv:1802.05957, appendix B.4).

The width dial is the channels at the highest resolution, doubled at each halving up to 8 · width.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equipoise.nets.layers import (
    ConditionalBatchNorm,
    LabelledLatents,
    MinibatchDeviation,
    NormName,
    ProjectionHead,
    add_spectral_norm,
    crop,
    halved,
    make_norm,
    packed,
    resolutions,
    stage_channels,
)
from equipoise.sizes import GivenSize, Size


class ResNetGenerator(nn.Module):
    """Latents [N, Z], labels [N] → images [N, C, H, W] in (-1, 1); labels act through batch norms, if any."""

    def __init__(
        self,
        *,
        size: GivenSize,
        channels: int,
        num_classes: int,
        latent_size: int,
        width: int,
        norm: NormName = "batch",
    ):
        super().__init__()
        lowest, *sizes = reversed(resolutions(size))
        hidden = stage_channels(width, len(sizes) + 1)[::-1]
        norm_classes = num_classes if norm == "batch" else 0
        self.inputs = LabelledLatents(latent_size, num_classes - norm_classes)
        self.linear = nn.Linear(self.inputs.size, hidden[0] * lowest.pixels)
        self.shape = (hidden[0], lowest.height, lowest.width)
        self.blocks = nn.ModuleList(
            GeneratorBlock(low, high, size, norm, norm_classes)
            for (low, high), size in zip(pairwise(hidden), sizes, strict=True)
        )
        self.norm = _GeneratorNorm(hidden[-1], norm, norm_classes)
        self.to_pixels = nn.Conv2d(hidden[-1], channels, 3, padding=1)
        initialise(self)

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        features = self.linear(self.inputs(latents, labels)).unflatten(1, self.shape)
        for block in self.blocks:
            features = block(features, labels)
        return torch.tanh(self.to_pixels(F.relu(self.norm(features, labels))))


class GeneratorBlock(nn.Module):
    """[N, low, h, w] → [N, high, H, W] of `size`: nearest-neighbour doubling, then two 3×3 convolutions."""

    def __init__(self, low: int, high: int, size: Size, norm: NormName, num_classes: int):
        super().__init__()
        self.norm1 = _GeneratorNorm(low, norm, num_classes)
        self.conv1 = nn.Conv2d(low, high, 3, padding=1)
        self.norm2 = _GeneratorNorm(high, norm, num_classes)
        self.conv2 = nn.Conv2d(high, high, 3, padding=1)
        self.shortcut = nn.Conv2d(low, high, 1)
        self.size = size

    def forward(self, features: Tensor, labels: Tensor | None) -> Tensor:
        residual = self.conv1(self._doubled(F.relu(self.norm1(features, labels))))
        residual = self.conv2(F.relu(self.norm2(residual, labels)))
        return self._doubled(self.shortcut(features)) + residual  # a 1×1 convolution is cheaper before doubling

    def _doubled(self, features: Tensor) -> Tensor:
        return crop(F.interpolate(features, scale_factor=2, mode="nearest"), self.size)


class ResNetDiscriminator(nn.Module):
    """Images [N, C, H, W], labels [N] → logits [N], one for each pack; features are summed over the last positions."""

    def __init__(
        self,
        *,
        size: GivenSize,
        channels: int,
        num_classes: int,
        width: int,
        norm: NormName = "none",
        spectral_norm: bool = False,
        dropout: float = 0.0,
        packing: int = 1,
        minibatch_deviation: bool = False,
    ):
        super().__init__()
        hidden = stage_channels(width, len(resolutions(size)) - 1)
        self.packing = packing
        self.blocks = nn.ModuleList([DiscriminatorBlock(packing * channels, hidden[0], "none", dropout, first=True)])
        for before, after in pairwise(hidden):
            self.blocks.append(DiscriminatorBlock(before, after, norm, dropout))
        num_last = hidden[-1]
        if minibatch_deviation:
            self.blocks.append(MinibatchDeviation())
            num_last += 1
        self.blocks.append(DiscriminatorBlock(num_last, hidden[-1], norm, dropout, halve=False))
        self.head = ProjectionHead(hidden[-1], num_classes)
        initialise(self)
        if spectral_norm:
            add_spectral_norm(self)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        features = packed(images, self.packing)
        for block in self.blocks:
            features = block(features)
        return self.head(F.relu(features).sum(dim=(2, 3)), labels)


class DiscriminatorBlock(nn.Module):
    """[N, before, H, W] → [N, after, H/2, W/2]: two 3×3 convolutions, then 2×2 averages.

    The first block sees pixels, so nothing comes before its first convolution.
    """

    def __init__(
        self, before: int, after: int, norm: NormName, dropout: float, *, first: bool = False, halve: bool = True
    ):
        super().__init__()
        self.enter = nn.Identity() if first else nn.Sequential(make_norm(norm, before), nn.ReLU())
        self.residual = nn.Sequential(
            nn.Conv2d(before, after, 3, padding=1),
            make_norm(norm, after),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Conv2d(after, after, 3, padding=1),
        )
        self.shortcut = nn.Conv2d(before, after, 1) if halve or before != after else nn.Identity()
        self.halve = halve

    def forward(self, features: Tensor) -> Tensor:
        residual = self.residual(self.enter(features))
        if not self.halve:
            return self.shortcut(features) + residual
        return self.shortcut(halved(features)) + halved(residual)  # averages and a 1×1 convolution commute


def initialise(network: nn.Module) -> None:
    """Draw weights from Glorot's uniform, √2 wider in 3×3 convolutions, as in the paper; biases are 0."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            is_residual = isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3)
            gain = 2**0.5 if is_residual else 1.0
            nn.init.xavier_uniform_(layer.weight, gain)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class _GeneratorNorm(nn.Module):
    """Batch norm, class-conditional with classes, or nothing."""

    def __init__(self, channels: int, norm: NormName, num_classes: int):
        super().__init__()
        self.norm = ConditionalBatchNorm(channels, num_classes) if norm == "batch" else None

    def forward(self, features: Tensor, labels: Tensor | None) -> Tensor:
        return features if self.norm is None else self.norm(features, labels)
