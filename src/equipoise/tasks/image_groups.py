"""Groups of images that are alike; networks that are told them cannot leave one out (arXiv:2006.10728).

Alike is what EfficientNet-Lite0 sees alike: spherical k-means (10.1023/A:1007612920971) on the principal directions of
its features. The training images alone decide what the groups are; held-out ones belong to the nearest. Where the
networks are to know classes, each class is parted into groups of its own, and a group stands for its class.
"""

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
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
SPREAD = np.uint64(0x9E3779B97F4A7C15)  # odd: each class changes contents in another way
STAGE = "looking which images are alike (once for these images)"

Extract = Callable[[Tensor], Tensor]  # images [N, C, H, W] in [-1, 1] to features [N, D]


@dataclass(frozen=True, eq=False)
class Groups:
    """Which group each image belongs to, by contents uint64 [N], and how many training images each group has.

    Of images that a run has never seen, `groups` int64 [N] is None: it is only known how often it draws which.
    """

    counts: tuple[int, ...]
    classes: tuple[int, ...]  # the place of the class that each group is part of; empty where classes do not matter
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
        return Groups(counts, data.group_classes, pool.hashes, None)
    found = read(path, pool, len(counts), data.group_classes) if counts else None
    return found if found is not None and found.counts == counts else None


def groups_of(pool: Pool, num: int, within: bool, cache: Path, device: torch.device, stage: Stage) -> Groups:
    """Part the images of a pool into about `num` groups, each `within` a class or not, or take those of the cache.

    Raises UserError where EfficientNet's weights cannot be had.
    """
    shares = shares_of(pool, num) if within else (num,)
    classes = classes_of(shares) if within else ()
    of_labels = hashlib.sha256(pool.labels.tobytes()).hexdigest() if within and pool.labels is not None else ""
    key = hashlib.sha256(f"{VERSION} {pool.digest} {num}{of_labels}".encode()).hexdigest()[:16]
    path = cache / f"groups-{key}.safetensors"
    known = read(path, pool, sum(shares), classes)
    if known is not None:
        return replace(known, is_new=True)
    network, _ = published(LITE0_WEIGHTS, LITE0, cache)
    extract = in_batches(partial(efficientnet_features, network.to(device)), BATCH, device)
    groups = grouped(pool, shares, lambda images: extract(in_colour(images)).double(), stage)
    found = Groups(counts_of(pool, groups, sum(shares)), classes, pool.hashes, groups, is_new=True)
    with writing_to(cache):
        write_bytes(path, found.packed())
    return found


def shares_of(pool: Pool, num: int) -> tuple[int, ...]:
    """Return how many of about `num` groups each class has: by its training images, and one at least."""
    counts = np.bincount(_labels(pool)[pool.splits.train[:NUM_LEARNED]], minlength=len(pool.classes))
    return tuple(max(1, min(round(num * count / counts.sum()), count // LEAST)) for count in counts.tolist())


def counts_of(pool: Pool, groups: np.ndarray, num: int) -> tuple[int, ...]:
    """Return how many training images each of `num` groups has, of the groups int64 [N] of all images."""
    return tuple(np.bincount(groups[pool.splits.train], minlength=num).tolist())


def classes_of(shares: Sequence[int]) -> tuple[int, ...]:
    """Return the class of each group, where each class has as many as `shares` says, one after the other."""
    return tuple(place for place, share in enumerate(shares) for _ in range(share))


def grouped(pool: Pool, shares: Sequence[int], extract: Extract, stage: Stage) -> np.ndarray:
    """Return the groups int64 [N] of a pool's images by what `extract` sees in them.

    Each class has as many groups of its own as `shares` says, one after the other; one share is of all images.
    """
    splits = pool.splits
    learned = splits.train[:NUM_LEARNED]
    others = np.concatenate([splits.train[NUM_LEARNED:], splits.validation, splits.test])
    labels = torch.from_numpy(_labels(pool)) if len(shares) > 1 else torch.zeros(len(pool.images), dtype=torch.int64)
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
    parts = [seen[labels[learned] == place] for place in range(len(shares))]
    centres = torch.cat([spherical_k_means(part, num) for part, num in zip(parts, shares, strict=True)])
    class_of_centre = torch.tensor(classes_of(shares))
    found = np.zeros(len(pool.images), np.int64)

    def nearest(directed: Tensor, indices: np.ndarray) -> np.ndarray:
        return nearest_centre(directed, centres, labels[indices][:, None] == class_of_centre).numpy()

    found[learned] = nearest(seen, learned)
    begin = 0
    for features in seen_in(others):
        part = others[begin : begin + len(features)]
        found[part] = nearest(unit((features - mean) @ axes), part)
        begin += len(part)
    return found


def _labels(pool: Pool) -> np.ndarray:
    assert pool.labels is not None
    return pool.labels


def directions(centred: Tensor) -> Tensor:
    """Return the principal directions [D, K] of centred features [N, D], those of the largest variance first."""
    covariance = centred.T @ centred / len(centred)
    _, vectors = torch.linalg.eigh(covariance)  # ascending
    return vectors.flip(1)[:, :DIRECTIONS]


def unit(features: Tensor) -> Tensor:
    """Return features [N, D] scaled to length 1; one without a length stays 0."""
    return features / features.norm(dim=1, keepdim=True).clamp(min=1e-12)


def nearest_centre(seen: Tensor, centres: Tensor, may_be: Tensor | None = None) -> Tensor:
    """Return the index int64 [N] of the centre [K, D] of the largest cosine, of features [N, D] of length 1.

    `may_be`, bool [N, K], says which centres come into question.
    """
    cosines = seen @ centres.T
    if may_be is not None:
        cosines = cosines.masked_fill(~may_be, -math.inf)
    return cosines.argmax(1)


def spherical_k_means(seen: Tensor, num: int) -> Tensor:
    """Return `num` centres [K, D] of length 1 of features [N, D] of length 1, the same for the same features.

    The first centres are drawn as k-means++ does (ACM 1283383.1283494): each far from those before. A centre that has
    lost all its features moves to the one that is worst served. Without features, all centres are 0.
    """
    if not len(seen):
        return seen.new_zeros(num, seen.shape[1])
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


def read(path: Path, pool: Pool, num: int, classes: Sequence[int]) -> Groups | None:
    """Read the groups of a pool's images; of groups within classes, `classes` says the class of each.

    None where the file does not know all images, or is damaged.
    """
    arrays = checked_arrays.read(path)
    if arrays is None or arrays.keys() != {"contents", "groups"}:
        return None
    contents, groups = arrays["contents"], arrays["groups"]
    if contents.dtype != np.uint64 or groups.dtype != np.int64 or contents.shape != groups.shape or not len(contents):
        return None
    if not ((groups >= 0) & (groups < num)).all():
        return None
    wanted = pool.hashes
    if classes:
        contents = _in_class(contents, np.array(classes)[groups])
        wanted = _in_class(wanted, _labels(pool))
    order = np.argsort(contents)
    found = order[np.searchsorted(contents[order], wanted).clip(max=len(order) - 1)]
    if not np.array_equal(contents[found], wanted):
        return None
    groups = groups[found]
    return Groups(counts_of(pool, groups, num), tuple(classes), pool.hashes, groups)


def _in_class(contents: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return other contents, by which the same pixels in two classes are told apart."""
    return contents ^ (places.astype(np.uint64) * SPREAD)
