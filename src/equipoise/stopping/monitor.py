"""The referee: takes signals and scores in, gives verdicts and one plain sentence out."""

import dataclasses
import math
from typing import Any, TypeVar, assert_never

import msgspec

from equipoise.errors import UserError
from equipoise.health.diagnoses import describe
from equipoise.health.stats import ScoreLine, StepStats, metric_value, score_from, stats_from
from equipoise.recipe import Budget, MetricName, Stopping
from equipoise.stopping.evidence import (
    Evidence,
    EvidenceState,
    Findings,
    evidence_step,
    evidence_verdict,
    examined,
    promotes,
)
from equipoise.stopping.policies import (
    Continue,
    Patience,
    PatienceState,
    Threshold,
    ThresholdState,
    Verdict,
    budget_verdict,
    divergence_verdict,
    is_better,
    patience_step,
    patience_verdict,
    threshold_step,
    threshold_verdict,
)
from equipoise.stopping.progress import evidence_outlook, patience_outlook, threshold_outlook

RECENT = 32  # intervals kept as they are
HISTORY = 96  # intervals kept in all; the older ones are thinned out as the run grows longer
SCORES = 64
State = TypeVar("State", ThresholdState, PatienceState, EvidenceState)
NUM_CANDIDATES = 3  # the best and the runners-up, which are scored again at the end


class Referee:
    """Follows one game; its whole state is in `state_dict`, as plain JSON."""

    def __init__(self, stopping: Stopping, budget: Budget, metric: MetricName = "kid") -> None:
        """Follow a game for the stopping rule and the budget, with `metric` deciding what is best."""
        self.stopping = stopping
        self.budget = budget
        self.metric: MetricName = metric
        self.best: ScoreLine | None = None
        self._evidence = Evidence(
            stopping.alpha, stopping.delta, stopping.price, stopping.share, stopping.boundary, metric
        )
        self._evidence_state = EvidenceState()
        # It changes with a score only, and is asked for at every step. None: not asked for since the last score, as
        # it takes as long as there are scores, and a log of thousands goes through here to be shown.
        self._evidence_verdict: Verdict | None = None
        self._num_paired = 0
        self._runners_up: tuple[ScoreLine, ...] = ()
        self._patience = Patience(stopping.patience, metric)
        self._patience_state = PatienceState()
        self._threshold = Threshold(stopping.threshold)
        self._threshold_state = ThresholdState()
        self._history: tuple[StepStats, ...] = ()
        self._scores: tuple[ScoreLine, ...] = ()

    @property
    def last(self) -> ScoreLine | None:
        """Return the last score that is finite."""
        return next((line for line in reversed(self._scores) if is_better(self.metric, line, None)), None)

    @property
    def is_refusing(self) -> bool:
        """Return whether steps were refused in the last interval."""
        return bool(self._history and self._history[-1].skipped_steps)

    def observe(self, stats: StepStats) -> None:
        """Take in the signals of one logging interval."""
        self._history = _thinned((*self._history, stats))
        self._threshold_state = threshold_step(self._threshold, self._threshold_state, stats)

    @property
    def candidates(self) -> tuple[ScoreLine, ...]:
        """Return the best and up to two runners-up by their scores, the best first."""
        return (() if self.best is None else (self.best,)) + self._runners_up

    def score(self, line: ScoreLine | None) -> bool:
        """Take in one score and return whether it is the new best.

        A score with a paired difference to the best must be better beyond chance; without one the lower score wins.
        None (judging failed) and a score that is not finite are never the best and count as no improvement.
        Raises ValueError if the score was taken under another protocol than the best.
        """
        line = line or ScoreLine(samples=0, seconds=0.0)
        finite, best = is_better(self.metric, line, None), self.best
        if finite and best is not None and line.protocol != best.protocol:
            raise ValueError(f"scores of two protocols: {best.protocol} and {line.protocol}")
        self._num_paired += math.isfinite(line.difference)
        promoted = finite and (best is None or promotes(self._evidence, line, best, self._num_paired))
        self._patience_state = patience_step(self._patience, self._patience_state, line)
        self._evidence_state = evidence_step(self._evidence, self._evidence_state, line, promoted)
        self._evidence_verdict = None
        self._scores = (*self._scores, line)[-SCORES:]
        if promoted:
            self.best = line
        if finite:
            contenders = [*self._runners_up, *([best] if promoted and best else []), *([] if promoted else [line])]
            contenders.sort(key=lambda found: metric_value(found, self.metric))
            self._runners_up = tuple(contenders[: NUM_CANDIDATES - 1])
        return promoted

    def forget_scores(self) -> None:
        """Begin the scores anew, for a judge with another protocol."""
        self.best, self._scores, self._runners_up, self._num_paired = None, (), (), 0
        self._patience_state, self._evidence_state = PatienceState(), EvidenceState()
        self._evidence_verdict = None

    def verdict(self, samples: int, seconds: float) -> Verdict:
        """Return what to do now: the first stop of divergence, the policy and the budget, else go on."""
        verdict = divergence_verdict(self._history)
        if isinstance(verdict, Continue):
            verdict = self._policy_verdict()
        return budget_verdict(self.budget, samples, seconds) if isinstance(verdict, Continue) else verdict

    def sentence(self) -> str:
        """Say in one plain sentence what the game is doing."""
        return describe(self._history, self._scores, self.metric)

    def outlook(self) -> str:
        """Say in one plain sentence how near the policy is to a stop; empty where only the budget stops the run."""
        match self.stopping.policy:
            case "evidence":
                return evidence_outlook(self._evidence, self._evidence_state)
            case "budget":
                return ""
            case "discriminator-threshold":
                return threshold_outlook(self._threshold, self._threshold_state)
            case "patience":
                return patience_outlook(self._patience, self._patience_state)
            case _:
                assert_never(self.stopping.policy)

    def findings(self) -> Findings | None:
        """Return what the evidence says now; None under another policy, and before two scores."""
        return examined(self._evidence, self._evidence_state) if self.stopping.policy == "evidence" else None

    def state_dict(self) -> dict[str, Any]:
        """Return everything that was taken in, as plain JSON (null stands for NaN)."""
        state = {
            "threshold": self._threshold_state,
            "patience": self._patience_state,
            "evidence": self._evidence_state,
            "num_paired": self._num_paired,
            "runners_up": self._runners_up,
            "best": self.best,
            "history": self._history,
            "scores": self._scores,
        }
        return msgspec.json.decode(msgspec.json.encode(state))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take a state back exactly; raises UserError, and takes nothing, if it does not have the shape of one."""
        try:
            threshold = _exactly(state["threshold"], ThresholdState)
            patience = _exactly(state["patience"], PatienceState)
            evidence = _exactly(state["evidence"], EvidenceState)
            num_paired = msgspec.convert(state["num_paired"], int)
            runners_up = tuple(score_from(record) for record in state["runners_up"])
            best = score_from(state["best"]) if state["best"] is not None else None
            history = tuple(stats_from(record) for record in state["history"])
            scores = tuple(score_from(record) for record in state["scores"])
            if not all(0 <= place < max(1, len(evidence.looks)) for place in (evidence.champion, evidence.lowest)):
                raise ValueError("its best is none of its scores")
        except (KeyError, TypeError, AttributeError, ValueError) as error:  # msgspec's is a ValueError
            raise UserError(
                f"the state of the watch in this checkpoint does not fit ({error}): it was written by another "
                "version. Resume with the version that wrote it."
            ) from None
        self._threshold_state, self._patience_state, self._evidence_state = threshold, patience, evidence
        self._evidence_verdict = evidence_verdict(self._evidence, evidence)
        self._num_paired, self._runners_up, self.best = num_paired, runners_up, best
        self._history, self._scores = history, scores

    def _policy_verdict(self) -> Verdict:
        match self.stopping.policy:
            case "evidence":
                if self._evidence_verdict is None:
                    self._evidence_verdict = evidence_verdict(self._evidence, self._evidence_state)
                return self._evidence_verdict
            case "budget":
                return Continue()
            case "discriminator-threshold":
                return threshold_verdict(self._threshold, self._threshold_state)
            case "patience":
                return patience_verdict(self._patience, self._patience_state)
            case _:
                assert_never(self.stopping.policy)


def _exactly(values: Any, kind: type[State]) -> State:
    """Build a state from plain values; raises KeyError where one is missing, so that none is begun anew unseen."""
    for part in dataclasses.fields(kind):
        values[part.name]
    return msgspec.convert(values, kind)


def _thinned(history: tuple[StepStats, ...]) -> tuple[StepStats, ...]:
    """Keep the span of the whole run in bounded memory: drop every second of the older intervals when full."""
    if len(history) <= HISTORY:
        return history
    return history[:-RECENT:2] + history[-RECENT:]
