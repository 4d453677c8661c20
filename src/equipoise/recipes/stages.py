"""When networks that grow, or are stacked, go on to larger pictures: positions in samples, from the settings alone."""

from equipoise.recipe import Images, Recipe
from equipoise.sizes import resolutions


def stages_of(recipe: Recipe) -> tuple[int, ...]:
    """Return the samples at which each stage after the first begins, that of the full size last; none of other runs."""
    networks = recipe.networks
    if not isinstance(recipe.task, Images) or recipe.task.size is None:
        return ()
    if networks.stacked:
        return (networks.stacked,)
    num_stages = len(resolutions(recipe.task.size)) - 1  # the lowest side is a step on the way, and no picture
    return tuple(stage * networks.growing for stage in range(1, num_stages)) if networks.growing else ()


def stage_note(recipe: Recipe, horizon: int) -> str:
    """Say where a budget ends before the pictures have had their full size for as long as a stage; else nothing."""
    stages = stages_of(recipe)
    if not stages:
        return ""
    a_stage = recipe.networks.stacked or recipe.networks.growing
    wanted = stages[-1] + a_stage
    if horizon >= wanted:
        return ""
    if horizon <= stages[-1]:
        num = sum(horizon > one for one in stages) + 1
        told = f"The budget ends in stage {num} of {len(stages) + 1}, before pictures have their full size"
    else:
        told = "The budget ends soon after the last stage has begun"
    shorter = f"--set {_shorter(recipe, horizon)}"
    return f"{told}: give it {wanted:,} samples or more, or shorten the stages with {shorter}"


def _shorter(recipe: Recipe, horizon: int) -> str:
    """Return the setting with which a budget pays for all stages."""
    num = len(stages_of(recipe)) + 1
    name = "stacked" if recipe.networks.stacked else "growing"
    return f"networks.{name}={max(1, horizon // num)}"
