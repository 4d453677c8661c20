"""Wasserstein distance by weight clipping, five critic steps a generator step (arXiv:1701.07875)."""

from equipoise.recipe import Game, OptimizerSettings, Recipe
from equipoise.recipes.base import About, Facts, dcgan_networks
from equipoise.recipes.formulas import formulas_of

about = About(
    paper="arXiv:1701.07875",
    purpose="to see weight clipping at work; slow",
    whom="students of the Wasserstein distance; when you want to watch the clipping, not soon have good images",
    result="1368 (1307–1467), rarest class 0.3 %; at equal samples 3497 (3411–3614)",
    samples=168_960,
    sizes=(64,),
    formulas=(
        *formulas_of("wasserstein"),
        "after each step of D: w ← clip(w, −0.01, 0.01)",
    ),
    papers="The loss, the clipping at 0.01, five steps of D for each of G, RMSProp at 5e-5, batch 64.",
    differs="The width. The paper has 100 steps of D at first, and now and then; these are always five.",
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
