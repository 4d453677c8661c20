"""Super-resolution ×4 from 200 photographs: a faithful run and a sharp one, on Set5 and Set14, beside bicubic.

    EQUIPOISE_DATA=... python bench/super_resolution.py [--seconds 1800] [--seeds 0] [--runs faithful sharp]

Reads sr-photos.zip: trains on train/, and evaluates on test-set5/ and test-set14/, which no training and no choice
has seen. The faithful run has no adversarial term (task.adversarial=0); the sharp one is the task's default. Each
score stands beside those of the baselines under the same protocol; `error` is the standard error of what decides (MSE
of Y in a faithful run, patch KID in a sharp one). Writes records/super_resolution.json and a picture of triplets a run.
"""

import argparse
import os
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from common import RECORDS, write_record

import equipoise as eq

SETTINGS = {"faithful": ["task.adversarial=0"], "sharp": []}
SETS = ("test-set5", "test-set14")


def unpacked(folder: Path) -> Path:
    """Unpack the photographs and return the folder with train/, test-set5/ and test-set14/."""
    data = os.environ.get("EQUIPOISE_DATA")
    if data is None:
        raise SystemExit("EQUIPOISE_DATA names no folder; the photographs are in its sr-photos.zip")
    with zipfile.ZipFile(Path(data) / "sr-photos.zip") as archive:
        for member in archive.infolist():
            if not member.is_dir():
                path = folder / Path(member.filename).parent.name / Path(member.filename).name
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(archive.read(member))
    return folder


def measured(kind: str, photos: Path, seconds: int, seed: int, out: Path) -> dict[str, Any]:
    """Train once and return the scores on both sets, beside the baselines'."""
    run = eq.train(
        photos / "train",
        task="super-resolution",
        budget=f"{seconds}s",
        seed=seed,
        out=out,
        settings=["task.scale=4", "stopping.policy=budget", *SETTINGS[kind]],
    )
    state = run.state
    assert state.test is not None
    sets = {}
    for name in SETS:
        found = eq.evaluate(run.path, photos / name)
        sets[name] = {
            "generator": {**found.measured.values, "error": found.measured.error},
            **{rival.name: {**rival.values, "error": rival.error} for rival in found.rivals},
        }
    shutil.copy(run.path / "samples" / "triplets.png", RECORDS / f"super-resolution-{kind}.png")
    return {
        "kind": kind,
        "seed": seed,
        "seconds": state.seconds,
        "samples": state.samples,
        "test_split": state.test.values,
        "sets": sets,
    }


def main() -> None:
    """Train both kinds and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=1_800)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--runs", nargs="+", choices=list(SETTINGS), default=list(SETTINGS))
    options = parser.parse_args()
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        photos = unpacked(Path(folder))
        for seed in options.seeds:
            for kind in options.runs:
                runs.append(measured(kind, photos, options.seconds, seed, Path(folder) / f"{kind}-{seed}"))
                print(runs[-1], flush=True)
    print(write_record("super_resolution", {"seconds": options.seconds, "runs": runs}))


if __name__ == "__main__":
    main()
