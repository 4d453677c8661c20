"""Discriminators of one kind at several sizes of the images: one for the whole, one for details (arXiv:1711.11585)."""

import dataclasses
import math

from equipoise.recipe import Game, OptimizerSettings, Recipe
from equipoise.recipes.base import About, Facts, dcgan_networks
from equipoise.recipes.formulas import formulas_of
from equipoise.sizes import MIN_SIDE

MOST_SCALES = 3

about = About(
    paper="arXiv:1711.11585",
    purpose="discriminators at up to three sizes: of the whole picture, and of details",
    whom="those with large images, from 32 pixels on; when shapes or details are wrong",
    result="350 (335–384), rarest class 5.9 %; at equal samples 2865 (2599–3131)",
    samples=84_928,
    formulas=(
        *formulas_of("least-squares"),
        "of each of D₁, D₂, D₃; Dₖ sees images averaged down k − 1 times; the losses are added",
    ),
    papers="Up to three discriminators of one kind, the second and third of images halved once and twice; least "
    "squares; Adam 2e-4 with β 0.5, 0.999.",
    differs="Images from latents, where the paper draws them from maps of labels. Each D judges an image as a whole "
    "and not patches. No matching of features. Fewer scales where the smallest would have no 8 pixels a side: at 28 "
    "pixels there are two. The networks are those of dcgan.",
)


def recipe(facts: Facts) -> Recipe:
    """Return the recipe for these facts."""
    player = OptimizerSettings(rate=2e-4, beta1=0.5, beta2=0.999)
    networks = dcgan_networks(facts, discriminator_norm="batch")
    return Recipe(
        networks=dataclasses.replace(networks, scales=_num_scales(facts.least_side)),
        game=Game(loss="least-squares", generator=player, discriminator=player, ema_half_life=0),
    )


def _num_scales(size: int) -> int:
    """Return how often an image can be halved and still has what the networks need, and one more; at most three."""
    num = 1
    while num < MOST_SCALES and math.ceil(size / 2**num) >= MIN_SIDE:
        num += 1
    return num
