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
UNUSUAL = {1.0: 1 / 255, 255.0: 8 / 255, HIGHEST[-1]: 0.125}  # shares of a bound, below which a set is not of it
MUCH_DARKER = 1 / 64  # share of the range, up to which images among others are of another one
OF_SEVERAL = 0.01  # share of the images, from which such ones are said
CLIPPED = 0.01
NUM_KEPT = 4_096  # pixels of an image by which a set's range is found
NUM_LOOKED_AT = 1_000  # images of an array by which its range is found
MANY_DIGITS = 1e12  # from which on a number is not written out
PART = 2**22  # values converted at once


@dataclass(frozen=True)
class Scale:
    """Which pixel values become black (0) and white (255)."""

    low: float
    high: float

    def to_uint8(self, values: np.ndarray) -> np.ndarray:
        """Return values on this scale as uint8, clipped."""
        scaled = (values.astype(np.float64) - self.low) / (self.high - self.low)
        return np.rint(scaled.clip(0, 1) * 255).astype(np.uint8)


SIGNED = Scale(-1.0, 1.0)
CONVENTIONS = ((0.0, 1.0), (-1.0, 1.0), (0.0, 255.0), (0.0, 65535.0))  # one set of images may be saved in each of them
NO_RINGING = -0.05  # below it values of [0, 1] are not what resampling leaves a little outside
ROUNDING = 1e-3


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
    if 0 < most <= UNUSUAL.get(bound, 0.0) * bound:
        bound = most  # no usual bound is near
    found = (0.0, bound)
    if lower < 0 and bound == HIGHEST[0] and least >= -1 - LITTLE:
        found = (-1.0, 1.0)
    elif lower < 0 or least < -LITTLE * bound or (NARROW * bound < least < most):
        found = (least, most if most > least else least + 1.0)  # a constant one has a scale, too
    chosen = Scale(found[0] if low is None else low, found[1] if high is None else high)
    if chosen.high <= chosen.low:
        given = Setting("task.white", high) if high is not None else Setting("task.black", low)
        problem = f"white must be above black, and they are {chosen.high:g} and {chosen.low:g}"
        raise UserError(given, problem, f"The values are {least:g} to {most:g}")
    return chosen


def _shown(value: float) -> str:
    is_plain = float(value).is_integer() and abs(value) < MANY_DIGITS
    return f"{value:,.0f}" if is_plain else f"{value:,.4g}"


def notes_of(scale: Scale, samples: Sequence[np.ndarray]) -> list[str]:
    """Say what becomes of the values, and what looks wrong about that; nothing where no values are known."""
    if not any(len(sample) for sample in samples):
        return []
    found = f"pixel values {_shown(scale.low)} to {_shown(scale.high)} become 0 to 255"
    doubts = _doubts(scale, samples, "with task.white={most:.6g} {better}")
    doubts = doubts or _dark_among_others(scale, samples) or _doubts_of_contrast(scale, samples)
    return [found, *doubts]


def _doubts_of_contrast(scale: Scale, samples: Sequence[np.ndarray]) -> list[str]:
    """Say where the values take up little of the scale: a few bright pixels decide it, or both ends are unused."""
    values = np.concatenate([*samples, np.zeros(0)])
    if not len(values):
        return []
    span = scale.high - scale.low
    least, upper, most = np.quantile(values, [QUANTILE, 1 - BEYOND, 1 - QUANTILE]).tolist()
    if 0 < upper - scale.low <= NEARLY_BLACK * span:
        share = f"{1 - BEYOND:.0%} of the pixels are darker than {(upper - scale.low) / span:.2%} of that"
        return [f"{share}; with task.white={upper:.6g} they would not be nearly black"]
    if 0 < most - least <= DARK * span:
        used = f"the values take up {(most - least) / span:.0%} of that"
        return [f"{used}; with task.black={least:.6g} and task.white={most:.6g} all of it is used"]
    return []


def doubts_of_bytes(samples: Sequence[np.ndarray]) -> list[str]:
    """Say what looks wrong about values that are 0 to 255 as they are, and on which task.white has no effect."""
    return _doubts(Scale(0.0, 255.0), samples, "multiplied by {factor:.3g} {better}")


def _dark_among_others(scale: Scale, samples: Sequence[np.ndarray]) -> list[str]:
    """Say where some images are nearly black on the scale that others need: saved in another range, it seems."""
    span = scale.high - scale.low
    ranges = [(float(sample.min()), float(sample.max())) for sample in samples if len(sample)]
    dark = [most for least, most in ranges if least < most and 0 <= most - scale.low <= MUCH_DARKER * span]
    if not max(1, OF_SEVERAL * len(ranges)) <= len(dark) < len(ranges):
        return []
    which = f"{len(dark):,} of {len(ranges):,} images"
    return [f"{which} are nearly black then, up to {_shown(max(dark))} alone: are they saved in another range?"]


def _doubts(scale: Scale, samples: Sequence[np.ndarray], remedy: str) -> list[str]:
    values = np.concatenate([*samples, np.zeros(0)])
    if not len(values):
        return []
    span = scale.high - scale.low
    most = float(np.quantile(values, 1 - QUANTILE))
    clipped = float(((values < scale.low) | (values > scale.high)).mean())
    brightest = (most - scale.low) / span
    factor = 1.0 / brightest if brightest > 0 else 1.0
    notes = []
    if clipped > CLIPPED:
        notes.append(f"{clipped:.0%} of the pixels lie outside and are clipped")
    if brightest <= 0:
        notes.append("the images are black then: no value is brighter")
    elif brightest <= NEARLY_BLACK:
        better = remedy.format(most=most, factor=factor, better="they would not be")
        notes.append(f"the images are nearly black then: nothing is brighter than {most:.6g}; {better}")
    elif brightest < DARK:
        better = remedy.format(most=most, factor=factor, better="all of it is used")
        notes.append(f"nothing is brighter than {brightest:.0%} of that; {better}")
    return notes


def scale_of_array(
    images: np.ndarray, low: float | None = None, high: float | None = None
) -> tuple[Scale | None, list[str]]:
    """Return the scale of images `[N, …]` of finite numbers, and what is to be said of it; raises UserError.

    It is None where they are 0 to 255 as they are: uint8, and whole numbers within it unless another scale is given.
    """
    is_given = low is not None or high is not None
    some = np.unique(np.linspace(0, len(images) - 1, min(len(images), NUM_LOOKED_AT)).astype(np.int64))
    samples = [some_of(images[index]) for index in some.tolist()]
    if images.dtype == np.uint8:
        without = ["task.black and task.white have no effect: the values are 0 to 255 already"] if is_given else []
        return None, [*without, *doubts_of_bytes(samples)]
    if images.dtype == np.bool_:
        return Scale(0.0, 1.0), []
    if images.dtype.kind in "iu" and not is_given and len(images) and images.min() >= 0 and 1 < images.max() <= 255:
        return None, _doubts(Scale(0.0, 255.0), samples, "with task.white={most:.6g} {better}")
    if not is_given and images.dtype.kind == "f" and len(images) and images.max() <= SIGNED.high + ROUNDING:
        least = images.min()
        if SIGNED.low - ROUNDING <= least < NO_RINGING:  # arrays of floats are [0, 1] or [-1, 1] by convention
            return SIGNED, notes_of(SIGNED, samples)
    scale = scale_of(samples, low, high)
    return scale, notes_of(scale, samples)


def array_to_uint8(images: np.ndarray, scale: Scale | None) -> np.ndarray:
    """Return images `[N, …]` as uint8 on a scale; without one they are 0 to 255 as they are."""
    if scale is None:
        return images.astype(np.uint8, copy=False)
    found = np.empty(images.shape, np.uint8)
    part = max(1, PART // max(1, math.prod(images.shape[1:])))
    for begin in range(0, len(images), part):
        found[begin : begin + part] = scale.to_uint8(images[begin : begin + part])
    return found
