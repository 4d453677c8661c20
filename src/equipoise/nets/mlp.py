"""Multi-layer perceptrons (arXiv:1406.2661): width 1024 gives the classic 784-1024-512-256 on 28×28 images.

The width dial is the widest hidden layer, next to the pixels; the others are a half and a quarter of it.
"""

import torch
from torch import Tensor, nn

from equipoise.nets.layers import (
    SLOPE,
    LabelledLatents,
    MinibatchDeviation,
    NormName,
    ProjectionHead,
    add_spectral_norm,
    make_norm,
    packed,
)
from equipoise.sizes import GivenSize, size_of

NUM_HIDDEN = 3


def hidden_widths(width: int) -> list[int]:
    """Return the hidden layers' widths from the pixels inwards."""
    return [width, width // 2, width // 4]


class MLPGenerator(nn.Module):
    """Latents [N, Z], labels [N] → images [N, C, H, W] in (-1, 1)."""

    def __init__(
        self, *, size: GivenSize, channels: int, num_classes: int, latent_size: int, width: int, norm: NormName = "none"
    ):
        super().__init__()
        pixels = size_of(size)
        self.inputs = LabelledLatents(latent_size, num_classes)
        layers: list[nn.Module] = []
        previous = self.inputs.size
        for units in reversed(hidden_widths(width)):
            layers += [nn.Linear(previous, units), make_norm(norm, units, dimensions=0), nn.LeakyReLU(SLOPE)]
            previous = units
        self.layers = nn.Sequential(*layers, nn.Linear(previous, channels * pixels.pixels))
        self.shape = (channels, pixels.height, pixels.width)

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        pixels = self.layers(self.inputs(latents, labels))
        return torch.tanh(pixels).unflatten(1, self.shape)


class MLPDiscriminator(nn.Module):
    """Images [N, C, H, W], labels [N] → logits [N], one for each pack of images."""

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
        self.packing = packing
        layers: list[nn.Module] = []
        previous = packing * channels * size_of(size).pixels
        for index, units in enumerate(hidden_widths(width)):
            if minibatch_deviation and index == NUM_HIDDEN - 1:
                layers.append(MinibatchDeviation())
                previous += 1
            layer_norm: NormName = norm if index else "none"  # the pixels' statistics are what D judges
            layers += [nn.Linear(previous, units), make_norm(layer_norm, units, dimensions=0)]
            layers += [nn.LeakyReLU(SLOPE), nn.Dropout(dropout)]
            previous = units
        self.layers = nn.Sequential(*layers)
        self.head = ProjectionHead(previous, num_classes)
        if spectral_norm:
            add_spectral_norm(self)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        return self.head(self.layers(packed(images, self.packing).flatten(1)), labels)
