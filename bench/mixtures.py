"""Mixtures of Gaussians in the plane, as tasks for the loop: a ring of eight, and a grid of 25.

They are not the package's points task: few points to train on, networks of two layers, and a judge by random features,
as the runs of records/stopping-runs.csv were recorded.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, assert_never

import torch
from torch import Tensor, nn

from equipoise.game.losses import logit_stats, loss_named
from equipoise.metrics.feature_judge import METRICS, FeatureJudge, make_feature_judge
from equipoise.metrics.features.load import Features
from equipoise.randomness import Randomness
from equipoise.recipe import Networks
from equipoise.storage.records import DataRecord
from equipoise.tasks.base import Examples, Exhibit, JudgedSplit, Players, Rival, Split, StepContext, Task, Terms
from equipoise.tasks.exhibits import picture
from equipoise.tasks.points import PointModel, scatter

Shape = Literal["ring", "grid"]
WIDTH = 128
LATENTS = 2
DEVIATION = 0.05  # of each mode
NUM_DRAWN = 10_000  # points of each split; training, scores and truth use the first ones
NUM_TRAIN = 2_000  # points that training draws from: few enough to be learned by heart
NUM_VALIDATION = 2_000  # real points and generated ones a score
NUM_TEST = 5_000
NUM_SHOWN = 2_000
BOUNDS = (-1.4, -1.4, 1.4, 1.4)
SPLIT_SEEDS: dict[Split, int] = {"train": 1, "validation": 2, "test": 3}
LOSS = loss_named("non-saturating")


@dataclass(frozen=True)
class MixtureModel(PointModel):
    """A generator of points with two hidden layers."""

    def network(self) -> nn.Module:
        """Build the generator."""
        return perceptron(LATENTS, 2)


@dataclass(frozen=True)
class Mixture(Task):
    """Points `[N, 2]` in a fixed training set of 2,000; validation and test points are drawn apart from it."""

    shape: Shape

    def describe(self) -> DataRecord:
        """Return what the points are."""
        return DataRecord(
            source=self.shape,
            digest="points",
            noun="points",
            summary=f"points around {len(places(self.shape))} modes",
            num_train=NUM_TRAIN,
            num_validation=NUM_VALIDATION,
            num_test=NUM_TEST,
            metrics=METRICS,
        )

    def players(self) -> Players:
        """Build two perceptrons with two hidden layers."""
        return Players(perceptron(LATENTS, 2), nn.Sequential(perceptron(2, 1), nn.Flatten(0)))

    def batch(self, randomness: Randomness, num: int) -> Tensor:
        """Draw from the training points, with replacement."""
        return self._train[torch.randint(NUM_TRAIN, (num,), generator=randomness.generator("batch"))]

    def discriminator_terms(self, players: Players, batch: Tensor, step: StepContext) -> Terms:
        """Return the non-saturating loss."""
        with torch.no_grad():
            fake = players.generator(step.randomness.normal("discriminator latents", len(batch), LATENTS))
        real_logits = players.discriminator(batch)
        fake_logits = players.discriminator(fake)
        stats = logit_stats(LOSS, real_logits.detach(), fake_logits.detach())
        return Terms({"adversarial": LOSS.discriminator(real_logits, fake_logits)}, stats)

    def generator_terms(self, players: Players, batch: Tensor, step: StepContext) -> Terms:
        """Return the non-saturating loss."""
        fake = players.generator(step.randomness.normal("generator latents", len(batch), LATENTS))
        fake_logits = players.discriminator(fake)
        return Terms({"adversarial": LOSS.generator(fake_logits, fake_logits)}, {})

    def examples(self, split: Split, begin: int, size: int) -> Examples:
        """Return (None, points `[size, 2]`) of one split."""
        return Examples(None, self.points(split)[begin : begin + size])

    @torch.no_grad()
    def outputs(self, generator: nn.Module, randomness: Randomness, split: Split, begin: int, size: int) -> Tensor:
        """Draw points `[size, 2]`; they do not depend on the split."""
        return generator(replace(randomness, samples=begin).normal("latents", size, LATENTS))

    def logits(self, discriminator: nn.Module, inputs: None, outputs: Tensor) -> Tensor:
        """Return the discriminator's logits `[N]` of points."""
        return discriminator(outputs)

    def judge(self, split: JudgedSplit) -> FeatureJudge | None:
        """Return the judge of the training, or of the truth; the candidates are not scored a second time."""
        match split:
            case "validation":
                return self._judge("validation", NUM_VALIDATION)
            case "validation, second half":
                return None
            case "test":
                return self._judge("test", NUM_TEST)
            case _ as unreachable:
                assert_never(unreachable)

    def rivals(self) -> tuple[Rival, ...]:
        """Return nothing: what is looked for is the best generator of a run, not how good it is."""
        return ()

    def snapshot(self, generator: nn.Module) -> Exhibit:
        """Return a picture of points from fixed latents."""
        points = self.outputs(generator, Randomness(0), "validation", 0, NUM_SHOWN)
        return picture("snapshot", "How the samples developed", scatter(points, BOUNDS))

    def exhibits(self, generator: nn.Module) -> list[Exhibit]:
        """Return generated points beside real ones."""
        points = self.outputs(generator, Randomness(0), "validation", 0, NUM_SHOWN)
        real = self.points("validation")[:NUM_SHOWN]
        return [
            picture("best", "Samples", scatter(points, BOUNDS), "Generated by the best generator."),
            picture("real", "Samples", scatter(real, BOUNDS), "Real points of the validation split."),
        ]

    def model(self) -> MixtureModel:
        """Return what can be done with the generator without the data."""
        return MixtureModel(Networks(latent_size=LATENTS))

    def points(self, split: Split) -> Tensor:
        """Draw the points of a split from the mixture itself, always the same ones."""
        randomness = Randomness(SPLIT_SEEDS[split])
        centres = places(self.shape)
        chosen = torch.randint(len(centres), (NUM_DRAWN,), generator=randomness.generator("modes"))
        return centres[chosen] + DEVIATION * randomness.normal("noise", NUM_DRAWN, 2)

    @cached_property
    def _train(self) -> Tensor:
        return self.points("train")[:NUM_TRAIN]

    def _judge(self, split: Literal["validation", "test"], num: int) -> FeatureJudge:
        return make_feature_judge(
            Features("random Fourier features", "seed 0", 64, random_features),
            [self.points(split)[:num]],
            data_digest="points",
            split=split,
            num_generated=num,
            seed=int(split == "test"),
            train_batches=[self._train],
        )


def perceptron(num_in: int, num_out: int) -> nn.Sequential:
    """Return a perceptron with two hidden layers."""
    first = (nn.Linear(num_in, WIDTH), nn.ReLU())
    second = (nn.Linear(WIDTH, WIDTH), nn.ReLU())
    return nn.Sequential(*first, *second, nn.Linear(WIDTH, num_out))


def places(shape: Shape) -> Tensor:
    """Return the centres `[K, 2]`, spread about 1 from the origin."""
    match shape:
        case "ring":
            angles = torch.arange(8) * (math.pi / 4)
            return torch.stack([angles.cos(), angles.sin()], 1)
        case "grid":
            side = torch.linspace(-1, 1, 5)
            return torch.cartesian_prod(side, side)
        case _ as unreachable:
            assert_never(unreachable)


def random_features(points: Tensor) -> Tensor:
    """Return 64 fixed random Fourier features of points, in which KID sees the shape of a mode."""
    generator = torch.Generator().manual_seed(0)
    directions = 4.0 * torch.randn(2, 64, generator=generator)
    phases = 2 * math.pi * torch.rand(64, generator=generator)
    return math.sqrt(2) * (points.float() @ directions + phases).cos()
