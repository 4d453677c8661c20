"""A pool: every image of a source as uint8 of one size, prepared once, split by content, gathered in microseconds."""

import contextlib
import hashlib
import os
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from equipoise import recipe
from equipoise.data import store
from equipoise.data.cache import default_cache as default_cache
from equipoise.data.cache import writing_to
from equipoise.data.decode import BrokenImage, Target, decode, has_color, parse_background, smaller_side
from equipoise.data.sources import Images, Source, open_source
from equipoise.data.splits import Splits, split
from equipoise.errors import UserError
from equipoise.randomness import stream_seed

MIN_SIZE = 8
MAX_REJECTED = 3  # broken files that are tolerated in any case
MAX_REJECTED_SHARE = 0.1
_NUM_SCANNED = 1_000  # images that decide on the size
_GLANCE = 16  # images looked at for colour at once
_CHUNK = 256  # images decoded between two reports of progress
_BLOCK = 16  # images decoded by one thread in one go: handing over single ones costs more than small ones take
_SLICE = 8_192  # images copied between two reports of progress

T = TypeVar("T")

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Rejected:
    """A file that could not be used, with the reason in plain words."""

    name: str
    reason: str


@dataclass(frozen=True, eq=False)
class Reading:
    """A source that is being read; `rejected` (name, reason) grows as the batches are taken."""

    images: Images
    target: Target
    rejected: list[tuple[str, str]]
    batches: Iterator[tuple[np.ndarray, np.ndarray]]  # (positions [n], uint8 [n, C, H, W]); raises UserError at the end


@dataclass(frozen=True, eq=False)
class Pool:
    """All usable images of a source, prepared; `folder` is this pool's own place in the cache."""

    images: np.ndarray  # uint8 [N, C, H, W], a read-only memory map
    labels: np.ndarray | None  # int64 [N]
    classes: tuple[str, ...]
    splits: Splits
    digest: str  # SHA-256 over pixels, labels, shape and splits
    rejected: tuple[Rejected, ...]
    num_duplicates: int  # images whose pixels occur earlier
    num_skipped: int  # files passed over because their names are not those of images
    folder: Path


def prepare(
    data: recipe.Data, *, cache: Path | None = None, max_size: int = 256, progress: Progress | None = None
) -> Pool:
    """Decode a source into the cache, or find it there, and split it; raises UserError.

    Where `data.size` is None, it is the median of the smaller sides, at most `max_size`. `progress` is called with
    (done, total) images while decoding.
    """
    cache = default_cache() if cache is None else cache
    background = parse_background(data.background)
    source = open_source(data.source)
    key = _key(source, data.size or f"<={max_size}", data.channels, data.fit, background)
    with writing_to(cache):
        found = store.find(cache, key)
        if found is None:
            _build(cache, key, source, data, max_size, progress)
            found = store.find(cache, key)
            if found is not None:  # a run's recipe holds the size and channels found here: asked for, they are the same
                _, channels, size, _ = found[0].images.shape
                store.note(cache, _key(source, size, channels, data.fit, background), found[1])
        if found is None:
            raise UserError(f'cache folder "{cache}": what was just written cannot be read back; check the disk')
        return _pool(*found, data)


def _key(source: Source, size: int | str, channels: int | None, fit: str, background: tuple[int, int, int]) -> str:
    options = (store.VERSION, source.fingerprint, size, channels, fit, background)
    return hashlib.sha256(repr(options).encode(errors="surrogateescape")).hexdigest()


def gather(pool: Pool, indices: np.ndarray | Tensor) -> Tensor:
    """Return the images at `indices` [n] as uint8 [n, C, H, W] in memory of their own."""
    chosen = indices.cpu().numpy() if isinstance(indices, Tensor) else indices
    return torch.from_numpy(pool.images.take(chosen, axis=0))


def to_float(images: Tensor) -> Tensor:
    """Map uint8 0..255 to float32 in [-1, 1]."""
    return images.to(torch.float32).div_(127.5).sub_(1.0)


def to_uint8(images: Tensor) -> Tensor:
    """Map floats in [-1, 1] to uint8 0..255, rounded, and clamped where they lie outside."""
    return images.detach().float().add(1.0).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)


def train_indices(pool: Pool, seed: int, samples: int, num: int) -> Tensor:
    """Return the pool indices int64 [num] of the training images shown after `samples` others.

    Every epoch is a fresh permutation of the training split, and a batch may span epochs: the order is one endless
    sequence that depends on the seed alone. Raises UserError when the training split is empty.
    """
    train = torch.from_numpy(pool.splits.train)
    if not len(train):
        raise UserError(
            f"no image is left to train on among {len(pool.images)}. Try: --set data.test=0, or more images"
        )
    parts, end = [], samples + num
    while samples < end:
        epoch, start = divmod(samples, len(train))
        stop = min(len(train), start + end - samples)
        parts.append(train[_permutation(seed, epoch, len(train))[start:stop]])
        samples += stop - start
    return torch.cat(parts) if parts else train[:0]


@lru_cache(maxsize=4)
def _permutation(seed: int, epoch: int, num: int) -> Tensor:
    generator = torch.Generator().manual_seed(stream_seed(seed, "data order", epoch))
    return torch.randperm(num, generator=generator)


def _pool(stored: store.Stored, listing: store.Listing, data: recipe.Data) -> Pool:
    splits = split(stored.hashes, data.validation, data.test)
    digest = hashlib.sha256(listing.content.encode())
    for part in (splits.train, splits.validation, splits.test):
        digest.update(f"/{len(part)}/".encode() + part.tobytes())
    # A folder for each way to split: what is learned from one training split must not meet another.
    folder = stored.folder / f"splits-{digest.hexdigest()[:16]}"
    folder.mkdir(exist_ok=True)
    return Pool(
        images=stored.images,
        labels=stored.labels,
        classes=stored.classes,
        splits=splits,
        digest=digest.hexdigest(),
        rejected=tuple(Rejected(name, reason) for name, reason in listing.rejected),
        num_duplicates=len(stored.hashes) - len(np.unique(stored.hashes)),
        num_skipped=listing.num_skipped,
        folder=folder,
    )


@contextlib.contextmanager
def reading(
    source: Source,
    data: recipe.Data,
    max_size: int,
    progress: Progress | None = None,
    decoding: Callable[[bytes | np.ndarray, Target], np.ndarray] = decode,
) -> Iterator[Reading]:
    """Find out what the images of a source shall become, and decode them as they are asked for; raises UserError."""
    images, background = source.load(), parse_background(data.background)
    rejected: list[tuple[str, str]] = []
    num_threads = min(16, os.cpu_count() or 1)
    with ThreadPoolExecutor(num_threads) as executor, _quiet():  # Pillow decodes outside the interpreter's lock
        target = _target(images, data, background, max_size, executor)
        if _is_ready(images, target):
            batches = _sliced(images, progress)
        else:
            batches = _decoded(images, lambda raw: decoding(raw, target), executor, rejected, progress)
        yield Reading(images, target, rejected, _unless_broken(batches, source.name, rejected, len(images.names)))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Pillow's remarks on odd files, which name no file, from the terminal; what cannot be used is listed."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


def _build(cache: Path, key: str, source: Source, data: recipe.Data, max_size: int, progress: Progress | None) -> None:
    with reading(source, data, max_size, progress) as read:
        content = store.write(cache, read.batches, read.images.labels, read.images.classes)
    store.note(cache, key, store.Listing(content, read.rejected, read.images.num_skipped))


def _target(
    images: Images,
    data: recipe.Data,
    background: tuple[int, int, int],
    max_size: int,
    executor: ThreadPoolExecutor,
) -> Target:
    """Find size and channels, where the recipe leaves them open, from headers and as few pixels as possible."""
    num = len(images.names)
    sample = np.unique(np.linspace(0, num - 1, min(num, _NUM_SCANNED)).astype(np.int64))
    size, channels = data.size, data.channels
    if size is None and images.array is not None:
        size = min(images.array.shape[1:3])
    elif size is None:
        sides = executor.map(partial(_attempt, images, smaller_side), sample)
        usable = sorted(side for side in sides if isinstance(side, int))
        size = usable[len(usable) // 2] if usable else MIN_SIZE
    if data.size is None:
        size = min(max(size, MIN_SIZE), max_size)
    if channels is None:
        channels = 3 if _any_color(images, sample, background, executor) else 1
    return Target(size, channels, data.fit, background)


def _any_color(
    images: Images, sample: np.ndarray, background: tuple[int, int, int], executor: ThreadPoolExecutor
) -> bool:
    """Look at a spread sample first, then at all the rest: the first image with colour ends it."""
    if images.array is not None and images.array.shape[3] in (1, 3):
        return bool((images.array != images.array[..., :1]).any())
    order = np.concatenate([sample, np.setdiff1d(np.arange(len(images.names)), sample)])
    look = partial(_attempt, images, partial(has_color, background=background))
    for start in range(0, len(order), _GLANCE):
        if any(colored is True for colored in executor.map(look, order[start : start + _GLANCE])):
            return True
    return False


def _attempt(images: Images, function: Callable[[bytes | np.ndarray], T], index: int) -> T | BrokenImage:
    """Apply a function to one image, or return why that fails."""
    try:
        return function(images.read(index))
    except BrokenImage as broken:
        return broken


def _is_ready(images: Images, target: Target) -> bool:
    """Return whether the images lie in memory as they shall be, but for the order of their axes."""
    return images.array is not None and images.array.shape[1:] == (target.size, target.size, target.channels)


def _sliced(images: Images, progress: Progress | None) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    assert images.array is not None
    num = len(images.array)
    for start in range(0, num, _SLICE):
        stop = min(num, start + _SLICE)
        yield np.arange(start, stop), np.ascontiguousarray(images.array[start:stop].transpose(0, 3, 1, 2))
        if progress:
            progress(stop, num)


def _decoded(
    images: Images,
    decoding: Callable[[bytes | np.ndarray], np.ndarray],
    executor: ThreadPoolExecutor,
    rejected: list[tuple[str, str]],
    progress: Progress | None,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (positions, images) chunk by chunk; broken ones are added to `rejected`."""
    num = len(images.names)
    attempt = partial(_attempt, images, decoding)
    for start in range(0, num, _CHUNK):
        stop = min(num, start + _CHUNK)
        blocks = [range(first, min(stop, first + _BLOCK)) for first in range(start, stop, _BLOCK)]
        results = [result for block in executor.map(lambda block: [*map(attempt, block)], blocks) for result in block]
        usable = [(index, result) for index, result in enumerate(results, start) if isinstance(result, np.ndarray)]
        rejected += [
            (images.names[index], str(result))
            for index, result in enumerate(results, start)
            if isinstance(result, BrokenImage)
        ]
        if usable:
            yield np.array([index for index, _ in usable]), np.stack([image for _, image in usable])
        if progress:
            progress(stop, num)


def _unless_broken(
    batches: Iterator[tuple[np.ndarray, np.ndarray]], source: str, rejected: list[tuple[str, str]], num: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pass batches on, and raise UserError at their end, before anything is kept, if too many images are broken."""
    yield from batches
    broken = len(rejected)
    if broken < num and broken <= max(MAX_REJECTED, MAX_REJECTED_SHARE * num):
        return
    first = "; ".join(f"{name}: {reason}" for name, reason in rejected[:3])
    share = "none" if broken == num else f"only {num - broken}"
    raise UserError(
        f'source "{source}": {share} of {num} images can be used ({first}{"; …" if broken > 3 else ""}). '
        "Try: replace or remove the broken files"
    )
