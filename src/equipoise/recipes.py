"""Named recipes: each a function from the facts of the data to a Recipe, with its paper and what it is for.

Widths and batches follow from the facts: on a CPU they are what two cores can train in minutes.
"""

import dataclasses
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, assert_never, get_args

from equipoise.errors import Option, UserError, listed, suggested
from equipoise.recipe import (
    Augment,
    AugmentationName,
    Custom,
    Evaluation,
    Game,
    Images,
    Networks,
    OptimizerSettings,
    Penalty,
    Points,
    Recipe,
    Stopping,
    SuperResolution,
    TaskSettings,
)

RecipeName = Literal[
    "modern", "dcgan", "wgan", "wgan-gp", "lsgan", "hinge-sn", "mlp-classic", "dcgan-64", "conv-28", "photos"
]
IN_A_GROUP = 80  # training images, at least, where the networks are told groups
LEAST_GROUPS = 4
MOST_GROUPS = 50
IN_COLOUR = (32, 64)  # pixels a side, from and up to which `photos` was measured against `modern`
FEW_IMAGES = 10_000  # below this the discriminator learns them by heart, and augmentation helps (arXiv:2006.06676)


@dataclass(frozen=True)
class Facts:
    """What is known of the data and the machine before a recipe is made."""

    size: int = 28  # pixels a side; of a rectangle that of a square of about as many pixels
    channels: int = 1
    num_train: int = 60_000
    is_cpu: bool = True
    has_pretrained: bool = True  # the weights of ImageNet that `photos` needs are there


@dataclass(frozen=True)
class About:
    """What a person wants to know of a recipe before choosing it."""

    paper: str
    purpose: str
    whom: str  # who takes it, and when
    result: str  # measured by bench/demo.py --name recipes, or where to find what was
    samples: int | None  # shown until then; None: it is not for digits
    sizes: tuple[int, ...] = ()  # pixels a side that its networks were made for; empty: no size in particular


SETTING = (
    "Fréchet distance of 5,000 samples in an outside classifier's features on MNIST after 90 s of "
    "training on one core, one seed, lower is better; in brackets the share of the rarest class"
)


def usual(facts: Facts, task: TaskSettings | None = None) -> RecipeName:
    """Return the recipe of those who name none: `photos` for what it was measured to draw better, else `modern`."""
    least, most = IN_COLOUR
    in_colour = isinstance(task, None | Images) and facts.channels == 3 and least <= facts.size <= most
    return "photos" if in_colour and facts.is_cpu and facts.has_pretrained else "modern"


def build(name: RecipeName, facts: Facts, task: TaskSettings | None = None) -> Recipe:
    """Return the named recipe for these data, this machine and this task; without one, for images."""
    recipe = dataclasses.replace(_function(name)(facts), name=name)
    match task:
        case None | Images():
            return for_images(recipe, facts)
        case Points():
            return for_points(recipe, task)
        case SuperResolution():
            return for_super_resolution(recipe, task)
        case Custom():
            return dataclasses.replace(recipe, task=task)
        case _ as unreachable:
            assert_never(unreachable)


def for_images(recipe: Recipe, facts: Facts) -> Recipe:
    """Return a recipe for images: colours are judged by features that need fewer images and cost more."""
    if facts.is_cpu and facts.channels in (3, 4):
        return dataclasses.replace(recipe, evaluation=dataclasses.replace(recipe.evaluation, num_samples=1_000))
    return recipe


def for_points(recipe: Recipe, task: Points) -> Recipe:
    """Return a recipe for points in the plane: its loss and penalty over small perceptrons, with higher rates."""
    game = recipe.game
    rates = {"rate": 1e-3, "rate_end": 1e-4, "beta1": 0.5, "beta2": 0.9}
    gamma = 0.1 if game.penalty.kind == "wgan-gp" else game.penalty.gamma  # as its authors have it on toys
    game = dataclasses.replace(
        game,
        batch=256,
        variety=0.0,
        generator=dataclasses.replace(game.generator, **rates),
        discriminator=dataclasses.replace(game.discriminator, **rates),
        ema_half_life=20_000 if game.ema_half_life else 0,
        penalty=dataclasses.replace(game.penalty, every=1, gamma=gamma),
    )
    return dataclasses.replace(
        recipe,
        task=task,
        networks=Networks(family="mlp", width=128, latent_size=2, dropout=0.0),
        game=game,
        augment=Augment(),
        evaluation=Evaluation(num_samples=2_500),
    )


def for_super_resolution(recipe: Recipe, task: SuperResolution) -> Recipe:
    """Return a recipe for super-resolution: its loss in pairs, a small residual network, Adam as SRGAN's successors."""
    rates = {"optimizer": "adam", "rate": 5e-4, "rate_end": 5e-5, "beta1": 0.9, "beta2": 0.99}
    game = dataclasses.replace(
        recipe.game,
        batch=16,
        variety=0.0,
        generator=dataclasses.replace(recipe.game.generator, **rates),
        discriminator=dataclasses.replace(recipe.game.discriminator, **rates | {"rate": 1e-4, "rate_end": 1e-5}),
        ema_half_life=10_000,
        discriminator_steps=1,
        penalty=Penalty(kind="r1", gamma=0.1, every=16),
    )
    networks = Networks(family="resnet", width=32, latent_size=1)
    return dataclasses.replace(recipe, task=task, networks=networks, game=game, augment=Augment())


def recipe_for(recipe: RecipeName | Recipe | None, facts: Facts, task: TaskSettings | None) -> Recipe:
    """Return the recipe of a name for these facts and this task, or the one given, with this task.

    A recipe that is given keeps its own settings of that task; None is the usual one. Raises UserError.
    """
    if recipe is None:
        return build(usual(facts, task), facts, task)
    if not isinstance(recipe, Recipe):
        return build(checked_name(recipe), facts, task)
    if task is None or (type(task) is type(recipe.task) and not isinstance(task, Custom)):
        return recipe
    return dataclasses.replace(recipe, task=task)


def modern(facts: Facts) -> Recipe:
    """Relativistic pairs with zero-centred penalties on real and generated images (arXiv:2501.05441).

    On a GPU with the paper's kind of networks and settings. Two CPU cores take too few steps for those: there the
    networks are a small DCGAN's without a norm in the discriminator, the rates higher and the penalty lazy.
    """
    if not facts.is_cpu:
        player = OptimizerSettings(rate=2e-4, rate_end=5e-5, beta1=0.0, beta2=0.99)
        networks = Networks(family="modern", width=_width(facts, 32), latent_size=64)
        penalty = Penalty(kind="r1+r2", gamma=0.05, gamma_end=0.005)
    else:
        player = OptimizerSettings(rate=1e-3, rate_end=1e-4, beta1=0.0, beta2=0.99)
        networks = Networks(family="dcgan", width=_width(facts, 32), latent_size=64, generator_norm="batch")
        penalty = Penalty(kind="r1+r2", gamma=0.3, gamma_end=0.1, every=8)
    return Recipe(
        networks=networks,
        game=Game(loss="relativistic", penalty=penalty, generator=player, discriminator=player, ema_half_life=10_000),
        augment=_augment(facts),
    )


def photos(facts: Facts) -> Recipe:
    """Two discriminators, one of pixels and one of ImageNet's features, for photographs in colour on a CPU.

    Beside `modern`'s game on pixels a projected discriminator (arXiv:2111.01007) gives shapes. It would forget colours
    and kinds: groups that the networks are told (arXiv:2006.10728) keep the kinds, and variety within a group is asked
    for by what a batch looks like (arXiv:1710.10196) and by a term of its own (arXiv:1901.09024).
    """
    base = modern(dataclasses.replace(facts, is_cpu=True))
    networks = Networks(
        family="dcgan",
        width=32 if facts.is_cpu else 64,
        latent_size=64,
        generator_norm="batch",
        smooth=True,
        pretrained=facts.channels in (1, 3),
        minibatch_deviation=True,
        groups=_groups(facts),
    )
    augment = Augment(kinds=_kinds(facts), probability=1.0)  # else 48,000 are learned by heart
    game = dataclasses.replace(base.game, variety=2.0)
    return dataclasses.replace(base, networks=networks, game=game, augment=augment)


def dcgan(facts: Facts) -> Recipe:
    """The deep convolutional GAN with batch normalisation (arXiv:1511.06434)."""
    player = OptimizerSettings(rate=2e-4, beta1=0.5, beta2=0.999)
    return Recipe(
        networks=_dcgan_networks(facts, discriminator_norm="batch"),
        game=Game(loss="non-saturating", generator=player, discriminator=player, ema_half_life=0),
    )


def wgan(facts: Facts) -> Recipe:
    """Wasserstein distance by weight clipping, five critic steps a generator step (arXiv:1701.07875)."""
    player = OptimizerSettings(optimizer="rmsprop", rate=5e-5, beta1=0.0, beta2=0.99)
    return Recipe(
        networks=_dcgan_networks(facts, discriminator_norm="batch"),
        game=Game(
            loss="wasserstein",
            generator=player,
            discriminator=player,
            discriminator_steps=5,
            weight_clip=0.01,
            ema_half_life=0,
        ),
    )


def wgan_gp(facts: Facts) -> Recipe:
    """Wasserstein distance with a gradient penalty instead of clipping (arXiv:1704.00028)."""
    player = OptimizerSettings(rate=1e-4, beta1=0.0, beta2=0.9)
    return Recipe(
        networks=_dcgan_networks(facts, discriminator_norm="none"),
        game=Game(
            loss="wasserstein",
            penalty=Penalty(kind="wgan-gp", gamma=10.0),
            generator=player,
            discriminator=player,
            discriminator_steps=5,
            ema_half_life=0,
        ),
    )


def lsgan(facts: Facts) -> Recipe:
    """Least squares instead of cross-entropy (arXiv:1611.04076)."""
    player = OptimizerSettings(rate=2e-4, beta1=0.5, beta2=0.999)
    return Recipe(
        networks=_dcgan_networks(facts, discriminator_norm="batch"),
        game=Game(loss="least-squares", generator=player, discriminator=player, ema_half_life=0),
    )


def hinge_sn(facts: Facts) -> Recipe:
    """Hinge loss, residual networks and a spectrally normalised discriminator (arXiv:1802.05957)."""
    player = OptimizerSettings(rate=2e-4, beta1=0.0, beta2=0.9)
    return Recipe(
        networks=Networks(
            family="resnet", width=_width(facts, 16), latent_size=128, generator_norm="batch", spectral_norm=True
        ),
        game=Game(loss="hinge", generator=player, discriminator=player, ema_half_life=10_000),
    )


def mlp_classic(_: Facts) -> Recipe:
    """The perceptrons of most tutorials: 784-1024-512-256, cross-entropy, Adam (arXiv:1406.2661)."""
    player = OptimizerSettings(rate=2e-4, beta1=0.5, beta2=0.999)
    return Recipe(
        networks=Networks(family="mlp", width=1024, latent_size=100, dropout=0.3),
        game=Game(loss="non-saturating", generator=player, discriminator=player, ema_half_life=0),
    )


def dcgan_64(_: Facts) -> Recipe:
    """The DCGAN as it was published: 100 latents, 512-256-128-64 channels, 64×64 pixels (arXiv:1511.06434)."""
    player = OptimizerSettings(rate=2e-4, beta1=0.5, beta2=0.999)
    return Recipe(
        task=Images(size=64),
        networks=Networks(
            family="dcgan", width=64, latent_size=100, generator_norm="batch", discriminator_norm="batch"
        ),
        game=Game(loss="non-saturating", generator=player, discriminator=player, batch=128, ema_half_life=0),
    )


def conv_28(_: Facts) -> Recipe:
    """A small convolutional GAN on 28×28 with dropout, stopped by patience on a validation score."""
    player = OptimizerSettings(rate=1e-4, beta1=0.9, beta2=0.999)
    return Recipe(
        task=Images(size=28),
        networks=Networks(family="dcgan", width=64, latent_size=100, generator_norm="batch", dropout=0.3),
        game=Game(loss="non-saturating", generator=player, discriminator=player, batch=256, ema_half_life=0),
        stopping=Stopping(policy="patience"),
    )


ABOUT: dict[RecipeName, About] = {
    "modern": About(
        paper="R3GAN, arXiv:2501.05441",
        purpose="the default where photos is not: relativistic pairs, R1 + R2, averaged generator",
        whom="everybody with images of their own; when you have no reason to take another one",
        result="90.9 (8.0 %)",
        samples=89_664,
    ),
    "dcgan": About(
        paper="arXiv:1511.06434",
        purpose="the convolutional baseline, with batch normalisation",
        whom="those who compare; when you need the reference that most papers name",
        result="290 (4.2 %)",
        samples=94_528,
        sizes=(64,),
    ),
    "wgan": About(
        paper="arXiv:1701.07875",
        purpose="to see weight clipping at work; slow",
        whom="students of the Wasserstein distance; when you want to watch the clipping, not soon have good images",
        result="1508 (0.0 %)",
        samples=159_040,
        sizes=(64,),
    ),
    "wgan-gp": About(
        paper="arXiv:1704.00028",
        purpose="a gradient penalty in place of clipping; five critic steps",
        whom="students of gradient penalties, with time; when you compare with wgan",
        result="1593 (0.0 %)",
        samples=93_440,
        sizes=(64,),
    ),
    "lsgan": About(
        paper="arXiv:1611.04076",
        purpose="least squares: gradients that do not vanish far away",
        whom="those who compare losses; when you want dcgan with another loss and all else the same",
        result="475 (4.1 %)",
        samples=92_864,
        sizes=(64,),
    ),
    "hinge-sn": About(
        paper="arXiv:1802.05957",
        purpose="residual networks under spectral normalisation",
        whom="those whose images have classes; when you ask for one of them, with networks.conditional=true",
        result="831 (1.6 %)",
        samples=36_736,
        sizes=(32, 128),
    ),
    "mlp-classic": About(
        paper="arXiv:1406.2661",
        purpose="teaches: the perceptron GAN of most tutorials",
        whom="beginners; when you follow a tutorial, or want to see what every other recipe should beat",
        result="848 (0.1 %)",
        samples=215_232,
        sizes=(28,),
    ),
    "dcgan-64": About(
        paper="arXiv:1511.06434",
        purpose="teaches: the DCGAN as published, 64×64; wants a GPU",
        whom="readers of the paper who have a GPU; when you want its networks and settings as they were",
        result="2682 (0.0 %)",
        samples=6_144,
        sizes=(64,),
    ),
    "conv-28": About(
        paper="arXiv:1406.2661",
        purpose="teaches: dropout, and patience on a validation score",
        whom="beginners; when you want to see a training that stops by patience",
        result="6240 (0.0 %)",
        samples=28_928,
        sizes=(28,),
    ),
    "photos": About(
        paper="arXiv:2111.01007",
        purpose="the default for colour, 32 to 64 pixels, on a CPU: D also sees ImageNet's features",
        whom="everybody with photographs or drawings in colour; when you have half an hour or more",
        result="not on digits, as it is for colour: docs/recipes.md",
        samples=None,
    ),
}


def checked_name(name: str) -> RecipeName:
    """Return the name if there is such a recipe; raises UserError."""
    names = get_args(RecipeName)
    for known in names:
        if known == name:
            return known
    raise UserError(Option("recipe", name), f"there are {listed(names)}", *suggested(name, names))


def about_of(name: str) -> tuple[RecipeName, About] | None:
    """Return what is known of a recipe by its name, None of a name that is another's."""
    return next((found for found in ABOUT.items() if found[0] == name), None)


def sizes_in_words(sizes: tuple[int, ...]) -> str:
    """Say what size of images a recipe is made for."""
    if not sizes:
        return "images of any size"
    return f"images of {listed([f'{size} × {size}' for size in sizes])} pixels"


def listing() -> str:
    """Return all recipes as plain text."""
    blocks = []
    for name, about in ABOUT.items():
        text = [
            f"{about.purpose} ({about.paper})",
            f"for {about.whom}",
            f"made for: {sizes_in_words(about.sizes)}",
            f"measured: {about.result}",
        ]
        blocks.append("\n".join([name, *(textwrap.indent(textwrap.fill(line, 76), "    ") for line in text)]))
    made_for = textwrap.fill(
        "made for: at any size from 8 to 1024 pixels a side a recipe fits its networks to the images. At another size "
        "than its own these are other networks; equipoise train and data check say which.",
        80,
    )
    measured = textwrap.fill(f"measured: {SETTING}.", 80)
    return "\n\n".join([*blocks, made_for, measured, "Use one with: equipoise train SOURCE --recipe NAME"])


def listing_values() -> list[dict[str, Any]]:
    """Return all recipes with what is known of them as plain values."""
    return [{"name": name, **dataclasses.asdict(about)} for name, about in ABOUT.items()]


def _function(name: RecipeName) -> Callable[[Facts], Recipe]:
    match name:
        case "modern":
            return modern
        case "dcgan":
            return dcgan
        case "wgan":
            return wgan
        case "wgan-gp":
            return wgan_gp
        case "lsgan":
            return lsgan
        case "hinge-sn":
            return hinge_sn
        case "mlp-classic":
            return mlp_classic
        case "dcgan-64":
            return dcgan_64
        case "conv-28":
            return conv_28
        case "photos":
            return photos
        case _ as unreachable:
            assert_never(unreachable)


def _dcgan_networks(facts: Facts, discriminator_norm: Literal["batch", "none"]) -> Networks:
    return Networks(
        family="dcgan",
        width=_width(facts, 32),
        latent_size=100,
        generator_norm="batch",
        discriminator_norm=discriminator_norm,
    )


def _width(facts: Facts, at_28: int) -> int:
    """Return channels at the highest resolution: fewer for larger images on a CPU, more on a GPU."""
    if not facts.is_cpu:
        return 2 * at_28
    return max(8, at_28 * 28 // max(facts.size, 28) // 4 * 4)


def _groups(facts: Facts) -> int:
    """Return a number of groups of 80 training images or more each, 0 where there are too few for four."""
    num = min(MOST_GROUPS, facts.num_train // IN_A_GROUP)
    return num if num >= LEAST_GROUPS else 0


def _augment(facts: Facts) -> Augment:
    """Return DiffAugment's kinds where images are few, none where they are many."""
    if facts.num_train >= FEW_IMAGES:
        return Augment()
    return Augment(kinds=_kinds(facts), probability=0.5)


def _kinds(facts: Facts) -> tuple[AugmentationName, ...]:
    """Return DiffAugment's kinds for colour, or for grey."""
    return ("translation", "cutout") if facts.channels == 1 else ("color", "translation", "cutout")
