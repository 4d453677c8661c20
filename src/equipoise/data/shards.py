"""Images out of `.tar` shards, as WebDataset has them: files of one name are one example, `0017.jpg` beside `0017.cls`.

A shard is read member by member, in its order, and never unpacked. What a source of a million images takes in memory
is their names and places.
"""

import json
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from equipoise.data import archives, tars
from equipoise.data.decode import BrokenImage
from equipoise.data.labels import OF_CLASSES, Labels, are_one_each, are_too_many, indexed, labels_of, splits_note
from equipoise.data.listing import MAX_FILE_BYTES, SUFFIXES, SourceImages, is_hidden
from equipoise.errors import UserError
from equipoise.storage.safe_open import open_regular

MAX_IMAGES = 10_000_000  # each takes about 120 bytes of memory while it is prepared
MAX_TEXT = 2**16  # bytes of a file that says of which class an image is
LONGEST_CLASS = 100  # letters


@dataclass
class Index:
    """Where the images of all shards lie."""

    names: list[str] = field(default_factory=list)
    shards: "array[int]" = field(default_factory=lambda: array("i"))
    offsets: "array[int]" = field(default_factory=lambda: array("q"))
    sizes: "array[int]" = field(default_factory=lambda: array("q"))
    flaws: dict[int, str] = field(default_factory=dict)  # why an image cannot be read, by its place
    classes: list[int | str | None] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)


def load_tars(folder: Path, shards: Sequence[str], subject: str, skipped: Counter[str]) -> SourceImages:
    """List the images of shards below a folder; raises UserError where one is damaged or no images are found."""
    index = Index(skipped=Counter(skipped))
    for number, shard in enumerate(shards):
        try:
            _add(index, folder / shard, number)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            remedy = "Download or write it again, or take it out of the folder"
            raise UserError(f'{subject}, shard "{shard}"', f"cannot be read ({reason})", remedy) from None
        if len(index.names) > MAX_IMAGES:
            problem = f"more than {MAX_IMAGES:,} images; at most that many are allowed"
            raise UserError(subject, problem, "Give a folder with fewer of its shards")
    if not index.names:
        found = ", ".join(f"{count:,} {kind}" for kind, count in index.skipped.most_common(5)) or "nothing"
        raise UserError(subject, f"its shards hold no images ({found})", "The names of images end in .jpg, .png, …")
    found = _labels(index, shards)
    names: Sequence[str] = index.names
    if len(shards) > 1:
        names = [f"{shards[number]}/{name}" for number, name in zip(index.shards, index.names, strict=True)]

    def read(place: int) -> bytes:
        if place in index.flaws:
            raise BrokenImage(index.flaws[place])
        try:
            with open_regular(folder / shards[index.shards[place]]) as file:
                return tars.read_member(file.fileno(), index.offsets[place], index.sizes[place])
        except OSError as error:
            raise BrokenImage(f"cannot be read ({error.strerror or error})") from None

    counts = index.skipped
    images = SourceImages(names, read, num_skipped=counts.total(), skipped=counts)
    return replace(images, labels=found.labels, classes=found.classes, notes=found.notes)


def _add(index: Index, path: Path, shard: int) -> None:
    """Add the images of one shard; raises OSError, and ValueError where it is damaged."""
    with open_regular(path) as file:
        found: list[tuple[tars.Member, str]] = []  # with their names below a folder
        for member in tars.members(file.fileno()):
            name = member.name.removeprefix("./")
            if not archives.is_safe(name):
                index.skipped["with an unsafe name"] += 1
            elif is_hidden(name):
                index.skipped["hidden"] += 1
            else:
                found.append((member, name))
        classes = _classes(file.fileno(), found)
    images = [(member, name) for member, name in found if _suffix(name) in SUFFIXES]
    whole = {_key(name) for _, name in images if not _is_part(name)}
    with_images = {_key(name) for _, name in images}
    seen: set[str] = set()
    for member, name in images:
        if _is_part(name) and _key(name) in whole:
            index.skipped["beside another image of the same name"] += 1
            continue
        place = len(index.names)
        if flaw := _flaw(member, name, seen):
            index.flaws[place] = flaw
        seen.add(name)
        index.names.append(name)
        index.shards.append(shard)
        index.offsets.append(member.offset)
        index.sizes.append(member.size)
        index.classes.append(classes.get(_key(name)))
    others = [_suffix(name) or "without a suffix" for _, name in found if _suffix(name) not in SUFFIXES]
    is_lone = [_key(name) not in with_images for _, name in found if _suffix(name) not in SUFFIXES]
    index.skipped.update(kind for kind, lone in zip(others, is_lone, strict=True) if lone)


def _key(name: str) -> str:
    """Return what the files of one example have in common: the path up to the first dot of the file's own name."""
    start = name.rfind("/") + 1
    end = name.find(".", start)
    return name if end < 0 else name[:end]


def _suffix(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def _is_part(name: str) -> bool:
    """Return whether a file is one picture of several of an example, such as 0017.mask.png."""
    between = name[len(_key(name)) : -len(_suffix(name)) or None].strip(".")
    return bool(between) and not between.isdigit()


def _flaw(member: tars.Member, name: str, seen: set[str]) -> str | None:
    """Say why an image is not read, None if it may be."""
    if member.flaw is not None:
        return member.flaw
    if member.size > MAX_FILE_BYTES:
        return f"too large: more than {MAX_FILE_BYTES >> 20} MiB"
    return "a second file of the same name in the shard" if name in seen else None


# Classes


def _classes(descriptor: int, found: Sequence[tuple[tars.Member, str]]) -> dict[str, int | str]:
    """Return the classes that the files of a shard name, by their keys; a .cls counts more than a .json."""
    classes: dict[str, int | str] = {}
    for suffix, class_in in ((".json", _class_of_json), (".cls", _class_of_text)):
        for member, name in found:
            if name.endswith(suffix) and member.flaw is None and member.size <= MAX_TEXT:
                text = tars.read_member(descriptor, member.offset, member.size).decode(errors="replace")
                if (one := class_in(text)) is not None:
                    classes[_key(name)] = one
    return classes


def _class_of_text(text: str) -> int | str | None:
    text = text.strip()
    if not 0 < len(text) <= LONGEST_CLASS or "\n" in text:
        return None
    return int(text) if text.isdecimal() else text


def _class_of_json(text: str) -> int | str | None:
    """Return the class that an object has under a plain name; None where there is none, or there are several."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return None
    found = [values[key] for key in OF_CLASSES if key in values] if isinstance(values, dict) else []
    if len(found) != 1 or isinstance(found[0], bool) or not isinstance(found[0], int | str):
        return None
    return _class_of_text(str(found[0]))


def _labels(index: Index, shards: Sequence[str]) -> Labels:
    """Return the classes by the files beside the images, where as good as all have one, else by the folders inside."""
    notes = splits_note("shards", shards)
    found = index.classes
    num_without = sum(one is None for one in found)
    if num_without == len(found):
        by_folders = labels_of(index.names)
        return replace(by_folders, notes=(*notes, *by_folders.notes))
    if are_too_many(num_without, len(found)):
        told = f"{len(found) - num_without:,} of {len(found):,} images have one"
        return Labels(notes=(*notes, f"the classes beside the images were not used: {told}; no classes"))
    if len({type(one) for one in found if one is not None}) > 1:
        found = [None if one is None else str(one) for one in found]
    classes, labels = indexed(found)
    if are_one_each(len(classes), len(found)):
        told = f"there are {len(classes):,} for {len(found):,} images"
        return Labels(notes=(*notes, f"the classes beside the images were not used: {told}; no classes"))
    notes = (*notes, f"the {len(classes)} classes are those beside the images in the shards")
    if num_without:
        notes = (*notes, f"images without one are left out ({num_without:,})")
    return Labels(labels, tuple(map(str, classes)), notes)
