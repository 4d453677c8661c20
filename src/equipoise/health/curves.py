"""The curves of a condition, of a sick game beside a healthy one, as `equipoise explain` draws them in letters."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CURVES = Path(__file__).with_name("curves.json")  # written by bench/doctor_pages.py
BARS = "▁▂▃▄▅▆▇█"
PLAIN_BARS = ".:-=+*#%"  # where a terminal has no others
WIDTH = 48
LABELS = {  # of curves whose names in the log say little
    "spread": "spread of a generated batch, 1: as of a real one",
    "nearest": "distance to the nearest in a batch, 1: as in a real one",
    "real_logit": "the discriminator's answer, real samples",
    "fake_logit": "the discriminator's answer, generated samples",
    "discriminator_gap": "overfitting of the discriminator, 1: it has memorised",
    "copying": "C_T, far below 0: copies",
    "augmentation_leak": "distance to augmented minus real images, in standard errors",
    "raw": "score of the raw generator",
}
SPAN = 50.0  # times the least value, from which a scale is logarithmic


@dataclass(frozen=True)
class Pair:
    """One number of a sick game and of a healthy one, over time; None where it could not be taken."""

    sick: list[float | None]
    healthy: list[float | None]
    sick_samples: list[int] = field(default_factory=list)  # at which each value was taken
    healthy_samples: list[int] = field(default_factory=list)

    @property
    def finite(self) -> list[float]:
        """All values of both."""
        return [value for value in (*self.sick, *self.healthy) if value is not None and math.isfinite(value)]

    def shares(self, values: Sequence[float | None]) -> list[float | None]:
        """Return values as shares of the way from the least of both to the greatest."""
        low, high = span(self)
        if is_logarithmic(self):
            return [None if value is None else _way(math.log(value), math.log(low), math.log(high)) for value in values]
        return [None if value is None else _way(value, low, high) for value in values]


def _way(value: float, low: float, high: float) -> float:
    return (value - low) / (high - low) if high > low else 0.5


def span(pair: Pair) -> tuple[float, float]:
    """Return the least and the greatest value of both games."""
    return min(pair.finite), max(pair.finite)


def is_logarithmic(pair: Pair) -> bool:
    """Return whether values lie so far apart that only their size can be shown."""
    low, high = span(pair)
    return low > 0 and high / low > SPAN


def bars(pair: Pair, values: Sequence[float | None], letters: str = BARS, width: int = WIDTH) -> str:
    """Return a curve as a line of bars, a blank where there is no value."""
    shares = pair.shares(values)
    chosen = [shares[place * len(shares) // width] for place in range(width)]
    return "".join(
        " " if share is None else letters[min(len(letters) - 1, int(share * len(letters)))] for share in chosen
    )


def curves_of(subject: str) -> dict[str, Pair]:
    """Return the curves of a condition by their names, none where no game shows it."""
    found: dict[str, Any] = json.loads(CURVES.read_text("utf-8"))["curves"].get(subject, {})
    return {name: Pair(**pair) for name, pair in found.items()}


def games_of(subject: str) -> dict[str, str]:
    """Return the names of the sick game and of the healthy one of which the curves are; none where there are none."""
    return json.loads(CURVES.read_text("utf-8"))["games"].get(subject, {})


def label_of(name: str) -> str:
    """Return a curve's name in words."""
    return LABELS.get(name, name.replace("_", " "))
