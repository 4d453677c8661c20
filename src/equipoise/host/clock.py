"""The training clock: monotonic, going on from where an earlier session of the run ended."""

import statistics
import time
from collections import deque

from equipoise.recipe import Budget

WARM_ROUNDS = 3  # the first rounds allocate and compile; they are not measured
WARM_SECONDS = 2.0
SHARE = 20  # of a short budget, one part in so many is enough to measure
LEAST_LAPS = 5  # from which the present speed is told
MOST_LAPS = 15
LAP_SECONDS = 0.5  # of training that such a lap takes at least: shorter ones are put together


class Clock:
    """Tells the seconds of training so far, and the speed since the warm-up, in the last lap and in the last few."""

    def __init__(self, seconds: float, samples: int) -> None:
        self._begin = time.monotonic() - seconds
        self._lap = (self.seconds(), samples)
        self._laps: deque[float] = deque(maxlen=MOST_LAPS)
        self._open = (0.0, 0)  # seconds and samples that are not yet a lap of these
        self.last_lap = (0, 0.0)  # samples and seconds of training
        self._apart = 0.0  # seconds of the present lap that went into something else
        self._warm: tuple[float, int] | None = None
        self._rounds = 0

    def seconds(self) -> float:
        """Return the seconds of training so far."""
        return time.monotonic() - self._begin

    def lap(self, samples: int) -> float:
        """Return the samples a second of training since the last lap."""
        num, seconds = self.since_lap(samples)
        seconds = max(seconds, 1e-9)
        self._lap = (self.seconds(), samples)
        self.last_lap = (num, seconds)
        self._apart = 0.0
        self._open = (self._open[0] + seconds, self._open[1] + num)
        if self._open[0] >= LAP_SECONDS:
            self._laps.append(self._open[1] / self._open[0])
            self._open = (0.0, 0)
        return num / seconds

    def since_lap(self, samples: int) -> tuple[int, float]:
        """Return the samples and the seconds of training since the last lap."""
        then, before = self._lap
        return samples - before, self.seconds() - then - self._apart

    def set_apart(self, seconds: float) -> None:
        """Count seconds of the present lap as something else than training, such as an evaluation."""
        self._apart += seconds

    def present_speed(self) -> float | None:
        """Return the median speed of the last laps, None while there are too few of them."""
        if len(self._laps) < LEAST_LAPS:
            return None
        return statistics.median(self._laps)

    def latest_speed(self) -> float | None:
        """Return the median speed of the very last laps, None while there are too few of them."""
        if len(self._laps) < LEAST_LAPS:
            return None
        return statistics.median(list(self._laps)[-LEAST_LAPS:])

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
