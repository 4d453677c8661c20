"""A study of optimizers: its grid, and the folder in which it is kept and goes on where it was ended."""

import itertools
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import msgspec
import torch

from equipoise.errors import Option, RunBusyError, UserError, listed, suggested
from equipoise.storage import locks
from equipoise.storage.files import write_bytes
from equipoise.storage.logs import append, records
from equipoise.study.cells import BATCH, ROUNDS, Cell, Outcome, Played, outcome_of, play
from equipoise.study.methods import LOSSES, METHODS, PLAIN, PRACTICAL, go_together

SETTINGS, CELLS = "study.json", "cells.jsonl"
PROTOCOL = 2  # one more where the same cells come out otherwise, or a study without rates or rounds has other cells
TELL_EVERY = 1.0  # seconds between two lines on how far a study is
OF_TWO_WEIGHTS = ("dirac", "bilinear")
GAMES = tuple(ROUNDS)
RATES: dict[str, tuple[float, ...]] = {  # of both players, where no others are asked for
    **dict.fromkeys(OF_TWO_WEIGHTS, (0.01, 0.03, 0.1, 0.3, 1.0, 3.0)),
    "ring": (1e-4, 1e-3, 1e-2, 1e-1),
    "grid": (1e-4, 1e-3, 1e-2, 1e-1),
    "digits": (1e-4, 1e-3, 1e-2, 1e-1),
}

Progress = Callable[[str, float], None]


class Study(msgspec.Struct, frozen=True, kw_only=True):
    """What is studied: every method with every loss at every pair of rates, for so many seeds."""

    games: tuple[str, ...] = GAMES
    methods: tuple[str, ...] = ()  # none: those that suit a game
    losses: tuple[str, ...] = ("minimax", "non-saturating", "non-saturating + R1", "wasserstein + GP")
    rates: tuple[float, ...] = ()  # none: those that suit a game
    seeds: int = 2
    rounds: int | None = None  # none: those that suit a game


class Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the folder of a study says of it."""

    protocol: int
    study: Study


def cells_of(study: Study) -> list[Cell]:
    """Return all cells, a seed after the other; without those whose method and loss do not go together."""
    found = []
    for seed in range(study.seeds):
        for game in study.games:
            if game in OF_TWO_WEIGHTS and seed > 0:
                continue  # nothing is drawn there
            methods = study.methods or (PLAIN + PRACTICAL[1:6] if game in OF_TWO_WEIGHTS else PRACTICAL)
            losses = ("wasserstein",) if game == "bilinear" else study.losses
            rates = study.rates or RATES[game]
            for method, loss in itertools.product(methods, losses):
                if not go_together(METHODS[method], loss):
                    continue
                for of_generator, of_discriminator in itertools.product(rates, rates):
                    cell = Cell(
                        game=game,
                        method=method,
                        loss=loss,
                        generator_rate=of_generator,
                        discriminator_rate=of_discriminator,
                        seed=seed,
                        rounds=study.rounds or ROUNDS[game],
                    )
                    found.append(cell)
    return list(dict.fromkeys(found))  # a rate or a name may be given twice


def refuse_impossible(study: Study) -> None:
    """Raise UserError for a study of nothing, or of what does not exist."""
    for option, given, known in (
        ("games", study.games, GAMES),
        ("methods", study.methods, tuple(METHODS)),
        ("losses", study.losses, tuple(LOSSES)),
    ):
        for name in given:
            if name not in known:
                raise UserError(Option(option, name), f"there are {listed(known)}", *suggested(name, known))
    if study.seeds < 1:
        raise UserError(Option("seeds", study.seeds), "a study needs one seed or more", Option("seeds", 2))
    if study.rounds is not None and study.rounds < 1:
        raise UserError(Option("rounds", study.rounds), "a game needs one round or more", Option("rounds", 500))
    for rate in study.rates:
        if not 0 < rate < 1e6:
            problem = "a rate is above 0 and below 1e6"
            raise UserError(Option("rates", f"{rate:g}"), problem, Option("rates", "0.001,0.01"))
    if not cells_of(study):
        problem = "no game is left: these methods and losses do not go together"
        raise UserError(Option("methods", listed(study.methods)), problem, Option("losses", "minimax"))


def open_study(folder: Path, study: Study) -> None:
    """Begin a study in a folder, or go on with the same one; raises UserError where another thing is there."""
    path = folder / SETTINGS
    if not path.exists():
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise UserError(Option("out", folder), "something else is there", Option("out", f"{folder}-2"))
        folder.mkdir(parents=True, exist_ok=True)
        write_bytes(path, msgspec.json.format(msgspec.json.encode(Kept(PROTOCOL, study))))
        return
    if studied(folder) != study:
        problem = "another study is kept there, with other games, methods, losses, rates, seeds or rounds"
        raise UserError(Option("out", folder), problem, Option("out", f"{folder}-2"))


def studied(folder: Path) -> Study:
    """Return what a folder's study is of; raises UserError where there is none."""
    again = "Make one: equipoise study optimizers"
    try:
        kept = msgspec.json.decode((folder / SETTINGS).read_bytes(), type=Kept)
    except (OSError, msgspec.DecodeError):
        raise UserError(str(folder), "is no study of this version", again) from None
    if kept.protocol != PROTOCOL:
        raise UserError(str(folder), "its games are scored as another version does it", again)
    return kept.study


def results_of(folder: Path) -> list[Played]:
    """Return the cells that a study has played so far, each once; a damaged line is none.

    Two processes in a folder may both have played one, which must not count as two seeds.
    """
    found: dict[Cell, Played] = {}
    for line in records(folder / CELLS):
        try:
            played = msgspec.convert(line, Played)
        except msgspec.ValidationError:
            continue
        found[played.cell] = played
    return list(found.values())


def play_on(folder: Path, study: Study, workers: int, progress: Progress) -> list[Played]:
    """Play every cell that is not played yet, and return all; raises RunBusyError where another process does."""
    try:
        with locks.held(folder):
            return _played_on(folder, study, workers, progress)
    except locks.Busy as busy:
        problem = f"{locks.named(busy.holder)} is playing this study"
        raise RunBusyError(Option("out", folder), problem, "Wait for it", Option("out", f"{folder}-2")) from None


def _played_on(folder: Path, study: Study, workers: int, progress: Progress) -> list[Played]:
    cells = cells_of(study)
    results = {found.cell: found for found in results_of(folder)}
    waiting = [cell for cell in cells if cell not in results]
    begin = time.perf_counter()
    told_at = begin
    for index, found in enumerate(_played(waiting, workers)):
        append(folder / CELLS, msgspec.to_builtins(found))
        results[found.cell] = found
        if time.perf_counter() - told_at < TELL_EVERY and index + 1 < len(waiting):
            continue
        told_at = time.perf_counter()
        num = len(cells) - len(waiting) + index + 1
        left = (time.perf_counter() - begin) / (index + 1) * (len(waiting) - index - 1)
        cell = found.cell
        told = f"{num:,} of {len(cells):,} games, {left / 60:.0f} min left; {cell.game}, {cell.method}, {cell.loss}"
        progress(told, num / len(cells))
    return [results[cell] for cell in cells]


def _played(cells: Sequence[Cell], workers: int) -> Iterable[Played]:
    """Play cells on a thread each, in this process or in some."""
    if workers == 1:
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            for cell in cells:
                yield play(cell)
        finally:
            torch.set_num_threads(before)
        return
    with ProcessPoolExecutor(workers, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        games = [pool.submit(play, cell) for cell in cells]
        try:
            for game in as_completed(games):
                yield game.result()
        finally:
            pool.shutdown(cancel_futures=True)


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What a method reached with a loss in a game, at the best pair of rates and over all of them."""

    game: str
    method: str
    loss: str
    score: float  # median over seeds at the best pair of rates
    low: float
    high: float  # over seeds there
    generator_rate: float
    discriminator_rate: float
    share: float  # of settings whose median trains
    partly: float  # of those where it trains at least in part
    cost: float  # median milliseconds of a round


def rows_of(results: Iterable[Played]) -> list[Row]:
    """Return the table of a study, best first within a game and a loss."""
    groups: dict[tuple[str, str, str], list[Played]] = {}
    for found in results:
        groups.setdefault((found.cell.game, found.cell.loss, found.cell.method), []).append(found)
    rows = []
    for (game, loss, method), every in groups.items():
        by_rates = settings_of(every)
        rates, best = max(by_rates.items(), key=lambda item: statistics.median(one.score for one in item[1]))
        scores = [one.score for one in best]
        outcomes = [median_outcome(part) for part in by_rates.values()]
        row = Row(
            game=game,
            method=method,
            loss=loss,
            score=statistics.median(scores),
            low=min(scores),
            high=max(scores),
            generator_rate=rates[0],
            discriminator_rate=rates[1],
            share=statistics.mean(outcome == "trains" for outcome in outcomes),
            partly=statistics.mean(outcome in ("trains", "partly") for outcome in outcomes),
            cost=statistics.median(one.milliseconds for one in every),
        )
        rows.append(row)
    games = {game: place for place, game in enumerate(GAMES)}
    return sorted(rows, key=lambda row: (games[row.game], row.loss, -row.share, -row.score))


def settings_of(results: Iterable[Played]) -> dict[tuple[float, float], list[Played]]:
    """Return results by their pair of rates."""
    found: dict[tuple[float, float], list[Played]] = {}
    for one in results:
        found.setdefault((one.cell.generator_rate, one.cell.discriminator_rate), []).append(one)
    return found


def median_outcome(results: Sequence[Played]) -> Outcome:
    """Return the outcome of a setting: by the median score of its seeds, unless more than half of them diverge."""
    if statistics.mean(one.is_lost for one in results) > 0.5:
        return "diverges"
    return outcome_of(results[0].cell.game, statistics.median(one.score for one in results))


def protocol(results: Iterable[Played]) -> str:
    """Say how the games of a study are played."""
    rounds = {found.cell.game: found.cell.rounds for found in results}
    told = ", ".join(f"{game} {num:,}" for game, num in rounds.items())
    return f"Rounds: {told}. Batches of {BATCH}; no moving average; the rates are constant."
