"""The examples run as a reader runs them, for a few steps: each leaves its best, scores, a reason and a report."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from equipoise.runs.folder import RunFolder
from equipoise.storage.logs import records

ROOT = Path(__file__).parent.parent
# The command line of an example with a judge that learns in a second.
QUICKLY = """
import runpy, sys
from equipoise.metrics.features import encoder
encoder.load_or_train.__kwdefaults__["steps"] = 3
sys.argv = sys.argv[1:]
sys.path.insert(0, sys.argv[0].rpartition("/")[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("name", "needs", "weights"),
    [
        ("pytorch_gan", "torch", "generator.safetensors"),
        ("lightning_gan", "lightning", "generator.safetensors"),
        ("keras_gan", "keras", "generator.weights.h5"),
    ],
)
def test_an_example_runs(tmp_path: Path, name: str, needs: str, weights: str) -> None:
    if importlib.util.find_spec(needs) is None:
        pytest.skip(f"{needs} is not installed")
    run = tmp_path / "run"
    options = ["--out", str(run), "--budget", "2560", "--set", "evaluation.num_samples=200"]
    environment = os.environ | {"EQUIPOISE_CACHE": str(tmp_path / "cache"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", QUICKLY, str(ROOT / "examples" / f"{name}.py"), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=380, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert "(budget)" in done.stdout
    assert (run / "best" / weights).stat().st_size > 100_000
    scores = records(run / "log" / "scores.jsonl")
    assert scores[-1]["samples"] == 2560  # what is returned was scored
    state = RunFolder.open(run).read_state()
    assert (state.stop_reason, state.samples) == ("budget", 2560)
    assert state.test is not None
    assert state.test.protocol["split"] == "test"
    assert (state.message or "?") in (run / "report.html").read_text()
    assert RunFolder.open(run).is_custom_loop
    assert len(RunFolder.open(run).read_rivals().scores) == 2


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.name)
def test_examples_are_short_and_named_in_their_readme(path: Path) -> None:
    assert path.read_text().count("\n") < 120
    assert path.name in (ROOT / "examples" / "README.md").read_text()
