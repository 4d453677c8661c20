"""What was found in a source of images, as text for a terminal and as plain values for JSON."""

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, assert_never

from equipoise import formatting
from equipoise.cli.advice_text import (
    advised_command,
    advised_lines,
    every_pixel_lines,
    every_pixel_values,
    transparency_lines,
    transparency_values,
)
from equipoise.cli.text import WIDTH, counted
from equipoise.data.audit.check import Check, Copies, Training
from equipoise.data.decode import Header
from equipoise.data.splits import judge_together
from equipoise.storage.safe_open import writable_text

INDENT = 14
MOST_SHOWN = 20  # files that are not used
MOST_GROUPS = 8
MOST_LEAKS = 20  # groups across the splits
MOST_COPIES = 3  # names of a group
MOST_LEAKING = 6  # and of one that leaks
MOST_CLASSES = 12
MOST_SIZES = 12  # exact sizes; where there are more, they are counted by the smaller side
RARE_SHARE = 0.1  # of an even share, below which a class is called rare
RARE_IMAGES = 20


def check_values(found: Check, settings: Sequence[str] = ()) -> dict[str, Any]:
    """Return a check as plain values for `--json`; `settings` are those that it was made with."""
    training = found.training
    target = training.target
    cut = training.cut_shares
    sizes = _sizes(found.headers)
    return {
        "source": writable_text(found.source),
        "starts": training.refusal is None,
        "refusal": _refusal(training),
        "files": found.num_files,
        "used": found.num_used,
        "not_used": [{"name": writable_text(item.name), "reason": item.reason} for item in found.rejected],
        "passed_over": {writable_text(kind): count for kind, count in found.skipped.items()},
        "formats": _counted(found.headers, lambda header: header.format),
        "modes": _counted(found.headers, lambda header: header.mode),
        "sizes": [{"width": width, "height": height, "images": count} for (width, height), count in sizes],
        "turned": sum(count for header, count in found.headers.items() if header.is_turned),
        "animated": sum(count for header, count in found.headers.items() if header.is_animated),
        "duplicates": found.num_duplicates,
        "exact_copies": [_copies_values(group) for group in found.exact],
        "near_copies": [_copies_values(group) for group in found.near],
        "leaks": sum(group.leaks for group in found.near),
        "classes": {writable_text(name): count for name, count in found.class_counts.items()},
        "combinations": found.num_sets,
        "rare_classes": [writable_text(name) for name in _rare(found.class_counts)],
        "empty_folders": [writable_text(name) for name in found.empty_folders],
        "inferred": [writable_text(note) for note in found.notes],
        "training": {
            "recipe": training.recipe.name,
            "batch": training.recipe.game.batch,
            "size": target.size.given,
            "channels": target.channels,
            "fit": target.fit,
            "train": training.num_train,
            "validation": training.num_validation,
            "test": training.num_test,
            "not_square": len(cut),
            "median_cut": statistics.median(cut) if cut else None,
            "largest_cut": max(cut, default=None),
            "enlarged": training.num_enlarged,
            "smallest_side": training.smallest_side,
            "reduced": training.num_reduced,
            "largest_reduction": training.largest_reduction if training.num_reduced else None,
            "recipe_size": training.size_note or None,
        },
        "transparency": transparency_values(found),
        "every_pixel": every_pixel_values(found),
        "command": advised_command(found, settings),
    }


def check_text(found: Check, settings: Sequence[str] = ()) -> str:
    """Return a check as plain text of 80 columns, but for a path to type; `settings` are those it was made with."""
    parts = [
        _row("source", _middle(found.source, WIDTH - INDENT)),
        _row("images", *_images_lines(found)),
        _row("formats", *_formats_lines(found.headers)),
        _row("sizes", *_sizes_lines(found.headers)),
        _row("exact copies", *_exact_lines(found)),
        _row("near copies", *_near_lines(found.near, _kept(found))),
        _row("labels" if found.num_sets else "classes", *_classes_lines(found)),
        _row("training", *_training_lines(found)),
        _row("transparency", *transparency_lines(found)),
        _row("pixels", *every_pixel_lines(found)),
        advised_lines(found, settings),
    ]
    return "\n".join(line for part in parts for line in part)


# Reading


def _refusal(training: Training) -> str | None:
    return None if training.refusal is None else writable_text(training.refusal.told(in_shell=True))


def _rare(counts: Mapping[str, int]) -> list[str]:
    """Return the classes with less than a tenth of an even share, or fewer than 20 images, but not the empty ones."""
    even = sum(counts.values()) / max(1, len(counts))
    return [name for name, count in counts.items() if 0 < count < max(RARE_IMAGES, RARE_SHARE * even)]


# Text


def _images_lines(found: Check) -> Iterator[str]:
    num = len(found.rejected)
    if not num:
        yield f"{_all(found.num_files)} can be used"
    else:
        left_out = counted(num, "file")
        yield f"{found.num_used:,} of {found.num_files:,} can be used; {left_out} cannot, and would be left out:"
        width = min(40, max(len(_middle(item.name)) for item in found.rejected[:MOST_SHOWN]))
        yield from (f"  {_middle(item.name):<{width}}  {item.reason}" for item in found.rejected[:MOST_SHOWN])
        yield from _and_more(num - MOST_SHOWN)
    if found.skipped:
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in found.skipped.items())
        yield f"{counted(sum(found.skipped.values()), 'file')} ignored: {kinds}"


def _formats_lines(headers: Counter[Header]) -> Iterator[str]:
    if not headers:
        yield "none"
        return
    kinds = _counted(headers, lambda header: header.format)
    yield _listed(kinds) if "array" not in kinds else "arrays of numbers"
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
        names = {bits: f"{2 ** (bits - 1):,} to {2**bits - 1:,}" for bits in sides} | {1: "1"}
        yield from _bars([(names[bits], sides[bits]) for bits in sorted(sides)])
        smallest, largest = (
            chosen((size for size, _ in sizes), key=lambda size: size[0] * size[1]) for chosen in (min, max)
        )
        yield f"from {smallest[0]} × {smallest[1]} to {largest[0]} × {largest[1]}"


def _exact_lines(found: Check) -> Iterator[str]:
    if not found.exact:
        yield "none"
        return
    repeat = "repeats" if found.num_duplicates == 1 else "repeat"
    yield (
        f"{counted(found.num_duplicates, 'image')} {repeat} another pixel for pixel at "
        f"{found.training.target.size}; copies always lie on one side of the split"
    )
    yield from _groups_lines(found.exact)


def _is_array(found: Check) -> bool:
    return Path(found.source).suffix.lower() == ".npz" or found.source == "mnist"


def _kept(found: Check) -> str:
    """Return what to keep of a group of copies, in the words of the source."""
    if _is_array(found):
        return "one row of each (image 0 is the first row)"
    return "one row of each" if found.source.startswith("hub:") else "one file of each"


def _near_lines(near: Sequence[Copies], kept: str) -> Iterator[str]:
    if not near:
        yield "none found"
        return
    leaks = sum(group.leaks for group in near)
    groups = counted(len(near), "group")
    yield f"{groups} of images that show one picture, saved, scaled, cropped or brightened differently"
    if leaks:
        yield (
            f"{counted(leaks, 'group')} across the splits: a picture both to train on and held out makes scores look "
            f"too good. Look at them, and keep {kept}"
        )
    yield from _groups_lines(near, "≈")


def _groups_lines(copies: Sequence[Copies], sign: str = "=") -> Iterator[str]:
    """Yield a line a group; those that leak come first, and all of them are shown where they are few."""
    leaks = sum(group.leaks for group in copies)
    num = max(MOST_GROUPS, min(leaks, MOST_LEAKS))
    yield from (_group_line(group, sign) for group in copies[:num])
    which = ""
    if leaks > num:
        which = f", {leaks - num:,} of them to train on as well as to judge by"
    yield from _and_more(len(copies) - num, which)


def _group_line(group: Copies, sign: str) -> str:
    """Return the members of a group: one of each split at least, and those of the split with the fewest first."""
    counts = Counter(group.splits)
    is_one_split = len(counts) == 1
    most = MOST_LEAKING if group.leaks else MOST_COPIES
    most += len(group.names) == most + 1  # the last one takes no more room than the words for it
    firsts = {group.splits.index(side) for side in counts}
    by_split = sorted(range(len(group.names)), key=lambda index: counts[group.splits[index]])
    shown = set(sorted(by_split, key=lambda index: index not in firsts)[:most])
    names = {index: _middle(group.names[index]) for index in shown}
    if not is_one_split:
        names = {index: f"{name} ({group.splits[index]})" for index, name in names.items()}
    line = f" {sign} ".join(names[index] for index in by_split if index in shown)
    rest = Counter(group.splits[index] for index in by_split if index not in shown)
    if rest:
        line += f" and {rest.total():,} more"
    if rest and not is_one_split:
        line += f" ({_listed(rest)})"
    if is_one_split:
        line += f" ({group.splits[0]})"
    return f"  {line}"


def _classes_lines(found: Check) -> Iterator[str]:
    counts = found.class_counts
    empty = found.empty_folders
    if not counts and found.headers and _is_array(found):
        yield "none: for classes, add an array named labels, with one for each image"
    elif not counts:
        yield "none: for classes, put every image into one of at least two sub-folders"
    else:
        total = found.num_used if found.num_sets else sum(counts.values())
        rare = _rare(counts)
        sets = f" in {found.num_sets:,} combinations" if found.num_sets else ""
        least, most = min(counts.values()), max(counts.values())
        each = f"{least:,} to {most:,} images" if least < most else f"{most:,} images each"
        yield f"{len(counts):,}{sets}, with {each}"
        shown = sorted(counts.items(), key=lambda item: item[1])  # the smallest are what one wants to know
        yield from _bars([(_middle(name, 24), count) for name, count in shown[:MOST_CLASSES]], total)
        yield from _and_more(len(counts) - MOST_CLASSES)
        if rare:
            names = _some([_middle(name, 24) for name in rare])
            yield f"very rare: {names}. A generator hardly learns what it rarely sees. Add images, or leave these out"
    yield from found.notes
    if empty:
        names = _some([_middle(name) for name in empty])
        yield f"no usable image in {names}"


def _training_lines(found: Check) -> Iterator[str]:
    training = found.training
    target = training.target
    if training.refusal is not None:
        yield f"would not start: {training.refusal.problem}"
    else:
        yield f"would start, with the recipe {training.recipe.name} in batches of {training.recipe.game.batch}"
    if not found.num_used:
        return
    yield f"at {target.size} pixels in {formatting.colours_of(target.channels)}"
    yield (
        f"{training.num_train:,} images to train on, {training.num_validation:,} for validation, "
        f"{training.num_test:,} for the test"
    )
    if judge_together(training.num_validation, training.num_test):
        yield f"as these two are few, all {training.num_validation + training.num_test} of them judge, for both"
    yield from _square_lines(training)
    if training.num_enlarged:
        yield (
            f"{_images(training.num_enlarged)} smaller than that and enlarged; the smallest side is "
            f"{counted(training.smallest_side, 'pixel')}"
        )
    if training.num_reduced:
        times = f"{training.largest_reduction:.2g}"
        yield f"{_images(training.num_reduced)} larger than that and reduced, at most {times} times on a side"
    if training.size_note:
        yield training.size_note
    if training.refusal is None:
        yield "its first lines say how fast this machine trains, and what the budget pays for"


def _square_lines(training: Training) -> Iterator[str]:
    shares = training.cut_shares
    if not shares:
        return
    middle, most = (f"{math.floor(100 * share)} %" for share in (statistics.median(shares), shares[-1]))
    half = f"half of them lose {middle} or more, at most {most}" if middle != most else f"{most} of each is lost"
    width, height = training.target.size
    other = f"{_images(len(shares))} {'not square' if width == height else 'of another shape'} and"
    match training.target.fit:
        case "crop":
            yield f"{other} cut to the middle: {half} (--fit pad shows all)"
        case "pad":
            yield f"{other} get bars, which fill up to {most} of them"
        case "stretch":
            yield f"{other} squeezed, one side by up to {most}"
        case _:
            assert_never(training.target.fit)


def _row(label: str, *texts: str) -> Iterator[str]:
    """Yield lines with a label before the first; texts that begin with two spaces keep them, and double them after."""
    for text in texts:
        indent = "  " if text.startswith("  ") else ""
        first, *others = formatting.wrapped(text.strip(), WIDTH - len(indent), f"{label:<{INDENT}}{indent}")
        yield first
        yield from (f"{indent}{line}" for line in others)
        label = ""


def _bars(rows: Sequence[tuple[str, int]], total: int | None = None) -> Iterator[str]:
    """Yield a line a row: its name, its count, and a bar, with the share of a total where it is given."""
    most = max(count for _, count in rows)
    width = max(len(name) for name, _ in rows)
    digits = len(f"{most:,}")
    for name, count in rows:
        bar = "█" * max(min(1, count), round(20 * count / max(1, most)))
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
    files = [{"name": writable_text(name), "split": side} for name, side in zip(group.names, group.splits, strict=True)]
    return {"files": files, "leaks": group.leaks}


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items())


def _and_more(num: int, which: str = "") -> Iterator[str]:
    if num > 0:
        yield f"  and {num:,} more{which}; --json lists them all"


def _middle(name: str, most: int = 40) -> str:
    """Return a name of at most so many letters, its middle left out."""
    half = (most - 1) // 2
    return name if len(name) <= most else f"{name[: most - 1 - half]}…{name[-half:]}"


def _all(num: int) -> str:
    return "the only one" if num == 1 else f"all {num:,}"


def _images(num: int) -> str:
    verb = "is" if num == 1 else "are"
    return f"{counted(num, 'image')} {verb}"


def _some(names: Sequence[str]) -> str:
    """Join the first five names, with a mark where there are more."""
    more = ["…"] if len(names) > 5 else []
    return ", ".join([*names[:5], *more])
