"""Games of points that are sick, each made ill in one known way, and healthy ones that might look ill.

    python bench/sick_games.py [--seed 0]

A game is a recipe, settings, and what is changed in its task. All intervals are fixed, so that a game is a function of
its kind and its seed. Prints how each one ends: why, its scores, and the signals of its last log line. What a diagnosis
says of them is not measured yet.
"""

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from equipoise import loop, tasks
from equipoise.api import SILENT, recipe_for
from equipoise.game.terms import StepContext
from equipoise.game.updates import ROLES, Players, Terms
from equipoise.recipe import with_settings
from equipoise.recipes import Facts, RecipeName
from equipoise.runs.folder import RunFolder
from equipoise.setup import loss_of, monitor_of
from equipoise.storage.logs import records
from equipoise.tasks.base import Task

CPU = torch.device("cpu")
BATCH = 64
ROUNDS = 1_500
LINES = 60  # of the log
EVALUATIONS = 12
POINTS = (
    f"game.batch={BATCH}",
    "budget.seconds=none",
    f"budget.samples={BATCH * ROUNDS}",
    f"saving.every={BATCH * ROUNDS}",
    f"saving.log_every={BATCH * ROUNDS // LINES}",
    f"evaluation.every={BATCH * ROUNDS // EVALUATIONS}",
    "evaluation.num_samples=500",
    "stopping.policy=budget",
)
PLAIN = ("game.penalty.kind=none", "game.penalty.gamma=0", "game.penalty.gamma_end=none")

Change = Callable[[Task, int], Any]


@dataclass(frozen=True)
class Game:
    """A kind of game: what is told to a training, what is changed in its task, and which conditions are true of it."""

    name: str
    conditions: tuple[str, ...]  # that a diagnosis may name; none: it is healthy
    source: str = "ring"
    recipe: RecipeName = "modern"
    settings: tuple[str, ...] = ()
    change: Change | None = None


# Changes of a task


@dataclass
class Changed:
    """A task of which some methods are others."""

    inner: Any

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


@dataclass
class Resting(Changed):
    """The discriminator is trained in one of so many rounds."""

    every: int = 15

    def discriminator_terms(self, players: Players, batch: Any, step: StepContext) -> Terms:
        """Rest in all other rounds."""
        if step.index % self.every:
            return Terms({})
        return self.inner.discriminator_terms(players, batch, step)


@dataclass
class Poisoned(Changed):
    """A number that is not finite comes up: in the data, in a loss, or in the gradient of one weight."""

    where: str = "loss"
    begin: int = BATCH * ROUNDS // 2

    def batch(self, randomness: Any, num: int) -> Any:
        """Return a batch with one such value from the middle on, where it is in the data."""
        found = self.inner.batch(randomness, num)
        if self.where == "data" and randomness.samples >= self.begin:
            found = found.clone()
            found[0, 0] = torch.nan
        return found

    def generator_terms(self, players: Players, batch: Any, step: StepContext) -> Terms:
        """Return the terms, one of them NaN, or with a gradient that is."""
        found = self.inner.generator_terms(players, batch, step)
        if step.randomness.samples < self.begin or self.where == "data":
            return found
        if self.where == "loss":
            return Terms({name: values * torch.nan for name, values in found.losses.items()}, found.stats)
        weight = next(players.generator.parameters())
        broken = (weight.flatten()[:1] * 0).sqrt().expand(BATCH)  # the root's slope at 0 has no end
        return Terms({**found.losses, "broken": broken}, found.stats)


@dataclass
class Rebuilt(Changed):
    """The players are built otherwise."""

    build: Callable[[Players], Players] = lambda players: players

    def players(self) -> Players:
        """Return the players as they were rebuilt."""
        return self.build(self.inner.players())


class Scaled(nn.Module):
    """A network behind latents that hardly differ."""

    def __init__(self, network: nn.Module, factor: float) -> None:
        super().__init__()
        self.network = network
        self.factor = factor

    def forward(self, latents: Tensor) -> Tensor:
        """Map latents to points."""
        return self.network(self.factor * latents)


def deep(players: Players, activation: Callable[[], nn.Module], depth: int, gain: float) -> Players:
    """Return a game whose discriminator is a deep perceptron with weights of a gain."""
    layers: list[nn.Module] = [nn.Linear(2, 64)]
    for _ in range(depth):
        layers += [activation(), nn.Linear(64, 64)]
    network = nn.Sequential(*layers, activation(), nn.Linear(64, 1), nn.Flatten(0))
    for layer in network:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=gain / layer.in_features**0.5)
    return Players(players.generator, network)


def both(rate: str) -> tuple[str, ...]:
    """Return settings for one rate of both players, from the first to the last round."""
    return tuple(f"game.{role}.{name}" for role in ROLES for name in (f"rate={rate}", "rate_end=none"))


# The kinds

WEAK_PAIR = (*PLAIN, "game.loss=non-saturating")
SICK = (
    Game(
        "15 discriminator steps",
        ("overpowering", "mode dropping"),
        settings=(*WEAK_PAIR, "game.discriminator_steps=15"),
    ),
    Game(
        "1 discriminator step in 15",
        ("too weak", "mode dropping"),
        settings=WEAK_PAIR,
        change=lambda task, _: Resting(task),
    ),
    Game(
        "rates × 30",
        ("rate too high", "diverged"),
        settings=both("0.03"),
    ),
    Game(
        "rates × 100",
        ("rate too high", "diverged"),
        settings=both("0.1"),
    ),
    Game(
        "strong discriminator without a penalty",
        ("overpowering", "vanishing gradient"),
        settings=(*PLAIN, "game.loss=minimax", "game.discriminator.rate=0.01", "game.generator.rate=0.0003"),
    ),
    Game(
        "minimax",
        ("vanishing gradient", "overpowering"),
        settings=(*PLAIN, "game.loss=minimax", "game.discriminator_steps=5"),
    ),
    Game(
        "deep sigmoid discriminator",
        ("vanishing gradient", "too weak"),
        settings=WEAK_PAIR,
        change=lambda task, _: Rebuilt(task, lambda players: deep(players, nn.Sigmoid, 8, 1.0)),
    ),
    Game(
        "exploding depth",
        ("exploding gradient", "rate too high", "diverged"),
        settings=WEAK_PAIR,
        change=lambda task, _: Rebuilt(task, lambda players: deep(players, nn.ReLU, 12, 3.0)),
    ),
    Game(
        "collapsed by construction",
        ("collapsed",),
        change=lambda task, _: Rebuilt(task, lambda p: Players(Scaled(p.generator, 1e-4), p.discriminator)),
    ),
    Game("NaN in the data", ("not finite",), change=lambda task, _: Poisoned(task, "data")),
    Game("NaN in a loss", ("not finite",), change=lambda task, _: Poisoned(task, "loss")),
    Game("NaN in one gradient", ("not finite",), change=lambda task, _: Poisoned(task, "gradient")),
    Game("rates ÷ 1000", ("rate too low",), settings=both("1e-6")),
    Game(
        "batch norm with batch 2",
        ("collapsed", "mode dropping", "rate too high"),
        settings=(
            "networks.generator_norm=batch",
            "game.batch=2",
            "budget.samples=3000",
            "saving.every=3000",
            "saving.log_every=50",
            "evaluation.every=250",
        ),
    ),
    Game(
        "wasserstein without a limit",
        ("diverged", "cycling"),
        settings=(*PLAIN, "game.loss=wasserstein", "game.discriminator.rate=0.003"),
    ),
    Game(
        "momentum without damping",
        ("cycling", "diverged"),
        settings=(
            *WEAK_PAIR,
            "game.update=simultaneous",
            "game.generator.optimizer=sgd",
            "game.discriminator.optimizer=sgd",
            "game.generator.rate=0.1",
            "game.discriminator.rate=0.1",
            "game.generator.beta1=0.9",
            "game.discriminator.beta1=0.9",
        ),
    ),
)
HEALTHY = (
    *(Game(f"relativistic, {source}", (), source) for source in ("ring", "grid", "spiral")),
    *(
        Game(f"{loss}, R1 and R2, {source}", (), source, settings=(f"game.loss={loss}",))
        for loss in ("non-saturating", "hinge", "least-squares")
        for source in ("ring", "spiral")
    ),
    Game("wgan-gp", (), recipe="wgan-gp"),
    Game("slow", (), settings=("game.generator.rate=0.0003", "game.discriminator.rate=0.0003")),
    Game("two rates", (), settings=("game.generator.rate=0.0003",)),
    Game("extragradient", (), settings=("game.update=extragradient",)),
    Game("simultaneous", (), settings=("game.update=simultaneous",)),
    Game("strong penalty", (), settings=("game.penalty.gamma=3", "game.penalty.gamma_end=1")),
    Game("large batch", (), settings=("game.batch=256",)),
)


def play(game: Game, seed: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]], str]:
    """Play a game to its end and return its log lines, its scores, and why it ended."""
    kind = tasks.task_settings("points", game.source)
    given = [f"data.source={game.source}", *POINTS, *game.settings, f"seed={seed}"]
    recipe = with_settings(recipe_for(game.recipe, Facts(), kind), given)
    source = tasks.opened(recipe, CPU, SILENT.stage)
    recipe = source.settled(recipe)
    task = source.task(recipe, loss_of(recipe, None), torch.float32, SILENT.stage)
    judge = task.judge("validation")
    assert judge is not None
    played: Any = task if game.change is None else game.change(task, seed)
    monitor = monitor_of(recipe, judge)
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder.create(Path(folder) / "run", recipe, task.describe())
        outcome = loop.train(played, recipe, run, judge, monitor, SILENT)
        return records(run.steps), records(run.scores), f"{outcome.stop.reason}: {outcome.stop.message}"


def main() -> None:
    """Play every game once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for game in (*SICK, *HEALTHY):
        lines, scores, why = play(game, options.seed)
        last = lines[-1]
        kind = ", ".join(game.conditions) or "healthy"
        print(f"{game.name} ({kind}): {why.partition(':')[0]}, accuracy {last['accuracy']}", flush=True)
        print(f"  MMD {[score['loss'] for score in scores[-3:]]}, signals {last['signals']}", flush=True)


if __name__ == "__main__":
    main()
