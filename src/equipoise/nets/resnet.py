"""Residual networks as in spectrally normalised GANs (arXiv:1802.05957, appendix B.4), and as in BigGAN's.

The width dial is the channels at the highest resolution, doubled at each halving up to 8 · width. With latent skips
each block's norms get a piece of the latents and a vector of the label that all blocks share (arXiv:1809.11096,
section 3.1).
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equipoise.errors import Setting, UserError
from equipoise.nets.attention import SelfAttention, attended_place
from equipoise.nets.growing import Level
from equipoise.nets.layers import (
    ConditionalBatchNorm,
    LabelledLatents,
    MinibatchDeviation,
    NormName,
    ProjectionHead,
    add_spectral_norm,
    crop,
    embedded,
    halved,
    make_norm,
    needed,
    packed,
    stage_channels,
)
from equipoise.sizes import GivenSize, Size, resolutions

SHARED = 128  # numbers of the vector of a label that all blocks share (arXiv:1809.11096, appendix B)


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
        attention: int = 0,
        latent_skips: bool = False,
        orthogonal: bool = False,
        growing: int = 0,
    ):
        super().__init__()
        lowest, *sizes = reversed(resolutions(size))
        hidden = stage_channels(width, len(sizes) + 1)[::-1]
        norm_classes = num_classes if norm == "batch" and not latent_skips else 0
        self.pieces = _Pieces(latent_size, len(sizes), num_classes) if latent_skips else None
        told = 0 if self.pieces is None else self.pieces.size
        input_classes = 0 if latent_skips else num_classes - norm_classes
        self.inputs = LabelledLatents(latent_size if self.pieces is None else self.pieces.first, input_classes)
        self.linear = nn.Linear(self.inputs.size, hidden[0] * lowest.pixels)
        self.shape = (hidden[0], lowest.height, lowest.width)
        self.blocks = nn.ModuleList(
            GeneratorBlock(low, high, size, norm, norm_classes, told)
            for (low, high), size in zip(pairwise(hidden), sizes, strict=True)
        )
        self.norm = _GeneratorNorm(hidden[-1], norm, norm_classes)
        self.to_pixels = nn.Conv2d(hidden[-1], channels, 3, padding=1)
        self.level = Level(len(sizes), growing)
        self.exits = nn.ModuleList()  # the pictures of lower stages
        if growing:
            self.exits.extend(_Exit(before, channels, norm, norm_classes) for before in hidden[1:-1])
        place = attended_place(size, attention)
        self.attended = None if place is None else len(sizes) - place  # halvings, from the lowest
        self.attention = None if place is None else SelfAttention(hidden[len(sizes) - place])
        initialise(self, orthogonal)

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        told = [labels] * len(self.blocks)
        if self.pieces is not None:
            latents, *told = self.pieces(latents, labels)
        lowest = self._attend(0, self.linear(self.inputs(latents, labels)).unflatten(1, self.shape))

        def higher(stage: int, features: Tensor) -> Tensor:
            return self._attend(stage + 1, self.blocks[stage](features, told[stage]))

        def picture(stage: int, features: Tensor) -> Tensor:
            if stage < self.level.top:
                return self.exits[stage](features, labels)
            return torch.tanh(self.to_pixels(F.relu(self.norm(features, labels))))

        return self.level.pictured(higher(0, lowest), higher, picture)

    def _attend(self, place: int, features: Tensor) -> Tensor:
        return self.attention(features) if self.attention is not None and place == self.attended else features


class GeneratorBlock(nn.Module):
    """[N, low, h, w] → [N, high, H, W] of `size`: nearest-neighbour doubling, then two 3×3 convolutions.

    Its norms are told the labels [N], or vectors [N, `told`] where there are such.
    """

    def __init__(self, low: int, high: int, size: Size, norm: NormName, num_classes: int, told: int = 0):
        super().__init__()
        self.norm1 = _GeneratorNorm(low, norm, num_classes, told)
        self.conv1 = nn.Conv2d(low, high, 3, padding=1)
        self.norm2 = _GeneratorNorm(high, norm, num_classes, told)
        self.conv2 = nn.Conv2d(high, high, 3, padding=1)
        self.shortcut = nn.Conv2d(low, high, 1)
        self.size = size

    def forward(self, features: Tensor, told: Tensor | None) -> Tensor:
        residual = self.conv1(self._doubled(F.relu(self.norm1(features, told))))
        residual = self.conv2(F.relu(self.norm2(residual, told)))
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
        attention: int = 0,
        orthogonal: bool = False,
        growing: int = 0,
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
        self.level = Level(len(hidden), growing)
        self.entries = nn.ModuleList()  # what sees the pixels of lower stages
        if growing:
            self.entries.extend(
                DiscriminatorBlock(packing * channels, after, "none", dropout, first=True) for after in hidden[1:]
            )
        place = attended_place(size, attention)
        self.attended = None if place is None else place - 1
        self.attention = None if place is None else SelfAttention(hidden[place - 1])
        initialise(self, orthogonal)
        if spectral_norm:
            add_spectral_norm(self)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        features = self.level.judged(packed(images, self.packing), self._entry, self._lower)
        for block in self.blocks[self.level.top + 1 :]:
            features = block(features)
        return self.head(F.relu(features).sum(dim=(2, 3)), labels)

    def _entry(self, stage: int, images: Tensor) -> Tensor:
        return self._attend(stage, (self.entries[stage - 1] if stage else self.blocks[0])(images))

    def _lower(self, stage: int, features: Tensor) -> Tensor:
        return self._attend(stage, self.blocks[stage](features))

    def _attend(self, stage: int, features: Tensor) -> Tensor:
        return self.attention(features) if self.attention is not None and stage == self.attended else features


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


def initialise(network: nn.Module, orthogonal: bool = False) -> None:
    """Draw weights from Glorot's uniform, √2 wider in 3×3 convolutions, as in the paper; biases are 0.

    Or draw them as orthogonal matrices (arXiv:1312.6120), one row for each output.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            is_residual = isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3)
            gain = 2**0.5 if is_residual else 1.0
            if orthogonal:
                nn.init.orthogonal_(layer.weight)
            else:
                nn.init.xavier_uniform_(layer.weight, gain)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


class _GeneratorNorm(nn.Module):
    """Batch norm, class-conditional with classes or by vectors of `told` numbers, or nothing."""

    def __init__(self, channels: int, norm: NormName, num_classes: int, told: int = 0):
        super().__init__()
        self.norm: nn.Module | None = None
        if norm == "batch":
            self.norm = ModulatedBatchNorm(channels, told) if told else ConditionalBatchNorm(channels, num_classes)

    def forward(self, features: Tensor, told: Tensor | None) -> Tensor:
        return features if self.norm is None else self.norm(features, told)


class ModulatedBatchNorm(nn.Module):
    """Batch norm of [N, C, H, W] whose gain 1 + A·t and bias B·t follow from vectors t [N, T] (arXiv:1809.11096)."""

    def __init__(self, channels: int, told: int):
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.scale = nn.Linear(told, channels, bias=False)
        self.shift = nn.Linear(told, channels, bias=False)

    def forward(self, features: Tensor, told: Tensor) -> Tensor:
        return self.norm(features) * (1 + self.scale(told))[:, :, None, None] + self.shift(told)[:, :, None, None]


class _Pieces(nn.Module):
    """Latents [N, Z], labels [N] → the first piece, and for each block its piece with the label's shared vector."""

    def __init__(self, latent_size: int, num_blocks: int, num_classes: int):
        super().__init__()
        if latent_size <= num_blocks:
            problem = f"with networks.latent_skips=true: {num_blocks} blocks and the first layer get a piece each"
            ways = (Setting("networks.latent_size", 20 * (num_blocks + 1)), Setting("networks.latent_skips", False))
            raise UserError(Setting("networks.latent_size", latent_size), problem, *ways)
        self.piece = latent_size // (num_blocks + 1)
        self.num_blocks = num_blocks
        self.first = latent_size - num_blocks * self.piece
        self.shared = nn.Embedding(num_classes, SHARED) if num_classes else None
        self.size = self.piece + (SHARED if num_classes else 0)

    def forward(self, latents: Tensor, labels: Tensor | None) -> list[Tensor]:
        first, *pieces = latents.split([self.first, *[self.piece] * self.num_blocks], 1)
        if self.shared is None:
            return [first, *pieces]
        labels = needed(labels)
        vectors = embedded(self.shared, labels)
        if labels.ndim == 2:  # a sum of many is larger than one
            vectors = vectors / labels.sum(1, keepdim=True).clamp(min=1).sqrt()
        return [first, *(torch.cat([piece, vectors], 1) for piece in pieces)]


class _Exit(nn.Module):
    """Features [N, C, H, W], labels → a picture in (-1, 1)."""

    def __init__(self, before: int, channels: int, norm: NormName, num_classes: int):
        super().__init__()
        self.norm = _GeneratorNorm(before, norm, num_classes)
        self.to_pixels = nn.Conv2d(before, channels, 3, padding=1)

    def forward(self, features: Tensor, labels: Tensor | None) -> Tensor:
        return torch.tanh(self.to_pixels(F.relu(self.norm(features, labels))))
