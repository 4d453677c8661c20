"""Both players are told the class, the discriminator by concatenation (arXiv:1411.1784)."""

import dataclasses

from equipoise.recipe import Game, OptimizerSettings, Recipe
from equipoise.recipes.base import About, Facts, dcgan_networks
from equipoise.recipes.formulas import formulas_of

about = About(
    paper="arXiv:1411.1784",
    purpose="the first GAN with classes: the label joins what D sees of an image",
    whom="those whose images have classes; when you learn how a label gets into a game",
    result="not measured yet",
    samples=None,
    sizes=(28,),
    formulas=(
        *formulas_of("non-saturating"),
        "with the class y: G(z, y) and D(x, y)",
        "D(x, y) = w · φ(W [h(x), v(y)] + b) + c; h(x) are D's features, v(y) is a learned vector",
    ),
    papers="G is told the class beside the latents. In D a vector of the label, 50 numbers, meets what D has made of "
    "the image in a joint hidden layer of 240 units.",
    differs="The convolutions of dcgan and its Adam, where the paper has perceptrons with maxout and momentum; leaky "
    "ReLU in the joint layer; no dropout.",
)


def recipe(facts: Facts) -> Recipe:
    """Return the recipe for these facts."""
    player = OptimizerSettings(rate=2e-4, beta1=0.5, beta2=0.999)
    networks = dcgan_networks(facts, discriminator_norm="batch")
    return Recipe(
        networks=dataclasses.replace(networks, conditional=True, condition="concatenation"),
        game=Game(loss="non-saturating", generator=player, discriminator=player, ema_half_life=0),
    )
