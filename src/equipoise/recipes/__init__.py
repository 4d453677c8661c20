"""Named recipes: each a file of `zoo`, a function from the facts of the data to a Recipe, with its paper.

A file there is a recipe of that name: nothing else lists them. Widths and batches follow from the facts: on a CPU they
are what two cores can train in minutes.
"""

import dataclasses
import importlib
import pkgutil
import textwrap
from functools import cache
from typing import Any, Protocol, TypeAlias, assert_never, cast

from equipoise.errors import Option, UserError, listed, suggested
from equipoise.recipe import (
    Augment,
    Custom,
    Evaluation,
    Images,
    Networks,
    Penalty,
    Points,
    Recipe,
    SuperResolution,
    TaskSettings,
)
from equipoise.recipes import zoo
from equipoise.recipes.base import About, Facts

__all__ = ["About", "Facts"]

RecipeName: TypeAlias = str  # one of NAMES
FIRST = ("modern", "photos")  # the usual ones; the others follow by name
OF_IMAGES = {"variety": 0.0, "auxiliary": 0.0, "information": 0.0, "pulling_away": 0.0}  # of the game, on them alone
IN_THE_PLANE = 0.1  # the strength of WGAN-GP on toys (arXiv:1704.00028), and the least of other penalties
IN_COLOUR = (32, 64)  # pixels a side, from and up to which `photos` was measured against `modern`


def _names() -> tuple[RecipeName, ...]:
    found = sorted(module.name.replace("_", "-") for module in pkgutil.iter_modules(zoo.__path__))
    return (*FIRST, *(name for name in found if name not in FIRST))


NAMES = _names()


class Named(Protocol):
    """A module of `zoo`."""

    about: About

    def recipe(self, facts: Facts) -> Recipe:
        """Return the recipe for these facts."""
        ...


SETTING = (
    "Fréchet distance of 5,000 samples in an outside classifier's features on MNIST, lower is better: median and range "
    "of 3 seeds after 60 s of training on one core, with the share of the rarest class; then after 20,000 samples"
)


def usual(facts: Facts, task: TaskSettings | None = None) -> RecipeName:
    """Return the recipe of those who name none: `photos` for what it was measured to draw better, else `modern`."""
    least, most = IN_COLOUR
    in_colour = isinstance(task, None | Images) and facts.channels == 3 and least <= facts.size <= most
    return "photos" if in_colour and facts.is_cpu and facts.has_pretrained else "modern"


def build(name: RecipeName, facts: Facts, task: TaskSettings | None = None) -> Recipe:
    """Return the named recipe for these data, this machine and this task; without one, for images."""
    recipe = dataclasses.replace(named(name).recipe(facts), name=name)
    if recipe.networks.autoencoder and isinstance(task, Points | SuperResolution):
        problem = "its discriminator is an autoencoder of images; there is none for other data"
        raise UserError(Option("recipe", name), problem, Option("recipe", "modern"))
    match task:
        case None | Images():
            return for_images(recipe, facts)
        case Points():
            return for_points(recipe, task)
        case SuperResolution():
            return for_super_resolution(recipe, task)
        case Custom():
            game = dataclasses.replace(recipe.game, packing=1, **OF_IMAGES)  # such a task has terms of its own
            networks = recipe.networks if recipe.networks.autoencoder else Networks()  # and networks
            return dataclasses.replace(recipe, task=task, game=game, networks=networks)
        case _ as unreachable:
            assert_never(unreachable)


def for_images(recipe: Recipe, facts: Facts) -> Recipe:
    """Return a recipe for images: colours are judged by features that need fewer images and cost more."""
    if facts.is_cpu and facts.channels in (3, 4):
        return dataclasses.replace(recipe, evaluation=dataclasses.replace(recipe.evaluation, num_samples=1_000))
    return recipe


def for_points(recipe: Recipe, task: Points) -> Recipe:
    """Return a recipe for points in the plane: its loss and penalty over small perceptrons, with higher rates."""
    game = recipe.game
    rates = {"rate": 1e-3, "rate_end": 1e-4, "beta1": 0.5, "beta2": 0.9, "beta2_end": None}
    gamma = max(IN_THE_PLANE, game.penalty.gamma) if game.penalty.gamma else 0.0  # a strength by pixels is too little
    if game.penalty.kind == "wgan-gp":
        gamma = IN_THE_PLANE
    game = dataclasses.replace(
        game,
        batch=256,
        **OF_IMAGES,
        generator=dataclasses.replace(game.generator, **rates),
        discriminator=dataclasses.replace(game.discriminator, **rates),
        ema_half_life=20_000 if game.ema_half_life else 0,
        penalty=dataclasses.replace(game.penalty, every=1, gamma=gamma),
    )
    return dataclasses.replace(
        recipe,
        task=task,
        networks=Networks(family="mlp", width=128, latent_size=2, dropout=0.0),
        game=game,
        augment=Augment(),
        evaluation=Evaluation(num_samples=2_500),
    )


def for_super_resolution(recipe: Recipe, task: SuperResolution) -> Recipe:
    """Return a recipe for super-resolution: its loss in pairs, a small residual network, Adam as SRGAN's successors."""
    rates = {"optimizer": "adam", "rate": 5e-4, "rate_end": 5e-5, "beta1": 0.9, "beta2": 0.99, "beta2_end": None}
    game = dataclasses.replace(
        recipe.game,
        batch=16,
        packing=1,
        **OF_IMAGES,
        generator=dataclasses.replace(recipe.game.generator, **rates),
        discriminator=dataclasses.replace(recipe.game.discriminator, **rates | {"rate": 1e-4, "rate_end": 1e-5}),
        ema_half_life=10_000,
        discriminator_steps=1,
        penalty=Penalty(kind="r1", gamma=0.1, every=16),
    )
    networks = Networks(family="resnet", width=32, latent_size=1)
    return dataclasses.replace(recipe, task=task, networks=networks, game=game, augment=Augment())


def note_of_task(recipe: Recipe) -> str:
    """Say what a task without images from latents takes of a named recipe, which is made for them; else nothing."""
    if recipe.name not in NAMES:
        return ""
    match recipe.task:
        case Points():
            taken = "points take the loss, the packing, the kinds of penalty and optimizer, and the order of the steps"
        case SuperResolution():
            taken = "super-resolution takes the loss and the order of the steps"
        case _:
            return ""
    return f"Of the recipe {recipe.name}, {taken}; networks, rates and all else are for this task."


def recipe_for(recipe: RecipeName | Recipe | None, facts: Facts, task: TaskSettings | None) -> Recipe:
    """Return the recipe of a name for these facts and this task, or the one given, with this task.

    A recipe that is given keeps its own settings of that task; None is the usual one. Raises UserError.
    """
    if recipe is None:
        return build(usual(facts, task), facts, task)
    if not isinstance(recipe, Recipe):
        return build(checked_name(recipe), facts, task)
    if task is None or (type(task) is type(recipe.task) and not isinstance(task, Custom)):
        return recipe
    return dataclasses.replace(recipe, task=task)


@cache
def named(name: RecipeName) -> Named:
    """Return the module of a recipe."""
    return cast(Named, importlib.import_module(f"{zoo.__name__}.{name.replace('-', '_')}"))


def checked_name(name: str) -> RecipeName:
    """Return the name if there is such a recipe; raises UserError."""
    if name in NAMES:
        return name
    raise UserError(Option("recipe", name), f"there are {listed(NAMES)}", *suggested(name, NAMES))


def about_of(name: str) -> About | None:
    """Return what is known of a recipe by its name, None of a name that is another's."""
    return named(name).about if name in NAMES else None


def sizes_in_words(sizes: tuple[int, ...]) -> str:
    """Say what size of images a recipe is made for."""
    if not sizes:
        return "images of any size"
    return f"images of {listed([f'{size} × {size}' for size in sizes])} pixels"


def listing() -> str:
    """Return all recipes as plain text."""
    blocks = []
    for name in NAMES:
        about = named(name).about
        text = [
            f"{about.purpose} ({about.paper})",
            f"for {about.whom}",
            f"made for: {sizes_in_words(about.sizes)}",
            f"measured: {about.result}",
        ]
        blocks.append("\n".join([name, *(textwrap.indent(textwrap.fill(line, 76), "    ") for line in text)]))
    made_for = textwrap.fill(
        "made for: at any size from 8 to 1024 pixels a side a recipe fits its networks to the images. At another size "
        "than its own these are other networks; equipoise train and data check say which.",
        80,
    )
    measured = textwrap.fill(f"measured: {SETTING}.", 80)
    use = "One explained: equipoise recipes NAME\nUse one with: equipoise train SOURCE --recipe NAME"
    return "\n\n".join([*blocks, made_for, measured, use])


def listing_values() -> list[dict[str, Any]]:
    """Return all recipes with what is known of them as plain values."""
    return [{"name": name, **dataclasses.asdict(named(name).about)} for name in NAMES]
