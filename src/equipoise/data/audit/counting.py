"""Counting, while images are decoded, what their files say of them; and what a training should know of that at once."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Lock
from typing import TypeAlias

import numpy as np

from equipoise.data.audit.sizes import reduction, share_lost
from equipoise.data.audit.transparency import Tally
from equipoise.data.channels import OPACITY
from equipoise.data.decode import Header, Target, decode_described

Decoding: TypeAlias = Callable[[bytes | np.ndarray, Target], np.ndarray]

MUCH_CUT = 0.2  # share of an image; where most lose as much, a training says so
MUCH_REDUCED = 2.0  # times on a side


@dataclass(eq=False)
class Counts:
    """What was decoded, counted from several threads."""

    tally: Tally
    headers: Counter[Header] = field(default_factory=Counter)
    lock: Lock = field(default_factory=Lock)

    @property
    def sizes(self) -> Counter[tuple[int, int]]:
        """Images by the width and height of the upright image."""
        found = Counter[tuple[int, int]]()
        for header, count in self.headers.items():
            found[header.width, header.height] += count
        return found


def counting(counts: Counts) -> Decoding:
    """Return a decoding that counts what the files say of their images, and how many let a background through."""

    def decoding(raw: bytes | np.ndarray, target: Target) -> np.ndarray:
        described = decode_described(raw, target)
        with counts.lock:
            counts.headers[described.header] += 1
        if described.transparent is not None:
            counts.tally.add(described.transparent)
        return described.pixels

    return decoding


def loss_notes(counts: Counts, target: Target, background: str) -> list[str]:
    """Say what much is lost of the images; `background` is its name."""
    notes = []
    sizes = counts.sizes
    num = sizes.total()
    cut = sum(count for size, count in sizes.items() if share_lost(*size, target.size) >= MUCH_CUT)
    if target.fit == "crop" and 2 * cut > num:
        notes.append(f"{cut:,} images are cut to the middle and lose {MUCH_CUT:.0%} or more; --fit pad shows all")
    reduced = sum(count for size, count in sizes.items() if reduction(*size, target.size, target.fit) > MUCH_REDUCED)
    if 2 * reduced > num:
        notes.append(f"{reduced:,} images are reduced more than {MUCH_REDUCED:.0f} times on a side")
    clear = counts.tally.found(is_grey=target.channels == 1)
    if clear.num and target.channels == OPACITY:
        notes.append(f"{clear.num:,} of {num:,} images have transparent pixels, which are kept")
    elif clear.num:
        notes.append(
            f"{clear.num:,} of {num:,} images have transparent pixels, which become {background}; --set "
            "task.channels=4 keeps them"
        )
    elif target.channels == OPACITY:
        notes.append("no image has transparent pixels, so the fourth channel says nothing; --set task.channels=3")
    if clear.is_worth_another and target.channels != OPACITY:
        notes.append(
            f"{clear.num_vanishing:,} of these are mostly {background} themselves and vanish on it; "
            f"{clear.suggested} would show them (--set task.background={clear.suggested})"
        )
    return notes
