"""The discriminator judges two images at once, as one, so that a generator of few kinds is found out."""

from equipoise.recipe import Game, OptimizerSettings, Recipe
from equipoise.recipes.base import About, Facts, dcgan_networks
from equipoise.recipes.formulas import formulas_of

about = About(
    paper="arXiv:1712.04086",
    purpose="against collapse: D judges two images at once",
    whom="those whose generator draws the same few images again and again; also on points",
    result="318 (284–322), rarest class 6.2 %; at equal samples 1765 (1748–1888)",
    samples=132_416,
    sizes=(28,),
    formulas=(
        *formulas_of("non-saturating"),
        "x stands for two real images, G(z) for two generated ones: D(x₁, x₂), D(G(z₁), G(z₂))",
    ),
    papers="Packs of two: the images of a pack are channels side by side, and no other layer changes; a DCGAN with "
    "Adam 2e-4, β₁ 0.5, and 100 latents.",
    differs="The width. A batch is of 64 images, and so of 32 packs.",
)


def recipe(facts: Facts) -> Recipe:
    """Return the recipe for these facts."""
    player = OptimizerSettings(rate=2e-4, beta1=0.5, beta2=0.999)
    return Recipe(
        networks=dcgan_networks(facts, discriminator_norm="batch"),
        game=Game(loss="non-saturating", packing=2, generator=player, discriminator=player, ema_half_life=0),
    )
