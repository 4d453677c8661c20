"""How a run stands: facts read from its folder alone."""

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from equipoise import formatting
from equipoise.errors import UserError
from equipoise.health.standing import describe
from equipoise.health.stats import present_rate
from equipoise.recipe import Budget, Recipe, to_dict
from equipoise.runs.candidates import score_of_best
from equipoise.runs.folder import CUSTOM_LOOP, RunFolder, runs_near
from equipoise.runs.selection import reselected
from equipoise.runs.stopping_status import certificate_values, monitor_of
from equipoise.storage.files import read_json
from equipoise.storage.locks import Holder
from equipoise.storage.logs import last_records, last_scores
from equipoise.storage.records import (
    DataRecord,
    Diagnosis,
    Event,
    IntervalsRecord,
    Metric,
    Rivals,
    RunState,
    Score,
    StageRecord,
    StartRecord,
    StepStats,
    StopReason,
    comparable,
    deciding,
    lenient,
)

State = Literal["new", "running", "interrupted", "stopped", "finished", "failed"]

NUM_STEPS = 256  # logging intervals, the last ones, from which the game is described
MOST_REMEDIES = 100  # the last ones
MOST_LISTED = 20  # runs nearby, the newest ones


@dataclass(frozen=True, kw_only=True)
class Status:
    """What is known of a run; None or NaN where it is not known yet."""

    path: Path
    name: str
    recipe: Recipe
    settings: dict[str, Any]  # of the recipe, those that apply: few in a custom training loop
    data: DataRecord | None
    state: State
    holder: Holder | None
    samples: int
    spent: int  # samples, those of abandoned attempts included
    horizon: int | None  # samples that the budget pays for, or has paid for; never fewer than are spent
    share: float | None  # of the budget that is spent
    seconds: float
    samples_per_second: float
    seconds_left: float
    last: Score | None
    best: Score | None
    best_note: str  # why the best is not the last one, although that is lower; empty where it is not lower
    test: Score | None
    tested_before: Score | None  # at an earlier end, after which the training went on
    rivals: Rivals  # on the test split, or on the validation split before the test
    diagnosis: str  # how the players stand and where the scores go
    diagnoses: tuple[Diagnosis, ...]  # what is wrong, as of the last log line
    num_lines: int  # of the log, the last ones that were read
    remedies: tuple[Event, ...]  # what was done about it, and where nothing could be, with the reason
    stop_reason: StopReason | None
    message: str | None  # the same in words
    stopping_status: str  # how close the policy is to a stop; empty where only the budget stops the run
    stage: StageRecord | None  # what comes before or after the training, where that has not gone on since
    certificate: dict[str, Any] | None

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """What this run measures."""
        if self.data is None:
            return ()
        return self.data.metrics

    @property
    def metric(self) -> Metric:
        """What "best" means in this run."""
        return deciding(self.metrics)

    @property
    def noun(self) -> str:
        """What one calls the examples of this run."""
        if self.data is None:
            return "examples"
        return self.data.noun

    @property
    def source(self) -> str:
        """Where the data are from; a custom loop may not say it."""
        if not self.is_custom_loop:
            return self.recipe.data.source
        return "" if self.data is None else self.data.source

    @property
    def start(self) -> StartRecord | None:
        """Whose weights it began with; None where they were random."""
        return None if self.data is None else self.data.start

    @property
    def is_custom_loop(self) -> bool:
        """Whether a Watch follows this run, in a training loop that is not Equipoise's."""
        return self.recipe.name == CUSTOM_LOOP


def read_status(run: RunFolder) -> Status:
    """Read how a run stands; raises UserError if one of its files is damaged."""
    settings = run.read_recipe()
    recipe = _recipe_of(run, settings)
    if recipe.name != CUSTOM_LOOP:
        settings = to_dict(recipe)
    state = run.read_state()
    data = run.read_data()
    intervals = run.read_intervals()
    holder = run.holder()
    steps = [lenient(StepStats, record) for record in last_records(run.steps, NUM_STEPS)]
    scores = comparable([lenient(Score, record) for record in last_scores(run.scores)])
    monitor = monitor_of(run, recipe)
    last = None
    stopping_status = ""
    if scores:
        last = scores[-1]
        stopping_status = monitor.stopping_status()
    best = state.best or score_of_best(run, monitor)
    position = _position(recipe, state, intervals, steps, scores, holder)
    return Status(
        path=run.path,
        name=run.path.resolve().name,
        recipe=recipe,
        settings=settings,
        data=data,
        holder=holder,
        last=last,
        best=best,
        best_note=_best_note(last, best, state),
        test=state.test,
        tested_before=state.tested_before,
        rivals=state.rivals or run.read_rivals(),
        diagnosis=_said(run, recipe) or describe(steps, scores, monitor.metric.shown),
        diagnoses=steps[-1].diagnoses if steps else (),
        num_lines=len(steps),
        remedies=tuple(lenient(Event, record) for record in last_records(run.events, MOST_REMEDIES, _is_of_remedy)),
        stop_reason=state.stop_reason,
        message=state.message,
        stopping_status=stopping_status,
        stage=state.stage,
        certificate=certificate_values(monitor),
        **position,
    )


def status_values(now: Status) -> dict[str, Any]:
    """Return how a run stands as plain values for `--json`; NaN stands for what is not known."""
    same = ("name", "state", "holder", "samples", "spent", "horizon", "share", "seconds", "samples_per_second")
    scores = ("last", "best", "test", "tested_before", "rivals")
    words = ("diagnosis", "diagnoses", "remedies", "stop_reason", "message", "stopping_status", "stage", "certificate")
    return {
        "path": str(now.path),
        "recipe": now.recipe.name,
        "source": now.source or None,
        "seed": now.settings.get("seed"),
        "start": now.start,
        "metric": now.metric.name,
        **{name: getattr(now, name) for name in (*same, "seconds_left", *scores, *words)},
    }


def nearby(folder: Path) -> list[tuple[Path, Status | UserError]]:
    """Return the newest runs in a folder, or else beside it, by name: how each stands, or why it cannot be read."""
    found: list[tuple[Path, Status | UserError]] = []
    for path in sorted(runs_near(folder, MOST_LISTED)):
        try:
            found.append((path, read_status(RunFolder(path))))
        except UserError as error:
            found.append((path, error))
    return found


def best_of(scores: list[Score]) -> Score | None:
    """Return the score of the lowest finite loss, the earliest of equals."""
    return min((score for score in scores if score.is_finite), key=lambda score: score.loss, default=None)


def shown_path(path: Path) -> str:
    """Return a path to type from here: relative where it lies below the current folder, else its last two parts."""
    full = path.resolve()
    try:
        return str(full.relative_to(Path.cwd()))
    except ValueError:
        return str(Path(*full.parts[-2:])) if path.is_absolute() else str(path)


def _position(
    recipe: Recipe,
    state: RunState,
    intervals: IntervalsRecord,
    steps: list[StepStats],
    scores: list[Score],
    holder: Holder | None,
) -> dict[str, Any]:
    """Return the state and how far the training is: the logs may be ahead of what was written at its last end."""
    samples = max([state.samples, *(log[-1].samples for log in (steps, scores) if log)])
    spent = max([samples, state.spent, *(stats.spent for stats in steps[-1:])])
    seconds = max([0.0, state.seconds, *(stats.seconds for stats in steps[-1:])])
    horizon = intervals.horizon or recipe.budget.samples
    rate = present_rate(steps, intervals.evaluate_every) if steps else intervals.samples_per_second
    now = _state(state, samples, holder)
    seconds_left = math.nan
    share = None
    if recipe.budget.seconds is not None:
        share = seconds / recipe.budget.seconds
    elif horizon:
        share = spent / horizon
    if now == "running" and recipe.budget.seconds is not None:
        seconds_left = max(0.0, recipe.budget.seconds - seconds)
    elif now == "running" and horizon and rate > 0:
        seconds_left = max(0, horizon - spent) / rate
    if now == "running" and state.stage is not None:
        rate = math.nan
        seconds_left = _left_with(state.stage, seconds_left)
    if share is not None and (share > 1 or state.stop_reason == "budget"):
        share = 1.0
    if horizon is not None:
        horizon = spent if state.stop_reason == "budget" else max(spent, horizon)
    return {
        "state": now,
        "samples": samples,
        "spent": spent,
        "horizon": horizon,
        "share": share,
        "seconds": seconds,
        "samples_per_second": rate,
        "seconds_left": seconds_left,
    }


def _left_with(stage: StageRecord, seconds_left: float) -> float:
    """Return the time left of a stage and the training after it; NaN where nobody can tell.

    That is after the training, before one whose budget is in samples, and where the stage has only begun.
    """
    if stage.is_after:
        return math.nan
    return seconds_left + stage.seconds_left


def _is_of_remedy(record: dict[str, Any]) -> bool:
    return record.get("kind") in ("remedy", "no remedy")


def _best_note(last: Score | None, best: Score | None, state: RunState) -> str:
    """Say why the best score is not the last one, although that is lower; empty where it is not lower."""
    if last is None or best is None or not last.loss < best.loss:
        return ""
    if again := reselected(state, best):
        return again
    return formatting.why_not_best(last, best)


def _state(state: RunState, samples: int, holder: Holder | None) -> State:
    written = state.status
    if state.stage is not None and holder is not None:  # whatever a resume goes on from
        return "running"
    if written in ("stopped", "finished", "failed"):  # even while the training that wrote it still holds the lock
        return written
    if holder is not None:
        return "running"
    if written == "new" and not samples and state.stage is None:
        return "new"
    return "interrupted"  # it says running, or its state is gone, and nobody holds the lock


def _recipe_of(run: RunFolder, settings: dict[str, Any]) -> Recipe:
    """Return the recipe; in a custom loop without a budget there is none, and no default takes its place."""
    recipe = run.recipe()
    if recipe.name == CUSTOM_LOOP and "budget" not in settings:
        return dataclasses.replace(recipe, budget=Budget(samples=None, seconds=None))
    return recipe


def _said(run: RunFolder, recipe: Recipe) -> str | None:
    """Return what the Watch of a custom loop said of the game: it alone knows which numbers it is never given."""
    if recipe.name != CUSTOM_LOOP:
        return None
    said = (read_json(run.path / "watch.json") or {}).get("sentence")
    return said if isinstance(said, str) else None
