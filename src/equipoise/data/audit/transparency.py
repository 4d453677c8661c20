"""What shows through transparent images, and on which background they would be seen."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from threading import Lock

import numpy as np

from equipoise.data.decode import parse_background

# Backgrounds to suggest, the plain ones first: a bright one leaves its colour at soft edges.
COLORS = ("white", "black", "gray", "magenta", "lime", "cyan", "blue", "red", "yellow")
PALETTE = tuple(map(parse_background, COLORS))
GREYS = ("white", "black", "gray")
ALIKE = 32  # of 255 in every channel: closer colours are hard to tell apart
SEEN = 128  # of 255: pixels as opaque as this count as seen
VANISHED = 0.5  # share of what is seen in the colour of the background
MANY = 0.01  # share of the images that vanish, from which another background is advised
ABSENT = 0.002  # share of what is seen, below which a colour does not occur


@dataclass(frozen=True)
class Transparency:
    """The images that have transparent pixels: how many, and how they stand out from the background."""

    num: int
    num_blank: int  # with nothing to be seen at all
    num_vanishing: int  # mostly in the colour of the background themselves
    suggested: str | None  # a background on which they would be seen
    share: float  # of what is seen, in the suggested colour

    @property
    def is_worth_another(self) -> bool:
        """Whether so many would vanish that the suggested background is the better one."""
        return self.suggested is not None and self.num_vanishing >= max(1, MANY * self.num)


@dataclass(eq=False)
class Tally:
    """Counts images that have transparent pixels, from several threads."""

    background: tuple[int, int, int]
    num: int = 0
    num_blank: int = 0
    vanishing: np.ndarray = field(default_factory=lambda: np.zeros(1 + len(COLORS), np.int64))
    shares: np.ndarray = field(default_factory=lambda: np.zeros(1 + len(COLORS)))  # summed over the images
    lock: Lock = field(default_factory=Lock)

    def add(self, rgba: np.ndarray) -> None:
        """Count one image, uint8 [H, W, 4]."""
        seen = rgba[rgba[..., 3] >= SEEN][:, :3].astype(np.int16)
        colors = np.array([self.background, *PALETTE], dtype=np.int16)
        shares = np.zeros(len(colors))
        if len(seen):
            shares = np.array([(np.abs(seen - color).max(axis=1) <= ALIKE).mean() for color in colors])
        with self.lock:
            self.num += 1
            self.num_blank += not len(seen)
            self.vanishing += shares > VANISHED
            self.shares += shares

    def found(self, is_grey: bool) -> Transparency:
        """Return what was counted; grey images are given a grey background, as another would make them coloured."""
        num_seen = max(1, self.num - self.num_blank)
        allowed = GREYS if is_grey else COLORS
        name, share = _chosen(allowed, self.shares[1 : 1 + len(allowed)] / num_seen)
        vanishing = int(self.vanishing[0])
        fewer = int(self.vanishing[1 + COLORS.index(name)]) < vanishing
        suggested = name if fewer and parse_background(name) != self.background else None
        return Transparency(self.num, self.num_blank, vanishing, suggested, share)


def _chosen(names: Sequence[str], shares: np.ndarray) -> tuple[str, float]:
    """Return the first colour that does not occur, else the rarest, with its share."""
    for name, share in zip(names, shares.tolist(), strict=True):
        if share < ABSENT:
            return name, share
    rarest = int(shares.argmin())
    return names[rarest], float(shares[rarest])
