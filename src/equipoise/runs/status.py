"""The state of a run on one screen, read from its folder alone."""

import dataclasses
import math
import shlex
import statistics
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, assert_never

from equipoise import formatting
from equipoise.health.diagnoses import describe
from equipoise.health.stats import (
    ScoreLine,
    StepStats,
    comparable,
    metric_value,
    number_of,
    score_from,
    stats_from,
    whole_of,
)
from equipoise.recipe import Budget, MetricName, Recipe, from_dict, to_dict
from equipoise.runs.folder import OWN_LOOP, Holder, RunFolder
from equipoise.runs.selection import chosen_again
from equipoise.runs.stopping_status import outlook_values, referee_of
from equipoise.storage.logs import last_records, last_scores

State = Literal["new", "running", "interrupted", "stopped", "finished", "failed"]

WIDTH, HEIGHT = 80, 24


@dataclass(frozen=True, kw_only=True)
class Status:
    """What is known of a run; None or NaN where it is not known yet."""

    name: str
    recipe: Recipe
    settings: dict[str, Any]  # of the recipe, those that apply: few in an own loop
    state: State
    holder: Holder | None
    samples: int
    horizon: int | None
    seconds: float
    samples_per_second: float
    seconds_left: float
    last: ScoreLine | None
    best: ScoreLine | None
    why_best: str  # although the last score is lower; empty where it is not
    test: ScoreLine | None
    diagnosis: str
    policy: str | None
    reason: str | None
    outlook: str  # how near the policy is to a stop; empty where only the budget stops the run
    outlook_values: dict[str, Any] | None

    @property
    def metric(self) -> MetricName:
        """Return what "best" means in this run."""
        return self.recipe.judging.metric

    @property
    def is_own_loop(self) -> bool:
        """Return whether a Watch follows this run, in a training loop that is not Equipoise's."""
        return self.recipe.name == OWN_LOOP


def read_status(run: RunFolder) -> Status:
    """Read the state of a run; raises UserError if one of its files is damaged."""
    settings, pace, state, holder = run.read_recipe(), run.read_pace(), run.read_state(), run.holder()
    recipe = _recipe_of(settings)
    steps = [stats_from(record) for record in last_records(run.steps, 256)]
    scores = comparable([score_from(record) for record in last_scores(run.scores)])
    samples = max([line[-1].samples for line in (steps, scores) if line], default=0)
    samples = max(samples, whole_of(state.get("samples")))
    seconds = max([0.0, *_finite(steps[-1].seconds if steps else 0.0, number_of(state.get("seconds")))])
    horizon = whole_of(pace.get("horizon")) or recipe.budget.samples
    rate = _rate(steps, pace)
    now = _state("running" if state["status"] == "new" and samples else state["status"], holder)  # its file is gone
    referee = referee_of(run, recipe)
    last, best = scores[-1] if scores else None, score_from(state["best"]) if state.get("best") else referee.best
    return Status(
        name=run.path.resolve().name,
        recipe=recipe,
        settings=settings if recipe.name == OWN_LOOP else to_dict(recipe),
        state=now,
        holder=holder,
        samples=samples,
        horizon=horizon,
        seconds=seconds,
        samples_per_second=rate,
        seconds_left=max(0, horizon - samples) / rate if horizon and rate > 0 and now == "running" else math.nan,
        last=last,
        best=best,
        why_best=_why_best(last, best, recipe.judging.metric, state) if last and best else "",
        test=score_from(state["test"]) if state.get("test") else None,
        diagnosis=_said(run, recipe) or describe(steps, scores, recipe.judging.metric),
        policy=_text(state.get("policy")),
        reason=_text(state.get("reason")),
        outlook=referee.outlook() if scores else "",
        outlook_values=outlook_values(referee),
    )


def status(run: RunFolder) -> str:
    """Return the state of a run as plain text: at most 24 lines of 80 columns."""
    now = read_status(run)
    budget = now.recipe.budget
    if budget.samples is None and budget.seconds is None:
        paid = "no budget"
    else:
        paid = (
            formatting.duration(budget.seconds)
            if budget.seconds
            else f"{formatting.count(budget.samples or 0)} samples"
        )
        paid = f"budget {paid}"
    trained = formatting.duration(now.seconds) if now.samples else "–"
    if now.samples and math.isfinite(now.samples_per_second):
        trained += f" at {now.samples / max(now.seconds, 1e-9):,.0f} samples/s"
    rows = [
        ("run", str(run.path)),
        *_origin(now, run, paid),
        ("state", _state_text(now, run)),
        ("progress", _progress(now)),
        ("trained", trained),
    ]
    rows += [("last score", _score_text(now.last, now.metric))] if now.last else []
    best = _score_text(now.best, now.metric) if now.best else "none yet"
    rows += [("best score", f"{best}; {now.why_best}" if now.why_best else best)]
    rows += [("on test", _score_text(now.test, now.metric))] if now.test else []
    rows += [("game", now.diagnosis)] if now.samples else []
    rows += [("stopping", now.outlook)] if now.outlook and now.state != "finished" else []
    report = _lines("report", str(run.report))[:4] if run.report.exists() else []
    lines = [line for label, text in rows for line in _lines(label, text)[:4]]
    reason = _lines("stopped by" if now.policy else "reason", now.reason) if now.reason else []
    return "\n".join([*lines, *_cut(reason, HEIGHT - len(lines) - len(report)), *report])


def status_values(run: RunFolder) -> dict[str, Any]:
    """Return the state of a run as plain values for `--json`; NaN stands for what is not known."""
    now = read_status(run)
    return {
        "path": str(run.path),
        "name": now.name,
        "recipe": now.recipe.name,
        "source": now.recipe.data.source if not now.is_own_loop else run.read_data().get("source"),
        "seed": now.settings.get("seed"),
        "state": now.state,
        "holder": {"host": now.holder.host, "pid": now.holder.pid} if now.holder else None,
        "samples": now.samples,
        "horizon": now.horizon,
        "seconds": now.seconds,
        "samples_per_second": now.samples_per_second,
        "seconds_left": now.seconds_left,
        "metric": now.metric,
        "last": vars(now.last) if now.last else None,
        "best": vars(now.best) if now.best else None,
        "test": vars(now.test) if now.test else None,
        "diagnosis": now.diagnosis,
        "policy": now.policy,
        "reason": now.reason,
        "outlook": now.outlook_values,
    }


def best_of(scores: list[ScoreLine], metric: MetricName) -> ScoreLine | None:
    """Return the lowest finite score, the earliest of equals."""
    finite = [line for line in scores if math.isfinite(metric_value(line, metric))]
    return min(finite, key=lambda line: metric_value(line, metric), default=None)


def shown_path(path: Path) -> str:
    """Return a path to type from here: relative where it lies below the current folder, else its last two parts."""
    full = path.resolve()
    try:
        return str(full.relative_to(Path.cwd()))
    except ValueError:
        return str(Path(*full.parts[-2:])) if path.is_absolute() else str(path)


def _why_best(last: ScoreLine, best: ScoreLine, metric: MetricName, state: dict[str, Any]) -> str:
    """Say why the best score is not the last one, although that is lower; empty where it is not lower."""
    if not metric_value(last, metric) < metric_value(best, metric):
        return ""
    if again := chosen_again(state, best):
        return again
    is_uncertified = formatting.is_lower_uncertified(last, best, metric)
    return "the last one is lower, but not certified as better" if is_uncertified else ""


def _rate(steps: list[StepStats], pace: dict[str, Any]) -> float:
    rates = [stats.samples_per_second for stats in steps[-5:] if math.isfinite(stats.samples_per_second)]
    return statistics.median(rates) if rates else number_of(pace.get("samples_per_second"))


def _finite(*numbers: float) -> list[float]:
    return [number for number in numbers if math.isfinite(number)]


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _state(written: str, holder: Holder | None) -> State:
    match written:
        case "stopped" | "finished" | "failed":  # even while the training that wrote it still holds the lock
            return written
        case _ if holder is not None:
            return "running"
        case "new":
            return "new"
        case _:
            return "interrupted"  # it says running, but nobody holds the lock


def _recipe_of(settings: dict[str, Any]) -> Recipe:
    """Return the recipe; in an own loop without a budget there is none, and no default takes its place."""
    recipe = from_dict(settings)
    if recipe.name == OWN_LOOP and "budget" not in settings:
        return dataclasses.replace(recipe, budget=Budget(samples=None, seconds=None))
    return recipe


def _said(run: RunFolder, recipe: Recipe) -> str | None:
    """Return what an own loop's watch said of the game, since it alone knows which signals it is never given."""
    return _text(run.read_json(run.path / "watch.json").get("sentence")) if recipe.name == OWN_LOOP else None


def _origin(now: Status, run: RunFolder, paid: str) -> list[tuple[str, str]]:
    if not now.is_own_loop:
        return [("recipe", f"{now.recipe.name}, seed {now.recipe.seed}, {paid}"), ("source", now.recipe.data.source)]
    source = _text(run.read_data().get("source"))
    return [("recipe", f"a training loop of its own, {paid}"), *([("source", source)] if source else [])]


def _state_text(now: Status, run: RunFolder) -> str:
    resume = f"go on with: equipoise resume {shlex.quote(str(run.path))}"
    if now.is_own_loop:
        resume = f"go on with: Watch({str(run.path)!r}, resume=True)"
    match now.state:
        case "new":
            return "not started"
        case "running":
            return f"running, process {now.holder.pid} on {now.holder.host}" if now.holder else "running"
        case "interrupted":
            return f"interrupted; {resume}"
        case "stopped":
            return f"stopped; {resume}"
        case "finished":
            return "finished"
        case "failed":
            return f"failed; {resume}"
        case _:
            assert_never(now.state)


def _progress(now: Status) -> str:
    """Return a bar and what was done; the share is one of time where the budget is a time."""
    seconds = now.recipe.budget.seconds
    rate = now.samples_per_second if now.state == "running" else math.nan
    line = formatting.progress_line(now.samples, None if seconds else now.horizon, rate, now.seconds_left)
    if not now.horizon:
        return line
    share = min(1.0, now.seconds / seconds if seconds else now.samples / now.horizon)
    share = 1.0 if now.policy == "budget" else share
    filled = round(10 * share)
    text = f"{line} · {formatting.percent(share)}" if seconds else line
    return f"{'█' * filled}{'░' * (10 - filled)}  {text}"


def _score_text(line: ScoreLine, metric: MetricName) -> str:
    parts = [f"{metric.upper()} {formatting.score(line, metric)}"]
    other: MetricName = "fid" if metric == "kid" else "kid"
    if math.isfinite(metric_value(line, other)):
        parts.append(f"{other.upper()} {formatting.score(line, other)}")
    if math.isfinite(line.coverage):
        parts.append(f"coverage {line.coverage:.2f}")
    return ", ".join(parts) + f", at {formatting.count(line.samples)} samples"


def _cut(lines: list[str], num: int) -> list[str]:
    """Return at most `num` lines (at least two) of a long reason, all of which is in the report."""
    num = max(2, num)
    return lines if len(lines) <= num else [*lines[: num - 1], f"{'':<11} … (in full in the report)"]


def _lines(label: str, text: str) -> list[str]:
    wrapped = textwrap.wrap(formatting.printable(text), WIDTH - 12, break_on_hyphens=False) or [""]
    return [f"{label:<11} {wrapped[0]}"] + [f"{'':<11} {line}" for line in wrapped[1:]]
