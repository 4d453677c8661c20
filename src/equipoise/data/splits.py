"""Train, validation and test by content: an image's pixels alone decide its side."""

import hashlib
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from equipoise.errors import Setting

Split = Literal["train", "validation", "validation, second half", "test"]
JudgedSplit = Literal["validation", "validation, second half", "test"]  # a generator is judged by
EVEN_SHARES = (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45)
SHARE_DIGITS = 6  # after the point, as a setting is written
FEW_HELD_OUT = 200  # held-out images, below which all of them judge a training and its end
MIN_DISTINCT = 10  # from this many distinct images on, no split with a share above 0 is empty


@dataclass(frozen=True, eq=False)
class Splits:
    """Indices int64 into a pool, ordered by the content hashes, so that any prefix is a random sample."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray


def judge_together(num_validation: int, num_test: int) -> bool:
    """Return whether so few images are held out that all of them judge, while a generator is trained and at the end."""
    return min(num_validation, num_test) > 0 and num_validation + num_test < FEW_HELD_OUT


def content_digests(images: np.ndarray) -> list[bytes]:
    """Return the 32-byte BLAKE2b digest of each image of a uint8 array [N, ...]."""
    rows = np.ascontiguousarray(images).reshape(len(images), -1)
    return [hashlib.blake2b(row.data, digest_size=32).digest() for row in rows]


def to_hashes(digests: list[bytes]) -> np.ndarray:
    """Return the first 8 bytes of each digest as uint64 [N]; equal pixels have equal hashes."""
    return np.frombuffer(b"".join(digest[:8] for digest in digests), ">u8").astype(np.uint64)


def split(hashes: np.ndarray, validation: float, test: float) -> Splits:
    """Cut hashes uint64 [N] by value: the lowest share is the test split, the next validation, the rest train.

    Thus duplicates stay together and images added later move no others. Only where a share above 0 would get
    none of at least ten distinct images do the cuts shift to give it one; sets of a hundred images and more
    never need that.
    """
    order = np.argsort(hashes, kind="stable")
    in_order = hashes[order]
    first = np.flatnonzero(_are_new(in_order))
    distinct = in_order[first]
    cuts = np.searchsorted(distinct / 2.0**64, [test, test + validation])
    if len(distinct) >= MIN_DISTINCT:
        cuts = _with_none_empty(int(cuts[0]), int(cuts[1]), len(distinct), validation, test)
    bounds = np.append(first, len(order))
    end_test, end_validation = (int(bounds[cut]) for cut in cuts)
    return Splits(order[end_validation:], order[end_test:end_validation], order[:end_test])


def num_copies(hashes: np.ndarray) -> int:
    """Return how many of hashes uint64 [N] occur before; by sorting, as a table of a million takes longer."""
    return int((~_are_new(np.sort(hashes))).sum())


def _are_new(in_order: np.ndarray) -> np.ndarray:
    """Return which of sorted numbers differ from those before them."""
    are_new = np.ones(len(in_order), bool)
    are_new[1:] = in_order[1:] != in_order[:-1]
    return are_new


def enough_shares(hashes: np.ndarray, num: int, least_train: int) -> tuple[float, float] | None:
    """Return shares for validation and test that leave `num` examples in each and `least_train` to train on, or None.

    Even ones where such do, else the least that fit these hashes.
    """
    distinct = np.unique(hashes) / 2.0**64
    even = [(share, share) for share in EVEN_SHARES]
    for validation, test in [*even, *_least_shares(distinct, num)]:
        found = split(hashes, validation, test)
        if min(len(found.validation), len(found.test)) >= num and len(found.train) >= least_train:
            return validation, test
    return None


def larger_shares(hashes: np.ndarray, num: int, least_train: int) -> tuple[list[Setting], int]:
    """Return the settings that hold out `num` examples in each split, and how many these leave to train on.

    Where no shares do, there are no settings, and none is left.
    """
    shares = enough_shares(hashes, num, least_train)
    if shares is None:
        return [], 0
    settings = [Setting("data.validation", shares[0]), Setting("data.test", shares[1])]
    return settings, len(split(hashes, *shares).train)


def _least_shares(distinct: np.ndarray, num: int) -> list[tuple[float, float]]:
    """Return the shares that put the first `num` distinct examples into the test split, the next into validation."""
    if len(distinct) <= 2 * num:
        return []
    test = _between(distinct[num - 1], distinct[num])
    end = _between(distinct[2 * num - 1], distinct[2 * num])
    return [(round(end - test, SHARE_DIGITS), test)]


def _between(low: float, high: float) -> float:
    """Return a short number above `low` and below `high`."""
    for digits in range(2, SHARE_DIGITS):
        found = math.floor(low * 10**digits + 1) / 10**digits
        if low < found < high:
            return found
    return round((low + high) / 2, SHARE_DIGITS)


def _with_none_empty(end_test: int, end_validation: int, num: int, validation: float, test: float) -> tuple[int, int]:
    needed_test = int(test > 0)
    needed_validation = int(validation > 0)
    end_test = min(max(end_test, needed_test), num - 1 - needed_validation)
    end_validation = min(max(end_validation, end_test + needed_validation), num - 1)
    return end_test, end_validation
