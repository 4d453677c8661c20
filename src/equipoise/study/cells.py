"""One cell of a study: a game played by one method with one loss, two rates and a seed, and how it came out."""

import math
import time
from typing import Literal, TypeAlias

import msgspec
import torch

from equipoise.game.updates import make_update
from equipoise.study.games import Arena, begun
from equipoise.study.methods import METHODS, game_of

Outcome: TypeAlias = Literal["trains", "partly", "fails", "diverges"]
OUTCOMES: tuple[Outcome, ...] = ("trains", "partly", "fails", "diverges")
BOUNDS = {"grid": (0.6, 0.3), "digits": (0.5, 0.25)}  # scores from which a cell trains, or does so in part
USUAL_BOUNDS = (0.8, 0.4)  # of the other games
BATCH = 128
LATE = 0.8  # the share of a game from which on it is scored, where the players turn around an equilibrium
LOOKS = 20  # in a game, for where it stands and whether it is lost
ROUNDS = {"dirac": 500, "bilinear": 500, "ring": 1_500, "grid": 3_000, "digits": 2_000}


class Cell(msgspec.Struct, frozen=True, kw_only=True):
    """What is played."""

    game: str
    method: str
    loss: str
    generator_rate: float
    discriminator_rate: float
    seed: int = 0
    rounds: int = 500


class Played(msgspec.Struct, frozen=True, kw_only=True):
    """How a cell came out."""

    cell: Cell
    is_lost: bool  # a step was refused, as something was not finite, or the weights ran away at one of the looks
    score: float  # in 0..1; 0 where it was lost
    milliseconds: float  # a round, on one thread
    path: tuple[tuple[float, float], ...] = ()  # of two weights, at each look

    @property
    def outcome(self) -> Outcome:
        """Whether it trains."""
        return "diverges" if self.is_lost else outcome_of(self.cell.game, self.score)


def outcome_of(game: str, score: float) -> Outcome:
    """Return whether a game that was not lost trains, by its score."""
    trains, partly = BOUNDS.get(game, USUAL_BOUNDS)
    if score >= trains:
        return "trains"
    return "partly" if score >= partly else "fails"


def play(cell: Cell) -> Played:
    """Play a cell to its end, or until it is lost."""
    game = game_of(METHODS[cell.method], cell.loss, cell.generator_rate, cell.discriminator_rate, BATCH)
    arena = begun(cell.game, game, cell.seed)
    update = make_update(game, arena.players)
    every = max(1, cell.rounds // LOOKS)
    path = [arena.point()]
    begin = time.perf_counter()
    seconds = 0.0
    num = 0
    is_lost = False
    late: list[float] = []
    while num < cell.rounds and not is_lost:
        numbers = update.round(arena.terms(num))
        num += 1
        flags = [value for found in numbers for name, value in found.items() if name.endswith("_skipped")]
        is_lost = any(bool(flag) for flag in flags)
        if arena.turns and num > LATE * cell.rounds:
            late.append(arena.score())
        if num % every == 0 or num == cell.rounds:
            seconds = time.perf_counter() - begin
            path.append(arena.point())
            is_lost = is_lost or not is_finite(arena)
    scores = [math.nan] if is_lost else late or [arena.score()]
    score = math.nan if any(map(math.isnan, scores)) else min(scores)
    return Played(
        cell=cell,
        is_lost=math.isnan(score),
        score=0.0 if math.isnan(score) else score,
        milliseconds=1000 * (seconds or time.perf_counter() - begin) / num,
        path=tuple(one for one in path if one is not None),
    )


def is_finite(arena: Arena) -> bool:
    """Return whether all weights are numbers of a usual size."""
    for player in (arena.players.generator, arena.players.discriminator):
        for parameter in player.parameters():
            if not bool(torch.isfinite(parameter).all()) or float(parameter.detach().abs().max()) > 1e6:
                return False
    return True
