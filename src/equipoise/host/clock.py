"""The training clock: monotonic, going on from where an earlier session of the run ended."""

import time

from equipoise.recipe import Budget

WARM_ROUNDS = 3  # the first rounds allocate and compile; they are not measured
WARM_SECONDS = 2.0
SHARE = 20  # of a short budget, one part in so many is enough to measure


class Clock:
    """Tells the seconds of training so far, and the speed since the warm-up and since the last lap."""

    def __init__(self, seconds: float, samples: int) -> None:
        self._begin = time.monotonic() - seconds
        self._lap = (self.seconds(), samples)
        self._warm: tuple[float, int] | None = None
        self._rounds = 0

    def seconds(self) -> float:
        """Return the seconds of training so far."""
        return time.monotonic() - self._begin

    def lap(self, samples: int) -> float:
        """Return the samples a second since the last lap."""
        now = self.seconds()
        then, before = self._lap
        self._lap = (now, samples)
        return (samples - before) / max(now - then, 1e-9)

    def is_warm(self, samples: int, budget: Budget) -> bool:
        """Return whether enough rounds have been timed to know this machine's speed; call it once a round."""
        self._rounds += 1
        if self._rounds == WARM_ROUNDS:
            self._warm = (self.seconds(), samples)
        if budget.samples is not None and samples * SHARE >= budget.samples:
            return True
        if budget.seconds is not None and self.seconds() * SHARE >= budget.seconds:
            return True
        if self._warm is None or self._rounds < 2 * WARM_ROUNDS:
            return False
        return self.seconds() - self._warm[0] >= WARM_SECONDS

    def speed(self, samples: int) -> float:
        """Return the samples a second since the warm-up, or since the start where nothing was trained since."""
        then, before = self._warm or (0.0, 0)
        if samples <= before:
            then, before = 0.0, 0
        return (samples - before) / max(self.seconds() - then, 1e-9)
