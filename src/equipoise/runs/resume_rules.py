"""Going on with a run: what of its recipe may change, and what would end it at once, told before torch is imported."""

import dataclasses
import math
import shlex
from typing import get_args

from equipoise.errors import UserError, listed, suggestion
from equipoise.recipe import PROBABILISTIC, PolicyName, Recipe, checked, from_dict, parsed_budget
from equipoise.runs.folder import RunFolder
from equipoise.runs.stopping_status import referee_of
from equipoise.stopping.policies import Stop

POLICIES: tuple[PolicyName, ...] = get_args(PolicyName)


def ready_to_go_on(run: RunFolder, budget: str | None = None, policy: PolicyName | None = None) -> Recipe:
    """Return the recipe with which a run goes on; raises UserError where it cannot, RunBusyError where one trains."""
    run.refuse_lost()
    recipe = recipe_to_go_on(run, budget, policy)
    run.refuse_busy()
    run.refuse_unwritable()
    return recipe


def recipe_to_go_on(run: RunFolder, budget: str | None = None, policy: PolicyName | None = None) -> Recipe:
    """Return a run's recipe with another budget or policy; raises UserError where it could not go on so."""
    run.refuse_own_loop()
    try:
        recipe = from_dict(run.read_recipe())
    except UserError as error:
        raise UserError(f"{run.path / 'recipe.json'}: {error}. Put that right, or restore it from a copy") from None
    if budget is not None:
        recipe = dataclasses.replace(recipe, budget=parsed_budget(budget))
    if policy is not None:
        _refuse_misfit(policy, recipe)
        recipe = dataclasses.replace(recipe, stopping=dataclasses.replace(recipe.stopping, policy=policy))
    recipe = checked(recipe)
    _refuse_finished(run, recipe, budget, policy)
    return recipe


def _refuse_misfit(policy: str, recipe: Recipe) -> None:
    if policy not in POLICIES:
        near = suggestion(policy, POLICIES) or " Try: --policy budget"
        raise UserError(f'--policy "{policy}": allowed are {listed(POLICIES)}.{near}')
    if policy == "discriminator-threshold" and recipe.game.loss not in PROBABILISTIC:
        raise UserError(
            f"--policy discriminator-threshold: the logits of this run's loss, {recipe.game.loss}, are no probability, "
            f"so D(G(z)) means nothing; it does with {listed(PROBABILISTIC)}. Try: --policy patience"
        )


def _refuse_finished(run: RunFolder, recipe: Recipe, budget: str | None, policy: str | None) -> None:
    """Raise UserError where a run has finished and this recipe would not change that."""
    state = run.read_state()
    if state["status"] != "finished":
        return
    by, now = state.get("policy") or "budget", recipe.stopping.policy
    resume = f"equipoise resume {shlex.quote(str(run.path))}"
    finished = f"{run.path}: this run has finished ({_first_sentence(state.get('reason'))})"
    if by not in POLICIES:
        vain = "Neither a larger budget nor another policy changes that"
        raise UserError(f"{finished} {vain}. Start a new run: equipoise train SOURCE")
    if by == now and by != "budget":
        vain = "A larger budget does not change that. " if budget else ""
        vain = f"It was --policy {policy} that stopped it. " if policy else vain
        raise UserError(f"{finished} {vain}To train on all the same: {resume} --policy budget")
    if policy is not None:
        _refuse_another_stop(run, recipe, f"{resume} --policy budget" + (f" --budget {budget}" if budget else ""))
    _refuse_spent(recipe, state, budget, finished, f"{resume} --policy {policy}" if policy else resume)


def _refuse_spent(recipe: Recipe, state: dict[str, object], budget: str | None, finished: str, resume: str) -> None:
    counted = recipe.budget.samples is not None
    limit = recipe.budget.samples or recipe.budget.seconds or 0.0
    spent = state.get("samples" if counted else "seconds")
    spent = spent if isinstance(spent, int | float) else 0
    if budget is None and (limit <= spent or state.get("policy") in ("budget", None)):
        raise UserError(f"{finished} To train longer, give it a larger budget: {resume} --budget 20m")
    if limit <= spent:
        spoken = f"{spent:,} samples" if counted else f"{spent:,.0f} s"
        larger = f"{2 * spent}" if counted else f"{2 * math.ceil(spent)}s"
        raise UserError(
            f"--budget {budget}: the budget is one in all, and {spoken} are spent. Try: {resume} --budget {larger}"
        )


def _refuse_another_stop(run: RunFolder, recipe: Recipe, remedy: str) -> None:
    """Raise UserError where the new policy, having seen all of the run, would stop it just the same."""
    verdict = referee_of(run, recipe).verdict(0, 0.0)
    if isinstance(verdict, Stop):
        raise UserError(
            f"--policy {recipe.stopping.policy}: would stop this run at once ({_first_sentence(verdict.reason)}) "
            f"To train on all the same: {remedy}"
        )


def _first_sentence(reason: object) -> str:
    text = str(reason or "it does not say why").partition(". ")[0]
    return text if text.endswith(".") else f"{text}."
