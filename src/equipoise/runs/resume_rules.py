"""Continuing a run: what of its recipe may change, and what would end it at once; reported before torch is imported."""

import contextlib
import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from equipoise import formatting
from equipoise.budgets import parsed_budget
from equipoise.errors import Command, Option, Part, UserError, listed, suggested
from equipoise.recipe import (
    Budget,
    PolicyName,
    Recipe,
    RemedyPolicy,
    checked,
    refuse_without_probability,
)
from equipoise.runs import rules
from equipoise.runs.candidates import keep_selected
from equipoise.runs.folder import RunFolder
from equipoise.runs.held_out import num_together
from equipoise.runs.stopping_status import monitor_of
from equipoise.stopping.verdicts import Stop
from equipoise.storage.records import IntervalsRecord, RunState

OVER = 0.1  # the share of a budget by which the last steps and the end may exceed it, and a suggested one what is asked
POLICIES: tuple[PolicyName, ...] = get_args(PolicyName)
REMEDIES: tuple[RemedyPolicy, ...] = get_args(RemedyPolicy)


def given_options(
    budget: str | int | None, policy: str | None, source: str | Path | None, remedies: str | None = None
) -> dict[str, str]:
    """Return the options that a resume was given, by name."""
    given = {"budget": budget, "policy": policy, "source": source, "remedies": remedies}
    return {name: str(value) for name, value in given.items() if value is not None}


@contextlib.contextmanager
def keeping_given(run: RunFolder, given: dict[str, str]) -> Iterator[None]:
    """Give every mistake whose remedy is to continue this run the options that were given, too."""
    try:
        yield
    except UserError as error:
        raise with_given(error, run, given) from None


def with_given(error: UserError, run: RunFolder, given: dict[str, str]) -> UserError:
    """Return a mistake that advises to continue this run with the options that were given, where it names no other."""
    remedies = [_completed(part, run, given) for part in error.remedies]
    return type(error)(error.subject, error.problem, *remedies)


def _completed(part: Part, run: RunFolder, given: dict[str, str]) -> Part:
    if not isinstance(part, Command) or part.name != "resume" or part.arguments != (run.path,):
        return part
    own = dict(part.options)
    return Command("resume", run.path, **own, **{name: value for name, value in given.items() if name not in own})


def recipe_to_resume(
    run: RunFolder,
    budget: str | int | None = None,
    policy: PolicyName | None = None,
    source: str | Path | None = None,
    remedies: RemedyPolicy | None = None,
) -> Recipe:
    """Return the recipe with which a run continues, with another budget, policy or use of remedies if given.

    `source` is where its data are now, if given; what is advised keeps it. Raises UserError where it could not
    continue so, RunBusyError where it is being trained.
    """
    with keeping_given(run, given_options(budget, policy, source, remedies)):
        return _recipe_to_resume(run, budget, policy, remedies)


def _recipe_to_resume(
    run: RunFolder, budget: str | int | None, policy: PolicyName | None, remedies: RemedyPolicy | None
) -> Recipe:
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
    if remedies is not None:
        if remedies not in REMEDIES:
            near = suggested(remedies, REMEDIES) or (Option("remedies", "act"),)
            raise UserError(Option("remedies", remedies), f"allowed are {listed(REMEDIES)}", *near)
        recipe = dataclasses.replace(recipe, remedies=dataclasses.replace(recipe.remedies, policy=remedies))
    recipe = checked(recipe)
    _refuse_finished(run, recipe, budget, policy)
    rules.refuse_busy(run)
    rules.refuse_unwritable(run)
    return recipe


def adopt(run: RunFolder, recipe: Recipe) -> list[str]:
    """Write the recipe with which a run continues, with what it changes among its events; return that in words."""
    begun = run.recipe()
    if recipe == begun:
        return []
    state = run.read_state()
    told = []
    if recipe.stopping.policy != begun.stopping.policy:
        change = f"{begun.stopping.policy} → {recipe.stopping.policy}"
        run.log_event(state.samples, state.seconds, "policy changed", change)
    if recipe.remedies.policy != begun.remedies.policy:
        change = f"remedies: {begun.remedies.policy} → {recipe.remedies.policy}"
        run.log_event(state.samples, state.seconds, "policy changed", change)
    if recipe.budget != begun.budget:
        told.append(_budget_change(begun, recipe, state))
        run.write_intervals(IntervalsRecord())  # what followed from the other budget; it follows anew from this one
        run.log_event(state.samples, state.seconds, "budget changed", told[-1])
    if state.test is not None:
        if not num_together(state.test.protocol):  # else these examples judge all the time, and it is corrected for
            tested = f"loss {state.test.loss:.3g} on the test split, which will be used once more at the next end"
            run.log_event(state.samples, state.seconds, "test set used before", tested)
        told.append("The best generator will be tested once more at the next end.")
    if state.selection is not None:
        keep_selected(run)
    run.write_state(run.next_state(status="running"))  # first: a finished run would stay so
    run.write_recipe(recipe)
    return told


def _budget_change(begun: Recipe, recipe: Recipe, state: RunState) -> str:
    """Say what the budget is now and was before, and what that does to schedules."""
    text = f"The budget is {in_words(recipe.budget)} now, {in_words(begun.budget)} before"
    share = math.nan
    if recipe.budget.seconds is not None:
        share = state.seconds / recipe.budget.seconds
    elif recipe.budget.samples is not None:
        share = state.spent / recipe.budget.samples
    if math.isfinite(share):
        text += f"; {formatting.percent(min(1.0, share))} of it is spent"
    ends = (recipe.game.generator.rate_end, recipe.game.discriminator.rate_end)
    if ends != (None, None):
        text += ". The learning rates follow that share, so with a larger budget they begin higher than they ended, "
        text += "and scores may be worse at first"
    return f"{text}."


def in_words(budget: Budget) -> str:
    """Return how long a training goes on at most."""
    if budget.seconds is not None:
        return formatting.duration(budget.seconds)
    return "without an end" if budget.samples is None else f"{formatting.count(budget.samples)} samples"


def _refuse_finished(run: RunFolder, recipe: Recipe, budget: str | int | None, policy: str | None) -> None:
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
        enough = {"budget": larger_budget(recipe, state)} if budget is not None and _is_spent(recipe, state) else {}
        anyway = Command("resume", run.path, policy="budget", **enough)
        raise UserError(run.path, finished, "To train on anyway", anyway)
    if policy is not None:
        _refuse_another_stop(run, recipe)
    given = {} if policy is None else {"policy": policy}  # before the budget, as it was typed
    _refuse_spent(run, recipe, state, budget, finished, given)


def _refuse_spent(
    run: RunFolder, recipe: Recipe, state: RunState, budget: str | int | None, finished: str, given: dict[str, str]
) -> None:
    """Raise UserError where no more training is paid for than was spent."""
    larger = Command("resume", run.path, **given, budget=larger_budget(recipe, state))
    spent = f"{state.spent:,} samples" if recipe.budget.samples is not None else formatting.duration(state.seconds)
    example = "for example one of about twice that"
    if budget is None and (_is_spent(recipe, state) or state.stop_reason in ("budget", None)):
        longer = f"The budget is a total, and {spent} are spent. To train longer, give a larger one, {example}"
        raise UserError(run.path, finished, longer, larger)
    if _is_spent(recipe, state):
        problem = f"the budget is a total, and {spent} are spent"
        raise UserError(Option("budget", budget), problem, f"Give a larger one, {example}", larger)


def _is_spent(recipe: Recipe, state: RunState) -> bool:
    """Return whether a recipe pays for no more than was spent."""
    if recipe.budget.samples is not None:
        return recipe.budget.samples <= state.spent
    return (recipe.budget.seconds or 0.0) <= state.seconds


def larger_budget(recipe: Recipe, state: RunState, times: float = 2.0) -> str:
    """Return so many times the budget, where about that was spent, as the last step goes over it; else of the spent."""
    counted = recipe.budget.samples is not None
    limit = recipe.budget.samples or recipe.budget.seconds or 0.0
    spent = state.spent if counted else state.seconds
    is_about = limit <= spent <= (1 + OVER) * limit
    return times_as_much(limit if is_about else spent, times, counted=counted)


def times_as_much(spent: float, times: float, *, counted: bool) -> str:
    """Return a budget of so many times what is spent, as one would type it: 30m, 2h, 120k.

    It is never less, and in the largest unit in which it is hardly more.
    """
    units = (("M", 1_000_000), ("k", 1_000), ("", 1)) if counted else (("h", 3_600), ("m", 60), ("s", 1))
    asked = times * spent
    amounts = [(_two_digits(asked / size), size, name) for name, size in units]
    near = (found for found in amounts if found[0] * found[1] <= (1 + OVER) * asked)
    amount, _, name = next(near, amounts[-1])
    return f"{amount}{name}"


def _two_digits(number: float) -> int:
    """Round up to a whole number of at most two digits that count, at least 1."""
    amount = max(1, math.ceil(number))
    step = 10 ** max(0, len(str(amount)) - 2)
    return -(-amount // step) * step


def _refuse_another_stop(run: RunFolder, recipe: Recipe) -> None:
    """Raise UserError where the new policy, having seen all of the run, would stop it just the same."""
    verdict = monitor_of(run, recipe).verdict(0, 0.0)
    if isinstance(verdict, Stop):
        raise UserError(
            Option("policy", recipe.stopping.policy),
            f"would stop this run at once ({_first_sentence(verdict.message)})",
            "To train on anyway",
            Command("resume", run.path, policy="budget"),
        )


def _first_sentence(message: str | None) -> str:
    return (message or "it does not say why").partition(". ")[0].rstrip(".")
