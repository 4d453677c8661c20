"""Runs on photographs beside each other: pictures of each, not picked by hand, and distances by features of nobody.

    python bench/photographs.py NAME RUN … --data DATA [--tutorial FOLDER] [--num 2000]
    python bench/photographs.py

For each run: time and samples it took, and KID and coverage of its best generator against all held-out images of its
data by EfficientNet-Lite2, which no run and no judge uses, by EfficientNet-Lite1, by the evaluation encoder, and by a
classifier of CIFAR-10 (bench/features.py trains it on DATA/cifar10-jpeg.zip), which knows nothing of ImageNet.
`--tutorial` adds what `bench/tutorial.py` kept last in a folder. Two halves of the real images give the scale. Writes
records/photographs.json under NAME, and docs/images/NAME.png: the first 36 images of each, and real ones. Without
arguments it prints what is in the record as the table of docs/pictures.md.
"""

import argparse
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import outside
import torch
from common import RECORDS, hardware
from features import classifier_features
from PIL import Image
from quoted import table_of_pictures
from torch import Tensor

import equipoise as eq
from equipoise.data import arrays
from equipoise.data.cache import default_cache
from equipoise.data.pool import Pool, gather, prepare, to_float
from equipoise.metrics.feature_judge import NEIGHBOURS
from equipoise.metrics.features.load import load_features
from equipoise.metrics.kid import kid
from equipoise.metrics.prdc import prdc
from equipoise.recipe import Images
from equipoise.runs.folder import RunFolder
from equipoise.runs.status import read_status
from equipoise.tasks.exhibits import grid

RECORD = RECORDS / "photographs.json"
PICTURES = Path(__file__).parents[1] / "docs" / "images"
NUM_SHOWN = 36
GAP = 12


def features_of(pool: Pool, data: Path) -> dict[str, Any]:
    """Return the features to measure by."""
    found: dict[str, Any] = {"classifier": classifier_features(data)}
    lite2 = outside.network()
    found["EfficientNet-Lite2"] = lambda images: outside.features(lite2, images)
    for name in ("efficientnet", "encoder"):
        features = load_features(
            name,
            train_images=lambda: pool.images[pool.splits.train],
            channels=3,
            cache=default_cache() / "bench",
            pool_digest=pool.digest,
        )
        found[name] = features.extract
    return found


def drawn(path: Path, num: int) -> Tensor:
    """Return images of a run's best generator, [num, C, H, W] in [-1, 1]."""
    return eq.load(path).best.sample(num)


def kept(folder: Path) -> Tensor:
    """Return the last images that a tutorial's loop kept."""
    last = max(folder.glob("*.npz"), key=lambda path: int(path.stem))
    array, _ = arrays.read_images(last, str(last))
    return to_float(torch.from_numpy(array).permute(0, 3, 1, 2))


def facts(path: Path) -> dict[str, Any]:
    """Return what a run took."""
    status = read_status(RunFolder.open(path))
    return {"seconds": status.seconds, "samples": status.samples}


def sheet(rows: list[Tensor], path: Path) -> None:
    """Write the first images of each row of pictures side by side."""
    grids = [Image.open(io.BytesIO(grid(images[:NUM_SHOWN]))) for images in rows]
    width = sum(one.width for one in grids) + GAP * (len(grids) - 1)
    whole = Image.new("RGB", (width, max(one.height for one in grids)), "white")
    left = 0
    for one in grids:
        whole.paste(one, (left, 0))
        left += one.width + GAP
    whole.save(path)


def main() -> None:
    """Measure, draw, and write; or print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", nargs="?")
    parser.add_argument("runs", type=Path, nargs="*")
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("EQUIPOISE_DATA", ".")))
    parser.add_argument("--tutorial", type=Path)
    parser.add_argument("--num", type=int, default=2_000)
    asked = parser.parse_args()
    if asked.name is None:
        print(table_of_pictures())
        return
    recipe = RunFolder.open(asked.runs[0]).recipe()
    assert isinstance(recipe.task, Images)
    pool = prepare(recipe.data, recipe.task)
    held_out = np.concatenate([pool.splits.validation, pool.splits.test])
    real = to_float(gather(pool, held_out))
    by_name = features_of(pool, asked.data)
    of_real = {name: extract(real) for name, extract in by_name.items()}
    shown = [(path.name, facts(path), drawn(path, asked.num)) for path in asked.runs]
    if asked.tutorial is not None:
        found = json.loads((asked.tutorial / "facts.json").read_text())
        shown.append(("tutorial", {key: found[key] for key in ("seconds", "samples")}, kept(asked.tutorial)))
    rows = {}
    for name, took, images in shown:
        seen = {by: extract(images) for by, extract in by_name.items()}
        distances = {by: kid(of_real[by], values) for by, values in seen.items()}
        num_near = min(len(real), len(images))
        near = {by: prdc(of_real[by][:num_near], values[:num_near], NEIGHBOURS) for by, values in seen.items()}
        rows[name] = (
            took
            | {by: [one.value, one.standard_error] for by, one in distances.items()}
            | {"coverage": {by: one.coverage for by, one in near.items()}}
        )
        print(name, rows[name], flush=True)
    half = len(real) // 2
    halves = {by: kid(values[:half], values[half:]) for by, values in of_real.items()}
    rows["real images, two halves"] = {by: [one.value, one.standard_error] for by, one in halves.items()}
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    record[asked.name] = {**hardware(), "num": asked.num, "num_real": len(real), "rows": rows}
    RECORD.write_text(json.dumps(record, indent=1) + "\n")
    sheet([*(images for _, _, images in shown), real], PICTURES / f"{asked.name}.png")


if __name__ == "__main__":
    main()
