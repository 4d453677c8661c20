"""Three discriminators with weights of their own against one generator (arXiv:1611.01673)."""

import dataclasses

from equipoise.recipe import Game, OptimizerSettings, Recipe
from equipoise.recipes.base import About, Facts, dcgan_networks
from equipoise.recipes.formulas import formulas_of

about = About(
    paper="arXiv:1611.01673",
    purpose="three discriminators: what one has forgotten another still knows",
    whom="those whose scores go up and down; when you have time for three D in each step",
    result="549 (484–617), rarest class 1.7 %; at equal samples 1274 (1154–1407)",
    samples=46_784,
    sizes=(28, 32),
    formulas=(
        *formulas_of("non-saturating"),
        "of each of D₁, D₂, D₃; the losses of the three are added, for D and for G",
    ),
    papers="Several discriminators that see the same images, and a generator against the mean of them (there GMAN-0, "
    "λ = 0); convolutions with batch norm.",
    differs="A sum in place of the mean, which to Adam is the same. The three differ in their first weights alone, not "
    "in dropout and width. The networks are those of dcgan.",
)


def recipe(facts: Facts) -> Recipe:
    """Return the recipe for these facts."""
    player = OptimizerSettings(rate=2e-4, beta1=0.5, beta2=0.999)
    networks = dcgan_networks(facts, discriminator_norm="batch")
    return Recipe(
        networks=dataclasses.replace(networks, discriminators=3),
        game=Game(loss="non-saturating", generator=player, discriminator=player, ema_half_life=0),
    )
