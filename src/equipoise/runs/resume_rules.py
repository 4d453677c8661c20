"""Continuing a run: what of its recipe may change, and what would end it at once; reported before torch is imported."""

import dataclasses
import math
from typing import get_args

from equipoise.errors import Command, Option, UserError, listed, suggested
from equipoise.recipe import PolicyName, Recipe, checked, parsed_budget, refuse_without_probability
from equipoise.runs import rules
from equipoise.runs.folder import RunFolder
from equipoise.runs.stopping_status import monitor_of
from equipoise.stopping.verdicts import Stop
from equipoise.storage.records import RunState

POLICIES: tuple[PolicyName, ...] = get_args(PolicyName)


def recipe_to_resume(run: RunFolder, budget: str | None = None, policy: PolicyName | None = None) -> Recipe:
    """Return the recipe with which a run continues, with another budget or policy if given.

    Raises UserError where it could not continue so, RunBusyError where it is being trained.
    """
    rules.refuse_custom_loop(run)
    rules.refuse_lost(run)
    recipe = run.recipe()
    if budget is not None:
        recipe = dataclasses.replace(recipe, budget=parsed_budget(budget))
    if policy is not None:
        if policy not in POLICIES:
            near = suggested(policy, POLICIES) or (Option("policy", "budget"),)
            raise UserError(Option("policy", policy), f"allowed are {listed(POLICIES)}", *near)
        refuse_without_probability(policy, recipe.game.loss)
        recipe = dataclasses.replace(recipe, stopping=dataclasses.replace(recipe.stopping, policy=policy))
    recipe = checked(recipe)
    _refuse_finished(run, recipe, budget, policy)
    rules.refuse_busy(run)
    rules.refuse_unwritable(run)
    return recipe


def adopt(run: RunFolder, recipe: Recipe) -> None:
    """Write the recipe with which a run continues, and another policy among its events."""
    begun = run.recipe()
    if recipe == begun:
        return
    state = run.read_state()
    if recipe.stopping.policy != begun.stopping.policy:
        change = f"{begun.stopping.policy} → {recipe.stopping.policy}"
        run.log_event(state.samples, state.seconds, "policy changed", change)
    if state.test is not None:
        tested = f"loss {state.test.loss:.3g} on the test split, which will be used once more at the next end"
        run.log_event(state.samples, state.seconds, "test set used before", tested)
    run.write_state(RunState(status="running", has_saved=run.has_saved))  # first: a finished run would stay so
    run.write_recipe(recipe)


def _refuse_finished(run: RunFolder, recipe: Recipe, budget: str | None, policy: str | None) -> None:
    """Raise UserError where a run has finished and this recipe would not change that."""
    state = run.read_state()
    if state.status != "finished":
        return
    by = state.stop_reason or "budget"
    finished = f"this run has finished ({_first_sentence(state.message)})"
    if by not in POLICIES:
        problem = f"{finished}. Neither a larger budget nor another policy changes that"
        raise UserError(run.path, problem, "Start a new run", Command("train", recipe.data.source))
    if by == recipe.stopping.policy and by != "budget":
        if budget is not None:
            finished += ". A larger budget does not change that"
        raise UserError(run.path, finished, "To train on anyway", Command("resume", run.path, policy="budget"))
    given = {} if policy is None else {"policy": policy}
    if policy is not None:
        _refuse_another_stop(run, recipe, budget)
    _refuse_spent(run, recipe, state, budget, finished, given)


def _refuse_spent(
    run: RunFolder, recipe: Recipe, state: RunState, budget: str | None, finished: str, given: dict[str, str]
) -> None:
    """Raise UserError where no more training is paid for than was spent."""
    counted = recipe.budget.samples is not None
    limit = recipe.budget.samples or recipe.budget.seconds or 0.0
    spent = state.spent if counted else state.seconds
    if budget is None and (limit <= spent or state.stop_reason in ("budget", None)):
        larger = Command("resume", run.path, **given, budget=twice_as_much(spent, counted=counted))
        raise UserError(run.path, finished, "To train longer, give it a larger budget", larger)
    if limit <= spent:
        spoken = f"{spent:,} samples" if counted else f"{spent:,.0f} s"
        problem = f"the budget is a total, and {spoken} are spent"
        larger = Command("resume", run.path, **given, budget=twice_as_much(spent, counted=counted))
        raise UserError(Option("budget", budget), problem, larger)


def twice_as_much(spent: float, *, counted: bool) -> str:
    """Return a budget of about twice what is spent, never less, as one would type it: 30m, 2h, 120k."""
    units = (("M", 1_000_000), ("k", 1_000), ("", 1)) if counted else (("h", 3_600), ("m", 60), ("s", 1))
    name, size = next((unit for unit in units if unit[1] <= spent), units[-1])
    amount = max(1, math.ceil(2 * spent / size))
    step = 10 ** max(0, len(str(amount)) - 2)
    return f"{-(-amount // step) * step}{name}"


def _refuse_another_stop(run: RunFolder, recipe: Recipe, budget: str | None) -> None:
    """Raise UserError where the new policy, having seen all of the run, would stop it just the same."""
    verdict = monitor_of(run, recipe).verdict(0, 0.0)
    if isinstance(verdict, Stop):
        given = {} if budget is None else {"budget": budget}
        raise UserError(
            Option("policy", recipe.stopping.policy),
            f"would stop this run at once ({_first_sentence(verdict.message)})",
            "To train on anyway",
            Command("resume", run.path, policy="budget", **given),
        )


def _first_sentence(message: str | None) -> str:
    return (message or "it does not say why").partition(". ")[0].rstrip(".")
