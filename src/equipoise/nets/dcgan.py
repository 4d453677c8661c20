"""Deep convolutional networks of 4×4 kernels and stride 2 (arXiv:1511.06434).

The width dial is the channels next to the pixels, doubled at each further halving up to 8 · width:
width 64 gives the classic 512-256-128-64 at 64×64.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from equipoise.nets.attention import SelfAttention, attended_place
from equipoise.nets.growing import Level
from equipoise.nets.layers import (
    SLOPE,
    LabelledLatents,
    MinibatchDeviation,
    NormName,
    ProjectionHead,
    Smooth,
    add_spectral_norm,
    crop,
    evened,
    make_norm,
    packed,
    stage_channels,
)
from equipoise.sizes import GivenSize, resolutions


class DCGANGenerator(nn.Module):
    """Latents [N, Z], labels [N] → images [N, C, H, W] in (-1, 1)."""

    def __init__(
        self,
        *,
        size: GivenSize,
        channels: int,
        num_classes: int,
        latent_size: int,
        width: int,
        norm: NormName = "batch",
        smooth: bool = False,
        attention: int = 0,
        growing: int = 0,
    ):
        super().__init__()
        lowest, *self.sizes = reversed(resolutions(size))
        hidden = stage_channels(width, len(self.sizes))[::-1]
        self.inputs = LabelledLatents(latent_size, num_classes)
        has_bias = norm == "none"
        project = nn.ConvTranspose2d(self.inputs.size, hidden[0], (lowest.height, lowest.width), bias=has_bias)
        self.project = _hidden_layer(project, norm)
        self.upwards = nn.ModuleList(
            _hidden_layer(nn.ConvTranspose2d(low, high, 4, 2, 1, bias=has_bias), norm, smooth)
            for low, high in pairwise(hidden)
        )
        self.upwards.append(_pixel_layer(hidden[-1], channels, smooth))
        self.level = Level(len(self.sizes), growing)
        self.exits = nn.ModuleList()  # the pictures of lower stages
        if growing:
            self.exits.extend(_pixel_layer(before, channels, smooth) for before in hidden[:-1])
        place = attended_place(size, attention)
        self.attended = None if place is None else len(hidden) - place
        self.attention = None if place is None else SelfAttention(hidden[-place])  # hidden: from the lowest
        initialise(self, norm)

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        features = self.project(self.inputs(latents, labels)[:, :, None, None])
        return self.level.pictured(self._attend(0, features), self._higher, self._picture)

    def _higher(self, stage: int, features: Tensor) -> Tensor:
        return self._attend(stage, crop(self.upwards[stage - 1](features), self.sizes[stage - 1]))

    def _picture(self, stage: int, features: Tensor) -> Tensor:
        layer = self.upwards[-1] if stage == self.level.top else self.exits[stage]
        return torch.tanh(crop(layer(features), self.sizes[stage]))

    def _attend(self, stage: int, features: Tensor) -> Tensor:
        return self.attention(features) if self.attention is not None and stage == self.attended else features


class DCGANDiscriminator(nn.Module):
    """Images [N, C, H, W], labels [N] → logits [N], one for each pack of images."""

    def __init__(
        self,
        *,
        size: GivenSize,
        channels: int,
        num_classes: int,
        width: int,
        norm: NormName = "batch",
        spectral_norm: bool = False,
        dropout: float = 0.0,
        packing: int = 1,
        minibatch_deviation: bool = False,
        attention: int = 0,
        growing: int = 0,
    ):
        super().__init__()
        *higher, lowest = resolutions(size)
        hidden = stage_channels(width, len(higher))
        self.downwards = nn.ModuleList()
        self.packing = packing
        last = len(hidden) - 1
        for index, (before, after) in enumerate(pairwise([packing * channels, *hidden])):
            layer_norm: NormName = norm if index else "none"  # the pixels' statistics are what D judges
            compares = minibatch_deviation and index == last
            self.downwards.append(_halving_layer(before, after, layer_norm, dropout, compares))
        self.level = Level(len(hidden), growing)
        self.entries = nn.ModuleList()  # what sees the pixels of lower stages
        for index, after in enumerate(hidden):
            if growing and index:
                compares = minibatch_deviation and index == last
                self.entries.append(_halving_layer(packing * channels, after, "none", dropout, compares))
        place = attended_place(size, attention)
        self.attended = None if place is None else place - 1
        self.attention = None if place is None else SelfAttention(hidden[place - 1])
        self.head = ProjectionHead(hidden[-1] * lowest.pixels, num_classes)
        initialise(self, norm)
        if spectral_norm:
            add_spectral_norm(self)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        features = self.level.judged(packed(images, self.packing), self._entry, self._lower)
        return self.head(features.flatten(1), labels)

    def _entry(self, stage: int, images: Tensor) -> Tensor:
        layer = self.entries[stage - 1] if stage else self.downwards[0]
        return self._attend(stage, layer(evened(images)))

    def _lower(self, stage: int, features: Tensor) -> Tensor:
        return self._attend(stage, self.downwards[stage](evened(features)))

    def _attend(self, stage: int, features: Tensor) -> Tensor:
        return self.attention(features) if self.attention is not None and stage == self.attended else features


def initialise(network: nn.Module, norm: NormName) -> None:
    """Draw weights from N(0, 0.02) and norms' gains from N(1, 0.02), as the paper does; biases are 0.

    Without norms nothing makes up for what so small weights shrink, so that variance is kept by scaling with
    the fan-in instead (arXiv:1502.01852, Eq. 15).
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            std = 0.02
            if norm == "none":
                std = math.sqrt(2 / (1 + SLOPE**2) / _fan_in(layer))
            nn.init.normal_(layer.weight, std=std)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d | nn.GroupNorm):
            nn.init.normal_(layer.weight, mean=1.0, std=0.02)
            nn.init.zeros_(layer.bias)


def _fan_in(layer: nn.Conv2d | nn.ConvTranspose2d | nn.Linear) -> float:
    """Return how many inputs reach one output: s² times fewer in a transposed convolution of stride s."""
    if isinstance(layer, nn.ConvTranspose2d):
        if layer.stride[0] == 1:
            return layer.in_channels
        return layer.in_channels * layer.weight[0, 0].numel() / (layer.stride[0] * layer.stride[1])
    return layer.weight[0].numel()


def _pixel_layer(before: int, channels: int, smooth: bool) -> nn.Module:
    layer = nn.ConvTranspose2d(before, channels, 4, 2, 1)
    return nn.Sequential(layer, Smooth()) if smooth else layer


def _halving_layer(before: int, after: int, norm: NormName, dropout: float, compares: bool) -> nn.Sequential:
    """Return a layer that halves its input, and, if it compares, also sees how much the samples of a batch differ."""
    deviation = [MinibatchDeviation()] if compares else []
    convolution = nn.Conv2d(before + compares, after, 4, 2, 1, bias=norm == "none")
    return nn.Sequential(*deviation, convolution, make_norm(norm, after), nn.LeakyReLU(SLOPE), nn.Dropout(dropout))


def _hidden_layer(convolution: nn.ConvTranspose2d, norm: NormName, smooth: bool = False) -> nn.Sequential:
    filters = [Smooth()] if smooth else []
    return nn.Sequential(convolution, *filters, make_norm(norm, convolution.out_channels), nn.ReLU())
