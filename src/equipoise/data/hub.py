"""Datasets of the hub: streamed once, row by row, by the datasets library; of it all only the prepared images stay.

The encoded images of a dataset go into one nameless file in the cache, as they are looked at more than once; it is gone
with the preparation, or with the process. Memory holds their places.
"""

import contextlib
import hashlib
import json
import os
import tempfile
from array import array
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from equipoise.data.cache import default_cache
from equipoise.data.decode import BrokenImage
from equipoise.data.listing import (
    MAX_FILE_BYTES,
    Numbered,
    Source,
    SourceImages,
    capped,
    first_line,
    source_of,
    subject_of,
)
from equipoise.errors import UserError, listed
from equipoise.storage.files import write_bytes
from equipoise.storage.safe_open import open_regular, read_bytes

MAX_NOTE = 2**16  # bytes of what is remembered of a dataset
PLACES = ("://", "::")  # in addresses; other paths are files

T = TypeVar("T")


def open_hub(name: str) -> Source:
    """Find a dataset of the hub with a column of images; raises UserError.

    Where the hub cannot be reached, it is as it was last found, so that what was prepared can be used.
    """
    subject = subject_of(f"hub:{name}")
    if not name.strip():
        raise UserError(subject, "the name is missing", "Give one, such as hub:cifar10")
    try:
        import datasets  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise UserError(
            subject, "needs the datasets package", 'Install it: pip install "equipoise[datasets]"'
        ) from None
    library: Any = datasets
    try:
        builder: Any = _asked(lambda: library.load_dataset_builder(name), subject)
    except UserError as error:
        remembered = _remembered(name)
        if remembered is None:
            raise
        return source_of(f"hub:{name}", remembered, partial(_refuse, error))
    fingerprint = f"hub:{name} {_version(builder)}"
    _remember(name, fingerprint)
    return source_of(f"hub:{name}", fingerprint, partial(_load, builder, library, subject))


def _load(builder: Any, datasets: Any, subject: str) -> SourceImages:
    """Stream the training split, else the first one, and list its images; raises UserError."""
    splits: Any = _asked(builder.as_streaming_dataset, subject)
    rows = splits["train"] if "train" in splits else next(iter(splits.values()))
    features = rows.features or {}
    column = next((key for key, feature in features.items() if isinstance(feature, datasets.Image)), None)
    if column is None:
        raise UserError(subject, f"no column of images; it has {listed(features) or 'no columns that it names'}")
    label = next((key for key, feature in features.items() if isinstance(feature, datasets.ClassLabel)), None)
    rows = rows.cast_column(column, datasets.Image(decode=False))
    images, labels = _spooled(_rows(rows, subject), column, label)
    if label is None or min(labels, default=-1) < 0:  # -1 stands for an unknown class
        return images
    numbers = np.frombuffer(labels, np.int64)
    return SourceImages(images.names, images.read, numbers, tuple(map(str, features[label].names)))


def _rows(rows: Any, subject: str) -> Iterator[dict[str, Any]]:
    """Yield all rows; raises UserError where the hub fails meanwhile."""
    stream = iter(rows)
    while (row := _asked(lambda: next(stream, None), subject)) is not None:
        yield row


def _spooled(rows: Iterator[dict[str, Any]], column: str, label: str | None) -> tuple[SourceImages, array]:
    """Put the encoded images of all rows into a nameless file; return them, and their labels where these have a column.

    Raises OSError where the disk fails.
    """
    ends = array("q", [0])
    labels = array("q")
    broken: dict[int, str] = {}
    cache = default_cache()
    cache.mkdir(parents=True, exist_ok=True)
    file = tempfile.TemporaryFile(dir=cache)  # noqa: SIM115, as it is read for as long as `read` is there
    for place, row in enumerate(rows):
        try:
            content = image_bytes(row[column])
        except BrokenImage as reason:
            content = b""
            broken[place] = str(reason)
        file.write(content)
        ends.append(ends[-1] + len(content))
        if label is not None:
            labels.append(-1 if row[label] is None else int(row[label]))
    file.flush()

    def read(place: int) -> bytes:
        if place in broken:
            raise BrokenImage(broken[place])
        return os.pread(file.fileno(), ends[place + 1] - ends[place], ends[place])

    return SourceImages(Numbered("row", len(ends) - 1), read), labels


def image_bytes(value: Any) -> bytes:
    """Return the encoded image of a row; raises BrokenImage where there is none."""
    content = value.get("bytes") if isinstance(value, dict) else value
    if isinstance(content, bytes):
        return capped(content)
    path = value.get("path") if isinstance(value, dict) else None
    if not path:
        raise BrokenImage("no image in this row")
    try:
        with _opened(str(path)) as file:
            return capped(file.read(MAX_FILE_BYTES + 1))
    except BrokenImage:
        raise
    except Exception as error:  # a file system of the network may fail in any way
        raise BrokenImage(f"cannot be read ({first_line(error)})") from None


def _opened(path: str) -> Any:
    if not any(part in path for part in PLACES):
        return open_regular(Path(path))
    import fsspec  # pyright: ignore[reportMissingImports]

    return fsspec.open(path, "rb")


def _asked(call: Callable[[], T], subject: str) -> T:
    """Return what the library gives; raises UserError where it fails: its first line says why."""
    try:
        return call()
    except Exception as error:  # network, permission, unknown name
        raise UserError(subject, f"cannot be loaded ({first_line(error)})") from None


def _refuse(error: UserError) -> SourceImages:
    raise error


# What is remembered of a dataset


def _version(builder: Any) -> str:
    """Return a text that changes with a dataset's files: their states and that of what reads them."""
    files = getattr(getattr(builder, "config", None), "data_files", None) or {}
    states = {str(split): repr(getattr(some, "origin_metadata", some)) for split, some in files.items()}
    text = json.dumps([str(builder.hash), str(getattr(builder, "config_id", "")), states])
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()


def _note(name: str) -> Path:
    return default_cache() / "hub" / f"{hashlib.sha256(name.encode(errors='surrogateescape')).hexdigest()}.txt"


def _remember(name: str, fingerprint: str) -> None:
    if _remembered(name) == fingerprint:
        return
    path = _note(name)
    with contextlib.suppress(OSError):  # a cache that holds the images may be read-only
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, fingerprint.encode(errors="surrogateescape"))


def _remembered(name: str) -> str | None:
    try:
        return read_bytes(_note(name), MAX_NOTE).decode(errors="surrogateescape")
    except OSError:
        return None
