"""Mistakes a user can make, told in one line: what was received, what is allowed, what to type."""

import difflib
import errno
import os
from collections.abc import Iterable


class UserError(Exception):
    """A mistake of the caller's that has a plain remedy; the command line shows it and exits with 2."""

    def __init__(self, message: str) -> None:
        """Keep the message on one line, whatever odd names it quotes."""
        super().__init__(" ".join(message.splitlines()))


class RunBusyError(UserError):
    """A second training in one run folder; the command line exits with 3."""


class StorageError(UserError):
    """What the disk did not take, or gave up, while something was being written; the command line exits with 4."""


def is_of_disk(error: OSError) -> bool:
    """Return whether it is the disk that fails, being full, over a quota or broken, and not a permission."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def what_failed(error: OSError, place: object = None) -> str:
    """Return in words what the disk or a permission did not allow, with its place where that is not told already."""
    reason, where = error.strerror or str(error), f" ({place})" if place else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"the disk is full{where}"
    if error.errno == errno.EFBIG and reason == os.strerror(errno.EFBIG):  # else what is read is too large
        return f"a file would be larger than this disk or `ulimit -f` allows{where}"
    return (f"{place}: " if place else "") + f"cannot be read or written ({reason})"


def suggestion(word: str, allowed: Iterable[str]) -> str:
    """Return ` Did you mean "…"?` for the nearest allowed word, or an empty string."""
    near = difflib.get_close_matches(word, list(allowed), n=1, cutoff=0.6)
    return f' Did you mean "{near[0]}"?' if near else ""


def listed(words: Iterable[str]) -> str:
    """Join words for a sentence: `a, b or c`."""
    words = list(words)
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
