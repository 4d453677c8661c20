"""The fault bench: which conditions are told of sick games and of healthy ones, and how soon.

    python bench/doctor.py play --out DIR [--seeds 0 1 2] [--processes 2] [--only "rates × 30"]
    python bench/doctor.py judge --out DIR

`play` plays every game of bench/sick_games.py for every seed, and writes what each leaves to DIR. A game that lies
there is not played again. `judge` lets their log lines and scores go through `equipoise.health.conditions` as in a
training, and writes records/doctor.json. Thresholds were set on even seeds; what is reported is of odd ones.

A sick game counts as detected where one of its right conditions is told at any of its log lines from the fault on. The
delay is from the fault (the beginning of the game, but for NaN, which come in its middle) to that line. A false alarm
is a healthy game of which any condition was told at any of its log lines.
"""

import argparse
import json
import math
import re
import statistics
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, get_args

import torch
from common import write_record
from sick_games import HEALTHY, SICK, Game, Poisoned, play

from equipoise.health.timeline import told_at_each
from equipoise.storage.records import Condition, Confidence, Diagnosis, Score, StepStats, lenient

GAMES = {game.name: game for game in (*SICK, *HEALTHY)}
LIKELY: tuple[Confidence, ...] = ("likely", "certain")


@dataclass(frozen=True)
class Played:
    """What a game left: its log lines with what was told at each, and its scores."""

    game: Game
    seed: int
    lines: tuple[StepStats, ...]
    told: tuple[tuple[Diagnosis, ...], ...]
    scores: tuple[Score, ...]

    @property
    def begun(self) -> int:
        """Where the fault begins, in samples."""
        return Poisoned.begin if self.game.name.startswith("NaN") else 0

    @property
    def best(self) -> float:
        """The lowest score, infinity where there was none."""
        return min((score.loss for score in self.scores if score.is_finite), default=math.inf)

    def first(self, conditions: Sequence[Condition], confidences: Sequence[Confidence]) -> int | None:
        """Return the samples from the fault to the first line at which one of these was told; None where none was."""
        for line, found in zip(self.lines, self.told, strict=True):
            if any(one.condition in conditions and one.confidence in confidences for one in found):
                return max(0, line.samples - self.begun)
        return None


# Playing


def file_of(folder: Path, game: Game, seed: int) -> Path:
    """Return where what a game leaves is written."""
    return folder / f"{re.sub('[^a-z0-9]+', '-', game.name.lower()).strip('-')}-{seed}.json"


def played(folder: Path, name: str, seed: int) -> str:
    """Play a game, write its log lines, scores and reason, and return its name."""
    path = file_of(folder, GAMES[name], seed)
    if not path.exists():
        torch.set_num_threads(1)
        left = play(GAMES[name], seed)
        path.write_text(json.dumps({"game": name, "seed": seed, **asdict(left)}))
    return f"{name}, seed {seed}"


def play_all(options: argparse.Namespace) -> None:
    """Play what is missing."""
    options.out.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(options.processes, get_context("spawn")) as pool:
        waiting = [pool.submit(played, options.out, name, seed) for seed in options.seeds for name in options.only]
        for place, one in enumerate(waiting, 1):
            print(f"{place} of {len(waiting)}: {one.result()}", flush=True)


# Judging


def read(path: Path) -> Played:
    """Read what a game left, and let its lines go through the conditions."""
    found = json.loads(path.read_text())
    lines = tuple(lenient(StepStats, line) for line in found["lines"])
    scores = tuple(lenient(Score, score) for score in found["scores"])
    return Played(GAMES[found["game"]], found["seed"], lines, tuple(told_at_each(lines, scores)), scores)


def share(num: int, of: int) -> dict[str, Any]:
    """Return a share with its Wilson interval of 95 %."""
    if not of:
        return {"num": 0, "of": 0}
    rate, z = num / of, 1.96
    middle = (rate + z * z / (2 * of)) / (1 + z * z / of)
    half = z * math.sqrt(rate * (1 - rate) / of + z * z / (4 * of * of)) / (1 + z * z / of)
    return {"num": num, "of": of, "share": rate, "low": max(0.0, middle - half), "high": min(1.0, middle + half)}


def by_game(games: Sequence[Played]) -> list[dict[str, Any]]:
    """Return for every kind of game how often a right condition was told, how soon, and what else was."""
    rows = []
    for game in GAMES.values():
        own = [one for one in games if one.game == game]
        right = game.conditions or ALL
        firsts = [one.first(right, get_args(Confidence)) for one in own]
        delays = [first for first in firsts if first is not None]
        others = sorted({one.condition for each in own for found in each.told for one in found} - set(right))
        rows.append(
            {
                "game": game.name,
                "conditions": game.conditions,
                "how": game.how,
                "told": share(len(delays), len(own)),
                "median_delay": statistics.median(delays) if delays else None,
                "samples": own[0].lines[-1].samples if own else None,
                "best": spread_of([one.best for one in own if math.isfinite(one.best)]),
                "also_told": others,
            }
        )
    return rows


ALL: tuple[Condition, ...] = tuple(one for one in get_args(Condition) if one != "nothing-more-to-gain")


def spread_of(values: Sequence[float]) -> dict[str, float]:
    """Return the least, the median and the greatest value; nothing of none."""
    return {"least": min(values), "median": statistics.median(values), "most": max(values)} if values else {}


def by_condition(games: Sequence[Played]) -> list[dict[str, Any]]:
    """Return for every condition in how many games it is right, found there, how soon, and told of healthy games."""
    healthy = [one for one in games if not one.game.conditions]
    rows = []
    for condition in ALL:
        ill = [one for one in games if condition in one.game.conditions]
        firsts = [one.first([condition], get_args(Confidence)) for one in ill]
        found = [first for first in firsts if first is not None]
        wrong = [one for one in healthy if one.first([condition], get_args(Confidence)) is not None]
        rows.append(
            {
                "condition": condition,
                "found": share(len(found), len(ill)),
                "median_delay": statistics.median(found) if found else None,
                "of_healthy": share(len(wrong), len(healthy)),
            }
        )
    return rows


def summary(games: Sequence[Played]) -> dict[str, Any]:
    """Return how many sick games were detected, and healthy ones alarmed at, by how sure the diagnosis was."""
    found: dict[str, Any] = {}
    for name, confidences in (("any", get_args(Confidence)), ("likely", LIKELY)):
        sick = [one for one in games if one.game.conditions]
        healthy = [one for one in games if not one.game.conditions]
        right = [one for one in sick if one.first(one.game.conditions, confidences) is not None]
        alarmed = [one for one in healthy if one.first(ALL, confidences) is not None]
        told = [one for one in sick if one.first(ALL, confidences) is not None]
        found[name] = {
            "detected": share(len(right), len(sick)),
            "told_anything": share(len(told), len(sick)),
            "false_alarms": share(len(alarmed), len(healthy)),
        }
    return found


def calibration(games: Sequence[Played]) -> list[dict[str, Any]]:
    """Return of the games by the surest diagnosis that was told of them how many were sick, and had it right."""
    rows = []
    for place, confidence in enumerate(get_args(Confidence)):
        surer = get_args(Confidence)[place + 1 :]
        own = [one for one in games if one.first(ALL, [confidence]) is not None and one.first(ALL, surer) is None]
        sick = [one for one in own if one.game.conditions]
        right = [one for one in sick if one.first(one.game.conditions, [confidence]) is not None]
        rows.append({"surest": confidence, "sick": share(len(sick), len(own)), "right": share(len(right), len(own))})
    return rows


def judge(options: argparse.Namespace) -> None:
    """Judge what was played, on even and on odd seeds, and write the record."""
    games = [read(path) for path in sorted(options.out.glob("*.json"))]
    halves = {"even": [one for one in games if one.seed % 2 == 0], "odd": [one for one in games if one.seed % 2]}
    record = {
        name: {
            "seeds": sorted({one.seed for one in half}),
            "num_games": len(half),
            "summary": summary(half),
            "calibration": calibration(half),
            "conditions": by_condition(half),
            "games": by_game(half),
        }
        for name, half in halves.items()
    }
    for name, half in record.items():
        print(f"{name} seeds {half['seeds']}: {json.dumps(half['summary'], indent=1)}")
        for row in half["calibration"]:
            print(f"  at most {row['surest']}: sick {row['sick']}, a right condition {row['right']}")
        for row in half["games"]:
            told, delay = row["told"], row["median_delay"]
            kind = "healthy" if not row["conditions"] else ", ".join(row["conditions"])
            print(f"  {row['game']} ({kind}): {told['num']} of {told['of']}, delay {delay}, also {row['also_told']}")
    print(write_record("doctor", record) if not options.dry else "not written")


def main() -> None:
    """Play what is missing, or judge what was played."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("play", "judge"))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10)))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=list(GAMES), default=list(GAMES))
    parser.add_argument("--dry", action="store_true", help="write no record")
    options = parser.parse_args()
    if options.what == "play":
        play_all(options)
    else:
        judge(options)


if __name__ == "__main__":
    main()
