"""Signals: Ctrl-C, SIGTERM, a closed terminal ask for a stop at the end of the step; a second Ctrl-C leaves at once."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from equipoise.stopping.policies import Stop


class Abandoned(BaseException):
    """A look at the generator was given up because a signal came; nothing of it was taken in.

    No Exception, so that nothing that judges can take it for a failure of its own.
    """


class _Late(BaseException):
    """A look takes too long; no Exception either, or what judges could swallow it."""


ASKING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def leaving_in_order() -> Iterator[None]:
    """While entered, SIGTERM and a closed terminal raise KeyboardInterrupt as Ctrl-C does: what is begun is cleared up.

    For all that is no training, which has an `Interruption` of its own. Only the main thread hears signals.
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


@contextlib.contextmanager
def given_up_after(timeout: float) -> Iterator[None]:
    """Give up what is done inside after some seconds, as a TimeoutError, or for a signal, as a KeyboardInterrupt."""
    with Interruption() as interruption, contextlib.suppress(Abandoned), interruption.look(timeout):
        yield


class Interruption:
    """While entered, these signals set a flag that the loop reads once a step; looks are given up for them."""

    def __init__(self) -> None:
        self.requested: str | None = None
        self._previous: dict[int, object] = {}
        self._is_looking = False
        self._is_late = False
        self._is_told = False

    def verdict(self) -> "Stop | None":
        """Return a stop if a signal came, else None."""
        if self.requested is None:
            return None
        from equipoise.stopping.policies import Stop  # every command comes through this module, and few need that one

        self._is_told = True
        return Stop("interrupted", f"You stopped it ({self.requested}); the run can go on with `equipoise resume`.")

    @contextlib.contextmanager
    def look(self, timeout: float) -> Iterator[None]:
        """Give up what is done inside when a signal comes, or after `timeout` seconds.

        Raises Abandoned or TimeoutError, so nothing may change inside until all is through. Only the main thread
        hears signals; elsewhere nothing is given up. What hangs in compiled code is reached when that returns.
        """
        if self.requested is not None:
            raise Abandoned
        if not self._previous:
            yield
            return
        timer = threading.Timer(min(timeout, threading.TIMEOUT_MAX), self._ring, (threading.get_ident(),))
        timer.daemon = True
        try:
            self._is_late, self._is_looking = False, True
            if self.requested is not None:  # it came an instant ago, when nothing was looking yet
                raise Abandoned
            timer.start()
            yield
        except _Late:
            raise TimeoutError(f"no score within {timeout:g} s") from None
        finally:
            self._is_looking = False
            timer.cancel()

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            for number in ASKING:
                if not _is_ignored(number):
                    self._previous[number] = signal.signal(number, self._handle)
            self._previous[signal.SIGALRM] = signal.signal(signal.SIGALRM, self._alarm)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for number, handler in self._previous.items():
            if handler is not None:  # one that was not set from Python, which cannot be put back from there
                signal.signal(number, handler)  # type: ignore[arg-type]
        if kind is None and self.requested is not None and not self._is_told:
            raise KeyboardInterrupt  # it came too late for a verdict: what follows the training must not begin

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.requested is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = signal.Signals(number).name
        if self._is_looking:
            self._is_looking = False  # once: a second SIGTERM must not break into what ends the look
            raise Abandoned

    def _ring(self, thread: int) -> None:
        if self._is_looking:
            self._is_late = True
            signal.pthread_kill(thread, signal.SIGALRM)  # a signal also ends waiting for a disk or a network

    def _alarm(self, number: int, frame: FrameType | None) -> None:
        previous = self._previous[signal.SIGALRM]
        if self._is_late:
            self._is_late = False  # or alarms that somebody else sets would be lost after this look
            if self._is_looking:
                self._is_looking = False
                raise _Late
        elif callable(previous):  # an alarm that somebody else has set
            previous(number, frame)
