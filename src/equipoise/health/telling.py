"""What is wrong with a game, in words for people."""

from collections.abc import Sequence
from typing import assert_never

from equipoise import formatting
from equipoise.health.advice import advice
from equipoise.health.conditions import FEWEST
from equipoise.recipe import Recipe
from equipoise.storage.records import Condition, Diagnosis, Event


def told(diagnosis: Diagnosis, unit: str = "samples") -> str:
    """Return a diagnosis as text: what, since when in this unit, how sure, and the numbers."""
    sure = "" if diagnosis.confidence == "certain" else f" ({diagnosis.confidence})"
    since = f"since {formatting.count(diagnosis.since)} {unit}"
    return f"{title(diagnosis.condition)} {since}{sure}. {diagnosis.evidence}"


def told_all(diagnoses: Sequence[Diagnosis], num_lines: int, recipe: Recipe | None = None) -> str:
    """Return the most urgent diagnosis in full with what may help, and the others by name.

    So many log lines were looked at. Nothing is advised where remedies are off, or act on what is likely.
    """
    if not diagnoses:
        return "too early to tell" if num_lines < FEWEST else "no sign of trouble"
    first, *others = diagnoses
    text = told(first)
    is_sure = first.confidence != "possible"
    if recipe is None or recipe.remedies.policy == "suggest":
        text += f" {advice(first.condition, recipe, may_act=is_sure)}"
    elif recipe.remedies.policy == "act" and not is_sure:
        text += f" {advice(first.condition, recipe, may_act=False)} Remedies wait until it is likely."
    if others:
        text += f" Also: {', '.join(lowered(title(other.condition)) for other in others)}."
    return f"{text} More: equipoise explain {first.condition}"


def told_remedy(event: Event) -> str:
    """Return in a few words for what a remedy was and what it changed, or why there was none."""
    if event.remedy is None:
        return event.message
    back = ""
    if event.remedy.back_to is not None:
        back = f"back to {formatting.count(event.remedy.back_to)}, "
    return f"{lowered(title(event.remedy.condition))}: {back}{_in_short(event.remedy.changed)}"


def _in_short(changed: str) -> str:
    """Return what was changed in fewer letters: a line of a terminal has few."""
    return changed.replace("the ", "").replace("learning rate", "rate")


def lowered(title: str) -> str:
    """Return a heading as it stands within a sentence."""
    return f"{title[:1].lower()}{title[1:]}"


def title(condition: Condition) -> str:
    """Return a condition as a heading."""
    match condition:
        case "non-finite":
            return "Numbers that are not finite"
        case "divergence":
            return "Divergence"
        case "exploding-gradient":
            return "Exploding gradient"
        case "vanishing-gradient":
            return "Vanishing gradient"
        case "discriminator-overpowering":
            return "Discriminator too strong"
        case "discriminator-too-weak":
            return "Discriminator too weak"
        case "discriminator-overfitting":
            return "Discriminator overfitting"
        case "mode-collapse":
            return "Mode collapse"
        case "mode-dropping":
            return "Mode dropping"
        case "cycling":
            return "Cycling"
        case "saturation":
            return "Saturation"
        case "memorization":
            return "Memorization"
        case "augmentation-leak":
            return "Augmentation leak"
        case "rate-too-high":
            return "Learning rate too high"
        case "rate-too-low":
            return "Learning rate too low"
        case "averaged-generator-worse":
            return "Averaged generator worse than the raw one"
        case "nothing-more-to-gain":
            return "Nothing more to gain"
        case _ as unreachable:
            assert_never(unreachable)
