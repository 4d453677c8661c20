"""Whether what a loop trains on is held out: found by place, by path, or by content."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from equipoise.data.audit.duplicates import Sketches, averaging, joined, near_duplicates, sketched
from equipoise.data.pool import Pool
from equipoise.data.splits import content_digests, to_hashes
from equipoise.errors import UserError
from equipoise.watch.images import GivenImages
from equipoise.watch.reading import read
from equipoise.watch.trained_on import SUBJECT, trained_on

CHUNK = 4_096  # images sketched at once
PATTERN = 12  # pixels a side, by which images of another size or contrast are compared
LEAST_LIKE = 0.95  # correlation with the real image that it is
MOST_OF_NEXT = 0.25  # of the distance to the next real image: nearer than that by chance is hardly any
TRAIN = 0
HELD_OUT = 1
UNKNOWN = 2
How = Literal["places", "paths", "content"]
WHY_UNKNOWN: dict[How, str] = {
    "places": "there are no such places",
    "paths": "broken or ignored files, or of another folder",
    "content": "cropped or changed in another way, or others",
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
    def is_clean(self) -> bool:
        """Whether every image was found, and none is held out."""
        return not len(self.held_out) and not len(self.unknown) and len(self.train) > 0

    @property
    def message(self) -> str:
        """Say in words what was found."""
        num = len(self.train) + len(self.held_out) + len(self.unknown)
        text = f"{num:,} images given: {len(self.train):,} to train on, {len(self.held_out):,} held out"
        if len(self.unknown):
            text += f", {len(self.unknown):,} not found among the real images ({WHY_UNKNOWN[self.how]})"
        if len(self.held_out):
            return f"{text}. Do not train on these: the scores would look too good."
        if len(self.unknown):
            return f"{text}. Whether those not found are held out cannot be said: give their paths, or their places."
        return f"{text}."


def check_training(given: GivenImages, images: Any) -> TrainingCheck:
    """Find which of some images are held out; raises UserError for what holds no images.

    `images` are places, paths or names, or images as a watch takes them; also a data set of files, a part of a data
    set, a loader of either, batches, or a stream of these.
    """
    known = None if given.names is None else _Names(given)
    what = trained_on(images, len(given.pool.images), is_known=None if known is None else known.has)
    chosen = what.chosen
    sides = np.full(len(given.pool.images), HELD_OUT)
    sides[given.pool.splits.train] = TRAIN
    how: How
    if what.paths is not None:
        if known is None:
            problem = "paths were given, and the real images are an array or a data set"
            raise UserError(SUBJECT, problem, "Give images, or their places in what was given as real")
        found = np.array([UNKNOWN if (place := known.place(path)) is None else sides[place] for path in what.paths])
        how = "paths"
    elif what.places is not None:
        found = _by_place(what.places, sides)
        how = "places"
    else:
        found = _by_content(given.pool, what.images if chosen is None else _Part(what.images, chosen), sides)
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


class _Names:
    """The places of the real images by their names, however a path to them is written."""

    def __init__(self, given: GivenImages) -> None:
        self.place_of = {name: place for place, name in enumerate(given.names or ())}
        self.folder = given.folder

    def place(self, path: str) -> int | None:
        """Return the place of a path, None where it is of no real image."""
        found = self.place_of.get(path)
        if found is None and self.folder is not None:
            names = _relative(path, self.folder)
            found = next((self.place_of[name] for name in names if name in self.place_of), None)
        return found

    def has(self, path: str) -> bool:
        """Return whether a path is of a real image."""
        return self.place(path) is not None


def _relative(path: str, folder: Path) -> list[str]:
    """Return how a path may be written from a folder, links followed or not."""
    pairs = [(os.path.abspath(path), os.path.abspath(folder)), (os.path.realpath(path), os.path.realpath(folder))]
    return [os.path.relpath(*pair).replace(os.sep, "/") for pair in pairs]


def _by_place(places: np.ndarray, sides: np.ndarray) -> np.ndarray:
    inside = (places >= 0) & (places < len(sides))
    return np.where(inside, sides[np.where(inside, places, 0)], UNKNOWN)


# By content


def _by_content(pool: Pool, images: Any, sides: np.ndarray) -> np.ndarray:
    """Return the side of each image, exactly where its pixels are those of a real one, else of one nearly the same."""
    pixels = read(images, SUBJECT, may_vary=True).images
    found = _exact(pool, pixels, sides)
    if pool.scale is not None and (found == UNKNOWN).any():
        black, white = pool.scale
        other = read(images, SUBJECT, black, white, may_vary=True).images
        by_other = _exact(pool, other, sides)
        if (by_other == UNKNOWN).sum() < (found == UNKNOWN).sum():
            pixels = other
            found = by_other
    rest = np.flatnonzero(found == UNKNOWN)
    if len(rest):
        found[rest] = _near(pool, pixels[rest], sides)
    for mirrored in (False, True):
        rest = np.flatnonzero(found == UNKNOWN)
        if len(rest):
            found[rest] = _alike(pool, pixels[rest, :, :, ::-1] if mirrored else pixels[rest], sides)
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


def _alike(pool: Pool, pixels: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """Return the side of the real image that each is much more like than any other, whatever its contrast and size."""
    both_grey = pixels.shape[1] != pool.images.shape[1]
    real = _patterns(pool.images, both_grey)
    found = np.full(len(pixels), UNKNOWN)
    for begin in range(0, len(pixels), CHUNK // 4):
        part = _patterns(pixels[begin : begin + CHUNK // 4], both_grey)
        likeness = part @ real.T
        best = likeness.argmax(1)
        rows = np.arange(len(part))
        most = likeness[rows, best]
        likeness[rows, best] = -1
        is_found = (most > LEAST_LIKE) & (1 - most < MOST_OF_NEXT * (1 - likeness.max(1)))
        found[begin + rows[is_found]] = sides[best[is_found]]
    return found


def _patterns(images: np.ndarray, as_grey: bool) -> np.ndarray:
    """Return small versions float32 [N, C * PATTERN²] of which each channel has mean 0, and all together length 1."""
    rows = averaging(images.shape[2], PATTERN)
    columns = averaging(images.shape[3], PATTERN).T
    parts = []
    for begin in range(0, len(images), CHUNK):
        part = images[begin : begin + CHUNK].astype(np.float32)
        if as_grey:
            part = part.mean(1, keepdims=True)
        small = np.matmul(np.matmul(rows, part), columns)
        small -= small.mean((2, 3), keepdims=True)
        small /= np.sqrt(np.square(small).mean((2, 3), keepdims=True)) + 1e-3
        flat = small.reshape(len(small), -1)
        parts.append(flat / (np.linalg.norm(flat, axis=1, keepdims=True) + 1e-3))
    return np.concatenate(parts)


def _sketched(images: np.ndarray) -> Sketches:
    return joined([sketched(images[begin : begin + CHUNK]) for begin in range(0, len(images), CHUNK)])
