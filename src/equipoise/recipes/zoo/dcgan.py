"""The deep convolutional GAN with batch normalisation (arXiv:1511.06434)."""

from equipoise.recipe import Game, OptimizerSettings, Recipe
from equipoise.recipes.base import About, Facts, dcgan_networks
from equipoise.recipes.formulas import formulas_of

about = About(
    paper="arXiv:1511.06434",
    purpose="the convolutional baseline, with batch normalisation",
    whom="those who compare; when you need the reference that most papers name",
    result="287 (237–295), rarest class 4.7 %; at equal samples 1764 (1169–1876)",
    samples=98_880,
    sizes=(64,),
    formulas=formulas_of("non-saturating"),
    papers=(
        "Convolutions of stride 2 without pooling, batch norm in both networks but next to the pixels, ReLU in G, "
        "leaky ReLU of slope 0.2 in D, 100 latents, weights from N(0, 0.02), Adam 2e-4 with β₁ 0.5."
    ),
    differs=(
        "The width, which is what this machine trains in minutes; batch 64 for 128; normal latents for uniform "
        "ones; any size of images."
    ),
)


def recipe(facts: Facts) -> Recipe:
    """Return the recipe for these facts."""
    player = OptimizerSettings(rate=2e-4, beta1=0.5, beta2=0.999)
    return Recipe(
        networks=dcgan_networks(facts, discriminator_norm="batch"),
        game=Game(loss="non-saturating", generator=player, discriminator=player, ema_half_life=0),
    )
