"""What CONTRIBUTING shows of adding a loss, an update and a recipe is enough: one file each, and nothing else."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import equipoise

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"```python\n# src/(equipoise/\S+\.py)\n(.*?)```", re.DOTALL)


def run(package: Path, *arguments: str) -> str:
    """Run the command line of a copy of the package, and return what it prints."""
    command = [sys.executable, "-m", "equipoise", *arguments]
    environment = os.environ | {"PYTHONPATH": str(package)}
    found = subprocess.run(command, env=environment, cwd=package, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    return found.stdout


@pytest.mark.slow
def test_a_loss_an_update_and_a_recipe_are_one_file_each(tmp_path: Path) -> None:
    shutil.copytree(
        Path(equipoise.__file__).parent, tmp_path / "equipoise", ignore=shutil.ignore_patterns("__pycache__")
    )
    files = dict(BLOCK.findall((ROOT / "CONTRIBUTING.md").read_text()))
    assert [path.split("/")[-2] for path in files] == ["losses", "rules", "zoo"]
    for path, text in files.items():
        assert not (tmp_path / path).exists()
        (tmp_path / path).write_text(text)
    assert "bounded-first" in run(tmp_path, "recipes")
    quick = ["--set", "evaluation.num_samples=200", "--set", "evaluation.every=2048"]
    run(tmp_path, "train", "ring", "--recipe", "bounded-first", "--budget", "4096", "--out", "run", *quick)
    recipe = (tmp_path / "run" / "recipe.json").read_text()
    assert '"bounded"' in recipe
    assert '"generator-first"' in recipe
    assert "finished" in run(tmp_path, "status", "run", "--json")
    run(tmp_path, "train", "ring", "--budget", "2048", "--out", "two", *quick, "--set", "game.loss=bounded")
