"""How a run stands, on one screen."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, assert_never

from equipoise import formatting
from equipoise.cli.text import INDENT, WIDTH, labelled, table, way_on
from equipoise.errors import UserError, shortened
from equipoise.health.telling import told_all, told_remedy
from equipoise.recipe import Budget
from equipoise.runs.folder import RunFolder
from equipoise.runs.held_out import num_together
from equipoise.runs.quality import quality_of
from equipoise.runs.scale import scale_sentence
from equipoise.runs.source_times import seems_changed
from equipoise.runs.status import Status, status_values
from equipoise.storage.records import Metric, Score

HEIGHT = 24
MOST_LINES = 4  # of one row
MOST_OF_QUALITY = 6
LEAST_OF_MESSAGE = 2
LONGEST = 60  # letters of a source
BAR = 10
SPARED = ("scale", "last score", "stopping", "game")  # rows that give way, in this order, where a screen is too small


def status_text(now: Status) -> str:
    """Return how a run stands as plain text: at most 24 lines of 80 columns, but for a path that is longer."""
    game = health = stopping = ""
    quality = quality_of(now)
    if now.samples:
        game = now.diagnosis
        health = told_all(now.diagnoses, now.num_lines, None if now.is_custom_loop else now.recipe)
    if now.state != "finished":
        stopping = now.stopping_status
    rows = [
        ("run", str(now.path)),
        ("recipe", _recipe(now)),
        ("source", _source(now)),
        ("started", _started(now)),
        ("state", _state(now)),
        (_label_of_stage(now), _stage(now)),
        ("progress", _progress(now)),
        ("trained", _trained(now)),
        ("last score", _score(now.last, now.metric)),
        ("best score", _best(now)),
        (_test_label(now), _test(now)),
        ("scale", scale_sentence(now.rivals, now.metric)),
        ("quality", quality.sentence if quality is not None else ""),
        ("game", game),
        ("health", health),
        ("remedies", _remedies(now)),
        ("stopping", stopping),
    ]
    last: list[str] = []
    report = now.path / "report.html"
    if report.exists():
        last = labelled("report", str(report))[:MOST_LINES]
    room = HEIGHT - len(last)
    lines = _fitting(rows, room - len(_message(now, LEAST_OF_MESSAGE)))
    return "\n".join([*lines, *_message(now, room - len(lines)), *last])


def _fitting(rows: Sequence[tuple[str, str]], room: int) -> list[str]:
    """Return the lines of rows, without as many of those that can be spared as it takes to fit; the report has all."""
    lines: list[str] = []
    for num in range(len(SPARED) + 1):
        lines = [line for label, text in rows if text and label not in SPARED[:num] for line in _row(label, text)]
        if len(lines) <= room:
            break
    return lines


def _row(label: str, text: str) -> list[str]:
    """Return a row, cut off with a mark where it is very long; one of several lines as it is."""
    if "\n" in text and label == "remedies":
        first, *others = text.split("\n")
        return [*labelled(label, first), *(line for other in others for line in labelled("", other))]
    most = MOST_OF_QUALITY if label in ("quality", "health") else MOST_LINES
    lines = labelled(label, text)
    if len(lines) > most:
        lines = [*lines[: most - 1], f"{lines[most - 1].rstrip()} …"]
    return lines


def list_text(found: Sequence[tuple[Path, Status | UserError]]) -> str:
    """Return runs as a table: path, state, samples, best score."""
    return "\n".join(table(["run", "state", "samples", "best score"], [_listed(path, now) for path, now in found]))


def list_values(found: Sequence[tuple[Path, Status | UserError]]) -> list[dict[str, Any]]:
    """Return the same as plain values, with what is wrong where a run cannot be read."""
    values = []
    for path, now in found:
        if isinstance(now, UserError):
            values.append({"path": str(path), "error": now.told(in_shell=True)})
        else:
            values.append(status_values(now))
    return values


def _listed(path: Path, now: Status | UserError) -> list[str]:
    name = formatting.printable(str(path))
    if isinstance(now, UserError):
        return [name, "cannot be read", "–", "–"]
    best = "–"
    if now.best is not None:
        best = f"{now.metric.shown} {formatting.score(now.best)}"
    state: str = now.state
    if now.stage is not None and now.state == "running":
        state = _label_of_stage(now)
    return [name, state, formatting.count(now.samples), best]


def _recipe(now: Status) -> str:
    paid = _paid(now.recipe.budget)
    return (
        f"custom training loop, {paid}" if now.is_custom_loop else f"{now.recipe.name}, seed {now.recipe.seed}, {paid}"
    )


def _paid(budget: Budget) -> str:
    if budget.seconds is not None:
        return f"budget {formatting.duration(budget.seconds)}"
    return "no budget" if budget.samples is None else f"budget {formatting.count(budget.samples)} samples"


def _source(now: Status) -> str:
    source = shortened(now.source, LONGEST)
    if now.data is not None and now.data.summary:
        return f"{source} ({now.data.summary})"
    return source


def _started(now: Status) -> str:
    """Return whose weights it began with; empty where they were random."""
    if now.start is None:
        return ""
    begun = f"from {now.start.path}, its weights at {formatting.count(now.start.samples)} samples"
    shares = (now.start.generator, now.start.discriminator)
    if min(shares) < 1:
        begun += f", where they fit ({formatting.percent(shares[0])} and {formatting.percent(shares[1])})"
    return begun


def _state(now: Status) -> str:
    again = way_on(now.recipe.task, now.path)
    if now.is_custom_loop:
        again = f"Watch({str(now.path)!r}, resume=True)"
    match now.state:
        case "new":
            return "not started"
        case "running":
            return _running(now)
        case "interrupted" | "stopped" | "failed":
            return f"{now.state}; {_way(now)}: {again}"
        case "finished":
            return "finished"
        case _:
            assert_never(now.state)


def _way(now: Status) -> str:
    """Say what the command is for; where the data seem to have changed, a run may not be continued with them."""
    if now.is_custom_loop or now.data is None or not seems_changed(RunFolder(now.path), now.data):
        return "continue with"
    return f"the files of its {now.noun} seem to have changed. To continue, or to be told what changed"


def _label_of_stage(now: Status) -> str:
    if now.stage is not None and now.stage.is_after:
        return "finishing"
    return "preparing"


def _stage(now: Status) -> str:
    """Return what comes before or after the training, how far it is, and what follows; empty where it is over."""
    stage = now.stage
    if stage is None:
        return ""
    text = stage.what
    if stage.share > 0:
        text += f": {formatting.percent(stage.share)}"
    if now.state != "running" and stage.share > 0 and not stage.is_after:
        return f"{text}, which is kept but for its last seconds"
    if now.state != "running":
        return f"{text}, which a resume begins again"
    if math.isfinite(stage.seconds_left):
        text += f", about {formatting.duration(stage.seconds_left)} more"
    if stage.is_after:
        return f"{text}; the training has ended"
    seconds = now.recipe.budget.seconds
    if seconds is None:
        return f"{text}, then the training"
    return f"{text}, then {formatting.duration(max(0.0, seconds - now.seconds))} of training"


def _running(now: Status) -> str:
    if now.holder is None:
        return "running"
    return f"running, process {now.holder.pid} on {now.holder.host}"


def _progress(now: Status) -> str:
    """Return a bar and what was done; the share is one of time where the budget is a time."""
    is_time = now.recipe.budget.seconds is not None
    horizon = now.horizon
    rate = math.nan
    if now.state == "running":
        rate = now.samples_per_second
    if is_time:
        horizon = None
    text = formatting.progress_line(now.spent, horizon, rate, now.seconds_left)
    if now.spent > now.samples:
        text += f" · {formatting.count(now.spent - now.samples)} of them in abandoned attempts"
    if now.share is None:
        return text
    filled = round(BAR * now.share)
    if is_time:
        text += f" · {formatting.percent(now.share)}"
    return f"{'█' * filled}{'░' * (BAR - filled)}  {text}"


def _trained(now: Status) -> str:
    if not now.samples:
        return "–"
    text = formatting.duration(now.seconds)
    if now.seconds > 0 and now.state != "running":  # else the line above tells the present speed
        text += f", on average {now.spent / now.seconds:,.0f} samples/s"
    return text


def _best(now: Status) -> str:
    if now.best is None:
        return "none yet"
    text = _score(now.best, now.metric)
    if now.best_note:
        text += f"; {now.best_note}"
    return text


def _test_label(now: Status) -> str:
    """Name the final score: it is of a split of its own, or of all that is held out."""
    score = now.test or now.tested_before
    return "final score" if score is not None and num_together(score.protocol) else "on test"


def _test(now: Status) -> str:
    """Return the score on the test split, or that of an earlier end as long as there is no other."""
    if now.test is None and now.tested_before is not None:
        return f"{_score(now.tested_before, now.metric)}, before the training went on"
    text = _score(now.test, now.metric)
    if now.test is not None and math.isfinite(now.test.optimism):
        text += ", cross-fitted"
    return text


def _score(score: Score | None, metric: Metric) -> str:
    """Return what decides with its error, and the coverage if there is one; empty without a score."""
    if score is None:
        return ""
    parts = [f"{metric.shown} {formatting.score(score)}"]
    if math.isfinite(score.value("coverage")) and metric.name != "coverage":
        parts.append(f"coverage {formatting.value(score.value('coverage'))}")
    return f"{', '.join(parts)}, at {formatting.count(score.samples)} samples"


def _remedies(now: Status) -> str:
    """Return a line for each remedy, and each reason why there was none, the newest last; the report has all."""
    lines = [f"{formatting.count(event.samples)}, {told_remedy(event)}" for event in now.remedies]
    if len(lines) > MOST_LINES:
        num = len(lines) - MOST_LINES + 1
        lines = [f"{num} earlier ones (in the report)", *lines[num:]]
    return "\n".join(shortened(formatting.printable(line), WIDTH - INDENT) for line in lines)


def _message(now: Status, num: int) -> list[str]:
    """Return at most `num` lines (at least two) of why it ended, all of which is in the report."""
    if now.message is None:
        return []
    num = max(LEAST_OF_MESSAGE, num)
    label = "stopped by" if now.stop_reason else "reason"
    lines = labelled(label, now.message)
    if len(lines) > num:
        lines = [*lines[: num - 1], *labelled("", "… (in full in the report)")]
    return lines
