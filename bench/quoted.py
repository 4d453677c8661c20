"""The measured numbers as README and docs quote them, made from the records alone.

    python bench/quoted.py                 print them
    python bench/quoted.py README.md …     put them where {{name}} stands

A test compares what the texts say with what the records say.
"""

import csv
import json
import re
import statistics
import sys
from pathlib import Path
from typing import Any

RECORDS = Path(__file__).parent / "records"
SETTING = (
    "Fréchet distance of 5,000 samples in an outside classifier's features on MNIST, lower is better: median and range "
    "of {seeds} seeds after {seconds} s of training on one core, with the share of the rarest class; then after "
    "{samples} samples"
)


def numbers() -> dict[str, str]:
    """Return every quoted number by its name."""
    of_images = demo() | overhead() | precision() | startup() | recipes()
    of_stopping = frontier() | forecast() | stopping()
    return of_images | of_stopping | kept() | super_resolution() | points() | waiting() | cures()


def demo() -> dict[str, str]:
    """Return the comparison of five minutes each."""
    record = _read("demo")
    found = {
        "demo.date": record["date"],
        "demo.processor": record["processor"],
        "demo.threads": str(record["threads"]),
        "demo.seeds": ", ".join(str(seed) for seed in sorted({run["seed"] for run in record["runs"]})),
        "demo.classifier_accuracy": f"{100 * record['classifier_accuracy']:.1f} %",
    }
    for name in ("modern", "mlp-classic"):
        runs = _runs(record, name)
        key = name.replace("-", "_")
        found[f"demo.frechet_{key}"] = _median(run["frechet_distance"] for run in runs)
        found[f"demo.smallest_class_{key}"] = f"{100 * min(min(run['class_shares']) for run in runs):.1f} %"
        found[f"demo.kid_{key}"] = f"{_short(runs[0]['kid_test'])} ± {_short(runs[0]['kid_test_se'])}"
        found[f"demo.samples_{key}"] = f"{statistics.median(run['samples'] for run in runs) / 1000:.0f}k"
    return found


def frontier() -> dict[str, str]:
    """Return the stopping rules on published trainings."""
    record = _read("frontier")
    found = {}
    for name in ("default", "left_out", "source_left_out"):
        found |= {
            f"frontier.{name}_saved": _percent(record[name]["saved"]),
            f"frontier.{name}_within": str(record[name]["within_2pct"]),
            f"frontier.{name}_worst": f"{record[name]['worst_regret']:.3f}",
            f"frontier.patience_{name}": _percent(record["patience_at_as_many_within_2pct"][name]),
        }
    with (RECORDS / "frontier.csv").open() as file:
        rules = {row["rule"]: row for row in csv.DictReader(file)}
    for num in (10, 15):
        row = rules[f"patience {num}"]
        found |= {
            f"frontier.patience_{num}_saved": _percent(float(row["saved"])),
            f"frontier.patience_{num}_within": row["within_2pct"],
            f"frontier.patience_{num}_worst": f"{float(row['worst_regret']):.3f}",
        }
    most = record["most_saved_at_least_within_2pct"]
    return found | {
        "frontier.date": record["date"],
        "frontier.oracle_saved": _percent(record["oracle"]["saved"]),
        "frontier.relative_97": _percent(most["relative patience"]["97"]),
        "frontier.evidence_95": _percent(max(most[kind]["95"] for kind in ("evidence", "forecast alone"))),
        "frontier.trees_95": _percent(most["boosted trees"]["95"]),
        "frontier.logistic_95": _percent(most["logistic regression"]["95"]),
    }


def forecast() -> dict[str, str]:
    """Return how the forecast of the evidence policy fared on families left out."""
    return {
        f"forecast.from_{100 * band['band'][0]:g}": (
            f"{band['evaluations']} | {_percent(band['forecast'])} | {_percent(band['gain'])} | "
            f"{100 * band['share_over_2pct']:.0f} %"
        )
        for band in _read("forecast")["calibration"]
    }


def stopping() -> dict[str, str]:
    """Return the policies on our own over-long runs."""
    record = _read("stopping")
    kinds = {
        "all": "evidence, all signals",
        "paired": "evidence, paired, no voters",
        "voters": "evidence, voters, not paired",
        "scores": "evidence, scores alone",
        "patience_10": "patience 10",
        "patience_15": "patience 15",
        "patience_20": "patience 20",
        "budget": "budget, paired",
    }
    found = {"stopping.date": record["date"]}
    for group in ("digits", "points"):
        found[f"stopping.{group}_runs"] = f"{record[group]['patience 10']['runs']} runs"
        for name, kind in kinds.items():
            row = record[group][kind]
            found[f"stopping.{group}_{name}"] = (
                f"{_percent(row['saved'])} | {row['chosen']['within_10pct']} | {row['chosen']['median']:.2f} | "
                f"{row['chosen']['worst']:.2f} | {row['best']['median']:.2f}"
            )
    return found


def overhead() -> dict[str, str]:
    """Return what everything around the bare step costs."""
    record = _read("overhead")
    low, high = (f"{100 * (ratio - 1):.1f}" for ratio in record["ratio_interval_95"])
    return {
        "overhead.percent": f"{100 * (record['ratio_of_totals'] - 1):.1f} %",
        "overhead.range": f"{low}–{high} %",
    }


def precision() -> dict[str, str]:
    """Return bfloat16 against float32."""
    medians = _read("precision")["medians"]
    return {
        "precision.speedup": f"{medians['bfloat16']['samples'] / medians['float32']['samples']:.2f}",
        "precision.kid_bfloat16": _short(medians["bfloat16"]["kid_test"]),
        "precision.kid_float32": _short(medians["float32"]["kid_test"]),
    }


def startup() -> dict[str, str]:
    """Return how long a person waits for the first letter."""
    seconds = _read("startup")["seconds"]
    return {f"startup.{name}": f"{seconds[name]['median']:.2f} s" for name in ("help", "import", "status")}


def recipes() -> dict[str, str]:
    """Return one line a recipe, and how they were measured."""
    record = _read("zoo")
    seconds = record["budgets"]["time"].removesuffix("s")
    samples = int(record["budgets"]["samples"])
    seeds = {row[kind]["seeds"] for row in record["rows"] for kind in ("time", "samples")}
    (num,) = seeds  # of every recipe as many
    found = {"recipes.setting": SETTING.format(seeds=num, seconds=seconds, samples=f"{samples:,}")}
    return found | {f"recipes.{row['recipe']}": cells_of(row) for row in record["rows"]}


def result_of(row: dict[str, Any]) -> str:
    """Say in a line what a recipe came to, as `equipoise recipes` quotes it."""
    time, samples = row["time"], row["samples"]
    return f"{distance_of(time)}, rarest class {rarest_of(time)}; at equal samples {distance_of(samples)}"


def cells_of(row: dict[str, Any]) -> str:
    """Return what a recipe came to as cells of a table."""
    time, samples = row["time"], row["samples"]
    return f"{distance_of(time)} | {rarest_of(time)} | {distance_of(samples)}"


def distance_of(found: dict[str, Any]) -> str:
    """Return a median and its range over seeds."""
    return f"{found['median']:.0f} ({found['low']:.0f}–{found['high']:.0f})"


def rarest_of(found: dict[str, Any]) -> str:
    """Return the share of the rarest class."""
    return f"{100 * found['rarest']:.1f} %"


def super_resolution() -> dict[str, str]:
    """Return enlargement by four beside bicubic, before and after the adversarial term."""
    record = _read("super_resolution")
    found = {"sr.date": record["date"], "sr.minutes": f"{record['seconds'] / 60:.0f}"}
    for run in record["runs"]:
        for name, values in run["sets"].items():
            of_set = name.removeprefix("test-")
            for who in ("generator", "bicubic", "the originals"):
                key = f"sr.{run['kind'] if who == 'generator' else who.split()[-1]}_{of_set}"
                if who != "the originals":
                    found[f"{key}_psnr"] = f"{values[who]['psnr']:.2f} dB"
                if of_set == "set14":  # Set5 has too few patches
                    found[f"{key}_kid"] = f"{values[who]['patch_kid']:.3f}"
                    if run["kind"] == "sharp":  # where it decides, and has an error
                        found[f"{key}_kid"] += f" ± {values[who]['error']:.3f}"
    return found


def points() -> dict[str, str]:
    """Return how long the ring of eight modes takes, and how good it is then."""
    record = _read("points")
    runs = [run for run in record["runs"] if run["source"] == "ring" and run["update"] == "alternating"]
    seconds = [run["seconds_until_all_modes"] for run in runs]
    return {
        "points.date": record["date"],
        "points.seeds": str(len(runs)),
        "points.seconds_until_all_modes": f"{max(seconds):.0f} s",
        "points.good": f"{100 * min(run['test']['good'] for run in runs):.1f} %",
        "points.modes": str(min(round(run["test"]["modes"]) for run in runs)),
    }


def cures() -> dict[str, str]:
    """Return a line of the tables for each cure of mode collapse, and how they were measured."""
    record = _read("cures")
    found = {"cures.date": record["date"], "cures.processor": record["processor"]}
    for place in ("ring", "grid", "digits"):
        found[f"cures.{place}_rounds"] = f"{record[place]['rounds']:,} rounds"
        for name, runs in record[place]["games"].items():
            key = re.sub(r"[^a-z0-9]+", "_", name.lower())
            cost = record[place]["cost"][name]["median"]
            cells = [cure_cells([run[when] for run in runs]) for when in ("equal_samples", "equal_time")]
            found[f"cures.{place}_{key}"] = " | ".join([*cells, f"{cost:.2f}"])
            found[f"cures.{place}_seeds"] = f"{len(runs)} seeds"
    return found


def cure_cells(scores: list[dict[str, float]]) -> str:
    """Return modes found (and their range), quality and KL of the same game with several seeds, each a median."""
    modes = sorted(round(score["modes"]) for score in scores)
    if "good" in scores[0]:
        quality = f"{100 * statistics.median(score['good'] for score in scores):.0f} %"
    else:
        quality = f"{statistics.median(score['frechet_distance'] for score in scores):.0f}"
    kl = statistics.median(score["kl"] for score in scores)
    return f"{statistics.median(modes):g} ({modes[0]}–{modes[-1]}) | {quality} | {kl:.2f}"


def waiting() -> dict[str, str]:
    """Return the samples a second with threads that are chosen, and with all of them, alone and beside other work."""
    record = _read("waiting")
    found = {"waiting.date": record["date"]}
    for condition, ways in record["samples_per_second"]["modern"].items():
        for name, way in (("chosen", "threads chosen by speed"), ("all", "as torch does")):
            found[f"waiting.{condition}_{name}"] = f"{statistics.median(ways[way]):,.0f}"
    return found


def kept() -> dict[str, str]:
    """Return what two hours do to a process, and what a checkpoint costs the training."""
    soak = _read("soak")
    saving = _read("saving")
    found = {"soak.date": soak["date"], "soak.minutes": f"{soak['minutes']:.0f} minutes"}
    for name, unit in (("memory", " MiB"), ("descriptors", ""), ("threads", "")):
        fit = soak["slopes"][name]
        low, high = (_signed(fit[end]) for end in ("low", "high"))
        found[f"soak.{name}"] = f"{_signed(fit['per_hour'])}{unit} (95 % interval {low} to {high})"
        found[f"soak.{name}_ends"] = f"{fit['first']:.3g} → {fit['last']:.3g}"
    for way in ("beside", "at once"):
        for disk in ("this disk", "slow disk"):
            milliseconds = saving["milliseconds_a_checkpoint"][f"{way}, {disk}"]["median"]
            found[f"saving.{way}_{disk}".replace(" ", "_")] = f"{_short(milliseconds)} ms"
    found["saving.size"] = f"{saving['checkpoint_bytes'] / 2**20:.0f} MiB"
    return found


def fill(path: Path, found: dict[str, str]) -> None:
    """Replace {{name}} in a file; raises KeyError for a name that is not measured."""
    path.write_text(re.sub(r"\{\{([\w.-]+)\}\}", lambda match: found[match[1]], path.read_text()))


def table_of_pictures() -> str:
    """Return what was measured of pictures in colour, as a table in Markdown: a row a generator."""
    outside = ("EfficientNet-Lite2", "classifier", "encoder")  # features that judged no run
    lines = [
        "| pictures | drawn by | training | KID, Lite2 | 1,000 KID, classifier | KID, encoder | coverage by each |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, found in _read("photographs").items():
        for who, row in found["rows"].items():
            took, coverage = "", ""
            if "samples" in row:
                took = f"{row['seconds'] / 60:.0f} min, {row['samples']:,} samples"
                coverage = ", ".join(f"{row['coverage'][by]:.2f}" for by in outside)
            scaled = ((by, 1000 if by == "classifier" else 1) for by in outside)
            pairs = ((round(times * row[by][0], 2) + 0.0, times * row[by][1]) for by, times in scaled)  # no −0.00
            distances = (f"{value:.2f} ± {error:.2f}".replace("-", "−") for value, error in pairs)
            lines.append(f"| {name} | {who} | {took} | {' | '.join(distances)} | {coverage} |")
    return "\n".join(lines)


def table_of_truncation() -> str:
    """Return what truncation does to the generators of docs/explore.md, as a table in Markdown."""
    record = _read("explore")
    runs = ("digits", "classes")
    heads = ("variety", "precision", "recall", "coverage")
    lines = [
        f"| latents | {' | '.join(f'{head}, {name}' for name in runs for head in heads)} |",
        "|---" * (1 + len(runs) * len(heads)) + "|",
    ]
    for rows in zip(*(record[name]["truncation"] for name in runs), strict=True):
        cells = [f"{100 * row[head]:.0f} %" for row in rows for head in heads]
        lines.append(f"| {rows[0]['latents']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def numbers_of_explore() -> list[str]:
    """Return the other numbers of docs/explore.md, as it words them."""
    record = _read("explore")
    digits, classes, codes = record["digits"], record["classes"], record["codes"]
    found = [one["rmse"] for one in digits["projection"]]
    random = [one["nearest_random_rmse"] for one in digits["projection"]]
    return [
        f"{digits['samples']:,} and {classes['samples']:,} samples",
        f"{codes['samples']:,} samples",
        f"category of {100 * codes['codes']['category']:.0f} % (standard error "
        f"{100 * codes['codes']['category_error']:.1f} points)",
        f"{' and '.join(f'{one:.2f}' for one in codes['codes']['numbers'])} of the variance",
        f"other latents {max(0.0, codes['codes']['other_latents']):.2f}",
        f"{min(found):.0f} to {max(found):.0f} of 255",
        f"{min(random):.0f} to {max(random):.0f}",
        f"to {digits['own_rmse']:.0f}",
        f"{100 * sum(classes['directions_weights']['shares']):.0f} % of the weights",
        f"{100 * sum(digits['directions_activations']['shares']):.0f} % of the variance",
        f"{100 * digits['groups']['arrived']:.0f} % arrive",
        f"{100 * digits['groups']['arrived_by_chance']:.0f} % do",
    ]


def _read(name: str) -> dict[str, Any]:
    return json.loads((RECORDS / f"{name}.json").read_text())


def _runs(record: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [run for run in record["runs"] if run["recipe"] == name]


def _median(values: Any) -> str:
    return _short(statistics.median(values))


def _short(value: float) -> str:
    """Return three significant digits, whole numbers from 100."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def _signed(value: float) -> str:
    return "0" if value == 0 else f"{value:+.2g}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def main() -> None:
    """Print the numbers, or fill them into files."""
    found = numbers()
    for name in sys.argv[1:]:
        fill(Path(name), found)
    if len(sys.argv) == 1:
        print(json.dumps(found, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
