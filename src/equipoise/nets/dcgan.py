"""Deep convolutional networks of 4×4 kernels and stride 2 (arXiv:1511.06434).

The width dial is the channels next to the pixels, doubled at each further halving up to 8 · width:
width 64 gives the classic 512-256-128-64 at 64×64.
"""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

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
    resolutions,
    stage_channels,
)
from equipoise.sizes import GivenSize


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
        last = nn.ConvTranspose2d(hidden[-1], channels, 4, 2, 1)
        self.upwards.append(nn.Sequential(last, Smooth()) if smooth else last)
        initialise(self, norm)

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        features = self.project(self.inputs(latents, labels)[:, :, None, None])
        for layer, size in zip(self.upwards, self.sizes, strict=True):
            features = crop(layer(features), size)
        return torch.tanh(features)


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
    ):
        super().__init__()
        *higher, lowest = resolutions(size)
        hidden = stage_channels(width, len(higher))
        self.downwards = nn.ModuleList()
        self.packing = packing
        last = len(hidden) - 1
        for index, (before, after) in enumerate(pairwise([packing * channels, *hidden])):
            layer_norm: NormName = norm if index else "none"  # the pixels' statistics are what D judges
            has_bias = layer_norm == "none"
            rest = (make_norm(layer_norm, after), nn.LeakyReLU(SLOPE), nn.Dropout(dropout))
            if minibatch_deviation and index == last:
                convolution = nn.Conv2d(before + 1, after, 4, 2, 1, bias=has_bias)
                self.downwards.append(nn.Sequential(MinibatchDeviation(), convolution, *rest))
            else:
                self.downwards.append(nn.Sequential(nn.Conv2d(before, after, 4, 2, 1, bias=has_bias), *rest))
        self.head = ProjectionHead(hidden[-1] * lowest.pixels, num_classes)
        initialise(self, norm)
        if spectral_norm:
            add_spectral_norm(self)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        features = packed(images, self.packing)
        for layer in self.downwards:
            features = layer(evened(features))
        return self.head(features.flatten(1), labels)


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


def _hidden_layer(convolution: nn.ConvTranspose2d, norm: NormName, smooth: bool = False) -> nn.Sequential:
    filters = [Smooth()] if smooth else []
    return nn.Sequential(convolution, *filters, make_norm(norm, convolution.out_channels), nn.ReLU())
