"""Whether what a loop trains on is held out: found by place, by path, or by content."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor

from equipoise.data.audit.duplicates import Sketches, joined, near_duplicates, sketched
from equipoise.data.pool import Pool
from equipoise.data.splits import content_digests, to_hashes
from equipoise.errors import UserError
from equipoise.watch.images import GivenImages
from equipoise.watch.reading import read

SUBJECT = "check_training()"
CHUNK = 4_096  # images sketched at once
TRAIN = 0
HELD_OUT = 1
UNKNOWN = 2
How = Literal["places", "paths", "content"]
WHY_UNKNOWN: dict[How, str] = {
    "places": "there are fewer",
    "paths": "broken or ignored files, or of another folder",
    "content": "changed by an augmentation, or others",
}


@dataclass(frozen=True, eq=False)
class TrainingCheck:
    """Places int64 in what was given: of images to train on, of held-out ones, and of those not found among the real.

    `how` says by what they were found.
    """

    train: np.ndarray
    held_out: np.ndarray
    unknown: np.ndarray
    how: How

    @property
    def message(self) -> str:
        """Say in words what was found."""
        num = len(self.train) + len(self.held_out) + len(self.unknown)
        text = f"{num:,} images given: {len(self.train):,} to train on, {len(self.held_out):,} held out"
        if len(self.unknown):
            text += f", {len(self.unknown):,} not found among the real images ({WHY_UNKNOWN[self.how]})"
        if len(self.held_out):
            return f"{text}. Do not train on these: the scores would look too good."
        return f"{text}."


def check_training(given: GivenImages, images: Any) -> TrainingCheck:
    """Find which of some images are held out; raises UserError for what holds no images.

    `images` are places, paths or names, or images as a watch takes them; also a data set of files, a part of a data
    set, or a loader of either.
    """
    whole, chosen = _unwrapped(images)
    sides = np.full(len(given.pool.images), HELD_OUT)
    sides[given.pool.splits.train] = TRAIN
    paths = _paths_of(whole, given)
    how: How
    if paths is not None:
        found = _by_name(given, paths, sides)
        how = "paths"
    elif _are_places(whole):
        found = _by_place(np.asarray(whole), sides)
        how = "places"
    else:
        found = _by_content(given.pool, whole if chosen is None else _Part(whole, chosen), sides)
        chosen = None
        how = "content"
    if chosen is not None:
        found = found[chosen]
    train, held_out, unknown = (np.flatnonzero(found == side) for side in (TRAIN, HELD_OUT, UNKNOWN))
    return TrainingCheck(train, held_out, unknown, how)


@dataclass(frozen=True)
class _Part:
    """Some items of a data set."""

    items: Any
    places: np.ndarray

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, index: int) -> Any:
        return self.items[int(self.places[index])]


def _unwrapped(images: Any) -> tuple[Any, np.ndarray | None]:
    """Return the data set within loaders and parts, and which of its items these take; None stands for all."""
    chosen: np.ndarray | None = None
    while hasattr(images, "dataset") and not isinstance(images, Tensor | np.ndarray):
        part = getattr(images, "indices", None)
        if part is None:
            part = getattr(getattr(images, "sampler", None), "indices", None)
        if part is not None:
            taken = np.asarray(part, dtype=np.int64)
            chosen = taken if chosen is None else taken[chosen]
        images = images.dataset
    return images, chosen


def _paths_of(images: Any, given: GivenImages) -> list[str] | None:
    """Return paths, where they were given or where a data set of files of a folder tells them."""
    if isinstance(images, str | Path):
        images = [images]
    samples = getattr(images, "samples", None)  # of torchvision's folders: (path, class)
    if isinstance(samples, Sequence) and given.folder is not None:
        images = [sample[0] for sample in samples]
    if not isinstance(images, Iterable) or isinstance(images, Tensor | np.ndarray) or not isinstance(images, Sequence):
        return None
    if not len(images) or not all(isinstance(path, str | Path) for path in images):
        return None
    if given.names is None:
        problem = "paths were given, and the real images are an array or a data set"
        raise UserError(SUBJECT, problem, "Give images, or their places in what was given as real")
    return [os.fspath(path) for path in images]


def _by_name(given: GivenImages, paths: Sequence[str], sides: np.ndarray) -> np.ndarray:
    assert given.names is not None
    place_of = {name: place for place, name in enumerate(given.names)}
    found = np.full(len(paths), UNKNOWN)
    for index, path in enumerate(paths):
        place = place_of.get(path)
        if place is None and given.folder is not None:
            place = next((place_of[name] for name in _relative(path, given.folder) if name in place_of), None)
        if place is not None:
            found[index] = sides[place]
    return found


def _relative(path: str, folder: Path) -> list[str]:
    """Return how a path may be written from a folder, links followed or not."""
    pairs = [(os.path.abspath(path), os.path.abspath(folder)), (os.path.realpath(path), os.path.realpath(folder))]
    return [os.path.relpath(*pair).replace(os.sep, "/") for pair in pairs]


def _are_places(images: Any) -> bool:
    if isinstance(images, Tensor | np.ndarray):
        return images.ndim == 1 and "int" in str(images.dtype)
    if isinstance(images, range):
        return True
    return isinstance(images, Sequence) and len(images) > 0 and all(isinstance(place, int) for place in images)


def _by_place(places: np.ndarray, sides: np.ndarray) -> np.ndarray:
    inside = (places >= 0) & (places < len(sides))
    return np.where(inside, sides[np.where(inside, places, 0)], UNKNOWN)


# By content


def _by_content(pool: Pool, images: Any, sides: np.ndarray) -> np.ndarray:
    """Return the side of each image, exactly where its pixels are those of a real one, else of one nearly the same."""
    pixels = read(images, SUBJECT).images
    found = _exact(pool, pixels, sides)
    if pool.scale is not None and (found == UNKNOWN).any():
        black, white = pool.scale
        other = read(images, SUBJECT, black, white).images
        by_other = _exact(pool, other, sides)
        if (by_other == UNKNOWN).sum() < (found == UNKNOWN).sum():
            pixels = other
            found = by_other
    rest = np.flatnonzero(found == UNKNOWN)
    if len(rest):
        found[rest] = _near(pool, pixels[rest], sides)
    return found


def _exact(pool: Pool, pixels: np.ndarray, sides: np.ndarray) -> np.ndarray:
    if pixels.shape[1:] != pool.images.shape[1:]:
        return np.full(len(pixels), UNKNOWN)
    side_of = dict(zip(pool.hashes.tolist(), sides.tolist(), strict=True))
    return np.array([side_of.get(found, UNKNOWN) for found in to_hashes(content_digests(pixels)).tolist()])


def _near(pool: Pool, pixels: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """Return the side of the real image that each is most like, if it is nearly the same."""
    real = _sketched(pool.images)
    others = _sketched(pixels)
    pairs = near_duplicates(joined([real, others]))
    num = len(pool.images)
    pairs = pairs[(pairs[:, 0] < num) & (pairs[:, 1] >= num)]
    found = np.full(len(pixels), UNKNOWN)
    least = np.full(len(pixels), np.inf)
    for place, other in zip(pairs[:, 0].tolist(), (pairs[:, 1] - num).tolist(), strict=True):
        first = real.thumbnails[place].astype(np.float32)
        distance = float(np.abs(first - others.thumbnails[other]).mean())
        if distance < least[other]:
            least[other] = distance
            found[other] = sides[place]
    return found


def _sketched(images: np.ndarray) -> Sketches:
    return joined([sketched(images[begin : begin + CHUNK]) for begin in range(0, len(images), CHUNK)])
