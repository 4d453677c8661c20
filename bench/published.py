"""Published tables again, by the losses, packs and updates of Equipoise; the page is docs/published.md.

    python bench/published.py pacgan --shape ring --packing 1 2 3 4 --seeds 0 1 2 --epochs 6 --out ring.jsonl
    python bench/published.py stacked-mnist --loss minimax r1 r1+r2-relativistic --reduced --out stacks.jsonl
    python bench/published.py golden --seeds 0 1 2 --out golden.jsonl
    python bench/published.py table ring.jsonl stacks.jsonl golden.jsonl

Each game runs on one thread, `--workers` of them side by side. A finished one is a line of the file; what was killed
goes on where it was when the same command is typed again. The last command writes records/published.json and the table
on the page. Stacked MNIST needs EQUIPOISE_DATA, a folder with mnist.npz.
"""

import argparse
import json
import math
import os
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pacgan
import stacked_mnist
import torch
from common import hardware, write_record
from resumable import Setting, alone, finished, keep, run_all
from scipy.stats import t as student

from equipoise.errors import UserError
from equipoise.metrics.prdc import prdc
from equipoise.metrics.vendi import vendi
from equipoise.randomness import Randomness

DOCS = Path(__file__).parents[1] / "docs" / "published.md"
NUM_TRIALS = 10  # of PacGAN's standard errors
MARKS = ("<!-- table: written by bench/published.py -->\n", "<!-- end of table -->")


@dataclass(frozen=True)
class Value:
    """A published value; its standard error, where it was given; words in its place, where there is no number."""

    value: float = math.nan
    error: float | None = None
    words: str = ""


# The paper prints values here that this page does not have.
NOT_COMPARED = {name: Value(words="not compared") for name in ("modes", "good", "kl_of_good")}
# By row and measure. PacGAN: arXiv:1712.04086, Tables 1 and 2. R3GAN: arXiv:2501.05441.
PUBLISHED: dict[str, dict[str, Value]] = {
    "ring, packing 1": {"modes": Value(6.3, 0.5), "good": Value(0.982, 0.002), "kl_of_good": Value(0.45, 0.09)},
    "ring, packing 2": {"modes": Value(7.9, 0.1), "good": Value(0.956, 0.020), "kl_of_good": Value(0.07, 0.03)},
    "ring, packing 3": NOT_COMPARED,
    "ring, packing 4": NOT_COMPARED,
    "grid, packing 1": {"modes": Value(17.3, 0.8), "good": Value(0.948, 0.007), "kl_of_good": Value(0.70, 0.07)},
    "grid, packing 2": NOT_COMPARED,
    "grid, packing 3": NOT_COMPARED,
    "grid, packing 4": {"modes": Value(24.8, 0.2), "good": Value(0.936, 0.006), "kl_of_good": Value(0.04, 0.01)},
    "dcgan": {"modes": Value(78.9, 6.46), "kl": Value(4.50)},
    "pacdcgan2": {"modes": Value(1000), "kl": Value(0.06, 0.003)},
    "r1": {"modes": Value(words="fails"), "kl": Value(words="fails")},
    "r1+r2-minimax": {"modes": Value(693), "kl": Value(0.9270)},
    "r1+r2-non-saturating": {"modes": Value(693), "kl": Value(0.9270)},
    "r1+r2-relativistic": {"modes": Value(1000), "kl": Value(0.0781)},
    "prdc": {
        "precision": Value(0.4772),
        "recall": Value(0.4705),
        "density": Value(1.0555),
        "coverage": Value(0.9735),
    },
    "vendi": {"score": Value(2.9999)},
}
MEASURES = {
    "modes": "modes",
    "good": "good points",
    "kl": "KL",
    "kl_of_good": "KL of good points",
    "sure": "stacks that are sure",
    "score": "score",
}
SHOWN = {  # times, digits, unit
    "modes": (1, 1, ""),
    "good": (100, 1, " %"),
    "kl": (1, 2, ""),
    "kl_of_good": (1, 2, ""),
    "sure": (100, 1, " %"),
}
ROWS = {
    "dcgan": "stacked MNIST, DCGAN",
    "pacdcgan2": "stacked MNIST, DCGAN, packing 2",
    "minimax": "stacked MNIST, minimax",
    "non-saturating": "stacked MNIST, non-saturating",
    "relativistic": "stacked MNIST, relativistic",
    "r1": "stacked MNIST, relativistic, R1",
    "r2": "stacked MNIST, relativistic, R2",
    "r1+r2-minimax": "stacked MNIST, minimax, R1 + R2",
    "r1+r2-non-saturating": "stacked MNIST, non-saturating, R1 + R2",
    "r1+r2-relativistic": "stacked MNIST, relativistic, R1 + R2",
    "real stacks": "stacked MNIST, real stacks",
    "prdc": "two samples of one Gaussian",
    "vendi": "six numbers in three pairs",
}
ORDER = [f"{shape}, packing {num}" for shape in ("ring", "grid") for num in (1, 2, 3, 4)] + list(ROWS)


# Golden values, for which no game is trained


def golden(seeds: list[int], out: Path) -> None:
    """Measure what the papers of the judge's measures print, and append a line for each seed that has none."""
    torch.set_num_threads(1)
    done = [line["setting"] for line in finished(out)]
    settings: list[Setting] = [{"experiment": "golden", "row": "prdc", "seed": seed} for seed in seeds]
    settings.append({"experiment": "golden", "row": "vendi", "seed": 0})
    if os.environ.get("EQUIPOISE_DATA"):
        settings += [{"experiment": "golden", "row": "real stacks", "seed": seed} for seed in seeds]
    else:
        print("The rows of real stacks are left out: they need EQUIPOISE_DATA, a folder with mnist.npz", flush=True)
    for setting in settings:
        if setting not in done:
            begin = time.perf_counter()
            score = golden_score(setting)
            seconds = round(time.perf_counter() - begin, 1)
            keep(out, {"setting": setting, "score": score, "seconds": seconds, "hardware": hardware()})


def golden_score(setting: Setting) -> dict[str, float]:
    """Return the published measures on new draws of a seed, or on the numbers that are published."""
    if setting["row"] == "vendi":
        values = torch.tensor([0.0, 0, 10, 10, 20, 20])
        return {"score": vendi(torch.exp(-(values[:, None] - values).abs()))}
    if setting["row"] == "real stacks":
        return stacked_mnist.score_of_real(setting["seed"])
    randomness = Randomness(setting["seed"])
    return vars(prdc(randomness.normal("real", 10_000, 1_000), randomness.normal("fake", 10_000, 1_000)))


# The table


def row_of(setting: Setting) -> str:
    """Return the name of the row that a setting belongs to."""
    match setting["experiment"]:
        case "pacgan":
            return f"{setting['shape']}, packing {setting['packing']}"
        case "stacked-mnist":
            return setting["loss"]
        case _:
            return setting["row"]


def rows_of(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return means and standard errors of the games that differ in their seeds alone, in the order of the table."""
    groups: list[tuple[Setting, list[dict[str, Any]]]] = []
    for run in sorted(runs, key=lambda run: ORDER.index(row_of(run["setting"]))):
        setting = {name: value for name, value in run["setting"].items() if name != "seed"}
        same = next((found for known, found in groups if known == setting), None)
        if same is None:
            same = []
            groups.append((setting, same))
        same.append(run)
    return [
        {
            "row": row_of(setting),
            "setting": setting,
            "seeds": sorted(run["setting"]["seed"] for run in found),
            "hours": hours_of(setting, found),
            "values": {name: mean_of([run["score"][name] for run in found]) for name in found[0]["score"]},
        }
        for setting, found in groups
    ]


def hours_of(setting: Setting, runs: list[dict[str, Any]]) -> float | None:
    """Return how many hours the whole published training would take at the speed of these games."""
    full = {"pacgan": pacgan.EPOCHS * pacgan.NUM_POINTS // pacgan.BATCH, "stacked-mnist": stacked_mnist.FULL.rounds}
    num_rounds = full.get(setting["experiment"])
    if num_rounds is None:
        return None
    return round(statistics.median(run["milliseconds_a_round"] for run in runs) * num_rounds / 3.6e6, 1)


def mean_of(values: list[float | None]) -> dict[str, Any]:
    """Return the mean, its standard error, which one value does not have, and all values.

    Where a game has no value there is no mean either: that of the others would leave out the worst.
    """
    known = [value for value in values if value is not None and math.isfinite(value)]
    if len(known) < len(values):
        return {"mean": None, "error": None, "values": values}
    error = None if len(known) < 2 else statistics.stdev(known) / math.sqrt(len(known))
    return {"mean": statistics.fmean(known), "error": error, "values": values}


def table(record: dict[str, Any]) -> str:
    """Return the table of the page, a line a measure, and what it was measured on."""
    lines = [
        "| what | measure | published | ours | seeds | difference | played | all of it |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in record["rows"]:
        published = PUBLISHED.get(row["row"], {})
        for name, found in row["values"].items():
            theirs = published.get(name, Value(words="–"))
            cells = [
                ROWS.get(row["row"], row["row"]),
                MEASURES.get(name, name),
                theirs.words or shown(name, theirs.value, theirs.error),
                ours(name, found),
                str(len(row["seeds"])),
                "contradicts" if contradicts(row, theirs) else difference(name, found, theirs),
                played(row["setting"]),
                whole(row),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    dates = record["dates"]
    when = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    lines += ["", f"Measured {when} on {' and '.join(record['processors'])}, one thread a game."]
    return "\n".join(lines) + "\n"


def ours(name: str, found: dict[str, Any]) -> str:
    """Write what was measured: a mean with its standard error, or both values of two seeds."""
    if len(found["values"]) == 2:
        return " and ".join("–" if value is None else shown(name, value, None) for value in found["values"])
    if found["mean"] is None:
        return "–"
    return shown(name, found["mean"], found["error"])


def shown(name: str, value: float, error: float | None) -> str:
    """Write a value of a measure with its standard error, if there is one."""
    scale, digits, unit = SHOWN.get(name, (1, 4, ""))
    text = f"{scale * value:.{digits}f}"
    if name == "modes" and error is None:  # a count
        text = text.removesuffix(".0")
    return f"{text}{unit}" if error is None else f"{text} ± {scale * error:.{digits}f}{unit}"


def difference(name: str, found: dict[str, Any], theirs: Value) -> str:
    """Write ours less the published one, with its 95 % interval where theirs has an error and ours three seeds."""
    if theirs.words or found["mean"] is None:
        return "–"
    less = found["mean"] - theirs.value
    scale, digits, unit = SHOWN.get(name, (1, 4, ""))
    points = " points" if unit else ""  # of two percentages

    def signed(value: float) -> str:
        """Write a difference with its sign, and with one digit more where it is not 0 and would be written so."""
        text = f"{scale * abs(value):.{digits}f}"
        if value and not text.strip("0."):
            text = f"{scale * abs(value):.{digits + 1}f}"
        return f"{'−' if value < 0 else '+'}{text}"

    num = len(found["values"])
    if num < 3 or theirs.error is None:
        return signed(less) + points if round(scale * less, digits) else "0"
    half = half_interval(found["error"], num, theirs.error, NUM_TRIALS)
    return f"{signed(less)} ({signed(less - half)} to {signed(less + half)}){points}"


def contradicts(row: dict[str, Any], theirs: Value) -> bool:
    """Return whether a game fails in the paper and not here: every seed has most of the modes of the stacks."""
    return theirs.words == "fails" and min(row["values"]["modes"]["values"]) > stacked_mnist.NUM_MODES / 2


def half_interval(one: float, num_one: int, other: float, num_other: int) -> float:
    """Return half of the 95 % interval of a difference of two means, from their standard errors (Welch)."""
    squares = (one**2, other**2)
    freedom = sum(squares) ** 2 / (squares[0] ** 2 / (num_one - 1) + squares[1] ** 2 / (num_other - 1))
    return float(student.ppf(0.975, freedom)) * math.sqrt(sum(squares))


def played(setting: Setting) -> str:
    """Say how much of the published training was played."""
    match setting["experiment"]:
        case "pacgan":
            return f"{setting['epochs']} of {pacgan.EPOCHS} epochs"
        case "stacked-mnist":
            full = stacked_mnist.FULL
            text = f"{setting['rounds']:,} of {full.rounds:,} rounds, width {setting['width']} of {full.width}"
            if setting["rate"] != full.rate:
                text += f", rate {setting['rate']:g} for {full.rate:g}"
            return f"{text}, γ {setting['gamma']:g}" if "gamma" in setting else text
        case _:
            return "all"


def whole(row: dict[str, Any]) -> str:
    """Say how long all of the published training would take, or more than what where the networks are smaller."""
    if row["hours"] is None:
        return "–"
    is_smaller = row["setting"].get("width", stacked_mnist.FULL.width) < stacked_mnist.FULL.width
    return f"{'> ' if is_smaller else ''}{row['hours']:.1f} h"


def written(text: str, record: dict[str, Any]) -> str:
    """Return the page with the table of a record between its marks."""
    begin, end = MARKS
    before, rest = text.split(begin)
    return before + begin + table(record) + end + rest.split(end, 1)[1]


def write_table(files: list[Path]) -> None:
    """Write the record of all finished games of these files, and the table on the page."""
    every = [line for file in files for line in finished(file)]
    runs = list({json.dumps(line["setting"], sort_keys=True): line for line in every}.values())  # each game once
    if not runs:
        raise SystemExit("no finished game in these files")
    machines = [run.pop("hardware") for run in runs]
    values = {
        "dates": sorted({machine["date"] for machine in machines}),
        "processors": sorted({machine["processor"] for machine in machines}),
        "rows": rows_of(runs),
        "runs": runs,
    }
    print(write_record("published", values))
    DOCS.write_text(written(DOCS.read_text("utf-8"), values), "utf-8")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    whole = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = whole.add_subparsers(dest="command", required=True)
    points = commands.add_parser("pacgan", help="a ring or a grid of modes (arXiv:1712.04086, section 4.1)")
    points.add_argument("--shape", choices=("ring", "grid"), default="ring")
    points.add_argument("--packing", type=int, nargs="+", choices=(1, 2, 3, 4), default=[1, 2, 3, 4])
    points.add_argument("--epochs", type=int, default=6, help="of 100,000 packs; published: 400")
    stacks = commands.add_parser("stacked-mnist", help="three digits as channels, 1,000 modes")
    names = list(stacked_mnist.VARIANTS)
    stacks.add_argument("--loss", nargs="+", choices=names, default=["minimax", "r1", "r1+r2-relativistic"])
    stacks.add_argument("--reduced", action="store_true", help="smaller networks, fewer rounds: minutes on a CPU")
    stacks.add_argument("--rounds", type=int, help="in place of those of the setting")
    stacks.add_argument("--gamma", type=float, help="of the penalty, in place of that of the setting")
    values = commands.add_parser("golden", help="values that papers print of measures; no game is trained")
    for command in (points, stacks, values):
        command.add_argument("--seeds", type=int, nargs="+", default=[0])
        command.add_argument("--out", type=Path, required=True, help="a line a finished game")
    for command in (points, stacks):
        command.add_argument("--workers", type=int, default=1, help="processes, of one thread each")
    last = commands.add_parser("table", help="write the record, and the table of docs/published.md")
    last.add_argument("files", type=Path, nargs="+")
    return whole


def main() -> None:
    """Do what the command line says; a mistake ends in a sentence."""
    options = parser().parse_args()
    try:
        run(options)
    except UserError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None


def run(options: argparse.Namespace) -> None:
    """Play, measure, or write the table."""
    match options.command:
        case "pacgan":
            run_all(pacgan.settings_of(options), pacgan.build, options.out, options.workers)
        case "stacked-mnist":
            torch.set_num_threads(1)
            stacked_mnist.prepare_once()
            run_all(stacked_mnist.settings_of(options), stacked_mnist.build, options.out, options.workers)
        case "golden":
            with alone(options.out):
                golden(options.seeds, options.out)
        case _:
            write_table(options.files)


if __name__ == "__main__":
    main()
