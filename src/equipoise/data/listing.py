"""What a source is: images listed under names, each to be read by its place, and a fingerprint that follows them."""

import errno
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from equipoise.data.decode import BrokenImage
from equipoise.data.several import Sets
from equipoise.storage.safe_open import open_regular

SUFFIXES = frozenset(
    f".{name}"
    for name in "png jpg jpeg jpe jfif webp gif bmp dib tif tiff ppm pgm pbm pnm".split()  # noqa: SIM905
)
MAX_FILE_BYTES = 2**28  # 256 MiB a file, encoded


@dataclass(frozen=True)
class Numbered(Sequence[str]):
    """The names of images that have none, such as row 0, row 1, …: they take no memory."""

    kind: str
    num: int

    def __len__(self) -> int:
        """Return how many there are."""
        return self.num

    def __getitem__(self, place: Any) -> Any:
        """Return a name, or several; raises IndexError."""
        found = range(self.num)[place]
        return f"{self.kind} {found}" if isinstance(found, int) else [f"{self.kind} {one}" for one in found]


@dataclass(frozen=True)
class SourceImages:
    """The images of a source: `read(index)` gives an encoded file or an array [H, W, C], or raises BrokenImage."""

    names: Sequence[str]
    read: Callable[[int], bytes | np.ndarray]
    labels: np.ndarray | None = None  # int64 [N]
    classes: tuple[str, ...] = ()
    sets: Sets = ()  # of several labels an image the combinations, which `labels` are places of then
    num_skipped: int = 0  # files ignored because of their names
    array: np.ndarray | None = None  # all images at once, [N, H, W, C], where they lie in memory; `reading` scales them
    skipped: Mapping[str, int] = field(default_factory=dict)  # what was ignored, by suffix or by why
    notes: tuple[str, ...] = ()  # what was inferred


@dataclass(frozen=True, eq=False)
class Found:
    """What a look at a source has found."""

    fingerprint: str  # changes with the images
    load: Callable[[], SourceImages]
    stamp: str  # as that of the source


@dataclass(frozen=True, eq=False)
class Source:
    """A source that exists. Where its stamp is that of an earlier look, nothing has changed, and no look is needed."""

    name: str
    stamp: str  # changes with the images, and with files that are none
    look: Callable[[], Found]  # raises UserError

    @cached_property
    def found(self) -> Found:
        """What there is, looked at once; raises UserError."""
        return self.look()

    @property
    def fingerprint(self) -> str:
        """A text that changes with the images; raises UserError."""
        return self.found.fingerprint

    def load(self) -> SourceImages:
        """List the images; raises UserError."""
        return self.found.load()


def source_of(name: str, fingerprint: str, load: Callable[[], SourceImages]) -> Source:
    """Return a source whose fingerprint is known without a look."""
    return Source(name, fingerprint, lambda: Found(fingerprint, load, fingerprint))


def first_line(error: Exception) -> str:
    """Return what a library says of its failure, in a line."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]


def is_hidden(name: str) -> bool:
    """Return whether a file, or a folder around it, is hidden, or is what a Mac adds to archives."""
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def subject_of(source: str) -> str:
    """Return how messages name a source."""
    return f'source "{source}"'


def capped(content: bytes) -> bytes:
    """Return an encoded image; raises BrokenImage for one that is too large."""
    if len(content) > MAX_FILE_BYTES:
        raise BrokenImage(f"too large: more than {MAX_FILE_BYTES >> 20} MiB")
    return content


def read_file_in(folder: Path, name: str) -> bytes:
    """Return an encoded image; raises BrokenImage where its file cannot be read."""
    try:
        with open_regular(folder / name) as file:
            return capped(file.read(MAX_FILE_BYTES + 1))
    except OSError as error:
        raise BrokenImage(_unreadable(error)) from None


def _unreadable(error: OSError) -> str:
    match error.errno:
        case errno.ENOENT:
            return "a link that points nowhere, or a file that is gone"
        case errno.ELOOP:
            return "a link that leads back to itself"
        case errno.EACCES | errno.EPERM:
            return "no permission to read it"
        case errno.ENOTSUP | errno.ENXIO:
            return "not a file but a pipe, a socket or a device"
        case _:
            return f"cannot be read ({error.strerror})"
