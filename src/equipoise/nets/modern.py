"""A plain modern baseline after R3GAN (arXiv:2501.05441, section 4): no normalisation, fix-up initialisation.

Blocks are 1×1 expand → grouped 3×3 → 1×1 project around a leaky ReLU, from half the image's size downwards;
the paper's blocks begin at the full size, behind a 1×1 convolution. A 4×4 convolution of stride 2 next to the
pixels instead makes a step half as dear at twice the channels. The width dial is the channels at half the
image's size, doubled at each further halving up to 8 · width.
"""

import math
from itertools import pairwise
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equipoise.nets.grouped import GroupedConv2d
from equipoise.nets.growing import Level
from equipoise.nets.layers import (
    SLOPE,
    LabelledLatents,
    MinibatchDeviation,
    ProjectionHead,
    crop,
    evened,
    halved,
    packed,
    stage_channels,
)
from equipoise.sizes import GivenSize, resolutions

Layer = TypeVar("Layer", nn.Conv2d, nn.ConvTranspose2d, nn.Linear)

BLOCKS_PER_STAGE = 2
EXPANSION = 2  # inner channels of a block per outer channel
GROUP_SIZE = 16  # channels a 3×3 convolution mixes


class ModernGenerator(nn.Module):
    """Latents [N, Z], labels [N] → images [N, C, H, W]; a linear output, so values may leave [-1, 1]."""

    def __init__(
        self, *, size: GivenSize, channels: int, num_classes: int, latent_size: int, width: int, growing: int = 0
    ):
        super().__init__()
        lowest, *self.sizes = reversed(resolutions(size))
        hidden = stage_channels(width, len(self.sizes))[::-1]
        num_blocks = BLOCKS_PER_STAGE * len(hidden)
        self.inputs = LabelledLatents(latent_size, num_classes)
        self.basis = nn.Parameter(torch.randn(hidden[0], lowest.height, lowest.width))
        self.modulate = scaled(nn.Linear(self.inputs.size, hidden[0]))
        self.stages = nn.ModuleList(make_stage(stage, num_blocks) for stage in hidden)
        self.transitions = nn.ModuleList(make_transition(low, high) for low, high in pairwise(hidden))
        self.to_pixels = make_pixel_layer(hidden[-1], channels)
        self.level = Level(len(hidden), growing)
        self.exits = nn.ModuleList()  # the pictures of lower stages
        if growing:
            self.exits.extend(make_pixel_layer(before, channels) for before in hidden[:-1])

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        features = self.basis * self.modulate(self.inputs(latents, labels))[:, :, None, None]
        return self.level.pictured(self.stages[0](features), self._higher, self._picture)

    def _higher(self, stage: int, features: Tensor) -> Tensor:
        # The 1×1 convolution commutes with resampling, and is four times cheaper before doubling.
        features = self.transitions[stage - 1](features)
        doubled = F.interpolate(features, scale_factor=2, mode="bilinear", align_corners=False)
        return self.stages[stage](crop(doubled, self.sizes[stage - 1]))

    def _picture(self, stage: int, features: Tensor) -> Tensor:
        layer = self.to_pixels if stage == self.level.top else self.exits[stage]
        return crop(layer(features), self.sizes[stage])


class ModernDiscriminator(nn.Module):
    """Images [N, C, H, W], labels [N] → logits [N], one for each pack of images."""

    def __init__(
        self,
        *,
        size: GivenSize,
        channels: int,
        num_classes: int,
        width: int,
        dropout: float = 0.0,
        packing: int = 1,
        minibatch_deviation: bool = False,
        growing: int = 0,
    ):
        super().__init__()
        *higher, lowest = resolutions(size)
        hidden = stage_channels(width, len(higher))
        num_blocks = BLOCKS_PER_STAGE * len(hidden)
        self.packing = packing
        self.from_pixels = scaled(nn.Conv2d(packing * channels, hidden[0], 4, stride=2, padding=1))
        self.stages = nn.ModuleList(make_stage(stage, num_blocks, dropout) for stage in hidden)
        self.transitions = nn.ModuleList(make_transition(high, low) for high, low in pairwise(hidden))
        self.differ = make_comparison(hidden[-1]) if minibatch_deviation else nn.Identity()
        self.basis = scaled(
            nn.Conv2d(hidden[-1], hidden[-1], (lowest.height, lowest.width), groups=hidden[-1], bias=False)
        )
        self.head = ProjectionHead(hidden[-1], num_classes)
        scaled(self.head.linear)
        self.level = Level(len(hidden), growing)
        self.entries = nn.ModuleList()  # what sees the pixels of lower stages
        if growing:
            sees = packing * channels
            self.entries.extend(scaled(nn.Conv2d(sees, after, 4, stride=2, padding=1)) for after in hidden[1:])

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        features = self.level.judged(packed(images, self.packing), self._entry, self._lower)
        features = self.stages[-1](self.differ(features))
        # Each channel by its own weights: a sum, as a convolution of as many groups would be differentiated in a loop.
        pooled = (features * self.basis.weight[:, 0]).sum((2, 3))
        return self.head(pooled, labels)

    def _entry(self, stage: int, images: Tensor) -> Tensor:
        return (self.entries[stage - 1] if stage else self.from_pixels)(evened(images))

    def _lower(self, stage: int, features: Tensor) -> Tensor:
        return self.transitions[stage - 1](halved(self.stages[stage - 1](features)))


class ResidualBlock(nn.Module):
    """[N, C, H, W] → the same; the identity at first, as its last layer starts at zero (arXiv:1901.09321)."""

    def __init__(self, channels: int, num_blocks: int, dropout: float = 0.0):
        super().__init__()
        inner = EXPANSION * channels
        # Fix-up: with m = 3 layers a block and L blocks, all but the last are scaled by L^(-1/(2m-2)).
        gain = nn.init.calculate_gain("leaky_relu", SLOPE) * num_blocks**-0.25
        self.expand = scaled(nn.Conv2d(channels, inner, 1), gain)
        self.mix = scaled(GroupedConv2d(inner, inner, 3, padding=1, groups=num_groups(inner)), gain)
        self.dropout = nn.Dropout(dropout)
        self.project = scaled(nn.Conv2d(inner, channels, 1, bias=False), 0.0)

    def forward(self, features: Tensor) -> Tensor:
        inner = F.leaky_relu(self.expand(features), SLOPE)
        inner = F.leaky_relu(self.mix(inner), SLOPE)
        return features + self.project(self.dropout(inner))


def make_stage(channels: int, num_blocks: int, dropout: float = 0.0) -> nn.Sequential:
    """Return the blocks of one resolution; `num_blocks` counts those of the whole network."""
    return nn.Sequential(*(ResidualBlock(channels, num_blocks, dropout) for _ in range(BLOCKS_PER_STAGE)))


def make_transition(before: int, after: int) -> nn.Module:
    """Return the change of channels between two resolutions."""
    return nn.Identity() if before == after else scaled(nn.Conv2d(before, after, 1, bias=False))


def make_comparison(channels: int) -> nn.Module:
    """Return the minibatch's deviation as a channel that is mixed into the others, before the last stage."""
    return nn.Sequential(MinibatchDeviation(), scaled(nn.Conv2d(channels + 1, channels, 1, bias=False)))


def make_pixel_layer(before: int, channels: int) -> nn.ConvTranspose2d:
    """Return the last doubling, to the pixels, each of which is reached from 2×2 positions."""
    return scaled(nn.ConvTranspose2d(before, channels, 4, stride=2, padding=1), fan_in=4 * before)


def num_groups(channels: int) -> int:
    """Return the number of groups of a 3×3 convolution: of 16 channels, or the next smaller divisor."""
    return channels // max(size for size in range(1, GROUP_SIZE + 1) if channels % size == 0)


def scaled(layer: Layer, gain: float = 1.0, fan_in: int | None = None) -> Layer:
    """Draw the weight from N(0, gain² / fan-in), so that variance is kept for gain 1; the bias is 0."""
    nn.init.normal_(layer.weight, std=gain / math.sqrt(fan_in or layer.weight[0].numel()))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
