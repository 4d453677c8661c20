"""What the networks of a recipe were made for, and what they are at another size, in words."""

from typing import assert_never

from equipoise.nets.layers import resolutions
from equipoise.recipe import FamilyName, Recipe
from equipoise.recipes import Facts, about_of, build, sizes_in_words


def size_note(recipe: Recipe, size: int) -> str:
    """Say what a recipe of images was made for, and what its networks are at this size; empty where nothing differs."""
    found = about_of(recipe.name)
    if found is None:
        return ""
    name, about = found
    made = build(name, Facts())
    family = recipe.networks.family
    if not about.sizes or size in about.sizes or made.networks.family != family:
        return ""
    text = f"the recipe {name} is made for {sizes_in_words(about.sizes)}. "
    text += f"At {size} × {size} its networks are others: {_networks(family, size)}"
    if len(about.sizes) == 1:
        text += f" instead of {_shape(family, about.sizes[0])}"
    own = getattr(made.task, "size", None)
    return text if own is None else f"{text}; without --size it takes {own} × {own}"


def _networks(family: FamilyName, size: int) -> str:
    if family == "mlp":
        return f"next to the pixels they have {_shape(family, size)} numbers for each channel"
    return f"they grow {_shape(family, size)}"


def _shape(family: FamilyName, size: int) -> str:
    """Return the pixels, or the sides from the lowest to the highest; what is too much after a doubling is cut off."""
    match family:
        case "mlp":
            return f"{size * size:,}"
        case "dcgan" | "resnet" | "modern":
            return " → ".join(map(str, resolutions(size)[::-1]))
        case _ as unreachable:
            assert_never(unreachable)
