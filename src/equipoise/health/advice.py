"""What to type against a condition: one sentence, with numbers of this recipe where there is one."""

from typing import assert_never

from equipoise.game.adjustments import Adjustments
from equipoise.health.remedies import Situation, Treatment, changes_for, equal_rates, treatment
from equipoise.recipe import Recipe, task_name
from equipoise.storage.records import Condition, Diagnosis

AUGMENTED = "augment.kinds=translation,color --set augment.probability=0.4"  # mild kinds


def advice(condition: Condition, recipe: Recipe | None = None, *, may_act: bool = True) -> str:
    """Return what may help, in a sentence; settings are those of a new run. `may_act`: remedies would act on it."""
    plain = in_plain_words(condition)
    if recipe is None:
        return plain
    settings = suggested_settings(condition, recipe)
    text = f"A new run may help: {' '.join(f'--set {setting}' for setting in settings)}." if settings else plain
    return f"{text} Or let this one act: --remedies act." if may_act and _is_treatable(condition, recipe) else text


def _is_treatable(condition: Condition, recipe: Recipe) -> bool:
    """Return whether a run that may act has something to change; two conditions are treated in any case."""
    staged = Diagnosis(condition=condition, since=0, confidence="likely", evidence="")
    is_treated = condition in ("non-finite", "divergence")
    return not is_treated and isinstance(treatment(staged, Situation(recipe)), Treatment)


def suggested_settings(condition: Condition, recipe: Recipe) -> list[str]:
    """Return the settings of this recipe that may help, as one types them; none where none is known."""
    if condition == "discriminator-overfitting" and not recipe.augment.kinds and _is_of_images(recipe):
        return [AUGMENTED]
    if condition == "averaged-generator-worse":
        return [f"game.ema_half_life={recipe.game.ema_half_life / 4:g}"] if recipe.game.ema_half_life else []
    at = Situation(recipe)
    if condition in ("mode-collapse", "mode-dropping") and equal_rates(at) is None and _can_be_packed(recipe):
        return ["game.packing=2"]
    for change in changes_for(condition):
        found = change(at)
        if found is not None:
            return settings_of(found, recipe)
    return []


def settings_of(now: Adjustments, recipe: Recipe) -> list[str]:
    """Return the settings that a new run needs for what a remedy would change."""
    game = recipe.game
    found = []
    for player, settings, factor in (
        ("generator", game.generator, now.generator_rate),
        ("discriminator", game.discriminator, now.discriminator_rate),
    ):
        if factor != 1:
            found.append(f"game.{player}.rate={settings.rate * factor:g}")
            if settings.rate_end is not None:
                found.append(f"game.{player}.rate_end={settings.rate_end * factor:g}")
    for player, settings in (("generator", game.generator), ("discriminator", game.discriminator)):
        if now.momentum != 1 and settings.beta1:
            found.append(f"game.{player}.beta1={settings.beta1 * now.momentum:g}")
    if now.penalty:
        found += ["game.penalty.kind=r1+r2", f"game.penalty.gamma={now.penalty:g}"]
        if game.weight_clip is not None:
            found.append("game.weight_clip=none")
    if now.gamma != 1:
        found.append(f"game.penalty.gamma={game.penalty.gamma * now.gamma:g}")
        if game.penalty.gamma_end is not None:
            found.append(f"game.penalty.gamma_end={game.penalty.gamma_end * now.gamma:g}")
    if now.noise:
        found.append(f"game.instance_noise={game.instance_noise + now.noise:g}")
    if now.discriminator_steps:
        found.append(f"game.discriminator_steps={game.discriminator_steps + now.discriminator_steps}")
    if now.augment:
        found.append(f"augment.probability={recipe.augment.probability + now.augment:g}")
    return found


def _can_be_packed(recipe: Recipe) -> bool:
    """Return whether packing (arXiv:1712.04086) is left to try: it helped on points, in `bench/cures.py`."""
    is_of_points = task_name(recipe.task) == "points"
    return is_of_points and recipe.game.packing == 1 and recipe.game.batch >= 4 and recipe.game.batch % 2 == 0


def _is_of_images(recipe: Recipe) -> bool:
    return task_name(recipe.task) == "images"


def in_plain_words(condition: Condition) -> str:
    """Return what may help where no recipe is known, as in a custom loop."""
    match condition:
        case "non-finite" | "exploding-gradient" | "rate-too-high":
            return "Lower both learning rates, for example by half."
        case "divergence":
            return "Go back to the best generator, with half the learning rates."
        case "vanishing-gradient" | "discriminator-overpowering":
            return "Hold the discriminator back: fewer steps, a gradient penalty (R1), or a lower rate."
        case "discriminator-too-weak":
            return "Raise the discriminator's learning rate, or give it more steps."
        case "discriminator-overfitting":
            return "Augment what the discriminator sees, or train on more data."
        case "mode-collapse" | "mode-dropping":
            return "Give the discriminator the generator's learning rate, or let it judge samples in packs."
        case "cycling":
            return "Lower both learning rates, or average the generator's weights."
        case "saturation":
            return "Compare the range of the data with that of the generator's output."
        case "memorization":
            return "Train on more data, or stop earlier."
        case "augmentation-leak":
            return "Augment with a lower probability."
        case "rate-too-low":
            return "Raise both learning rates."
        case "averaged-generator-worse":
            return "Average over fewer samples."
        case "nothing-more-to-gain":
            return "Stop here: the best generator is kept."
        case _ as unreachable:
            assert_never(unreachable)
