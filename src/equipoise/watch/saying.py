"""Lines on how a training goes, for whoever reads them: what is wrong with where they go never ends a training."""

import os
import select
import sys
from collections.abc import Callable

from equipoise.watch.raised import is_for_the_loop

PATIENCE = 200  # milliseconds that a full pipe is waited for
PLAIN = str.maketrans({"·": "-", "…": "...", "×": "x", "−": "-", "–": "-", "—": "-", "±": "+-"})

Say = Callable[[str], None]


def said(say: Say, text: str) -> str | None:
    """Give a line to `say`, in plain letters where others cannot be shown; return why that failed, None if it did not.

    Whatever `say` raises is returned, but not what is meant for the loop.
    """
    try:
        try:
            _give(say, text)
        except UnicodeError:
            _give(say, text.translate(PLAIN).encode("ascii", "replace").decode())
    except BaseException as error:
        if is_for_the_loop(error):
            raise
        return in_words(error)
    return None


def in_words(error: BaseException) -> str:
    """Return the kind of an error with its reason, as far as it can be told, in one line."""
    try:
        reason = " ".join(str(error).split())
    except Exception:  # an error of somebody else's, which cannot even be printed
        reason = ""
    return f"{type(error).__name__}: {reason}" if reason else type(error).__name__


def _give(say: Say, text: str) -> None:
    """Call `say`. `print` to the standard output is done without its buffer, and never waits for a reader.

    What a buffer cannot give away would fail again when Python ends, and change its exit status.
    """
    out = sys.stdout
    if say is not print or out is None or out is not sys.__stdout__:
        say(text)
        return
    line = f"{text}\n".encode(out.encoding or "utf-8", out.errors or "strict")
    target = out.fileno()
    waiting = select.poll()
    waiting.register(target, select.POLLOUT)
    if not waiting.poll(PATIENCE):
        raise TimeoutError("nobody reads the standard output")
    out.flush()  # what the loop has printed comes first
    while line:
        line = line[os.write(target, line) :]
