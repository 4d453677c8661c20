"""Groups of images that are alike; networks that are told them cannot leave one out (arXiv:2006.10728).

Alike is what EfficientNet-Lite0 sees alike: spherical k-means (10.1023/A:1007612920971) on the principal directions of
its features. The training images alone decide what the groups are; held-out ones belong to the nearest.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from equipoise.data import checked_arrays
from equipoise.data.cache import writing_to
from equipoise.data.channels import in_colour
from equipoise.data.pool import Pool
from equipoise.errors import Setting, UserError
from equipoise.metrics.features.load import in_batches
from equipoise.nets.efficientnet import LITE0, LITE0_WEIGHTS, efficientnet_features, published
from equipoise.storage.files import write_bytes
from equipoise.storage.records import DataRecord
from equipoise.tasks.image_judging import Stage, batches

NUM_LEARNED = 20_000  # training images that decide what the groups are, at most; their features lie in memory
LEAST = 10  # training images for each group
DIRECTIONS = 64  # principal ones, of the features' 1,280
MAX_ROUNDS = 100
BATCH = 50  # images at once
SEED = 0
VERSION = 1  # of all that decides the groups of the same images
STAGE = "looking which images are alike (once for these images)"

Extract = Callable[[Tensor], Tensor]  # images [N, C, H, W] in [-1, 1] to features [N, D]


@dataclass(frozen=True, eq=False)
class Groups:
    """Which group each image belongs to, by contents uint64 [N], and how many training images each group has.

    Of images that a run has never seen, `groups` int64 [N] is None: it is only known how often it draws which.
    """

    counts: tuple[int, ...]
    contents: np.ndarray
    groups: np.ndarray | None
    is_new: bool = False  # formed now, and in no file of a run yet

    def packed(self) -> bytes:
        """Return them as the bytes of their file, with a checksum."""
        assert self.groups is not None
        return checked_arrays.packed({"contents": self.contents, "groups": self.groups})


def refuse_too_many(num: int, num_train: int) -> None:
    """Raise UserError where so few training images cannot be parted into so many groups."""
    if num * LEAST <= num_train:
        return
    fitting = num_train // LEAST
    problem = f"{num_train:,} training images; at least {LEAST} are needed for each group"
    ways = [Setting("networks.groups", fitting)] if fitting > 1 else []
    raise UserError(Setting("networks.groups", num), problem, *ways, Setting("networks.groups", 0))


def groups_of_run(pool: Pool, data: DataRecord, path: Path) -> Groups | None:
    """Return the groups of a run's images, out of its file; None where it has none, or they are not whole."""
    counts = data.group_counts
    if counts and data.digest != pool.digest:
        return Groups(counts, pool.hashes, None)
    found = read(path, pool, len(counts)) if counts else None
    return found if found is not None and found.counts == counts else None


def groups_of(pool: Pool, num: int, cache: Path, device: torch.device, stage: Stage) -> Groups:
    """Part the images of a pool into groups, or take those of the cache.

    Raises UserError where EfficientNet's weights cannot be had.
    """
    key = hashlib.sha256(f"{VERSION} {pool.digest} {num}".encode()).hexdigest()[:16]
    path = cache / f"groups-{key}.safetensors"
    known = read(path, pool, num)
    if known is not None:
        return replace(known, is_new=True)
    network, _ = published(LITE0_WEIGHTS, LITE0, cache)
    extract = in_batches(partial(efficientnet_features, network.to(device)), BATCH, device)
    groups = grouped(pool, num, lambda images: extract(in_colour(images)).double(), stage)
    found = Groups(counts_of(pool, groups, num), pool.hashes, groups, is_new=True)
    with writing_to(cache):
        write_bytes(path, found.packed())
    return found


def counts_of(pool: Pool, groups: np.ndarray, num: int) -> tuple[int, ...]:
    """Return how many training images each of `num` groups has, of the groups int64 [N] of all images."""
    return tuple(np.bincount(groups[pool.splits.train], minlength=num).tolist())


def grouped(pool: Pool, num: int, extract: Extract, stage: Stage) -> np.ndarray:
    """Return the groups int64 [N] of a pool's images by what `extract` sees in them."""
    splits = pool.splits
    learned = splits.train[:NUM_LEARNED]
    others = np.concatenate([splits.train[NUM_LEARNED:], splits.validation, splits.test])
    done = 0

    def seen_in(indices: np.ndarray) -> Iterator[Tensor]:
        nonlocal done
        for images in batches(pool, indices):
            stage(STAGE, done / len(pool.images))
            done += len(images)
            yield extract(images)

    seen = torch.cat(list(seen_in(learned)))
    mean = seen.mean(0)
    axes = directions(seen - mean)
    seen = unit((seen - mean) @ axes)
    centres = spherical_k_means(seen, num)
    found = np.zeros(len(pool.images), np.int64)
    found[learned] = nearest_centre(seen, centres).numpy()
    if len(others):
        nearest = [nearest_centre(unit((features - mean) @ axes), centres) for features in seen_in(others)]
        found[others] = torch.cat(nearest).numpy()
    return found


def directions(centred: Tensor) -> Tensor:
    """Return the principal directions [D, K] of centred features [N, D], those of the largest variance first."""
    covariance = centred.T @ centred / len(centred)
    _, vectors = torch.linalg.eigh(covariance)  # ascending
    return vectors.flip(1)[:, :DIRECTIONS]


def unit(features: Tensor) -> Tensor:
    """Return features [N, D] scaled to length 1; one without a length stays 0."""
    return features / features.norm(dim=1, keepdim=True).clamp(min=1e-12)


def nearest_centre(seen: Tensor, centres: Tensor) -> Tensor:
    """Return the index int64 [N] of the centre [K, D] of the largest cosine, of features [N, D] of length 1."""
    return (seen @ centres.T).argmax(1)


def spherical_k_means(seen: Tensor, num: int) -> Tensor:
    """Return `num` centres [K, D] of length 1 of features [N, D] of length 1, the same for the same features.

    The first centres are drawn as k-means++ does (ACM 1283383.1283494): each far from those before. A centre that has
    lost all its features moves to the one that is worst served.
    """
    generator = torch.Generator().manual_seed(SEED)
    centres = seen[torch.randint(len(seen), (1,), generator=generator)]
    for _ in range(num - 1):
        distances = (1 - (seen @ centres.T).amax(1)).clamp(min=0) + 1e-12
        centres = torch.cat([centres, seen[torch.multinomial(distances, 1, generator=generator)]])
    before = None
    for _ in range(MAX_ROUNDS):
        cosines, found = (seen @ centres.T).max(1)
        if before is not None and torch.equal(found, before):
            break
        before = found
        sums = torch.zeros_like(centres).index_add_(0, found, seen)
        empty = torch.bincount(found, minlength=num) == 0
        sums[empty] = seen[cosines.argsort()[: int(empty.sum())]]
        centres = unit(sums)
    return centres


# Their file


def read(path: Path, pool: Pool, num: int) -> Groups | None:
    """Read the groups of a pool's images; None where the file does not know all of them, or is damaged."""
    arrays = checked_arrays.read(path)
    if arrays is None or arrays.keys() != {"contents", "groups"}:
        return None
    contents, groups = arrays["contents"], arrays["groups"]
    if contents.dtype != np.uint64 or groups.dtype != np.int64 or contents.shape != groups.shape or not len(contents):
        return None
    order = np.argsort(contents)
    found = order[np.searchsorted(contents[order], pool.hashes).clip(max=len(order) - 1)]
    groups = groups[found]
    if not np.array_equal(contents[found], pool.hashes) or not ((groups >= 0) & (groups < num)).all():
        return None
    return Groups(counts_of(pool, groups, num), pool.hashes, groups)
