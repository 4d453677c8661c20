"""A task without images: points in the plane, a generator that shifts its latents, and a judge of squares."""

import dataclasses
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from equipoise.game.updates import Players, make_update
from equipoise.host.intervals import Intervals
from equipoise.metrics.feature_judge import NotFiniteError
from equipoise.metrics.units import Measured, mean_measured
from equipoise.randomness import Randomness
from equipoise.recipe import Budget, Game, Recipe, Stopping
from equipoise.runs.folder import RunFolder
from equipoise.state import TrainingState
from equipoise.stopping.monitor import Monitor
from equipoise.storage.records import DataRecord, Metric
from equipoise.tasks.base import CHUNK, Examples, Exhibit, JudgedSplit, Rival, Split

LIMIT = 3.0
METRICS = (
    Metric(name="square", label="squares", meaning="mean square of the coordinates", decides=True),
    Metric(name="level", label="level", unit="m", meaning="mean coordinate", guard=LIMIT),
)
SEEDS: dict[JudgedSplit, int] = {"validation": 0, "test": 1, "validation, second half": 2}


class Shifted(nn.Module):
    """Latents [N, 2] moved by a weight: its mean square is 1 + shift²."""

    def __init__(self, shift: float = 0.0) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.tensor(shift))

    def forward(self, latents: Tensor) -> Tensor:
        return latents + self.shift


class Score(nn.Module):
    """Points [N, 2] to logits [N]."""

    def __init__(self) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(1.0))

    def forward(self, points: Tensor) -> Tensor:
        return self.slope * points.sum(1)


@dataclass(frozen=True)
class Squares:
    """A judge by the mean square of points [N, 2]; what it was given is kept."""

    split: str = "validation"
    num: int = 600
    seed: int = 0
    name: str = "one"
    metrics: tuple[Metric, ...] = METRICS
    given: list[Tensor] = field(default_factory=list)

    @property
    def protocol(self) -> dict[str, Any]:
        return {"judge": self.name, "split": self.split, "num": self.num, "seed": self.seed}

    def sized(self, num: int) -> "Squares":
        return dataclasses.replace(self, num=num)

    def measure(self, outputs: Iterable[Tensor]) -> Measured:
        points = torch.cat(list(outputs))
        self.given.append(points)
        if not points.isfinite().all():
            raise NotFiniteError("not finite")
        values = {"square": points.square().mean().item(), "level": points.mean().item()}
        return mean_measured(points.square().mean(1), values)


@dataclass
class PlaneTask:
    """Points of a normal distribution; who asks for which judge is kept, and judges may be missing or broken."""

    judges: dict[str, Any] = field(
        default_factory=lambda: {split: Squares(split, seed=SEEDS[split]) for split in SEEDS}
    )
    some_rivals: tuple[Rival, ...] = ()
    asked: list[str] = field(default_factory=list)
    fails: BaseException | None = None  # of the discriminator
    chunk: int = CHUNK

    def describe(self) -> DataRecord:
        return DataRecord(
            source="plane", digest="d", num_train=400, num_validation=100, num_test=100, noun="points", metrics=METRICS
        )

    def players(self) -> Players:
        return Players(Shifted(), Score())

    def outputs(self, generator: nn.Module, randomness: Randomness, split: Split, begin: int, size: int) -> Tensor:
        with torch.no_grad():
            return generator(Randomness(randomness.seed, begin).normal("latents", size, 2))

    def examples(self, split: Split, begin: int, size: int) -> Examples:
        points = Randomness(7, begin).normal(split, size, 2)
        return Examples(None, points + 2 if split == "train" else points + 1)

    def logits(self, discriminator: nn.Module, inputs: Any, outputs: Tensor) -> Tensor:
        if self.fails is not None:
            raise self.fails
        return discriminator(outputs)

    def judge(self, split: JudgedSplit) -> Squares | None:
        self.asked.append(split)
        found = self.judges[split]
        if isinstance(found, BaseException):
            raise found
        return found

    def rivals(self) -> tuple[Rival, ...]:
        return self.some_rivals

    def snapshot(self, generator: nn.Module) -> Exhibit:
        return Exhibit("picture", "snapshot", "How the samples developed", b"a picture")

    def exhibits(self, generator: nn.Module) -> list[Exhibit]:
        return [
            Exhibit("picture", "best", "Samples", b"best", caption="Generated."),
            Exhibit("lines", "lines", "Samples", b"[]"),
        ]


@dataclass
class Stage:
    """A run with its task, monitor and state, as a training has them."""

    run: RunFolder
    task: Any
    monitor: Monitor
    state: TrainingState

    @property
    def judge(self) -> Any:
        """The judge of the training."""
        return self.task.judges["validation"]

    def at(self, samples: int, shift: float) -> None:
        """Let the training be somewhere, with an averaged generator of some shift."""
        self.state.samples = samples
        self.state.generator_ema = Shifted(shift).requires_grad_(False).eval()


@pytest.fixture
def plane() -> Callable[..., Any]:
    """Return the maker of tasks."""
    return PlaneTask


@pytest.fixture
def squares() -> Callable[..., Any]:
    """Return the maker of judges."""
    return Squares


@pytest.fixture
def shifted() -> Callable[[float], nn.Module]:
    """Return the maker of generators."""
    return Shifted


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    """Return a run whose training has just begun."""
    task = PlaneTask()
    run = RunFolder.create(tmp_path / "run", Recipe(), task.describe())
    monitor = Monitor(Stopping(policy="evidence"), Budget(), METRICS)
    state = TrainingState(make_update(Game(), task.players()), Shifted(), Intervals())
    return Stage(run, task, monitor, state)
