"""Some latents are codes that the images have to show, so that they come to mean something (arXiv:1606.03657)."""

import dataclasses

from equipoise.recipe import Game, OptimizerSettings, Recipe
from equipoise.recipes.base import About, Facts, dcgan_networks
from equipoise.recipes.formulas import formulas_of

about = About(
    paper="arXiv:1606.03657",
    purpose="codes with a meaning, found without labels: a category of 10, and two numbers",
    whom="those without labels who want latents that mean something; when images fall into kinds",
    result="235 (234–250), rarest class 6.5 %; at equal samples 4273 (3663–4964)",
    samples=100_608,
    sizes=(28, 32),
    formulas=(
        *formulas_of("non-saturating"),
        "z: a category of K, all as likely; numbers c, uniform in −1..1; the rest is noise",
        "D and G also: λ · (−log Q(category | G(z)) + ½ ‖c − Q(G(z))‖²); Q is D's second output",
    ),
    papers="One category of 10, two numbers and 62 other latents, as for MNIST; λ 1; Q shares all layers of D but its "
    "last; batch norm; Adam with β₁ 0.5, 2e-4 for D and 1e-3 for G.",
    differs="The networks are those of dcgan. Q is one layer, and is trained with D. The numbers have a deviation of 1 "
    "in Q, not one that is learned. The codes are made of normal latents (the largest of ten, 2Φ(z) − 1), so that what "
    "draws latents draws codes.",
)


def recipe(facts: Facts) -> Recipe:
    """Return the recipe for these facts."""
    discriminator = OptimizerSettings(rate=2e-4, beta1=0.5, beta2=0.999)
    networks = dcgan_networks(facts, discriminator_norm="batch")
    return Recipe(
        networks=dataclasses.replace(networks, latent_size=74, categorical_codes=10, continuous_codes=2),
        game=Game(
            loss="non-saturating",
            information=1.0,
            generator=dataclasses.replace(discriminator, rate=1e-3),
            discriminator=discriminator,
            ema_half_life=0,
        ),
    )
