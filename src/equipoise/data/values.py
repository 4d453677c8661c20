"""Pixel values of deep images (more than 8 bits, or floats) on one scale for a whole set, and in words which."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from equipoise.errors import Setting, UserError

HIGHEST = (1.0, 255.0, 1023.0, 4095.0, 16383.0, 65535.0, 2.0**31 - 1)  # of floats, and of 8, 10, 12, 14, 16, 32 bits
QUANTILE = 1e-4  # of pixels that may lie far outside: single hot ones shall not decide
BEYOND = 0.01  # of pixels that may lie a little outside, as after sharpening
LITTLE = 0.25  # of the range
NARROW = 0.2  # a set that begins above this share of its range has a range of its own
DARK = 0.5  # share of the range; where nothing is brighter, contrast is lost
NEARLY_BLACK = 0.125
CLIPPED = 0.01
NUM_KEPT = 4_096  # pixels of an image by which a set's range is found


@dataclass(frozen=True)
class Scale:
    """Which pixel values become black (0) and white (255)."""

    low: float
    high: float

    def to_uint8(self, values: np.ndarray) -> np.ndarray:
        """Return values on this scale as uint8, clipped."""
        scaled = (values.astype(np.float64) - self.low) / (self.high - self.low)
        return np.rint(scaled.clip(0, 1) * 255).astype(np.uint8)


def some_of(values: np.ndarray) -> np.ndarray:
    """Return at most 4,096 values of an image, spread evenly over it; none where they are not all finite."""
    flat = values.reshape(-1)
    if not np.isfinite(flat).all():
        return flat[:0]
    step = max(1, math.ceil(len(flat) / NUM_KEPT))
    return flat[::step].astype(np.float64)


def scale_of(samples: Sequence[np.ndarray], low: float | None = None, high: float | None = None) -> Scale:
    """Return the scale of a set from values of its images; what is given is kept.

    From 0 to the least usual bound that holds all but the outermost pixels (1, 255, 4,095, 65,535, …), from −1 to 1, or
    where the values take up a small part of such a range, their own. Raises UserError where white is not above black.
    """
    values = np.concatenate([*samples, np.zeros(0)])
    if not len(values):
        values = np.array([0.0, 255.0])
    least, lower, upper, most = np.quantile(values, [QUANTILE, BEYOND, 1 - BEYOND, 1 - QUANTILE]).tolist()
    bound = next((bound for bound in HIGHEST if upper <= bound and most <= (1 + LITTLE) * bound), most)
    found = (0.0, bound)
    if lower < 0 and bound == HIGHEST[0] and least >= -1 - LITTLE:
        found = (-1.0, 1.0)
    elif lower < 0 or least < -LITTLE * bound or (NARROW * bound < least < most):
        found = (least, most)
    chosen = Scale(found[0] if low is None else low, found[1] if high is None else high)
    if chosen.high <= chosen.low:
        given = Setting("task.white", high) if high is not None else Setting("task.black", low)
        problem = f"white must be above black, and they are {chosen.high:g} and {chosen.low:g}"
        raise UserError(given, problem, f"The values are {least:g} to {most:g}")
    return chosen


def notes_of(scale: Scale, samples: Sequence[np.ndarray]) -> list[str]:
    """Say what becomes of the values, and what looks wrong about that."""
    notes = [f"pixel values {scale.low:,.10g} to {scale.high:,.10g} become 0 to 255"]
    values = np.concatenate([*samples, np.zeros(0)])
    if not len(values):
        return notes
    span = scale.high - scale.low
    most = float(np.quantile(values, 1 - QUANTILE))
    clipped = float(((values < scale.low) | (values > scale.high)).mean())
    brightest = (most - scale.low) / span
    if clipped > CLIPPED:
        notes.append(f"{clipped:.0%} of the pixels lie outside and are clipped")
    if brightest <= NEARLY_BLACK:
        notes.append(f"the images are nearly black then; with --set task.white={most:.6g} they would not be")
    elif brightest < DARK:
        notes.append(f"nothing is brighter than {brightest:.0%} of that; --set task.white={most:.6g} uses all of it")
    return notes
