"""Least squares instead of cross-entropy (arXiv:1611.04076)."""

from equipoise.recipe import Game, OptimizerSettings, Recipe
from equipoise.recipes.base import About, Facts, dcgan_networks
from equipoise.recipes.formulas import formulas_of

about = About(
    paper="arXiv:1611.04076",
    purpose="least squares: gradients that do not vanish far away",
    whom="those who compare losses; when you want dcgan with another loss and all else the same",
    result="466 (332–482), rarest class 3.4 %; at equal samples 3354 (3129–3390)",
    samples=100_672,
    sizes=(64,),
    formulas=formulas_of("least-squares"),
    papers="The loss with labels 0 for generated and 1 for real images, and G's target 1.",
    differs="The networks are those of dcgan, with its Adam; the paper has larger ones, for 112 × 112.",
)


def recipe(facts: Facts) -> Recipe:
    """Return the recipe for these facts."""
    player = OptimizerSettings(rate=2e-4, beta1=0.5, beta2=0.999)
    return Recipe(
        networks=dcgan_networks(facts, discriminator_norm="batch"),
        game=Game(loss="least-squares", generator=player, discriminator=player, ema_half_life=0),
    )
