"""The deep convolutional GAN with batch normalisation (arXiv:1511.06434)."""

from equipoise.recipe import Game, OptimizerSettings, Recipe
from equipoise.recipes.base import About, Facts, dcgan_networks

about = About(
    paper="arXiv:1511.06434",
    purpose="the convolutional baseline, with batch normalisation",
    whom="those who compare; when you need the reference that most papers name",
    result="290 (4.2 %)",
    samples=94_528,
    sizes=(64,),
)


def recipe(facts: Facts) -> Recipe:
    """Return the recipe for these facts."""
    player = OptimizerSettings(rate=2e-4, beta1=0.5, beta2=0.999)
    return Recipe(
        networks=dcgan_networks(facts, discriminator_norm="batch"),
        game=Game(loss="non-saturating", generator=player, discriminator=player, ema_half_life=0),
    )
