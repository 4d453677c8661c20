"""Mixtures of Gaussians in the plane, as problems for the loop: a ring of eight, and a grid of 25."""

import dataclasses
import math
from pathlib import Path
from typing import Any, Literal, assert_never

import torch
from torch import Tensor, nn

from equipoise.game.losses import discriminator_loss, generator_loss
from equipoise.randomness import Randomness
from equipoise.tasks.images import Moment, Opinions, Players, Split, Terms, signals

Shape = Literal["ring", "grid"]
WIDTH = 128
LATENTS = 2
NUM_TRAIN = 2_000  # points that training draws from: few enough to be learned by heart


@dataclasses.dataclass(frozen=True)
class Mixture:
    """Points `[N, 2]` in a fixed training set of 2,000; validation and test points are drawn apart from it."""

    shape: Shape

    def networks(self) -> Players:
        """Build two perceptrons with two hidden layers."""
        return Players(perceptron(LATENTS, 2), nn.Sequential(perceptron(2, 1), nn.Flatten(0)))

    def points(self, randomness: Randomness, num: int) -> Tensor:
        """Draw points from the mixture itself."""
        centres = places(self.shape)
        chosen = torch.randint(len(centres), (num,), generator=randomness.generator("modes"))
        return centres[chosen] + 0.05 * randomness.normal("noise", num, 2)

    def batch(self, randomness: Randomness, num: int) -> Tensor:
        """Draw from the training points."""
        return self.real("train", NUM_TRAIN)[torch.randint(NUM_TRAIN, (num,), generator=randomness.generator("batch"))]

    def discriminator_terms(self, players: Players, batch: Tensor, moment: Moment) -> Terms:
        """Return the non-saturating loss."""
        with torch.no_grad():
            fake = players.generator(moment.randomness.normal("discriminator latents", len(batch), LATENTS))
        real_logits, fake_logits = players.discriminator(batch), players.discriminator(fake)
        loss = discriminator_loss("non-saturating", real_logits, fake_logits)
        return Terms({"adversarial": loss}, signals("non-saturating", real_logits.detach(), fake_logits.detach()))

    def generator_terms(self, players: Players, batch: Tensor, moment: Moment) -> Terms:
        """Return the non-saturating loss."""
        fake = players.generator(moment.randomness.normal("generator latents", len(batch), LATENTS))
        fake_logits = players.discriminator(fake)
        return Terms({"adversarial": generator_loss("non-saturating", fake_logits, fake_logits)}, {})

    @torch.no_grad()
    def generate(self, generator: nn.Module, randomness: Randomness, num: int) -> Tensor:
        """Draw points from a generator."""
        return generator(randomness.normal("latents", num, LATENTS))

    @torch.no_grad()
    def opinions(self, players: Players, randomness: Randomness, num: int) -> Opinions:
        """Ask the discriminator about points of each kind."""
        kinds = (
            self.real("train", num),
            self.real("validation", num),
            self.generate(players.generator, randomness, num),
        )
        return Opinions(*(players.discriminator(points) for points in kinds))

    def real(self, split: Split, num: int) -> Tensor:
        """Return the first points of a split."""
        return self.points(Randomness({"train": 1, "validation": 2, "test": 3}[split]), 10_000)[:num]

    def show(self, samples: Tensor, path: Path) -> None:
        """Draw nothing."""


def perceptron(num_in: int, num_out: int) -> nn.Sequential:
    """Return a perceptron with two hidden layers."""
    layers: list[Any] = [nn.Linear(num_in, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(WIDTH, num_out))


def places(shape: Shape) -> Tensor:
    """Return the centres `[K, 2]`, spread about 1 from the origin."""
    match shape:
        case "ring":
            angles = torch.arange(8) * (math.pi / 4)
            return torch.stack([angles.cos(), angles.sin()], 1)
        case "grid":
            side = torch.linspace(-1, 1, 5)
            return torch.cartesian_prod(side, side)
        case _:
            assert_never(shape)


def random_features(points: Tensor) -> Tensor:
    """Return 64 fixed random Fourier features of points, in which KID sees the shape of a mode."""
    generator = torch.Generator().manual_seed(0)
    directions = 4.0 * torch.randn(2, 64, generator=generator)
    phases = 2 * math.pi * torch.rand(64, generator=generator)
    return math.sqrt(2) * (points.float() @ directions + phases).cos()
