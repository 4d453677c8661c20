"""What remedies are worth: sick games without one, restarted at half the rates, and with `remedies.policy=act`.

    python bench/repairs.py --out DIR [--seeds 9 11 13] [--processes 2]

Each way may show the discriminator the same number of samples in all. The restart comes at half of them, from random
weights. What counts is the best generator's score, as it is what a run hands over. A game of points counts as repaired
where that score is at most 10 % of the way from the median of the healthy games of the same points to an untrained
generator's, and as nearly healthy at 1 % of it. Of games of digits, whose scores have no such scale, the scores are
told. Healthy games are played with `act`, too: what is done to them is a mistake. Writes records/repairs.json. A game
that lies in DIR is not played again.
"""

import argparse
import json
import math
import statistics
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from common import write_record
from doctor import GAMES, file_of
from sick_games import BATCH, DIGITS_BATCH, DIGITS_ROUNDS, EVALUATIONS, ROUNDS, lasting, play

from equipoise.recipe import with_settings
from equipoise.recipes import Facts, recipe_for
from equipoise.tasks import task_settings

Way = Literal["nothing", "restart", "act"]
WAYS: tuple[Way, ...] = get_args(Way)
HEALTHY = "relativistic, ring"
HEALTHY_DIGITS = "digits, relativistic, R1 and R2"
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
# No change that a run can make was found to repair these, also when it was made from the first round on (LOG.md).
WITHOUT_A_REMEDY = ("1 discriminator step in 15", "exploding depth")
SICK_DIGITS = ("digits, rates × 100", "digits, 8 discriminator steps and minimax")
LEFT_ALONE = (
    HEALTHY,
    "relativistic, grid",
    "relativistic, spiral",
    "non-saturating, R1 and R2, ring",
    "hinge, R1 and R2, spiral",
    "wgan-gp",
    "two rates",
    "constant rates",
    HEALTHY_DIGITS,
    "digits, augmented",
    "digits, dcgan",
    "digits, hinge-sn",
)
TIMES = 3  # as long as the games of bench/doctor.py: a remedy needs time to show what it does
NEAR = 0.1  # of the way from healthy to untrained
NEARLY_HEALTHY = 0.01


def base_of(name: str) -> int:
    """Return how many samples a game has in bench/doctor.py."""
    return DIGITS_BATCH * DIGITS_ROUNDS if GAMES[name].source == "mnist" else BATCH * ROUNDS


def longer(name: str, samples: int) -> tuple[str, ...]:
    """Return settings for so many samples, spaced as in bench/doctor.py, with checkpoints and remedies."""
    every = base_of(name) // EVALUATIONS
    return (*lasting(samples, base_of(name)), f"saving.every={every}", "saving.keep=1", "remedies.attempts=3")


def halved(name: str) -> tuple[str, ...]:
    """Return settings for half of a game's rates."""
    game = GAMES[name]
    kind = task_settings("images" if game.source == "mnist" else "points", game.source)
    recipe = with_settings(recipe_for(game.recipe, Facts(), kind), list(game.settings))
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
    samples = TIMES * base_of(name)
    if way == "nothing":
        left = [play(GAMES[name], seed, (*longer(name, samples), off))]
    elif way == "act":
        left = [play(GAMES[name], seed, (*longer(name, samples), "remedies.policy=act"))]
    else:
        first = play(GAMES[name], seed, (*longer(name, samples // 2), off))
        left = [first, play(GAMES[name], seed + 100, (*longer(name, samples // 2), *halved(name), off))]
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


def row_of(folder: Path, name: str, seeds: Sequence[int]) -> dict[str, Any]:
    """Return the best scores of a game by way, and what remedies did."""
    scores = {way: [best(folder, name, seed, way) for seed in seeds] for way in WAYS}
    finite = {way: [one if math.isfinite(one) else None for one in found] for way, found in scores.items()}
    return {"game": name, "scores": finite, "done": {seed: done(folder, name, seed) for seed in seeds}}


def counted(row: dict[str, Any], limit: float) -> dict[str, int]:
    """Return by way how many of a game's scores are at most a limit."""
    return {way: sum(one is not None and one <= limit for one in row["scores"][way]) for way in WAYS}


def judged(folder: Path, seeds: list[int]) -> dict[str, Any]:
    """Return for each game and way the best scores, and how often that is a repair."""
    healthy = statistics.median(best(folder, HEALTHY, seed, "nothing") for seed in seeds)
    untrained = statistics.median(best(folder, "rates ÷ 1000", seed, "nothing") for seed in seeds)
    limits = {
        name: healthy + share * (untrained - healthy)
        for name, share in (("repaired", NEAR), ("nearly", NEARLY_HEALTHY))
    }
    rows = [row_of(folder, name, seeds) for name in SICK]
    for row in rows:
        row |= {name: counted(row, limit) for name, limit in limits.items()}
        row["has_remedy"] = row["game"] not in WITHOUT_A_REMEDY

    def share(name: str, among: list[dict[str, Any]]) -> dict[str, float]:
        return {way: sum(row[name][way] for row in among) / (len(among) * len(seeds)) for way in WAYS}

    return {
        "seeds": seeds,
        "samples": TIMES * BATCH * ROUNDS,
        "healthy": healthy,
        "untrained": untrained,
        "enough": limits["repaired"],
        "repaired": share("repaired", rows),
        "nearly": share("nearly", rows),
        "repaired_where_possible": share("repaired", [row for row in rows if row["has_remedy"]]),
        "games": rows,
        "healthy_digits": best(folder, HEALTHY_DIGITS, seeds[0], "act"),
        "digits": [row_of(folder, name, seeds[:1]) for name in SICK_DIGITS],
        "left_alone": {name: len(done(folder, name, seeds[0])) for name in LEFT_ALONE},
    }


def planned(seeds: Sequence[int]) -> Iterator[tuple[str, int, Way]]:
    """Yield every game, seed and way; those of digits and what is to be left alone with the first seed."""
    for seed in seeds:
        yield HEALTHY, seed, "nothing"
        for name in SICK:
            for way in WAYS:
                yield name, seed, way
    for name in SICK_DIGITS:
        for way in WAYS:
            yield name, seeds[0], way
    for name in LEFT_ALONE:
        yield name, seeds[0], "act"


def main() -> None:
    """Play what is missing, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[9, 11, 13])
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    for way in WAYS:
        (options.out / way).mkdir(parents=True, exist_ok=True)
    every = list(planned(options.seeds))
    with ProcessPoolExecutor(options.processes, get_context("spawn")) as pool:
        waiting = [pool.submit(played, options.out, *one) for one in every]
        for place, one in enumerate(waiting, 1):
            print(f"{place} of {len(waiting)}: {one.result()}", flush=True)
    found = judged(options.out, options.seeds)
    print(json.dumps({key: value for key, value in found.items() if key != "games"}, indent=1))
    for row in (*found["games"], *found["digits"]):
        print(row["game"], row["scores"], row.get("repaired"))
        print("  ", *row["done"].values(), sep="\n   ")
    print(write_record("repairs", found))


if __name__ == "__main__":
    main()
