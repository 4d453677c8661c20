"""A discriminator that is an autoencoder: what it cannot give back is no real image (arXiv:1609.03126)."""

import torch
from torch import Tensor, nn

from equipoise.game.judged import Judged
from equipoise.nets.dcgan import DCGANDiscriminator, DCGANGenerator, initialise
from equipoise.nets.layers import NormName


class Encoding(nn.Module):
    """Features [N, F] → code [N, Z], in place of a head; there are no labels."""

    def __init__(self, num_features: int, size: int, norm: NormName):
        super().__init__()
        self.linear = nn.Linear(num_features, size)
        initialise(self, norm)

    def forward(self, features: Tensor, labels: Tensor | None) -> Tensor:
        return self.linear(features)


class AutoencodingDiscriminator(nn.Module):
    """Images [N, C, H, W] → logits [N], minus the energy of each, and codes [N, Z].

    The energy is the mean squared difference between an image and what is decoded from its code of a latent's size.
    """

    def __init__(self, encoder: DCGANDiscriminator, decoder: DCGANGenerator, code_size: int, norm: NormName):
        super().__init__()
        self.encoder = encoder
        self.encoder.add_module("head", Encoding(encoder.head.linear.in_features, code_size, norm))
        self.decoder = decoder

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Judged:
        code = self.encoder(images)
        differences = (self.decoder(code) - images).flatten(1)
        if differences.dtype != torch.float64:
            differences = differences.float()
        return Judged(-differences.square().mean(1), encoded=code)
