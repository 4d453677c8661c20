"""Relativistic pairs with zero-centred penalties on real and generated images (arXiv:2501.05441).

On a GPU with the paper's kind of networks and settings. Two CPU cores take too few steps for those: there the
networks are a small DCGAN's without a norm in the discriminator, the rates higher and the penalty lazy.
"""

from equipoise.recipe import Game, Networks, OptimizerSettings, Penalty, Recipe
from equipoise.recipes.base import About, Facts, augmentation, width_for
from equipoise.recipes.formulas import formulas_of

about = About(
    paper="R3GAN, arXiv:2501.05441",
    purpose="the default where photos is not: relativistic pairs, R1 + R2, averaged generator",
    whom="everybody with images of their own; when you have no reason to take another one",
    result="74 (73–76), rarest class 8.2 %; at equal samples 740 (629–752)",
    samples=95_488,
    formulas=formulas_of("relativistic", "r1+r2"),
    papers="Loss and both penalties; no norm in D; rates and γ fall over the budget. On a GPU also rates, γ, width and "
    "the kind of networks: grouped residual blocks without normalisation, of fix-up scale.",
    differs="On a CPU a small DCGAN with batch norm in G, rates from 1e-3, and γ 0.3 → 0.1 on every 8th step. On a GPU "
    "the blocks begin at half the size of the images, and β₂ and the average do not change with time. Few images are "
    "augmented.",
)


def recipe(facts: Facts) -> Recipe:
    """Return the recipe for these facts."""
    if not facts.is_cpu:
        player = OptimizerSettings(rate=2e-4, rate_end=5e-5, beta1=0.0, beta2=0.99)
        networks = Networks(family="modern", width=width_for(facts, 32), latent_size=64)
        penalty = Penalty(kind="r1+r2", gamma=0.05, gamma_end=0.005)
    else:
        player = OptimizerSettings(rate=1e-3, rate_end=1e-4, beta1=0.0, beta2=0.99)
        networks = Networks(family="dcgan", width=width_for(facts, 32), latent_size=64, generator_norm="batch")
        penalty = Penalty(kind="r1+r2", gamma=0.3, gamma_end=0.1, every=8)
    return Recipe(
        networks=networks,
        game=Game(loss="relativistic", penalty=penalty, generator=player, discriminator=player, ema_half_life=10_000),
        augment=augmentation(facts),
    )
