"""The folder for prepared data: where it is, and what is said when it cannot be written. Needs no torch."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from equipoise.errors import StorageError, UserError, is_of_disk

REMEDY = "Set EQUIPOISE_CACHE to a folder with space that you can write to"


def default_cache() -> Path:
    """Return the folder for prepared data: $EQUIPOISE_CACHE, else `equipoise` in the user's cache folder.

    Raises UserError where nobody knows of any such folder.
    """
    try:
        if chosen := os.environ.get("EQUIPOISE_CACHE"):
            return Path(chosen).expanduser()
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "equipoise"
    except RuntimeError:
        problem = "it would be in the home folder, and this user has none"
        raise UserError("cache folder", problem, REMEDY) from None


@contextlib.contextmanager
def writing_to(cache: Path) -> Iterator[None]:
    """Turn OSError into one line on the cache: StorageError for a full or failing disk, else UserError."""
    try:
        yield
    except OSError as error:
        kind = StorageError if is_of_disk(error) else UserError
        problem = f"cannot be written ({error.strerror or error})"
        raise kind(f'cache folder "{cache}"', problem, REMEDY) from None


def refuse_unusable(cache: Path) -> None:
    """Raise UserError where the cache is empty and cannot be written; one that holds data may be read-only."""
    with writing_to(cache):
        above = cache.absolute()
        while not above.exists():
            above = above.parent
        if not above.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        is_effective = os.access in os.supports_effective_ids
        is_writable = os.access(above, os.W_OK | os.X_OK, effective_ids=is_effective)
        if not is_writable and not (cache / "pools").is_dir():
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
