"""A training that begins with the weights of another run: what is read of that run, and what must fit."""

import contextlib
import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from equipoise import tasks
from equipoise.data import changes
from equipoise.data.changes import Listed
from equipoise.data.splits import Splits, split
from equipoise.errors import Command, Option, Setting, UserError
from equipoise.formatting import first_few
from equipoise.recipe import Recipe
from equipoise.runs.folder import RunFolder
from equipoise.runs.start_rules import misfit, network_differences, run_to_start_from
from equipoise.storage import checkpoints
from equipoise.storage.checkpoints import Checkpoint, damage_of, named
from equipoise.storage.files import write_bytes
from equipoise.storage.records import DataRecord, StartRecord
from equipoise.storage.safe_open import open_regular, writable_text
from equipoise.tasks.base import Players, Split, indices_of

MODULES = ("generator", "discriminator", "generator_ema")
SHOWN = 10  # names of classes in a sentence, at most
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
    damages: tuple[str, ...] = ()  # what is wrong with newer checkpoints

    @property
    def told(self) -> str:
        """Say what is begun with, and what of that run is damaged."""
        damages = [f"{damage[:1].upper()}{damage[1:]}." for damage in self.damages]
        if changes.is_damaged(RunFolder(self.path).examples):
            damages.append(
                "Its examples.safetensors is damaged: what has trained it stays training data by the same shares of "
                "the splits."
            )
        begun = f"Starting from {self.path}: its weights at {self.record.samples:,} samples."
        return " ".join([begun, *damages, "Optimizers, evaluation and budget begin anew."])


def read_start(path: Path) -> Start:
    """Read the run to start from, with the weights that a resume of it would take; raises UserError."""
    run = run_to_start_from(path)
    recipe = run.recipe()
    data = run.data()
    found, digest, damages = _newest(run)
    weights = {name: tensor for name, tensor in found.tensors.items() if name.split(".")[0] in MODULES}
    if any(not tensor.isfinite().all() for tensor in weights.values()):
        problem = f"its checkpoint {found.path.name} holds numbers that are not finite"
        raise UserError(Option("start_from", path), problem, "Train anew", Command("train", recipe.data.source))
    samples = int(found.path.name)
    seen = samples + (0 if data.start is None else data.start.seen)
    record = StartRecord(path=writable_text(str(path.resolve())), samples=samples, seen=seen, digest=digest)
    return Start(path, recipe, data, record, weights, seen_by(run, recipe, "train"), damages)


def seen_by(run: RunFolder, recipe: Recipe, *parts: Split) -> np.ndarray | None:
    """Return the contents uint64 of these splits of a run, and what trained the weights that it began with.

    None where it does not remember all of them.
    """
    known = changes.read(run.examples)
    if known is None or known.seen is None:
        return None
    splits = split(known.contents, recipe.data.validation, recipe.data.test)
    indices = np.concatenate([indices_of(splits, part) for part in parts])
    return np.union1d(known.contents[indices], known.seen)


def _newest(run: RunFolder) -> tuple[Checkpoint, str, tuple[str, ...]]:
    """Return the newest intact checkpoint, the SHA-256 of its tensors, and what is wrong with newer ones.

    Raises UserError where none is intact.

    A run that is training may remove one while it is read: then there is a newer one.
    """
    for _ in range(NUM_READS):
        before = named(run.checkpoints)
        damages: list[str] = []
        with contextlib.suppress(OSError, UserError):
            found = checkpoints.latest(run.checkpoints, on_damage=damages.append)
            if found is not None and (not damages or named(run.checkpoints) == before):  # else one may only be gone
                with open_regular(found.path / checkpoints.FILES[0]) as file:
                    return found, hashlib.file_digest(file, "sha256").hexdigest(), tuple(damages)
        if named(run.checkpoints) == before:
            break
    found = [f"{path.name}: {damage_of(path) or 'cannot be read'}" for path in named(run.checkpoints)[:1]]
    problem = f"none of its checkpoints is intact ({'; '.join(found)}), so there are no weights to start from"
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
    others = [name for name in (*now, *start.data.classes) if (name in now) != (name in start.data.classes)]
    ours = first_few(start.data.classes, SHOWN)
    problem = f"it has the classes {first_few(now, SHOWN)}, and the networks of {start.path} know {ours}"
    if others:
        problem += f"; only one of them has {first_few(others, SHOWN)}"
    again = Command("train", recipe.data.source)
    raise UserError(recipe.data.source, problem, "Give the same classes, or train anew", again)


def refuse_trained_held_out(start: Start, recipe: Recipe, splits: Splits, contents: np.ndarray) -> None:
    """Raise UserError where examples that have trained the weights would be held out to judge them."""
    shares = (start.recipe.data.validation, start.recipe.data.test)
    same = (Setting("data.validation", shares[0]), Setting("data.test", shares[1]))
    now = (recipe.data.validation, recipe.data.test)
    held_out = contents[np.concatenate([splits.validation, splits.test])]
    what = f"{len(held_out):,} held-out {start.data.noun}"
    if start.trained is None and start.data.start is not None:
        _refuse_unknown_chain(start, recipe)
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


def _refuse_unknown_chain(start: Start, recipe: Recipe) -> None:
    """Raise UserError for a run that began with another one's weights, and no longer knows what had trained those."""
    problem = (
        "the list of what had trained the weights that this run began with is lost "
        f"({RunFolder(start.path).examples}), so some of the {start.data.noun} that would judge the new run may have "
        "trained it"
    )
    again = Command("train", recipe.data.source)
    raise UserError(Option("start_from", start.path), problem, "Restore that file from a copy, or train anew", again)


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
        names = opened.name_hashes()
    if start is None:
        return Listed(opened.hashes, names)
    return Listed(opened.hashes, names, start.trained)


def listed_anew(run: RunFolder, opened: tasks.Source, data: DataRecord) -> Listed | None:
    """Return what a run that is continued shall remember of its examples; None where it does.

    What had trained the weights that it began with, only the lost list knew.
    """
    if changes.read(run.examples) is not None:
        return None
    found = listed(opened, None)
    if data.start is not None:
        found = replace(found, seen=None)
    return found


def told_lost(run: RunFolder, data: DataRecord) -> str:
    """Say what becomes of a run that has lost its list of examples, and is continued with the very same ones.

    Empty for one of an earlier version, which never had a list.
    """
    if data.start is None and not changes.is_damaged(run.examples):
        return ""
    text = f"{run.examples} is damaged or gone. It is written anew: the {data.noun} are those that this run began with."
    if data.start is not None:
        text += " What had trained the weights that it began with is lost: no other run can start from this one."
    return text


def remember(run: RunFolder, examples: Listed | None) -> None:
    """Write down the examples of a run that is continued; a disk that takes nothing ends no training for it."""
    if examples is not None:
        with contextlib.suppress(OSError):
            write_bytes(run.examples, changes.packed(examples))
