"""Prepared pools on disk: found by the source they came from, kept by their content.

`sources/<key>.json` says which content a source with its options became; `pools/<content>/` holds it. A pool
is written aside and renamed, so it is whole or absent, and the same content from two sources is kept once.
"""

import contextlib
import errno
import fcntl
import hashlib
import json
import mmap
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from equipoise.data.arrays import read_array
from equipoise.data.several import Combined, Sets, renumbered
from equipoise.data.splits import content_digests, to_hashes
from equipoise.storage.files import aside_in, sync, sync_all
from equipoise.storage.safe_open import open_regular, read_bytes

VERSION = 6  # of the layout, the decoding and the classes; a change leaves older pools unread
_NUM_VERIFIED = 64  # images compared with their hashes whenever a pool is opened
_STALE_SECONDS = 86_400.0
_MAX_JSON_BYTES = 2**28


@dataclass(frozen=True)
class Listing:
    """What a pool of a given content was made from."""

    content: str
    rejected: list[tuple[str, str]]  # name, reason
    num_skipped: int
    notes: list[str] = field(default_factory=list)  # what was inferred, such as classes
    scale: list[float] | None = None  # the pixel values that became black and white, where images are deep
    skipped: dict[str, int] = field(default_factory=dict)  # what was ignored, by suffix or by why
    names: str = ""  # digest of the hashes of the images' names


@dataclass(frozen=True, eq=False)
class Stored:
    """A pool as it lies on disk."""

    folder: Path
    images: np.ndarray  # uint8 [N, C, H, W], read-only, mapped
    hashes: np.ndarray  # uint64 [N]
    labels: np.ndarray | None  # int64 [N]
    classes: tuple[str, ...]
    sets: Sets = ()  # of several labels an image the combinations, which `labels` are places of then


def find(cache: Path, key: str) -> tuple[Stored, Listing] | None:
    """Return what a source became before, or None when it is not here or is damaged."""
    try:
        values = json.loads(read_bytes(cache / "sources" / f"{key}.json", _MAX_JSON_BYTES))
        rejected = [(str(name), str(reason)) for name, reason in values["rejected"]]
        notes = [str(text) for text in values["notes"]]
        scale = None if values["scale"] is None else [float(value) for value in values["scale"]]
        skipped = {str(kind): int(num) for kind, num in values.get("skipped", {}).items()}
        names = str(values.get("names", ""))
        listing = Listing(str(values["content"]), rejected, int(values["num_skipped"]), notes, scale, skipped, names)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None
    if not re.fullmatch("[0-9a-f]{64}", listing.content):  # it becomes a part of a path
        return None
    stored = _opened(cache / "pools" / listing.content)
    return (stored, listing) if stored else None


def write(
    cache: Path,
    batches: Iterable[tuple[np.ndarray, np.ndarray]],
    labels: np.ndarray | None,
    classes: tuple[str, ...],
    sets: Sets = (),
) -> str:
    """Write batches of (positions [n], uint8 [n, C, H, W]) as one pool; return its digest; raises OSError.

    `labels` are those of all positions of the source; the positions that never come are left out.
    """
    with _aside(cache / "pools") as aside:
        positions, digests, shape = _write_images(aside / "images.bin", batches)
        kept, names, left = kept_labels(labels, classes, sets, positions)
        described = {"version": VERSION, "shape": [len(positions), *shape], "classes": names}
        meta = json.dumps(described | ({"sets": left} if left else {}))
        (aside / "pool.json").write_text(meta, encoding="utf-8")
        content = hashlib.sha256(meta.encode() + digests)
        hashes = np.frombuffer(digests, ">u8").reshape(len(positions), -1)[:, 0]  # as `to_hashes` takes them
        np.save(aside / "hashes.npy", hashes.astype(np.uint64), allow_pickle=False)
        if kept is not None:
            np.save(aside / "labels.npy", kept, allow_pickle=False)
            content.update(kept.tobytes())
        sync_all(aside)
        _publish(aside, aside.with_name(content.hexdigest()))
        return content.hexdigest()


def write_names(cache: Path, hashes: np.ndarray) -> str:
    """Keep the hashes uint64 [N] of the names of a source's images; return their digest; raises OSError."""
    digest = hashlib.sha256(hashes.tobytes()).hexdigest()
    with _aside(cache / "names") as aside:
        path = aside / "names.npy"
        np.save(path, hashes, allow_pickle=False)
        sync(path)
        os.replace(path, aside.with_name(f"{digest}.npy"))
    return digest


def names_of(cache: Path, listing: Listing, num: int) -> np.ndarray | None:
    """Return the hashes uint64 [N] of the names of a source's images; None where they are not here or are damaged."""
    if not re.fullmatch("[0-9a-f]{64}", listing.names):
        return None
    try:
        hashes = _loaded(cache / "names" / f"{listing.names}.npy", np.dtype(np.uint64), num)
    except (OSError, ValueError, EOFError):
        return None
    return hashes if hashlib.sha256(hashes.tobytes()).hexdigest() == listing.names else None


def note(cache: Path, key: str, listing: Listing) -> None:
    """Remember what a source became; raises OSError."""
    with _aside(cache / "sources") as aside:
        path = aside / "listing.json"
        path.write_text(json.dumps(asdict(listing)), encoding="utf-8")
        sync(path)
        os.replace(path, aside.with_name(f"{key}.json"))


@contextlib.contextmanager
def _aside(folder: Path) -> Iterator[Path]:
    """Lend an empty folder within another, to fill and to rename; what is not renamed is removed."""
    folder.mkdir(parents=True, exist_ok=True)
    _remove_stale(folder)
    aside = aside_in(folder)
    aside.mkdir()
    with contextlib.ExitStack() as held:
        held.callback(shutil.rmtree, aside, ignore_errors=True)
        with contextlib.suppress(OSError):  # where folders cannot be locked, none is ever considered stale
            held.enter_context(_locked(aside))
        yield aside


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a folder's lock, which the system frees when a process dies; raises OSError where another holds it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _remove_stale(folder: Path) -> None:
    """Remove what preparations killed a day ago have left: unlocked and old, as a clock can be wrong."""
    for aside in folder.glob(".aside-*"):
        with contextlib.suppress(OSError):
            if time.time() - aside.stat().st_mtime > _STALE_SECONDS:
                with _locked(aside):
                    shutil.rmtree(aside, ignore_errors=True)


def _write_images(
    path: Path, batches: Iterable[tuple[np.ndarray, np.ndarray]]
) -> tuple[np.ndarray, bytes, tuple[int, ...]]:
    """Write all images; return their positions, their digests one after the other, and the shape of an image."""
    positions: list[np.ndarray] = []
    digests = bytearray()  # as a list of a million objects they would take twice the memory
    shape: tuple[int, ...] = ()
    with path.open("wb") as file:
        for indices, images in batches:
            images = np.ascontiguousarray(images)
            positions.append(indices)
            digests += b"".join(content_digests(images))
            shape = images.shape[1:]
            file.write(images.data)
    return np.concatenate(positions), bytes(digests), shape


def kept_labels(
    labels: np.ndarray | None, classes: tuple[str, ...], sets: Sets, positions: np.ndarray
) -> tuple[np.ndarray | None, tuple[str, ...], Sets]:
    """Return labels of the usable images, numbered over the classes, or the combinations, that still have any."""
    if labels is None:
        return None, (), ()
    present, numbers = np.unique(labels[positions], return_inverse=True)
    if len(present) < 2:
        return None, (), ()
    if not sets:
        return numbers.astype(np.int64), tuple(classes[index] for index in present), ()
    left = renumbered(Combined(labels[positions], classes, sets))
    return left.labels, left.classes, left.sets


def _publish(aside: Path, folder: Path) -> None:
    """Rename a finished pool to its place; one that another process put there is as good, if it is whole."""
    for _ in range(5):
        try:
            aside.rename(folder)
            return
        except OSError:
            if not folder.exists():
                raise
        if _opened(folder):
            return
        damaged = folder.with_name(f".aside-damaged-{aside.name}")
        with contextlib.suppress(OSError):  # another process may be repairing it as well
            folder.rename(damaged)
        shutil.rmtree(damaged, ignore_errors=True)
    raise OSError(errno.EBUSY, "a damaged pool cannot be replaced", str(folder))


def _opened(folder: Path) -> Stored | None:
    """Map a pool, or return None when a file is missing, has another size or differs from its hashes."""
    try:
        meta = json.loads(read_bytes(folder / "pool.json", _MAX_JSON_BYTES))
        num, *shape = meta["shape"]
        classes = tuple(map(str, meta["classes"]))
        sets = tuple(tuple(map(int, one)) for one in meta.get("sets", ()))
        is_shape = len(shape) == 3 and all(type(length) is int and length > 0 for length in meta["shape"])
        if meta["version"] != VERSION or not is_shape:
            return None
        hashes = _loaded(folder / "hashes.npy", np.dtype(np.uint64), num)
        labels = None
        if classes:
            labels = _loaded(folder / "labels.npy", np.dtype(np.int64), num)
        images = _mapped(folder / "images.bin").reshape(num, *shape)
    except (OSError, ValueError, KeyError, TypeError, EOFError, OverflowError, RecursionError):
        return None
    sample = np.linspace(0, num - 1, min(num, _NUM_VERIFIED)).astype(np.int64)
    if (to_hashes(content_digests(images[sample])) != hashes[sample]).any():
        return None
    if labels is not None and (labels.min() < 0 or labels.max() >= len(sets or classes)):
        return None
    if any(not 0 <= index < len(classes) for one in sets for index in one):
        return None
    return Stored(folder, images, hashes, labels, classes, sets)


def _loaded(path: Path, dtype: np.dtype, num: int) -> np.ndarray:
    """Read an array [num]; raises ValueError where the file holds anything else, such as a pickle."""
    with open_regular(path) as file:
        values = read_array(file, os.fstat(file.fileno()).st_size)
    if values.shape != (num,) or values.dtype != dtype:
        raise ValueError(f"{path} holds {values.dtype} {values.shape}")
    return values


def _mapped(path: Path) -> np.ndarray:
    with open_regular(path) as file:
        view = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    if hasattr(mmap, "MADV_WILLNEED"):  # the first epoch should not wait for the disk either
        view.madvise(mmap.MADV_WILLNEED)
    return np.frombuffer(view, dtype=np.uint8)
