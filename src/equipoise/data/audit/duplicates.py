"""Near-duplicates: images that are one picture saved, scaled, cut or brightened a little differently.

Each image leaves a thumbnail. The signs of its low frequencies are 64 bits in which copies differ little:
sorted in several orders, copies come to stand close to each other, so only neighbours are compared and the
work grows with N log N. What two neighbours differ by must then be explained by another brightness and
contrast and a small shift and stretch, up to a small rest; two different digits of one writer are not.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from equipoise.data.channels import in_colour
from equipoise.data.pool import to_float, to_uint8

SIDE = 16  # pixels a side of a thumbnail
MAX_REST = 0.035  # of the contrast, root mean square, that a copy may differ by once it is aligned
MAX_SHIFT = 0.06  # of a side, that a copy may be moved by at its edges
MAX_GAIN = 1.2  # contrast of a copy against its original
MAX_TINT = 6.0  # grey levels that a channel's mean may move against the others
MIN_CONTRAST = 3.0  # grey levels, root mean square: below it there is nothing to recognise an image by

_FREQUENCIES = 8
_NUM_ORDERS = 16
_NUM_NEIGHBOURS = 16  # that stand next in an order and share its first bits
_MAX_BITS = 12  # of 63 that copies may differ in
_MAX_DISTANCE = 0.35  # of the contrast, before aligning
_CHUNK = 8_192
_GREY = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # the brightness that a JPEG keeps best
_BIT_COUNTS = np.array([index.bit_count() for index in range(256)], dtype=np.uint8)

Progress = Callable[[float], None]


@dataclass(frozen=True, eq=False)
class Sketches:
    """What is kept of images to compare them by: 268 bytes each."""

    thumbnails: np.ndarray  # uint8 [N, SIDE, SIDE]
    tints: np.ndarray  # float32 [N, 3], mean of each channel minus the mean of all


def sketched(images: np.ndarray) -> Sketches:
    """Return the sketches of images uint8 [N, C, H, W]."""
    if images.shape[1] not in (1, 3):
        images = to_uint8(in_colour(to_float(torch.from_numpy(images)))).numpy()
    values = images.astype(np.float32)
    means = values.mean((2, 3))
    tints = np.broadcast_to(means - means.mean(1, keepdims=True), (len(images), 3))
    is_grey = images.shape[1] == 1
    grey = values[:, 0] if is_grey else np.tensordot(values, _GREY, (1, 0))
    thumbnails = np.matmul(np.matmul(averaging(images.shape[2]), grey), averaging(images.shape[3]).T)
    return Sketches(np.rint(thumbnails).astype(np.uint8), np.ascontiguousarray(tints))


def joined(parts: list[Sketches]) -> Sketches:
    """Return the sketches of several parts as one."""
    if not parts:
        return Sketches(np.empty((0, SIDE, SIDE), np.uint8), np.empty((0, 3), np.float32))
    thumbnails = np.concatenate([part.thumbnails for part in parts])
    return Sketches(thumbnails, np.concatenate([part.tints for part in parts]))


def near_duplicates(sketches: Sketches, progress: Progress | None = None) -> np.ndarray:
    """Return pairs int64 [P, 2] of near-duplicates, first < second; flat images have none."""
    usable = np.flatnonzero(_contrast(sketches.thumbnails) >= MIN_CONTRAST)
    bits = _low_frequency_signs(sketches.thumbnails, usable)
    orders = np.random.default_rng(0)  # any will do; the same every time
    found = np.empty(0, np.int64)
    num = len(sketches.thumbnails)
    for index in range(_NUM_ORDERS):
        first, second = usable[_neighbours(bits, orders.permutation(63))]
        code = np.unique(np.minimum(first, second) * num + np.maximum(first, second))
        code = np.setdiff1d(code, found, assume_unique=True)
        found = np.union1d(found, _confirmed(sketches, code, num))
        if progress:
            progress((index + 1) / _NUM_ORDERS)
    return np.stack(np.divmod(found, max(1, num)), 1)


def groups(num: int, pairs: np.ndarray) -> list[list[int]]:
    """Return the groups that pairs [P, 2] of 0..num-1 join: rising, and ordered by their first."""
    parent = np.arange(num)

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = int(parent[index])
        return index

    members: dict[int, set[int]] = {}
    for first, second in pairs.tolist():
        low, high = sorted((root(first), root(second)))
        parent[high] = low
    for index in np.unique(pairs).tolist():
        members.setdefault(root(index), set()).add(index)
    return [sorted(members[index]) for index in sorted(members)]


def averaging(size: int, side: int = SIDE) -> np.ndarray:
    """Return the matrix [side, size] by which pixels become the means of equal shares of a side."""
    edges = np.arange(side + 1) * size / side
    pixels = np.arange(size)
    overlap = np.minimum(edges[1:, None], pixels + 1) - np.maximum(edges[:-1, None], pixels)
    return (overlap.clip(0) * side / size).astype(np.float32)


def _contrast(thumbnails: np.ndarray) -> np.ndarray:
    parts = [thumbnails[begin : begin + _CHUNK] for begin in range(0, len(thumbnails), _CHUNK)]
    return np.concatenate([np.empty(0, np.float32), *(part.std((1, 2), dtype=np.float32) for part in parts)])


def _low_frequency_signs(thumbnails: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Return uint8 [n, 8]: for 63 frequencies whether each is above their median, the last bit zero."""
    middles = (np.arange(SIDE) + 0.5) / SIDE
    waves = np.cos(np.pi * np.arange(_FREQUENCIES)[:, None] * middles).astype(np.float32)
    packed = np.zeros((len(chosen), 8), np.uint8)
    for begin in range(0, len(chosen), _CHUNK):
        part = thumbnails[chosen[begin : begin + _CHUNK]].astype(np.float32)
        strengths = np.matmul(np.matmul(waves, part), waves.T).reshape(len(part), -1)[:, 1:]
        is_above = strengths > np.median(strengths, 1, keepdims=True)
        packed[begin : begin + _CHUNK] = np.packbits(is_above, axis=1)
    return packed


def _neighbours(bits: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Return pairs [2, P] that are close in one order of the bits: equal in the first, alike in most."""
    num = len(bits)
    ordered = np.empty((num, 8), np.uint8)
    for begin in range(0, num, _CHUNK):
        unpacked = np.unpackbits(bits[begin : begin + _CHUNK], axis=1)[:, :63]
        ordered[begin : begin + _CHUNK] = np.packbits(unpacked[:, order], axis=1)
    keys = ordered.view(">u8").ravel().astype(np.uint64)
    standing = np.argsort(keys)
    prefixes = keys[standing] >> np.uint64(max(0, 64 - max(8, num.bit_length())))  # about one image to each
    pairs = []
    for distance in range(1, _NUM_NEIGHBOURS + 1):
        places = np.flatnonzero(prefixes[distance:] == prefixes[:-distance])
        pair = np.stack([standing[places], standing[places + distance]])
        close = _BIT_COUNTS[bits[pair[0]] ^ bits[pair[1]]].sum(1) <= _MAX_BITS
        pairs.append(pair[:, close])
    return np.concatenate(pairs, 1)


def _confirmed(sketches: Sketches, code: np.ndarray, num: int) -> np.ndarray:
    """Return those codes (first * num + second) whose images are near-duplicates."""
    kept = [np.empty(0, np.int64)]
    for begin in range(0, len(code), _CHUNK):
        part = code[begin : begin + _CHUNK]
        tinted = abs(sketches.tints[part // num] - sketches.tints[part % num]).max(1) <= MAX_TINT
        part = part[tinted]
        first = _centred(sketches.thumbnails[part // num])
        second = _centred(sketches.thumbnails[part % num])
        contrast = np.minimum(_strength(first), _strength(second))
        close = _strength(first - second) <= _MAX_DISTANCE * contrast
        kept.append(part[close][_is_explained(_smoothed(first[close]), _smoothed(second[close]))])
    return np.concatenate(kept)


def _is_explained(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return where `second` [n, S, S] is `first`, a little brightened, shifted and stretched.

    To first order a shift adds slopes, and a stretch adds slopes that grow from the middle outwards; the
    slopes are those of both images' mean, which makes the order second. Least squares finds how much of each.
    """
    rise, run = np.gradient((first + second) / 2, axis=(1, 2))
    middles = ((np.arange(SIDE) + 0.5) / SIDE - 0.5).astype(np.float32)
    terms = np.stack([first, np.ones_like(first), run, rise, run * middles, rise * middles[:, None]], -1)
    inner = slice(1, -1)  # slopes at the edges are one-sided
    terms = terms[:, inner, inner].reshape(len(first), (SIDE - 2) ** 2, 6)
    wanted = second[:, inner, inner].reshape(len(first), (SIDE - 2) ** 2, 1)
    transposed = terms.transpose(0, 2, 1)
    squares = np.matmul(transposed, terms) + 1e-2 * np.eye(6, dtype=np.float32)
    amounts = np.linalg.solve(squares, np.matmul(transposed, wanted))
    rest = np.sqrt(((wanted - np.matmul(terms, amounts)) ** 2).mean((1, 2)))
    gain = amounts[:, 0, 0]
    shift = (abs(amounts[:, 2:4, 0]) + abs(amounts[:, 4:6, 0]) / 2).max(1) / SIDE
    is_alike = (gain > 1 / MAX_GAIN) & (gain < MAX_GAIN) & (shift < MAX_SHIFT)
    return is_alike & (rest < MAX_REST * np.minimum(_strength(first), _strength(second)))


def _smoothed(images: np.ndarray) -> np.ndarray:
    """Average each pixel [n, S, S] with its neighbours: the slope of what is smooth tells how it moves."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)), mode="edge")
    padded = (padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]) / 4
    return (padded[:, :, :-2] + 2 * padded[:, :, 1:-1] + padded[:, :, 2:]) / 4


def _centred(images: np.ndarray) -> np.ndarray:
    values = images.astype(np.float32)
    return values - values.mean((1, 2), keepdims=True)


def _strength(centred: np.ndarray) -> np.ndarray:
    return np.sqrt(np.square(centred).mean((1, 2)))
