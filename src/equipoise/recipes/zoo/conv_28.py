"""A small convolutional GAN on 28×28 with dropout, stopped by patience on a validation score."""

from equipoise.recipe import Game, Images, Networks, OptimizerSettings, Recipe, Stopping
from equipoise.recipes.base import About, Facts
from equipoise.recipes.formulas import formulas_of

about = About(
    paper="arXiv:1406.2661",
    purpose="teaches: dropout, and patience on a validation score",
    whom="beginners; when you want to see a training that stops by patience",
    result="5858 (4834–6053), rarest class 0.0 %; at equal samples 6640 (5199–6676)",
    samples=29_440,
    sizes=(28,),
    formulas=formulas_of("non-saturating"),
    papers="The loss.",
    differs=(
        "Everything else: convolutions, dropout 0.3 in D, batch norm in G, Adam 1e-4 with β 0.9, 0.999, batch "
        "256, and a stop by patience. The paper has perceptrons with maxout, and momentum."
    ),
)


def recipe(_: Facts) -> Recipe:
    """Return the recipe for these facts."""
    player = OptimizerSettings(rate=1e-4, beta1=0.9, beta2=0.999)
    return Recipe(
        task=Images(size=28),
        networks=Networks(family="dcgan", width=64, latent_size=100, generator_norm="batch", dropout=0.3),
        game=Game(loss="non-saturating", generator=player, discriminator=player, batch=256, ema_half_life=0),
        stopping=Stopping(policy="patience"),
    )
