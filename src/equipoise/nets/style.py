"""Networks after StyleGAN2 (arXiv:1912.04958): latents become styles, which modulate every convolution.

The generator begins with a learned constant; each layer's picture is added to the doubled one of the layer below (skip
outputs), and the discriminator is residual (section 4.1). All weights are drawn from N(0, 1) and scaled as they are
used, so that all learn at one rate (arXiv:1710.10196, section 4.1). The width dial is the channels at the highest
resolution, doubled at each halving up to 8 · width.
"""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equipoise.nets.layers import (
    SLOPE,
    LabelledLatents,
    MinibatchDeviation,
    crop,
    embedded,
    evened,
    needed,
    packed,
    stage_channels,
)
from equipoise.sizes import GivenSize, Size, resolutions

NUM_MAPPING = 8  # layers between latents and styles
MAPPING_RATE = 0.01  # of the rate of all else
GAIN = math.sqrt(2)  # of a leaky ReLU, so that it keeps variance
TINY = 1e-8


class ScaledLinear(nn.Module):
    """[N, A] → [N, B] by weights of N(0, 1), scaled by 1/√A as they are used; they learn `rate` times as fast."""

    def __init__(self, num_in: int, num_out: int, *, rate: float = 1.0, bias: float = 0.0):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(num_out, num_in) / rate)
        self.bias = nn.Parameter(torch.full((num_out,), bias / rate))
        self.scale = rate / math.sqrt(num_in)
        self.rate = rate

    def forward(self, features: Tensor) -> Tensor:
        return F.linear(features, self.weight * self.scale, self.bias * self.rate)


class ScaledConv2d(nn.Module):
    """[N, C, H, W] → [N, D, H, W] by weights of N(0, 1) that are scaled by 1/√fan-in as they are used.

    With `halve` both sides are halved after a low-pass filter, an odd one rounded up.
    """

    def __init__(self, before: int, after: int, kernel: int, *, bias: bool = True, halve: bool = False):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(after, before, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(after)) if bias else None
        self.scale = 1 / math.sqrt(before * kernel**2)
        self.padding = kernel // 2
        self.halve = halve

    def forward(self, features: Tensor) -> Tensor:
        weight = self.weight * self.scale
        if not self.halve:
            return F.conv2d(features, weight, self.bias, padding=self.padding)
        return F.conv2d(low_passed(evened(features), self.padding + 1), weight, self.bias, stride=2)


class ModulatedConv2d(nn.Module):
    """Features [N, C, H, W], styles w [N, W] → [N, D, H, W]: weights modulated and demodulated (Eq. 1–3).

    w'ᵢⱼₖ = sᵢ wᵢⱼₖ with a scale sᵢ of each input channel from the style, then w''ᵢⱼₖ = w'ᵢⱼₖ / √(Σᵢₖ w'ᵢⱼₖ² + ε):
    inputs of variance 1 give outputs of variance 1. Inputs and outputs are scaled in place of weights, which is the
    same, and one convolution for all samples.
    With `size` both sides are doubled, filtered and cut to it.
    """

    def __init__(
        self, before: int, after: int, kernel: int, style: int, *, demodulate: bool = True, size: Size | None = None
    ):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(after, before, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(after))
        self.scales = ScaledLinear(style, before, bias=1.0)
        self.scale = 1 / math.sqrt(before * kernel**2)
        self.padding = kernel // 2
        self.demodulate = demodulate
        self.size = size

    def forward(self, features: Tensor, styles: Tensor) -> Tensor:
        scales = self.scales(styles)
        weight = self.weight * self.scale
        features = features * scales[:, :, None, None]
        if self.size is None:
            features = F.conv2d(features, weight, padding=self.padding)
        else:
            doubled = F.conv_transpose2d(features, weight.transpose(0, 1), stride=2)
            features = crop(4 * low_passed(doubled, 1), self.size)  # a doubling spreads each input over four places
        if self.demodulate:
            norms = scales.square() @ weight.square().sum((2, 3)).T
            features = features * torch.rsqrt(norms + TINY)[:, :, None, None]
        return features + self.bias[:, None, None]


class Mapping(nn.Module):
    """Latents [N, Z], labels [N] → styles w [N, Z], by eight layers that learn slowly."""

    def __init__(self, latent_size: int, num_classes: int):
        super().__init__()
        self.inputs = LabelledLatents(latent_size, num_classes)
        sizes = [self.inputs.size, *[latent_size] * NUM_MAPPING]
        self.layers = nn.ModuleList(ScaledLinear(a, b, rate=MAPPING_RATE) for a, b in pairwise(sizes))

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        styles = self.inputs(latents, labels)
        styles = styles * torch.rsqrt(styles.square().mean(1, keepdim=True) + TINY)
        for layer in self.layers:
            styles = activated(layer(styles))
        return styles


class StyleGenerator(nn.Module):
    """Latents [N, Z], labels [N] → images [N, C, H, W]; a linear output, so values may leave [-1, 1].

    `mapping` gives the styles w [N, Z], and `pictured` the images of styles.
    """

    def __init__(self, *, size: GivenSize, channels: int, num_classes: int, latent_size: int, width: int):
        super().__init__()
        lowest, *sizes = reversed(resolutions(size))
        hidden = stage_channels(width, len(sizes) + 1)[::-1]
        self.sizes = sizes
        self.mapping = Mapping(latent_size, num_classes)
        self.constant = nn.Parameter(torch.randn(hidden[0], lowest.height, lowest.width))
        self.first = ModulatedConv2d(hidden[0], hidden[0], 3, latent_size)
        self.blocks = nn.ModuleList(
            _StyleBlock(low, high, latent_size, above)
            for (low, high), above in zip(pairwise(hidden), sizes, strict=True)
        )
        self.exits = nn.ModuleList(
            ModulatedConv2d(before, channels, 1, latent_size, demodulate=False) for before in hidden
        )

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.pictured(self.mapping(latents, labels))

    def pictured(self, styles: Tensor) -> Tensor:
        """Return the images [N, C, H, W] of styles [N, Z]."""
        features = activated(self.first(self.constant.expand(len(styles), -1, -1, -1), styles))
        images = self.exits[0](features, styles)
        for block, exit_, size in zip(self.blocks, self.exits[1:], self.sizes, strict=True):
            features = block(features, styles)
            doubled = F.interpolate(images, scale_factor=2, mode="bilinear", align_corners=False)
            images = crop(doubled, size) + exit_(features, styles)
        return images


class _StyleBlock(nn.Module):
    """Features [N, low, h, w], styles → [N, high, H, W] of `size`."""

    def __init__(self, low: int, high: int, style: int, size: Size):
        super().__init__()
        self.conv1 = ModulatedConv2d(low, high, 3, style, size=size)
        self.conv2 = ModulatedConv2d(high, high, 3, style)

    def forward(self, features: Tensor, styles: Tensor) -> Tensor:
        return activated(self.conv2(activated(self.conv1(features, styles)), styles))


class StyleDiscriminator(nn.Module):
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
    ):
        super().__init__()
        *higher, lowest = resolutions(size)
        hidden = stage_channels(width, len(higher) + 1)
        self.packing = packing
        self.from_pixels = ScaledConv2d(packing * channels, hidden[0], 1)
        self.downwards = nn.ModuleList(_ResidualBlock(before, after) for before, after in pairwise(hidden))
        self.differ = MinibatchDeviation() if minibatch_deviation else nn.Identity()
        self.last = ScaledConv2d(hidden[-1] + minibatch_deviation, hidden[-1], 3)
        self.flat = ScaledLinear(hidden[-1] * lowest.pixels, hidden[-1])
        self.dropout = nn.Dropout(dropout)
        self.head = ScaledHead(hidden[-1], num_classes)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        features = activated(self.from_pixels(packed(images, self.packing)))
        for block in self.downwards:
            features = block(features)
        features = activated(self.last(self.differ(features)))
        features = activated(self.flat(features.flatten(1)))
        return self.head(self.dropout(features), labels)


class _ResidualBlock(nn.Module):
    """[N, before, H, W] → [N, after, H/2, W/2]: two 3×3 convolutions beside a 1×1 one, on the scale of one."""

    def __init__(self, before: int, after: int):
        super().__init__()
        self.conv1 = ScaledConv2d(before, before, 3)
        self.conv2 = ScaledConv2d(before, after, 3, halve=True)
        self.shortcut = ScaledConv2d(before, after, 1, bias=False, halve=True)

    def forward(self, features: Tensor) -> Tensor:
        residual = activated(self.conv2(activated(self.conv1(features))))
        return (residual + self.shortcut(features)) / math.sqrt(2)


class ScaledHead(nn.Module):
    """Features [N, F] → logits [N], with classes + ⟨embedding(label), h⟩/√F (arXiv:1802.05637, Eq. 3)."""

    def __init__(self, num_features: int, num_classes: int):
        super().__init__()
        self.num_features = num_features
        self.linear = ScaledLinear(num_features, 1)
        self.embedding = nn.Embedding(num_classes, num_features) if num_classes else None
        self.scale = 1 / math.sqrt(num_features)

    def forward(self, features: Tensor, labels: Tensor | None) -> Tensor:
        logits = self.linear(features).squeeze(1)
        if self.embedding is None:
            return logits
        return logits + self.scale * (embedded(self.embedding, needed(labels)) * features).sum(1)


def activated(features: Tensor) -> Tensor:
    """Return features through a leaky ReLU that keeps variance."""
    return GAIN * F.leaky_relu(features, SLOPE)


def low_passed(features: Tensor, padding: int) -> Tensor:
    """Filter [N, C, H, W] by [1, 3, 3, 1] / 8 in both directions, with zeros around it; sides change by 2p − 3."""
    padded = F.pad(features, (padding, padding, padding, padding))
    wide = padded[..., :-3] + padded[..., 3:] + 3 * (padded[..., 1:-2] + padded[..., 2:-1])
    return (wide[..., :-3, :] + wide[..., 3:, :] + 3 * (wide[..., 1:-2, :] + wide[..., 2:-1, :])) / 64
