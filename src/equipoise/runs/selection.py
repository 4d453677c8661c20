"""What the second evaluation of the candidates found, as facts, read from a run's state."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from equipoise.errors import UserError
from equipoise.health.stats import ScoreLine, score_from


@dataclass(frozen=True)
class Candidate:
    """One generator with its score while training, its score judged again, and its distance to the winner."""

    found: ScoreLine
    rescored: ScoreLine
    difference: float  # KID of this one minus the winner's, same latents and same reals; 0 for the winner
    difference_se: float


@dataclass(frozen=True)
class Rescoring:
    """The candidates judged again under one protocol, and the samples of the one that won."""

    protocol: dict[str, Any]
    num_scores: int  # finite ones that the training took: of so many, a candidate was one of the lowest
    candidates: tuple[Candidate, ...]
    winner: int

    @property
    def best(self) -> Candidate:
        """Return the candidate that won."""
        return next(candidate for candidate in self.candidates if candidate.found.samples == self.winner)


def rescoring_from(state: Mapping[str, Any]) -> Rescoring | None:
    """Read `rescored` from a run's state, None where nothing was judged again; raises UserError if damaged."""
    values = state.get("rescored")
    if values is None:
        return None
    try:
        found = Rescoring(
            dict(values["protocol"]),
            int(values["num_scores"]),
            tuple(_candidate(candidate) for candidate in values["candidates"]),
            int(values["winner"]),
        )
        if all(candidate.found.samples != found.winner for candidate in found.candidates):
            raise ValueError("no candidate has won")
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        reason = str(error)[:200]  # it quotes what was read, of any length
        raise UserError(
            f"state.json: damaged, it does not say how the best generator was chosen ({reason}). Restore a copy."
        ) from None
    return found


def chosen_again(state: Mapping[str, Any], best: ScoreLine) -> str:
    """Say that the best one was chosen by judging candidates again; empty where it was not, raises UserError."""
    again = rescoring_from(state)
    if again is None or again.winner != best.samples or len(again.candidates) < 2 or not _is_scored(again.best):
        return ""
    return f"the lowest of the {len(again.candidates)} that were judged again"


def _candidate(values: Mapping[str, Any]) -> Candidate:
    difference, error = values["difference"], values["difference_se"]
    return Candidate(
        score_from(values["found"]),
        score_from(values["rescored"]),
        math.nan if difference is None else float(difference),
        math.nan if error is None else float(error),
    )


def _is_scored(one: Candidate) -> bool:
    return any(map(math.isfinite, (one.rescored.kid, one.rescored.fid)))
