"""Every named recipe on the embedded digits, at equal time and at equal samples, with several seeds.

    .venv/bin/python bench/zoo.py play --out FILE [--recipes …] [--seeds 0 1 2] [--seconds 90] [--samples 40000]
    .venv/bin/python bench/zoo.py table FILE …  # bench/records/zoo.json, and the table and the pictures of docs/zoo.md

Each training is a process of its own on one thread, scored by a classifier that it never sees (bench/classifier.py):
the Fréchet distance of 5,000 samples, and the share of the rarest class. A finished one is a line of FILE, so that the
same command goes on where it was ended. Seeds come one after the other, and recipes in turn. Nothing else may run
meanwhile: on a busy machine the same time is not the same work. Two cores may take half of the recipes each.
"""

import argparse
import os
import re
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from classifier import features_and_classes, frechet_distance, trained_classifier
from common import hardware, write_record
from demo import NUM, Entrant, measured
from PIL import Image
from quoted import distance_of, rarest_of, result_of

from equipoise.data.pool import gather, prepare, to_float
from equipoise.recipe import Data
from equipoise.recipes import NAMES, named
from equipoise.storage.logs import append, records
from equipoise.tasks.exhibits import grid

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "zoo.md"
IMAGES = ROOT / "docs" / "images"
BEGIN, END = "<!-- table: bench/zoo.py table -->", "<!-- end of the table -->"
NOT_FOR_DIGITS = ("photos",)  # which sees features of photographs
KINDS = ("time", "samples")
SETTINGS = {"growing": ("task.size=32",)}  # as 28 cannot be halved evenly


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    play = commands.add_parser("play")
    play.add_argument("--out", type=Path, required=True)
    play.add_argument("--recipes", nargs="+", choices=NAMES, default=[n for n in NAMES if n not in NOT_FOR_DIGITS])
    play.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    play.add_argument("--seconds", type=int, default=90)
    play.add_argument("--samples", type=int, default=40_000)
    table = commands.add_parser("table")
    table.add_argument("files", type=Path, nargs="+")
    options = parser.parse_args()
    if options.command == "table":
        record(options.files)
        return
    os.environ["OMP_NUM_THREADS"] = "1"
    trained_classifier(prepare(Data()))
    budgets = {"time": f"{options.seconds}s", "samples": str(options.samples)}
    turns = [(kind, seed, name) for seed in options.seeds for kind in KINDS for name in options.recipes]
    play_all(options.out, budgets, turns)


def play_all(out: Path, budgets: dict[str, str], turns: list[tuple[str, int, str]]) -> None:
    """Train what has no line yet, and append one for each."""
    done = {(line["kind"], line["seed"], line["recipe"], line["budget"]) for line in records(out)}
    waiting = [turn for turn in turns if (*turn, budgets[turn[0]]) not in done]
    begin = time.monotonic()
    for index, (kind, seed, name) in enumerate(waiting):
        with tempfile.TemporaryDirectory() as folder:
            found = measured(Entrant(name, name, settings=SETTINGS.get(name, ())), budgets[kind], seed, Path(folder))
        values = {key: value for key, value in found.values.items() if key not in ("entrant", "curve")}
        append(out, {"kind": kind, "budget": budgets[kind], **values, "hardware": hardware()})
        if kind == "time" and seed == 0:
            shown = out.with_name(f"{out.stem}-{name}.png")
            shown.write_bytes(grid(found.shown))
        left = (time.monotonic() - begin) / (index + 1) * (len(waiting) - index - 1)
        print(
            f"{len(turns) - len(waiting) + index + 1} of {len(turns)}, {left / 60:.0f} min left; {name}, equal {kind}, "
            f"seed {seed}: {values['frechet_distance']:.0f} after {values['samples']:,} samples",
            flush=True,
        )


def record(files: list[Path]) -> None:
    """Write the record, the pictures, and the table between the marks of the page."""
    torch.set_num_threads(1)  # as each training had, which the record says
    every = [line for file in files for line in records(file)]
    lines = list({(line["budget"], line["recipe"], line["seed"]): line for line in every}.values())
    budgets = {kind: {line["budget"] for line in lines if line["kind"] == kind} for kind in KINDS}
    for kind, found in budgets.items():
        if len(found) != 1:
            given = " and of ".join(sorted(found)) or "nothing"
            raise SystemExit(f"equal {kind} of {given}: give files with one of them")
    rows = [row for name in NAMES if (row := row_of(name, lines))]
    machines = sorted({line["hardware"]["processor"] for line in lines})
    real = of_real_digits()
    values = {"budgets": {kind: min(budgets[kind]) for kind in KINDS}, "on": machines, "real": real, "rows": rows}
    print(write_record("zoo", values))
    for file in files:
        for path in file.parent.glob(f"{file.stem}-*.png"):
            with Image.open(path) as picture:  # the upper two of eight rows
                upper = picture.crop((0, 0, picture.width, picture.height // 4))
            upper.save(IMAGES / f"zoo-{path.stem.removeprefix(f'{file.stem}-')}.png", optimize=True)
    text = PAGE.read_text()
    page = re.sub(f"{BEGIN}.*{END}", lambda _: f"{BEGIN}\n{table_of(rows, real)}\n{END}", text, flags=re.DOTALL)
    PAGE.write_text(page)
    for row in rows:
        print(f"{row['recipe']}: {result_of(row)}")


def row_of(name: str, lines: list[dict[str, Any]]) -> dict[str, Any] | None:
    """Return what all seeds of a recipe came to, None where it has none."""
    row: dict[str, Any] = {"recipe": name, "paper": named(name).about.paper}
    for kind in KINDS:
        found = [line for line in lines if line["recipe"] == name and line["kind"] == kind]
        if not found:
            return None
        distances = [line["frechet_distance"] for line in found]
        row[kind] = {
            "seeds": len(found),
            "median": statistics.median(distances),
            "low": min(distances),
            "high": max(distances),
            "rarest": statistics.median(min(line["class_shares"]) for line in found),
            "seconds": statistics.median(line["seconds"] for line in found),
            "samples": round(statistics.median(line["samples"] for line in found)),
        }
    return row


def of_real_digits() -> dict[str, Any]:
    """Return what real training digits score in place of generated ones: three draws of as many."""
    pool = prepare(Data())
    model = trained_classifier(pool)
    distances, rarest = [], []
    for seed in range(3):
        drawn = np.random.default_rng(seed).choice(pool.splits.train, NUM, replace=False)
        images = to_float(gather(pool, drawn))
        _, classes = features_and_classes(model, images)
        distances.append(frechet_distance(model, pool, images))
        rarest.append(min(float((classes == label).float().mean()) for label in range(10)))
    return {
        "seeds": len(distances),
        "median": statistics.median(distances),
        "low": min(distances),
        "high": max(distances),
        "rarest": statistics.median(rarest),
    }


def table_of(rows: list[dict[str, Any]], real: dict[str, Any]) -> str:
    """Return the table of all recipes, the best at equal time first, below what real digits score."""
    parts = [
        "| recipe | at equal time | rarest class | seen | at equal samples | rarest class | seconds | samples |",
        "|---|---|---|---|---|---|---|---|",
        f"| real training digits | {distance_of(real)} | {rarest_of(real)} | – | {distance_of(real)} | "
        f"{rarest_of(real)} | – | – |",
    ]
    for row in sorted(rows, key=lambda row: row["time"]["median"]):
        name = row["recipe"]
        cells = (
            f"`{name}`",
            distance_of(row["time"]),
            rarest_of(row["time"]),
            f"{row['time']['samples'] / 1000:.0f}k",
            distance_of(row["samples"]),
            rarest_of(row["samples"]),
            f"{row['samples']['seconds']:.0f}",
            f"![Two rows of samples of {name}](images/zoo-{name}.png)",
        )
        parts.append(f"| {' | '.join(cells)} |")
    return "\n".join(parts)


if __name__ == "__main__":
    main()
