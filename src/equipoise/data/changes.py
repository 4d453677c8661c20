"""What became of a source since a run began: new, gone and changed examples, told by hashes of content and name."""

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np

from equipoise.data import checked_arrays
from equipoise.recipe import TaskSettings

_NO_HASHES = np.zeros(0, np.uint64)
_SEEN_AS = "seen as "  # leads the name of contents that other settings have made, which follow as JSON


@dataclass(frozen=True, eq=False)
class Seen:
    """Contents uint64 that trained weights, and the settings of the task that made them of the examples."""

    contents: np.ndarray
    settings: TaskSettings


@dataclass(frozen=True, eq=False)
class Listed:
    """The examples of a source, as a run remembers them; hashes are uint64."""

    contents: np.ndarray  # [N]
    names: np.ndarray | None = None  # [N], in the same order; None where examples have no names
    seen: np.ndarray | None = field(default_factory=_NO_HASHES.copy)  # contents that trained the weights before this
    # run; None where nobody knows them any more
    earlier: tuple[Seen, ...] = ()  # what else did, in runs with other settings


@dataclass(frozen=True)
class Changes:
    """How many examples differ between two lists."""

    num_same: int  # contents that are in both, whatever their names
    num_new: int
    num_gone: int
    num_changed: int  # of the same name, with another content
    num_renamed: int  # of the same content, under another name


def name_hashes(names: Iterable[str]) -> np.ndarray:
    """Return the hashes uint64 [N] of names."""
    digests = bytearray()
    for name in names:
        digests += hashlib.blake2b(name.encode(errors="surrogatepass"), digest_size=8).digest()
    return np.frombuffer(digests, ">u8").astype(np.uint64)


def changes(before: Listed, now: Listed) -> Changes:
    """Compare two lists: by content first, so that examples that only moved are not taken for changed ones."""
    left_before = _unmatched(before, now)
    left_now = _unmatched(now, before)
    num_same = len(before.contents) - len(left_before)
    num_changed = 0
    num_renamed = 0
    if before.names is not None and now.names is not None:
        num_changed = len(np.intersect1d(before.names[left_before], now.names[left_now]))
        kept = np.delete(np.arange(len(before.contents)), left_before)
        num_renamed = int((~np.isin(_pairs(before)[kept], _pairs(now))).sum())
    return Changes(
        num_same=num_same,
        num_new=len(left_now) - num_changed,
        num_gone=len(left_before) - num_changed,
        num_changed=num_changed,
        num_renamed=num_renamed,
    )


def _unmatched(one: Listed, other: Listed) -> np.ndarray:
    """Return the indices of the examples whose content the other list has less often; copies count each."""
    is_there = np.zeros(len(one.contents), bool)
    if one.names is not None and other.names is not None:
        is_there = np.isin(_pairs(one), _pairs(other))
    order = np.lexsort((~is_there, one.contents))  # of copies, those that kept their name are matched first
    contents = one.contents[order]
    found, first = np.unique(contents, return_index=True)
    rank = np.arange(len(contents)) - first[np.searchsorted(found, contents)]
    of_other = np.sort(other.contents)
    num_there = np.searchsorted(of_other, contents, "right") - np.searchsorted(of_other, contents, "left")
    return order[rank >= num_there]


def _pairs(examples: Listed) -> np.ndarray:
    """Return a hash uint64 [N] of content and name together."""
    assert examples.names is not None
    return examples.contents * np.uint64(0x9E3779B97F4A7C15) + examples.names


def packed(examples: Listed) -> bytes:
    """Return a list as the bytes of its file, with a checksum."""
    arrays = {"contents": examples.contents}
    if examples.seen is not None:
        arrays["seen"] = examples.seen
    if examples.names is not None:
        arrays["names"] = examples.names
    for seen in examples.earlier:
        arrays[_SEEN_AS + msgspec.json.encode(seen.settings).decode()] = seen.contents
    return checked_arrays.packed(arrays)


def read(path: Path) -> Listed | None:
    """Read a list, None where there is none or it is damaged."""
    arrays = checked_arrays.read(path)
    if arrays is None:
        return None
    try:
        earlier = tuple(_seen(name, arrays.pop(name)) for name in sorted(arrays) if name.startswith(_SEEN_AS))
    except msgspec.DecodeError:  # ValidationError is one: settings that this version does not know
        return None
    contents = arrays.get("contents")
    numbers = [*arrays.values(), *(seen.contents for seen in earlier)]
    if contents is None or any(array.dtype != np.uint64 or array.ndim != 1 for array in numbers):
        return None
    names = arrays.get("names")
    if names is not None and names.shape != contents.shape:
        return None
    return Listed(contents, names, arrays.get("seen"), earlier)


def _seen(name: str, contents: np.ndarray) -> Seen:
    return Seen(contents, msgspec.json.decode(name.removeprefix(_SEEN_AS), type=TaskSettings))


def is_damaged(path: Path) -> bool:
    """Return whether there is a list that cannot be read."""
    return os.path.lexists(path) and read(path) is None
