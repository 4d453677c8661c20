"""The monitor: takes stats and scores in, gives verdicts, candidates, and plain sentences out."""

import dataclasses
import math
import statistics
from collections.abc import Sequence
from typing import Any, TypeVar, assert_never

import msgspec

from equipoise.errors import UserError
from equipoise.health.conditions import examine
from equipoise.health.remedies import GOING_BACK
from equipoise.health.standing import WINDOW, describe_game, describe_scores
from equipoise.health.stats import SCORES, thinned
from equipoise.recipe import Budget, Game, Remedies, Stopping
from equipoise.stopping import evidence, patience, threshold
from equipoise.stopping.evidence import Certificate, EvidenceState
from equipoise.stopping.patience import PatienceState
from equipoise.stopping.threshold import ThresholdState
from equipoise.stopping.verdicts import (
    NUM_FAILED,
    Continue,
    Stop,
    Verdict,
    budget_verdict,
    diverged,
    failing_stop,
    stuck_cause,
    stuck_player,
)
from equipoise.storage.records import Diagnosis, Metric, Score, StepStats, deciding, lenient

LEAST_PRICE = 1e-3  # seconds that an evaluation counts as taking at least
NUM_PRICED = 3  # evaluations by which their price is told
NUM_CANDIDATES = 3  # the best and the runners-up, which are scored again at the end
State = TypeVar("State", ThresholdState, PatienceState, EvidenceState)


class Monitor:
    """Follows one game; its whole state is in `state_dict`, as plain JSON."""

    def __init__(
        self,
        stopping: Stopping,
        budget: Budget,
        metrics: Sequence[Metric] = (),
        remedies: Remedies | None = None,
        game: Game | None = None,
        stages: tuple[int, ...] = (),
    ) -> None:
        """Follow a game for the stopping rule and the budget; one of the metrics decides what is best.

        The rates of `game` are what lower ones are advised by, where it is known. Networks that grow begin another
        game at each of `stages`, in samples: scores of smaller pictures say nothing of it, and no rule stops before the
        last stage has begun.
        """
        self.stages = stages
        self.stopping = stopping
        self.budget = budget
        self.metric = deciding(metrics)
        self.remedies = remedies or Remedies(attempts=0)
        self.game = game
        self.best: Score | None = None
        self.start = 0  # samples at the last of the first log lines: what was there by then was always there
        self.num_paired = 0  # evaluations that spent of α
        self.diagnoses: tuple[Diagnosis, ...] = ()  # what is wrong, as of the last log line
        self._guards = {metric.name: metric for metric in metrics if metric.guard is not None}
        self._runners_up: tuple[Score, ...] = ()
        self._scores: tuple[Score, ...] = ()
        self._history: tuple[StepStats, ...] = ()
        self._lowest_broken: Score | None = None  # of those that broke a guard
        self._failures = 0  # evaluations that failed, until one succeeds
        self._last_failure = ""
        self._evidence = EvidenceState()
        # It changes with a score only, and is asked for at every step. None: not asked for since the last score, as
        # it takes as long as there are scores, and a log of thousands goes through here to be shown.
        self._evidence_verdict: Verdict | None = None
        self._settled_text: str | None = None  # likewise
        self._patience = PatienceState()
        self._threshold = ThresholdState()

    @property
    def last(self) -> Score | None:
        """The last score that is finite."""
        return next((score for score in reversed(self._scores) if score.is_finite), None)

    @property
    def candidates(self) -> tuple[Score, ...]:
        """The best and up to two runners-up by their scores, the best first."""
        return (*([self.best] if self.best is not None else []), *self._runners_up)

    @property
    def scores(self) -> tuple[Score, ...]:
        """The last scores, also those that are not finite."""
        return self._scores

    @property
    def recent(self) -> tuple[StepStats, ...]:
        """The last log lines, and some of the earlier ones."""
        return self._history

    def evaluation_seconds(self) -> float | None:
        """Return the median price of the last three evaluations beside a best generator; None while there are fewer."""
        taken = [score.seconds for score in self._scores if score.compared_with][-NUM_PRICED:]
        return max(LEAST_PRICE, statistics.median(taken)) if len(taken) == NUM_PRICED else None

    @property
    def is_skipping(self) -> bool:
        """Whether steps were skipped in the last interval."""
        return bool(self._history and self._history[-1].skipped_steps)

    @property
    def is_healthy(self) -> bool:
        """Whether nothing speaks against going back to this moment: no step of the last interval was skipped.

        Where remedies act, nothing is wrong either for which a run would be sent back.
        """
        if self.remedies.policy == "act" and any(found.condition in GOING_BACK for found in self.diagnoses):
            return False
        return not self.is_skipping

    def observe(self, stats: StepStats) -> None:
        """Take in the stats of one logging interval."""
        if len(self._history) < WINDOW:
            self.start = stats.samples
        self._history = thinned((*self._history, stats))
        began = max((stage for stage in self.stages if stage <= stats.samples), default=0)
        of_stage = tuple(score for score in self._scores if score.samples >= began)
        self.diagnoses = examine(self._history, of_stage, self.diagnoses, self._settled())
        self._threshold = threshold.observe(self._threshold, stats)

    def score(self, found: Score | None, failure: str = "") -> bool:
        """Take in one score and return whether it is the new best.

        A score with a paired difference to the best must be significantly better; without one the lower score wins.
        One that breaks a guard is never the best, nor a candidate. It, None (the evaluation failed) and a score that is
        not finite count as no improvement. Raises ValueError if it was taken under another protocol than the best.
        """
        self._failures = 0 if found is not None else self._failures + 1
        self._last_failure = failure
        found = found or Score(samples=0, seconds=0.0)
        best = self.best
        if found.is_finite and best is not None and found.protocol != best.protocol:
            raise ValueError(f"scores of two protocols: {best.protocol} and {found.protocol}")
        self.num_paired += math.isfinite(found.difference)
        is_allowed = found.is_finite and not found.broken
        is_best = is_allowed and (
            best is None or evidence.promotes(self.stopping.evidence, found, best, self.num_paired)
        )
        # No policy measures a generator against one that cannot be selected, however low its loss.
        judged = found if is_allowed else msgspec.structs.replace(found, loss=math.nan)
        position = judged.samples or max((stats.samples for stats in self._history), default=0)
        if position >= max(self.stages, default=0):
            self._patience = patience.score(self._patience, judged)
            self._evidence = evidence.score(self._evidence, judged, is_best=is_best, is_signed=self.metric.signed)
        self._evidence_verdict = None
        self._settled_text = None
        self._scores = (*self._scores, found)[-SCORES:]
        if is_best:
            self.best = found
        if found.is_finite and found.broken and found.loss < _loss(self._lowest_broken):
            self._lowest_broken = found
        if is_allowed:
            self._keep_runners_up(best if is_best else found)
        return is_best

    def _keep_runners_up(self, another: Score | None) -> None:
        contenders = [*self._runners_up]
        if another is not None:
            contenders.append(another)
        contenders.sort(key=lambda score: score.loss)
        self._runners_up = tuple(contenders[: NUM_CANDIDATES - 1])

    def forget_scores(self) -> None:
        """Begin the scores again, for a judge with another protocol."""
        self.best = None
        self._scores = ()
        self._runners_up = ()
        self._lowest_broken = None
        self.num_paired = 0
        self._failures = 0
        self._patience = PatienceState()
        self._evidence = EvidenceState()
        self._evidence_verdict = None
        self._settled_text = None

    def verdict(self, spent: int, seconds: float, attempt: int = 0) -> Verdict:
        """Return what to do now: the first of divergence, evaluations that all fail, the policy and the budget."""
        if player := stuck_player(self._history):
            return diverged(stuck_cause(player), attempt, self.remedies, self.game)
        if self._failures >= NUM_FAILED and not self._evidence.evaluations and self.last is None:
            return failing_stop(self._failures, self._last_failure)
        found = self._policy_verdict()
        if isinstance(found, Stop):
            return dataclasses.replace(found, message=f"{found.message} {self._not_a_candidate()}".strip())
        return budget_verdict(self.budget, spent, seconds)

    def _policy_verdict(self) -> Verdict:
        lowest_broken = _loss(self._lowest_broken)
        match self.stopping.policy:
            case "evidence":
                if self._evidence_verdict is None:
                    self._evidence_verdict = evidence.verdict(
                        self.stopping.evidence, self._evidence, self.metric.shown, lowest_broken
                    )
                return self._evidence_verdict
            case "budget":
                return Continue()
            case "discriminator-threshold":
                return threshold.verdict(self.stopping.threshold, self._threshold)
            case "patience":
                return patience.verdict(self.stopping.patience, self._patience, self.metric.shown, lowest_broken)
            case _ as unreachable:
                assert_never(unreachable)

    def _settled(self) -> str:
        """Return the evidence that more training brings nothing; empty where there is none, or not yet."""
        if self._settled_text is None:
            is_open = self.stopping.policy == "evidence" and not isinstance(self._policy_verdict(), Stop)
            self._settled_text = "" if is_open else evidence.settled(self.stopping.evidence, self._evidence)
        return self._settled_text

    def sentence(self, *, knows_game: bool = True) -> str:
        """Say in one plain sentence what the game is doing; without the game, where the scores are going."""
        scores = describe_scores(self._scores, self.metric.shown)
        if knows_game:
            return f"{describe_game(self._history)}; {scores}."
        return f"{scores[:1].upper()}{scores[1:]}."

    def stopping_status(self) -> str:
        """Say in plain words how close the policy is to a stop; empty where only the budget stops the run."""
        match self.stopping.policy:
            case "evidence":
                text = evidence.status(self.stopping.evidence, self._evidence, _loss(self._lowest_broken))
            case "budget":
                text = ""
            case "discriminator-threshold":
                text = threshold.status(self.stopping.threshold, self._threshold)
            case "patience":
                text = patience.status(self.stopping.patience, self._patience)
            case _ as unreachable:
                assert_never(unreachable)
        if broken := self._broken_lately():
            text = f"{broken} {text}".strip()
        return text

    def _broken_lately(self) -> str:
        """Say which guard kept the last generator from being a candidate; empty where none did."""
        last = self.last
        if last is None or not last.broken:
            return ""
        found = self._missed(last)
        return f"Not a candidate: {found}." if found else ""

    def _not_a_candidate(self) -> str:
        """Say which guard kept the last generator, or one of a lower loss than the best, from being a candidate."""
        if text := self._broken_lately():
            return text
        lowest = self._lowest_broken
        if lowest is None or lowest.loss >= _loss(self.best):
            return ""
        found = self._missed(lowest)
        lower = f"the generator of {lowest.samples:,} samples, with a lower {self.metric.shown}"
        return f"Not a candidate: {lower} ({found})." if found else ""

    def _missed(self, score: Score) -> str:
        """Say by how much a score misses each guard that it breaks."""
        return ", ".join(guard_text(self._guards[name], score) for name in score.broken if name in self._guards)

    def certificate(self) -> Certificate | None:
        """Return what the evidence says now; None under another policy, and before two scores."""
        if self.stopping.policy != "evidence":
            return None
        return evidence.examined(self.stopping.evidence, self._evidence)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that was taken in, as plain JSON (null stands for NaN)."""
        state = {
            "threshold": self._threshold,
            "patience": self._patience,
            "evidence": self._evidence,
            "num_paired": self.num_paired,
            "failures": self._failures,
            "last_failure": self._last_failure,
            "runners_up": self._runners_up,
            "lowest_broken": self._lowest_broken,
            "best": self.best,
            "start": self.start,
            "history": self._history,
            "scores": self._scores,
            "diagnoses": self.diagnoses,
        }
        return msgspec.json.decode(msgspec.json.encode(state))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take a state back exactly; raises UserError, and takes nothing, if it does not have the shape of one."""
        try:
            of_threshold = _exactly(state["threshold"], ThresholdState)
            of_patience = _exactly(state["patience"], PatienceState)
            of_evidence = _exactly(state["evidence"], EvidenceState)
            num_paired = msgspec.convert(state["num_paired"], int)
            failures = msgspec.convert(state["failures"], int)
            last_failure = msgspec.convert(state["last_failure"], str)
            runners_up = tuple(lenient(Score, record) for record in state["runners_up"])
            best = _score_of(state["best"])
            lowest_broken = _score_of(state["lowest_broken"])
            start = msgspec.convert(state["start"], int)
            history = tuple(lenient(StepStats, record) for record in state["history"])
            scores = tuple(lenient(Score, record) for record in state["scores"])
            diagnoses = msgspec.convert(state["diagnoses"], tuple[Diagnosis, ...])
            places = (of_evidence.best, of_evidence.lowest)
            if not all(0 <= place < max(1, len(of_evidence.evaluations)) for place in places):
                raise ValueError("its best is not one of its scores")
        except (KeyError, TypeError, AttributeError, ValueError) as error:  # msgspec's is a ValueError
            problem = f"the monitor's state does not fit ({error}): it was written by another version"
            raise UserError("checkpoint", problem, "Resume with the version that wrote it") from None
        self._threshold = of_threshold
        self._patience = of_patience
        self._evidence = of_evidence
        self._evidence_verdict = None
        self._settled_text = None
        self.num_paired = num_paired
        self._failures = failures
        self._last_failure = last_failure
        self._runners_up = runners_up
        self._lowest_broken = lowest_broken
        self.best = best
        self.start = start
        self._history = history
        self._scores = scores
        self.diagnoses = diagnoses


def guard_text(metric: Metric, score: Score) -> str:
    """Say by how much a score misses a guard."""
    side = "above" if metric.better == "lower" else "below"
    unit = f" {metric.unit}" if metric.unit else ""
    return f"{metric.shown} is {score.value(metric.name):.4g}{unit}, {side} the limit of {metric.guard:.4g}{unit}"


def _loss(score: Score | None) -> float:
    """Return a loss, infinity where there is none."""
    if score is None:
        return math.inf
    return score.loss


def _score_of(values: Any) -> Score | None:
    """Build a score from plain values, None from null."""
    if values is None:
        return None
    return lenient(Score, values)


def _exactly(values: Any, kind: type[State]) -> State:
    """Build a state from plain values; raises KeyError where one is missing, so that none is begun anew unseen."""
    for part in dataclasses.fields(kind):
        values[part.name]
    return msgspec.convert(values, kind)
