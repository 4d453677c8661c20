"""A training that begins with the weights of another run: what is read of that run, and what must fit."""

import contextlib
import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from equipoise import tasks
from equipoise.data import changes
from equipoise.data.changes import Listed
from equipoise.data.splits import Splits, split
from equipoise.errors import Command, Option, Setting, UserError
from equipoise.recipe import Recipe
from equipoise.runs.folder import RunFolder
from equipoise.runs.start_rules import misfit, network_differences, run_to_start_from
from equipoise.storage import checkpoints
from equipoise.storage.checkpoints import Checkpoint, damage_of, named
from equipoise.storage.records import DataRecord, StartRecord
from equipoise.storage.safe_open import open_regular, writable_text
from equipoise.tasks.base import Players, Split, indices_of

MODULES = ("generator", "discriminator", "generator_ema")
NUM_READS = 9  # attempts to read a checkpoint of a run that is training


@dataclass(frozen=True, eq=False)
class Start:
    """A run to begin with: its recipe, its weights, and the examples that have trained them, where they are known."""

    path: Path
    recipe: Recipe
    data: DataRecord
    record: StartRecord
    weights: dict[str, Tensor]  # of both players and the average, under the names of a checkpoint
    trained: np.ndarray | None  # contents uint64 of the examples that have trained them

    @property
    def told(self) -> str:
        """Say what is begun with."""
        return (
            f"Starting from {self.record.path}: its weights at {self.record.samples:,} samples. Optimizers, evaluation "
            "and budget begin anew."
        )


def read_start(path: Path) -> Start:
    """Read the run to start from, with the weights that a resume of it would take; raises UserError."""
    run = run_to_start_from(path)
    recipe = run.recipe()
    data = run.data()
    found, digest = _newest(run)
    weights = {name: tensor for name, tensor in found.tensors.items() if name.split(".")[0] in MODULES}
    if any(not tensor.isfinite().all() for tensor in weights.values()):
        problem = f"its checkpoint {found.path.name} holds numbers that are not finite"
        raise UserError(Option("start_from", path), problem, "Train anew", Command("train", recipe.data.source))
    samples = int(found.path.name)
    seen = samples + (0 if data.start is None else data.start.seen)
    record = StartRecord(path=writable_text(str(path)), samples=samples, seen=seen, digest=digest)
    return Start(path, recipe, data, record, weights, seen_by(run, recipe, "train"))


def seen_by(run: RunFolder, recipe: Recipe, *parts: Split) -> np.ndarray | None:
    """Return the contents uint64 of these splits of a run, and what trained the weights that it began with.

    None where it does not remember its examples.
    """
    known = changes.read(run.examples)
    if known is None:
        return None
    splits = split(known.contents, recipe.data.validation, recipe.data.test)
    indices = np.concatenate([indices_of(splits, part) for part in parts])
    return np.union1d(known.contents[indices], known.seen)


def _newest(run: RunFolder) -> tuple[Checkpoint, str]:
    """Return the newest intact checkpoint and the SHA-256 of its tensors; raises UserError where none is intact.

    A run that is training may remove one while it is read: then there is a newer one.
    """
    for _ in range(NUM_READS):
        before = named(run.checkpoints)
        with contextlib.suppress(OSError, UserError):
            found = checkpoints.latest(run.checkpoints)
            if found is not None:
                with open_regular(found.path / checkpoints.FILES[0]) as file:
                    return found, hashlib.file_digest(file, "sha256").hexdigest()
        if named(run.checkpoints) == before:
            break
    damages = [f"{path.name}: {damage_of(path) or 'cannot be read'}" for path in named(run.checkpoints)[:1]]
    problem = f"none of its checkpoints is intact ({'; '.join(damages)}), so there are no weights to start from"
    again = Command("train", run.recipe().data.source)
    raise UserError(Option("start_from", run.path), problem, "Restore one from a copy, or train anew", again)


# What must fit


def refuse_misfit(start: Start, recipe: Recipe, opened: tasks.Source) -> None:
    """Raise UserError where a run's weights cannot be trained on by this recipe with these data."""
    refuse_other_classes(start, recipe, opened)
    with torch.device("meta"):  # takes no memory and draws nothing
        players = opened.players(recipe)
    refuse_other_networks(start, recipe, players)
    refuse_trained_held_out(start, recipe, opened.splits, opened.hashes)


def refuse_other_networks(start: Start, recipe: Recipe, players: Players) -> None:
    """Raise UserError that names the settings by which networks differ from those of the weights."""
    modules = {"generator": players.generator, "discriminator": players.discriminator}
    try:
        for name, module in {**modules, "generator_ema": players.generator}.items():
            checkpoints.fitting(name, module, start.weights)
    except RuntimeError as error:
        changed = network_differences(start.recipe, recipe)
        if changed:
            raise misfit(start.path, changed, f"with others the networks differ ({error})") from None
        problem = f"its weights are of other networks than this version builds for these data ({error})"
        again = Command("train", recipe.data.source)
        raise UserError(Option("start_from", start.path), problem, "Train anew", again) from None


def refuse_other_classes(start: Start, recipe: Recipe, opened: tasks.Source) -> None:
    """Raise UserError where networks know classes, and these data have others."""
    now = opened.describe(recipe).classes
    if not recipe.networks.conditional or now == start.data.classes:
        return
    ours = ", ".join(start.data.classes[:10])
    problem = f"it has the classes {', '.join(now[:10])}, and the networks of {start.path} know {ours}"
    again = Command("train", recipe.data.source)
    raise UserError(recipe.data.source, problem, "Give the same classes, or train anew", again)


def refuse_trained_held_out(start: Start, recipe: Recipe, splits: Splits, contents: np.ndarray) -> None:
    """Raise UserError where examples that have trained the weights would be held out to judge them."""
    shares = (start.recipe.data.validation, start.recipe.data.test)
    same = (Setting("data.validation", shares[0]), Setting("data.test", shares[1]))
    now = (recipe.data.validation, recipe.data.test)
    held_out = contents[np.concatenate([splits.validation, splits.test])]
    what = f"{len(held_out):,} held-out {start.data.noun}"
    if start.trained is None:
        if sum(now) <= sum(shares):
            return
        problem = f"with larger shares, some of the {what} may have trained {start.path}: they could not judge it"
        raise UserError(Setting("data.validation", now[0]), problem, "Keep its shares", *same)
    num = int(np.isin(held_out, start.trained).sum())
    if not num:
        return
    problem = f"{num:,} of the {what} have trained {start.path}, so they could not judge it"
    if now != shares:
        raise UserError(Setting("data.validation", now[0]), problem, "Keep the shares of that run", *same)
    again = Command("train", recipe.data.source)
    raise UserError(recipe.data.source, problem, "Put back those that were held out, or train anew", again)


def place_of(start: Start) -> str:
    """Return where the data of a run are: its source may be relative to another folder."""
    path = start.data.path
    if path and Path(path).exists():
        return path
    return start.recipe.data.source


# What a run remembers


def listed(opened: tasks.Source, start: Start | None) -> Listed:
    """Return what a run remembers of the examples of a source, and of those that trained what it began with."""
    names = None
    with contextlib.suppress(UserError, OSError):  # changed meanwhile: the names only say more of what changed later
        names = opened.names()
    seen = np.zeros(0, np.uint64)
    if start is not None and start.trained is not None:
        seen = start.trained
    return changes.listed(opened.hashes, names, seen)


def listed_anew(run: RunFolder, opened: tasks.Source) -> Listed | None:
    """Return what a run that is continued shall remember of its examples; None where it does."""
    return None if changes.read(run.examples) is not None else listed(opened, None)


def remember(run: RunFolder, examples: Listed | None) -> None:
    """Write down a run's examples, unless that was done; a disk that takes nothing ends no training for it."""
    if examples is not None and changes.read(run.examples) is None:
        with contextlib.suppress(OSError):
            changes.write(run.examples, examples)
