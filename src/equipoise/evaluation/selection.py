"""Choosing among the candidates once the training is over, on validation examples that had no part in it, if any.

Where few are held out there are none: then cross-fitting says by how much the choice flatters the chosen one.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from equipoise.evaluation.evaluate import broken_guards, measure
from equipoise.host.deadline import Deadline
from equipoise.metrics.crossfit import fold_shares, optimism
from equipoise.metrics.feature_judge import NotFiniteError
from equipoise.metrics.kid import Estimate
from equipoise.metrics.units import UNKNOWN, Measured, difference
from equipoise.runs.candidates import find, intact_candidates, promote
from equipoise.runs.folder import RunFolder
from equipoise.runs.missing_best import why_none
from equipoise.stopping.monitor import Monitor
from equipoise.storage.logs import is_score, records
from equipoise.storage.records import CandidateScore, EventKind, Score, Selection, comparable, lenient
from equipoise.tasks.base import Evaluated, Judge

INTERRUPTED = "The training was interrupted; the best generators are evaluated again when it ends."


def no_candidates(run: RunFolder) -> str:
    """Say why a run has no candidates: none was scored, none had a finite score, or all of them missed a limit."""
    why = why_none(run)
    return f"{why[:1].upper()}{why[1:]}, so none could be evaluated again."


def candidates_to_score_again(
    run: RunFolder, monitor: Monitor, judge: Judge, event: Callable[[EventKind, str], None]
) -> list[tuple[Score, Path | None]]:
    """Begin the scores again if this judge's protocol is another; return the candidates that must be scored again.

    Another machine, thread count or version may have trained the evaluation encoder to other weights: old scores say
    nothing then. The earliest comes first, each with its folder, None where nothing undamaged is left of it.
    """
    best = monitor.best
    if best is None or best.protocol == dict(judge.protocol):
        return []
    run.drop_scores_under(judge.protocol)  # all of it is done again
    message = "the judge is not the one this run began with: scores are not comparable, the candidates are scored again"
    event("evaluation protocol changed", message)
    kept = [(score, find(run, score)) for score in sorted(monitor.candidates, key=lambda score: score.samples)]
    monitor.forget_scores()
    return kept


@dataclass(frozen=True)
class Candidate:
    """A generator that may be the best one: its folder, its score while training, and what the second one found."""

    path: Path
    found: Score
    rescored: Score
    measured: Measured | None  # None where its outputs were not finite


def select_best(
    run: RunFolder,
    task: Evaluated,
    judge: Judge,
    monitor: Monitor,
    load: Callable[[Path], Any],
    deadline: Deadline,
) -> Selection | None:
    """Evaluate the candidates again, promote the lowest of them, and return what was found; None if none can be read.

    All have the same inputs and the same real examples. `load` returns the generator in a folder, None where it cannot.
    """
    candidates: list[Candidate] = []
    for found, folder in intact_candidates(run, monitor):
        generator = load(folder)
        if generator is not None:
            candidates.append(_evaluated_again(task, judge, found, folder, generator, deadline))
    if not candidates:
        return None
    winner = lowest(candidates)
    promote(run, winner.path)
    return Selection(
        protocol=dict(judge.protocol),
        num_scores=sum(score.is_finite for score in chosen_among(run)),
        candidates=tuple(_with_difference(candidate, winner) for candidate in candidates),
        winner=winner.found.samples,
    )


def chosen_among(run: RunFolder) -> list[Score]:
    """Return a run's scores under the last protocol: among these the training chose."""
    return comparable([lenient(Score, record) for record in filter(is_score, records(run.scores))])


def optimism_of(run: RunFolder, judge: Judge) -> float:
    """Return what choosing by a judge's own real examples takes off the loss of the best; NaN where others chose.

    All finite scores count that could have been chosen: the lowest of many is flattered the more, the more there are.
    """
    num_folds = judge.protocol.get("folds")
    if num_folds is None:
        return math.nan
    allowed = [score for score in chosen_among(run) if score.is_finite and not score.broken]
    losses = [score.folds for score in allowed if len(score.folds) == num_folds]
    if not losses:
        return math.nan
    return optimism(torch.tensor(losses, dtype=torch.float64), fold_shares(judge.protocol["num_real"], num_folds))


def _evaluated_again(
    task: Evaluated, judge: Judge, found: Score, folder: Path, generator: Any, deadline: Deadline
) -> Candidate:
    """Score one candidate; one whose outputs are not finite gets a score of NaN."""
    protocol = dict(judge.protocol)
    try:
        measured = measure(task, judge, generator, judge.seed, deadline)
    except NotFiniteError:
        return Candidate(folder, found, Score(samples=found.samples, seconds=0.0, protocol=protocol), None)
    rescored = Score(
        samples=found.samples,
        seconds=0.0,
        loss=measured.loss,
        error=measured.error,
        values=measured.values,
        broken=broken_guards(judge.metrics, measured.values),
        protocol=protocol,
    )
    return Candidate(folder, found, rescored, measured)


def lowest(candidates: Sequence[Candidate]) -> Candidate:
    """Return the candidate with the lowest finite second score, the first of equals, and where none is finite.

    One that breaks a guard now is only chosen where all do.
    """
    finite = [one for one in candidates if one.rescored.is_finite]
    allowed = [one for one in finite if not one.rescored.broken]
    return min(allowed or finite, key=lambda one: one.rescored.loss, default=candidates[0])


def _with_difference(candidate: Candidate, winner: Candidate) -> CandidateScore:
    """Return a candidate as a record, with its loss minus the winner's."""
    found = UNKNOWN
    if candidate is winner:
        found = Estimate(0.0, 0.0)
    elif candidate.measured is not None and winner.measured is not None:
        found = difference(winner.measured, candidate.measured)
    return CandidateScore(
        found=candidate.found,
        rescored=candidate.rescored,
        difference=found.value,
        difference_error=found.standard_error,
    )
