"""Small pictures first, and then networks that refine them to the full size (arXiv:1612.03242)."""

from equipoise.recipe import Game, Networks, OptimizerSettings, Recipe, Stopping
from equipoise.recipes.base import About, Facts, width_for
from equipoise.recipes.formulas import formulas_of

about = About(
    paper="StackGAN, arXiv:1612.03242",
    purpose="two stages: small pictures, then what refines them",
    whom="those who want to see a coarse picture become a fine one, with classes: networks.conditional=true",
    result="1238 (910–1309), rarest class 0.0 %; at equal samples 1906 (1816–1948)",
    samples=44_608,
    sizes=(256,),
    formulas=(
        *formulas_of("non-saturating"),
        "stage one: x̃ = G₀(z) at a quarter of the side, judged by D₀",
        "stage two: G(z) = refined(x̃, z), judged by D; G₀ stays as it is",
    ),
    papers="A quarter of the side in stage one, the pictures and once more what they were made from in stage two, "
    "residual blocks, stage one frozen in stage two, Adam 2e-4, β 0.5, batch 64.",
    differs="Labels (networks.conditional=true) or nothing in place of a text, so no conditioning augmentation and no "
    "pairs of a picture and a wrong text; the small picture is not reduced further; rates are constant; 20,000 samples "
    "of stage one on a CPU and 200,000 on a GPU for 600 epochs; half of the side where a quarter is below 5 pixels.",
)


def recipe(facts: Facts) -> Recipe:
    """Return the recipe for these facts."""
    player = OptimizerSettings(rate=2e-4, beta1=0.5, beta2=0.999)
    return Recipe(
        networks=Networks(
            family="dcgan",
            width=width_for(facts, 32),
            latent_size=100,
            generator_norm="batch",
            discriminator_norm="batch",
            stacked=20_000 if facts.is_cpu else 200_000,
        ),
        game=Game(loss="non-saturating", generator=player, discriminator=player, ema_half_life=0),
        stopping=Stopping(policy="budget"),  # scores stand still at the end of stage one
    )
