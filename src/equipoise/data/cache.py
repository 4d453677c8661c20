"""The folder for prepared data: where it is, and what is told when it cannot be written. Needs no torch."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from equipoise.errors import StorageError, UserError, is_of_disk

REMEDY = "Try: set EQUIPOISE_CACHE to a folder with space that you can write to"


def default_cache() -> Path:
    """Return the folder for prepared data: $EQUIPOISE_CACHE, else `equipoise` in the user's cache folder.

    Raises UserError where nobody knows of any such folder.
    """
    try:
        if chosen := os.environ.get("EQUIPOISE_CACHE"):
            return Path(chosen).expanduser()
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "equipoise"
    except RuntimeError:
        raise UserError(f"cache folder: it would lie in a home folder, and this user has none. {REMEDY}") from None


@contextlib.contextmanager
def writing_to(cache: Path) -> Iterator[None]:
    """Tell in one line that the cache cannot be written; raises StorageError for a full disk, else UserError."""
    try:
        yield
    except OSError as error:
        kind = StorageError if is_of_disk(error) else UserError
        raise kind(f'cache folder "{cache}": cannot be written ({error.strerror or error}). {REMEDY}') from None


def refuse_unusable(cache: Path) -> None:
    """Raise UserError where the cache holds nothing and cannot be written; one that holds data may be read-only."""
    with writing_to(cache):
        above = cache.absolute()
        while not above.exists():
            above = above.parent
        if not above.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        is_effective = os.access in os.supports_effective_ids
        if not os.access(above, os.W_OK | os.X_OK, effective_ids=is_effective) and not (cache / "pools").is_dir():
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
