"""Points in the plane: how fast a recipe finds all modes, and how good it is at the end.

    python bench/points.py [--seconds 120] [--seeds 0 1 2] [--sources ring grid spiral] [--updates alternating]

Trains each mixture for the same time, and writes records/points.json: the seconds until an evaluation first found
every mode with 95 % good points, and the scores on the test split beside those of the baselines. "Good" is a point
within three deviations of its nearest mode (arXiv:1712.04086, section 4.1).
"""

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

from common import write_record

import equipoise as eq
from equipoise.storage.logs import records

GOOD = 0.95


def measured(source: str, update: str, seconds: int, seed: int, folder: Path) -> dict[str, Any]:
    """Train on one mixture and return what came of it."""
    settings = [f"game.update={update}", "stopping.policy=budget"]
    run = eq.train(source, budget=f"{seconds}s", seed=seed, out=folder, settings=settings)
    state = run.state
    assert state.test is not None
    assert state.rivals is not None
    return {
        "source": source,
        "update": update,
        "seed": seed,
        "seconds": state.seconds,
        "samples": state.samples,
        "seconds_until_all_modes": seconds_until_all_modes(run),
        "test": state.test.values,
        "test_error": state.test.error,
        "baselines": {rival.name: rival.values for rival in state.rivals.scores},
    }


def seconds_until_all_modes(run: eq.Run) -> float | None:
    """Return the training seconds at the first evaluation with every mode and 95 % good points, None without one."""
    num_modes = {"ring": 8, "grid": 25, "spiral": 20}[run.recipe.data.source]
    lines = list(records(run.folder.scores))
    steps = list(records(run.folder.steps))
    for line in lines:
        values = line.get("values", {})
        if values.get("modes") == num_modes and values.get("good", 0.0) >= GOOD:
            return next((step["seconds"] for step in steps if step["samples"] >= line["samples"]), run.state.seconds)
    return None


def main() -> None:
    """Run all and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--sources", nargs="+", default=["ring", "grid", "spiral"])
    parser.add_argument("--updates", nargs="+", default=["alternating"])
    options = parser.parse_args()
    runs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in options.seeds:
            for source in options.sources:
                for update in options.updates:
                    path = Path(folder) / f"{source}-{update}-{seed}"
                    runs.append(measured(source, update, options.seconds, seed, path))
                    print(runs[-1], flush=True)
    medians = {}
    for source in options.sources:
        for update in options.updates:
            those = [run for run in runs if (run["source"], run["update"]) == (source, update)]
            medians[f"{source}, {update}"] = {
                name: statistics.median(run["test"][name] for run in those) for name in ("modes", "good", "kl", "mmd")
            }
    print(write_record("points", {"seconds": options.seconds, "medians": medians, "runs": runs}))


if __name__ == "__main__":
    main()
