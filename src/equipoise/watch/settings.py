"""What of a recipe applies to a loop that Equipoise did not write: its budget, its rule for stopping, its judge."""

import dataclasses
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from equipoise.errors import UserError, listed, suggestion
from equipoise.recipe import (
    Budget,
    LossName,
    MetricName,
    PolicyName,
    Recipe,
    checked,
    parsed_budget,
    to_dict,
    with_settings,
)
from equipoise.runs.folder import OWN_LOOP, RunFolder


def recipe_of(
    metric: MetricName,
    loss: LossName | None,
    budget: str | None,
    policy: PolicyName,
    settings: Sequence[str],
    judge_every: int | None,
    seed: int,
) -> Recipe:
    """Return the settings that apply to an own loop as a recipe; the rest of it means nothing."""
    _refuse_unknown("policy", policy, get_args(PolicyName))
    _refuse_unknown("metric", metric, get_args(MetricName))
    if loss is not None:
        _refuse_unknown("loss", loss, get_args(LossName))
    for setting in settings:
        if not setting.startswith(("judging.", "stopping.")):
            raise UserError(f'settings "{setting}": a watch has only judging. and stopping. Try: stopping.patience=20')
    if policy == "discriminator-threshold" and loss is None:
        raise UserError(
            'policy="discriminator-threshold": needs to know what the logits mean. Try: loss="non-saturating"'
        )
    base = Recipe(name=OWN_LOOP, seed=seed, budget=parsed_budget(budget) if budget else Recipe().budget)
    base = dataclasses.replace(
        base,
        game=dataclasses.replace(base.game, loss=loss or base.game.loss),
        judging=dataclasses.replace(base.judging, metric=metric, every=whole("judge_every", judge_every)),
        stopping=dataclasses.replace(base.stopping, policy=policy),
    )
    recipe = checked(with_settings(checked(base), settings))
    return recipe if budget else dataclasses.replace(recipe, budget=Budget(samples=None, seconds=None))


def _refuse_unknown(name: str, value: str, allowed: Sequence[str]) -> None:
    """Raise UserError for a name that does not exist."""
    if value not in allowed:
        near = suggestion(str(value), allowed) or f' Try: {name}="{allowed[0]}"'
        raise UserError(f'{name}="{value}": allowed are {listed(allowed)}.{near}')


def recorded(recipe: Recipe, loss: LossName | None, *, is_judging: bool) -> dict[str, Any]:
    """Return what of the recipe applies: the rest of it is the loop's own, and not known."""
    every = to_dict(recipe)
    values = {"name": recipe.name, "stopping": every["stopping"]}
    values["judging"] = every["judging"] if is_judging else {"metric": recipe.judging.metric}
    if is_judging:
        values["seed"] = recipe.seed
    if recipe.budget.samples is not None or recipe.budget.seconds is not None:
        values["budget"] = every["budget"]
    if loss is not None:
        values["game"] = {"loss": loss}
    return values


def whole(name: str, value: int | None) -> int | None:
    """Return a whole number of at least 1, or None for none; raises UserError."""
    if value is None:
        return None
    try:
        whole = int(value)
    except (TypeError, ValueError):
        whole = 0
    if whole < 1 or whole != value:
        raise UserError(f"{name}={value!r}: give a whole number of at least 1, for example len(real)")
    return whole


def environment() -> dict[str, Any]:
    """Return the versions of what is loaded."""
    from equipoise import __version__

    values = {"equipoise": __version__, "python": platform.python_version(), "platform": platform.platform()}
    for name in ("torch", "lightning", "keras"):
        if name in sys.modules:
            values[name] = str(getattr(sys.modules[name], "__version__", "unknown"))
    return values


def refuse_unfit(path: Path, metric: MetricName, resume: bool) -> None:
    """Raise UserError where a watch can neither begin a run in this folder nor go on with the one in it."""
    if not RunFolder.is_run(path):
        RunFolder.refuse_taken(path)
        return
    run = RunFolder(path)
    if not run.is_own_loop:
        raise UserError(f"{path}: holds a run of equipoise train. Give the watch a folder of its own")
    run.refuse_busy()
    if not resume:
        other = path.with_name(f"{path.name}-2")
        raise UserError(
            f"{path}: holds a run already. To go on with it: Watch({str(path)!r}, resume=True). To begin another: "
            f"Watch({str(other)!r})"
        )
    before = run.read_recipe().get("judging", {}).get("metric")
    if before != metric:
        raise UserError(f'{path}: this run was begun with metric="{before}". Try: Watch(..., metric="{before}")')
