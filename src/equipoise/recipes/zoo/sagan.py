"""Residual networks that attend to all places of a picture at once (arXiv:1805.08318)."""

from equipoise.recipe import Game, Networks, OptimizerSettings, Recipe
from equipoise.recipes.base import About, Facts, width_for
from equipoise.recipes.formulas import formulas_of

ATTENDED = 32  # pixels a side at which the paper's networks attend

about = About(
    paper="SAGAN, arXiv:1805.08318",
    purpose="self-attention in both networks, spectral norm in both, two rates",
    whom="those whose pictures have parts that belong together at a distance; with classes: networks.conditional=true",
    result="1678 (1401–1920), rarest class 0.0 %; at equal samples 2058 (1371–2301)",
    samples=28_544,
    sizes=(128,),
    formulas=(
        *formulas_of("hinge"),
        "attention: βⱼᵢ = softmaxᵢ f(xᵢ)ᵀ g(xⱼ), oⱼ = v(Σᵢ βⱼᵢ h(xᵢ)), yⱼ = γ oⱼ + xⱼ",
    ),
    papers="Hinge loss (Eq. 4), attention (Eq. 1–3) at 32 pixels a side, spectral norm in both networks, 128 latents, "
    "Adam β 0, 0.9, rates 1e-4 of G and 4e-4 of D.",
    differs="Batch 64 for 256, width 16 or less for 64 (on a GPU 32), labels only with networks.conditional=true; "
    "images of less than 64 pixels are attended to at half of their side.",
)


def recipe(facts: Facts) -> Recipe:
    """Return the recipe for these facts."""
    return Recipe(
        networks=Networks(
            family="resnet",
            width=width_for(facts, 16),
            latent_size=128,
            generator_norm="batch",
            spectral_norm=True,
            generator_spectral_norm=True,
            attention=min(ATTENDED, facts.least_side // 2),
        ),
        game=Game(
            loss="hinge",
            generator=OptimizerSettings(rate=1e-4, beta1=0.0, beta2=0.9),
            discriminator=OptimizerSettings(rate=4e-4, beta1=0.0, beta2=0.9),
            ema_half_life=0,
        ),
    )
