"""Own over-long trainings with every signal stored, and the policies replayed on them.

    python bench/stopping.py record [--seeds 0 1 2 3] [--problems ring grid modern lsgan mlp-classic]
    python bench/stopping.py replay

`record` trains each problem without stopping, far beyond the point where most of the gain is made, and writes
records/stopping-runs.csv: scores by the validation split with paired differences and voters, as the policies see
them, and beside them what no policy sees, the truth: KID and FID of the same generator on the test split, from other
latents and more samples. `replay` runs the policies over that file and writes records/stopping.json: what each saves,
and how far the truth of what it hands over is from the best truth of the run.
"""

import argparse
import csv
import dataclasses
import math
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch
from common import RECORDS, write_record
from mixtures import Mixture, random_features

from equipoise import loop
from equipoise.api import features_of, judge_of, prepared
from equipoise.evaluation.evaluate import generated
from equipoise.evaluation.evaluator import Judge, extracted, make_judge, score_features
from equipoise.metrics.features.load import Features
from equipoise.recipe import Budget, Recipe, Stopping, with_settings
from equipoise.recipes import Facts, build, checked_name
from equipoise.runs.folder import RunFolder
from equipoise.runs.replay import Series, read_csv
from equipoise.stopping.monitor import Referee
from equipoise.stopping.policies import Stop
from equipoise.storage import logs
from equipoise.tasks.images import ImageProblem, Problem

CSV = RECORDS / "stopping-runs.csv"
PAIRED = ("champion", "difference", "difference_se")  # without these and the next, a series of scores is left
VOTERS = ("precision", "recall", "density", "coverage", "copying", "discriminator_gap")
COLUMNS = ("run", "step", "kid", "kid_se", "fid", *PAIRED, *VOTERS, "truth_kid", "truth_fid")
NUM_LOOKS = 80
NUM_TRUTH = 5_000
SIZE = 16  # pixels a side of the digits: small enough for one core
SETTINGS = {  # what makes a run small; everything else is the recipe's
    "modern": ("networks.width=16", "game.batch=64"),
    "lsgan": ("networks.width=16", "game.batch=64"),
    "mlp-classic": ("networks.width=128", "game.batch=64"),
}
SAMPLES = {"ring": 1_280_000, "grid": 1_280_000, "modern": 640_000, "lsgan": 640_000, "mlp-classic": 1_920_000}


def recorded(name: str, seed: int, folder: Path) -> list[dict[str, Any]]:
    """Train one problem to the end of its budget and return a row a look."""
    budget = Budget(samples=SAMPLES[name], seconds=None)
    endless = [f"seed={seed}", "stopping.policy=budget", f"judging.every={SAMPLES[name] // NUM_LOOKS}"]
    if name in ("ring", "grid"):
        problem: Problem = Mixture("ring" if name == "ring" else "grid")
        recipe = dataclasses.replace(with_settings(Recipe(), [*endless, *mixture_settings()]), budget=budget)
        judge, truth = (points_judge(problem, split, num) for split, num in (("validation", 2_000), ("test", 5_000)))
    else:
        facts = Facts(size=SIZE, channels=1, num_train=56_000, is_cpu=True)
        recipe = with_settings(build(checked_name(name), facts), [*endless, *SETTINGS[name], f"data.size={SIZE}"])
        recipe = dataclasses.replace(recipe, budget=budget, precision="float32")
        pool = prepared(recipe.data, torch.device("cpu"))
        problem = ImageProblem(recipe, pool, torch.device("cpu"), torch.float32)
        features = features_of(pool, "encoder", torch.device("cpu"))
        judge = judge_of(pool, features, "validation", recipe.judging.num_samples)
        truth = judge_of(pool, features, "test", NUM_TRUTH)
    return trained(name, problem, recipe, judge, truth, folder)


def trained(
    name: str, problem: Problem, recipe: Recipe, judge: Judge, truth: Judge, folder: Path
) -> list[dict[str, Any]]:
    """Run the loop and take the truth of every generator that it judges."""
    run, truths = RunFolder.create(folder, recipe), {}
    real = loop.judge_now

    def judge_now(problem: Problem, state: Any, *given: Any) -> Any:
        line = real(problem, state, *given)
        batches = generated(problem, state.average, truth.protocol.num_generated, truth.protocol.seed)
        truths[state.samples] = score_features(truth, extracted(truth.features, batches))
        return line

    loop.judge_now = judge_now
    try:
        referee = Referee(recipe.stopping, recipe.budget, recipe.judging.metric)
        loop.train(problem, recipe, run, judge, referee, lambda _: None)
    finally:
        loop.judge_now = real
    lines = [line for line in logs.records(run.scores) if line["samples"] in truths]
    return [
        line
        | {
            "run": f"{name}/seed{recipe.seed}",
            "step": line["samples"],
            "truth_kid": truths[line["samples"]].kid,
            "truth_fid": truths[line["samples"]].fid,
        }
        for line in lines
    ]


def mixture_settings() -> list[str]:
    """Return what makes the recipe fit for a perceptron on points."""
    rates = [
        f"game.{player}.{field}" for player in ("generator", "discriminator") for field in ("rate=0.001", "beta1=0.5")
    ]
    return ["game.batch=128", "game.loss=non-saturating", "game.ema_half_life=2000", *rates]


def points_judge(problem: Problem, split: Any, num: int) -> Judge:
    """Return a judge of points by random features."""
    features = Features("random Fourier features", "seed 0", 64, random_features)
    return make_judge(
        features,
        [problem.real(split, num)],
        data_digest="points",
        split=split,
        num_generated=num,
        seed=int(split == "test"),
        train_batches=[problem.real("train", 2_000)],
    )


def record(problems: list[str], seeds: list[int]) -> None:
    """Record the runs that the file lacks."""
    rows = list(csv.DictReader(CSV.open())) if CSV.exists() else []
    done = {row["run"] for row in rows}
    with tempfile.TemporaryDirectory() as folder:
        for seed in seeds:
            for name in problems:
                if f"{name}/seed{seed}" in done:
                    continue
                rows += recorded(name, seed, Path(folder) / f"{name}-{seed}")
                write_rows(rows)
                print(f"{name}/seed{seed}", flush=True)


def write_rows(rows: list[dict[str, Any]]) -> None:
    """Write the rows with five digits that count."""
    with CSV.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
        writer.writeheader()
        writer.writerows({name: short(row.get(name)) for name in COLUMNS} for row in rows)


def short(value: Any) -> Any:
    """Return a number with five digits that count, and nothing for what is not finite."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return ""
    return f"{value:.5g}" if isinstance(value, float) else value


def without(series: Series, columns: tuple[str, ...]) -> Series:
    """Return a series whose lines lack some columns."""
    empty: dict[str, Any] = {name: 0 if name == "champion" else math.nan for name in columns}
    return dataclasses.replace(series, lines=tuple(dataclasses.replace(line, **empty) for line in series.lines))


@dataclasses.dataclass(frozen=True)
class End:
    """Where a policy stopped, and the candidates that it then held."""

    saved: float
    candidates: tuple[int, ...]  # samples; the best while training first


def ended(stopping: Stopping, series: Series) -> End:
    """Show a policy one run, score by score."""
    at = last = series.lines[-1].samples
    referee = Referee(stopping, Budget(samples=last, seconds=None), "kid")
    for line in series.lines:
        referee.score(line)
        if isinstance(referee.verdict(line.samples, 0.0), Stop):
            at = line.samples
            break
    return End(1 - at / last, tuple(line.samples for line in referee.candidates))


def replayed() -> dict[str, Any]:
    """Replay each policy with each kind of evidence, and look the truth up."""
    rows = {(row["run"], int(row["step"])): row for row in csv.DictReader(CSV.open())}
    runs = read_csv(CSV, "kid")
    kinds = {
        "evidence, all signals": (Stopping(), ()),
        "evidence, paired, no voters": (Stopping(), VOTERS),
        "evidence, voters, not paired": (Stopping(), PAIRED),
        "evidence, scores alone": (Stopping(), PAIRED + VOTERS),
        "evidence, normal mixture": (Stopping(boundary="normal-mixture"), ()),
        **{f"patience {n}": (Stopping(policy="patience", patience=n), PAIRED + VOTERS) for n in (5, 10, 15, 20)},
        "budget, paired": (Stopping(policy="budget"), ()),
        "budget, scores alone": (Stopping(policy="budget"), PAIRED + VOTERS),
    }
    return {
        group: {
            kind: table([(one, ended(stopping, without(one, columns))) for one in runs if is_of(group, one)], rows)
            for kind, (stopping, columns) in kinds.items()
        }
        for group in ("digits", "points")
    }


def is_of(group: str, series: Series) -> bool:
    """Return whether a run is one of digits, or one of points in the plane."""
    return (series.name.split("/")[0] in ("ring", "grid")) == (group == "points")


def table(found: list[tuple[Series, End]], rows: dict[tuple[str, int], dict[str, str]]) -> dict[str, Any]:
    """Return what a policy saved, and the true FID of what it hands over against the lowest of the run.

    `best` is the generator that was best while training. `chosen` is the candidate of lowest true KID, which stands
    for the second judging at the end, whose images and latents are as many.
    """
    regrets: dict[str, list[float]] = {"best": [], "chosen": []}
    for series, end in found:
        of = {line.samples: rows[series.name, line.samples] for line in series.lines}
        lowest = min(float(row["truth_fid"]) for row in of.values())
        chosen = min(end.candidates, key=lambda samples: float(of[samples]["truth_kid"]))
        for name, samples in (("best", end.candidates[0]), ("chosen", chosen)):
            regrets[name].append(float(of[samples]["truth_fid"]) / lowest)
    return {
        "runs": len(found),
        "saved": round(statistics.fmean(end.saved for _, end in found), 3),
        **{name: spread_of(values) for name, values in regrets.items()},
        "each": {
            series.name: [round(end.saved, 3), round(regret, 3)]
            for (series, end), regret in zip(found, regrets["chosen"], strict=True)
        },
    }


def spread_of(regrets: list[float]) -> dict[str, Any]:
    """Return how many runs end near their lowest true FID, and how far off the others."""
    return {
        "within_5pct": sum(regret <= 1.05 for regret in regrets),
        "within_10pct": sum(regret <= 1.1 for regret in regrets),
        "median": round(statistics.median(regrets), 3),
        "mean": round(statistics.fmean(regrets), 3),
        "worst": round(max(regrets), 3),
    }


def main() -> None:
    """Read the arguments, record or replay."""
    parser = argparse.ArgumentParser(description="Record over-long runs, or replay the policies on them.")
    parser.add_argument("what", choices=["record", "replay"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3])
    parser.add_argument("--problems", nargs="+", choices=list(SAMPLES), default=list(SAMPLES))
    options = parser.parse_args()
    if options.what == "record":
        record(options.problems, options.seeds)
        return
    found = replayed()
    write_record("stopping", found)
    for group, kinds in found.items():
        for kind, row in kinds.items():
            print(group, kind, {name: value for name, value in row.items() if name != "each"})


if __name__ == "__main__":
    main()
