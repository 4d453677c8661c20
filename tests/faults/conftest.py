"""What the tests of faults share: small trainings, as processes and in this one."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import killing
import lives
import pytest

import equipoise as eq


@pytest.fixture(scope="session")
def case(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> killing.Case:
    """Return a small training, whose images are prepared and whose judge has learned."""
    folder = tmp_path_factory.mktemp("case")
    case = killing.Case(shapes, folder / "cache")
    killing.finished(case.but("judging.every=48", budget=48), folder / "first")
    return case


@pytest.fixture
def command(shapes: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> lives.Command:
    """Return the command of a small training, with a cache that this process has, too."""
    cache = tmp_path_factory.getbasetemp() / "cache"
    monkeypatch.setenv("EQUIPOISE_CACHE", os.fspath(cache))
    return lives.Command(shapes, cache)


@pytest.fixture
def run_of(small: None, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., eq.Run]:
    """Return a function that trains here; the last choice is by few images, which is most of what such a run costs."""
    for module in ("evaluate", "finish"):
        monkeypatch.setattr(f"equipoise.evaluation.{module}.NUM_SNAPSHOT", killing.NUM_SNAPSHOT)

    def run(name: str, *settings: str, budget: str = "400", **options: Any) -> eq.Run:
        every = [*killing.SETTLED, "judging.every=80", *settings]
        return eq.train(shapes, budget=budget, out=tmp_path / name, settings=every, **options)

    return run
