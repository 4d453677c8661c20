"""Both players are told the class, the discriminator by projection (arXiv:1802.05637)."""

from equipoise.recipe import Game, Networks, OptimizerSettings, Recipe
from equipoise.recipes.base import About, Facts, width_for
from equipoise.recipes.formulas import formulas_of

about = About(
    paper="arXiv:1802.05637",
    purpose="classes by projection: a product of the label's vector and D's features",
    whom="those whose images have many classes, with time; when you ask for one of them",
    result="985 (959–1223), rarest class 1.5 %; at equal samples 1180 (1101–1258)",
    samples=59_520,
    sizes=(64, 128),
    formulas=(
        *formulas_of("hinge"),
        "with the class y: G(z, y) and D(x, y)",
        "D(x, y) = w · h(x) + b + ⟨v(y), h(x)⟩; h(x) are D's features, v(y) is a learned vector",
    ),
    papers="The projection; residual networks with batch norms by class in G and spectral norm in D; hinge loss; five "
    "steps of D for each of G; Adam 2e-4, β 0, 0.9; 128 latents.",
    differs="The width; the label joins D behind all of its layers, at any size; an averaged generator; batches of one "
    "size for both players.",
)


def recipe(facts: Facts) -> Recipe:
    """Return the recipe for these facts."""
    player = OptimizerSettings(rate=2e-4, beta1=0.0, beta2=0.9)
    return Recipe(
        networks=Networks(
            family="resnet",
            width=width_for(facts, 16),
            latent_size=128,
            generator_norm="batch",
            spectral_norm=True,
            conditional=True,
        ),
        game=Game(loss="hinge", generator=player, discriminator=player, discriminator_steps=5, ema_half_life=10_000),
    )
