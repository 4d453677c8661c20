"""The forecast of the evidence policy: fitted to published trainings, and checked on families left out.

    EQUIPOISE_DATA=... python bench/forecast.py

Reads fid-trajectories/development.csv (98 complete published trainings). At every evaluation with a quarter more
training still to come, the gain in log FID over that quarter is regressed on what the policy knows there:
mean gain = level · speed^power / (1 + (gap / (reach · noise))²), by quasi-Poisson likelihood, each run weighing the
same. Each family (the part of a run's name before the slash) is predicted by a fit to the others. Writes
records/forecast.json: coefficients, their spread over the fits, and forecast against truth in bands.
"""

import itertools
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import write_record
from scipy.optimize import minimize

from equipoise.recipe import EvidenceSettings
from equipoise.runs.replay_read import Series, read_file
from equipoise.stopping import evidence
from equipoise.stopping.evidence import FADING, LEVEL, REACH, SPEED_POWER, EvidenceState
from equipoise.storage.records import Score

BANDS = (0.0, 0.005, 0.01, 0.02, 0.03, 0.05, 0.07, 0.2)
MATTERS = math.log(1.02)
FIRST = 4  # evaluations before which nothing is asked


@dataclass(frozen=True)
class Table:
    """What is known at every evaluation of one run, as arrays of one length."""

    name: str
    samples: np.ndarray
    best: np.ndarray  # FID so far
    speed: np.ndarray
    gap: np.ndarray
    noise: np.ndarray
    waited: np.ndarray
    num_since: np.ndarray
    bound: np.ndarray
    gain: np.ndarray  # in log FID until 1.25 times the samples; NaN where the run ends before


def tables() -> list[Table]:
    """Read all published trainings."""
    folder = os.environ.get("EQUIPOISE_DATA")
    if folder is None:
        raise SystemExit("EQUIPOISE_DATA names no folder; the published trainings are in its fid-trajectories/")
    found = read_file(Path(folder) / "fid-trajectories" / "development.csv", "fid")
    return [table(series) for series in found]


def table(series: Series) -> Table:
    """Let the policy look at one run, evaluation by evaluation, and note what it finds."""
    settings = EvidenceSettings()
    state = EvidenceState()
    best = math.inf
    rows: list[list[float]] = []
    for score in series.scores:
        bare = Score(samples=score.samples, seconds=0.0, loss=score.loss)  # no warnings: scores alone
        state = evidence.score(state, bare, is_best=bare.loss < best)
        best = min(best, bare.loss)
        found = evidence.examined(settings, state)
        known = [1.0, 0.0, 1.0, 0.0, 0, -math.inf]
        if found is not None:
            known = [found.speed, found.gap, found.noise, found.waited, found.num_since, found.bound]
        rows.append([bare.samples, best, *known])
    samples, lowest, speed, gap, noise, waited, num_since, bound = np.array(rows).T
    return Table(series.name, samples, lowest, speed, gap, noise, waited, num_since, bound, gains(samples, lowest))


def gains(samples: np.ndarray, best: np.ndarray) -> np.ndarray:
    """Return the gain in log score that a quarter more training brought, NaN where the run ends before."""
    found = np.full(len(samples), np.nan)
    for i, now in enumerate(samples):
        if 1.25 * now <= samples[-1]:
            found[i] = math.log(best[i] / best[np.searchsorted(samples, 1.25 * now, side="right") - 1])
    return found


def predicted(coefficients: np.ndarray, of: Table) -> np.ndarray:
    """Return the forecast at every evaluation; coefficients are (log level, power, log reach)."""
    level = np.exp(coefficients[0])
    power = coefficients[1]
    reach = np.exp(coefficients[2])
    fading = np.minimum(1, FADING / np.maximum(of.waited, 1e-9))
    return fading * level * of.speed**power / (1 + (np.maximum(of.gap, 0) / (reach * of.noise)) ** 2)


def fitted(runs: list[Table]) -> np.ndarray:
    """Return the coefficients of greatest quasi-Poisson likelihood, each run weighing the same."""

    def loss(coefficients: np.ndarray) -> float:
        total = 0.0
        for run in runs:
            asked = np.isfinite(run.gain) & (np.arange(len(run.gain)) >= FIRST - 1)
            if asked.any():
                mean = predicted(coefficients, run)[asked] + 1e-6
                total += float((mean - run.gain[asked] * np.log(mean)).sum() / len(run.gain))
        return total

    start = np.array([math.log(0.1), 0.25, math.log(2.0)])
    return minimize(loss, start, method="Nelder-Mead", options={"xatol": 1e-4, "fatol": 1e-8, "maxiter": 2000}).x


def left_out(runs: list[Table], group: Callable[[Table], str]) -> dict[str, np.ndarray]:
    """Return for each group of runs the coefficients fitted to all the others."""
    groups = sorted({group(run) for run in runs})
    return {name: fitted([run for run in runs if group(run) != name]) for name in groups}


def family(run: Table) -> str:
    """Return the part of a run's name before the slash."""
    return run.name.split("/")[0]


def source(run: Table) -> str:
    """Return where a run was published: IVGAN numbers its runs by seed, PyTorch-StudioGAN does not."""
    if run.name.split("/")[1].startswith("seed"):
        return "IVGAN"
    return "PyTorch-StudioGAN"


def calibration(runs: list[Table], coefficients: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Return forecast and truth in bands of the forecast, each family forecast by a fit to the others."""
    rows = []
    for run in runs:
        asked = np.isfinite(run.gain) & (np.arange(len(run.gain)) >= FIRST - 1)
        mean = predicted(coefficients[family(run)], run)
        rows += [(mean[i], run.gain[i], 1 / len(run.gain)) for i in np.nonzero(asked)[0]]
    forecast, gain, weight = np.array(rows).T
    found = []
    for low, high in itertools.pairwise(BANDS):
        inside = (forecast >= low) & (forecast < high)
        found.append(
            {
                "band": [low, high],
                "evaluations": int(inside.sum()),
                "forecast": round(float(np.average(forecast[inside], weights=weight[inside])), 4),
                "gain": round(float(np.average(gain[inside], weights=weight[inside])), 4),
                "share_over_2pct": round(float(np.average(gain[inside] > MATTERS, weights=weight[inside])), 3),
            }
        )
    return found


def typical_gain(runs: list[Table]) -> float:
    """Return the mean gain of a quarter more training where it was over 2 %."""
    gains = [run.gain[(run.gain > MATTERS) & (np.arange(len(run.gain)) >= FIRST - 1)] for run in runs]
    weights = [np.full(len(gain), 1 / len(run.gain)) for run, gain in zip(runs, gains, strict=True)]
    return float(np.average(np.concatenate(gains), weights=np.concatenate(weights)))


def spoken(coefficients: np.ndarray) -> dict[str, float]:
    """Return coefficients by the names that the policy gives them."""
    level = math.exp(coefficients[0])
    reach = math.exp(coefficients[2])
    return {"level": round(level, 4), "speed_power": round(float(coefficients[1]), 3), "reach": round(reach, 3)}


def main() -> None:
    """Fit, leave out, and write the record."""
    runs = tables()
    whole = spoken(fitted(runs))
    others = left_out(runs, family)
    spread = {
        name: [min(values), max(values)]
        for name in whole
        for values in [[spoken(coefficients)[name] for coefficients in others.values()]]
    }
    record = {
        "runs": len(runs),
        "families": len(others),
        "in_use": {"level": LEVEL, "speed_power": SPEED_POWER, "reach": REACH},
        "fitted": whole,
        "fitted_without_one_family": spread,
        "typical_gain": round(typical_gain(runs), 3),
        "calibration": calibration(runs, others),
    }
    write_record("forecast", record)
    for name, value in record.items():
        print(name, value)


if __name__ == "__main__":
    main()
