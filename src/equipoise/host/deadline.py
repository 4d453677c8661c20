"""Giving an evaluation up: it asks between two chunks whether its time is over, or a signal has come."""

import time
from collections.abc import Callable


class Abandoned(Exception):
    """An evaluation was given up because a signal came; nothing of it was taken in, and a resume takes it again."""


class Deadline:
    """The time by which something must be done; `check` is called between its chunks."""

    def __init__(self, seconds: float, is_abandoned: Callable[[], bool] = lambda: False) -> None:
        self._seconds = seconds
        self._end = time.monotonic() + seconds
        self._is_abandoned = is_abandoned

    def check(self) -> None:
        """Raise Abandoned for a signal, TimeoutError once the time is over."""
        if self._is_abandoned():
            raise Abandoned
        if time.monotonic() > self._end:
            raise TimeoutError(f"not finished within {self._seconds:g} s")
