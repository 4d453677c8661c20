"""Batches in pairs of the same class or group, so that a discriminator sees whether a kind is always the same.

Shown single images, a discriminator cannot tell one good picture drawn again and again from many (arXiv:1712.04086);
shown how much two of the same kind differ, it can.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from equipoise.randomness import Randomness
from equipoise.recipe import Networks


@dataclass(frozen=True, eq=False)
class Kinds:
    """The class or group int64 [N] of each image of a pool, and the training images of each kind."""

    of_image: np.ndarray
    train: np.ndarray  # the training images, one kind after the other
    starts: np.ndarray  # where each kind begins in `train`, and the end

    @property
    def parts(self) -> list[np.ndarray]:
        """The training images of each kind."""
        return np.split(self.train, self.starts[1:-1])


def sees_pairs(networks: Networks) -> bool:
    """Return whether a discriminator sees how much the images of a kind differ; then a batch needs two of each."""
    return networks.pretrained and networks.minibatch_deviation


def kinds_of(of_image: np.ndarray, train: np.ndarray, num: int) -> Kinds:
    """Return the kinds of a pool's images, of which `train` are trained on; there are `num` kinds."""
    order = np.argsort(of_image[train], kind="stable")
    counts = np.bincount(of_image[train], minlength=num)
    return Kinds(of_image, train[order], np.concatenate([[0], counts.cumsum()]))


def in_pairs(indices: Tensor, kinds: Kinds, randomness: Randomness) -> Tensor:
    """Return training images int64 [N] whose second half are others of the first half's kinds, drawn anew.

    Each is drawn from all of its kind, so that a kind comes as often as without pairs. One image alone of its kind is
    its own partner. With an odd number, the last one keeps its place.
    """
    half = len(indices) // 2
    of_first = kinds.of_image[indices[:half].numpy()]
    begin = kinds.starts[of_first]
    num = kinds.starts[of_first + 1] - begin
    drawn = torch.rand(half, generator=randomness.generator("partners"), dtype=torch.float64).numpy()
    partners = kinds.train[begin + (drawn * num).astype(np.int64)]
    return torch.cat([indices[:half], torch.from_numpy(partners), indices[2 * half :]])
