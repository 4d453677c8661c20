"""The discriminator is not told the class but names it, and both players gain by its being right (arXiv:1610.09585)."""

import dataclasses

from equipoise.recipe import Game, OptimizerSettings, Recipe
from equipoise.recipes.base import About, Facts, dcgan_networks
from equipoise.recipes.formulas import formulas_of

about = About(
    paper="arXiv:1610.09585",
    purpose="classes by naming them: D has a second output, which is a classifier",
    whom="those whose images have classes that are easily told apart; when you also want them clear",
    result="428 (416–435), rarest class 5.3 %; at equal samples 952 (942–1024)",
    samples=49_472,
    sizes=(32, 128),
    formulas=(
        *formulas_of("non-saturating"),
        "D also: −log C(y | x) − log C(y | G(z, y))",
        "G also: −log C(y | G(z, y)); C(y | …) is D's second output",
        "G also: max(0, 1 − d(G(z₁, y), G(z₂, y)) / d(x₁, x₂)), d the mean distance within a class",
    ),
    papers="D is not told the class and names it, of real and of generated images; G is told it beside the latents; "
    "weight 1; convolutions, batch norm, dropout 0.5 in D, Adam 2e-4 with β 0.5, 0.999.",
    differs="The networks of dcgan at the width that this machine trains in minutes; batch 64 for 100; one game for "
    "all classes, where the paper parts ImageNet into a hundred. A learned vector of the class, small at first, and "
    "the term of variety (after arXiv:1901.09024): without them the generator drew one picture of each class.",
)


def recipe(facts: Facts) -> Recipe:
    """Return the recipe for these facts."""
    player = OptimizerSettings(rate=2e-4, beta1=0.5, beta2=0.999)
    networks = dcgan_networks(facts, discriminator_norm="batch")
    return Recipe(
        networks=dataclasses.replace(networks, conditional=True, condition="naming", label_scale=0.1, dropout=0.5),
        game=Game(
            loss="non-saturating", auxiliary=1.0, variety=1.0, generator=player, discriminator=player, ema_half_life=0
        ),
    )
