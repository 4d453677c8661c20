"""What a budget pays for on this machine, said as soon as its speed is known."""

from equipoise.formatting import duration
from equipoise.recipe import Recipe
from equipoise.recipes import Facts, about_of, build
from equipoise.recipes.stages import stage_note, stages_of


def expectation(recipe: Recipe, samples_per_second: float, horizon: int) -> str:
    """Say what the budget pays for at this speed, and when the measured result of the recipe's table is reached.

    `horizon` is the samples that the budget pays for, its evaluations counted.
    """
    text = f"This machine trains about {_rounded(samples_per_second):,} samples a second: "
    if recipe.budget.seconds is not None:
        text += f"the budget of {duration(recipe.budget.seconds)} pays for about {_rounded(horizon):,} samples, "
        text += "and for fewer where other programs run beside it"
    else:
        text += f"{horizon:,} samples take about {duration(horizon / samples_per_second)}, and the evaluations more"
    if stages_of(recipe):
        if recipe.budget.seconds is not None:
            text += ". This is the speed of the first stage, whose pictures are small: later ones are slower"
        note = stage_note(recipe, horizon)
        return f"{text}. {note}." if note else f"{text}."
    about = about_of(recipe.name)
    if about is None:
        return f"{text}."
    name = recipe.name
    if about.samples is None or type(recipe.task) is not type(build(name, Facts()).task):
        return f"{text}."  # nothing was measured on digits, or the result is of the recipe's own task
    seconds = duration(about.samples / samples_per_second)
    return (
        f"{text}. The result of {name} in equipoise recipes came after {about.samples:,} samples of digits: "
        f"{seconds} of training at this speed. Larger images and images in colour need more."
    )


def expectation_of_rest(recipe: Recipe, samples_per_second: float, samples: int, seconds: float) -> str:
    """Say what is left of a budget where a run goes on, at its speed before, in which evaluations are counted."""
    text = f"At the speed before, about {_rounded(samples_per_second):,} samples a second with evaluations, "
    if recipe.budget.seconds is not None:
        text += f"the {duration(seconds)} left of the budget pay for about {_rounded(samples):,} samples more, "
        return f"{text}and for fewer where other programs run beside it."
    return f"{text}the {samples:,} samples left of the budget take about {duration(seconds)}."


def _rounded(number: float) -> int:
    """Return a number with two significant digits: a measurement of seconds says no more."""
    return int(float(f"{number:.2g}"))
