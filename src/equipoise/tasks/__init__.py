"""Which file holds which task: the one place that knows them all; each is imported when it is asked for."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol, assert_never

from equipoise.errors import Command, Option, Part, UserError, listed, suggested
from equipoise.recipe import SHAPES, Custom, Images, Points, Recipe, SuperResolution, TaskSettings, task_name
from equipoise.tasks.formats import Formats

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import torch

    from equipoise.data.splits import Splits
    from equipoise.game.losses import Loss
    from equipoise.recipes import Facts
    from equipoise.storage.records import DataRecord
    from equipoise.tasks.base import Model, Players, SourceTask, Task
    from equipoise.tasks.sides import Caution, Side

NAMES = ("images", "points", "super-resolution")
EMBEDDED = ("mnist", *SHAPES)  # sources that need no file


class Source(Protocol):
    """A source that was read and is not yet a task: what a recipe must know before it is final."""

    @property
    def facts(self) -> "Facts":
        """What a recipe is made from."""
        ...

    @property
    def digest(self) -> str:
        """The digest of the data and their splits."""
        ...

    def describe(self, recipe: Recipe) -> "DataRecord":
        """Return what the run of a recipe writes down of the data."""
        ...

    @property
    def name(self) -> str:
        """The source, as it was given."""
        ...

    @property
    def noun(self) -> str:
        """What one calls the examples."""
        ...

    @property
    def splits(self) -> "Splits":
        """How the examples are split, as a training would do it."""
        ...

    @property
    def hashes(self) -> "np.ndarray":
        """The hashes uint64 [N] of the examples' contents."""
        ...

    def name_hashes(self) -> "np.ndarray | None":
        """Return the hashes uint64 [N] of the names of the examples' files, in their order; None where they have none.

        Raises UserError where the source has changed since it was read.
        """
        ...

    def among(self, contents: "np.ndarray", settings: TaskSettings) -> "np.ndarray":
        """Return which examples, bool [N], are among contents uint64 that these settings of its task have made.

        Raises UserError where the source cannot be read with them.
        """
        ...

    def as_begun(self, data: "DataRecord") -> "Source":
        """Return the same source under the digest of a run that began with the same contents, by names of their own."""
        ...

    def players(self, recipe: Recipe) -> "Players":
        """Return both networks of the final recipe for these data, with weights that are not to be used."""
        ...

    def judged_like(self, data: "DataRecord", weights: "Path") -> "Source":
        """Return the same source, judged by the features of a run on these data as long as they are to be had.

        `weights` is where the run keeps its encoder. Raises msgspec.ValidationError for a damaged record.
        """
        ...

    def grouped_like(self, data: "DataRecord", path: "Path") -> "Source":
        """Return the same source in the groups of a run, kept in the file at `path`, and drawn by its classes.

        Where the source holds other examples than the run's, its own classes are not those that a generator knows.
        """
        ...

    def most_compared(self, split: str) -> int:
        """Return how many real examples of a split, or of "all", an evaluation takes at most."""
        ...

    def side(self, indices: "np.ndarray", split: str | None, num_seen: int) -> "Side":
        """Return what one side of an evaluation is made of, where these examples of the source are compared."""
        ...

    def fitting(self) -> dict[str, Any]:
        """Return what all examples were brought to, as plain values for the protocol."""
        ...

    def on_own_scale(self, recipe: Recipe) -> "Source":
        """Return the examples, read by a recipe of others, on a scale of their own where that one does not fit them."""
        ...

    def hint(self) -> str:
        """Say what may explain that there are so few examples; empty where nothing does."""
        ...

    def cautions(self, indices: "np.ndarray", generated: Any, drawn: Any) -> "list[Caution]":
        """Return what is doubtful about comparing these real examples with a source, or with what a run has drawn."""
        ...

    def fitted(self, recipe: Recipe) -> Recipe:
        """Return the recipe with what was found in the data."""
        ...

    def settled(self, recipe: Recipe) -> Recipe:
        """Do what `fitted` does; raises UserError where recipe and data do not fit."""
        ...

    def everything(self) -> Iterator[Any]:
        """Yield all examples in batches, of whatever split."""
        ...

    def summary(self, recipe: Recipe) -> str:
        """Say in a line what was found."""
        ...

    def task(self, recipe: Recipe, loss: "Loss", precision: "torch.dtype", stage: Any) -> "SourceTask":
        """Return the task of the final recipe."""
        ...


def task_settings(task: "str | Task | None", source: str | None) -> TaskSettings | None:
    """Return the settings of a task: by its name, of one from Python, or as the source implies.

    None stands for what a recipe has by default. Raises UserError for an unknown name.
    """
    if task is None:
        return Points() if source in SHAPES else None
    if not isinstance(task, str):
        return Custom(name=type(task).__name__)
    match task:
        case "images":
            return Images()
        case "points":
            return Points()
        case "super-resolution":
            return SuperResolution()
    raise UserError(Option("task", task), f"allowed are {listed(NAMES)}", *suggested(task, NAMES))


def examined(settings: TaskSettings, subject: Part) -> Images:
    """Return the settings of images, which `data check` examines; raises UserError for those of another task."""
    if not isinstance(settings, Images):
        problem = f"{task_name(settings)}, which need no check; images are checked"
        raise UserError(subject, problem, Command("data check", "photos/"))
    return settings


def opened(recipe: Recipe, device: "torch.device", stage: Any) -> Source:
    """Read a recipe's source; raises UserError where there is nothing to learn from, or of another kind."""
    if recipe.data.source in SHAPES and isinstance(recipe.task, Images | SuperResolution):
        name = task_name(recipe.task)
        raise UserError(Option("task", name), f"{recipe.data.source} is a source of points", Option("task", "points"))
    match recipe.task:
        case Images():
            from equipoise.tasks import images

            return images.opened(recipe, device, stage)
        case Points():
            from equipoise.tasks import points

            return points.opened(recipe, device)
        case SuperResolution():
            from equipoise.tasks import super_resolution

            return super_resolution.opened(recipe, device, stage)
        case Custom(name=name):
            raise _needs_python(name)
        case _ as unreachable:
            assert_never(unreachable)


def model_of(recipe: Recipe, data: "DataRecord") -> "Model":
    """Return what can be done with the generator of a run, from what the run wrote down alone."""
    match recipe.task:
        case Images():
            from equipoise.tasks import image_model

            return image_model.model_of(recipe, data)
        case Points():
            from equipoise.tasks import points

            return points.model_of(recipe, data)
        case SuperResolution():
            from equipoise.tasks import super_resolution

            return super_resolution.model_of(recipe, data)
        case Custom(name=name):
            raise _needs_python(name)
        case _ as unreachable:
            assert_never(unreachable)


def fitting_fields(settings: TaskSettings) -> tuple[str, ...]:
    """Return the settings of a task that decide what its examples become, and so which of them are held out."""
    match settings:
        case Images():
            return ("size", "channels", "fit", "background", "black", "white")
        case SuperResolution():
            return ("scale",)
        case Points() | Custom():
            return ()
        case _ as unreachable:
            assert_never(unreachable)


def are_alike(one: TaskSettings, other: TaskSettings) -> bool:
    """Return whether two settings of a task make the same of its examples."""
    fields = fitting_fields(one)
    return type(one) is type(other) and all(getattr(one, field) == getattr(other, field) for field in fields)


def shaping_fields(settings: TaskSettings) -> tuple[str, ...]:
    """Return the settings that change some layers of a task's networks and leave the others as they are."""
    match settings:
        case Images():
            told = ("networks.conditional", "networks.condition", "networks.groups")
            codes = ("networks.categorical_codes", "networks.continuous_codes")
            return ("task.size", "task.channels", *told, *codes, "networks.pretrained")
        case Points() | SuperResolution() | Custom():
            return ()
        case _ as unreachable:
            assert_never(unreachable)


def formats_of(settings: TaskSettings) -> Formats:
    """Return what a task's outputs are written as; needs no torch."""
    from equipoise.tasks import formats

    match settings:
        case Images():
            return formats.IMAGES
        case Points():
            return formats.POINTS
        case SuperResolution():
            return formats.PICTURES
        case Custom():
            return formats.ANYTHING
        case _ as unreachable:
            assert_never(unreachable)


def refuse_without_pictures(settings: TaskSettings, run: "Path") -> None:
    """Raise UserError where a generator draws no pictures from latents, so that there is nothing to explore."""
    what = "`equipoise explore` looks into generators that draw pictures"
    match settings:
        case Images():
            return
        case Points():
            problem = f"{what}, and this one draws points; they show in the report, and as a table"
            raise UserError(run, problem, Command("sample", run, num=2500, out="points.csv"))
        case SuperResolution():
            problem = f"{what} out of nothing, and this one enlarges pictures that it is given"
            raise UserError(run, problem, Command("apply", run, "small.png", out="large.png"))
        case Custom(name=name):
            raise _needs_python(name)
        case _ as unreachable:
            assert_never(unreachable)


def refuse_without_python(settings: TaskSettings) -> None:
    """Raise UserError where a task is defined in Python, so that only Python can use it; needs no torch."""
    if isinstance(settings, Custom):
        raise _needs_python(settings.name)


def _needs_python(name: str) -> UserError:
    problem = "is defined in Python, which alone knows its data and networks"
    remedy = "In Python: equipoise.load(path, task=…), or resume(path, task=…), with the same task as in train(task=…)"
    return UserError(f"task {name}", problem, remedy)
