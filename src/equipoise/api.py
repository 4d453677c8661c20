"""From Python: `run = equipoise.train(source="photos/", budget="10m"); run.best.sample(64)`."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor, nn

from equipoise import tasks
from equipoise.against import (
    Evaluation,
    device_of,
    evaluated_own,
    evaluated_run,
    evaluated_samples,
    reading_facts,
)
from equipoise.budgets import parsed_budget, refuse_short_budget
from equipoise.changed import changed_data, changed_of_task, is_as_begun
from equipoise.data import changes
from equipoise.data.audit.check import Check, check
from equipoise.data.changes import Listed
from equipoise.data.given import refuse_no_place
from equipoise.errors import Option, UserError
from equipoise.evaluation.choosing import SplitName, checked_split
from equipoise.game.losses import Loss
from equipoise.host.device import chosen_device, chosen_precision, threads_of
from equipoise.host.stages import interruptible, preparing
from equipoise.loop import Observer, Progress, refuse_impossible_update
from equipoise.recipe import (
    FeaturesName,
    PolicyName,
    Recipe,
    RemedyPolicy,
    listed_settings,
    task_name,
    with_settings,
)
from equipoise.recipes import Facts, RecipeName, note_of_task, recipe_for
from equipoise.report.report import write_missing_report
from equipoise.runs import rules
from equipoise.runs.candidates import score_in
from equipoise.runs.folder import RunFolder, new_path, run_name
from equipoise.runs.missing_best import refuse_without_best
from equipoise.runs.resume_rules import adopt, given_options, keeping_given, recipe_to_resume, with_given
from equipoise.runs.start_rules import recipe_to_start, refuse_frozen, refuse_with_recipe
from equipoise.setup import Training, fail, from_its_place, loss_of, new_run, placed_at, run_training, with_source
from equipoise.sizes import typed_size
from equipoise.starting import (
    Start,
    fitted,
    listed,
    listed_anew,
    place_of,
    read_start,
    refuse_other_networks,
    remember,
    told_lost,
)
from equipoise.storage.checkpoints import load_weights
from equipoise.storage.files import readable
from equipoise.storage.records import DataRecord, RunState, Score
from equipoise.tasks.base import Model, Task
from equipoise.tasks.contract import refuse_broken

NUM_READS = 9  # attempts to read a best generator that a training is replacing


class Silent:
    """Shows nothing."""

    def progress(self, progress: Progress) -> None:
        """Show nothing."""

    def stage(self, text: str, share: float) -> None:
        """Show nothing."""

    def message(self, text: str) -> None:
        """Show nothing."""


SILENT = Silent()


@dataclass(frozen=True)
class Best:
    """The best generator of a run by validation; `generator` is an ordinary module in evaluation mode."""

    generator: nn.Module
    score: Score
    model: Model

    def sample(self, num: int, seed: int = 0, label: str | None = None) -> Any:
        """Draw samples; the same seed draws the same ones.

        Args:
            num: how many.
            seed: of the latents.
            label: a class of a conditional generator, or labels ("glasses, smiling"); of a generator without classes, a
                category of its code ("1" is the first); without it, as in the data.

        Returns:
            For images a tensor `[num, C, H, W]` in [-1, 1], for points `[num, 2]`; for a task whose outputs differ in
            shape, a list.

        Raises:
            UserError: for an unknown label, and where the generator needs an input (then use `apply`).

        Example:
            >>> import equipoise as eq
            >>> run = eq.train("ring", budget="2000", out=FOLDER)
            >>> run.best.sample(5).shape
            torch.Size([5, 2])
        """
        return joined(list(self.batches(num, seed, label)))

    def batches(self, num: int, seed: int = 0, label: str | None = None) -> Iterator[Any]:
        """Yield what `sample` returns in parts, for more than fits into memory at once; raises UserError as it does."""
        if num < 1:
            raise UserError(Option("num", num), "ask for at least 1", Option("num", 64))
        yield from self.model.samples(self.generator, num, seed, label)

    def apply(self, source: str | Path) -> Iterator[tuple[str, Any]]:
        """Yield (name, output) for a file, or for each file of a folder; raises UserError where there is no input."""
        refuse_no_place(source)
        yield from self.model.applied(self.generator, Path(source))


@dataclass(frozen=True)
class Run:
    """A training on disk: its recipe, its state, and its best generator."""

    folder: RunFolder
    task: Task | None = None  # where it was defined in Python

    @property
    def path(self) -> Path:
        """The run's folder."""
        return self.folder.path

    @property
    def report(self) -> Path:
        """The report's path; it exists once the training has ended."""
        return self.folder.report

    @cached_property
    def recipe(self) -> Recipe:
        """The recipe as it was trained."""
        return self.folder.recipe()

    @property
    def state(self) -> RunState:
        """Status, samples, seconds, why it stopped, and the scores of the best generator."""
        return self.folder.read_state()

    @cached_property
    def best(self) -> Best:
        """The best generator so far, loaded on the CPU; raises UserError before the first score."""
        rules.refuse_custom_loop(self.folder)
        for _ in range(NUM_READS):
            before = self._best_folder()
            try:
                found = self._loaded()
            except (OSError, UserError):
                if self._best_folder() == before:
                    raise
            else:
                if self._best_folder() == before:
                    return found
        raise UserError(self.folder.best, "was replaced again and again while it was read", "Try again")

    def _best_folder(self) -> tuple[int, int] | None:
        """Return which folder now is `best/`: a training may put a better one in its place while it is read."""
        with contextlib.suppress(OSError):
            found = readable(self.folder.best).stat()
            return found.st_ino, found.st_ctime_ns
        return None

    def _loaded(self) -> Best:
        refuse_without_best(self.folder)
        path = readable(self.folder.best)
        model = self._model()
        with torch.random.fork_rng():  # weights are drawn before they are read: the caller's stream stays as it is
            generator = model.network()
        load_weights(path, generator)
        return Best(generator.requires_grad_(False).eval(), score_in(path) or Score(samples=0, seconds=0.0), model)

    def _model(self) -> Model:
        if self.task is not None:
            return self.task.model()
        with reading_facts(self.folder):
            return tasks.model_of(self.recipe, self.folder.data())


def train(
    source: str | Path | None = None,
    *,
    recipe: RecipeName | Recipe | None = None,
    task: str | Task | None = None,
    loss: Loss | None = None,
    size: int | tuple[int, int] | str | None = None,
    budget: str | int | None = None,
    seed: int | None = None,
    out: str | Path | None = None,
    device: str | None = None,
    settings: Sequence[str] = (),
    start_from: str | Path | None = None,
    observer: Observer = SILENT,
) -> Run:
    """Train a GAN until the budget is spent, or more training no longer pays, and return the finished run.

    Args:
        source: a folder, `.zip`, `.tar`, `.parquet`, `.npz` or `.csv`, `hub:NAME`, or something embedded (`mnist`,
            `ring`, `grid`, `spiral`); None for the recipe's own, which is `mnist` unless it says otherwise.
        recipe: the name of a recipe, or a `Recipe` of your own; None for that of the run to start from, else for
            "photos" where images are in colour, of 32 to 64 pixels a side, and a CPU trains, and "modern" elsewhere.
        task: "images", "points" or "super-resolution"; or an object with the methods of `equipoise.tasks.base.Task`,
            which brings its own data and loss, and computes where its networks are.
        loss: a loss pair of your own, in place of the recipe's.
        size: pixels a side (64), or width and height ("40x30" or (40, 30)), 8 to 1024; None for what the images have.
        budget: a time such as "10m", or a number of samples such as "200k".
        seed: of all random draws.
        out: the folder of the run; None for a new one under `runs/`.
        device: "auto", "cpu", "mps", "cuda" or "cuda:N".
        settings: fields of the recipe, such as "game.penalty.gamma=0.5".
        start_from: another run, with whose recipe and last weights to begin, as far as they fit, in place of random
            ones, as where images were added; it is only read. Optimizers, evaluation and budget begin anew.
        observer: is shown the progress, once a second.

    Returns:
        The run, with its best generator and its report.

    Raises:
        UserError: for a mistake of the caller's. Nothing of theirs is overwritten.
        StorageError: where the disk fails; the message says what is safe, and how to continue.

    Example:
        >>> import equipoise as eq
        >>> run = eq.train("ring", budget="2000", out=FOLDER, settings=["evaluation.num_samples=200"])
        >>> run.state.status
        'finished'
    """
    options = listed_settings(settings)
    options += [f"task.size={typed_size(size)}"] if size is not None else []
    options += [f"seed={seed}"] if seed is not None else []
    options += [f"device={device}"] if device is not None else []
    refuse_no_place(source)
    refuse_no_place(start_from, "start_from")
    kind = tasks.task_settings(task, str(source))
    start = None
    base = recipe
    if start_from is not None:
        refuse_with_recipe(Path(start_from), recipe)
        start = read_start(Path(start_from))
        base = recipe_to_start(start.path, start.recipe, kind, options)
        source = place_of(start) if source is None else source
        if task is None:
            tasks.refuse_without_python(base.task)
    first = with_options(recipe_for(base, Facts(), kind), source, budget, options, loss)
    refuse_frozen(first, start_from)
    chosen = chosen_device(first.device)
    # Before the data are read, which may take long.
    rules.refuse_taken(Path(out) if out is not None else new_path(Path("runs"), run_name(first)))
    if task is not None and not isinstance(task, str):
        refuse_broken(task, first)
        device_of_task = device_of(task)
        refuse_ignored(first, loss, device_of_task)
        named = first if source is not None else with_source(first, task.describe().source)
        if start is not None:
            refuse_other_networks(start, named, task.players())
        beginning = Beginning(named, task.describe(), start)
        return begun(out, beginning, lambda stage: task, device_of_task, observer)
    loss_of(first, loss)
    opened = tasks.opened(first, chosen, observer.stage)
    final = opened.settled(with_options(recipe_for(base, opened.facts, kind), source, budget, options, loss))
    if start is not None:
        start = fitted(start, final, opened)
    observer.message(opened.summary(final))
    if base is None and final.name != first.name:
        observer.message(f"The recipe is {final.name}, as these images are in colour; --recipe takes another one.")
    if isinstance(base, str) and (note := note_of_task(final)):
        observer.message(note)
    make = partial(opened.task, final, loss_of(final, loss), chosen_precision(final, chosen))
    beginning = Beginning(final, opened.describe(final), start, listed(opened, start))
    return begun(out, beginning, make, chosen, observer)


def resume(
    path: str | Path,
    *,
    budget: str | int | None = None,
    policy: PolicyName | None = None,
    remedies: RemedyPolicy | None = None,
    source: str | Path | None = None,
    task: Task | None = None,
    loss: Loss | None = None,
    observer: Observer = SILENT,
) -> Run:
    """Continue a run exactly where it was, bit for bit on the same machine.

    Args:
        path: the run's folder.
        budget: a new total budget; a finished run needs a larger one.
        policy: the stopping policy from now on.
        remedies: what is done where the game goes wrong from now on: "off", "suggest" or "act".
        source: where the same data are now, if they were moved.
        task: the task of `train(task=…)`, where it was defined in Python.
        loss: the loss of `train(loss=…)`, likewise.
        observer: is shown the progress, once a second.

    Returns:
        The run.

    Raises:
        UserError: where the run cannot be continued so, RunBusyError where it is being trained.

    Example:
        >>> import equipoise as eq
        >>> run = eq.train("ring", budget="2000", out=FOLDER, settings=["evaluation.num_samples=200"])
        >>> eq.resume(run.path, budget="4000").state.samples >= 4000
        True
    """
    refuse_no_place(path, "path")
    refuse_no_place(source)
    folder = RunFolder.open(Path(path))
    write_missing_report(folder)
    given = given_options(budget, policy, source, remedies)
    recipe = recipe_to_resume(folder, budget, policy, source, remedies)
    refuse_of_another(recipe, task, loss)
    if task is not None and source is not None:
        raise UserError(Option("source"), "a task from Python brings its own data", "Leave it out")
    data = folder.data()
    chosen = chosen_device(recipe.device)
    with threads_of(folder.read_environment().get("threads"), chosen), interruptible(folder):
        made = task
        examples = None
        error = None
        if task is not None:
            chosen = device_of(task)
            if task.describe().digest != data.digest:
                error = changed_of_task(recipe, data)
        else:
            with keeping_given(folder, given):
                placed = from_its_place(folder, recipe, data, source)
            opened = tasks.opened(placed, chosen, observer.stage)
            recipe = placed if source is not None else recipe
            if opened.digest != data.digest and is_as_begun(folder, placed, data, opened):
                observer.message(f"The {data.noun} are the same ones, by other names or in another order.")
                opened = opened.as_begun(data)
            if opened.digest != data.digest:
                error = changed_data(folder, placed, data, opened, loss, is_moved=source is not None)
            else:
                examples = listed_anew(folder, opened, data)
                if examples is not None and (lost := told_lost(folder, data)):
                    observer.message(lost)
                observer.message(opened.summary(recipe))
                if data.encoder is not None:  # else it was killed before it noted one, and takes it as if anew
                    with reading_facts(folder):
                        opened = opened.judged_like(data, folder.encoder)
                opened = opened.grouped_like(data, folder.groups)
                with folder.lock(), preparing(folder, recipe, observer.stage, observer.message) as stage:
                    made = opened.task(recipe, loss_of(recipe, loss), chosen_precision(recipe, chosen), stage)
        if error is not None:
            raise with_given(error, folder, given)
        assert made is not None
        try:
            with folder.lock():
                for text in adopt(folder, recipe):
                    observer.message(text)
                remember(folder, examples)
                if source is not None:
                    folder.write_data(placed_at(data, recipe.data.source))
                precision = chosen_precision(recipe, chosen)
                run_training(Training(folder, recipe, made, chosen, precision, observer))
        except OSError as error:
            raise rules.stopped_by(folder, error) from error
    return Run(folder, task)


def load(path: str | Path, *, task: Task | None = None) -> Run:
    """Open a run's folder for reading; raises UserError if it is not one.

    Args:
        path: the run's folder.
        task: the task of `train(task=…)`, where it was defined in Python.

    Example:
        >>> import equipoise as eq
        >>> run = eq.train("ring", budget="2000", out=FOLDER, settings=["evaluation.num_samples=200"])
        >>> eq.load(run.path).best.generator.training
        False
    """
    refuse_no_place(path, "path")
    folder = RunFolder.open(Path(path))
    if task is not None:
        refuse_of_another(folder.recipe(), task, None)
    return Run(folder, task)


def evaluate(
    target: str | Path,
    against: str | Path,
    *,
    task: str | Task | None = None,
    split: SplitName | None = None,
    size: int | tuple[int, int] | str | None = None,
    fit: str | None = None,
    num: int | None = None,
    features: FeaturesName = "auto",
    device: str = "auto",
    observer: Observer = SILENT,
) -> Evaluation:
    """Score a run's best generator, or generated samples, against a source of real ones.

    All of both sides are compared. A run is never compared with what it has seen: of its own data the held-out test
    split is taken, of other data all that it was neither trained on nor chosen by.

    Args:
        target: a run's folder, or a source of generated samples.
        against: a source of real ones.
        task: what the samples are, where `target` is not a run: "images" (if left out) or "points"; of a run of
            `train(task=…)` the same task, whose own test split it is then scored against.
        split: "test", "validation" or "train" of `against`, as a training would make it, in place of the above.
        size: pixels a side, or width and height ("40x30"), that generated and real images are brought to; None for
            what the real ones have.
        fit: how images of another shape are fitted: "crop" (if left out), "pad" or "stretch".
        num: how many are drawn from a run; None for what the judge takes.
        features: of images: "auto", "encoder", "efficientnet", "inception" or "dinov2".
        device: "auto", "cpu", "mps", "cuda" or "cuda:N".
        observer: is shown the stages.

    Returns:
        The metrics with their protocol, and warnings where the comparison is doubtful.

    Raises:
        UserError: where either cannot be read, or they do not fit together.

    Example:
        >>> import equipoise as eq
        >>> run = eq.train("ring", budget="2000", out=FOLDER, settings=["evaluation.num_samples=200"])
        >>> found = eq.evaluate(run.path, "ring", num=200)
        >>> sorted(found.measured.values)[:2]
        ['coverage', 'good']
    """
    refuse_no_place(target, "target")
    refuse_no_place(against, "against")
    checked_split(split)
    asked = [f"evaluation.features={features}", f"device={device}"]
    chosen = chosen_device(with_settings(Recipe(), asked).device)
    fitting = {"size": size, "fit": fit}
    given = [(name, value) for name, value in fitting.items() if value is not None]
    if not RunFolder.is_run(Path(target)):
        if num is not None:
            problem = "it says how many a run draws; these are samples already, and all are used"
            raise UserError(Option("num", num), problem, "Leave it out")
        first = recipe_for("modern", Facts(), tasks.task_settings(task, str(against)))
        asked += [f"task.{name}={typed_size(value)}" for name, value in given]
        recipe = with_settings(with_source(first, against), asked)
        return evaluated_samples(target, recipe, split, chosen, observer)
    for name, value in given:
        problem = "a run's images have a size and a fit of their own"
        raise UserError(Option(name, value), problem, "Leave it out, or draw samples and evaluate their folder")
    run = load(target, task=None if isinstance(task, str) else task)
    rules.refuse_custom_loop(run.folder)
    if run.task is not None:
        return evaluated_own(run.task, run.best.generator, against, split, num, observer)
    recipe = with_settings(with_source(run.recipe, against), asked)
    return evaluated_run(run.folder, recipe, run.best.generator, split, num, chosen, observer)


def check_data(
    source: str | Path,
    recipe: RecipeName | Recipe | None = None,
    settings: Sequence[str] = (),
    observer: Observer = SILENT,
) -> Check:
    """Examine every image of a source as a training would, which writes nothing; raises UserError if there is none."""
    from equipoise.tasks.images import ImageSource, largest

    refuse_no_place(source)
    options = listed_settings(settings)
    first = with_options(recipe_for(recipe, Facts(), None), source, None, options, None)
    device = chosen_device(first.device)
    images = tasks.examined(first.task, Option("recipe"))

    def final(pool: Any) -> Recipe:
        opened = ImageSource(pool, device)
        return opened.settled(with_options(recipe_for(recipe, opened.facts, None), source, None, options, None))

    found = check(first.data, images, largest(device), final, first, observer.stage)
    named = recipe.name if isinstance(recipe, Recipe) else recipe
    return dataclasses.replace(found, named=named)


@dataclass(frozen=True)
class Beginning:
    """What a new run writes down at once."""

    recipe: Recipe
    data: DataRecord
    start: Start | None = None  # the run whose weights it begins with
    examples: Listed | None = None  # None: a task from Python, whose examples are not known


def begun(
    out: str | Path | None,
    beginning: Beginning,
    make: Callable[[Callable[[str, float], None]], Task],
    device: torch.device,
    observer: Observer,
) -> Run:
    """Begin a run in `out`, or in the next free folder, and train; only now, so that a mistake leaves no folder.

    The task is made within, as its evaluation encoder may take minutes to train: meanwhile there is a run to show, and
    one to resume. A mistake that only shows there takes the folder back.
    """
    recipe = beginning.recipe
    data = beginning.data
    weights = None
    examples = None
    if beginning.examples is not None:
        examples = changes.packed(beginning.examples)
    if beginning.start is not None:
        data = msgspec.structs.replace(data, start=beginning.start.record)
        weights = beginning.start.weights
    with contextlib.ExitStack() as stack:
        stack.enter_context(threads_of(recipe.threads, device))
        folder = stack.enter_context(new_run(out, recipe, data, weights, examples))
        stack.enter_context(interruptible(folder))
        observer.message(f"The run's folder: {folder.path}")
        if beginning.start is not None:
            observer.message(beginning.start.told)
            for damage in beginning.start.damages:
                folder.log_event(0, 0.0, "damaged checkpoint", damage)
        try:
            with preparing(folder, recipe, observer.stage, observer.message) as stage:
                task = make(stage)
                refuse_impossible_update(task, recipe)
        except UserError:
            folder.take_back()
            raise
        except Exception as error:
            fail(folder, error)
            raise
        run_training(Training(folder, recipe, task, device, chosen_precision(recipe, device), observer))
        return Run(folder, task if tasks.formats_of(recipe.task).needs_python else None)


def joined(batches: list[Any]) -> Any:
    """Return batches of outputs as one: tensors joined, lists one after the other."""
    if all(isinstance(batch, Tensor) for batch in batches):
        return torch.cat(batches)
    return [output for batch in batches for output in batch]


def refuse_ignored(recipe: Recipe, loss: Loss | None, device: torch.device) -> None:
    """Raise UserError for what a task from Python, which computes on this device, would take no notice of."""
    if loss is not None:
        raise UserError(Option("loss"), "a task from Python has its own", "Give the loss to the task, and leave it out")
    asked = chosen_device(recipe.device)
    if recipe.device != "auto" and (asked.type != device.type or asked.index not in (None, device.index)):
        problem = f"the task's networks are on {device}"
        raise UserError(Option("device", recipe.device), problem, "Build them there in players(), or leave it out")


def refuse_of_another(recipe: Recipe, task: Task | None, loss: Loss | None) -> None:
    """Raise UserError for a task or a loss from Python that this run was not begun with."""
    if task is not None and not tasks.formats_of(recipe.task).needs_python:
        problem = f"this run's task is {task_name(recipe.task)}, which its recipe names"
        raise UserError(Option("task"), problem, "Leave it out")
    if loss is not None and recipe.game.loss != "custom":
        problem = f"this run's loss is {recipe.game.loss}, which its recipe names"
        raise UserError(Option("loss"), problem, "Leave it out")


def with_options(
    recipe: Recipe, source: str | Path | None, budget: str | int | None, settings: list[str], loss: Loss | None
) -> Recipe:
    """Return a recipe with what the caller asks for besides; raises UserError for what is not allowed."""
    if source is not None:
        recipe = with_source(recipe, source)
    refuse_no_place(recipe.data.source)
    if budget is not None:
        recipe = dataclasses.replace(recipe, budget=parsed_budget(budget))
    of_loss = [] if loss is None else ["game.loss=custom"]
    recipe = with_settings(recipe, [*settings, *of_loss])
    if budget is not None:
        refuse_short_budget(recipe)
    return recipe
