"""A pool: every image of a source as uint8 of one size, prepared once, split by content, gathered quickly."""

import contextlib
import hashlib
import itertools
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np
import torch
from torch import Tensor

from equipoise import recipe
from equipoise.data import store
from equipoise.data.audit.counting import Counts, counting, loss_notes
from equipoise.data.audit.transparency import Tally
from equipoise.data.cache import default_cache as default_cache
from equipoise.data.cache import writing_to
from equipoise.data.changes import name_hashes
from equipoise.data.channels import OPACITY, is_measured
from equipoise.data.decode import (
    BrokenImage,
    Target,
    byte_values,
    decode,
    deep_values,
    has_color,
    num_frames,
    num_stored,
    parse_background,
    smaller_side,
    stack_values,
)
from equipoise.data.listing import Numbered
from equipoise.data.several import Sets
from equipoise.data.sources import PAGED, PICTURE_ARRAYS, Source, SourceImages, labelled, open_source, subject_of
from equipoise.data.splits import Splits, num_copies, split
from equipoise.data.values import Scale, array_to_uint8, doubts_of_bytes, notes_of, scale_of, scale_of_array
from equipoise.errors import Setting, UserError
from equipoise.randomness import Randomness, stream_seed
from equipoise.sizes import MIN_SIDE, size_of, size_of_shape
from equipoise.storage.records import Rejected

MAX_REJECTED = 3  # broken files that are tolerated in any case
MAX_REJECTED_SHARE = 0.1
LABELLING = 3  # version of what labels are found in a source; a change has it read again, to the same pool if it can be
_NUM_SCANNED = 1_000  # images that decide on the size
_NUM_CHECKED = 16  # images checked for colour at once
_NUM_DARK = 32  # images of 8 bits by which it is said that a set is nearly black
_CHUNK = 256  # images decoded between two reports of progress
_BLOCK = 16  # images decoded by a thread at once: handing over single small ones costs more than decoding
_SLICE = 8_192  # images copied between two reports of progress

T = TypeVar("T")

Progress = Callable[[int, int], None]
Batches = Iterator[tuple[np.ndarray, np.ndarray]]  # positions in the source [n], uint8 [n, C, H, W]
AS_FOUND = recipe.Images()


def told_by(stage: Callable[[str, float], None]) -> Progress:
    """Return what tells a stage which share of the images is read."""
    return lambda done, total: stage("reading the images", done / total)


@dataclass(frozen=True, eq=False)
class Reading:
    """A source that is being read; `rejected` (name, reason) grows as the batches are taken."""

    images: SourceImages
    target: Target
    rejected: list[tuple[str, str]]
    batches: Batches  # raises UserError at the end


@dataclass(frozen=True, eq=False)
class Pool:
    """All usable images of a source, prepared and split."""

    images: np.ndarray  # uint8 [N, C, H, W], a read-only memory map
    labels: np.ndarray | None  # int64 [N]: places of classes, or of sets where there are such
    classes: tuple[str, ...]
    splits: Splits
    digest: str  # SHA-256 over pixels, labels, shape and splits
    rejected: tuple[Rejected, ...]
    num_duplicates: int  # images whose pixels occur earlier
    num_skipped: int  # files ignored because their names are not those of images
    notes: tuple[str, ...] = ()  # what was inferred, such as classes
    scale: tuple[float, ...] | None = None  # the pixel values that became black and white, where images are deep
    skipped: Mapping[str, int] = field(default_factory=dict)  # what was ignored, by suffix or by why
    hashes: np.ndarray = field(default_factory=lambda: np.zeros(0, np.uint64))  # uint64 [N], by which it is split
    name_hashes: np.ndarray | None = None  # uint64 [N]; None where nobody has noted them
    sets: Sets = ()  # of several labels an image the combinations: places of classes


def prepare(
    data: recipe.Data,
    images: recipe.Images = AS_FOUND,
    *,
    cache: Path | None = None,
    max_size: int = 256,
    progress: Progress | None = None,
) -> Pool:
    """Decode a source into the cache, or find it there, and split it; raises UserError.

    Where `images.size` is None, it is the median of the smaller sides, at most `max_size`. `progress` is
    called with (done, total) images while decoding.
    """
    cache = cache or default_cache()
    parse_background(images.background)  # a mistake is reported before anything is read
    source = open_source(data.source)
    size = _wanted(images, max_size)
    with writing_to(cache):
        found = store.find(cache, _key(source.stamp, images, size, images.channels))
        if found is None:
            key = _key(source.fingerprint, images, size, images.channels)
            found = store.find(cache, key)
            if found is None:
                _build(cache, key, source, images, max_size, progress)
                found = store.find(cache, key)
                if found is None:
                    problem = "what was just written cannot be read back"
                    raise UserError(f'cache folder "{cache}"', problem, "Check the disk")
            with contextlib.suppress(OSError):  # a cache that holds the data may be read-only
                _note_again(cache, source, images, size, found)
        names = store.names_of(cache, found[1], len(found[0].images))
        return replace(_pool(*found, data), name_hashes=names)


def _note_again(
    cache: Path,
    source: Source,
    images: recipe.Images,
    size: int | tuple[int, int] | str,
    found: tuple[store.Stored, store.Listing],
) -> None:
    """Note a pool for the source's stamp too, and for the size, channels and scale that were found.

    A run's recipe holds these: asked for, they are the same.
    """
    stored, listing = found
    channels = stored.images.shape[1]
    given = size_of_shape(stored.images.shape).given
    on_scale = with_scale(images, listing.scale)
    keys = {_key(text, on_scale, given, channels) for text in (source.fingerprint, source.found.stamp)}
    for key in keys | {_key(source.found.stamp, images, size, images.channels)}:
        store.note(cache, key, listing)


def names_of(data: recipe.Data, pool: Pool) -> tuple[str, ...]:
    """Return the name of each image of a pool: a path below the folder, a member of the zip, or its place.

    Raises UserError where the source has changed since it was prepared.
    """
    left_out = [item.name for item in pool.rejected]
    if data.source.startswith("hub:"):  # its rows have numbers; it is not streamed again for these
        return tuple(_used(Numbered("row", len(pool.images) + len(left_out)), left_out))
    source = open_source(data.source)
    names = tuple(_used(labelled(source.load()).names, left_out))
    if len(names) != len(pool.images):
        raise UserError(subject_of(source.name), "it was changed while it was read", "Try again")
    return names


def _used(names: Iterable[str], left_out: Iterable[str]) -> Iterator[str]:
    """Yield the names that are not left out; both are in one order."""
    others = iter(left_out)
    other = next(others, None)
    for name in names:
        if name == other:
            other = next(others, None)
        else:
            yield name


def with_scale(images: recipe.Images, scale: Sequence[float | None] | None) -> recipe.Images:
    """Return settings with the pixel values that became black and white, where images are deep."""
    if scale is None:
        return images
    return msgspec.structs.replace(images, black=scale[0], white=scale[1])


def _wanted(images: recipe.Images, max_size: int) -> int | tuple[int, int] | str:
    """Return the size that is asked for, or that it is found from the images."""
    return f"<={max_size}" if images.size is None else size_of(images.size).given


def _key(content: str, images: recipe.Images, size: int | tuple[int, int] | str, channels: int | None) -> str:
    """Return under what the cache keeps a source of this stamp or fingerprint, read with these settings."""
    background = parse_background(images.background)
    options = (store.VERSION, LABELLING, content, size, channels, images.fit, background, images.black, images.white)
    return hashlib.sha256(repr(options).encode(errors="surrogateescape")).hexdigest()


def gather(pool: Pool, indices: np.ndarray | Tensor) -> Tensor:
    """Return the images at `indices` [n] as uint8 [n, C, H, W] in memory of their own."""
    if isinstance(indices, Tensor):
        indices = indices.cpu().numpy()
    return torch.from_numpy(pool.images.take(indices, axis=0))


def to_float(images: Tensor) -> Tensor:
    """Map uint8 0..255 to float32 in [-1, 1]."""
    return images.to(torch.float32).div_(127.5).sub_(1.0)


def to_uint8(images: Tensor) -> Tensor:
    """Map floats in [-1, 1] to uint8 0..255, rounded, and clamped where they lie outside."""
    return images.detach().float().add(1.0).mul_(127.5).round_().clamp_(0, 255).to(torch.uint8)


def train_indices(pool: Pool, randomness: Randomness, num: int) -> Tensor:
    """Return the pool indices int64 [num] of the training images shown at this position.

    Every epoch is a fresh permutation of the training split, and a batch may span epochs: the order is one
    endless sequence that depends on seed and attempt alone. Raises UserError when the training split is
    empty.
    """
    train = torch.from_numpy(pool.splits.train)
    if not len(train):
        problem = f"no image is left to train on among {len(pool.images)}"
        raise UserError("data", problem, "Add images", Setting("data.test", 0))
    parts = [train[:0]]
    position = randomness.samples
    end = position + num
    while position < end:
        epoch, start = divmod(position, len(train))
        stop = min(len(train), start + end - position)
        seed = stream_seed(randomness.seed, "data order", epoch, randomness.attempt)
        parts.append(train[_permutation(seed, len(train))[start:stop]])
        position += stop - start
    return torch.cat(parts)


@lru_cache(maxsize=2)  # a batch may span two epochs
def _permutation(seed: int, num: int) -> Tensor:
    return torch.randperm(num, generator=torch.Generator().manual_seed(seed))


def _pool(stored: store.Stored, listing: store.Listing, data: recipe.Data) -> Pool:
    splits = split(stored.hashes, data.validation, data.test)
    return Pool(
        images=stored.images,
        labels=stored.labels,
        classes=stored.classes,
        splits=splits,
        digest=_digest_of(listing.content, splits),
        rejected=tuple(Rejected(name, reason) for name, reason in listing.rejected),
        num_duplicates=num_copies(stored.hashes),
        num_skipped=listing.num_skipped,
        notes=tuple(listing.notes),
        scale=None if listing.scale is None else tuple(listing.scale),
        skipped=listing.skipped,
        hashes=stored.hashes,
        sets=stored.sets,
    )


def _digest_of(content: str, splits: Splits) -> str:
    """Return the digest of a pool: of what the cache keeps, by its name there, and how it is split."""
    digest = hashlib.sha256(content.encode())
    for part in (splits.train, splits.validation, splits.test):
        digest.update(f"/{len(part)}/".encode() + part.tobytes())
    return digest.hexdigest()


@contextlib.contextmanager
def reading(
    source: Source,
    images: recipe.Images,
    max_size: int,
    progress: Progress | None = None,
    decoding: Callable[[bytes | np.ndarray, Target], np.ndarray] = decode,
) -> Iterator[Reading]:
    """Decide what the images of a source become, and decode them as they are asked for; raises UserError."""
    background = parse_background(images.background)
    listed = labelled(source.load())
    rejected: list[tuple[str, str]] = []
    num_threads = min(16, os.cpu_count() or 1)
    with ThreadPoolExecutor(num_threads) as executor, _quiet():  # Pillow releases the interpreter's lock
        listed, scale = of_bytes(listed, images.black, images.white)
        target, notes = _target(listed, images, background, max_size, executor)
        if scale is not None:
            target = replace(target, scale=scale)
        listed = replace(listed, notes=(*listed.notes, *notes))
        if listed.array is not None and _is_ready(listed.array, target):
            batches = _sliced(listed.array, progress)
        else:
            batches = _decoded(listed, lambda raw: decoding(raw, target), executor, rejected, progress)
        batches = _unless_broken(batches, source.name, rejected, len(listed.names))
        yield Reading(listed, target, rejected, batches)


def of_bytes(
    listed: SourceImages, black: float | None = None, white: float | None = None
) -> tuple[SourceImages, Scale | None]:
    """Return images with their array as uint8, and its scale; raises UserError. Where there is no array, they stay."""
    if listed.array is None:
        return listed, None
    scale, notes = scale_of_array(listed.array, black, white)
    array = array_to_uint8(listed.array, scale)
    return replace(listed, array=array, read=array.__getitem__, notes=(*listed.notes, *notes)), scale


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Pillow's remarks on odd files from the terminal: they do not name the file."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        yield


def _build(
    cache: Path, key: str, source: Source, images: recipe.Images, max_size: int, progress: Progress | None
) -> None:
    counts = Counts(Tally(parse_background(images.background)))
    with reading(source, images, max_size, progress, counting(counts)) as read:
        content = store.write(cache, read.batches, read.images.labels, read.images.classes, read.images.sets)
    notes = [*read.images.notes, *loss_notes(counts, read.target, images.background)]
    scale = None if read.target.scale is None else [read.target.scale.low, read.target.scale.high]
    listed = read.images
    names = store.write_names(cache, name_hashes(_used(listed.names, (name for name, _ in read.rejected))))
    listing = store.Listing(content, read.rejected, listed.num_skipped, notes, scale, dict(listed.skipped), names)
    store.note(cache, key, listing)


def _target(
    listed: SourceImages,
    images: recipe.Images,
    background: tuple[int, int, int],
    max_size: int,
    executor: ThreadPoolExecutor,
) -> tuple[Target, list[str]]:
    """Find size, channels and the scale of deep images, where they are left open; and say what was found.

    It is done from headers and as few pixels as possible.
    """
    num = len(listed.names)
    sample = np.unique(np.linspace(0, num - 1, min(num, _NUM_SCANNED)).astype(np.int64))
    size = images.size
    if size is None:
        size = min(max(_median_side(listed, sample, executor), MIN_SIDE), max_size)
    measured = _num_measured(listed, sample, executor)
    channels = images.channels or measured
    if measured and images.channels not in (None, measured):
        problem = f"the arrays have {measured} channels"
        raise UserError(Setting("task.channels", images.channels), problem, Setting("task.channels", measured))
    if channels is None:
        channels = 3 if _any_color(listed, sample, background, executor) else 1
    scale, notes = _scale(listed, images, channels, sample, executor)
    if is_measured(channels):
        notes.append(f"{channels} channels are measured side by side; pictures show the first three in colour")
    else:
        notes += _notes_of_pages(listed, sample, executor)
    return Target(size_of(size), channels, images.fit, background, scale), notes


def _scale(
    listed: SourceImages, images: recipe.Images, channels: int, sample: np.ndarray, executor: ThreadPoolExecutor
) -> tuple[Scale | None, list[str]]:
    """Return the one scale of all images of more than 8 bits or floats; None where a sample has none of them."""
    if listed.array is not None:  # it was put on its scale before
        return None, []
    is_given = images.black is not None or images.white is not None
    without = ["task.black and task.white have no effect: no image has more than 8 bits"] if is_given else []
    look = partial(stack_values, num=channels) if is_measured(channels) else deep_values
    found = executor.map(partial(_attempt, listed, look), sample)
    deep = [values for values in found if isinstance(values, np.ndarray)]
    if not deep:
        some = executor.map(partial(_attempt, listed, byte_values), sample[:: max(1, len(sample) // _NUM_DARK)])
        return None, [*without, *doubts_of_bytes([values for values in some if isinstance(values, np.ndarray)])]
    scale = scale_of(deep, images.black, images.white)
    return scale, notes_of(scale, deep)


def _num_measured(listed: SourceImages, sample: np.ndarray, executor: ThreadPoolExecutor) -> int | None:
    """Return the channels of arrays that have more than colours and opacity, as most of a sample do; else None."""
    if listed.array is not None:
        return listed.array.shape[3] if listed.array.shape[3] > OPACITY else None
    stored = [index for index in map(int, sample) if Path(listed.names[index]).suffix.lower() in PICTURE_ARRAYS]
    found = executor.map(partial(_attempt, listed, num_stored), stored)
    counts = Counter(num for num in found if isinstance(num, int))
    most = counts.most_common(1)[0][0] if counts else 0
    return most if most > OPACITY else None


def _notes_of_pages(listed: SourceImages, sample: np.ndarray, executor: ThreadPoolExecutor) -> list[str]:
    """Say how many files of a sample hold several pages or frames, of which the first is taken."""
    if listed.array is not None:
        return []
    paged = [index for index in map(int, sample) if Path(listed.names[index]).suffix.lower() in PAGED]
    found = executor.map(partial(_attempt, listed, num_frames), paged)
    counts = [num for num in found if isinstance(num, int) and num > 1]
    if not counts:
        return []
    of = f"{len(counts):,} of {len(sample):,} files" + (" looked at" if len(sample) < len(listed.names) else "")
    return [f"{of} hold several pages or frames, up to {max(counts):,}: the first of each is taken"]


def _median_side(listed: SourceImages, sample: np.ndarray, executor: ThreadPoolExecutor) -> int:
    """Return the median of the smaller sides of a sample, in pixels; 0 where none can be read."""
    if listed.array is not None:
        return min(listed.array.shape[1:3])
    sides = executor.map(partial(_attempt, listed, smaller_side), sample)
    usable = sorted(side for side in sides if isinstance(side, int))
    return usable[len(usable) // 2] if usable else 0


def _any_color(
    listed: SourceImages, sample: np.ndarray, background: tuple[int, int, int], executor: ThreadPoolExecutor
) -> bool:
    """Check a spread sample first, then all the rest: the first image with colour ends it."""
    if listed.array is not None and listed.array.shape[3] in (1, 3):
        return bool((listed.array != listed.array[..., :1]).any())
    order = np.concatenate([sample, np.setdiff1d(np.arange(len(listed.names)), sample)])
    check = partial(_attempt, listed, partial(has_color, background=background))
    for start in range(0, len(order), _NUM_CHECKED):
        if any(colored is True for colored in executor.map(check, order[start : start + _NUM_CHECKED])):
            return True
    return False


def _attempt(listed: SourceImages, function: Callable[[bytes | np.ndarray], T], index: int) -> T | BrokenImage:
    """Apply a function to one image, or return why that fails."""
    try:
        return function(listed.read(index))
    except BrokenImage as broken:
        return broken


def _is_ready(array: np.ndarray, target: Target) -> bool:
    """Return whether images uint8 [N, H, W, C] are as they shall be, but for the order of their axes."""
    if target.channels == OPACITY:  # colours of arrays are plain, and ours are premultiplied
        return False
    return array.shape[1:] == (target.size.height, target.size.width, target.channels)


def _sliced(array: np.ndarray, progress: Progress | None) -> Batches:
    num = len(array)
    for start in range(0, num, _SLICE):
        stop = min(num, start + _SLICE)
        yield np.arange(start, stop), np.ascontiguousarray(array[start:stop].transpose(0, 3, 1, 2))
        if progress:
            progress(stop, num)


def _decoded(
    listed: SourceImages,
    decoding: Callable[[bytes | np.ndarray], np.ndarray],
    executor: ThreadPoolExecutor,
    rejected: list[tuple[str, str]],
    progress: Progress | None,
) -> Batches:
    """Yield (positions, images) chunk by chunk; broken ones are added to `rejected`."""
    num = len(listed.names)
    attempt = partial(_attempt, listed, decoding)
    for start in range(0, num, _CHUNK):
        stop = min(num, start + _CHUNK)
        blocks = [range(first, min(stop, first + _BLOCK)) for first in range(start, stop, _BLOCK)]
        results = itertools.chain.from_iterable(executor.map(lambda block: [*map(attempt, block)], blocks))
        positions = []
        pixels = []
        for index, result in enumerate(results, start):
            if isinstance(result, BrokenImage):
                rejected.append((listed.names[index], str(result)))
            else:
                positions.append(index)
                pixels.append(result)
        if positions:
            yield np.array(positions), np.stack(pixels)
        if progress:
            progress(stop, num)


def _unless_broken(batches: Batches, source: str, rejected: list[tuple[str, str]], num: int) -> Batches:
    """Pass batches on; raise UserError at their end, before anything is kept, if too many are broken."""
    yield from batches
    broken = len(rejected)
    if broken < num and broken <= most_rejected(num):
        return
    shown = [f"{name}: {reason}" for name, reason in rejected[:3]]
    if broken > len(shown):
        shown.append("…")
    problem = f"{num - broken:,} of {num:,} images can be used ({'; '.join(shown)})"
    raise UserError(subject_of(source), problem, *rejected_remedies(broken, num))


def most_rejected(num: int) -> int:
    """Return how many broken files are tolerated among so many."""
    return max(MAX_REJECTED, int(MAX_REJECTED_SHARE * num))


def rejected_remedies(broken: int, num: int) -> tuple[str, ...]:
    """Say how many images that cannot be used are tolerated, and what to do where there are more."""
    remedy = "Replace or remove them"
    if broken == num:
        return (remedy,)
    limit = most_rejected(num)
    share = f" ({MAX_REJECTED_SHARE:.0%})" if limit > MAX_REJECTED else ""
    return f"{broken:,} cannot be used, and at most {limit:,} of {num:,}{share} are left out without asking", remedy
