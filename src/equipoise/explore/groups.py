"""What a generator knows of kinds: classes that it is told, or groups that are found among its own pictures."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from equipoise.errors import Option, UserError
from equipoise.explore.space import Space, images_of, on_shell
from equipoise.randomness import Randomness
from equipoise.tasks.image_groups import directions, nearest_centre, spherical_k_means, unit
from equipoise.tasks.image_model import ImageModel

NUM_GROUPED = 2_000  # random pictures that are parted into groups
MOVES = 2.0  # mean latents that are added: one of them is too weak, as each mean is of many latents that cancel out

Extract = Callable[[Tensor], Tensor]  # images [N, C, H, W] in [-1, 1] to features [N, D]


# Classes


def row_of(model: ImageModel, label: str) -> Tensor:
    """Return what a network is told of a class or label as weights [L]; of a class in groups, the most frequent one.

    Raises UserError for a label that the generator does not know, or where it knows none.
    """
    try:
        told = model.asked(label)
    except UserError as error:
        raise error.about(Option("labels", label)) from None
    chosen = told.labels[told.weights.argmax()]
    return chosen.float() if chosen.ndim else F.one_hot(chosen, model.num_told).float()


def steps_through(num: int, least: int) -> int:
    """Return of how many pictures a way through labels is, `least` or more: each label's own, and as many between."""
    legs = num - 1
    return legs * max(2, -(-(least - 1) // legs)) + 1


def blended(rows: Tensor, steps: int) -> Tensor:
    """Return weights [S, L] on the way through labels [K, L], one after the other, from the first to the last.

    Embeddings are added by their weights, so that this is a straight line between the classes' vectors.
    """
    places = torch.arange(steps, dtype=torch.float64) * (len(rows) - 1) / (steps - 1)  # whole ones without rounding
    before = places.floor().long().clamp(max=len(rows) - 2)
    shares = (places - before)[:, None].to(rows)
    return (1 - shares) * rows[before] + shares * rows[before + 1]


def each_with(latents: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Return latents and labels of a grid [N · K, …]: each of N latents [N, Z] with each of K rows [K, L]."""
    return latents.repeat_interleave(len(rows), 0), rows.repeat(len(latents), 1)


# Groups


@dataclass(frozen=True, eq=False)
class Groups:
    """Random pictures in groups: their latents [N, Z], images [N, C, H, W], and the place of each group, int64 [N].

    `means` [K, Z] are the mean latents of the groups, which are in the order of their size, the largest first.
    `nearest` tells the groups of other images [M, C, H, W].
    """

    latents: Tensor
    images: Tensor
    places: Tensor
    means: Tensor
    nearest: Callable[[Tensor], Tensor]

    @property
    def sizes(self) -> list[int]:
        """How many pictures each group has."""
        return torch.bincount(self.places, minlength=len(self.means)).tolist()


def groups_of(space: Space, extract: Extract, randomness: Randomness, num: int, seen: int = NUM_GROUPED) -> Groups:
    """Draw pictures, and part them into groups by what `extract` sees of them (spherical k-means).

    The space must need no labels.
    """
    latents = space.latents(randomness, seen, "grouped")
    images = images_of(space, latents)
    features = extract(images).double()
    mean = features.mean(0)
    axes = directions(features - mean)
    centres = spherical_k_means(unit((features - mean) @ axes), num)

    def nearest(shown: Tensor) -> Tensor:
        return nearest_centre(unit((extract(shown).double() - mean) @ axes), centres)

    places = nearest(images)
    order = torch.bincount(places, minlength=num).argsort(descending=True, stable=True)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(num)
    places = rank[places]
    means = torch.stack([latents[places == place].mean(0) for place in range(num) if (places == place).any()])
    return Groups(latents, images, places, means, lambda shown: rank[nearest(shown)])


def moved(latents: Tensor, own: Tensor, other: Tensor, strength: float = MOVES) -> Tensor:
    """Return latents [N, Z] moved from their group's mean [N, Z] to another one's: z + s (b − a), at normal length.

    It is arithmetic on means of latents (arXiv:1511.06434, section 6.3.2).
    """
    return on_shell(latents + strength * (other - own))
