"""The fault bench: which diagnoses are found in sick games and in healthy ones, when, and what remedies are worth.

    python bench/doctor.py play --out DIR [--seeds 0 1 2] [--processes 2] [--only "rates × 30"]

`play` plays every game of bench/sick_games.py for every seed, and writes what each leaves to DIR. A game that lies
there is not played again.
"""

import argparse
import json
import re
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch
from sick_games import HEALTHY, SICK, Game, play

GAMES = {game.name: game for game in (*SICK, *HEALTHY)}


def file_of(folder: Path, game: Game, seed: int) -> Path:
    """Return where what a game leaves is written."""
    return folder / f"{re.sub('[^a-z0-9]+', '-', game.name.lower()).strip('-')}-{seed}.json"


def played(folder: Path, name: str, seed: int) -> str:
    """Play a game, write its log lines, scores and reason, and return its name."""
    path = file_of(folder, GAMES[name], seed)
    if not path.exists():
        torch.set_num_threads(1)
        lines, scores, why = play(GAMES[name], seed)
        path.write_text(json.dumps({"game": name, "seed": seed, "lines": lines, "scores": scores, "why": why}))
    return f"{name}, seed {seed}"


def main() -> None:
    """Play what is missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("play",))
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=list(GAMES), default=list(GAMES))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(options.processes, get_context("spawn")) as pool:
        waiting = [pool.submit(played, options.out, name, seed) for seed in options.seeds for name in options.only]
        for place, one in enumerate(waiting, 1):
            print(f"{place} of {len(waiting)}: {one.result()}", flush=True)


if __name__ == "__main__":
    main()
