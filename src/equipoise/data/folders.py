"""What lies below a folder, and whether it is still what it was.

A million files take seconds to ask, each for its size and times. Where there are many, the cache remembers the times of
all folders, which change with every file that is added, renamed, removed or replaced, and those of some files.
"""

import hashlib
import json
import os
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from equipoise.data.cache import default_cache
from equipoise.storage.files import write_bytes
from equipoise.storage.safe_open import read_bytes

MAX_DEPTH = 64  # folders in one another around a file
MANY = 100_000  # files from which on only some are asked
NUM_ASKED = 5_000  # of them, at least
SETTLED = 2 * 10**9  # nanoseconds after which a folder's time is sure to differ after another change
MAX_REMEMBERED = 2**28  # bytes
NOWHERE = "points nowhere"  # the state of a link


@dataclass(frozen=True)
class Folder:
    """One folder: its place below the source, as `path/`, its state, and the names and states of its files in order."""

    place: str
    state: str
    files: Sequence[tuple[str, str]]


@dataclass
class Seen:
    """What is seen of many folders while they are listed: their stamp, their times, and every so-manieth file."""

    digest: "hashlib._Hash" = field(default_factory=hashlib.sha256)
    folders: list[tuple[str, str]] = field(default_factory=list)
    files: list[tuple[str, str]] = field(default_factory=list)
    num: int = 0
    every: int = 1

    def add(self, folder: Folder) -> None:
        """See one folder."""
        rows = "\n".join(map("\t".join, folder.files))
        self.digest.update(f"{folder.place}\n{rows}\n".encode(errors="surrogateescape"))
        self.folders.append((folder.place, folder.state))
        for index in range(-self.num % self.every, len(folder.files), self.every):
            name, state = folder.files[index]
            if " " in state and state != NOWHERE:  # else it is no file
                self.files.append((folder.place + name, state))
        self.num += len(folder.files)
        while len(self.files) > 2 * NUM_ASKED:
            self.files = self.files[::2]
            self.every *= 2

    def stamp(self, path: Path) -> str:
        """Return a text that changes with whatever lies below a folder."""
        return f"{path.resolve()} as listed {self.digest.hexdigest()}"


def stamp_of(path: Path) -> str:
    """Return the stamp of a folder, as it is remembered or by a look at every file; raises OSError."""
    if (stamp := _remembered(path)) is not None:
        return stamp
    begin = time.time_ns()
    seen = Seen()
    for folder in walk(path):
        seen.add(folder)
    if seen.num >= MANY:
        _remember(path, seen, begin)
    return seen.stamp(path)


def walk(folder: Path, place: str = "", seen: set[tuple[int, int]] | None = None) -> Iterator[Folder]:
    """Yield a folder and all below it; links are followed, but never in circles; raises OSError.

    The files of a folder that is hidden, lies too deep or was met before are not listed: one entry, `path/`, stands for
    them.
    """
    seen = set() if seen is None else seen
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        status = os.fstat(descriptor)
        if (status.st_dev, status.st_ino) in seen:
            yield Folder(place, _times(status), [("", "")])  # said, and not read again
            return
        seen.add((status.st_dev, status.st_ino))
        files, inner = _entries(descriptor, place)
    finally:
        os.close(descriptor)
    yield Folder(place, _times(status), files)
    for name in inner:
        yield from walk(folder / name, f"{place}{name}/", seen)


def _entries(descriptor: int, place: str) -> tuple[list[tuple[str, str]], list[str]]:
    """Return the files of an open folder with their states, and the folders to look into; both in order."""
    files: list[tuple[str, str]] = []
    inner: list[str] = []
    with os.scandir(descriptor) as found:  # files are asked from their folder, which is faster than by their paths
        for entry in found:
            name = entry.name
            try:
                status = entry.stat()
            except OSError:  # a link that points nowhere or to itself, or a file that has gone meanwhile
                files.append((name, NOWHERE))
                continue
            if not stat.S_ISDIR(status.st_mode):
                files.append((name, _state(status)))
            elif name == "__MACOSX":  # what a Mac adds to a zip: nothing of the user's
                continue
            elif name.startswith(".") or is_deep(f"{place}{name}/"):
                files.append((f"{name}/", ""))
            else:
                inner.append(name)
    return sorted(files), sorted(inner)


def is_deep(name: str) -> bool:
    """Return whether a file lies too deep to be read."""
    return name.count("/") > MAX_DEPTH


def _state(status: os.stat_result) -> str:
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"


def _times(status: os.stat_result) -> str:
    return f"{status.st_ino} {status.st_mtime_ns} {status.st_ctime_ns}"


# What is remembered of many files


def _note(path: Path) -> Path:
    digest = hashlib.sha256(str(path.resolve()).encode(errors="surrogateescape")).hexdigest()
    return default_cache() / "folders" / f"{digest}.json"


def _remember(path: Path, seen: Seen, begin: int) -> None:
    """Keep what was seen of a folder from a moment on, unless a folder has just been changed."""
    newest = max(int(time) for _, state in seen.folders for time in state.split()[1:])
    if newest > begin - SETTLED:
        return
    values = {"stamp": seen.stamp(path), "folders": seen.folders, "files": seen.files}
    note = _note(path)
    with suppress(OSError):  # a cache that holds the images may be read-only
        note.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(note, json.dumps(values).encode())


def _remembered(path: Path) -> str | None:
    """Return the stamp of a folder where all that is remembered of it is as it was."""
    try:
        values = json.loads(read_bytes(_note(path), MAX_REMEMBERED))
        stamp = str(values["stamp"])
        are_folders = _are_as_before(path, values["folders"], _times)
        return stamp if are_folders and _are_as_before(path, values["files"], _state) else None
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None


def _are_as_before(
    path: Path, remembered: Iterable[tuple[str, str]], state_of: Callable[[os.stat_result], str]
) -> bool:
    """Return whether places below a folder have the states that are remembered; raises OSError where one is gone."""
    return all(state_of(os.stat(f"{path}/{place}")) == state for place, state in remembered)
