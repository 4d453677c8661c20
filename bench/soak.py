"""Whether a long training holds its memory, its open files and its threads: one process, read from outside.

    python bench/soak.py [--minutes 120] [--every 10]

Trains on the embedded digits at 16×16 pixels, with many evaluations and checkpoints, and reads the process's resident
memory, descriptors and threads from /proc. After a quarter of the time, which is warm-up, a slope is fitted
(Theil–Sen, with the interval of its order statistics). Writes records/soak.json and records/soak.csv.
"""

import argparse
import csv
import itertools
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import RECORDS, write_record

SETTINGS = (
    "networks.width=8",
    "evaluation.num_samples=500",
    "evaluation.share=0.2",
    "saving.every=20000",
    "stopping.policy=budget",
)
WARM_UP = 0.25  # of the time
NAMES = ("memory", "descriptors", "threads")
UNITS = {"memory": "MiB", "descriptors": "", "threads": ""}


def main() -> None:
    """Train, read, fit and record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=120.0)
    parser.add_argument("--every", type=float, default=10.0, help="seconds between two readings")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows, run = watched(Path(folder), options.minutes, options.every)
        kept = [row for row in rows if row[0] >= WARM_UP * rows[-1][0]]
        found = {name: slope(kept, column) for column, name in enumerate(NAMES, start=1)}
        values = {"minutes": options.minutes, "warm_up": WARM_UP, "settings": SETTINGS, "run": run, "slopes": found}
    with (RECORDS / "soak.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("seconds", *NAMES), *rows[:: max(1, len(rows) // 240)]])
    for name, fit in found.items():
        print(f"{name}: {fit['first']:g} → {fit['last']:g} {UNITS[name]}, {fit['per_hour']:+.3g} an hour")
    print(write_record("soak", values))


def watched(folder: Path, minutes: float, every: float) -> tuple[list[tuple[float, float, int, int]], dict[str, Any]]:
    """Return (seconds, MiB, descriptors, threads) of a training while it lasts, and what the run came to."""
    options = [f"--set={setting}" for setting in SETTINGS]
    run = folder / "run"
    command = [sys.executable, "-m", "equipoise.cli", "train", "mnist", "--size", "16"]
    command += ["--budget", f"{minutes * 60:g}s"]
    begin = time.monotonic()
    rows: list[tuple[float, float, int, int]] = []
    with subprocess.Popen([*command, "--out", run, *options], stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            time.sleep(every)
            if (run / "log" / "steps.jsonl").exists() and not (run / "report.html").exists():
                rows += seen(process.pid, time.monotonic() - begin)
    state = json.loads((run / "state.json").read_text())
    num = {name: len((run / "log" / f"{name}.jsonl").read_text().splitlines()) for name in ("steps", "scores")}
    return rows, {"exit": process.returncode, "samples": state["samples"], "reason": state["message"], "lines": num}


def seen(pid: int, seconds: float) -> list[tuple[float, float, int, int]]:
    """Return one reading of a process, or none if it has just ended."""
    try:
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        descriptors = len(os.listdir(f"/proc/{pid}/fd"))
        return [(round(seconds, 1), int(status["VmRSS"].split()[0]) / 1024, descriptors, int(status["Threads"]))]
    except (OSError, KeyError):
        return []


def slope(rows: list[tuple[float, float, int, int]], column: int) -> dict[str, float]:
    """Return the median slope of all pairs an hour with its 95 % interval, and the means of both ends."""
    rows = rows[:: max(1, len(rows) // 400)]
    pairs = itertools.combinations(((row[0] / 3600, float(row[column])) for row in rows), 2)
    slopes = sorted((later[1] - earlier[1]) / (later[0] - earlier[0]) for earlier, later in pairs)
    num = len(rows)
    half = 1.96 * math.sqrt(num * (num - 1) * (2 * num + 5) / 18) / 2  # Sen (1968): Kendall's variance, in pairs
    middle = len(slopes) / 2
    tenth = max(1, num // 10)
    return {
        "per_hour": statistics.median(slopes),
        "low": slopes[max(0, int(middle - half))],
        "high": slopes[min(len(slopes) - 1, int(middle + half))],
        "first": statistics.fmean(row[column] for row in rows[:tenth]),
        "last": statistics.fmean(row[column] for row in rows[-tenth:]),
        "largest": max(row[column] for row in rows),
    }


if __name__ == "__main__":
    main()
