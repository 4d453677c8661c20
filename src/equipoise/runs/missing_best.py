"""Where a run has no best generator to draw from: why, and what there is instead, found without torch."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from equipoise import formatting
from equipoise.errors import Command, Part, UserError, listed
from equipoise.runs.candidates import score_in
from equipoise.runs.folder import RunFolder
from equipoise.runs.status import Status, read_status
from equipoise.runs.stopping_status import evaluations, metrics_of
from equipoise.storage.checkpoints import WEIGHTS_FILES, candidate_paths
from equipoise.storage.files import readable, verify
from equipoise.storage.records import Score


def refuse_without_best(run: RunFolder) -> None:
    """Raise UserError where a run has no `best/`: nothing was scored yet, or it is lost, with what is left then."""
    best = readable(run.best)
    damage = verify(best, WEIGHTS_FILES) if best.exists() else ""
    if damage is None:
        return
    now = read_status(run)
    if now.best is not None and damage:
        raise UserError(best, damage, *_left(run, now, now.best.samples, best))
    if now.best is not None:
        gone = f"is gone, and with it the best generator, that of {now.best.samples:,} samples"
        raise UserError(run.best, gone, *_left(run, now, now.best.samples, None))
    if damage:
        raise UserError(best, damage, *_first_score(run, now))
    raise UserError(run.path, f"{why_none(run)}, so there is no best one", *_first_score(run, now))


def why_none(run: RunFolder) -> str:
    """Say why no generator became the best one of a run."""
    scores = evaluations(run)
    broken = {name for score in scores for name in score.broken if score.is_finite}
    if broken:
        shown = {metric.name: metric.shown for metric in metrics_of(run)}
        names = listed(sorted(shown.get(name, name) for name in broken))
        return f"every generator that was scored misses a limit ({names})"
    if scores:
        return f"none of {len(scores)} scores is a finite number"
    return "no generator has been scored yet"


def _first_score(run: RunFolder, now: Status) -> Sequence[Part]:
    """Say how there may come to be a best one."""
    match now.state:
        case "running":
            return "It is training: wait for the first score", Command("status", run.path)
        case "finished":
            again = Command("resume", run.path, budget="20m")
            return f"What went wrong is in {run.events}", "Train for longer", again
        case _:
            return "Train until there is one", Command("resume", run.path)


def _left(run: RunFolder, now: Status, best: int, damaged: Path | None) -> Sequence[Part]:
    """Say what of a lost best generator, or in its place, is still there, and what to type."""
    intact = [path for path in candidate_paths(run.candidates) if verify(path, WEIGHTS_FILES) is None]
    found = {path: score for path in intact if (score := score_in(path)) is not None}
    if found:
        return _copied(run, now, found, best, damaged)
    samples = run.newest_good()
    if samples is None:
        return ("No candidate and no good checkpoint is left either. Put it back from a copy",)
    larger = {"budget": "20m"} if now.state == "finished" else {}
    again = f"The checkpoint of {samples:,} samples brings it back: continue the training"
    if larger:
        again += ", with a larger budget than before"
    return again, Command("resume", run.path, **larger)


def _copied(run: RunFolder, now: Status, found: dict[Path, Score], best: int, damaged: Path | None) -> Sequence[Part]:
    """Say which candidate can take the place of the best generator, and what to type for that."""
    lowest = min(found, key=lambda path: (not found[path].is_finite, found[path].loss))
    path = next((path for path in found if int(path.name) == best), lowest)
    which = "A copy of it"
    if int(path.name) != best:
        score = f"{now.metric.shown} {formatting.score(found[path])}"
        which = f"Another one, of {int(path.name):,} samples with {score},"
    copy = f"cp -r {shlex.quote(str(path))} {shlex.quote(str(run.best))}"
    if damaged is not None:
        copy = f"rm -r {shlex.quote(str(damaged))} && {copy}"
    return f"{which} is in {path.relative_to(run.path)}", f"To put it there: `{copy}`"
