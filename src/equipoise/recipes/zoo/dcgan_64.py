"""The DCGAN as it was published: 100 latents, 512-256-128-64 channels, 64×64 pixels (arXiv:1511.06434)."""

from equipoise.recipe import Game, Images, Networks, OptimizerSettings, Recipe
from equipoise.recipes.base import About, Facts
from equipoise.recipes.formulas import formulas_of

about = About(
    paper="arXiv:1511.06434",
    purpose="teaches: the DCGAN as published, 64×64; wants a GPU",
    whom="readers of the paper who have a GPU; when you want its networks and settings as they were",
    result="2821 (2775–2866), rarest class 0.0 %; at equal samples 2761 (2512–2905)",
    samples=5_120,
    sizes=(64,),
    formulas=formulas_of("non-saturating"),
    papers=(
        "Networks of 512-256-128-64 channels at 64 × 64, 100 latents, batch norm, weights from N(0, 0.02), batch "
        "128, Adam 2e-4 with β₁ 0.5."
    ),
    differs="Normal latents for uniform ones.",
)


def recipe(_: Facts) -> Recipe:
    """Return the recipe for these facts."""
    player = OptimizerSettings(rate=2e-4, beta1=0.5, beta2=0.999)
    return Recipe(
        task=Images(size=64),
        networks=Networks(
            family="dcgan", width=64, latent_size=100, generator_norm="batch", discriminator_norm="batch"
        ),
        game=Game(loss="non-saturating", generator=player, discriminator=player, batch=128, ema_half_life=0),
    )
