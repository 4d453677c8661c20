"""Signals: Ctrl-C and SIGTERM ask for a stop at the end of the step; a second Ctrl-C leaves at once."""

import signal
import threading
from types import FrameType

from equipoise.watch.stopping import Stop


class Interruption:
    """While entered, SIGINT and SIGTERM set a flag that the loop reads once a step."""

    def __init__(self) -> None:
        self.requested: str | None = None
        self._previous: dict[int, object] = {}

    def verdict(self) -> Stop | None:
        """Return a stop if a signal came, else None."""
        if self.requested is None:
            return None
        return Stop("interrupted", f"You stopped it ({self.requested}); the run can go on with `equipoise resume`.")

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self.requested is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = signal.Signals(number).name
