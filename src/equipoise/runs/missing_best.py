"""Where a run has no best generator to draw from: why, and what there is instead, told without torch."""

import math
import shlex
from pathlib import Path

from equipoise import formatting
from equipoise.errors import UserError
from equipoise.health.stats import metric_value, score_from
from equipoise.runs.folder import RunFolder
from equipoise.runs.status import Status, read_status
from equipoise.storage.checkpoints import WEIGHTS_FILES, candidate_paths
from equipoise.storage.files import readable, verify
from equipoise.storage.logs import last_scores, records


def refuse_without_best(run: RunFolder) -> None:
    """Raise UserError where a run has no `best/`: nothing was judged yet, or it is lost, with what is left then."""
    best = readable(run.best)
    damage = verify(best, WEIGHTS_FILES) if best.exists() else ""
    if damage is None:
        return
    now = read_status(run)
    if now.best is not None:
        gone = f"is gone, with the best generator, that of {now.best.samples:,} samples"
        what = f"{best}: {damage}" if damage else f"{run.best}: {gone}"
        raise UserError(f"{what}. {_left(run, now, now.best.samples, best if damage else None)}")
    if damage:
        raise UserError(f"{best}: {damage}. {_first_score(run, now)}")
    failed = len(last_scores(run.scores)) + sum(event.get("kind") == "judging failed" for event in records(run.events))
    what = f"none of {failed} scores is a finite number" if failed else "no generator has been scored yet"
    raise UserError(f"{run.path}: {what}, so there is no best one. {_first_score(run, now)}")


def _first_score(run: RunFolder, now: Status) -> str:
    """Say how there may come to be a first score."""
    quoted = shlex.quote(str(run.path))
    match now.state:
        case "running":
            return f"It is training: wait for the first score, which this shows: equipoise status {quoted}"
        case "finished":
            return f"What went wrong is in {run.events}. To begin another run: equipoise train SOURCE"
        case _:
            return f"To train until there is one: equipoise resume {quoted}"


def _left(run: RunFolder, now: Status, best: int, damaged: Path | None) -> str:
    """Say what of a lost best generator, or in its place, is still there, and what to type."""
    whole = [path for path in candidate_paths(run.candidates) if verify(path, WEIGHTS_FILES) is None]
    found = {path: score_from(run.read_json(path / "score.json")) for path in whole}
    if found:
        values = {path: metric_value(line, now.metric) for path, line in found.items()}
        lowest = min(found, key=lambda path: values[path] if math.isfinite(values[path]) else math.inf)
        path = next((path for path in found if int(path.name) == best), lowest)
        score = f"{now.metric.upper()} {formatting.score(found[path], now.metric)}"
        which = (
            "A copy of it" if int(path.name) == best else f"Another one, of {int(path.name):,} samples with {score},"
        )
        copy = "" if damaged is None else f"rm -r {shlex.quote(str(damaged))} && "
        copy += f"cp -r {shlex.quote(str(path))} {shlex.quote(str(run.best))}"
        return f"{which} is in {path.relative_to(run.path)}. To put that in its place: {copy}"
    samples = run.newest_good()
    if samples is None:
        return "No candidate and no good checkpoint is left either. Put it back from a copy"
    larger = " --budget B, with a larger one than before" if now.state == "finished" else ""
    resume = f"equipoise resume {shlex.quote(str(run.path))}{larger}"
    return f"To get it back from the checkpoint of {samples:,} samples, go on with the training: {resume}"
