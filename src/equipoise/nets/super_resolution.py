"""Networks for super-resolution: a residual generator over bicubic interpolation, and a conditional discriminator."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NUM_BLOCKS = 8
RESIDUAL = 0.2  # weight of a block's residual at the start (arXiv:1707.02921 uses 0.1 in wide networks)
NUM_STAGES = 3  # of the discriminator, each halving the size


def enlarge(images: Tensor, size: Sequence[int]) -> Tensor:
    """Return images [N, C, h, w] enlarged to (H, W) by bicubic interpolation (a = −½), in float32."""
    with torch.autocast(images.device.type, enabled=False):
        return F.interpolate(images.float(), size=list(size), mode="bicubic", antialias=True, align_corners=False)


def reduce(images: Tensor, scale: int) -> Tensor:
    """Return images [N, C, H, W] reduced by antialiased bicubic interpolation (a = −½), in float32."""
    size = (images.shape[-2] // scale, images.shape[-1] // scale)
    with torch.autocast(images.device.type, enabled=False):
        return F.interpolate(images.float(), size=size, mode="bicubic", antialias=True, align_corners=False)


class SuperGenerator(nn.Module):
    """Small images [N, 3, h, w] in [-1, 1] to large ones [N, 3, h·s, w·s], of any size.

    A residual over bicubic interpolation (after arXiv:1707.02921), then one step of back-projection, which puts back
    what reducing the result would miss of the input.
    """

    def __init__(self, scale: int, width: int) -> None:
        """Build a generator that begins as bicubic interpolation."""
        super().__init__()
        self.scale = scale
        self.head = nn.Conv2d(3, width, 3, padding=1)
        self.blocks = nn.ModuleList(_Block(width) for _ in range(NUM_BLOCKS))
        self.body = nn.Conv2d(width, width, 3, padding=1)
        self.tail = nn.Conv2d(width, 3 * scale**2, 3, padding=1)
        nn.init.zeros_(self.tail.weight)
        nn.init.zeros_(self.tail.bias)  # type: ignore[arg-type]

    def forward(self, images: Tensor) -> Tensor:
        """Enlarge images."""
        first = self.head(images)
        features = first
        for block in self.blocks:
            features = block(features)
        features = first + self.body(features)
        detail = F.pixel_shuffle(self.tail(features), self.scale)
        size = (images.shape[-2] * self.scale, images.shape[-1] * self.scale)
        large = enlarge(images, size) + detail.float()
        return large + enlarge(images.float() - reduce(large, self.scale), size)


class _Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.gain = nn.Parameter(torch.tensor(RESIDUAL))

    def forward(self, features: Tensor) -> Tensor:
        return features + self.gain * self.second(F.relu(self.first(features)))


class SuperDiscriminator(nn.Module):
    """Large images [N, 3, H, W] beside their enlarged inputs to logits [N], the mean over patches."""

    def __init__(self, width: int, *, spectral_norm: bool = False) -> None:
        """Build a discriminator of patches in three stages, a strided convolution each (after arXiv:1611.07004)."""
        super().__init__()
        self.stages = nn.ModuleList()
        channels = 6
        for stage in range(NUM_STAGES):
            wide = width * 2**stage
            layer = nn.Conv2d(channels, wide, 4, stride=2, padding=1)
            if spectral_norm:
                layer = nn.utils.parametrizations.spectral_norm(layer)
            self.stages.append(nn.Sequential(layer, nn.LeakyReLU(0.2)))
            channels = wide
        self.last = nn.Conv2d(channels, 1, 3, padding=1)

    def features(self, large: Tensor, enlarged: Tensor) -> list[Tensor]:
        """Return the features of each stage, the finest first."""
        found = []
        values = torch.cat([large, enlarged], 1)
        for stage in self.stages:
            values = stage(values)
            found.append(values)
        return found

    def forward(self, large: Tensor, enlarged: Tensor) -> Tensor:
        """Return logits."""
        return self.logits(self.features(large, enlarged))

    def logits(self, features: list[Tensor]) -> Tensor:
        """Return logits of features."""
        return self.last(features[-1]).flatten(1).mean(1)
