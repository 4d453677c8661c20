"""What a source of images holds, and what a training would make of it: read as the training reads, nothing written."""

import math
import os
import statistics
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Literal, assert_never

import numpy as np

from equipoise.data import store
from equipoise.data.decode import Header, Target, decode_described
from equipoise.data.duplicates import Sketches, groups, joined, near_duplicates, sketched
from equipoise.data.pool import Pool, Reading, Rejected, reading
from equipoise.data.sources import Images, open_source
from equipoise.data.splits import content_digests, split, to_hashes
from equipoise.errors import UserError
from equipoise.recipe import Data, Recipe

SplitName = Literal["train", "validation", "test"]
Preparing = Callable[[str, float], None]  # told of a stage and the share of it that is done

WIDTH = 80
MOST_SHOWN = 20  # files that are not used
MOST_GROUPS = 8
MOST_CLASSES = 12
MOST_SIZES = 12  # exact sizes; where there are more, they are counted by the smaller side
RARE_SHARE = 0.1  # of an even share, below which a class is called rare
RARE_IMAGES = 20
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
    """What a training would make of a source; `refusal` is the line with which it would not start."""

    recipe: Recipe
    target: Target
    num_train: int
    num_validation: int
    num_test: int
    cut_shares: tuple[float, ...]  # what of each image that is not square is lost, or filled in, sorted
    num_enlarged: int
    smallest_side: int
    refusal: str | None


@dataclass(frozen=True, kw_only=True)
class Check:
    """All that is known of a source once every image was decoded."""

    source: str
    num_files: int  # taken for images
    rejected: tuple[Rejected, ...]
    skipped: Mapping[str, int]
    headers: Counter[Header]
    num_duplicates: int
    exact: tuple[Copies, ...]
    near: tuple[Copies, ...]  # with at least two different contents; exact copies of these are among them
    class_counts: Mapping[str, int]
    empty_folders: tuple[str, ...]
    training: Training

    @property
    def num_used(self) -> int:
        """Return the number of usable images."""
        return self.num_files - len(self.rejected)


def check(
    data: Data, max_size: int, make_recipe: Callable[[Pool], Recipe], recipe: Recipe, preparing: Preparing
) -> Check:
    """Read a source as a training with these settings would, in memory alone; raises UserError without any image.

    `make_recipe` returns the final recipe for a pool, which here has the shape of its images but not their pixels, and
    raises UserError where the training would; `recipe` stands for it where there is no pool to make it from.
    """
    preparing("reading the images", 0.0)
    source = open_source(data.source)
    headers, lock = Counter[Header](), Lock()

    def decoding(raw: bytes | np.ndarray, target: Target) -> np.ndarray:
        pixels, header = decode_described(raw, target)
        with lock:
            headers[header] += 1
        return pixels

    with reading(
        source, data, max_size, lambda done, all_: preparing("reading the images", done / all_), decoding
    ) as read:
        content, refusal = _content(read)
    if read.images.array is not None:
        headers = _array_headers(read.images.array)
    pool, final = _pool(read, content, data), recipe
    if refusal is None:
        try:
            final = make_recipe(pool)
        except UserError as error:
            refusal = str(error)
    names = [read.images.names[position] for position in content.positions]
    sides = _sides(pool)
    exact, near = _copies(content, names, sides, preparing)
    return Check(
        source=data.source,
        num_files=len(read.images.names),
        rejected=pool.rejected,
        skipped=dict(sorted(read.images.skipped.items(), key=lambda item: (-item[1], item[0]))),
        headers=headers,
        num_duplicates=pool.num_duplicates,
        exact=exact,
        near=near,
        class_counts=_class_counts(read.images, content.positions),
        empty_folders=tuple(_empty_folders(data.source, read.images.names, names)),
        training=_training(final, read.target, pool, headers, refusal),
    )


def check_values(found: Check) -> dict[str, Any]:
    """Return a check as plain values for `--json`."""
    training, target = found.training, found.training.target
    cut = training.cut_shares
    sizes = _sizes(found.headers)
    return {
        "source": _text(found.source),
        "starts": training.refusal is None,
        "refusal": None if training.refusal is None else _text(training.refusal),
        "files": found.num_files,
        "used": found.num_used,
        "not_used": [{"name": _text(item.name), "reason": item.reason} for item in found.rejected],
        "passed_over": {_text(kind): count for kind, count in found.skipped.items()},
        "formats": _counted(found.headers, lambda header: header.format),
        "modes": _counted(found.headers, lambda header: header.mode),
        "sizes": [{"width": width, "height": height, "images": count} for (width, height), count in sizes],
        "turned": sum(count for header, count in found.headers.items() if header.is_turned),
        "animated": sum(count for header, count in found.headers.items() if header.is_animated),
        "duplicates": found.num_duplicates,
        "exact_copies": [_copies_values(group) for group in found.exact],
        "near_copies": [_copies_values(group) for group in found.near],
        "leaks": sum(group.leaks for group in found.near),
        "classes": {_text(name): count for name, count in found.class_counts.items()},
        "rare_classes": [_text(name) for name in _rare(found.class_counts)],
        "empty_folders": [_text(name) for name in found.empty_folders],
        "training": {
            "recipe": training.recipe.name,
            "batch": training.recipe.game.batch,
            "size": target.size,
            "channels": target.channels,
            "fit": target.fit,
            "train": training.num_train,
            "validation": training.num_validation,
            "test": training.num_test,
            "not_square": len(cut),
            "median_cut": statistics.median(cut) if cut else None,
            "largest_cut": cut[-1] if cut else None,
            "enlarged": training.num_enlarged,
            "smallest_side": training.smallest_side,
        },
    }


def check_text(found: Check) -> str:
    """Return a check as plain text of 80 columns."""
    parts = [
        _row("source", found.source),
        _row("images", *_images_lines(found)),
        _row("formats", *_formats_lines(found.headers)),
        _row("sizes", *_sizes_lines(found.headers)),
        _row("exact copies", *_exact_lines(found)),
        _row("near copies", *_near_lines(found.near)),
        _row("classes", *_classes_lines(found.class_counts, found.empty_folders)),
        _row("training", *_training_lines(found)),
    ]
    return "\n".join(line for part in parts for line in part)


# Reading


@dataclass(frozen=True, eq=False)
class _Content:
    """What is kept of the usable images."""

    positions: list[int]  # among the files of the source
    hashes: np.ndarray  # uint64 [N]
    sketches: Sketches
    shape: tuple[int, ...]  # [C, H, W]


def _content(read: Reading) -> tuple[_Content, str | None]:
    """Take all batches; return what is kept of them, and the line that refuses a source with too many broken files."""
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
        refusal = str(error)
    shape = (read.target.channels, read.target.size, read.target.size)
    return _Content(positions, to_hashes(digests), joined(parts), shape), refusal


def _pool(read: Reading, content: _Content, data: Data) -> Pool:
    """Return what the training would find, with pixels that take no memory."""
    num = len(content.positions)
    positions = np.array(content.positions, dtype=np.int64)
    labels, classes = store.kept_labels(read.images.labels, read.images.classes, positions)
    return Pool(
        images=np.broadcast_to(np.uint8(0), (num, *content.shape)),
        labels=labels,
        classes=classes,
        splits=split(content.hashes, data.validation, data.test),
        digest="",
        rejected=tuple(Rejected(name, reason) for name, reason in read.rejected),
        num_duplicates=num - len(np.unique(content.hashes)),
        num_skipped=read.images.num_skipped,
        folder=Path(os.devnull),
    )


def _array_headers(array: np.ndarray) -> Counter[Header]:
    num, height, width, channels = array.shape
    return Counter({Header("array", _MODES[channels - 1], width, height, False, False): num})


def _class_counts(images: Images, positions: list[int]) -> dict[str, int]:
    if images.labels is None:
        return {}
    counts = np.bincount(images.labels[positions], minlength=len(images.classes))
    return dict(zip(images.classes, counts.tolist(), strict=True))


def _empty_folders(source: str, names: Sequence[str], used: Iterable[str]) -> Iterator[str]:
    """Yield the topmost folders, as `path/`, in which no usable image lies at any depth."""
    with_images, every = set(_folders(used)), set(_folders(names))
    top = Path(source).expanduser()
    if source != "mnist" and top.is_dir():
        for folder, below, files in os.walk(top):
            below[:] = [name for name in below if not name.startswith(".") and name != "__MACOSX"]
            relative = os.path.relpath(folder, top).replace(os.sep, "/") + "/"
            if relative != "./" and "recipe.json" not in files:  # a run's folder is passed over by intention
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
    content: _Content, names: Sequence[str], sides: Sequence[SplitName], preparing: Preparing
) -> tuple[tuple[Copies, ...], tuple[Copies, ...]]:
    """Return the groups of images that are equal pixel for pixel, and those of images that are nearly so."""
    distinct, first, inverse = np.unique(content.hashes, return_index=True, return_inverse=True)
    order = np.argsort(inverse.ravel(), kind="stable")
    members = np.split(order, np.cumsum(np.bincount(inverse.ravel(), minlength=len(distinct)))[:-1])
    sketches = Sketches(content.sketches.thumbnails[first], content.sketches.tints[first])
    preparing("comparing the images", 0.0)
    pairs = near_duplicates(sketches, lambda share: preparing("comparing the images", share))

    def copies(indices: Iterable[int]) -> Copies:
        rising = sorted(indices)
        return Copies(tuple(names[index] for index in rising), tuple(sides[index] for index in rising))

    exact = [copies(group.tolist()) for group in members if len(group) > 1]
    near = [copies(index for one in group for index in members[one].tolist()) for group in groups(len(distinct), pairs)]
    near.sort(key=lambda group: (not group.leaks, group.names))
    return tuple(sorted(exact, key=lambda group: (-len(group.names), group.names))), tuple(near)


# What the training would do


def _training(final: Recipe, target: Target, pool: Pool, headers: Counter[Header], refusal: str | None) -> Training:
    shares = Counter[float]()
    num_enlarged = 0
    for header, count in headers.items():
        share, side = _made_square(header, target)
        num_enlarged += count if side < target.size else 0
        if header.width != header.height:
            shares[share] += count
    splits = pool.splits
    return Training(
        recipe=final,
        target=target,
        num_train=len(splits.train),
        num_validation=len(splits.validation),
        num_test=len(splits.test),
        cut_shares=tuple(sorted(shares.elements())),
        num_enlarged=num_enlarged,
        smallest_side=min((min(header.width, header.height) for header in headers), default=0),
        refusal=refusal,
    )


def _made_square(header: Header, target: Target) -> tuple[float, int]:
    """Return the share that is cut off, filled in or squeezed, and the side that becomes the target's."""
    short, long = sorted((header.width, header.height))
    match target.fit:
        case "crop" | "stretch":
            return 1 - short / long, short
        case "pad":
            return 1 - short / long, long
        case _:
            assert_never(target.fit)


def _rare(counts: Mapping[str, int]) -> list[str]:
    """Return the classes with less than a tenth of an even share, or fewer than 20 images, but not the empty ones."""
    even = sum(counts.values()) / len(counts) if counts else 0.0
    return [name for name, count in counts.items() if 0 < count < max(RARE_IMAGES, RARE_SHARE * even)]


# Text


def _images_lines(found: Check) -> Iterator[str]:
    num = len(found.rejected)
    if not num:
        yield f"{_all(found.num_files)} can be used"
    else:
        yield f"{found.num_used:,} of {found.num_files:,} can be used; {_files(num)} cannot, and would be left out:"
        width = min(40, max(len(_short(item.name)) for item in found.rejected[:MOST_SHOWN]))
        yield from (f"  {_short(item.name):<{width}}  {item.reason}" for item in found.rejected[:MOST_SHOWN])
        yield from _and_more(num - MOST_SHOWN)
    if found.skipped:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in found.skipped.items())
        yield f"{_files(sum(found.skipped.values()))} passed over, as no images by their names: {kinds}"


def _formats_lines(headers: Counter[Header]) -> Iterator[str]:
    if not headers:
        yield "none"
        return
    if kinds := _counted(headers, lambda header: header.format if header.format != "array" else ""):
        yield _listed(kinds) if "" not in kinds else "arrays of pixels, not files"
    yield _listed(_counted(headers, lambda header: header.mode))
    turned = sum(count for header, count in headers.items() if header.is_turned)
    animated = sum(count for header, count in headers.items() if header.is_animated)
    if turned:
        yield f"{_images(turned)} turned upright, as EXIF says"
    if animated:
        yield f"{_images(animated)} animated or of several pages: the first one is taken"


def _sizes_lines(headers: Counter[Header]) -> Iterator[str]:
    sizes = _sizes(headers)
    if not sizes:
        yield "none"
    elif len(sizes) <= MOST_SIZES:
        yield from map(str.lstrip, _bars([(f"{width} × {height}", count) for (width, height), count in sizes]))
    else:
        sides = Counter[int]()
        for (width, height), count in sizes:
            sides[min(width, height).bit_length()] += count
        yield f"{len(sizes):,} different ones; by the smaller side in pixels:"
        rows = [(f"{2 ** (bits - 1):,} to {2**bits - 1:,}" if bits > 1 else "1", sides[bits]) for bits in sorted(sides)]
        yield from _bars(rows)
        smallest, largest = (
            chosen((size for size, _ in sizes), key=lambda size: size[0] * size[1]) for chosen in (min, max)
        )
        yield f"from {smallest[0]} × {smallest[1]} to {largest[0]} × {largest[1]}"


def _exact_lines(found: Check) -> Iterator[str]:
    if not found.exact:
        yield "none"
        return
    yield (
        f"{found.num_duplicates:,} images repeat another pixel for pixel at {found.training.target.size} × "
        f"{found.training.target.size}; copies always lie on one side of the split"
    )
    yield from _groups_lines(found.exact)


def _near_lines(near: Sequence[Copies]) -> Iterator[str]:
    if not near:
        yield "none found"
        return
    leaks = sum(group.leaks for group in near)
    yield f"{_groups(len(near))} of images that are one picture, saved, scaled, cut or brightened differently"
    if leaks:
        yield (
            f"{_groups(leaks)} with images to train on as well as to judge by: scores look better than they are. "
            "Look at them, and keep one file of each"
        )
    yield from _groups_lines(near, "≈")


def _groups_lines(copies: Sequence[Copies], sign: str = "=") -> Iterator[str]:
    for group in copies[:MOST_GROUPS]:
        together = len(set(group.splits)) == 1
        both = zip(group.names, group.splits, strict=True)
        shown = [_short(name) + ("" if together else f" ({side})") for name, side in both][:3]
        more = f" and {len(group.names) - 3:,} more" if len(group.names) > 3 else ""
        yield "  " + f" {sign} ".join(shown) + more + (f" ({group.splits[0]})" if together else "")
    yield from _and_more(len(copies) - MOST_GROUPS)


def _classes_lines(counts: Mapping[str, int], empty: Sequence[str]) -> Iterator[str]:
    if not counts:
        yield "none: for classes, put every image into one of at least two sub-folders"
    else:
        total, rare = sum(counts.values()), _rare(counts)
        yield f"{len(counts):,}, with {min(counts.values()):,} to {max(counts.values()):,} images"
        shown = sorted(counts.items(), key=lambda item: item[1])  # the smallest are what one wants to know
        yield from _bars([(_short(name, 24), count) for name, count in shown[:MOST_CLASSES]], total)
        yield from _and_more(len(counts) - MOST_CLASSES)
        if rare:
            names = ", ".join(_short(name, 24) for name in rare[:5]) + (", …" if len(rare) > 5 else "")
            yield f"very rare: {names}. A generator hardly learns what it seldom sees. Add images, or leave it out"
    if empty:
        names = ", ".join(_short(name) for name in empty[:5]) + (", …" if len(empty) > 5 else "")
        yield f"no usable image in {names}"


def _training_lines(found: Check) -> Iterator[str]:
    training, target = found.training, found.training.target
    if training.refusal is not None:
        yield f"would not start: {training.refusal}"
    else:
        yield f"would start, with the recipe {training.recipe.name} in batches of {training.recipe.game.batch}"
    if not found.num_used:
        return
    yield f"at {target.size} × {target.size} pixels in {'grey' if target.channels == 1 else 'colour'}"
    yield (
        f"{training.num_train:,} images to train on, {training.num_validation:,} for validation, "
        f"{training.num_test:,} for the test"
    )
    yield from _square_lines(training)
    if training.num_enlarged:
        yield (
            f"{_images(training.num_enlarged)} smaller than that and enlarged; the smallest side is "
            f"{training.smallest_side} pixel{'s' if training.smallest_side != 1 else ''}"
        )


def _square_lines(training: Training) -> Iterator[str]:
    shares = training.cut_shares
    if not shares:
        return
    middle, most = (f"{math.floor(100 * share)} %" for share in (statistics.median(shares), shares[-1]))
    half = f"half of them lose {middle} or more, at most {most}" if middle != most else f"{most} of each is lost"
    match training.target.fit:
        case "crop":
            yield f"{_images(len(shares))} not square and cut to the middle: {half} (--fit pad keeps all)"
        case "pad":
            yield f"{_images(len(shares))} not square and get bars, which fill up to {most} of them"
        case "stretch":
            yield f"{_images(len(shares))} not square and squeezed, their longer side by up to {most}"
        case _:
            assert_never(training.target.fit)


def _row(label: str, *texts: str) -> Iterator[str]:
    """Yield lines with a label before the first; texts that begin with two spaces keep them when they wrap."""
    for text in texts:
        plain = "".join(letter if letter.isprintable() else "?" for letter in text)
        indent = "  " if plain.startswith("  ") else ""
        wrapped = textwrap.wrap(plain, WIDTH - 14, subsequent_indent=2 * indent, break_on_hyphens=False) or [""]
        for line in wrapped:
            yield f"{label:<13} {line}"
            label = ""


def _bars(rows: Sequence[tuple[str, int]], total: int | None = None) -> Iterator[str]:
    """Yield a line a row: its name, its count, and a bar, with the share of a total where it is given."""
    most, width = max(count for _, count in rows), max(len(name) for name, _ in rows)
    digits = len(f"{most:,}")
    for name, count in rows:
        bar = "█" * max(1 if count else 0, round(20 * count / most)) if most else ""
        share = f"  {100 * count / total:5.1f} %" if total else ""
        yield f"  {name:<{width}}  {count:>{digits},}{share}  {bar}".rstrip()


def _sizes(headers: Counter[Header]) -> list[tuple[tuple[int, int], int]]:
    """Return ((width, height), count), the most frequent first."""
    counts = Counter[tuple[int, int]]()
    for header, count in headers.items():
        counts[header.width, header.height] += count
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _counted(headers: Counter[Header], of: Callable[[Header], str]) -> dict[str, int]:
    counts = Counter[str]()
    for header, count in headers.items():
        counts[of(header)] += count
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def _copies_values(group: Copies) -> dict[str, Any]:
    files = [{"name": _text(name), "split": side} for name, side in zip(group.names, group.splits, strict=True)]
    return {"files": files, "leaks": group.leaks}


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items())


def _and_more(num: int) -> Iterator[str]:
    if num > 0:
        yield f"  and {num:,} more; --json lists them all"


def _short(name: str, most: int = 40) -> str:
    """Return a name of at most so many letters, its middle left out."""
    half = (most - 1) // 2
    return name if len(name) <= most else f"{name[: most - 1 - half]}…{name[-half:]}"


def _all(num: int) -> str:
    return f"all {num:,}" if num > 1 else "the only one"


def _files(num: int) -> str:
    return f"{num:,} file{'s' if num != 1 else ''}"


def _images(num: int) -> str:
    return f"{num:,} image{'s are' if num != 1 else ' is'}"


def _groups(num: int) -> str:
    return f"{num:,} group{'s' if num != 1 else ''}"


def _text(name: str) -> str:
    """Return a file's name as text that can be written, whatever bytes it holds."""
    return name.encode(errors="replace").decode()
