"""Starting a run from another one's weights: what is refused before torch is imported."""

from collections.abc import Sequence
from pathlib import Path

from equipoise.errors import Command, Option, Setting, UserError, together
from equipoise.recipe import Recipe, TaskSettings, task_name, with_settings
from equipoise.runs import rules
from equipoise.runs.compare import differences
from equipoise.runs.folder import RunFolder
from equipoise.storage.checkpoints import named
from equipoise.tasks import fitting_fields, formats_of, shaping_fields

HARMLESS = ("networks.dropout", "networks.frozen")  # settings of networks that leave all layers as they are


def run_to_start_from(path: Path) -> RunFolder:
    """Open a run whose weights another one can begin with; raises UserError where it has none, or none to go on from.

    It may be training: whole checkpoints are read, and nothing is written.
    """
    run = RunFolder.open(path)
    rules.refuse_custom_loop(run)
    recipe = run.recipe()
    again = Command("train", recipe.data.source)
    if run.read_state().stop_reason == "diverged":
        problem = "this run has diverged, and a training from its weights would begin where it broke down"
        raise UserError(Option("start_from", path), problem, "Train anew, with lower learning rates", again)
    if not named(run.checkpoints):
        problem = "this run has no checkpoint, so there are no weights to start from"
        raise UserError(Option("start_from", path), problem, "Wait for its first one, or train anew", again)
    return run


def refuse_with_recipe(path: Path, recipe: object) -> None:
    """Raise UserError where a recipe is given beside a run to start from."""
    if recipe is None:
        return
    problem = f"the recipe is that of {path}, whose networks are trained on"
    raise UserError(Option("recipe", getattr(recipe, "name", recipe)), problem, "Leave it out, and change settings")


def recipe_to_start(path: Path, begun: Recipe, task: TaskSettings | None, settings: Sequence[str]) -> Recipe:
    """Return the recipe of a run with other settings; raises UserError for those that its weights do not fit.

    `task` is what was asked for or the source implies. Settings that decide what an example becomes must stay where
    the networks depend on them as a whole.
    """
    if task is not None and task_name(task) != task_name(begun.task):
        problem = f"the run {path} is one of {task_name(begun.task)}"
        anew = Command("train", "SOURCE", task=task_name(task))
        raise UserError(Option("task", task_name(task)), problem, "Give a source of that kind, or train anew", anew)
    recipe = with_settings(begun, settings)
    changed = fitting_differences(begun, recipe)
    if changed and not shaping_fields(begun.task):
        raise misfit(path, changed, "what the networks take, and which examples are held out, would be others")
    return recipe


def refuse_frozen(recipe: Recipe, start_from: object) -> None:
    """Raise UserError for frozen stages that would be random, or that only a task from Python could freeze."""
    num = recipe.networks.frozen
    if not num:
        return
    subject = Setting("networks.frozen", num)
    without = Setting("networks.frozen", 0)
    if formats_of(recipe.task).needs_python:
        raise UserError(subject, "a task of your own freezes its networks itself", without)
    if start_from is None:
        problem = "the stages would keep random weights: it needs those of another run to begin with"
        raise UserError(subject, problem, Option("start_from", "RUN"), without)


def fitting_differences(begun: Recipe, recipe: Recipe) -> dict[str, list[object]]:
    """Return the settings by which an example becomes another one under two recipes, each with both values."""
    fields = [f"task.{name}" for name in fitting_fields(begun.task)]
    return {field: row for field, row in differences([begun, recipe]).items() if field in fields}


def shaping_differences(begun: Recipe, recipe: Recipe) -> dict[str, list[object]]:
    """Return the settings in which two recipes differ and that change some layers only, each with both values."""
    fields = shaping_fields(recipe.task)
    return {name: row for name, row in differences([begun, recipe]).items() if name in fields}


def network_differences(begun: Recipe, recipe: Recipe) -> dict[str, list[object]]:
    """Return the settings in which two recipes' networks differ as a whole, each with both values."""
    starts = ("networks.", "game.packing")
    allowed = (*shaping_fields(recipe.task), *HARMLESS)
    if not shaping_fields(recipe.task):
        starts = (*starts, "task.")
        allowed = ()
    fields = differences([begun, recipe]).items()
    return {name: row for name, row in fields if name.startswith(starts) and name not in allowed}


def misfit(path: Path, changed: dict[str, list[object]], why: str) -> UserError:
    """Return the mistake of settings under which a run's weights cannot be trained on, with the run's own values."""
    field, values = next(iter(changed.items()))
    told = ", ".join(f"{name}={worded(row[0])}" for name, row in changed.items())
    problem = f"the weights of {path} were trained with {told}: {why}"
    same = together([Setting(name, row[0]) for name, row in changed.items()])
    return UserError(Setting(field, values[1]), problem, "Leave it out, so that the run's own value stands", *same)


def refuse_another_start(run: RunFolder, path: Path) -> None:
    """Raise UserError where a run that is to be continued did not begin with the weights of this other one."""
    data = run.read_data()
    begun = None if data is None else data.start
    if begun is not None and Path(begun.path).resolve() == path.resolve():
        return
    what = "random weights" if begun is None else f"the weights of {begun.path}"
    problem = f"the run in {run.path} was begun with {what}"
    remedy = "Continue that run, or begin another one in another folder"
    raise UserError(Option("start_from", path), problem, remedy, Command("resume", run.path), Option("out", "DIR"))


def worded(value: object) -> str:
    """Write the value of a setting for a sentence."""
    if isinstance(value, list | tuple):
        return "×".join(map(str, value))
    return "none" if value is None else str(value)
