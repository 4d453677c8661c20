"""Games of points and of digits that are sick, each made ill in one known way, and healthy ones that might look ill.

    python bench/sick_games.py [--seed 0]

A game is a recipe, settings, and what is changed in its task. All intervals are fixed, so that a game is a function of
its kind and its seed. Prints how each one ends: why, its scores, and the signals of its last log line. What the
diagnoses say of them is measured by bench/doctor.py.
"""

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from equipoise import loop, tasks
from equipoise.api import SILENT
from equipoise.game.terms import StepContext
from equipoise.game.updates import ROLES, Players, Terms
from equipoise.recipe import with_settings
from equipoise.recipes import Facts, RecipeName, recipe_for
from equipoise.runs.folder import RunFolder
from equipoise.setup import loss_of, monitor_of
from equipoise.storage.logs import records
from equipoise.storage.records import Condition
from equipoise.tasks.base import Task

CPU = torch.device("cpu")
BATCH = 64
ROUNDS = 1_500
DIGITS_BATCH = 32
DIGITS_ROUNDS = 900
LINES = 60  # of the log
EVALUATIONS = 12


def lasting(samples: int, spaced_as: int | None = None) -> tuple[str, ...]:
    """Return settings for a game of so many samples, with its log lines and evaluations at fixed places.

    `spaced_as`: these are as far apart as in a game of so many samples.
    """
    spaced_as = spaced_as or samples
    return (
        f"budget.samples={samples}",
        f"saving.every={samples}",
        f"saving.log_every={spaced_as // LINES}",
        f"evaluation.every={spaced_as // EVALUATIONS}",
    )


FIXED = ("budget.seconds=none", "evaluation.num_samples=500", "stopping.policy=budget", "remedies.attempts=0")
POINTS = (*FIXED, f"game.batch={BATCH}", *lasting(BATCH * ROUNDS))
DIGITS = (*FIXED, f"game.batch={DIGITS_BATCH}", *lasting(DIGITS_BATCH * DIGITS_ROUNDS))
SMALL = ("networks.width=8",)
PLAIN = ("game.penalty.kind=none", "game.penalty.gamma=0", "game.penalty.gamma_end=none")

Change = Callable[[Task, int], Any]


@dataclass(frozen=True)
class Game:
    """A kind of game: what is told to a training, what is changed in its task, and which conditions are true of it."""

    name: str
    conditions: tuple[Condition, ...]  # any of which is a right diagnosis; none: it is healthy
    source: str = "ring"
    recipe: RecipeName = "modern"
    settings: tuple[str, ...] = ()
    change: Change | None = None
    made: str = ""  # how, where settings do not say it

    @property
    def how(self) -> str:
        """How it is made, in words or in settings, beside the recipe and its constant rates."""
        frame = ("budget.", "saving.", "evaluation.", "game.penalty.gamma")
        told = [one for one in self.settings if not one.startswith(frame) and not one.endswith("rate_end=none")]
        text = ", ".join(told).replace("game.penalty.kind=none", "no penalty").replace("game.", "")
        return self.made or text or f"recipe {self.recipe}"


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
class Faded(Changed):
    """Real images of less contrast."""

    factor: float = 0.6

    def batch(self, randomness: Any, num: int) -> Any:
        """Return a batch of faded images."""
        found = self.inner.batch(randomness, num)
        return replace(found, real=self.factor * found.real)


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

    def forward(self, latents: Tensor, *labels: Tensor | None) -> Tensor:
        """Map latents to points or images."""
        return self.network(self.factor * latents, *labels)


class Copying(nn.Module):
    """A generator that returns images it was given, with a little of its own."""

    bank: Tensor
    directions: Tensor

    def __init__(self, network: nn.Module, bank: Tensor, num_latents: int) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("bank", bank)
        self.register_buffer(
            "directions", torch.randn(num_latents, len(bank), generator=torch.Generator().manual_seed(0))
        )

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Map latents to the images that they point to."""
        copied = self.bank[(latents @ self.directions).argmax(1)]
        return (copied + 0.02 * self.network(latents, labels)).clamp(-1, 1)


class Clipped(nn.Module):
    """A generator with a gain in its last layer that drives most values to the ends of their range."""

    def __init__(self, network: nn.Module, gain: float = 30.0) -> None:
        super().__init__()
        self.network = network
        self.gain = gain

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Map latents to images."""
        return (self.gain * self.network(latents, labels)).clamp(-1, 1)


class Mirrored(nn.Module):
    """A generator whose images are mirrored, which no discriminator can see behind flips."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Map latents to images."""
        return self.network(latents, labels).flip(3)


def copying(task: Any, players: Players) -> Players:
    """Return a game whose generator copies training images."""
    bank = task.examples("train", 0, 500).targets
    return Players(Copying(players.generator, bank, task.recipe.networks.latent_size), players.discriminator)


def few(task: Any, num: int = 48) -> Any:
    """Return a task of images with the first training images alone."""
    splits = replace(task.pool.splits, train=task.pool.splits.train[:num])
    return replace(task, pool=replace(task.pool, splits=splits))


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

PLAIN_RECIPES: tuple[RecipeName, ...] = ("dcgan", "conv-28", "lsgan", "hinge-sn", "wgan")  # no penalty
PAIRED = ("relativistic", "non-saturating", "hinge", "least-squares")
WEAK_PAIR = (*PLAIN, "game.loss=non-saturating")
SICK = (
    Game(
        "15 discriminator steps",
        ("discriminator-overpowering", "mode-dropping"),
        settings=(*WEAK_PAIR, "game.discriminator_steps=15"),
    ),
    Game(
        "1 discriminator step in 15",
        ("discriminator-too-weak", "mode-dropping"),
        made="no penalty; the discriminator rests in 14 of 15 rounds",
        settings=WEAK_PAIR,
        change=lambda task, _: Resting(task),
    ),
    Game(
        "rates × 30",
        ("rate-too-high", "divergence", "mode-collapse"),
        settings=both("0.03"),
    ),
    Game(
        "rates × 100",
        ("rate-too-high", "divergence", "exploding-gradient", "mode-collapse"),
        settings=both("0.1"),
    ),
    Game(
        "strong discriminator without a penalty",
        ("discriminator-overpowering", "vanishing-gradient", "mode-dropping"),
        settings=(*PLAIN, "game.loss=minimax", "game.discriminator.rate=0.01", "game.generator.rate=0.0003"),
    ),
    Game(
        "minimax",
        ("vanishing-gradient", "discriminator-overpowering", "mode-dropping"),
        settings=(*PLAIN, "game.loss=minimax", "game.discriminator_steps=5"),
    ),
    Game(
        "deep sigmoid discriminator",
        ("vanishing-gradient", "discriminator-too-weak"),
        made="no penalty; a discriminator of 10 layers with sigmoids",
        settings=WEAK_PAIR,
        change=lambda task, _: Rebuilt(task, lambda players: deep(players, nn.Sigmoid, 8, 1.0)),
    ),
    Game(
        "exploding depth",
        ("exploding-gradient", "rate-too-high", "divergence"),
        made="no penalty; a discriminator of 14 layers with ReLU and weights of a gain of 3",
        settings=WEAK_PAIR,
        change=lambda task, _: Rebuilt(task, lambda players: deep(players, nn.ReLU, 12, 3.0)),
    ),
    Game(
        "collapsed by construction",
        ("mode-collapse",),
        made="latents are multiplied by 0.0001",
        change=lambda task, _: Rebuilt(task, lambda p: Players(Scaled(p.generator, 1e-4), p.discriminator)),
    ),
    Game(
        "NaN in the data",
        ("non-finite",),
        made="one value of a batch, from the middle on",
        change=lambda task, _: Poisoned(task, "data"),
    ),
    Game(
        "NaN in a loss",
        ("non-finite",),
        made="the generator's, from the middle on",
        change=lambda task, _: Poisoned(task, "loss"),
    ),
    Game(
        "NaN in one gradient",
        ("non-finite",),
        made="of one weight, from the middle on",
        change=lambda task, _: Poisoned(task, "gradient"),
    ),
    Game("rates ÷ 1000", ("rate-too-low",), settings=both("1e-6")),
    Game(
        "batch norm with batch 2",
        ("mode-collapse", "mode-dropping", "averaged-generator-worse"),
        settings=("networks.generator_norm=batch", "game.batch=2", *lasting(3_000)),
    ),
    Game(
        "wasserstein without a limit",
        ("divergence", "exploding-gradient", "cycling"),
        settings=(*PLAIN, "game.loss=wasserstein", "game.discriminator.rate=0.003"),
    ),
    Game(
        "momentum with Adam",
        ("cycling",),
        settings=(
            *PLAIN,
            *both("0.003"),
            "game.loss=wasserstein",
            "game.weight_clip=0.1",
            "game.generator.beta1=0.9",
            "game.discriminator.beta1=0.9",
        ),
    ),
    Game(
        "momentum without damping",
        ("cycling", "divergence", "non-finite", "mode-collapse"),
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
    Game(
        "few digits",
        ("discriminator-overfitting",),
        "mnist",
        made="no penalty; 48 training images",
        settings=(*PLAIN, "game.loss=non-saturating"),
        change=lambda task, _: few(task),
    ),
    Game(
        "copied digits",
        ("memorization",),
        "mnist",
        made="a generator that returns training images, with 2 % of its own",
        change=lambda task, _: Rebuilt(task, lambda players: copying(task, players)),
    ),
    Game(
        "digits collapsed by construction",
        ("mode-collapse",),
        "mnist",
        made="latents are multiplied by 0",
        change=lambda task, _: Rebuilt(task, lambda p: Players(Scaled(p.generator, 0.0), p.discriminator)),
    ),
    Game(
        "digits, rates × 100",
        ("rate-too-high", "divergence", "exploding-gradient", "mode-collapse"),
        "mnist",
        settings=both("0.2"),
    ),
    Game(
        "digits, mirrored",
        ("augmentation-leak",),
        "mnist",
        made="flips with probability 1; a generator whose images are mirrored",
        settings=("augment.kinds=flip", "augment.probability=1", *lasting(32 * 1_800)),
        change=lambda task, _: Rebuilt(task, lambda p: Players(Mirrored(p.generator), p.discriminator)),
    ),
    Game(
        "digits of less contrast, clipped",
        ("saturation",),
        "mnist",
        made="real images × 0.6; a generator whose values are × 30 and cut to their range",
        change=lambda task, _: Rebuilt(Faded(task), lambda p: Players(Clipped(p.generator), p.discriminator)),
    ),
    Game(
        "digits, 8 discriminator steps and minimax",
        ("discriminator-overpowering", "vanishing-gradient"),
        "mnist",
        settings=(
            *PLAIN,
            "game.loss=minimax",
            "game.discriminator_steps=8",
            "game.generator.rate=0.0001",
            "game.generator.rate_end=none",
            "game.discriminator.rate=0.001",
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
    Game("wgan-gp", (), recipe="wgan-gp", settings=lasting(5 * BATCH * ROUNDS)),
    Game("slow", (), settings=("game.generator.rate=0.0003", "game.discriminator.rate=0.0003")),
    Game("two rates", (), settings=("game.generator.rate=0.0003",)),
    Game("extragradient", (), settings=("game.update=extragradient",)),
    Game("simultaneous", (), settings=("game.update=simultaneous",)),
    Game("strong penalty", (), settings=("game.penalty.gamma=3", "game.penalty.gamma_end=1")),
    Game("slow average", (), settings=("game.ema_half_life=1000000",)),
    Game("large batch", (), settings=("game.batch=256",)),
    Game("small batch", (), settings=("game.batch=16", *lasting(16 * 2 * ROUNDS))),
    Game("constant rates", (), settings=("game.generator.rate_end=none", "game.discriminator.rate_end=none")),
    Game("rmsprop", (), settings=("game.generator.optimizer=rmsprop", "game.discriminator.optimizer=rmsprop")),
    Game("two discriminator steps", (), settings=("game.discriminator_steps=2", *lasting(2 * BATCH * ROUNDS))),
    Game("instance noise", (), settings=("game.instance_noise=0.1",)),
    *(Game(f"digits, {loss}, R1 and R2", (), "mnist", settings=(f"game.loss={loss}",)) for loss in PAIRED),
    Game("digits, conditional", (), "mnist", settings=("networks.conditional=true", *lasting(32 * 1_800))),
    Game("digits, augmented", (), "mnist", settings=("augment.kinds=translation", "augment.probability=0.5")),
    Game("digits, constant rates", (), "mnist", settings=both("0.001")),
    *(Game(f"digits, {name}", (), "mnist", name, settings=lasting(32 * 1_800)) for name in PLAIN_RECIPES),
)


@dataclass(frozen=True)
class Left:
    """What a game leaves: its log lines, its scores, what happened, and why it ended."""

    lines: list[dict[str, Any]]
    scores: list[dict[str, Any]]
    events: list[dict[str, Any]]
    why: str


def play(game: Game, seed: int, more: tuple[str, ...] = ()) -> Left:
    """Play a game to its end, with some settings more."""
    is_of_digits = game.source == "mnist"
    kind = tasks.task_settings("images" if is_of_digits else "points", game.source)
    usual = (*DIGITS, *SMALL) if is_of_digits else POINTS
    given = [f"data.source={game.source}", *usual, *game.settings, *more, f"seed={seed}"]
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
        files = [list(records(path)) for path in (run.steps, run.scores, run.events)]
        return Left(*files, why=f"{outcome.stop.reason}: {outcome.stop.message}")


def main() -> None:
    """Play every game once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for game in (*SICK, *HEALTHY):
        left = play(game, options.seed)
        last = left.lines[-1]
        kind = ", ".join(game.conditions) or "healthy"
        print(f"{game.name} ({kind}): {left.why.partition(':')[0]}, accuracy {last['accuracy']}", flush=True)
        print(f"  score {[score['loss'] for score in left.scores[-3:]]}, signals {last['signals']}", flush=True)


if __name__ == "__main__":
    main()
