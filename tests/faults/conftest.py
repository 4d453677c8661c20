"""What the tests of faults share: small trainings of each task, as processes and in this one."""

import os
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import killing
import lives
import pytest
from corpus import write_photographs

import equipoise as eq

NOT_OF_PHOTOS = ("networks.", "evaluation.num_samples")  # what a small training sets, and photographs do not have
OF_PHOTOS = ("task.scale=2", "task.patch=32", "task.faithful=0.3", "networks.width=4")


@pytest.fixture
def seed() -> int:
    """Return another seed each time, which pytest shows where a test fails."""
    seed = int(os.environ.get("EQUIPOISE_KILL_SEED", random.randrange(10**6)))
    print(f"EQUIPOISE_KILL_SEED={seed}")
    return seed


@pytest.fixture(scope="session")
def case(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> killing.Case:
    """Return a small training, whose images are prepared and whose judge has learned."""
    return taught("images", killing.Case(shapes, tmp_path_factory.mktemp("case") / "cache"))


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of 44 smooth colour photographs of 64×48 pixels, with grain."""
    return write_photographs(tmp_path_factory.mktemp("photos"), 44)


@pytest.fixture(scope="session")
def case_of(case: killing.Case, photos: Path) -> Callable[[str], killing.Case]:
    """Return a function from a task's name to a small training of it; "own" is one that Python defines."""
    taught_ones = {"images": case}

    def of(task: str) -> killing.Case:
        if task not in taught_ones:
            taught_ones[task] = taught(task, untaught(task))
        return taught_ones[task]

    def untaught(task: str) -> killing.Case:
        match task:
            case "points":
                return killing.Case("ring", cache)
            case "super-resolution":
                settings = [setting for setting in killing.SETTLED if not setting.startswith(NOT_OF_PHOTOS)]
                return killing.Case(photos, cache, 640, (*settings, *OF_PHOTOS), task=task)
            case "own":
                return killing.Case("spiral", cache, is_own=True)
            case _:
                raise ValueError(task)

    cache = case.cache
    return of


def taught(task: str, case: killing.Case) -> killing.Case:
    """Return a training whose data are prepared and whose judge has learned: one of its lives is over."""
    killing.finished(case.but("evaluation.every=48", budget=48), case.cache.with_name(f"first-{task}"))
    return case


@pytest.fixture
def command(shapes: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> lives.Command:
    """Return the command of a small training, with a cache that this process has, too."""
    cache = tmp_path_factory.getbasetemp() / "cache"
    monkeypatch.setenv("EQUIPOISE_CACHE", os.fspath(cache))
    return lives.Command(shapes, cache)


@pytest.fixture
def run_of(small: None, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., eq.Run]:
    """Return a function that trains here, judges by few examples and shows few."""
    for place, num in killing.FEW.items():
        monkeypatch.setattr(f"equipoise.{place}", num)

    def run(name: str, *settings: str, source: str | Path = shapes, budget: str = "400", **options: Any) -> eq.Run:
        every = [*killing.SETTLED, "evaluation.every=80", *settings]
        return eq.train(source, budget=budget, out=tmp_path / name, settings=every, **options)

    return run


@pytest.fixture
def run_of_points(run_of: Callable[..., eq.Run]) -> Callable[..., eq.Run]:
    """Return the same function for points, which train at once."""
    return partial(run_of, source="ring")
