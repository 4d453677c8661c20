"""The watch: takes signals and scores in, gives verdicts and one plain sentence out."""

from typing import Any, assert_never

import msgspec

from equipoise.errors import UserError
from equipoise.recipe import Budget, MetricName, Stopping
from equipoise.watch.diagnoses import describe
from equipoise.watch.signals import ScoreLine, StepStats, score_from, stats_from
from equipoise.watch.stopping import (
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

RECENT = 32  # intervals kept as they are
HISTORY = 96  # intervals kept in all; the older ones are thinned out as the run grows longer
SCORES = 64


class Watch:
    """Follows one game; its whole state is in `state_dict`, as plain JSON."""

    def __init__(self, stopping: Stopping, budget: Budget, metric: MetricName = "kid") -> None:
        """Watch for the stopping rule and the budget, with `metric` deciding what is best."""
        self.stopping = stopping
        self.budget = budget
        self.metric: MetricName = metric
        self.best: ScoreLine | None = None
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

    def observe(self, stats: StepStats) -> None:
        """Take in the signals of one logging interval."""
        self._history = _thinned((*self._history, stats))
        self._threshold_state = threshold_step(self._threshold, self._threshold_state, stats)

    def score(self, line: ScoreLine | None) -> bool:
        """Take in one score and return whether it is the best so far.

        None (judging failed) and a score that is not finite are never the best and count as no improvement.
        Raises ValueError if the score was taken under another protocol than the best.
        """
        line = line or ScoreLine(samples=0, seconds=0.0)
        better = is_better(self.metric, line, None)
        if better and self.best is not None:
            if line.protocol != self.best.protocol:
                raise ValueError(f"scores of two protocols: {self.best.protocol} and {line.protocol}")
            better = is_better(self.metric, line, self._patience_state.best)
        self._patience_state = patience_step(self._patience, self._patience_state, line)
        self._scores = (*self._scores, line)[-SCORES:]
        if better:
            self.best = line
        return better

    def forget_scores(self) -> None:
        """Begin the scores anew, for a judge with another protocol."""
        self.best, self._scores, self._patience_state = None, (), PatienceState()

    def verdict(self, samples: int, seconds: float) -> Verdict:
        """Return what to do now: the first stop of divergence, the policy and the budget, else go on."""
        verdict = divergence_verdict(self._history)
        if isinstance(verdict, Continue):
            verdict = self._policy_verdict()
        return budget_verdict(self.budget, samples, seconds) if isinstance(verdict, Continue) else verdict

    def sentence(self) -> str:
        """Say in one plain sentence what the game is doing."""
        return describe(self._history, self._scores, self.metric)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that was taken in, as plain JSON (null stands for NaN)."""
        state = {
            "threshold": self._threshold_state,
            "patience": self._patience_state,
            "best": self.best,
            "history": self._history,
            "scores": self._scores,
        }
        return msgspec.json.decode(msgspec.json.encode(state))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take a state back exactly; raises UserError if it does not have the shape of one."""
        try:
            self._threshold_state = msgspec.convert(state["threshold"], ThresholdState)
            self._patience_state = msgspec.convert(state["patience"], PatienceState)
            self.best = score_from(state["best"]) if state["best"] is not None else None
            self._history = tuple(stats_from(record) for record in state["history"])
            self._scores = tuple(score_from(record) for record in state["scores"])
        except (KeyError, TypeError, AttributeError, msgspec.ValidationError) as error:
            raise UserError(
                f"the state of the watch in this checkpoint does not fit ({error}): it was written by another "
                "version. Resume with the version that wrote it."
            ) from None

    def _policy_verdict(self) -> Verdict:
        match self.stopping.policy:
            case "budget":
                return Continue()
            case "discriminator-threshold":
                return threshold_verdict(self._threshold, self._threshold_state)
            case "patience":
                return patience_verdict(self._patience, self._patience_state)
            case _:
                assert_never(self.stopping.policy)


def _thinned(history: tuple[StepStats, ...]) -> tuple[StepStats, ...]:
    """Keep the span of the whole run in bounded memory: drop every second of the older intervals when full."""
    if len(history) <= HISTORY:
        return history
    return history[:-RECENT:2] + history[-RECENT:]
