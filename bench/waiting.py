"""How the threads of a training wait for each other: samples a second, on a quiet machine and beside a busy process.

    python bench/waiting.py [--seconds 20] [--rounds 2] [--recipes modern dcgan]

After every small operation the threads of GNU OpenMP spin for a while before they sleep (GOMP_SPINCOUNT, by default
300,000 times). Where another process takes one of the cores, threads spin for one that does not run. Each way trains
the embedded digits by `equipoise train` in a process of its own, in turn, once alone and once beside a process that
computes without end. As it is, a training chooses its number of threads; the other ways fix it. The median of the log
lines after the first eight seconds counts. Writes records/waiting.json.
"""

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from common import write_record

WARM_SECONDS = 8.0
VARIABLES = ("GOMP_SPINCOUNT", "OMP_NUM_THREADS", "OMP_WAIT_POLICY")
CHOSEN = "threads chosen by speed"
WAYS: dict[str, dict[str, str]] = {  # variables; all but the chosen ones keep the number of threads they begin with
    CHOSEN: {"GOMP_SPINCOUNT": "300000"},
    "as torch does": {"GOMP_SPINCOUNT": "300000"},
    "spin count 10,000": {"GOMP_SPINCOUNT": "10000"},
    "no spinning": {"GOMP_SPINCOUNT": "0"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}


@contextlib.contextmanager
def company(is_busy: bool) -> Iterator[None]:
    """Let a process compute without end beside what is measured, or none."""
    if not is_busy:
        yield
        return
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        other.kill()
        other.wait()


def samples_per_second(recipe: str, way: str, seconds: int) -> float:
    """Train for a while and return the median speed of the log lines after the warm-up."""
    environment = {name: value for name, value in os.environ.items() if name not in VARIABLES} | WAYS[way]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "run"
        command = [sys.executable, "-m", "equipoise.cli", "train", "mnist", "--recipe", recipe, "--budget"]
        command += [f"{seconds}s", "--out", str(out), "--set", "stopping.policy=budget"]
        if way != CHOSEN:
            command += ["--set", f"threads={WAYS[way].get('OMP_NUM_THREADS', os.cpu_count())}"]
        subprocess.run(command, env=environment, check=True, capture_output=True)
        lines = [json.loads(line) for line in (out / "log" / "steps.jsonl").read_text().splitlines()]
    return statistics.median(line["samples_per_second"] for line in lines if line["seconds"] > WARM_SECONDS)


def main() -> None:
    """Measure all in turn, write the record, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--recipes", nargs="+", default=["modern", "dcgan"])
    options = parser.parse_args()
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    for _ in range(options.rounds):
        for recipe in options.recipes:
            for is_busy in (False, True):
                condition = "busy" if is_busy else "quiet"
                for name in WAYS:
                    with company(is_busy):
                        speed = samples_per_second(recipe, name, options.seconds)
                    found.setdefault(recipe, {}).setdefault(condition, {}).setdefault(name, []).append(speed)
                    print(f"{recipe}, {condition}, {name}: {speed:,.0f} samples a second", flush=True)
    values = {"seconds": options.seconds, "num_cores": os.cpu_count(), "samples_per_second": found}
    print(write_record("waiting", values))


if __name__ == "__main__":
    main()
