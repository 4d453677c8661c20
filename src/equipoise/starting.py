"""A training that begins with the weights of another run: what is read of that run, and what must fit."""

import contextlib
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import numpy as np
import torch
from torch import Tensor

from equipoise import tasks
from equipoise.data import changes
from equipoise.data.changes import Listed, Seen
from equipoise.data.splits import split
from equipoise.errors import Command, Option, Setting, UserError, together
from equipoise.formatting import first_few, percent
from equipoise.nets.frozen import frozen_names
from equipoise.nets.transfer import Carried, carried
from equipoise.recipe import Recipe
from equipoise.runs.folder import RunFolder
from equipoise.runs.start_rules import (
    fitting_differences,
    misfit,
    network_differences,
    run_to_start_from,
    shaping_differences,
    worded,
)
from equipoise.state import drawn
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
    trained: tuple[Seen, ...] | None  # what has trained them, first as the settings of a run itself made it
    damages: tuple[str, ...] = ()  # what is wrong with newer checkpoints
    new: str = ""  # by what the networks are others, where only some of the weights fit

    @property
    def told(self) -> str:
        """Say what is begun with, and what of that run is damaged."""
        damages = [f"{damage[:1].upper()}{damage[1:]}." for damage in self.damages]
        if changes.is_damaged(RunFolder(self.path).examples):
            damages.append(
                "Its examples.safetensors is damaged: what has trained it stays training data by the same shares of "
                "the splits."
            )
        begun = f"Starting from {self.path}: its weights at {self.record.samples:,} samples"
        if self.new:
            shares = (percent(self.record.generator), percent(self.record.discriminator))
            begun += f", where they fit ({self.new}): {shares[0]} of the generator's and {shares[1]} of the "
            begun += "discriminator's. The others are drawn anew"
        begun += "."
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


def seen_by(run: RunFolder, recipe: Recipe, *parts: Split) -> tuple[Seen, ...] | None:
    """Return the contents of these splits of a run, and what trained the weights that it began with.

    First what its own settings made of them, then what those of earlier runs did. None where it does not remember all.
    """
    known = changes.read(run.examples)
    if known is None or known.seen is None:
        return None
    splits = split(known.contents, recipe.data.validation, recipe.data.test)
    indices = np.concatenate([indices_of(splits, part) for part in parts])
    return (Seen(np.union1d(known.contents[indices], known.seen), recipe.task), *known.earlier)


def are_seen(opened: tasks.Source, seen: Iterable[Seen]) -> np.ndarray:
    """Return which examples of a source, bool [N], are among those that were seen, under whatever settings."""
    found = np.zeros(len(opened.hashes), bool)
    for one in seen:
        found |= opened.among(one.contents, one.settings)
    return found


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


def fitted(start: Start, recipe: Recipe, opened: tasks.Source) -> Start:
    """Return a start with the weights that a run of this recipe on these data begins with, and what it shall remember.

    Raises UserError where none of the other run's fit, or examples that have trained them would judge.
    """
    shaped = shaping_differences(start.recipe, recipe)
    others = _other_classes(start, recipe, opened)
    with torch.device("meta"):  # takes no memory and draws nothing
        players = opened.players(recipe)
    error = _misfit_of(start, players)
    if error is not None and (network_differences(start.recipe, recipe) or not (shaped or others)):
        raise _other_networks(start, recipe, error)
    if error is not None or others:
        start = _partly(start, recipe, opened, shaped, others)
    return remembering(start, recipe, opened)


def refuse_other_networks(start: Start, recipe: Recipe, players: Players) -> None:
    """Raise UserError that names the settings by which networks differ from those of the weights."""
    error = _misfit_of(start, players)
    if error is not None:
        raise _other_networks(start, recipe, error)


def _misfit_of(start: Start, players: Players) -> str | None:
    """Say what of a run's weights does not fit these networks; None where all do."""
    modules = {"generator": players.generator, "discriminator": players.discriminator}
    try:
        for name, module in {**modules, "generator_ema": players.generator}.items():
            checkpoints.fitting(name, module, start.weights)
    except RuntimeError as error:
        return str(error)
    return None


def _other_networks(start: Start, recipe: Recipe, error: str) -> UserError:
    changed = network_differences(start.recipe, recipe)
    if changed:
        return misfit(start.path, changed, f"with others the networks differ ({error})")
    problem = f"its weights are of other networks than this version builds for these data ({error})"
    again = Command("train", recipe.data.source)
    return UserError(Option("start_from", start.path), problem, "Train anew", again)


def _other_classes(start: Start, recipe: Recipe, opened: tasks.Source) -> str:
    """Say which classes networks that know some know of these data alone; empty where they are the very same.

    Groups are of the images that formed them, whatever their numbers, and others within classes.
    """
    networks, before = recipe.networks, start.recipe.networks
    is_told_otherwise = networks.conditional != before.conditional
    if networks.groups and before.groups and (is_told_otherwise or opened.digest != start.data.digest):
        return "the groups of these images"
    if is_told_otherwise and (networks.groups or before.groups):
        return "classes in place of groups" if networks.conditional else "groups in place of classes"
    if not (networks.conditional and before.conditional):
        return ""
    described = opened.describe(recipe)
    now = described.classes
    if now == start.data.classes:
        return ""
    noun = "labels" if described.sets or start.data.sets else "classes"
    new = [name for name in now if name not in start.data.classes]
    gone = [name for name in start.data.classes if name not in now]
    parts = [
        f"{what} {noun} {first_few(names, SHOWN)}" for what, names in (("new", new), ("without the", gone)) if names
    ]
    return ", ".join(parts) or f"{noun} in another order"


def _partly(start: Start, recipe: Recipe, opened: tasks.Source, shaped: dict[str, list[object]], others: str) -> Start:
    """Return a start with the weights that fit, and else with those that the recipe's seed draws."""
    unfrozen = replace(recipe, networks=replace(recipe.networks, frozen=0))
    players = drawn(lambda: opened.players(unfrozen), recipe)
    generator = _carried(start, recipe, opened, "generator", players.generator)
    average = _carried(start, recipe, opened, "generator_ema", players.generator)
    discriminator = _carried(start, recipe, opened, "discriminator", players.discriminator)
    new = [
        *(f"{name} {worded(row[0])} → {worded(row[1])}" for name, row in shaped.items()),
        *([others] if others else []),
    ]
    if not generator.has_layers:
        raise misfit(start.path, shaped, "with these others, nothing of the generator's layers fits")
    frozen = frozen_names(players.discriminator, recipe.networks.frozen)
    anew = [name for name in frozen if not discriminator.num_taken[name]]
    if anew:
        problem = f"these stages are to keep what they have learned, and some of it does not fit ({'; '.join(new)})"
        subject = Setting("networks.frozen", recipe.networks.frozen)
        raise UserError(subject, problem, Setting("networks.frozen", 0))
    shares = {
        "generator": generator.share(name for name, _ in players.generator.named_parameters()),
        "discriminator": discriminator.share(name for name, _ in players.discriminator.named_parameters()),
    }
    found = {"generator": generator, "discriminator": discriminator, "generator_ema": average}
    weights = {f"{module}.{name}": tensor for module, one in found.items() for name, tensor in one.tensors.items()}
    record = msgspec.structs.replace(start.record, **shares)
    return replace(start, weights=weights, record=record, new="; ".join(new))


def _carried(start: Start, recipe: Recipe, opened: tasks.Source, module: str, fresh: torch.nn.Module) -> Carried:
    """Return the tensors of a module of the new run: those of the other run that fit, and fresh ones."""
    old = {
        name.removeprefix(f"{module}."): tensor
        for name, tensor in start.weights.items()
        if name.startswith(f"{module}.")
    }
    classes: list[tuple[int, int]] = []
    if _have_rows(recipe) and _have_rows(start.recipe):
        before = {name: index for index, name in enumerate(start.data.classes)}
        now = opened.describe(recipe).classes
        classes = [(index, before[name]) for index, name in enumerate(now) if name in before]
    player = "discriminator" if module == "discriminator" else "generator"
    return carried(old, fresh.state_dict(), player, classes)


def _have_rows(recipe: Recipe) -> bool:
    """Return whether a layer by class has a row for each class, and not for each group."""
    return recipe.networks.conditional and not recipe.networks.groups


def remembering(start: Start, recipe: Recipe, opened: tasks.Source) -> Start:
    """Return a start that remembers what has trained its weights as these settings make it, and as earlier ones did.

    Raises UserError where examples that have trained the weights would be held out to judge them.
    """
    if start.trained is None:
        _refuse_unknown(start, recipe, opened)
        return start
    seen = are_seen(opened, start.trained)
    _refuse_held_out(start, recipe, opened, seen)
    alike = [one.contents for one in start.trained if tasks.are_alike(one.settings, recipe.task)]
    own = np.unique(np.concatenate([opened.hashes[seen], *alike]))
    others = [one for one in start.trained if not tasks.are_alike(one.settings, recipe.task)]
    return replace(start, trained=(Seen(own, recipe.task), *others))


def _refuse_unknown(start: Start, recipe: Recipe, opened: tasks.Source) -> None:
    """Raise UserError where nobody knows what has trained the weights, and some of it may be held out.

    With the same settings a content is the same, and its side follows from the shares alone.
    """
    if start.data.start is not None:
        raise _unknown(start, recipe, "the list of what had trained the weights that this run began with is lost")
    if not tasks.are_alike(start.recipe.task, recipe.task):
        raise _unknown(start, recipe, "the list of what has trained it is lost, and other settings make others of them")
    shares = (start.recipe.data.validation, start.recipe.data.test)
    now = (recipe.data.validation, recipe.data.test)
    if sum(now) <= sum(shares):
        return
    same = (Setting("data.validation", shares[0]), Setting("data.test", shares[1]))
    what = f"{_num_held_out(opened):,} held-out {start.data.noun}"
    problem = f"with larger shares, some of the {what} may have trained {start.path}: they could not judge it"
    raise UserError(Setting("data.validation", now[0]), problem, "Keep its shares", *same)


def _num_held_out(opened: tasks.Source) -> int:
    return len(opened.splits.validation) + len(opened.splits.test)


def _refuse_held_out(start: Start, recipe: Recipe, opened: tasks.Source, seen: np.ndarray) -> None:
    """Raise UserError where some of the examples that were seen, bool [N], would be held out."""
    num = int(seen[np.concatenate([opened.splits.validation, opened.splits.test])].sum())
    if not num:
        return
    what = f"{num:,} of the {_num_held_out(opened):,} held-out {start.data.noun}"
    problem = f"{what} have trained {start.path}, so they could not judge it"
    shares = (start.recipe.data.validation, start.recipe.data.test)
    now = (recipe.data.validation, recipe.data.test)
    if now != shares and tasks.are_alike(start.recipe.task, recipe.task):
        same = (Setting("data.validation", shares[0]), Setting("data.test", shares[1]))
        raise UserError(Setting("data.validation", now[0]), problem, "Keep the shares of that run", *same)
    again = Command("train", recipe.data.source)
    changed = [f"{name}={worded(row[1])}" for name, row in fitting_differences(start.recipe, recipe).items()]
    if changed:
        problem += f": with {', '.join(changed)} an example is another one, and its side is drawn anew"
        same = [Setting(name, row[0]) for name, row in fitting_differences(start.recipe, recipe).items()]
        give = f"Give other {start.data.noun}, keep the settings of that run, or train anew"
        raise UserError(recipe.data.source, problem, give, *together(same), again)
    raise UserError(recipe.data.source, problem, "Put back those that were held out, or train anew", again)


def _unknown(start: Start, recipe: Recipe, why: str) -> UserError:
    """Return the mistake of starting from a run where nobody knows what has trained its weights."""
    problem = (
        f"{why} ({RunFolder(start.path).examples}), so some of the {start.data.noun} that would judge the new run may "
        "have trained it"
    )
    again = Command("train", recipe.data.source)
    return UserError(Option("start_from", start.path), problem, "Restore that file from a copy, or train anew", again)


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
    if start.trained is None:
        return Listed(opened.hashes, names, None)
    return Listed(opened.hashes, names, start.trained[0].contents, start.trained[1:])


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
