"""The loop knows nothing of images: a ring of eight Gaussians in the plane trains through the same function."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from equipoise import loop
from equipoise.evaluation.evaluator import make_judge
from equipoise.game.losses import discriminator_loss, generator_loss
from equipoise.metrics.features.load import Features
from equipoise.randomness import Randomness
from equipoise.recipe import Budget, Recipe, with_settings
from equipoise.runs.folder import RunFolder
from equipoise.stopping.monitor import Referee
from equipoise.storage import logs
from equipoise.tasks.images import Moment, Opinions, Players, Split, Terms, signals


@dataclasses.dataclass(frozen=True)
class Ring:
    """Points `[N, 2]` near eight places on a circle."""

    def networks(self) -> Players:
        def perceptron(num_in: int, num_out: int) -> nn.Sequential:
            return nn.Sequential(nn.Linear(num_in, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, num_out))

        return Players(perceptron(2, 2), nn.Sequential(perceptron(2, 1), nn.Flatten(0)))

    def batch(self, randomness: Randomness, num: int) -> Tensor:
        angles = torch.randint(8, (num,), generator=randomness.generator("modes")) * (math.pi / 4)
        centres = torch.stack([angles.cos(), angles.sin()], 1)
        return centres + 0.05 * randomness.normal("noise", num, 2)

    def discriminator_terms(self, players: Players, batch: Tensor, moment: Moment) -> Terms:
        with torch.no_grad():
            fake = players.generator(moment.randomness.normal("discriminator latents", len(batch), 2))
        real_logits, fake_logits = players.discriminator(batch), players.discriminator(fake)
        loss = discriminator_loss("non-saturating", real_logits, fake_logits)
        return Terms({"adversarial": loss}, signals("non-saturating", real_logits.detach(), fake_logits.detach()))

    def generator_terms(self, players: Players, batch: Tensor, moment: Moment) -> Terms:
        fake = players.generator(moment.randomness.normal("generator latents", len(batch), 2))
        fake_logits = players.discriminator(fake)
        return Terms({"adversarial": generator_loss("non-saturating", fake_logits, fake_logits)}, {})

    @torch.no_grad()
    def generate(self, generator: nn.Module, randomness: Randomness, num: int) -> Tensor:
        return generator(randomness.normal("latents", num, 2))

    @torch.no_grad()
    def opinions(self, players: Players, randomness: Randomness, num: int) -> Opinions:
        fake = self.generate(players.generator, randomness, num)
        kinds = (self.real("train", num), self.real("validation", num), fake)
        return Opinions(*(players.discriminator(points) for points in kinds))

    def real(self, split: Split, num: int) -> Tensor:
        return self.batch(Randomness({"train": 1, "validation": 2, "test": 3}[split]), num)

    def show(self, samples: Tensor, path: Path) -> None:
        path.write_bytes(b"")


def test_a_ring_of_points_trains_judges_and_stops_through_the_same_loop(tmp_path: Path) -> None:
    problem = Ring()
    settings = ["game.batch=128", "game.generator.rate=0.001", "game.discriminator.rate=0.001", "judging.every=12800"]
    recipe = with_settings(Recipe(), [*settings, "game.discriminator.beta1=0.5", "game.generator.beta1=0.5"])
    recipe = dataclasses.replace(recipe, budget=Budget(samples=64_000, seconds=None))
    plain = Features("points", "none", 2, lambda points: points.float())
    judge = make_judge(
        plain, [problem.real("validation", 500)], data_digest="ring", split="validation", num_generated=500
    )
    run = RunFolder.create(tmp_path / "ring", recipe)
    referee = Referee(recipe.stopping, recipe.budget)
    told: list[Any] = []
    outcome = loop.train(problem, recipe, run, judge, referee, told.append)
    assert outcome.stop.policy == "budget"
    assert outcome.samples == 64_000
    kids = [record["kid"] for record in logs.records(run.scores)]
    assert len(kids) >= 5
    assert min(kids) < 0.3 * kids[0], "the ring was not learned at all"
    assert referee.best is not None
    assert min(kids) in [line.kid for line in referee.candidates], "the lowest score is not kept for the end"
