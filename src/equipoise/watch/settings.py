"""What of a recipe applies to a custom training loop, and in which folders a watch can begin or go on."""

import contextlib
import dataclasses
import platform
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from equipoise.budgets import parsed_budget
from equipoise.errors import Command, Option, Setting, UserError, listed, suggested
from equipoise.host.intervals import Intervals, measured_intervals
from equipoise.recipe import (
    Budget,
    LossName,
    PolicyName,
    Recipe,
    checked,
    listed_settings,
    to_dict,
    with_settings,
)
from equipoise.runs.folder import CUSTOM_LOOP, RunFolder
from equipoise.runs.rules import refuse_busy, refuse_taken
from equipoise.storage.records import DataRecord, Metric, deciding
from equipoise.watch.numbers import whole

if TYPE_CHECKING:
    from equipoise.watch.images import GivenImages

NO_BUDGET = Budget(samples=None, seconds=None)
AS_IF = Budget(samples=None, seconds=2000.0)  # for how often to evaluate where no budget says how long a run is
LABELS = {"kid": "KID", "fid": "FID"}
OF_IMAGES = (  # settings of how real images are read and split
    *("data.validation", "data.test", "task.black", "task.white"),
    *("task.size", "task.channels", "task.fit", "task.background"),
)
LOSS_NAMES = tuple(name for name in get_args(LossName) if name != "custom")


def refuse_incomplete(real: Any, latents: Any, generate: Any, metric: str | None) -> None:
    """Raise UserError where what belongs together was given in part."""
    if real is None and (latents is not None or generate is not None):
        raise UserError(Option("real"), "latents and generate are for evaluating images", "Give real images, too")
    if real is not None and latents is None:
        raise UserError(Option("latents"), "with real images, the size of one latent is needed", Option("latents", 100))
    if real is not None and metric not in (None, "kid"):
        raise UserError(
            Option("metric", metric), "by real images, KID decides", "Leave it out, or take scores yourself"
        )


def latent_shape(latents: Any) -> tuple[int, ...]:
    """Return the shape of one latent, from its size or shape; raises UserError for what is neither."""
    sides = latents.tolist() if getattr(latents, "shape", ()) else latents
    if not isinstance(sides, list | tuple):
        return (whole("latents", sides),)
    if not sides:
        raise UserError(Option("latents"), "an empty shape; give the size of one latent", Option("latents", 100))
    return tuple(whole("latents", side) for side in sides)


def folder_of(folder: Any) -> Path:
    """Return a run's folder as a path; raises UserError for what is none."""
    with contextlib.suppress(TypeError):
        path = Path(folder)
        if "\0" not in str(path):
            return path
    raise UserError(Option("folder", repr(folder)), "give the path of a folder", Command("Watch", "runs/mine"))


def recipe_of(
    loss: LossName | None,
    budget: str | int | None,
    policy: PolicyName,
    settings: Sequence[str],
    evaluate_every: int | None,
    log_every: int | None,
    seed: int,
    *,
    has_images: bool = False,
) -> Recipe:
    """Return the settings that apply to a custom loop as a recipe; the rest of it means nothing. Raises UserError."""
    _refuse_unknown("policy", policy, get_args(PolicyName))
    if loss is not None:
        _refuse_unknown("loss", loss, LOSS_NAMES)
    for setting in (settings := listed_settings(settings)):
        _refuse_inapplicable(setting.partition("=")[0].strip(), has_images=has_images)
    if policy == "discriminator-threshold" and loss is None:
        problem = "this policy needs to know what the logits mean"
        raise UserError(Option("policy", policy), problem, Option("loss", "non-saturating"))
    base = Recipe(name=CUSTOM_LOOP, seed=seed)
    if budget is not None:
        base = dataclasses.replace(base, budget=parsed_budget(budget))
    base = dataclasses.replace(
        base,
        game=dataclasses.replace(base.game, loss=loss or base.game.loss),
        evaluation=dataclasses.replace(base.evaluation, every=_whole("evaluate_every", evaluate_every)),
        saving=dataclasses.replace(base.saving, log_every=_whole("log_every", log_every)),
        stopping=dataclasses.replace(base.stopping, policy=policy),
    )
    recipe = checked(with_settings(checked(base), settings))
    if budget is None:
        return dataclasses.replace(recipe, budget=NO_BUDGET)
    return recipe


def recorded(recipe: Recipe, loss: LossName | None, *, has_images: bool) -> dict[str, Any]:
    """Return what of the recipe applies: the rest of it is the loop's own, and not known."""
    every = to_dict(recipe)
    values = {"name": recipe.name, "stopping": every["stopping"]}
    if has_images:
        values |= {"evaluation": every["evaluation"], "seed": recipe.seed}
        usual = to_dict(Recipe())
        values |= {name: every[name] for name in ("data", "task") if every[name] != usual[name]}
    if recipe.budget != NO_BUDGET:
        values["budget"] = every["budget"]
    if loss is not None:
        values["game"] = {"loss": loss}
    return values


def intervals_of(recipe: Recipe, speed: float | None, evaluation_seconds: float | None) -> Intervals:
    """Return how often to act: as asked for, else by what was measured, each None until it is known."""
    if speed is None:
        return Intervals(log_every=recipe.saving.log_every, evaluate_every=recipe.evaluation.every)
    paid = recipe
    if recipe.budget == NO_BUDGET:
        paid = dataclasses.replace(recipe, budget=AS_IF)
    found = measured_intervals(speed, evaluation_seconds or 0.0, paid, step=1)
    found = dataclasses.replace(found, save_every=None)
    if recipe.budget == NO_BUDGET:
        found = dataclasses.replace(found, horizon=None)
    if evaluation_seconds is None:
        found = dataclasses.replace(found, evaluation_seconds=float("nan"), evaluate_every=recipe.evaluation.every)
    return found


def environment() -> dict[str, Any]:
    """Return the versions of what is loaded."""
    from equipoise import __version__

    values = {"equipoise": __version__, "python": platform.python_version(), "platform": platform.platform()}
    for name in ("torch", "lightning", "keras"):
        if name in sys.modules:
            values[name] = str(getattr(sys.modules[name], "__version__", "unknown"))
    return values


@contextlib.contextmanager
def in_words_of_a_watch() -> Iterator[None]:
    """Give a mistake about a folder the remedies of a watch: another folder is its first argument."""
    try:
        yield
    except UserError as error:
        remedies = [_of_watch(part) for part in error.remedies]
        raise type(error)(error.subject, error.problem, *remedies) from None


def refuse_unfit(path: Path, metric: str, *, resume: bool) -> None:
    """Raise UserError where a watch can neither begin a run in this folder nor go on with the one in it."""
    if not RunFolder.is_run(path):
        refuse_taken(path)
        return
    run = RunFolder(path)
    elsewhere = Command("Watch", path.with_name(f"{path.name}-2"))
    if not run.is_custom_loop:
        raise UserError(path, "holds a run of equipoise train; a watch needs a folder of its own", elsewhere)
    refuse_busy(run, elsewhere)
    if not resume:
        raise UserError(path, "holds a run already", Command("Watch", path, resume=True), elsewhere)
    data = run.read_data()
    if data is not None and deciding(data.metrics).name != metric:
        before = deciding(data.metrics).name
        problem = f'this run was begun with "{before}" as what decides'
        raise UserError(path, problem, Command("Watch", path, resume=True, metric=before))


def data_of(path: Path, given: "GivenImages | None", real: Any, metric: str) -> DataRecord:
    """Return what a run writes down of what it is scored by."""
    if given is not None:
        from equipoise.watch.images import record_of

        return record_of(given, real)
    before = None
    if RunFolder.is_run(path):
        before = RunFolder(path).read_data()
    if before is not None:
        return before  # which may have learned that its scores come with errors
    label = LABELS.get(metric, "")
    metrics = (Metric(name=metric, label=label, decides=True, signed=metric == "kid"),)
    return DataRecord(source="", digest="", num_train=0, num_validation=0, num_test=0, noun="samples", metrics=metrics)


@contextlib.contextmanager
def opened(path: Path, recipe: Recipe, loss: LossName | None, data: DataRecord) -> Iterator[RunFolder]:
    """Make or open a run's folder, and hold it while entered."""
    values = recorded(recipe, loss, has_images=bool(data.digest))
    if not RunFolder.is_run(path):
        with RunFolder.begin(path, values, data) as run:
            yield run
        return
    run = RunFolder.open(path)
    with run.lock():
        run.tidy()
        run.write_recipe(values)
        run.write_data(data)
        yield run


def _refuse_inapplicable(field: str, *, has_images: bool) -> None:
    """Raise UserError for a setting that means nothing to a watch."""
    if field.startswith(("evaluation.", "stopping.")):
        return
    if field in OF_IMAGES and has_images:
        return
    if field in OF_IMAGES:
        raise UserError(Setting(field), "it is for real images, and none were given", "Give real and latents, too")
    problem = f"a watch has only settings of evaluation and stopping, and for real images {listed(OF_IMAGES)}"
    raise UserError(Setting(field), problem, Setting("stopping.patience.evaluations", 20))


def _whole(name: str, value: int | None) -> int | None:
    return None if value is None else whole(name, value)


def _of_watch(part: Any) -> Any:
    return Command("Watch", part.value) if isinstance(part, Option) and part.name == "out" else part


def _refuse_unknown(name: str, value: str, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise UserError(Option(name, value), f"allowed are {listed(allowed)}", *suggested(str(value), allowed))
