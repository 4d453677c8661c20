"""What a training needs, put together: task, judge, rivals, monitor; and what becomes of it at the end."""

import contextlib
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch
from torch import Tensor, nn

from equipoise import loop
from equipoise.errors import Command, UserError, what_failed
from equipoise.evaluation.finish import Ending, conclude
from equipoise.evaluation.rivals import rivals_once
from equipoise.formatting import percent
from equipoise.game.losses import Loss, loss_named
from equipoise.game.updates import samples_per_round
from equipoise.host.device import environment_of, fastest_threads, threads_of
from equipoise.host.intervals import settled_intervals
from equipoise.host.stages import Stage, at_training
from equipoise.loop import Observer, Outcome
from equipoise.metrics.features.encoder import STARTED_SHARE
from equipoise.recipe import Recipe
from equipoise.recipes.stages import stages_of
from equipoise.report.card import model_card
from equipoise.report.report import write_report
from equipoise.runs.candidates import score_in
from equipoise.runs.folder import RunFolder, new_path, run_name
from equipoise.runs.rules import stopped_by
from equipoise.stopping.monitor import Monitor
from equipoise.storage.checkpoints import load_weights
from equipoise.storage.files import readable, write_bytes
from equipoise.storage.records import DataRecord, EncoderRecord, EventKind, Pace, RunState, Score
from equipoise.storage.safe_open import read_bytes, writable_text
from equipoise.tasks.base import Judge, Task


@dataclass(frozen=True)
class Training:
    """A task in a run's folder that the caller holds, and whoever shows the training."""

    folder: RunFolder
    recipe: Recipe
    task: Task
    device: torch.device
    precision: torch.dtype
    observer: Observer


def loss_of(recipe: Recipe, loss: Loss | None) -> Loss:
    """Return the loss of a recipe, or the one given in its place; raises UserError where a custom one is missing."""
    return loss or loss_named(recipe.game.loss, recipe.game.label_smoothing, recipe.game.margin)


def run_training(training: Training) -> None:
    """Train to the end and write how it ended; raises StorageError for a failing disk, and whatever else ends it."""
    folder = training.folder
    try:
        note_environment(training)
        folder.write_state(folder.next_state(status="running"))
        with threads_of(first_threads(training), training.device):
            judge = training.task.judge("validation")
            if judge is None:
                raise UserError(training.recipe.data.source, "too few validation examples to score by", "Add examples")
            note_metrics(folder, judge)
            note_encoder(training, judge)
            note_groups(training)
            monitor = monitor_of(training.recipe, judge)
            with at_training(folder, training.observer.stage, is_after=False) as stage:
                judge_baselines(training, judge, stage)
        with threads_of(None, training.device):  # of which the training may choose another number
            outcome = loop.train(training.task, training.recipe, folder, judge, monitor, training.observer)
            end(training, monitor, outcome)
    except OSError as error:
        fail(folder, error)
        raise stopped_by(folder, error) from error
    except Exception as error:
        fail(folder, error)
        raise


def first_threads(training: Training) -> int | None:
    """Return how many threads a run begins with: those that were the fastest then, which a resume finds in its record.

    They are measured where the run depends on this machine's speed anyway; None: as many as there are.
    """
    folder = training.folder
    recipe = training.recipe
    most = torch.get_num_threads()
    if training.device.type != "cpu" or recipe.threads is not None or most == 1:
        return None
    found = folder.first_threads()
    step = samples_per_round(recipe.game)
    depends = recipe.budget.seconds is not None or not settled_intervals(recipe, step).is_known
    if found is None and depends and not folder.read_state().has_saved:
        found = fastest_threads(most)
        folder.log_pace(Pace(spent=0, seconds=0.0, threads=found))
    return found


def monitor_of(recipe: Recipe, judge: Judge) -> Monitor:
    """Return the monitor of a recipe for what a judge measures."""
    return Monitor(recipe.stopping, recipe.budget, judge.metrics, recipe.remedies, recipe.game, stages_of(recipe))


def note_environment(training: Training) -> None:
    """Write down what the run computes with, and say what has changed since it began."""
    before = training.folder.read_environment()
    now = environment_of(training.device, training.precision)
    if not hasattr(training.task, "precision"):  # it computes in what it likes, whatever the hardware is faster in
        del now["precision"]
    changed = [f"{name} {before[name]} → {value}" for name, value in now.items() if before.get(name, value) != value]
    if changed:
        text = f"resumed under {'; '.join(changed)}: from here on not bit for bit the uninterrupted run"
        training.folder.log_event(0, 0.0, "environment changed", text)
        training.observer.message(f"This run is {text}.")
    training.folder.write_environment(now)


def note_metrics(folder: RunFolder, judge: Judge) -> None:
    """Write down what the judge finds, for whoever reads the run without its task."""
    data = folder.read_data()
    if data is not None and data.metrics != tuple(judge.metrics):
        folder.write_data(msgspec.structs.replace(data, metrics=tuple(judge.metrics)))


def note_encoder(training: Training, judge: Judge) -> None:
    """Keep the evaluation encoder, so that a resume judges by the very same; say where other images taught it."""
    features = getattr(judge, "features", None)  # a judge of somebody's own may have none
    taught = getattr(features, "taught", None)
    folder = training.folder
    data = folder.read_data()
    if taught is None or data is None:
        return
    kept = None
    with contextlib.suppress(OSError):
        kept = read_bytes(folder.encoder, len(taught.data))
    if kept != taught.data:
        write_bytes(folder.encoder, taught.data)  # first: what the record speaks of is there
    if data.encoder == taught.record:
        return
    folder.write_data(msgspec.structs.replace(data, encoder=taught.record))
    if text := origin_of(taught.record):
        training.observer.message(text)


def note_groups(training: Training) -> None:
    """Keep which group each image is in, so that a resume has the very same; say where they are not what they were."""
    groups = getattr(training.task, "groups", None)  # images alone have them
    folder = training.folder
    data = folder.read_data()
    if groups is None or data is None or not groups.is_new:
        return
    if data.group_counts and groups.counts != data.group_counts:
        text = "groups.safetensors was damaged or gone, and the images are in other groups now"
        folder.log_event(0, 0.0, "environment changed", text)
        training.observer.message(f"{text[:1].upper()}{text[1:]}: this run is no longer what it would have been.")
    write_bytes(folder.groups, groups.packed())
    folder.write_data(msgspec.structs.replace(data, group_counts=groups.counts, group_classes=groups.classes))


def origin_of(record: EncoderRecord) -> str:
    """Say what an encoder has learned from other images than those that are to teach it; empty where nothing."""
    if not record.is_reused and record.started_from:
        return (
            "The evaluation encoder began with what another one of the cache had learned from most of these images, so "
            f"that {percent(STARTED_SHARE)} of the steps were enough."
        )
    if not record.is_reused:
        return ""
    others = record.num_taught - record.num_shared
    text = (
        f"The evaluation encoder is one of the cache: {record.num_shared:,} of these {record.num_train:,} training "
        "images have taught it"
    )
    if others:
        text += f", and {others:,} that are not among them"
    return f"{text}; none that is held out."


def judge_baselines(training: Training, judge: Judge, stage: Stage) -> None:
    """Judge floor, rivals and ceiling under the training's protocol, unless that was done before."""

    def failed(text: str) -> None:
        training.folder.log_event(0, 0.0, "baseline failed", text)
        training.observer.message(f"A baseline could not be scored: {text}")

    def begin() -> None:
        stage("scoring the baselines", 0.0)

    rivals_once(training.folder, training.task, judge, training.recipe.evaluation.timeout, failed, begin)


def end(training: Training, monitor: Monitor, outcome: Outcome) -> None:
    """Select and test the best generator, and write state, model card and report."""
    folder, state, stop = training.folder, outcome.state, outcome.stop
    is_final = stop.reason != "interrupted"

    def event(kind: EventKind, text: str) -> None:
        folder.log_event(state.samples, state.seconds, kind, text, state.attempt)

    def load(path: Path) -> nn.Module:
        return loaded(path, training.task)

    def best() -> tuple[nn.Module, Score] | None:
        path = readable(folder.best)
        score = score_in(path)
        return None if score is None else (load(path), score)

    timeout = training.recipe.evaluation.timeout
    with at_training(folder, training.observer.stage, is_after=True) as stage:
        ending = Ending(folder, training.task, monitor, load, timeout, event, stage)
        found = conclude(ending, best, is_final=is_final)
    message = " ".join([stop.message, *found.failures])
    run_state = RunState(
        status="finished" if is_final else "stopped",
        has_saved=folder.has_saved,
        tested_before=None if found.test is not None else folder.read_state().tested_before,
        samples=state.samples,
        spent=state.spent,
        seconds=state.seconds,
        stop_reason=stop.reason,
        message=message,
        best=score_in(readable(folder.best)),
        test=found.test,
        rivals=found.rivals,
        selection=found.selection,
        not_selected=found.not_selected,
    )
    if run_state.best is not None:
        write_bytes(readable(folder.best) / "README.md", model_card(folder, run_state).encode())
    folder.write_state(run_state)
    training.observer.stage("writing the report", 0.0)
    write_report(folder)


def loaded(path: Path, task: Task) -> nn.Module:
    """Load the generator of a folder such as `best/` into a fresh network on the task's device."""
    with torch.random.fork_rng():
        generator = task.players().generator
    load_weights(path, generator)
    return generator.requires_grad_(False).eval()


def fail(folder: RunFolder, error: Exception) -> None:
    """Write down by what a training was ended, as far as the disk allows."""
    with contextlib.suppress(OSError, UserError):  # a full disk may be what ended it
        reason = f"{type(error).__name__}: {error}"
        if isinstance(error, OSError):
            reason = f"{error.filename or folder.path}: {what_failed(error)}"
        folder.write_state(folder.next_state(status="failed", message=reason))
        folder.log_event(0, 0.0, "failed", reason)  # at no place of the training: it says nothing of a position
    with contextlib.suppress(Exception):  # what ended the training is what is to be reported
        write_report(folder)


# The run and its data


@contextlib.contextmanager
def new_run(
    out: str | Path | None,
    recipe: Recipe,
    data: DataRecord,
    weights: dict[str, Tensor] | None = None,
    examples: bytes | None = None,
) -> Iterator[RunFolder]:
    """Begin a run in `out`, or in the next free folder, and hold it while entered; raises UserError.

    `weights` and `examples` are as in `RunFolder.begin`.
    """
    missing: list[Path] = []
    with contextlib.ExitStack() as stack:
        folder = None
        while folder is None:
            path = Path(out) if out is not None else new_path(Path("runs"), run_name(recipe))
            missing = [place for place in (path, *path.parents) if not place.exists()]
            try:
                folder = stack.enter_context(RunFolder.begin(path, recipe, data, weights, examples))
            except UserError:
                if out is not None or path == new_path(Path("runs"), run_name(recipe)):
                    raise  # else another training has taken it meanwhile
        try:
            yield folder
        except UserError:
            if not RunFolder.is_run(folder.path):  # it was taken back
                for place in missing:
                    with contextlib.suppress(OSError):
                        place.rmdir()
            raise


def with_source(recipe: Recipe, source: str | Path) -> Recipe:
    """Return a recipe with another source; raises UserError where its name is not valid UTF-8."""
    if (name := writable_text(str(source))) != str(source):
        raise UserError(f'source "{name}"', "its name is not valid UTF-8", "Rename it, then try again")
    return dataclasses.replace(recipe, data=dataclasses.replace(recipe.data, source=str(source)))


def from_its_place(folder: RunFolder, recipe: Recipe, data: DataRecord, source: str | Path | None) -> Recipe:
    """Return a recipe whose source is where it is now, else where it lay when the run began.

    Its name may be relative to another folder. Raises UserError where it is not there any more.
    """
    if source is not None:
        return with_source(recipe, source)
    if not data.path:
        return recipe
    if Path(data.path).exists():
        return with_source(recipe, data.path)
    if Path(recipe.data.source).expanduser().exists():
        return recipe
    problem = f"the {data.noun} of this run are not there any more"
    remedy = "Put them back, or say where they are now"
    raise UserError(data.path, problem, remedy, Command("resume", folder.path, source="PATH"))


def placed_at(data: DataRecord, source: str) -> DataRecord:
    """Return what a run wrote down of its data, with another place of the same data."""
    path = None
    if data.path is not None:
        path = writable_text(str(Path(source).expanduser().resolve()))
    return msgspec.structs.replace(data, source=source, path=path)
