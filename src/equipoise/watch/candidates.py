"""The generators of an own loop that may yet be the best one, on the disk: kept, found again, handed over, removed."""

import os
import re
import shutil
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any

from equipoise.errors import UserError
from equipoise.health.stats import ScoreLine, record_of, score_from
from equipoise.runs.folder import RunFolder
from equipoise.storage.files import readable, verify
from equipoise.watch.keep import SCORE, copying, keep

SELF_SCORED = "The loop takes its own scores, so no generator was judged again: the lowest score is handed over."
LATER = "later"  # best generators that a state gone back to does not know; the watch removes none of them


def place(run: RunFolder, samples: int) -> Path:
    """Return the folder of a candidate."""
    return run.candidates / str(samples)


def keep_candidate(run: RunFolder, line: ScoreLine, what: Any) -> Path:
    """Keep what belongs to a score as a candidate and return its folder; raises as `keep` does."""
    run.candidates.mkdir(exist_ok=True)
    keep(place(run, line.samples), what, record_of(line))
    return place(run, line.samples)


def found(run: RunFolder, line: ScoreLine) -> Path | None:
    """Return the undamaged folder with what belongs to a score, None if there is none."""
    folders = (readable(place(run, line.samples)), readable(run.best))
    return next((path for path in folders if _holds(run, path, line) and verify(path) is None), None)


def hand_over(run: RunFolder, folder: Path) -> ScoreLine:
    """Put a candidate into `best/` in one step, unless it is there, and return its score."""
    line = score_from(run.read_json(folder / SCORE))
    best = readable(run.best)
    if folder != best and not (_holds(run, best, line) and verify(best) is None):
        keep(run.best, copying(folder), record_of(line))
    return line


def prune(run: RunFolder, kept: Container[int]) -> None:
    """Remove the candidates of other samples than these, and nothing else: only once no saved state speaks of them."""
    for folder in run.candidates.iterdir() if run.candidates.is_dir() else ():
        samples = re.fullmatch(r"([1-9]\d*|0)|\.(\d+)\.(old|partial)", folder.name)  # a kill leaves the latter two
        if samples and folder.is_dir() and int(samples[1] or samples[2]) not in kept:
            shutil.rmtree(folder)


def set_later_aside(run: RunFolder, best: ScoreLine | None, candidates: Sequence[ScoreLine]) -> tuple[int, Path] | None:
    """Move a best generator that these candidates do not know into a free folder, so that nothing of it is lost.

    Returns its samples and where it is now, None if nothing had to be moved. One before the best is no later one: it
    stays where nothing came with the best one's score.
    """
    folder = readable(run.best)
    samples = run.read_json(folder / SCORE).get("samples")
    if not isinstance(samples, int) or samples < (best.samples if best else 0):
        return None
    if any(_holds(run, folder, line) for line in candidates):
        return None
    later = run.path / LATER
    later.mkdir(exist_ok=True)
    free, number = later / str(samples), 2
    while free.exists():
        free, number = later / f"{samples}-{number}", number + 1
    os.rename(folder, free)
    return samples, free


def _holds(run: RunFolder, folder: Path, line: ScoreLine) -> bool:
    """Return whether a folder is of this score, or of these samples as another judge scored them."""
    try:
        record = run.read_json(folder / SCORE)
    except UserError:  # damaged
        return False
    if record.get("samples") != line.samples:
        return False
    there = score_from(record)
    return there.protocol != line.protocol or record_of(there) == record_of(line)
