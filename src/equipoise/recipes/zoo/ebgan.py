"""The discriminator is an autoencoder, which gives back real images and not generated ones (arXiv:1609.03126)."""

import dataclasses

from equipoise.recipe import Game, OptimizerSettings, Recipe
from equipoise.recipes.base import About, Facts, dcgan_networks
from equipoise.recipes.formulas import formulas_of

about = About(
    paper="arXiv:1609.03126",
    purpose="energies in place of probabilities: D is an autoencoder, and G makes what it gives back",
    whom="students of energies; when you want a D that has learned something of the images",
    result="181 (173–430), rarest class 6.1 %; at equal samples 2038 (1132–2129)",
    samples=53_120,
    formulas=(
        *formulas_of("energy"),
        "E(x) = the mean of (decoder(encoder(x)) − x)² over the pixels; D(x) = −E(x)",
        "G also: 0.001 · cos²(encoder(G(z₁)), encoder(G(z₂))), the mean over pairs of a batch",
    ),
    papers="The loss, an autoencoder as D, the pulling-away term (there EBGAN-PT), and convolutions with batch norm in "
    "both networks.",
    differs="The energy is a mean of squares over pixels in −1..1, some hundred times smaller than the paper's, and so "
    "are the margin (there from 10 up) and the weight of the pulling-away term (there 0.1). Encoder and decoder are "
    "the networks of dcgan around a code of 100 numbers; Adam 1e-3 with β 0.5, 0.999.",
)


def recipe(facts: Facts) -> Recipe:
    """Return the recipe for these facts."""
    player = OptimizerSettings(rate=1e-3, beta1=0.5, beta2=0.999)
    networks = dcgan_networks(facts, discriminator_norm="batch")
    return Recipe(
        networks=dataclasses.replace(networks, autoencoder=True),
        game=Game(
            loss="energy",
            margin=0.1,
            pulling_away=0.001,
            generator=player,
            discriminator=player,
            ema_half_life=0,
        ),
    )
