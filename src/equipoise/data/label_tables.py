"""Classes out of a table beside the images, such as labels.csv or metadata.jsonl; and in words why one was not used."""

import csv
import io
import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import PurePosixPath

from equipoise.data.labels import Labels, are_too_many, indexed
from equipoise.data.several import Words, columns, combined, doubt, is_number, parted, told
from equipoise.errors import shortened

TABLES = (".csv", ".tsv")
METADATA = "metadata.jsonl"  # as Hugging Face's image folders have it
MOST_TABLES = 16  # files of a source that are looked into
OF_NAMES = frozenset((  # columns of images
    "filename", "file", "file_name", "image", "images", "img", "image_name", "image_id", "img_name", "image_file",
    "image_path", "img_path", "filepath", "file_path", "path", "name", "fname", "id", "picture", "photo",
))  # fmt: skip
OF_CLASSES = frozenset((
    "label", "labels", "class", "classes", "class_name", "classname", "class_id", "label_name", "target", "category",
    "category_name", "breed", "species", "tag", "type", "y",
))  # fmt: skip
OF_SPLITS = frozenset((  # columns that say for what an image is, and not what it is
    "split", "partition", "fold", "subset", "is_train", "is_training", "is_val", "is_valid", "is_validation", "is_test",
))  # fmt: skip
OF_OTHERS = frozenset((  # columns of words that tell of an image, and are not what it is
    "caption", "captions", "text", "prompt", "description", "comment", "comments", "url", "link", "date", "time",
    "datetime", "timestamp", "created", "author", "photographer", "license", "hash", "md5", "sha1", "sha256",
))  # fmt: skip
EMPTY = frozenset(("nan", "<na>", "null"))  # as pandas and databases write a cell that holds nothing
DATE = re.compile(r"\d{1,4}([-/.:])\d{1,2}\1\d{1,4}\b.*")  # or a time of day
NO_TABLES = ("submission", "sample")  # of an answer that is to be given: its labels are none
NUM_TRIED = 50  # lines by which it is seen whether a table is of the images
DELIMITERS = ",;\t|"


@dataclass(frozen=True)
class Table:
    """What a table says of the images: the labels of each by its place; why it cannot be used, where it cannot."""

    path: str
    found: Mapping[int, Words] = field(default_factory=dict)
    column: str = ""  # of the classes
    problem: str = ""
    is_several: bool = False  # whether an image may have several labels, or none
    order: tuple[str, ...] = ()  # of labels that have a column each
    strangers: tuple[str, ...] = ()  # names that no image here has


def with_tables(found: Labels, names: Sequence[str], tables: Mapping[str, str]) -> Labels:
    """Return the classes of images by their folders, or where these are none, by tables that lie beside them."""
    read = labels_by_tables(names, tables)
    if read is None:
        return found
    if found.labels is None and read.labels is not None:
        return replace(read, notes=(*found.combined, *read.notes))
    if read.labels is None:
        return replace(found, notes=(*found.notes, *read.notes))
    if found.labels is None or _are_parted_alike(found.labels.tolist(), read.labels.tolist()):
        return found
    files = " and ".join(read.used)
    return replace(found, notes=(*found.notes, f"{files} not used, as the folders are the classes"))


def _are_parted_alike(first: Sequence[int], second: Sequence[int]) -> bool:
    pairs = set(zip(first, second, strict=True))
    return len(pairs) == len(set(first)) == len(set(second))


def labels_by_tables(names: Sequence[str], tables: Mapping[str, str]) -> Labels | None:
    """Return the classes of images by the texts of tables that lie beside them; None where none of these names any.

    Each image is found by its path, or by its own name where no other has it, with or without its suffix. Tables of
    parts of a set, such as train.csv and test.csv, are joined. What cannot be used is said in the notes, without
    labels.
    """
    if not tables:
        return None
    read = [table for path, text in tables.items() if (table := _of_its_images(path, text, names)) is not None]
    usable = [table for table in read if not table.problem]
    notes = [f"{table.path} was not used: {table.problem}" for table in read if table.problem]
    if not usable:
        return Labels(notes=tuple(notes)) if notes else None
    files = " and ".join(table.path for table in usable)
    verb = "was" if len(usable) == 1 else "were"
    found: dict[int, Words] = {}
    for table in usable:
        if any(found.get(place, words) != words for place, words in table.found.items()):
            problem = "they have two classes for one image; keep the file that counts"
            return Labels(notes=(*notes, f"{files} were not used: {problem}"))
        found |= table.found
    is_several = any(table.is_several for table in usable)
    labels = _several(names, usable, found) if is_several else _one_each(names, usable, found)
    if isinstance(labels, str):
        return Labels(notes=(*notes, f"{files} {verb} not used: {labels}{_strangers(usable)}"))
    assert labels.labels is not None
    notes += labels.notes
    if num_without := int((labels.labels < 0).sum()):
        notes.append(f"images without a class there are left out ({num_without:,})")
    return replace(labels, notes=tuple(notes), used=tuple(table.path for table in usable))


def _strangers(usable: Sequence[Table]) -> str:
    """Say which names are those of no image, as they may be why images seem to have no class; empty without any."""
    names = [name for table in usable for name in table.strangers]
    return f"; {len(names):,} names there are of no image here, such as {names[0][:40]}" if names else ""


def _one_each(names: Sequence[str], usable: Sequence[Table], found: Mapping[int, Words]) -> Labels | str:
    """Return the one class of each image, or why there are no classes."""
    named = ["".join(found.get(place, ())) for place in range(len(names))]
    try:
        numbers = [_class_of(one) for one in named]
    except ValueError as error:
        return str(error)
    if len({type(one) for one in numbers if one is not None}) > 1:
        numbers = [one or None for one in named]
    classes, labels = indexed(numbers)
    if problem := _doubt(names, labels.tolist(), len(classes)):
        return problem
    return Labels(labels, tuple(map(str, classes)), (f"the {len(classes)} classes are those of {_place(usable)}",))


def _several(names: Sequence[str], usable: Sequence[Table], found: Mapping[int, Words]) -> Labels | str:
    """Return the combination of labels of each image, or why there are none."""
    order = [name for table in usable for name in table.order]
    if not order:
        try:
            found = _in_whole_numbers(found)
        except ValueError as error:
            return str(error)
    combinations = combined([found.get(place) for place in range(len(names))], order)
    if not combinations.sets:
        return _one_each(names, usable, found)
    num_classes = len(combinations.classes)
    if problem := doubt(combinations) or _doubt(names, combinations.labels.tolist(), max(2, num_classes)):
        return problem
    notes = [told(combinations, _place(usable))]
    if idle := [name for name in dict.fromkeys(order) if name not in combinations.classes]:
        notes.append(f"labels that no image has are left out: {shortened(', '.join(idle))}")
    return Labels(combinations.labels, combinations.classes, tuple(notes), combinations.sets)


def _in_whole_numbers(found: Mapping[int, Words]) -> Mapping[int, Words]:
    """Return labels that are all numbers as whole ones, so that 01 and 1.0 are 1; raises ValueError for others."""
    number = {word: _class_of(word) for words in set(found.values()) for word in words}
    if not all(isinstance(one, int) for one in number.values()):
        return found
    return {place: frozenset(str(number[word]) for word in words) for place, words in found.items()}


def _place(usable: Sequence[Table]) -> str:
    """Say where the classes are from."""
    named = f'the column "{usable[0].column}" of ' if usable[0].column else ""
    return named + " and ".join(table.path for table in usable)


def _class_of(label: str) -> int | str | None:
    """Return a class as a number where it is written as a whole one, so that 10 does not come before 2; None for none.

    Raises ValueError for a number that is not whole, which is no class.
    """
    if not label:
        return None
    if not is_number(label) or not math.isfinite(float(label)):
        return label
    if not float(label).is_integer():
        raise ValueError(f"it has numbers such as {label[:20]}, which are no classes")
    return int(float(label))


def _doubt(names: Sequence[str], labels: Sequence[int], num_classes: int) -> str:
    """Say why classes that were found are not used, and what helps; empty where they are."""
    named = [name for name, label in zip(names, labels, strict=True) if label >= 0]
    num_without = len(names) - len(named)
    if are_too_many(num_without, len(names)):
        problem = f"it has classes for {len(named):,} of {len(names):,} images"
        tops = {name.partition("/")[0] if "/" in name else "" for name in named}
        outside = {name.partition("/")[0] for name, label in zip(names, labels, strict=True) if label < 0}
        if len(tops) == 1 and "" not in tops and not tops & outside:
            (top,) = tops
            return f"{problem}, all in {top}/; put it there, and train on that folder"
        return f"{problem}; give the others one, or take them out of the folder"
    if num_classes < 2:
        return "it has one class alone"
    if num_classes > len(named) / 2:
        return f"it has {num_classes:,} different values for {len(named):,} images, which are no classes"
    return ""


# One table


def _of_its_images(path: str, text: str, names: Sequence[str]) -> Table | None:
    """Return what a table says of all images, or of those around it, where it names more of these.

    train.csv beside train/ and test/ is of train/, where images are called alike in both.
    """
    around = path[: path.rfind("/") + 1]
    best = _table(path, text, _places(names))
    for folder in (around, f"{around}{PurePosixPath(path).stem}/"):
        inside = [place for place, name in enumerate(names) if name.startswith(folder)]
        if folder and inside and len(inside) < len(names):
            table = _table(path, text, _places(names, inside))
            if table is not None and (best is None or len(table.found) > len(best.found)):
                best = table
    return best


@dataclass(frozen=True)
class Places:
    """The places of images by their paths, by names that only one has, and by such names without the suffix."""

    by_path: Mapping[str, int]
    by_name: Mapping[str, int]
    by_stem: Mapping[str, int]
    by_number: Mapping[str, int]  # of names such as 0007.png, where all are numbers
    shared: frozenset[str]  # names that several images have, in different folders


def _places(names: Sequence[str], chosen: Sequence[int] | None = None) -> Places:
    """Return the places of all images, or of the chosen ones."""
    numbers = range(len(names)) if chosen is None else chosen
    names = [names[number] for number in numbers]
    own = [name.rpartition("/")[2] for name in names]
    stems = [name.rpartition(".")[0] for name in own]
    by_number: dict[str, int] = {}
    if all(map(str.isdecimal, stems)):
        by_number = _of_one([str(int(stem)) for stem in stems], numbers)
    return Places(
        by_path=dict(zip(names, numbers, strict=True)),
        by_name=_of_one(own, numbers),
        by_stem=_of_one([name.rpartition(".")[0] for name in names], numbers) | _of_one(stems, numbers),
        by_number=by_number,
        shared=frozenset(name for part in (own, stems) for name, num in Counter(part).items() if num > 1),
    )


def _of_one(names: Sequence[str], numbers: Sequence[int]) -> dict[str, int]:
    """Return the places of names that only one image has."""
    seen = Counter(names)
    return {name: number for name, number in zip(names, numbers, strict=True) if seen[name] == 1}


def is_table(name: str) -> bool:
    """Return whether a file may hold classes, by its name."""
    path = PurePosixPath(name.lower())
    return path.suffix in TABLES or path.name == METADATA


def _place_of(cell: str, folder: str, places: Places, *, is_named: bool) -> int | None:
    """Return the place of the image that a cell of a table in a folder names, None where it names none.

    A name without its suffix, such as a number, is one only in a column that is called like one of images.
    """
    name = cell.strip().replace("\\", "/").removeprefix("./")
    for path in (f"{folder}{name}", name):
        if path in places.by_path:
            return places.by_path[path]
    last = name.rpartition("/")[2]
    if last in places.by_name:
        return places.by_name[last]
    if not is_named:
        return None
    for stem in (f"{folder}{name}", last, last.rpartition(".")[0]):  # the last: .jpg in the table, .png on the disk
        if stem in places.by_stem:
            return places.by_stem[stem]
    stem = last.partition(".")[0]
    return places.by_number.get(str(int(stem))) if stem.isdecimal() else None


def text_of(content: bytes) -> str:
    """Return the text of a file, with U+FFFD for what is none."""
    is_wide = content[:2] in (b"\xff\xfe", b"\xfe\xff")  # as spreadsheets write it
    return content.decode("utf-16" if is_wide else "utf-8-sig", errors="replace")


def _table(path: str, text: str, places: Places) -> Table | None:
    """Return what a table says of the images; None where it is not about them."""
    if any(word in PurePosixPath(path).stem.lower() for word in NO_TABLES):
        return None
    try:
        every = _objects(text) if path.lower().endswith(METADATA) else _rows(text)
        rows = [row for row in every if any(cell.strip() for cell in row)]
    except (csv.Error, ValueError, RecursionError):
        return None
    if len(rows) < 2:
        return None
    folder = path[: path.rfind("/") + 1]
    column = _column_of_names(rows, places, folder)
    if column is None:
        return _of_other_images(path, rows, places)
    if "\ufffd" in text:  # two letters would become one
        return Table(path, problem="it is not text in UTF-8; save it as CSV in UTF-8")
    first = rows[0][column] if column < len(rows[0]) else ""
    has_head = _place_of(first, folder, places, is_named=False) is None
    head = [cell.strip() for cell in rows[0]] if has_head else [""] * len(rows[0])
    body = rows[1:] if has_head else rows
    if num_odd := sum(len(row) != len(head) for row in body):
        problem = f"{num_odd:,} of its lines have another number of cells than the first"
        return Table(path, problem=f"{problem}; put quotes around cells with commas")
    is_named = _plain(head[column]) in OF_NAMES
    found = [_place_of(row[column], folder, places, is_named=is_named) for row in body]
    return _read(path, head, body, column, found)


def _rows(text: str) -> list[list[str]]:
    first = text.removeprefix("\ufeff").lstrip().partition("\n")[0]
    delimiter = max(DELIMITERS, key=first.count)
    reader = csv.reader(
        io.StringIO(text.removeprefix("\ufeff"), newline=""), delimiter=delimiter, skipinitialspace=True
    )
    return list(reader)


def _objects(text: str) -> list[list[str]]:
    """Return the objects of JSON lines as rows below one of names; raises ValueError for anything else."""
    found = [json.loads(line) for line in text.splitlines() if line.strip()]
    if not all(isinstance(one, dict) for one in found):
        raise ValueError("not objects")
    plain = [{name: value for name, value in one.items() if _is_cell(value)} for one in found]
    head = list(dict.fromkeys(name for one in plain for name in one))
    return [head, *([str(one.get(name, "")) for name in head] for one in plain)]


def _is_cell(value: object) -> bool:
    if isinstance(value, list):
        return all(isinstance(one, str | int) for one in value)
    return isinstance(value, str | int) or (isinstance(value, float) and not math.isnan(value))  # pandas' empty cell


def _column_of_names(rows: Sequence[Sequence[str]], places: Places, folder: str) -> int | None:
    """Return the column whose cells are mostly names of images, by some of the lines."""
    tried = rows[1 :: max(1, len(rows) // NUM_TRIED)]
    is_named = [_plain(cell) in OF_NAMES for cell in rows[0]]
    found = Counter(
        column
        for row in tried
        for column, cell in enumerate(row[: len(is_named)])
        if _place_of(cell, folder, places, is_named=is_named[column]) is not None
    )
    if not found:
        return None
    column, num = min(found.items(), key=lambda item: (-item[1], item[0]))
    return column if num >= len(tried) / 2 or is_named[column] else None


def _of_other_images(path: str, rows: Sequence[Sequence[str]], places: Places) -> Table | None:
    """Return a table of names and classes none of which are those of the images; None where it is of something else."""
    head = [_plain(cell) for cell in rows[0]]
    column = next((name for name in head if name in OF_NAMES), None)
    if column is None:
        return None
    place = head.index(column)
    if OF_CLASSES.isdisjoint(head) and not _has_several(rows, place):
        return None
    if any(row[place].strip() in places.shared for row in rows[1:] if place < len(row)):
        told = f'the names in its column "{column}" are those of several images, in different folders'
        return Table(path, problem=f"{told}; write their paths, such as train/1.png")
    return Table(path, problem=f'hardly any name in its column "{column}" is that of an image here')


def _has_several(rows: Sequence[Sequence[str]], column: int) -> bool:
    """Return whether the lines below the first hold several labels beside a column of names."""
    head, *body = ([cell.strip() for cell in row] for row in rows)
    read = _classes(head, body, column) if all(len(row) == len(head) for row in body) else ""
    return isinstance(read, Read) and read.is_several


def _read(path: str, head: list[str], body: list[list[str]], column: int, found: list[int | None]) -> Table:
    """Return the labels of the images that a table names, or why there are none."""
    read = _classes(head, body, column)
    if isinstance(read, str):
        return Table(path, problem=read)
    labels: dict[int, Words] = {}
    twice = set[int]()
    for place, words in zip(found, read.labels, strict=True):
        if place is None:
            continue
        if labels.setdefault(place, words) != words:
            twice.add(place)
            labels[place] |= words
    # A line for each label of an image names many images more than once; a slip names few.
    if twice and (read.order or not are_too_many(len(twice), len(labels))):
        return Table(path, problem="it names an image more than once, with different classes")
    strangers = tuple(row[column] for row, place in zip(body, found, strict=True) if place is None)
    return Table(
        path, labels, read.name, is_several=read.is_several or bool(twice), order=read.order, strangers=strangers
    )


@dataclass(frozen=True)
class Read:
    """The labels of each line of a table; the name of their column, or the names of several."""

    labels: Sequence[Words]
    name: str = ""
    is_several: bool = False
    order: tuple[str, ...] = ()


def _classes(head: list[str], body: list[list[str]], column: int) -> Read | str:
    """Return the labels of each line; or why there are none."""
    others = [
        place
        for place in range(len(head))
        if place != column and _plain(head[place]) not in OF_SPLITS and not _counts_up(head[place], body, place)
        if head[place] or any(row[place].strip() for row in body)  # else a comma too many at the end of the lines
    ]
    of_classes = OF_CLASSES - {"y"} if "x" in map(_plain, head) else OF_CLASSES  # x and y: a point
    named = [place for place in others if _plain(head[place]) in of_classes]
    if len(named) > 1:
        named = _one_of_equals(body, named)
    if not named and len(others) == 1 and _may_be_classes(head[others[0]], [row[others[0]] for row in body]):
        named = others
    if len(named) == 1:
        cells = [_filled(row[named[0]]) for row in body]
        try:
            lists = parted(cells, is_named=_plain(head[named[0]]) in OF_CLASSES)
        except ValueError as error:
            return str(error)
        if lists is not None:
            return Read(lists, head[named[0]], is_several=True)
        return Read([frozenset([cell] if cell else []) for cell in cells], head[named[0]])
    if not others:
        return "it has no column of classes"
    if not named and (read := columns(head, body, others)) is not None:
        labels, problem = read
        return problem or Read(labels, is_several=True, order=tuple(head[place] for place in others))
    shown = shortened(", ".join(head[place] or "without a name" for place in (named or others)))
    remedy = 'call the one of classes "label", and no other so'
    return f"which column has the classes cannot be told ({shown}); {remedy}"


def _filled(cell: str) -> str:
    """Return what a cell holds, empty where it says that it holds nothing."""
    cell = cell.strip()
    return "" if cell.lower() in EMPTY else cell


def _may_be_classes(name: str, cells: Sequence[str]) -> bool:
    """Return whether a column that is not called like one of classes may hold some: words, but no dates and no ids."""
    plain = _plain(name)
    is_other = plain in OF_OTHERS or plain.rpartition("_")[2] in ("id", "ids", "uuid")
    return not is_other and not any(is_number(cell) or DATE.fullmatch(cell.strip()) for cell in cells)


def _counts_up(name: str, body: Sequence[Sequence[str]], place: int) -> bool:
    """Return whether a column holds the numbers of the lines and is called like nothing else, as pandas writes it."""
    if _plain(name) not in ("", "index", "unnamed:_0"):
        return False
    some = enumerate(islice(body, NUM_TRIED))
    return all(row[place].strip() in (str(number), str(number + 1)) for number, row in some)


def _one_of_equals(body: Sequence[Sequence[str]], named: list[int]) -> list[int]:
    """Return one of several columns that part the lines alike, such as numbers and names; all where they do not."""
    pairs = {tuple(row[place].strip() for place in named) for row in body}
    if any(len({pair[index] for pair in pairs}) != len(pairs) for index in range(len(named))):
        return named
    words = [place for place in named if not all(row[place].strip().isdecimal() for row in body)]
    return (words or named)[:1]


def _plain(cell: str) -> str:
    return "_".join(cell.lower().split())
