"""Own over-long trainings with every signal stored, and the policies replayed on them.

    python bench/stopping.py record [--seeds 0 1 2 3] [--trainings ring grid modern lsgan mlp-classic]
    python bench/stopping.py replay

`record` trains without stopping, far beyond the point where most of the gain is made, and writes
records/stopping-runs.csv: scores by the validation split with paired differences and warnings, as the policies see
them, and beside them what no policy sees, the truth: KID and FID of the same generator on the test split, from other
latents and more samples. `replay` runs the policies over that file and writes records/stopping.json: what each saves,
and how far the truth of the generator that it returns is from the best truth of the run.
"""

import argparse
import csv
import math
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast
from unittest.mock import patch

import msgspec
import torch
from common import RECORDS, write_record
from mixtures import Mixture, Shape

from equipoise import loop
from equipoise.api import SILENT
from equipoise.evaluation.evaluate import measure
from equipoise.host.deadline import Deadline
from equipoise.metrics.units import Measured
from equipoise.recipe import Budget, Custom, EvidenceSettings, PatienceSettings, Recipe, Stopping, with_settings
from equipoise.recipes import Facts, build, checked_name
from equipoise.runs.folder import RunFolder
from equipoise.runs.replay_read import Series, read_file
from equipoise.setup import loss_of, monitor_of
from equipoise.state import TrainingState
from equipoise.stopping.monitor import Monitor
from equipoise.stopping.verdicts import Stop
from equipoise.storage import logs
from equipoise.storage.records import Score, lenient
from equipoise.tasks import images
from equipoise.tasks.base import Task

CSV = RECORDS / "stopping-runs.csv"
WARNINGS = ("precision", "recall", "density", "coverage", "copying", "discriminator_gap")
PAIRED = ("compared_with", "difference", "difference_error")
COLUMNS = ("run", "step", "kid", "kid_se", "fid", *PAIRED, *WARNINGS, "truth_kid", "truth_fid")
NUM_EVALUATIONS = 80
SIZE = 16  # pixels a side of the digits: small enough for one core
SETTINGS = {  # what makes a run small; everything else is the recipe's
    "modern": ("networks.width=16", "game.batch=64"),
    "lsgan": ("networks.width=16", "game.batch=64"),
    "mlp-classic": ("networks.width=128", "game.batch=64"),
}
OF_POINTS = ("ring", "grid")
FOR_POINTS = (  # what makes the recipe fit for a perceptron on points
    "game.batch=128",
    "game.loss=non-saturating",
    "game.ema_half_life=2000",
    "game.generator.rate=0.001",
    "game.generator.beta1=0.5",
    "game.discriminator.rate=0.001",
    "game.discriminator.beta1=0.5",
)
SAMPLES = {"ring": 1_280_000, "grid": 1_280_000, "modern": 640_000, "lsgan": 640_000, "mlp-classic": 1_920_000}
Group = Literal["digits", "points"]
GROUPS: tuple[Group, Group] = ("digits", "points")

# Recording


@dataclass(frozen=True)
class Training:
    """What is trained without stopping."""

    name: str
    recipe: Recipe
    task: Task


def training_of(name: str, seed: int) -> Training:
    """Return a training by its name, over-long and with nothing that stops or rewinds it."""
    budget = Budget(samples=SAMPLES[name], seconds=None)
    endless = [f"seed={seed}", "stopping.policy=budget", "remedies.attempts=0"]
    endless.append(f"evaluation.every={SAMPLES[name] // NUM_EVALUATIONS}")
    if name in OF_POINTS:
        recipe = replace(with_settings(Recipe(), [*endless, *FOR_POINTS]), budget=budget, task=Custom(name=name))
        return Training(name, recipe, Mixture(cast(Shape, name)))
    facts = Facts(size=SIZE, channels=1, num_train=56_000, is_cpu=True)
    recipe = with_settings(build(checked_name(name), facts), [*endless, *SETTINGS[name], f"task.size={SIZE}"])
    recipe = replace(recipe, budget=budget, precision="float32")
    source = images.opened(recipe, torch.device("cpu"), SILENT.stage)
    recipe = source.settled(recipe)
    return Training(name, recipe, source.task(recipe, loss_of(recipe, None), torch.float32, SILENT.stage))


def recorded(training: Training, folder: Path) -> list[dict[str, Any]]:
    """Train to the end of the budget, take the truth of every generator that is scored, and return a row for each."""
    task = training.task
    recipe = training.recipe
    judge = task.judge("validation")
    truth = task.judge("test")
    assert judge is not None
    assert truth is not None
    truths: dict[int, Measured] = {}
    take_score = loop.take_score

    def take_both(task: Task, state: TrainingState, *given: Any) -> Score | None:
        score = take_score(task, state, *given)
        truths[state.samples] = measure(task, truth, state.generator_ema, truth.seed, Deadline(math.inf))
        return score

    run = RunFolder.create(folder, recipe, task.describe())
    monitor = monitor_of(recipe, judge)
    with patch.object(loop, "take_score", take_both):
        loop.train(task, recipe, run, judge, monitor, SILENT)
    scores = [lenient(Score, line) for line in logs.records(run.scores)]
    name = f"{training.name}/seed{recipe.seed}"
    return [row_of(name, score, truths[score.samples]) for score in scores if score.samples in truths]


def row_of(name: str, score: Score, truth: Measured) -> dict[str, Any]:
    """Return a score and its truth as a row of the file."""
    return {
        "run": name,
        "step": score.samples,
        "kid": score.loss,
        "kid_se": score.error,
        "fid": score.value("fid"),
        "compared_with": score.compared_with,
        "difference": score.difference,
        "difference_error": score.difference_error,
        **{name: score.value(name) for name in WARNINGS},
        "truth_kid": truth.loss,
        "truth_fid": truth.values["fid"],
    }


def record(names: Sequence[str], seeds: Sequence[int]) -> None:
    """Record the runs that the file lacks."""
    rows: list[dict[str, Any]] = []
    if CSV.exists():
        rows += read_rows()
    done = {row["run"] for row in rows}
    with tempfile.TemporaryDirectory() as folder:
        for seed in seeds:
            for name in names:
                if f"{name}/seed{seed}" in done:
                    continue
                rows += recorded(training_of(name, seed), Path(folder) / f"{name}-{seed}")
                write_rows(rows)
                print(f"{name}/seed{seed}", flush=True)


def read_rows() -> list[dict[str, Any]]:
    """Read the rows as they stand in the file."""
    with CSV.open() as file:
        return list(csv.DictReader(file))


def write_rows(rows: list[dict[str, Any]]) -> None:
    """Write the rows with five digits that count."""
    with CSV.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, extrasaction="ignore")
        writer.writeheader()
        writer.writerows({name: short(row.get(name)) for name in COLUMNS} for row in rows)


def short(value: Any) -> Any:
    """Return a number with five digits that count, and nothing for what is not finite."""
    if not isinstance(value, float):
        return value
    return f"{value:.5g}" if math.isfinite(value) else ""


# Replaying


@dataclass(frozen=True)
class Kind:
    """A policy, and what of the scores it is shown."""

    stopping: Stopping
    has_pairs: bool = True
    has_warnings: bool = True

    def shown(self, series: Series) -> Series:
        """Return a series as this policy sees it."""
        return replace(series, scores=tuple(self._shown(score) for score in series.scores))

    def _shown(self, score: Score) -> Score:
        if not self.has_pairs:
            nothing = {"compared_with": 0, "difference": math.nan, "difference_error": math.nan}
            score = msgspec.structs.replace(score, **nothing)
        if not self.has_warnings:
            values = {name: value for name, value in score.values.items() if name not in WARNINGS}
            score = msgspec.structs.replace(score, values=values)
        return score


@dataclass(frozen=True)
class End:
    """Where a policy stopped, and the candidates that it then held."""

    saved: float
    candidates: tuple[int, ...]  # samples; the best while training first


def kinds() -> dict[str, Kind]:
    """Return every policy with every kind of evidence."""
    mixture = Stopping(evidence=EvidenceSettings(boundary="normal-mixture"))
    budget = Stopping(policy="budget")
    found = {
        "evidence, all signals": Kind(Stopping()),
        "evidence, paired, no voters": Kind(Stopping(), has_warnings=False),
        "evidence, voters, not paired": Kind(Stopping(), has_pairs=False),
        "evidence, scores alone": Kind(Stopping(), has_pairs=False, has_warnings=False),
        "evidence, normal mixture": Kind(mixture),
    }
    for num in (5, 10, 15, 20):
        patience = Stopping(policy="patience", patience=PatienceSettings(evaluations=num))
        found[f"patience {num}"] = Kind(patience, has_pairs=False, has_warnings=False)
    found["budget, paired"] = Kind(budget)
    found["budget, scores alone"] = Kind(budget, has_pairs=False, has_warnings=False)
    return found


def ended(kind: Kind, series: Series) -> End:
    """Show a policy one run, score by score."""
    last = series.scores[-1].samples
    at = last
    monitor = Monitor(kind.stopping, Budget(samples=last, seconds=None), (series.metric,))
    for score in kind.shown(series).scores:
        monitor.score(score)
        if isinstance(monitor.verdict(score.samples, 0.0), Stop):
            at = score.samples
            break
    return End(1 - at / last, tuple(score.samples for score in monitor.candidates))


def replayed() -> dict[str, Any]:
    """Replay each policy with each kind of evidence, and look the truth up."""
    rows = {(row["run"], int(row["step"])): row for row in read_rows()}
    series = read_file(CSV, "kid")
    found: dict[str, Any] = {}
    for group in GROUPS:
        runs = [one for one in series if group_of(one) == group]
        found[group] = {name: table([(one, ended(kind, one)) for one in runs], rows) for name, kind in kinds().items()}
    return found


def group_of(series: Series) -> Group:
    """Return whether a run is one of digits, or one of points in the plane."""
    return "points" if series.name.split("/")[0] in OF_POINTS else "digits"


def table(found: list[tuple[Series, End]], rows: dict[tuple[str, int], dict[str, str]]) -> dict[str, Any]:
    """Return what a policy saved, and the true FID of the generator that it returns against the lowest of the run.

    `best` is the generator that was best while training. `chosen` is the candidate of lowest true KID, which stands
    for the second evaluation at the end, whose images and latents are as many.
    """
    regrets: dict[str, list[float]] = {"best": [], "chosen": []}
    for series, end in found:
        of = {score.samples: rows[series.name, score.samples] for score in series.scores}
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
    parser.add_argument("--trainings", nargs="+", choices=list(SAMPLES), default=list(SAMPLES))
    options = parser.parse_args()
    if options.what == "record":
        record(options.trainings, options.seeds)
        return
    found = replayed()
    write_record("stopping", found)
    for group, of_group in found.items():
        for kind, row in of_group.items():
            print(group, kind, {name: value for name, value in row.items() if name != "each"})


if __name__ == "__main__":
    main()
