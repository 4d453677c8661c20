"""Images out of parquet files, as Hugging Face writes them: a column of encoded images, and perhaps one of classes.

Of each file one group of rows at a time is in memory. Needs pyarrow, which comes with the datasets library.
"""

import json
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from equipoise.data.decode import BrokenImage
from equipoise.data.labels import OF_CLASSES, are_one_each, indexed, splits_note
from equipoise.data.listing import Numbered, SourceImages, capped, first_line
from equipoise.errors import UserError, listed

MAX_GROUP = 2**31  # bytes of a group of rows, unpacked
GROUPS_HELD = 4  # in memory
INSTALL = 'Install it: pip install "equipoise[datasets]"'


@dataclass(frozen=True)
class Columns:
    """Where a file has its images and their classes."""

    image: str
    label: str | None
    classes: tuple[str, ...] | None  # None where the column holds the classes themselves


@dataclass
class Index:
    """The groups of rows of all files."""

    starts: array = field(default_factory=lambda: array("q", [0]))  # the first row of each, and the end
    groups: list[tuple[int, int]] = field(default_factory=list)  # the file of each, and its place there
    labels: list[Any] = field(default_factory=list)


def load_parquet(folder: Path, files: Sequence[str], subject: str, skipped: Counter[str]) -> SourceImages:
    """List the images of parquet files below a folder; raises UserError where one cannot be read."""
    try:
        import pyarrow.parquet as parquet  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise UserError(subject, "a parquet file needs the package pyarrow", INSTALL) from None
    index = Index()
    found: list[Columns] = []
    for number, name in enumerate(files):
        file = f'{subject}, file "{name}"'
        opened = _asked(partial(parquet.ParquetFile, folder / name), file)
        found.append(_columns(opened.schema_arrow, file))
        if found[0] != found[-1]:
            raise UserError(file, f"its columns are others than those of {files[0]}", "Give files of one data set")
        _add(index, opened, number, found[0].label, file)
    if not index.starts[-1]:
        raise UserError(subject, "no rows; images were expected")

    @lru_cache(maxsize=GROUPS_HELD)
    def rows_of(number: int, group: int) -> Any:
        with parquet.ParquetFile(folder / files[number]) as opened:
            return opened.read_row_group(group, [found[0].image], use_threads=False).column(0)

    labels, classes, notes = _classes(index.labels, found[0], files)
    images = SourceImages(Numbered("row", index.starts[-1]), _reader(rows_of, index), labels, classes, notes=notes)
    return replace(images, num_skipped=skipped.total(), skipped=skipped)


def _add(index: Index, opened: Any, number: int, label: str | None, subject: str) -> None:
    """Add the groups of one file; raises UserError where one is too large, or the classes cannot be read."""
    for group in range(opened.metadata.num_row_groups):
        described = opened.metadata.row_group(group)
        if described.total_byte_size > MAX_GROUP:
            problem = f"a group of rows of {described.total_byte_size >> 20:,} MiB; at most {MAX_GROUP >> 20:,}"
            raise UserError(subject, problem, "Write it again with a smaller row_group_size")
        index.starts.append(index.starts[-1] + described.num_rows)
        index.groups.append((number, group))
    if label is not None:
        index.labels += _asked(lambda: opened.read([label]).column(0).to_pylist(), subject)


def _reader(rows_of: Callable[[int, int], Any], index: Index) -> Callable[[int], bytes]:
    """Return what reads an image by its row; threads take their turns, as a group read by two would be held twice."""
    lock = Lock()

    def read(row: int) -> bytes:
        place = bisect_right(index.starts, row) - 1
        try:
            with lock:
                value = rows_of(*index.groups[place])[row - index.starts[place]].as_py()
        except Exception as error:  # a damaged group fails in many ways
            raise BrokenImage(f"cannot be read ({first_line(error)})") from None
        content = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(content, bytes):
            raise BrokenImage("no image in this row")  # a path in its place may lead anywhere
        return capped(content)

    return read


def _columns(schema: Any, subject: str) -> Columns:
    """Return the columns by what Hugging Face noted in the file, else by their types; raises UserError."""
    features = _features(schema.metadata or {})
    image = next((name for name in schema.names if features.get(name, {}).get("_type") == "Image"), None)
    if image is None:
        image = next((name for name in schema.names if _may_be_images(schema.field(name).type)), None)
    if image is None:
        raise UserError(subject, f"no column of images; it has {listed(schema.names)}")
    for name in schema.names:
        classes = features.get(name, {}).get("names")
        if features.get(name, {}).get("_type") == "ClassLabel" and isinstance(classes, list):
            return Columns(image, name, tuple(map(str, classes)))
    return Columns(image, next((name for name in OF_CLASSES if _may_be_classes(schema, name)), None), None)


def _features(metadata: dict[bytes, bytes]) -> dict[str, Any]:
    try:
        features = json.loads(metadata[b"huggingface"])["info"]["features"]
    except (KeyError, ValueError, TypeError, RecursionError):
        return {}
    plain = features if isinstance(features, dict) else {}
    return {name: feature for name, feature in plain.items() if isinstance(feature, dict)}


def _may_be_images(kind: Any) -> bool:
    """Return whether a column may hold encoded images: bytes, or bytes with a path."""
    text = str(kind)
    return text in ("binary", "large_binary") or (text.startswith("struct<") and "bytes: binary" in text)


def _may_be_classes(schema: Any, name: str) -> bool:
    return name in schema.names and str(schema.field(name).type).startswith(("int", "uint", "string", "large_string"))


def _classes(
    labels: Sequence[Any], columns: Columns, files: Sequence[str]
) -> tuple[np.ndarray | None, tuple[str, ...], tuple[str, ...]]:
    """Return the class of each image, the names of all, and what is to be said."""
    notes = splits_note("files", files)
    if columns.label is None:
        return None, (), notes
    column = f'the column "{columns.label}"'
    if any(label is None or label == "" for label in labels):
        return None, (), (*notes, f"{column} was not used: some images have no class; no classes")
    if columns.classes is not None:
        numbers = np.array(labels, np.int64)
        if numbers.min() < 0 or numbers.max() >= len(columns.classes):  # -1 stands for an unknown class
            return None, (), (*notes, f"{column} was not used: some images have no class; no classes")
        return numbers, columns.classes, notes
    classes, numbers = indexed(labels)
    if are_one_each(len(classes), len(labels)):
        told = f"it has {len(classes):,} different ones for {len(labels):,} images"
        return None, (), (*notes, f"{column} was not used: {told}; no classes")
    return numbers, tuple(map(str, classes)), (*notes, f"the {len(classes)} classes are those of {column}")


def _asked(call: Callable[[], Any], subject: str) -> Any:
    try:
        return call()
    except Exception as error:  # pyarrow raises many types on what is damaged
        remedy = "Download or write it again, or take it out of the folder"
        raise UserError(subject, f"cannot be read ({first_line(error)})", remedy) from None
