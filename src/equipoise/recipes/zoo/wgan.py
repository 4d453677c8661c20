"""Wasserstein distance by weight clipping, five critic steps a generator step (arXiv:1701.07875)."""

from equipoise.recipe import Game, OptimizerSettings, Recipe
from equipoise.recipes.base import About, Facts, dcgan_networks

about = About(
    paper="arXiv:1701.07875",
    purpose="to see weight clipping at work; slow",
    whom="students of the Wasserstein distance; when you want to watch the clipping, not soon have good images",
    result="1508 (0.0 %)",
    samples=159_040,
    sizes=(64,),
)


def recipe(facts: Facts) -> Recipe:
    """Return the recipe for these facts."""
    player = OptimizerSettings(optimizer="rmsprop", rate=5e-5, beta1=0.0, beta2=0.99)
    return Recipe(
        networks=dcgan_networks(facts, discriminator_norm="batch"),
        game=Game(
            loss="wasserstein",
            generator=player,
            discriminator=player,
            discriminator_steps=5,
            weight_clip=0.01,
            ema_half_life=0,
        ),
    )
