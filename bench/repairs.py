"""What remedies are worth: sick games without one, restarted at half the rates, and with `remedies.policy=act`.

    python bench/repairs.py --out DIR [--seeds 1 3] [--processes 2]

Each way may show the discriminator the same number of samples in all. The restart comes at half of them, from random
weights. What counts is the best generator's score, as it is what a run hands over. A game counts as repaired where that
score is at most 10 % of the way from an untrained generator's to the median of the healthy games of the same points.
Writes records/repairs.json. A game that lies in DIR is not played again.
"""

import argparse
import json
import math
import statistics
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from common import write_record
from doctor import GAMES, file_of
from sick_games import BATCH, EVALUATIONS, LINES, ROUNDS, play

from equipoise.api import recipe_for
from equipoise.recipe import with_settings
from equipoise.recipes import Facts
from equipoise.tasks import task_settings

Way = Literal["nothing", "restart", "act"]
WAYS: tuple[Way, ...] = get_args(Way)
HEALTHY = "relativistic, ring"
SICK = (
    "15 discriminator steps",
    "1 discriminator step in 15",
    "rates × 30",
    "rates × 100",
    "strong discriminator without a penalty",
    "minimax",
    "exploding depth",
    "wasserstein without a limit",
    "momentum with Adam",
    "momentum without damping",
    "rates ÷ 1000",
)
TIMES = 3  # as long as the games of bench/doctor.py: a remedy needs time to show what it does
SAMPLES = TIMES * BATCH * ROUNDS
NEAR = 0.1  # of the way from untrained to healthy


def lasting(samples: int) -> tuple[str, ...]:
    """Return settings for so many samples, with log lines and evaluations as far apart as in bench/doctor.py."""
    return (
        f"budget.samples={samples}",
        f"saving.every={BATCH * ROUNDS // EVALUATIONS}",
        "saving.keep=1",
        f"saving.log_every={BATCH * ROUNDS // LINES}",
        f"evaluation.every={BATCH * ROUNDS // EVALUATIONS}",
        "remedies.attempts=3",
    )


def halved(name: str) -> tuple[str, ...]:
    """Return settings for half of a game's rates."""
    game = GAMES[name]
    recipe = with_settings(recipe_for(game.recipe, Facts(), task_settings("points", game.source)), list(game.settings))
    found = []
    for role, settings in (("generator", recipe.game.generator), ("discriminator", recipe.game.discriminator)):
        found.append(f"game.{role}.rate={settings.rate / 2}")
        if settings.rate_end is not None:
            found.append(f"game.{role}.rate_end={settings.rate_end / 2}")
    return tuple(found)


def played(folder: Path, name: str, seed: int, way: Way) -> str:
    """Play a game one way, and write what it leaves: of a restart, of both parts."""
    path = file_of(folder / way, GAMES[name], seed)
    if path.exists():
        return path.name
    torch.set_num_threads(1)
    off = "remedies.policy=off"
    if way == "nothing":
        left = [play(GAMES[name], seed, (*lasting(SAMPLES), off))]
    elif way == "act":
        left = [play(GAMES[name], seed, (*lasting(SAMPLES), "remedies.policy=act"))]
    else:
        first = play(GAMES[name], seed, (*lasting(SAMPLES // 2), off))
        left = [first, play(GAMES[name], seed + 100, (*lasting(SAMPLES // 2), *halved(name), off))]
    parts = [{**asdict(one), "lines": len(one.lines)} for one in left]
    path.write_text(json.dumps({"game": name, "seed": seed, "way": way, "parts": parts}))
    return f"{name}, seed {seed}, {way}"


def best(folder: Path, name: str, seed: int, way: Way) -> float:
    """Return the score of the best generator of a game, infinity where there was none."""
    parts = json.loads(file_of(folder / way, GAMES[name], seed).read_text())["parts"]
    losses = [score["loss"] for part in parts for score in part["scores"] if score["loss"] is not None]
    return min(losses, default=math.inf)


def done(folder: Path, name: str, seed: int) -> list[str]:
    """Return what remedies did in a game, in words."""
    (part,) = json.loads(file_of(folder / "act", GAMES[name], seed).read_text())["parts"]
    return [event["message"] for event in part["events"] if event["kind"] in ("remedy", "no remedy")]


def judged(folder: Path, seeds: list[int]) -> dict[str, Any]:
    """Return for each game and way the best scores, and how often that is a repair."""
    healthy = statistics.median(best(folder, HEALTHY, seed, "nothing") for seed in seeds)
    untrained = statistics.median(best(folder, "rates ÷ 1000", seed, "nothing") for seed in seeds)
    enough = healthy + NEAR * (untrained - healthy)
    rows = []
    for name in SICK:
        scores = {way: [best(folder, name, seed, way) for seed in seeds] for way in WAYS}
        rows.append(
            {
                "game": name,
                "scores": {
                    way: [one if math.isfinite(one) else None for one in found] for way, found in scores.items()
                },
                "repaired": {way: sum(one <= enough for one in found) for way, found in scores.items()},
                "done": {seed: done(folder, name, seed) for seed in seeds},
            }
        )
    shares = {way: sum(row["repaired"][way] for row in rows) / (len(rows) * len(seeds)) for way in WAYS}
    scale = {"healthy": healthy, "untrained": untrained, "enough": enough}
    return {"seeds": seeds, "samples": SAMPLES, **scale, "repaired": shares, "games": rows}


def main() -> None:
    """Play what is missing, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    for way in WAYS:
        (options.out / way).mkdir(parents=True, exist_ok=True)
    every: list[tuple[str, int, Way]] = [(HEALTHY, seed, "nothing") for seed in options.seeds]
    every += [(name, seed, way) for seed in options.seeds for name in SICK for way in WAYS]
    with ProcessPoolExecutor(options.processes, get_context("spawn")) as pool:
        waiting = [pool.submit(played, options.out, *one) for one in every]
        for place, one in enumerate(waiting, 1):
            print(f"{place} of {len(waiting)}: {one.result()}", flush=True)
    found = judged(options.out, options.seeds)
    print(json.dumps({key: value for key, value in found.items() if key != "games"}, indent=1))
    for row in found["games"]:
        print(row["game"], row["scores"], row["repaired"])
        print("  ", *row["done"].values(), sep="\n   ")
    print(write_record("repairs", found))


if __name__ == "__main__":
    main()
