"""The frontier of stopping rules on published trainings: what each saves against how often it loses more than 2 %.

    EQUIPOISE_DATA=... python bench/frontier.py

Replays every rule and setting over fid-trajectories/development.csv (98 complete published trainings), one evaluation
at a time. `evidence` is tuned by leaving one family out: its forecast is fitted, and its minimum gain and minimum wait
chosen, on the other families alone, by a criterion fixed beforehand: the most saved among the settings with at least
97 % of the runs within 2 % and no run beyond 1.10. Writes records/frontier.json (the comparison), frontier.csv (every
rule and setting) and frontier.svg (the picture).
"""

import csv
import itertools
import math
import statistics
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
from common import RECORDS, write_record
from forecast import MATTERS as TWO_PERCENT
from forecast import Table, family, left_out, predicted, source, tables

from equipoise.recipe import EvidenceSettings
from equipoise.stopping.evidence import LEVEL, NUM_SINCE, REACH, SPEED_POWER

Rule = Callable[[Table], np.ndarray]  # at which evaluations it would stop
MIN_GAINS = (0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.07)
MIN_WAITS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0)
PATIENCE = (2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 20, 22, 25, 28, 30, 35, 40, 50, 60, 80, 130)
IN_USE = np.array([math.log(LEVEL), SPEED_POWER, math.log(REACH)])
DEFAULT = EvidenceSettings()
WITHIN = 0.97  # the criterion of the choice: this share of the runs within 2 %,
WORST = 1.10  # and none beyond this regret


def stopped(rule: Rule, run: Table) -> tuple[float, float]:
    """Return the share that a rule saves on one run, and its regret."""
    hits = np.nonzero(rule(run))[0]
    last = len(run.samples) - 1
    at = last
    if len(hits):
        at = int(hits[0])
    return float(1 - run.samples[at] / run.samples[last]), round(float(run.best[at] / run.best[last]), 12)


def outcome(results: list[tuple[float, float]]) -> dict[str, Any]:
    """Return what a rule does over all runs."""
    saved = [result[0] for result in results]
    regrets = [result[1] for result in results]
    return {
        "saved": round(statistics.fmean(saved), 4),
        "within_2pct": sum(bool(regret <= 1.02) for regret in regrets),
        "within_5pct": sum(bool(regret <= 1.05) for regret in regrets),
        "mean_regret": round(statistics.fmean(regrets), 4),
        "worst_regret": round(max(regrets), 3),
    }


def over(rule: Rule, runs: list[Table]) -> dict[str, Any]:
    """Return what one rule does over some runs."""
    return outcome([stopped(rule, run) for run in runs])


def patience(num: int) -> Rule:
    """Stop after so many evaluations without a better one."""
    return lambda run: run.num_since >= num


def relative_patience(share: float, least: int, gain: float) -> Rule:
    """Stop after waiting for a share of the time that the best took, counting gains beyond a share only."""

    def rule(run: Table) -> np.ndarray:
        hits = np.zeros(len(run.best), bool)
        reference = math.inf
        at = 0
        for i, best in enumerate(run.best):
            if best < reference / (1 + gain):
                reference = best
                at = i
            hits[i] = i - at >= least and run.samples[i] - run.samples[at] >= share * run.samples[at]
        return hits

    return rule


def doubled(run: Table) -> np.ndarray:
    """Stop once the four last scores are all twice the best."""
    return (run.gap >= math.log(2)) & (run.num_since >= NUM_SINCE)


def evidence(min_gain: float, min_wait: float, coefficients: np.ndarray = IN_USE, *, is_tested: bool = True) -> Rule:
    """Return the policy's rule, with its own forecast or with other coefficients, with its test or without."""

    def rule(run: Table) -> np.ndarray:
        hits = (run.num_since >= NUM_SINCE) & (run.waited >= min_wait) & (predicted(coefficients, run) < min_gain)
        if is_tested:
            hits &= run.bound > -math.log1p(DEFAULT.delta)
        return hits

    return rule


def oracle(run: Table) -> np.ndarray:
    """Stop at the first evaluation within 2 % of the best, which only hindsight knows."""
    return run.best <= 1.02 * run.best[-1]


def chosen(runs: list[Table], coefficients: np.ndarray) -> tuple[float, float]:
    """Return the minimum gain and the minimum wait that the criterion chooses on some runs."""
    rows = [
        (over(evidence(min_gain, min_wait, coefficients), runs), min_gain, min_wait)
        for min_gain, min_wait in itertools.product(MIN_GAINS, MIN_WAITS)
    ]
    good = [row for row in rows if row[0]["within_2pct"] >= WITHIN * len(runs) and row[0]["worst_regret"] <= WORST]
    best = max(good or rows, key=lambda row: row[0]["saved"])
    return best[1], best[2]


def cross_validated(runs: list[Table], group: Callable[[Table], str]) -> dict[str, Any]:
    """Return what evidence does where forecast, gain and wait all come from the other groups of runs."""
    results: list[tuple[float, float]] = []
    choices: dict[str, tuple[float, float]] = {}
    for name, coefficients in left_out(runs, group).items():
        choice = chosen([run for run in runs if group(run) != name], coefficients)
        choices[name] = choice
        results += [stopped(evidence(*choice, coefficients), run) for run in runs if group(run) == name]
    counts = Counter(f"gain {min_gain:g}, wait {min_wait:g}" for min_gain, min_wait in choices.values())
    return outcome(results) | {"chosen": dict(counts)}


def learned(runs: list[Table], kind: str) -> list[dict[str, Any]]:
    """Return what a classifier of "2 % more to come" does, each family left out: is there more to be had?"""
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    def known(run: Table) -> np.ndarray:
        num = np.arange(1, len(run.best) + 1)
        logs = (np.log1p(run.num_since), np.log1p(run.waited), np.log(run.speed), np.log(run.noise), np.log(num))
        return np.stack([*logs, run.gap, run.gap / run.noise, np.maximum(run.bound, -5)], 1)

    chances: dict[str, np.ndarray] = {}
    for name in {family(run) for run in runs}:
        train = [run for run in runs if family(run) != name]
        target = np.concatenate([np.log(run.best / run.best[-1]) > TWO_PERCENT for run in train])
        weight = np.concatenate([np.full(len(run.best), 1 / len(run.best)) for run in train])
        inputs = np.concatenate([known(run) for run in train])
        if kind == "boosted trees":
            model = HistGradientBoostingClassifier(max_depth=3, max_iter=150, learning_rate=0.05, random_state=0)
            model.fit(inputs, target, sample_weight=weight)
        else:
            model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
            model.fit(inputs, target, logisticregression__sample_weight=weight)
        for run in runs:
            if family(run) == name:
                chances[run.name] = model.predict_proba(known(run))[:, 1]
    rows = []
    for level in (0.3, 0.2, 0.15, 0.1, 0.07, 0.05, 0.03, 0.02, 0.01, 0.005):
        found = over(lambda run, level=level: (chances[run.name] < level) & (run.num_since >= NUM_SINCE), runs)
        rows.append({"rule": f"{kind}, chance below {level:g}"} | found)
    return rows


def at_least(rows: list[dict[str, Any]], within: int) -> float:
    """Return the most that rules of one kind save while so many runs stay within 2 %."""
    return max((row["saved"] for row in rows if row["within_2pct"] >= within), default=0.0)


def picture(kinds: dict[str, list[dict[str, Any]]], marked: dict[str, dict[str, Any]]) -> str:
    """Draw saved against runs within 2 %, one mark a setting."""
    left = 60
    top = 28
    width = 640
    height = 360
    least = 80
    most = 0.4
    colours = {"patience": "#b45309", "evidence": "#0f766e", "relative patience": "#6d28d9", "boosted trees": "#64748b"}

    def place(row: dict[str, Any]) -> tuple[float, float]:
        return left + width * row["saved"] / most, top + height * (98 - row["within_2pct"]) / (98 - least)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {left + width + 20} {top + height + 60}" '
        'font-family="system-ui, sans-serif" font-size="12" fill="#444">',
        '<rect width="100%" height="100%" fill="#fff"/>',
    ]
    for within in range(least, 99, 3):
        y = top + height * (98 - within) / (98 - least)
        parts.append(f'<path d="M{left} {y:.1f}h{width}" stroke="#e5e5e5"/>')
        parts.append(f'<text x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{within}</text>')
    for percent in range(0, 41, 5):
        x = left + width * percent / 100 / most
        if x <= left + width:
            parts.append(f'<path d="M{x:.1f} {top}v{height}" stroke="#f0f0f0"/>')
            parts.append(f'<text x="{x:.1f}" y="{top + height + 18}" text-anchor="middle">{percent} %</text>')
    for kind, colour in colours.items():
        for row in kinds[kind]:
            x, y = place(row)
            if row["within_2pct"] >= least and x <= left + width:
                parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{colour}" fill-opacity="0.55"/>')
    for text, row in marked.items():
        x, y = place(row)
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="8" fill="none" stroke="#222" stroke-width="1.5"/>')
        parts.append(f'<text x="{x + 13:.1f}" y="{y - 5:.1f}" fill="#222" font-weight="600">{text}</text>')
    for i, (kind, colour) in enumerate(colours.items()):
        y = top + height - 16 - 18 * i
        note = ""
        if kind == "boosted trees":
            note = " (learned, a check of what is possible)"
        parts.append(f'<circle cx="{left + 14}" cy="{y - 4}" r="5" fill="{colour}" fill-opacity="0.7"/>')
        parts.append(f'<text x="{left + 26}" y="{y}">{kind}{note}</text>')
    middle = left + width / 2
    bottom = top + height + 44
    parts.append(f'<text x="{middle}" y="{bottom}" text-anchor="middle">training saved, mean over 98 runs</text>')
    parts.append(
        f'<text x="14" y="{top + height / 2}" text-anchor="middle" transform="rotate(-90 14 {top + height / 2})">'
        "runs within 2 % of their best</text></svg>"
    )
    return "\n".join(parts) + "\n"


def main() -> None:
    """Replay all, and write the record and the picture."""
    runs = tables()
    kinds: dict[str, list[dict[str, Any]]] = {
        "patience": [{"rule": f"patience {num}"} | over(patience(num), runs) for num in PATIENCE],
        "relative patience": [
            {"rule": f"relative patience {share:g}, at least {least}, gains over {gain:.0%}"}
            | over(relative_patience(share, least, gain), runs)
            for share in (0.3, 0.5, 0.7, 1.0, 1.5)
            for least in (4, 10)
            for gain in (0.0, 0.02)
        ],
        "evidence": [
            {"rule": f"evidence, gain {min_gain:g}, wait {min_wait:g}"} | over(evidence(min_gain, min_wait), runs)
            for min_gain, min_wait in itertools.product(MIN_GAINS, MIN_WAITS)
        ],
        "forecast alone": [
            {"rule": f"forecast below {min_gain:g}"} | over(evidence(min_gain, 0.0, is_tested=False), runs)
            for min_gain in MIN_GAINS
        ],
        "test alone": [
            {"rule": f"test, wait {min_wait:g}"} | over(evidence(math.inf, min_wait), runs) for min_wait in MIN_WAITS
        ],
        "doubled": [{"rule": "four scores at twice the best"} | over(doubled, runs)],
        "boosted trees": learned(runs, "boosted trees"),
        "logistic regression": learned(runs, "logistic regression"),
    }
    default = over(evidence(DEFAULT.min_gain, DEFAULT.min_wait), runs)
    crossed = cross_validated(runs, family)
    by_source = cross_validated(runs, source)
    record = {
        "runs": len(runs),
        "families": len({family(run) for run in runs}),
        "oracle": over(oracle, runs),
        "default": default,
        "left_out": crossed,
        "source_left_out": by_source,
        "patience_at_as_many_within_2pct": {
            "default": at_least(kinds["patience"], default["within_2pct"]),
            "left_out": at_least(kinds["patience"], crossed["within_2pct"]),
            "source_left_out": at_least(kinds["patience"], by_source["within_2pct"]),
        },
        "most_saved_at_least_within_2pct": {
            kind: {str(within): at_least(rows, within) for within in (98, 97, 96, 95, 94, 92, 90)}
            for kind, rows in kinds.items()
        },
    }
    write_record("frontier", record)
    with (RECORDS / "frontier.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["kind", *kinds["patience"][0]])
        writer.writeheader()
        writer.writerows({"kind": kind} | row for kind, rows in kinds.items() for row in rows)
    marked = {"default": default, "tuned with each family left out": crossed, "hindsight": record["oracle"]}
    (RECORDS / "frontier.svg").write_text(picture(kinds, marked))
    for name, value in record.items():
        print(name, value)


if __name__ == "__main__":
    main()
