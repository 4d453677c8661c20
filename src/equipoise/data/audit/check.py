"""What a source of images holds, and what a training would make of it; nothing is written."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from equipoise.data import store
from equipoise.data.audit.counting import Counts, counting
from equipoise.data.audit.duplicates import Sketches, groups, joined, near_duplicates, sketched
from equipoise.data.audit.sizes import Keeping, Sizes, is_enlarged, keeping, num_kept, reduction, same_shape, share_lost
from equipoise.data.audit.transparency import Tally, Transparency
from equipoise.data.decode import Header, Target, parse_background
from equipoise.data.pool import Pool, Reading, reading, told_by
from equipoise.data.several import counts_of
from equipoise.data.sources import MAX_DEPTH, SourceImages, open_source
from equipoise.data.splits import content_digests, split, to_hashes
from equipoise.errors import UserError
from equipoise.nets.made_for import size_note
from equipoise.recipe import Data, Images, Recipe
from equipoise.sizes import Size
from equipoise.storage.records import Rejected

SplitName = Literal["train", "validation", "test"]
Stage = Callable[[str, float], None]  # called with a stage in words and the share of it that is done

_MODES = ("grey", "grey with transparency", "RGB", "RGB with transparency")  # of arrays, by their channels


@dataclass(frozen=True)
class Copies:
    """Files that show one picture, and the splits that they lie in."""

    names: tuple[str, ...]
    splits: tuple[SplitName, ...]

    @property
    def leaks(self) -> bool:
        """Return whether some are trained on and others judged by."""
        return "train" in self.splits and len(set(self.splits)) > 1


@dataclass(frozen=True, kw_only=True)
class Training:
    """What a training would make of a source; `refusal` is the mistake with which it would not start."""

    recipe: Recipe
    target: Target
    num_train: int
    num_validation: int
    num_test: int
    cut_shares: tuple[float, ...]  # what of each image of another shape is lost, or filled in, sorted
    num_enlarged: int
    smallest_side: int
    num_reduced: int
    largest_reduction: float  # pixels of a side that become one
    num_kept: int  # images of which every pixel is kept
    keeping: Keeping | None  # what would keep every pixel of most images
    shape: Size | None  # of about the present size, with a ratio that most images share, where that is another one
    max_size: int  # up to which images keep their size on this device
    size_note: str  # what the recipe was made for, where that is another size
    refusal: UserError | None


@dataclass(frozen=True, kw_only=True)
class Check:
    """All that is known of a source once every image was decoded."""

    source: str
    num_files: int  # that may be images by their names
    rejected: tuple[Rejected, ...]
    skipped: Mapping[str, int]
    headers: Counter[Header]
    num_duplicates: int
    exact: tuple[Copies, ...]
    near: tuple[Copies, ...]  # with at least two different contents; exact copies of these are among them
    transparency: Transparency
    class_counts: Mapping[str, int]
    num_sets: int  # combinations, where an image has several labels
    empty_folders: tuple[str, ...]
    training: Training
    notes: tuple[str, ...] = ()  # what was inferred, such as classes
    named: str | None = None  # the recipe that was asked for; without one, it goes by the images

    @property
    def num_used(self) -> int:
        """Return the number of usable images."""
        return self.num_files - len(self.rejected)


def check(
    data: Data, images: Images, max_size: int, make_recipe: Callable[[Pool], Recipe], recipe: Recipe, stage: Stage
) -> Check:
    """Read a source as a training with these settings would, in memory alone; raises UserError.

    `make_recipe` returns the final recipe for a pool, which here has the shape of its images but not their
    pixels, and raises UserError where the training would; `recipe` stands for it where there is no pool to
    make it from.
    """
    counts = Counts(Tally(parse_background(images.background)))  # a mistake is reported before anything else
    stage("reading the images", 0.0)
    source = open_source(data.source)
    with reading(source, images, max_size, told_by(stage), counting(counts)) as read:
        content, refusal = _content(read)
    if read.images.array is not None:
        counts.headers = _array_headers(read.images.array)
    pool = _pool(read, content, data)
    if refusal is None:
        try:
            recipe = make_recipe(pool)
        except UserError as error:
            refusal = error
    names = [read.images.names[position] for position in content.positions]
    exact, near = _copies(content, names, _sides(pool), stage)
    return Check(
        source=data.source,
        num_files=len(read.images.names),
        rejected=pool.rejected,
        skipped=dict(sorted(read.images.skipped.items(), key=lambda item: (-item[1], item[0]))),
        headers=counts.headers,
        num_duplicates=pool.num_duplicates,
        exact=exact,
        near=near,
        transparency=counts.tally.found(is_grey=read.target.channels == 1),
        class_counts=_class_counts(read.images, content.positions),
        num_sets=len(pool.sets),
        empty_folders=tuple(_empty_folders(data.source, read.images.names, names)),
        training=_training(recipe, read.target, pool, counts.sizes, max_size, refusal),
        notes=read.images.notes,
    )


@dataclass(frozen=True, eq=False)
class _Content:
    """What is kept of the usable images."""

    positions: list[int]  # among the files of the source
    hashes: np.ndarray  # uint64 [N]
    sketches: Sketches
    shape: tuple[int, ...]  # [C, H, W]


def _content(read: Reading) -> tuple[_Content, UserError | None]:
    """Take all batches; return what is kept of them, and the error that refuses too many broken files."""
    positions: list[int] = []
    digests: list[bytes] = []
    parts: list[Sketches] = []
    refusal = None
    try:
        for indices, images in read.batches:
            positions += indices.tolist()
            digests += [digest[:8] for digest in content_digests(images)]
            parts.append(sketched(images))
    except UserError as error:
        refusal = error
    shape = (read.target.channels, read.target.size.height, read.target.size.width)
    return _Content(positions, to_hashes(digests), joined(parts), shape), refusal


def _pool(read: Reading, content: _Content, data: Data) -> Pool:
    """Return what the training would find, with pixels that take no memory."""
    num = len(content.positions)
    positions = np.array(content.positions, dtype=np.int64)
    labels, classes, sets = store.kept_labels(read.images.labels, read.images.classes, read.images.sets, positions)
    return Pool(
        images=np.broadcast_to(np.uint8(0), (num, *content.shape)),
        labels=labels,
        classes=classes,
        splits=split(content.hashes, data.validation, data.test),
        digest="",
        rejected=tuple(Rejected(name, reason) for name, reason in read.rejected),
        num_duplicates=num - len(np.unique(content.hashes)),
        num_skipped=read.images.num_skipped,
        skipped=read.images.skipped,
        hashes=content.hashes,
        sets=sets,
    )


def _array_headers(array: np.ndarray) -> Counter[Header]:
    num, height, width, channels = array.shape
    mode = _MODES[channels - 1] if channels <= len(_MODES) else f"{channels} channels"
    return Counter({Header("array", mode, width, height, False, False): num})


def _class_counts(images: SourceImages, positions: list[int]) -> dict[str, int]:
    if images.labels is None:
        return {}
    counts = counts_of(images.labels[positions], images.classes, images.sets)
    return dict(zip(images.classes, counts, strict=True))


def _empty_folders(source: str, names: Sequence[str], used: Iterable[str]) -> Iterator[str]:
    """Yield the topmost folders, as `path/`, in which no usable image lies at any depth."""
    with_images = set(_folders(used))
    every = set(_folders(names))
    top = Path(source).expanduser()
    if source != "mnist" and top.is_dir():
        for folder, below, files in os.walk(top):
            below[:] = [name for name in below if not name.startswith(".") and name != "__MACOSX"]
            relative = os.path.relpath(folder, top).replace(os.sep, "/") + "/"
            if relative.count("/") >= MAX_DEPTH:  # a training reads no deeper, and os.walk may recurse
                below.clear()
            if relative != "./" and "recipe.json" not in files:  # a run's folder is ignored by intention
                every.add(relative)
    for folder in sorted(every - with_images):
        parent = folder[: folder.rstrip("/").rfind("/") + 1]
        if not parent or parent in with_images:
            yield folder


def _folders(names: Iterable[str]) -> Iterator[str]:
    for name in names:
        end = name.find("/")
        while end >= 0:
            yield name[: end + 1]
            end = name.find("/", end + 1)


# Copies


def _sides(pool: Pool) -> list[SplitName]:
    sides: list[SplitName] = ["train"] * len(pool.images)
    for index in pool.splits.validation.tolist():
        sides[index] = "validation"
    for index in pool.splits.test.tolist():
        sides[index] = "test"
    return sides


def _copies(
    content: _Content, names: Sequence[str], sides: Sequence[SplitName], stage: Stage
) -> tuple[tuple[Copies, ...], tuple[Copies, ...]]:
    """Return the groups of images that are equal pixel for pixel, and those of images that are nearly so."""
    distinct, first, inverse = np.unique(content.hashes, return_index=True, return_inverse=True)
    order = np.argsort(inverse.ravel(), kind="stable")
    members = np.split(order, np.cumsum(np.bincount(inverse.ravel(), minlength=len(distinct)))[:-1])
    sketches = Sketches(content.sketches.thumbnails[first], content.sketches.tints[first])
    stage("comparing the images", 0.0)
    pairs = near_duplicates(sketches, lambda share: stage("comparing the images", share))

    def copies(indices: Iterable[int]) -> Copies:
        rising = sorted(indices)
        return Copies(tuple(names[index] for index in rising), tuple(sides[index] for index in rising))

    exact = [copies(group.tolist()) for group in members if len(group) > 1]
    near_groups = groups(len(distinct), pairs)
    near = [copies(index for one in group for index in members[one].tolist()) for group in near_groups]
    near.sort(key=lambda group: (not group.leaks, group.names))
    return tuple(sorted(exact, key=lambda group: (-len(group.names), group.names))), tuple(near)


# What the training would do


def _training(
    recipe: Recipe, target: Target, pool: Pool, sizes: Sizes, max_size: int, refusal: UserError | None
) -> Training:
    shares = Counter[float]()
    num_enlarged = 0
    num_reduced = 0
    for (width, height), count in sizes.items():
        times = reduction(width, height, target.size, target.fit)
        num_enlarged += count * is_enlarged(width, height, target.size, target.fit)
        num_reduced += count * (times > 1)
        if lost := share_lost(width, height, target.size):
            shares[lost] += count
    splits = pool.splits
    num_other_shape = shares.total()
    return Training(
        recipe=recipe,
        target=target,
        num_train=len(splits.train),
        num_validation=len(splits.validation),
        num_test=len(splits.test),
        cut_shares=tuple(sorted(shares.elements())),
        num_enlarged=num_enlarged,
        smallest_side=min(map(min, sizes), default=0),
        num_reduced=num_reduced,
        largest_reduction=max((reduction(*size, target.size, target.fit) for size in sizes), default=0.0),
        num_kept=num_kept(sizes, target.size, target.fit),
        keeping=keeping(sizes, target.fit),
        shape=None if num_other_shape == 0 else same_shape(sizes, max(target.size)),
        max_size=max_size,
        size_note=size_note(recipe, target.size),
        refusal=refusal,
    )
