"""Tasks as a training makes them, from small sources, and the worked example of CONTRIBUTING.md."""

import importlib.util
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from corpus import write_photographs
from small import FOR_PHOTOS, SMALL

from equipoise import tasks
from equipoise.recipe import with_settings
from equipoise.recipes import Facts, build
from equipoise.setup import loss_of

ROOT = Path(__file__).parents[2]
CPU = torch.device("cpu")


def unseen(text: str, share: float) -> None:
    """Show no stage."""


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of 40 smooth colour photographs of 64×48 pixels, with grain."""
    return write_photographs(tmp_path_factory.mktemp("photos"), 40)


@pytest.fixture
def open_source() -> Callable[..., Any]:
    """Return a function from a task's name, a source and settings to (recipe, source that was read)."""

    def opened(name: str, source: str | Path, *settings: str) -> Any:
        recipe = build("modern", Facts(), tasks.task_settings(name, None))
        given = [f"data.source={source}", *SMALL]
        if name == "super-resolution":
            given += FOR_PHOTOS
        recipe = with_settings(recipe, [*given, *settings])
        return recipe, tasks.opened(recipe, CPU, unseen)

    return opened


@pytest.fixture
def make_task(quick: None, open_source: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function from a task's name, a source and settings to the task."""

    def made(name: str, source: str | Path, *settings: str) -> Any:
        recipe, opened = open_source(name, source, *settings)
        recipe = opened.settled(recipe)
        return opened.task(recipe, loss_of(recipe, None), torch.float32, unseen)

    return made


@pytest.fixture(scope="session")
def example(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """Return the worked example of CONTRIBUTING.md as a module."""
    section = (ROOT / "CONTRIBUTING.md").read_text("utf-8").partition("\n## Adding a task\n")[2].partition("\n## ")[0]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    path = tmp_path_factory.mktemp("example") / "waves.py"
    path.write_text(code, "utf-8")
    spec = importlib.util.spec_from_file_location("worked_example", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
