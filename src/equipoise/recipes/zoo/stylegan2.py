"""Latents become styles that modulate every convolution, under a lazy penalty (arXiv:1912.04958)."""

from equipoise.recipe import Game, Networks, OptimizerSettings, Penalty, Recipe
from equipoise.recipes.base import About, Facts, augmentation, width_for
from equipoise.recipes.formulas import formulas_of

EVERY = 16  # steps of D for each one with a penalty
STRENGTH = 0.0002  # of the penalty, for each pixel and each sample of a batch (arXiv:2006.06676, appendix C)
BATCH = 64

about = About(
    paper="StyleGAN2, arXiv:1912.04958",
    purpose="styles by a mapping network, skip outputs, residual D, lazy R1; wants a GPU",
    whom="those who want to change pictures by their styles, or compare with what most papers compare with",
    result="1498 (1423–1713), rarest class 0.0 %; at equal samples 1552 (1523–1622)",
    samples=16_960,
    sizes=(256,),
    formulas=(
        *formulas_of("non-saturating", "r1"),
        "G(z) = g(w), w = f(z)",
        "a layer's weights: w'ᵢⱼₖ = sᵢ wᵢⱼₖ, w''ᵢⱼₖ = w'ᵢⱼₖ / √(Σᵢₖ w'ᵢⱼₖ² + ε), s = A w + 1",
    ),
    papers="Mapping of 8 layers with a hundredth of the rate, modulated and demodulated convolutions (Eq. 1–3), skip "
    "outputs, residual D with minibatch deviation, an equalised rate, R1 on every 16th step with Adam's settings "
    "changed for it, Adam 2e-3, β 0, 0.99, an average with a half-life of 10,000 samples.",
    differs="No noise, as networks have no random draws of their own; no path length regularisation and no mixing of "
    "styles; γ is 0.0002 · pixels / batch, the rule of arXiv:2006.06676, as 10 was for 1024 × 1024; 128 latents and "
    "styles for 512, width 16 or less (on a GPU 32), which is the paper's at 1024 pixels; the deviation is of the "
    "whole minibatch and not of groups of 4; few images are augmented, as in modern.",
)


def recipe(facts: Facts) -> Recipe:
    """Return the recipe for these facts."""
    share = EVERY / (EVERY + 1)  # of the steps, once those of the penalty alone are steps like others (appendix B)
    return Recipe(
        networks=Networks(family="style", width=width_for(facts, 16), latent_size=128, minibatch_deviation=True),
        game=Game(
            loss="non-saturating",
            penalty=Penalty(kind="r1", gamma=STRENGTH * facts.size**2 / BATCH, every=EVERY),
            generator=OptimizerSettings(rate=2e-3, beta1=0.0, beta2=0.99),
            discriminator=OptimizerSettings(rate=share * 2e-3, beta1=0.0, beta2=0.99**share),
            batch=BATCH,
            ema_half_life=10_000,
        ),
        augment=augmentation(facts),
    )
