"""Networks for points in the plane: perceptrons that know the data's scale."""

import torch
from torch import Tensor, nn

from equipoise.nets.layers import MinibatchDeviation, packed
from equipoise.recipe import Networks

NUM_HIDDEN = 3


class PointGenerator(nn.Module):
    """Latents `[N, Z]` to points `[N, 2]` in the data's own units, which lie in its buffers."""

    shift: Tensor
    scale: Tensor

    def __init__(self, networks: Networks) -> None:
        """Build a perceptron of three hidden layers."""
        super().__init__()
        self.register_buffer("shift", torch.zeros(2))
        self.register_buffer("scale", torch.ones(2))
        layers: list[nn.Module] = []
        size = networks.latent_size
        for _ in range(NUM_HIDDEN):
            layers.append(nn.Linear(size, networks.width))
            if networks.generator_norm == "batch":
                layers.append(nn.BatchNorm1d(networks.width))
            layers.append(nn.ReLU())
            size = networks.width
        self.body = nn.Sequential(*layers, nn.Linear(size, 2))

    def forward(self, latents: Tensor) -> Tensor:
        """Map latents to points."""
        return self.shift + self.scale * self.body(latents)


class PointDiscriminator(nn.Module):
    """Points `[N, 2]` to logits `[N]`, one for each pack of points."""

    shift: Tensor
    scale: Tensor

    def __init__(self, networks: Networks, packing: int = 1) -> None:
        """Build a perceptron of three hidden layers."""
        super().__init__()
        self.register_buffer("shift", torch.zeros(2))
        self.register_buffer("scale", torch.ones(2))
        self.packing = packing
        layers: list[nn.Module] = []
        size = 2 * packing
        for index in range(NUM_HIDDEN):
            if networks.minibatch_deviation and index == NUM_HIDDEN - 1:
                layers.append(MinibatchDeviation())
                size += 1
            layers += [_linear(size, networks.width, networks), nn.LeakyReLU(0.2)]
            if networks.dropout:
                layers.append(nn.Dropout(networks.dropout))
            size = networks.width
        self.body = nn.Sequential(*layers, _linear(size, 1, networks))

    def forward(self, points: Tensor) -> Tensor:
        """Map points to logits."""
        return self.body(packed((points - self.shift) / self.scale, self.packing))[:, 0]


def _linear(num_in: int, num_out: int, networks: Networks) -> nn.Module:
    layer = nn.Linear(num_in, num_out)
    if networks.spectral_norm:
        return nn.utils.parametrizations.spectral_norm(layer)
    return layer
