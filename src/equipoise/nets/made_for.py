"""What the networks of a recipe were made for, and what they are at another size, in words."""

from dataclasses import replace
from typing import assert_never

import torch
from torch.utils.flop_counter import FlopCounterMode

from equipoise.nets.players import make_players
from equipoise.recipe import FamilyName, Networks, Recipe
from equipoise.recipes import Facts, about_of, build, sizes_in_words
from equipoise.sizes import LARGE_SIDE, Size, resolutions, size_of

USUAL = Size(64, 64)
MOST_SCALES = 4  # of images of that size: 64, 32, 16 and 8 pixels a side


def size_note(recipe: Recipe, size: Size) -> str:
    """Say what a recipe of images was made for, and what its networks are at this size; empty where nothing differs."""
    about = about_of(recipe.name)
    if about is None:
        return ""
    name = recipe.name
    made = build(name, Facts())
    family = recipe.networks.family
    if not about.sizes or size.given in about.sizes or made.networks.family != family:
        return ""
    text = f"the recipe {name} is made for {sizes_in_words(about.sizes)}. "
    text += f"At {size} its networks are others: {_networks(family, size)}"
    if len(about.sizes) == 1:
        text += f" instead of {_shape(family, size_of(about.sizes[0]))}"
    own = getattr(made.task, "size", None)
    return text if own is None else f"{text}; without --size it takes {size_of(own)}"


def cost_note(networks: Networks, size: Size, channels: int) -> str:
    """Say what a step costs with images that are large for a CPU, in the arithmetic of one at 64×64; else nothing."""
    if max(size) <= LARGE_SIDE:
        return ""
    full = replace(networks, growing=0, stacked=0, frozen=0)  # a step at the full size, as it is in the end
    attention = min(networks.attention, USUAL.width // 2)  # its highest features
    usual = replace(full, attention=attention, scales=min(networks.scales, MOST_SCALES))
    times = step_cost(full, size, channels) / step_cost(usual, USUAL, channels)
    return (
        f"{size} is large for a CPU: a step takes {times:,.0f} times the arithmetic of one at 64 × 64 with networks of "
        "this width. The next lines say what this machine makes of it; --size takes a smaller one"
    )


def step_cost(networks: Networks, size: Size, channels: int) -> int:
    """Return the multiplications of both networks for one image, counted from their layers without computing them."""
    counter = FlopCounterMode(display=False)
    with torch.device("meta"), torch.no_grad():
        generator, discriminator = make_players(networks, size=size.given, channels=channels, num_classes=0)
        with counter:
            discriminator.eval()(generator.eval()(torch.empty(1, networks.latent_size)))
    return counter.get_total_flops() // 2


def _networks(family: FamilyName, size: Size) -> str:
    if family == "mlp":
        return f"next to the pixels they have {_shape(family, size)} numbers for each channel"
    return f"they grow {_shape(family, size)}"


def _shape(family: FamilyName, size: Size) -> str:
    """Return the pixels, or the sides from the lowest to the highest; what is too much after a doubling is cut off."""
    match family:
        case "mlp":
            return f"{size.pixels:,}"
        case "dcgan" | "resnet" | "modern" | "style":
            return " → ".join(_side(low) for low in resolutions(size)[::-1])
        case _ as unreachable:
            assert_never(unreachable)


def _side(size: Size) -> str:
    """Return a square's side, or a rectangle's width and height."""
    return str(size.width) if size.width == size.height else f"{size.width}×{size.height}"
