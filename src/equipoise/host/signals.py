"""Signals of the system: Ctrl-C, SIGTERM and a closed terminal ask for a stop; a second Ctrl-C leaves at once."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from equipoise.stopping.verdicts import Stop

ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def leaving_in_order() -> Iterator[None]:
    """While entered, SIGTERM and a closed terminal raise KeyboardInterrupt as Ctrl-C does: what is begun is cleared up.

    For everything but the training, which has an `Interruption` of its own. Only the main thread hears signals.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.signal(number, _leave) for number in ASKING[1:] if not _is_ignored(number)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _leave(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _is_ignored(number: int) -> bool:
    """Return whether somebody wants this signal ignored, as nohup does with SIGHUP."""
    return number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN


class Interruption:
    """While entered, these signals set a flag, which the loop reads once a round and an evaluation once a chunk."""

    def __init__(self) -> None:
        self.requested: str | None = None
        self._previous: dict[int, object] = {}
        self._is_heeded = False

    def verdict(self) -> "Stop | None":
        """Return a stop if a signal came, else None."""
        if self.requested is None:
            return None
        from equipoise.stopping.verdicts import Stop  # every command comes through this module, and few need that one

        return Stop("interrupted", f"Interrupted ({self.requested}).")

    def heed(self) -> None:
        """Say that the loop ends for the signal, so that nothing more needs to be done about it."""
        self._is_heeded = True

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            for number in ASKING:
                if not _is_ignored(number):
                    self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for number, handler in self._previous.items():
            if handler is not None:  # one that was not set from Python, which cannot be put back from there
                signal.signal(number, handler)  # type: ignore[arg-type]
        if kind is None and self.requested is not None and not self._is_heeded:
            raise KeyboardInterrupt  # it came too late for a verdict: what follows the training must not begin

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.requested is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = signal.Signals(number).name
