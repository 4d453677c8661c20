"""Both players are told the class, the discriminator by concatenation (arXiv:1411.1784)."""

import dataclasses

from equipoise.recipe import Game, OptimizerSettings, Penalty, Recipe
from equipoise.recipes.base import About, Facts, dcgan_networks
from equipoise.recipes.formulas import formulas_of

about = About(
    paper="arXiv:1411.1784",
    purpose="the first GAN with classes: the label joins what D sees of an image",
    whom="those whose images have classes; when you learn how a label gets into a game",
    result="290 (258–303), rarest class 6.7 %; at equal samples 1680 (1534–2330)",
    samples=80_960,
    sizes=(28,),
    formulas=(
        *formulas_of("non-saturating", "r1"),
        "with the class y: G(z, y) and D(x, y)",
        "D(x, y) = w · φ(W [h(x), v(y)] + b) + c; h(x) are D's features, v(y) is a learned vector",
    ),
    papers="G is told the class beside the latents. In D a vector of the label, 50 numbers, meets what D has made of "
    "the image in a joint hidden layer of 240 units.",
    differs="The convolutions of dcgan and its Adam, where the paper has perceptrons with maxout and momentum; leaky "
    "ReLU in the joint layer; no dropout. R1 in place of D's batch norm, and vectors of labels that are small at "
    "first in G: without either the generator drew one picture of each class.",
)


def recipe(facts: Facts) -> Recipe:
    """Return the recipe for these facts."""
    player = OptimizerSettings(rate=2e-4, beta1=0.5, beta2=0.999)
    networks = dcgan_networks(facts, discriminator_norm="none")
    return Recipe(
        networks=dataclasses.replace(networks, conditional=True, condition="concatenation", label_scale=0.1),
        game=Game(
            loss="non-saturating",
            penalty=Penalty(kind="r1", gamma=0.3, every=4),
            generator=player,
            discriminator=player,
            ema_half_life=0,
        ),
    )
