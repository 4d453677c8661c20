"""Stopping policies replayed over recorded series of scores: what they would have saved, and what that would have cost.

A policy sees the evaluations strictly one at a time, through the same `Monitor` as a training. Lower scores are
better. A score that is not a finite number is a failed evaluation: no improvement, and never the best.
"""

import dataclasses
import math
import statistics
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import msgspec

from equipoise.errors import Option, Setting, UserError, listed, suggested
from equipoise.recipe import PROBABILISTIC, Budget, PolicyName, Recipe, Stopping, with_settings
from equipoise.runs.compare import flattened
from equipoise.runs.replay_read import Series
from equipoise.runs.status import best_of
from equipoise.stopping.monitor import Monitor
from equipoise.stopping.verdicts import Stop, Verdict
from equipoise.storage.records import Metric, Score, StepStats

NEAR = 1.05  # a regret that counts as within 5 % of the best
NEARER = 1.02
DEFAULT_POLICIES: tuple[PolicyName, ...] = ("evidence", "patience", "budget")  # all that scores alone allow
EXAMPLE = Setting("stopping.patience.evaluations", 12)

ReplayedName: TypeAlias = PolicyName | Literal["oracle"]


@dataclass(frozen=True)
class Seen:
    """What a policy said after one more record, and what it would have saved as the best."""

    samples: int
    verdict: Verdict
    best: Score | None


@dataclass(frozen=True)
class Replayed:
    """One policy over one run: `saved` is 1 − stop / last step, `regret` is defined by `regret_of`."""

    run: str
    policy: ReplayedName
    stop_samples: int
    last_samples: int
    best_samples: int | None  # of the best that the policy had seen; None: nothing
    num_evaluations: int  # seen until the stop
    saved: float
    regret: float
    message: str | None  # None: it never stopped


@dataclass(frozen=True)
class Summary:
    """One policy over many runs; regrets are over the runs that have one, p90 by the nearest rank."""

    policy: ReplayedName
    runs: int
    saved: float  # mean
    within_2pct: int
    within_5pct: int
    mean_regret: float
    p90_regret: float
    worst_regret: float
    without_regret: int  # runs whose best is zero or below
    settings: Stopping | None
    each: tuple[Replayed, ...]


def stopping_with(settings: Sequence[str]) -> Stopping:
    """Return the default stopping settings with changes such as `stopping.evidence.delta=0.05`; raises UserError."""
    fields = flattened(msgspec.to_builtins(Stopping()))
    allowed = [f"stopping.{field}" for field in fields if field != "policy"]
    for setting in settings:
        path, separator, value = setting.partition("=")
        field = path.strip()
        if not separator:
            raise UserError(Option("set", setting), "expected FIELD=VALUE", EXAMPLE)
        if field == "stopping.policy":
            raise UserError(
                Setting(field, value), "a replay gets its policies by an option", Option("policy", "patience")
            )
        if field not in allowed:
            problem = f"replay trains nothing; what it can set is {listed(allowed)}"
            raise UserError(Setting(field, value), problem, *(suggested(field, allowed) or (EXAMPLE,)))
    return with_settings(Recipe(), settings).stopping


def follow(stopping: Stopping, metric: Metric, past: Iterable[Score | StepStats]) -> Iterator[Seen]:
    """Yield what the policy says after each record, before the next one is even read."""
    monitor = Monitor(stopping, Budget(samples=None, seconds=None), (metric,))
    for record in past:
        match record:
            case Score():
                monitor.score(record)
            case StepStats():
                monitor.observe(record)
        yield Seen(record.samples, monitor.verdict(record.samples, 0.0), monitor.best)


def replay(stopping: Stopping, series: Series) -> Replayed:
    """Run one policy over one series until it stops; raises UserError if the series lacks what the policy reads."""
    past: Sequence[Score | StepStats] = series.scores
    if stopping.policy == "discriminator-threshold":
        if not series.stats:
            problem = f"it reads D(G(z)), which only a run folder with the loss {listed(PROBABILISTIC)} has"
            subject = f"policy {stopping.policy} on {series.name}"
            raise UserError(subject, problem, Option("policy", "evidence"))
        stats = [one for one in series.stats if one.samples <= series.scores[-1].samples]
        past = sorted([*stats, *series.scores], key=lambda record: record.samples)  # as in a training
    best = None
    for seen in follow(stopping, series.metric, past):
        best = seen.best
        if isinstance(seen.verdict, Stop):
            return _replayed(series, stopping.policy, seen.samples, best, seen.verdict.message)
    return _replayed(series, stopping.policy, series.scores[-1].samples, best, None)


def oracle(series: Series) -> Replayed:
    """Stop at the first score within 2 % of the best of the whole run (the best itself where that is not above 0)."""
    best = _best(series)
    found = next(score for score in series.scores if score.loss == best or regret_of(score.loss, best) <= NEARER)
    message = "The first score within 2 % of the best of the whole run, which only hindsight knows."
    return _replayed(series, "oracle", found.samples, found, message)


def regret_of(value: float, best: float) -> float:
    """Return value / best, to 12 digits: NaN where the best is not above 0, since no ratio to it means anything.

    Infinite if there was no best yet, because the policy had seen no finite score.
    """
    if best <= 0:
        return math.nan
    return round(value / best, 12) if math.isfinite(value) else math.inf


def summary(results: Sequence[Replayed], settings: Stopping | None = None) -> Summary:
    """Return one policy's means over its runs, of which there is at least one."""
    regrets = sorted(result.regret for result in results if not math.isnan(result.regret))
    known = regrets or [math.nan]
    return Summary(
        policy=results[0].policy,
        runs=len(results),
        saved=statistics.fmean(result.saved for result in results),
        within_2pct=sum(regret <= NEARER for regret in regrets),
        within_5pct=sum(regret <= NEAR for regret in regrets),
        mean_regret=statistics.fmean(known),
        p90_regret=known[math.ceil(0.9 * len(known)) - 1],
        worst_regret=known[-1],
        without_regret=len(results) - len(regrets),
        settings=settings,
        each=tuple(results),
    )


def summaries(policies: Sequence[PolicyName], stopping: Stopping, series: Sequence[Series]) -> list[Summary]:
    """Return the summary of every policy over all series, and the oracle's as the last; raises UserError."""
    found = []
    for policy in policies:
        settings = dataclasses.replace(stopping, policy=policy)
        found.append(summary([replay(settings, one) for one in series], settings))
    return [*found, summary([oracle(one) for one in series])]


def replay_values(found: Sequence[Summary], series: Sequence[Series] = ()) -> dict[str, Any]:
    """Return summaries as plain values for `--json`; a regret that is infinite or not defined becomes null.

    Of the series it is said how they were read, where that is not plain.
    """
    values = {"policies": [_values(one) for one in found[:-1]], "oracle": _values(found[-1])}
    notes = {one.name: list(one.notes) for one in series if one.notes}
    return values | ({"read_as": notes} if notes else {})


def _values(one: Summary) -> dict[str, Any]:
    values = {field.name: getattr(one, field.name) for field in dataclasses.fields(one) if field.name != "each"}
    settings = values.pop("settings")
    if not one.without_regret:
        del values["without_regret"]
    if settings is not None:
        values["settings"] = {name: value for name, value in msgspec.to_builtins(settings).items() if name != "policy"}
    return values


def _best(series: Series) -> float:
    best = best_of(list(series.scores))
    assert best is not None, "a series has at least one finite score"
    return best.loss


def _replayed(series: Series, policy: ReplayedName, samples: int, kept: Score | None, message: str | None) -> Replayed:
    last = series.scores[-1].samples
    best_samples = None
    loss = math.nan
    if kept is not None:
        best_samples = kept.samples
        loss = kept.loss
    return Replayed(
        run=series.name,
        policy=policy,
        stop_samples=samples,
        last_samples=last,
        best_samples=best_samples,
        num_evaluations=sum(score.samples <= samples for score in series.scores),
        saved=1 - samples / last,
        regret=regret_of(loss, _best(series)),
        message=message,
    )
