"""Small real trainings for the tests: a folder of tiny drawn shapes, and a judge that learns in a second."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image
from quick import QUICK_STEPS, encoder_defaults
from small import FEW, SETTLED

import equipoise as eq
from equipoise.data.pool import Pool, prepare
from equipoise.evaluation import scoring
from equipoise.evaluation.evaluate import Contender, Evaluation
from equipoise.game.terms import StepContext
from equipoise.game.updates import Players, Terms
from equipoise.randomness import Randomness
from equipoise.recipe import Data
from equipoise.tasks.images import ImageTask
from equipoise.tasks.points import PointTask

pytest_plugins = ["fake_runs", "numbers_by_hand"]

SIZE = 8


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Two test processes with two threads each would wait for one another."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session", autouse=True)
def _unsynced() -> Iterator[None]:
    """Leave it to the system when files reach the disk: nothing cuts the power here, and a run syncs 150 times."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda _: None)
        yield


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of 240 grey 8×8 images in two classes: bars that lie and bars that stand."""
    folder = tmp_path_factory.mktemp("shapes")
    generator = np.random.default_rng(0)
    for index in range(240):
        pixels = generator.integers(0, 60, (SIZE, SIZE)).astype(np.uint8)
        row = int(generator.integers(1, SIZE - 2))
        pixels[row : row + 2] = generator.integers(180, 255)
        name = "lying" if index % 2 else "standing"
        (folder / name).mkdir(exist_ok=True)
        Image.fromarray(pixels if index % 2 else pixels.T).save(folder / name / f"{index}.png")
    return folder


@pytest.fixture(scope="session")
def pool(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> Pool:
    """Return the shapes, prepared in a cache of their own."""
    return prepare(Data(source=str(shapes)), cache=tmp_path_factory.mktemp("cache"))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Let the judge learn in a second, in a cache that all tests of this process share."""
    monkeypatch.setitem(encoder_defaults(), "steps", QUICK_STEPS)
    monkeypatch.setenv("EQUIPOISE_CACHE", os.fspath(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture
def small(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the judge learn in a second, and judge by 200 examples where a user's run takes thousands."""
    for place, num in FEW.items():
        monkeypatch.setattr(place, num)


@pytest.fixture
def train_small(small: None, shapes: Path, tmp_path: Path) -> Callable[..., eq.Run]:
    """Return a function that trains a small run in a folder of this test, of the shapes or of another source.

    Nothing in it depends on this machine's speed, so two runs may be compared.
    """

    def train(
        name: str | Path, *settings: str, source: str | Path | None = None, budget: str = "800", **options: Any
    ) -> eq.Run:
        given = [*SETTLED, *settings]
        return eq.train(source or shapes, budget=budget, out=tmp_path / name, settings=given, **options)

    return train


@pytest.fixture(scope="session")
def trained_once() -> dict[tuple[Any, ...], eq.Run]:
    """Return the runs that tests share, by their test file and what they were trained with."""
    return {}


@pytest.fixture
def train_once(
    train_small: Callable[..., eq.Run],
    trained_once: dict[tuple[Any, ...], eq.Run],
    tmp_path_factory: pytest.TempPathFactory,
    request: pytest.FixtureRequest,
) -> Callable[..., eq.Run]:
    """Return a function that trains as `train_small` does, once for all tests of a file, which must not change the run.

    What a test has patched is no part of what tells two runs apart: give them other names.
    """

    def train(
        name: str, *settings: str, source: str | Path | None = None, budget: str = "800", **options: Any
    ) -> eq.Run:
        key = (request.path, name, settings, source, budget, *options.items())
        if key not in trained_once:
            out = tmp_path_factory.mktemp("once") / name
            trained_once[key] = train_small(out, *settings, source=source, budget=budget, **options)
        return trained_once[key]

    return train


@pytest.fixture
def stage_losses(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that lets every evaluation find a loss that is a function of the samples alone.

    The paired differences follow from it, with the given standard error.
    """

    def stage(loss_at: Callable[[int], float], error: float = 0.0) -> None:
        real = scoring.evaluate

        def evaluate(task: Any, judge: Any, contender: Contender, best: Contender | None, deadline: Any) -> Evaluation:
            found = real(task, judge, contender, best, deadline)
            changes: dict[str, Any] = {"loss": loss_at(contender.samples), "error": error}
            if best is not None:
                difference = loss_at(contender.samples) - loss_at(best.samples)
                changes |= {"difference": difference, "difference_error": error}
            return Evaluation(msgspec.structs.replace(found.score, **changes), found.measured)

        monkeypatch.setattr(scoring, "evaluate", evaluate)

    return stage


@pytest.fixture
def poison(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that makes the generator's loss NaN at chosen places, in every training of this process.

    A place is a position and an attempt, so a run that is resumed meets the same.
    """

    def poison(is_bad: Callable[[Randomness], bool]) -> None:
        for kind in (ImageTask, PointTask):
            monkeypatch.setattr(kind, "generator_terms", poisoned(kind.generator_terms, is_bad))

    return poison


def poisoned(real: Callable[..., Terms], is_bad: Callable[[Randomness], bool]) -> Callable[..., Terms]:
    """Return a task's method with a loss of NaN at bad places."""

    def generator_terms(self: Any, players: Players, batch: Any, step: StepContext) -> Terms:
        found = real(self, players, batch, step)
        if not is_bad(step.randomness):
            return found
        return Terms({name: loss * float("nan") for name, loss in found.losses.items()}, found.stats)

    return generator_terms
