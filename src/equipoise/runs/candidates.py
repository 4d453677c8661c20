"""The generators that may yet be the best one, on the disk: kept, found again, promoted, removed."""

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from equipoise.errors import UserError
from equipoise.runs.folder import RunFolder
from equipoise.stopping.monitor import Monitor
from equipoise.storage.checkpoints import WEIGHTS_FILES, candidate_paths
from equipoise.storage.files import MANIFEST, discard, readable, verify, write_json, written_whole
from equipoise.storage.records import Score, lenient, plain

if TYPE_CHECKING:
    from torch import Tensor, nn

GENERATOR, SCORE = WEIGHTS_FILES

Fill = Callable[[Path], Any]  # writes what belongs to a generator into a folder


def keep(final: Path, fill: Fill, score: Score) -> None:
    """Put a generator with its score in place of the folder `final`, in one step; raises OSError."""
    with written_whole(final) as folder:
        fill(folder)
        write_json(folder / SCORE, plain(score))


def place(run: RunFolder, samples: int) -> Path:
    """Return the folder of a candidate."""
    return run.candidates / str(samples)


def keep_candidate(run: RunFolder, score: Score, fill: Fill) -> Path:
    """Keep what belongs to a score as a candidate and return its folder; raises as `fill` does."""
    run.candidates.mkdir(exist_ok=True)
    keep(place(run, score.samples), fill, score)
    return place(run, score.samples)


def tensors(values: "Mapping[str, Tensor]") -> Fill:
    """Return what writes tensors as `generator.safetensors`."""

    def fill(folder: Path) -> None:
        import safetensors.torch

        # Not save_file: on a full disk it raises an error of its own, and no OSError.
        (folder / GENERATOR).write_bytes(safetensors.torch.save(dict(values)))

    return fill


def weights(module: "nn.Module") -> Fill:
    """Return what writes a copy of a generator's present weights."""
    from equipoise.storage.checkpoints import copied, module_tensors

    return tensors(copied(module_tensors("generator", module)))


def copying(source: Path) -> Fill:
    """Return what writes the same as lies in another folder, without its score."""
    apart = shutil.ignore_patterns(SCORE, MANIFEST)  # in its first folder: what is below belongs to the weights

    def ignored(inside: str, names: list[str]) -> set[str]:
        return set(apart(inside, names)) if Path(inside) == source else set()

    return lambda folder: shutil.copytree(source, folder, dirs_exist_ok=True, ignore=ignored)


def is_intact(run: RunFolder, folder: Path) -> bool:
    """Return whether a folder such as `best/` holds a generator with its score, undamaged."""
    names = None if run.is_custom_loop else WEIGHTS_FILES  # only its script knows what a custom loop keeps
    return verify(folder, names) is None


def find(run: RunFolder, score: Score) -> Path | None:
    """Return the undamaged folder with what belongs to a score, None if there is none."""
    folders = (readable(place(run, score.samples)), readable(run.best))
    return next((path for path in folders if holds(path, score) and is_intact(run, path)), None)


def holds(folder: Path, score: Score) -> bool:
    """Return whether a folder is of this score, or of these samples as another judge scored them."""
    try:
        there = score_in(folder)
    except UserError:  # damaged
        return False
    if there is None or there.samples != score.samples:
        return False
    return there.protocol != score.protocol or plain(there) == plain(score)


def score_in(folder: Path) -> Score | None:
    """Return the score of a folder such as `best/`, None if there is none; raises UserError if it is damaged."""
    from equipoise.storage.files import read_json

    values = read_json(folder / SCORE)
    return None if not values else lenient(Score, values)


def promote(run: RunFolder, folder: Path) -> Score:
    """Put a candidate into `best/` in one step, unless it is there, and return its score; the candidate stays."""
    score = score_in(folder)
    assert score is not None, "a candidate has a score"
    best = readable(run.best)
    if folder != best and not (holds(best, score) and is_intact(run, best)):
        keep(run.best, copying(folder), score)
    return score


def prune(run: RunFolder, is_kept: Callable[[int], bool]) -> None:
    """Remove the generators that are not candidates any more, by their samples; raises OSError."""
    for path in candidate_paths(run.candidates):
        if not is_kept(int(path.name)):
            discard(path)


def intact_candidates(run: RunFolder, monitor: Monitor) -> list[tuple[Score, Path]]:
    """Return the candidates that can be read, with their folders: the best first, last what an earlier end selected."""
    every = [(score, find(run, score)) for score in monitor.candidates]
    found = [(score, folder) for score, folder in every if folder is not None]
    for folder in candidate_paths(run.selected):
        score = score_in(folder) if is_intact(run, folder) else None
        if score is not None and _is_another(score, monitor):
            found.append((score, folder))
    return found


def _is_another(score: Score, monitor: Monitor) -> bool:
    """Return whether a score is of no candidate, and of the judge that scored these."""
    if monitor.best is None or score.protocol != monitor.best.protocol:
        return False
    return all(score.samples != candidate.samples for candidate in monitor.candidates)


def keep_selected(run: RunFolder) -> None:
    """Keep the generator that an end has selected: the training goes on and may displace it; raises OSError.

    The next end compares it with the others. One of an end before that has lost this comparison.
    """
    best = readable(run.best)
    score = score_in(best) if is_intact(run, best) else None
    if score is None:
        return
    run.selected.mkdir(exist_ok=True)
    keep(
        run.selected / str(score.samples),
        lambda folder: shutil.copy(best / GENERATOR, folder / GENERATOR),  # without the model card
        score,
    )
    for folder in candidate_paths(run.selected):
        if folder.name != str(score.samples):
            discard(folder)


def score_of_best(run: RunFolder, monitor: Monitor) -> Score | None:
    """Return the score of the best generator so far: of what lies in `best/`, where an earlier end selected that."""
    best = monitor.best
    kept = {path.name for path in candidate_paths(run.selected)}
    if best is None or not kept:
        return best
    try:
        there = score_in(readable(run.best))
    except UserError:  # damaged: whoever takes it says so
        return best
    is_selected = there is not None and str(there.samples) in kept and there.protocol == best.protocol
    return there if is_selected else best


def put_back_best(run: RunFolder, monitor: Monitor, best_generator: "nn.Module | None") -> None:
    """Make `best/` what the monitor knows as best, where it is damaged or of an evaluation that is taken again."""
    if not run.best.exists() and monitor.best is None:
        return
    known = [score for score in (monitor.best, *monitor.candidates) if score is not None]
    if is_intact(run, run.best) and any(holds(run.best, score) for score in known):
        return  # also a candidate's, of a finished run, where they were evaluated again
    if best_generator is None or monitor.best is None:
        discard(run.best)
        return
    keep(run.best, weights(best_generator), monitor.best)


def set_later_aside(run: RunFolder, monitor: Monitor) -> tuple[int, Path] | None:
    """Move a best generator that the monitor does not know into a free folder, so that nothing of it is lost.

    Returns its samples and where it is now, None if nothing had to be moved. One before the best is not a later one: it
    stays where nothing came with the best one's score.
    """
    there = later_best(run, monitor)
    if there is None:
        return None
    run.later.mkdir(exist_ok=True)
    free = run.later / str(there.samples)
    number = 2
    while free.exists():
        free = run.later / f"{there.samples}-{number}"
        number += 1
    os.rename(readable(run.best), free)
    return there.samples, free


def set_attempt_aside(run: RunFolder, monitor: Monitor, attempt: int) -> str:
    """Move the best generator of an abandoned attempt, which the rewound monitor does not know, to `later/`.

    Returns its place within the run, "" where nothing had to be moved. Whatever lies there of this attempt is its own,
    from before a kill.
    """
    try:
        if later_best(run, monitor) is None:
            return ""
    except UserError:  # damaged: there is nothing to keep
        return ""
    run.later.mkdir(exist_ok=True)
    aside = run.later / f"attempt-{attempt}"
    if aside.exists():
        discard(aside)
    os.rename(readable(run.best), aside)
    return f"{run.later.name}/{aside.name}"


def later_best(run: RunFolder, monitor: Monitor) -> Score | None:
    """Return the score of the generator in `best/` if it came later than what a monitor knows, else None."""
    folder = readable(run.best)
    there = score_in(folder)
    first = monitor.best.samples if monitor.best is not None else 0
    if there is None or there.samples < first or any(holds(folder, score) for score in monitor.candidates):
        return None
    return there
