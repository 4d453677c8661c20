"""Mistakes a user can make, told in one line: what was received, what is allowed, what to type."""

import difflib
import errno
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


def suggestion(word: str, allowed: Iterable[str]) -> str:
    """Return ` Did you mean "…"?` for the nearest allowed word, or an empty string."""
    near = difflib.get_close_matches(word, list(allowed), n=1, cutoff=0.6)
    return f' Did you mean "{near[0]}"?' if near else ""


def listed(words: Iterable[str]) -> str:
    """Join words for a sentence: `a, b or c`."""
    words = list(words)
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
