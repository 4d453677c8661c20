"""R3GAN with the settings of its paper, on any machine (arXiv:2501.05441); `modern` takes others on a CPU."""

from equipoise.recipe import Game, Networks, OptimizerSettings, Penalty, Recipe
from equipoise.recipes.base import About, Facts, augmentation, width_for
from equipoise.recipes.formulas import formulas_of

about = About(
    paper="R3GAN, arXiv:2501.05441",
    purpose="the paper's networks and settings also where modern takes others; wants a GPU",
    whom="readers of the paper; when you want its settings as they were, also on a CPU, where they are slow",
    result="1441 (1342–1658), rarest class 0.0 %; at equal samples 1609 (1489–2516)",
    samples=33_536,
    sizes=(32, 64, 256),
    formulas=formulas_of("relativistic", "r1+r2"),
    papers="Relativistic pairs, R1 and R2 at every step, γ that falls to a tenth (from 0.05 at 32 pixels, 2 at 64, 150 "
    "at 256), Adam β 0 and 0.9 → 0.99, rates 2e-4 → 5e-5, all on a cosine, 64 latents, residual blocks without a norm.",
    differs="16 channels or less next to the pixels, doubled at each halving (on a GPU 96), for 768 at the lowest "
    "sides, and on a CPU rates 1e-3 → 2.5e-4: two cores take few steps; blocks begin at half of the side; batch 64 for "
    "512 (on a GPU 256); the average's half-life of 5,000,000 (500,000 above 45 pixels) is at most 5 % of what "
    "was seen; the cosine takes the whole budget, where the paper's ends and stays; few images are "
    "augmented as in modern and others not, where the paper augments more and more.",
)


def recipe(facts: Facts) -> Recipe:
    """Return the recipe for these facts."""
    gamma, half_life = _of_size(facts.size)
    rate = 1e-3 if facts.is_cpu else 2e-4
    player = OptimizerSettings(rate=rate, rate_end=rate / 4, beta1=0.0, beta2=0.9, beta2_end=0.99)
    return Recipe(
        networks=Networks(family="modern", width=width_for(facts, 16) if facts.is_cpu else 96, latent_size=64),
        game=Game(
            loss="relativistic",
            penalty=Penalty(kind="r1+r2", gamma=gamma, gamma_end=gamma / 10),
            generator=player,
            discriminator=player,
            batch=64 if facts.is_cpu else 256,
            ema_half_life=half_life,
        ),
        augment=augmentation(facts),
    )


def _of_size(size: int) -> tuple[float, int]:
    """Return γ at the start and the half-life of the average: the paper's of the nearest of its sizes."""
    if size <= 45:
        return 0.05, 5_000_000  # CIFAR-10, 32 pixels
    if size <= 128:
        return 2.0, 500_000  # FFHQ at 64
    return 150.0, 500_000  # FFHQ at 256
