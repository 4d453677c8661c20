"""The perceptrons of most tutorials: 784-1024-512-256, cross-entropy, Adam (arXiv:1406.2661)."""

from equipoise.recipe import Game, Networks, OptimizerSettings, Recipe
from equipoise.recipes.base import About, Facts
from equipoise.recipes.formulas import formulas_of

about = About(
    paper="arXiv:1406.2661",
    purpose="teaches: the perceptron GAN of most tutorials",
    whom="beginners; when you follow a tutorial, or want to see what every other recipe should beat",
    result="916 (859–1301), rarest class 0.0 %; at equal samples 3883 (3351–4753)",
    samples=235_904,
    sizes=(28,),
    formulas=formulas_of("non-saturating"),
    papers="The loss of section 3 in its form that does not saturate, on perceptrons.",
    differs=(
        "What tutorials made of it: 784-1024-512-256 units with leaky ReLU and dropout 0.3 in D, Adam 2e-4 with "
        "β₁ 0.5. The paper has maxout, and momentum."
    ),
)


def recipe(_: Facts) -> Recipe:
    """Return the recipe for these facts."""
    player = OptimizerSettings(rate=2e-4, beta1=0.5, beta2=0.999)
    return Recipe(
        networks=Networks(family="mlp", width=1024, latent_size=100, dropout=0.3),
        game=Game(loss="non-saturating", generator=player, discriminator=player, ema_half_life=0),
    )
