"""Which optimizer suits which game: the studies of docs/optimizers.md, their record, pictures and tables.

.venv/bin/python bench/optimizers.py play --out FOLDER      # hours; goes on where it was ended
.venv/bin/python bench/optimizers.py cost FOLDER            # what a round takes, on an idle core: minutes
.venv/bin/python bench/optimizers.py table FOLDER           # the record, pictures and the page
"""

import argparse
import json
import re
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import msgspec
import torch
from common import hardware, write_record

from equipoise.storage.files import write_json
from equipoise.storage.logs import append, records
from equipoise.study.cells import BOUNDS, ROUNDS, USUAL_BOUNDS, Cell, Played, play
from equipoise.study.games import ceiling
from equipoise.study.methods import METHODS
from equipoise.study.page import TITLES, pictures_of
from equipoise.study.pictures import stability_maps
from equipoise.study.studies import (
    OF_TWO_WEIGHTS,
    Row,
    Study,
    cells_of,
    open_study,
    play_on,
    refuse_impossible,
    results_of,
    rows_of,
)

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "optimizers.md"
RECORD = ROOT / "bench" / "records" / "optimizers.json"
IMAGES = ROOT / "docs" / "images"
FRESH_CELLS, COSTS = "fresh.jsonl", "costs.json"
BEGIN, END = "<!-- table: bench/optimizers.py table -->", "<!-- end of the table -->"
LOSSES = ("non-saturating", "non-saturating + R1", "wasserstein + GP")
NAMED = ("sgd", "adagrad", "rmsprop", "adam", "extragradient adam", "optimistic adam", "lookahead adam")
MANY = ("momentum", "adamw", "simultaneous adam", "consensus rmsprop")
ZERO_SUM = ("rmsprop", "adam", "extragradient adam", "competitive rmsprop")
STUDIES = {
    "small": Study(games=("dirac", "bilinear"), losses=("minimax", *LOSSES), seeds=1),
    "ring": Study(games=("ring",), methods=(*NAMED, *MANY), losses=LOSSES[:2], seeds=2),
    "ring-minimax": Study(games=("ring",), methods=ZERO_SUM, losses=("minimax",), seeds=2),
    "ring-wasserstein": Study(games=("ring",), methods=NAMED, losses=LOSSES[2:], seeds=2),
    "grid": Study(games=("grid",), methods=NAMED, losses=LOSSES[1:2], seeds=2),
    "digits": Study(games=("digits",), methods=NAMED, losses=LOSSES[1:2], seeds=2),
}
SEVERAL_GRADIENTS = ("extragradient", "consensus", "symplectic", "competitive")
OUTLINES = {  # maps of a few methods and losses, to show them to others; all of them are in a map of their own
    "dirac": (("sgd", "extragradient sgd", "consensus sgd", "rmsprop", "adam"), ("minimax", *LOSSES[:2])),
    "ring": (("sgd", "adagrad", "rmsprop", "adam", "extragradient adam", "lookahead adam"), LOSSES[:2]),
}
NUM_TIMED, REPEATS = 100, 5  # rounds, and how often, where the cost of a round is measured
FRESH = (2, 3, 4)  # seeds that choose no pair of rates
TELL_EVERY = 20.0  # seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    play = commands.add_parser("play")
    play.add_argument("names", nargs="*", choices=STUDIES, help="all of them if none is named")
    play.add_argument("--out", type=Path, required=True)
    play.add_argument("--workers", type=int, default=1)
    cost = commands.add_parser("cost")
    cost.add_argument("folder", type=Path)
    table = commands.add_parser("table")
    table.add_argument("folder", type=Path)
    options = parser.parse_args()
    if options.command == "play":
        for name in options.names or STUDIES:
            play_one(options.out / name, STUDIES[name], options.workers)
        return
    if options.command == "cost":
        time_rounds(options.folder)
        return
    record(options.folder)


def play_one(folder: Path, study: Study, workers: int) -> None:
    """Play one of the studies, and tell now and then how far it is."""
    refuse_impossible(study)
    open_study(folder, study)
    told = [0.0]

    def tell(text: str, share: float) -> None:
        """Print a line, but not every second."""
        if time.monotonic() - told[0] > TELL_EVERY or share == 1:
            told[0] = time.monotonic()
            print(text, flush=True)

    best = best_cells(play_on(folder, study, workers, tell))
    done = {found.cell for found in fresh_of(folder)}
    waiting = [cell for cell in best + longer(best) if cell not in done]
    with ProcessPoolExecutor(
        workers, mp_context=get_context("spawn"), initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        for num, found in enumerate(pool.map(play, waiting), start=1):
            append(folder / FRESH_CELLS, msgspec.to_builtins(found))
            tell(f"{found.cell.game}: {num} of {len(waiting)} games on fresh seeds", num / len(waiting))


def longer(cells: list[Cell]) -> list[Cell]:
    """Return the same games with twice the rounds, of methods whose round costs one gradient of each player.

    They take as many gradients as those of extragradient.
    """
    return [
        msgspec.structs.replace(cell, rounds=2 * cell.rounds)
        for cell in cells
        if METHODS[cell.method].rule not in SEVERAL_GRADIENTS
    ]


def best_cells(results: list[Played]) -> list[Cell]:
    """Return each method's and loss's best pair of rates, once for each fresh seed; none of games that draw nothing."""
    rounds = {found.cell.game: found.cell.rounds for found in results}
    return [
        Cell(
            game=row.game,
            method=row.method,
            loss=row.loss,
            generator_rate=row.generator_rate,
            discriminator_rate=row.discriminator_rate,
            seed=seed,
            rounds=rounds[row.game],
        )
        for row in rows_of(results)
        if row.game not in OF_TWO_WEIGHTS
        for seed in FRESH
    ]


def fresh_of(folder: Path) -> list[Played]:
    """Return the games of a study's folder that were played on fresh seeds."""
    return [msgspec.convert(line, Played) for line in records(folder / FRESH_CELLS)]


def time_rounds(folder: Path) -> None:
    """Measure what a round of every method with every loss takes, one after the other, a few times over."""
    torch.set_num_threads(1)
    cells = {key: cell for study in STUDIES.values() for key, cell in kinds_of(study).items()}
    every: dict[str, list[float]] = {}
    for num in range(REPEATS):
        for key, cell in cells.items():
            few = msgspec.structs.replace(cell, generator_rate=1e-4, discriminator_rate=1e-4, rounds=NUM_TIMED)
            every.setdefault(" | ".join(key), []).append(play(few).milliseconds)
        print(f"{num + 1} of {REPEATS} times", flush=True)
    costs = {name: round(statistics.median(found), 3) for name, found in every.items()}
    write_json(folder / COSTS, {**hardware(), "milliseconds": costs})


def costs_of(folder: Path) -> dict[str, Any]:
    """Return what a round takes by game, method and loss, and the machine that it was measured on."""
    try:
        found = json.loads((folder / COSTS).read_text())
    except FileNotFoundError:
        raise SystemExit(f"{folder / COSTS} is missing: bench/optimizers.py cost {folder}") from None
    every = [" | ".join(key) for study in STUDIES.values() for key in kinds_of(study)]
    if missing := [name for name in every if name not in found["milliseconds"]]:
        raise SystemExit(f"{missing[0]} was not timed: bench/optimizers.py cost {folder}")
    return found


def kinds_of(study: Study) -> dict[tuple[str, str, str], Cell]:
    """Return a cell of each game, method and loss."""
    return {(cell.game, cell.method, cell.loss): cell for cell in cells_of(study)}


def record(folder: Path) -> None:
    """Write the record of all studies in a folder, their pictures, and the tables of the page.

    A game of which the folder has no finished study stays as it was recorded.
    """
    torch.set_num_threads(1)
    timed = costs_of(folder)
    costs = timed.pop("milliseconds")
    results: list[Played] = []
    fresh: dict[Cell, float] = {}
    for name, study in STUDIES.items():
        played = {found.cell: found for found in results_of(folder / name)}
        every = [played[cell] for cell in cells_of(study) if cell in played]
        scores = {found.cell: found.score for found in fresh_of(folder / name)}
        best = best_cells(every)
        best += longer(best)
        missing = len(cells_of(study)) - len(every) + sum(cell not in scores for cell in best)
        if missing:
            again = f"bench/optimizers.py play {name} --out {folder}"
            print(f"{name} is left out: {missing:,} of its games are missing: {again}", file=sys.stderr)
            continue
        results += every
        fresh |= {cell: scores[cell] for cell in best}
    games: dict[str, Any] = {}
    for game, pictures in pictures_of(results).items():
        of_game = [one for one in results if one.cell.game == game]
        games[game] = {
            "rounds": of_game[0].cell.rounds,
            "num": len(of_game),
            "seeds": len({one.cell.seed for one in of_game}),
            "trains_from": BOUNDS.get(game, USUAL_BOUNDS)[0],
            "ceiling": round(ceiling(game), 3),
            "rows": [vars_of(row, fresh, costs) for row in rows_of(of_game)],
        }
        for picture in pictures:
            (IMAGES / f"study-{picture.file}").write_text(picture.svg)
        if game in OUTLINES:
            methods, losses = OUTLINES[game]
            few = [one for one in of_game if one.cell.method in methods and one.cell.loss in losses]
            (IMAGES / f"study-outline-{game}.svg").write_text(stability_maps(few, TITLES[game]))
    kept = json.loads(RECORD.read_text())["games"] if RECORD.exists() else {}
    games = {game: games.get(game, kept.get(game)) for game in ROUNDS if game in games or game in kept}
    write_record("optimizers", {"rounds": ROUNDS, "timed": timed, "games": games})
    write_tables(games)


def vars_of(row: Row, fresh: dict[Cell, float], costs: dict[str, float]) -> dict[str, Any]:
    """Return a row with numbers as precise as they are, and what its best pair of rates reaches on fresh seeds."""
    again = {
        cell: round(score, 3)
        for cell, score in fresh.items()
        if (cell.game, cell.method, cell.loss) == (row.game, row.method, row.loss)
    }
    usual = ROUNDS[row.game]
    return {
        "method": row.method,
        "loss": row.loss,
        "share": round(row.share, 3),
        "partly": round(row.partly, 3),
        "score": round(row.score, 3),
        "low": round(row.low, 3),
        "high": round(row.high, 3),
        "rates": [row.generator_rate, row.discriminator_rate],
        "milliseconds": costs[f"{row.game} | {row.method} | {row.loss}"],
        "fresh": sorted(score for cell, score in again.items() if cell.rounds == usual),
        "fresh_longer": sorted(score for cell, score in again.items() if cell.rounds > usual),
    }


def write_tables(games: dict[str, Any]) -> None:
    """Put the tables between the marks of the page."""
    text = PAGE.read_text()
    page = re.sub(f"{BEGIN}.*{END}", lambda _: f"{BEGIN}\n{tables(games)}\n{END}", text, flags=re.DOTALL)
    PAGE.write_text(page)


def tables(games: dict[str, Any]) -> str:
    """Return a table for each game: what the methods reach, loss by loss."""
    parts = []
    for game, found in games.items():
        parts += ["", f"**{game}**, {found['rounds']:,} rounds, {words(found['seeds'])}; {ends(found)}", ""]
        has_fresh = any(row["fresh"] for row in found["rows"])
        head = f"best score{' (range)' if found['seeds'] > 1 else ''} | at rates G, D"
        if has_fresh:
            head += f" | there on {len(FRESH)} fresh seeds | the same, twice the rounds"
        parts += [f"| loss | method | settings that train (at least in part) | {head} | ms a round |"]
        parts += ["|---|---|---|---|---|---|---|---|" if has_fresh else "|---|---|---|---|---|---|"]
        for row in found["rows"]:
            spread = f"{row['score']:.2f}"
            if found["seeds"] > 1:
                spread += f" ({row['low']:.2f} to {row['high']:.2f})"
            rates = ", ".join(f"{rate:g}" for rate in row["rates"])
            share = f"{100 * row['share']:.0f} % ({100 * row['partly']:.0f} %)"
            cells = [row["loss"], row["method"], share, spread, rates, f"{row['milliseconds']:.2f}"]
            if has_fresh:
                cells[5:5] = [spread_of(row["fresh"]), spread_of(row["fresh_longer"])]
            parts.append(f"| {' | '.join(cells)} |")
    return "\n".join(parts).strip()


def spread_of(scores: list[float]) -> str:
    """Write the median and the range of three scores, or a dash where nothing was played."""
    if not scores:
        return "–"
    low, middle, high = scores
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def ends(found: dict[str, Any]) -> str:
    """Say what the scale of a game's scores ends with; a game of two weights has no data."""
    most = "" if found["ceiling"] == 1 else f"; samples of the data themselves score {found['ceiling']:.2f}"
    return f"trains from {found['trains_from']:g}{most}"


def words(num: int) -> str:
    """Say how many seeds."""
    return "one start" if num == 1 else f"{num} seeds"


if __name__ == "__main__":
    main()
