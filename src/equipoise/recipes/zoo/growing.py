"""Networks that grow: pictures of 8 pixels a side first, then twice as many, and so on (arXiv:1710.10196)."""

from equipoise.recipe import Game, Networks, OptimizerSettings, Penalty, Recipe, Stopping
from equipoise.recipes.base import About, Facts, width_for
from equipoise.recipes.formulas import formulas_of

about = About(
    paper="arXiv:1710.10196",
    purpose="small pictures first, then twice the side again and again, each faded in",
    whom="those who want to see shapes come before details, or have large pictures and a GPU",
    result="393 (389–411), rarest class 6.7 %; at equal samples 1134 (1113–1208)",
    samples=69_760,
    formulas=(
        *formulas_of("wasserstein", "wgan-gp"),
        "while stage n fades in: G = (1 − a) · up(Gₙ₋₁) + a · Gₙ, a from 0 to 1",
        "and D = Dₙ₋₁ ∘ ((1 − a) · fromₙ₋₁ ∘ down + a · blockₙ ∘ fromₙ)",
    ),
    papers="All stages take as many samples, half of them to fade in; WGAN-GP with weight 10, one step of D, "
    "Adam 1e-3, β 0, 0.99, minibatch deviation, an averaged generator.",
    differs="Begins at 8 pixels (6, 10 … at other sizes) and not at 4, as a DCGAN ends at twice its lowest side; batch "
    "norm in G for pixelwise norms and an equalised rate; no drift term; batch 64 at all stages; 20,000 samples a "
    "stage on a CPU and 200,000 on a GPU for 1,600,000; penalties are on the gradient by pixels of the full size; "
    "real images do not fade between two sizes; sizes that cannot be halved evenly are refused; the layers are a "
    "DCGAN's, with transposed convolutions and tanh.",
)


def recipe(facts: Facts) -> Recipe:
    """Return the recipe for these facts."""
    player = OptimizerSettings(rate=1e-3, beta1=0.0, beta2=0.99)
    return Recipe(
        networks=Networks(
            family="dcgan",
            width=width_for(facts, 32),
            latent_size=128,
            generator_norm="batch",
            minibatch_deviation=True,
            growing=20_000 if facts.is_cpu else 200_000,
        ),
        game=Game(
            loss="wasserstein",
            penalty=Penalty(kind="wgan-gp", gamma=10.0),
            generator=player,
            discriminator=player,
            ema_half_life=10_000,
        ),
        stopping=Stopping(policy="budget"),  # scores stand still at the end of a stage
    )
