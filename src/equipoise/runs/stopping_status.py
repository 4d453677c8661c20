"""How close the stopping is, from a run's folder alone: its log goes once more through the monitor of its policy."""

import dataclasses
import math
from typing import Any

from equipoise.recipe import Recipe
from equipoise.recipes.stages import stages_of
from equipoise.runs.folder import RunFolder
from equipoise.stopping.monitor import Monitor
from equipoise.storage.logs import MOST_SCORES, last_records, last_scores
from equipoise.storage.records import Metric, Score, StepStats, comparable, lenient, whole_of

NUM_STEPS = 256  # logging intervals, the last ones: more than any policy remembers
MOST_FORECASTS = 500  # each takes as long as there are scores, and a chart shows hardly more
FEWEST_SCORES = 5  # from which forecasts are worth drawing


@dataclasses.dataclass(frozen=True)
class Forecast:
    """What 25 % more training was predicted to bring after one score: a share of it, 0.02 for 2 %."""

    samples: int
    gain: float


def metrics_of(run: RunFolder) -> tuple[Metric, ...]:
    """Return what a run measures, none where it did not write that down."""
    data = run.read_data()
    return () if data is None else data.metrics


def monitor_of(run: RunFolder, recipe: Recipe) -> Monitor:
    """Return a monitor that has seen the log of a run, with the recipe's policy; raises UserError or OSError.

    It knows the scores under the last protocol, failed ones too, and the last 256 logging intervals.
    """
    monitor = fresh_monitor(run, recipe)
    for record in last_records(run.steps, NUM_STEPS):
        monitor.observe(lenient(StepStats, record))
    for score in evaluations(run):
        monitor.score(score)
    return monitor


def fresh_monitor(run: RunFolder, recipe: Recipe) -> Monitor:
    """Return a monitor of a run that has seen nothing."""
    return Monitor(recipe.stopping, recipe.budget, metrics_of(run), stages=stages_of(recipe))


def certificate_values(monitor: Monitor) -> dict[str, Any] | None:
    """Return the numbers behind the stopping status as plain values, None where the policy has none."""
    found = monitor.certificate()
    if found is None:
        return None
    values = {**dataclasses.asdict(found), "bound": found.bound, "chance": found.chance}
    settings = monitor.stopping.evidence
    return values | {name: getattr(settings, name) for name in ("alpha", "delta", "min_gain", "min_wait")}


def forecasts(run: RunFolder, recipe: Recipe) -> list[Forecast]:
    """Return the forecast after each score; none under another policy than evidence, or of fewer than five scores.

    Of more than 500 scores it is the forecast after every second of them, or every third, …, the last one included.
    """
    monitor = fresh_monitor(run, recipe)
    scores = evaluations(run)
    every = math.ceil(len(scores) / MOST_FORECASTS)
    found: list[Forecast] = []
    num = 0
    for left, score in zip(reversed(range(len(scores))), scores, strict=True):
        monitor.score(score)
        if left % every == 0 and (certificate := monitor.certificate()):
            found.append(Forecast(score.samples, certificate.forecast))
            num = certificate.num_evaluations
    return found if num >= FEWEST_SCORES else []


def evaluations(run: RunFolder) -> list[Score]:
    """Return what the monitor has taken in since the judge was last changed, in order; a failed one has no loss."""
    scores = [lenient(Score, record) for record in last_scores(run.scores)]
    last = comparable(scores)
    begin = 0
    if len(last) < len(scores) or len(scores) == MOST_SCORES:
        begin = last[0].samples
    failed = _failed(run) - {score.samples for score in last}
    nothing = [Score(samples=at, seconds=0.0) for at in failed if at > begin]
    return sorted([*last, *nothing], key=lambda score: score.samples)


def _failed(run: RunFolder) -> set[int]:
    """Return where an evaluation failed in the present attempt; events of abandoned ones stay in the log."""
    steps = last_records(run.steps, 1)
    attempt = whole_of(steps[-1].get("attempt")) if steps else 0
    failed = [event for event in last_records(run.events, MOST_SCORES) if event.get("kind") == "evaluation failed"]
    return {whole_of(event.get("samples")) for event in failed if whole_of(event.get("attempt")) == attempt}
