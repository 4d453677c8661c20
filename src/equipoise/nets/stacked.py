"""Two stages one after the other: small pictures, and then what refines them to the full size (arXiv:1612.03242).

Images have their full size throughout: the small pictures are doubled up to it, and their discriminator averages what
it sees down to them. Which stage it is, is the level of both networks (`nets/growing.py`); it follows from the samples.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equipoise.errors import Option, Setting, UserError
from equipoise.nets.growing import Level
from equipoise.nets.layers import LabelledLatents, NormName, crop, halved, make_norm, stage_channels
from equipoise.nets.resnet import GeneratorBlock, initialise
from equipoise.sizes import GivenSize, Size, resolutions, size_of

MOST_HALVINGS = 2  # small pictures have a quarter of the side, as in the paper (64 of 256)
LEAST_SIDE = 5  # pixels of a side of which a family makes pictures
NUM_RESIDUAL = 2  # blocks at the small size


def small_size(size: GivenSize) -> Size:
    """Return the size of the pictures of stage one: a quarter of each side, or half where that is too little.

    Raises UserError where half is too little, too.
    """
    for low in resolutions(size)[MOST_HALVINGS:0:-1]:
        if min(low) >= LEAST_SIDE:
            return low
    given = size_of(size)
    problem = f"half of {given} pixels is too little for pictures of a first stage"
    larger = Option("size", Size(2 * given.width, 2 * given.height).typed)
    raise UserError(Setting("networks.stacked"), problem, larger, Setting("networks.stacked", 0))


class StackedGenerator(nn.Module):
    """Latents [N, Z], labels [N] → images [N, C, H, W]: those of `first` at level 0, those refined from them at 1.

    What refines sees the small picture, and once more latents and labels at each of its places; then `first` stays as
    it is.
    """

    def __init__(
        self,
        first: nn.Module,
        *,
        samples: int,
        size: GivenSize,
        channels: int,
        num_classes: int,
        latent_size: int,
        width: int,
        norm: NormName,
    ):
        super().__init__()
        self.first = first
        self.level = Level(2, samples, fades=False)
        sizes = resolutions(size)
        self.sizes = sizes[: sizes.index(small_size(size))][::-1]
        hidden = stage_channels(width, len(self.sizes) + 1)[::-1]
        self.inputs = LabelledLatents(latent_size, num_classes)
        self.look = nn.Conv2d(channels, hidden[0], 3, padding=1)
        self.tell = nn.Linear(self.inputs.size, hidden[0])
        self.join = nn.Conv2d(2 * hidden[0], hidden[0], 3, padding=1)
        self.residuals = nn.ModuleList(_Residual(hidden[0], norm) for _ in range(NUM_RESIDUAL))
        self.blocks = nn.ModuleList(
            GeneratorBlock(low, high, above, norm, 0)
            for (low, high), above in zip(pairwise(hidden), self.sizes, strict=True)
        )
        self.norm = make_norm(norm, hidden[-1])
        self.to_pixels = nn.Conv2d(hidden[-1], channels, 3, padding=1)
        for part in (self.look, self.tell, self.join, self.residuals, self.blocks, self.to_pixels):
            initialise(part)

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        if 0 in self.level.shares():
            return self._doubled(self.first(latents, labels))
        small = self._finished(latents, labels)
        told = F.relu(self.tell(self.inputs(latents, labels)))[:, :, None, None].expand(-1, -1, *small.shape[2:])
        features = self.join(torch.cat([F.relu(self.look(small)), told], 1))
        for residual in self.residuals:
            features = residual(features)
        for block in self.blocks:
            features = block(features, None)
        return torch.tanh(self.to_pixels(F.relu(self.norm(features))))

    def _finished(self, latents: Tensor, labels: Tensor | None) -> Tensor:
        """Return the pictures of stage one, which learns no more, nor do the statistics of its norms."""
        self.first.eval()
        with torch.no_grad():
            small = self.first(latents, labels)
        self.first.train(self.training)
        return small

    def _doubled(self, images: Tensor) -> Tensor:
        for size in self.sizes:
            images = crop(F.interpolate(images, scale_factor=2, mode="nearest"), size)
        return images


class StackedDiscriminator(nn.Module):
    """Images [N, C, H, W], labels [N] → logits [N]: of `first` at level 0, which sees them small, of `second` at 1."""

    def __init__(self, first: nn.Module, second: nn.Module, *, samples: int, size: GivenSize):
        super().__init__()
        self.first = first
        self.second = second
        self.level = Level(2, samples, fades=False)
        self.num_halvings = resolutions(size).index(small_size(size))

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        if 0 not in self.level.shares():
            return self.second(images, labels)
        for _ in range(self.num_halvings):
            images = halved(images)
        return self.first(images, labels)


class _Residual(nn.Module):
    """[N, C, H, W] → the same: two 3×3 convolutions beside the identity."""

    def __init__(self, channels: int, norm: NormName):
        super().__init__()
        self.norm1 = make_norm(norm, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2 = make_norm(norm, channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        residual = self.conv1(F.relu(self.norm1(features)))
        return features + self.conv2(F.relu(self.norm2(residual)))
