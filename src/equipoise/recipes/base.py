"""What named recipes are made from: facts of the data and the machine, what is told of a recipe, and shared parts."""

from dataclasses import dataclass
from typing import Literal

from equipoise.recipe import Augment, AugmentationName, Networks

FEW_IMAGES = 10_000  # below this the discriminator learns them by heart, and augmentation helps (arXiv:2006.06676)


@dataclass(frozen=True)
class Facts:
    """What is known of the data and the machine before a recipe is made."""

    size: int = 28  # pixels a side; of a rectangle that of a square of about as many pixels
    channels: int = 1
    num_train: int = 60_000
    is_cpu: bool = True
    has_pretrained: bool = True  # the weights of ImageNet that `photos` needs are there
    smaller: int | None = None  # side of a rectangle; none: of a square

    @property
    def least_side(self) -> int:
        """The smaller side, which says how often images can be halved."""
        return self.size if self.smaller is None else self.smaller


@dataclass(frozen=True)
class About:
    """What a person wants to know of a recipe before choosing it."""

    paper: str
    purpose: str
    whom: str  # who takes it, and when
    result: str  # measured by bench/zoo.py, or where to find what was
    samples: int | None  # seen in equal time, the median; None: it was not measured on digits
    sizes: tuple[int, ...] = ()  # pixels a side that its networks were made for; empty: no size in particular
    formulas: tuple[str, ...] = ()  # the game in mathematics, a line each
    papers: str = ""  # what is as the paper has it
    differs: str = ""  # what is not


def dcgan_networks(facts: Facts, discriminator_norm: Literal["batch", "none"]) -> Networks:
    """Return the networks of a DCGAN, as wide as this machine trains in minutes."""
    return Networks(
        family="dcgan",
        width=width_for(facts, 32),
        latent_size=100,
        generator_norm="batch",
        discriminator_norm=discriminator_norm,
    )


def width_for(facts: Facts, at_28: int) -> int:
    """Return channels at the highest resolution: fewer for larger images on a CPU, more on a GPU."""
    if not facts.is_cpu:
        return 2 * at_28
    return max(8, at_28 * 28 // max(facts.size, 28) // 4 * 4)


def augmentation(facts: Facts) -> Augment:
    """Return DiffAugment's kinds where images are few, none where they are many."""
    if facts.num_train >= FEW_IMAGES:
        return Augment()
    return Augment(kinds=kinds_for(facts), probability=0.5)


def kinds_for(facts: Facts) -> tuple[AugmentationName, ...]:
    """Return DiffAugment's kinds for colour, or for grey."""
    return ("translation", "cutout") if facts.channels == 1 else ("color", "translation", "cutout")
