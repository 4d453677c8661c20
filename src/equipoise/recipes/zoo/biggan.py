"""Residual networks whose blocks all see the latents, orthogonal at first, averaged (arXiv:1809.11096)."""

from equipoise.recipe import Game, Networks, OptimizerSettings, Recipe
from equipoise.recipes.base import About, Facts, width_for
from equipoise.recipes.formulas import formulas_of

ATTENDED = 64  # pixels a side at which the paper's networks of 128 pixels attend
HALF_LIFE = 6_931  # steps of an average that keeps 0.9999 of itself at each: ln 2 / 0.0001

about = About(
    paper="BigGAN, arXiv:1809.11096",
    purpose="latents and labels in every block, attention, orthogonal weights; wants a GPU",
    whom="those whose images have classes and who have a GPU, with networks.conditional=true",
    result="2523 (2443–2720), rarest class 0.0 %; at equal samples 2699 (2661–3024)",
    samples=33_280,
    sizes=(128, 256),
    formulas=(
        *formulas_of("hinge"),
        "latents: z = (z₀, z₁, …, zₙ), a piece for each block",
        "a norm of block k: (1 + Aₖ tₖ) · (h − μ)/σ + Bₖ tₖ, tₖ = (zₖ, e(y))",
    ),
    papers="Hinge loss, two steps of D for one of G, Adam β 0, 0.999, rates 5e-5 of G and 2e-4 of D, spectral norm in "
    "both, latents split over the blocks, one vector of 128 numbers a label for all blocks, orthogonal weights at "
    "first, an average that keeps 0.9999 of itself at each step.",
    differs="Batch 64 for 2,048 (on a GPU 256), width 16 or less for 96 (on a GPU 32), no orthogonal regularisation, "
    "no truncation of the latents; batch norms by the statistics of one device, and those of the average by the "
    "running ones of G, not taken anew; attention at half of the side where images have less than 128 pixels, over all "
    "places, where published code pools them: 17 GB at batch 256 and 64 × 64 places, so a smaller GPU wants a smaller "
    "game.batch.",
)


def recipe(facts: Facts) -> Recipe:
    """Return the recipe for these facts."""
    batch = 64 if facts.is_cpu else 256
    num_steps = 2
    return Recipe(
        networks=Networks(
            family="resnet",
            width=width_for(facts, 16),
            latent_size=120,
            generator_norm="batch",
            spectral_norm=True,
            generator_spectral_norm=True,
            attention=min(ATTENDED, facts.least_side // 2),
            latent_skips=True,
            orthogonal=True,
        ),
        game=Game(
            loss="hinge",
            generator=OptimizerSettings(rate=5e-5, beta1=0.0, beta2=0.999),
            discriminator=OptimizerSettings(rate=2e-4, beta1=0.0, beta2=0.999),
            batch=batch,
            discriminator_steps=num_steps,
            ema_half_life=HALF_LIFE * num_steps * batch,
        ),
    )
