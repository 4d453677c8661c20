"""Small real trainings for the tests: a folder of tiny drawn shapes, and a judge that learns in a second."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from quick import quicken

from equipoise.data.pool import Pool, prepare
from equipoise.metrics.features import encoder
from equipoise.recipe import Data

pytest_plugins = ["fake_runs", "numbers_by_hand"]

SIZE = 8


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Two test processes with two threads each would wait for one another."""
    torch.set_num_threads(1)


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
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let the judge learn in a second, in a cache that all tests of this process share."""
    defaults = encoder.load_or_train.__kwdefaults__
    assert defaults is not None
    before = defaults["steps"]
    quicken()
    monkeypatch.setenv("EQUIPOISE_CACHE", os.fspath(tmp_path_factory.getbasetemp() / "cache"))
    yield
    defaults["steps"] = before


@pytest.fixture
def small(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the judge learn in a second, and the end of a run take 200 generated images instead of 5,000."""
    for module in ("api", "watch.judge"):
        monkeypatch.setattr(f"equipoise.{module}.NUM_REAL", 200)
