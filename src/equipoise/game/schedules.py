"""Values that move from a start to an end while a run goes from progress 0 to 1."""

import math
from typing import Literal, assert_never


def scheduled(start: float, end: float | None, progress: float, shape: Literal["cosine", "linear"] = "cosine") -> float:
    """Return the value at `progress`, clamped to [0, 1]; the cosine is flat at both ends (arXiv:1608.03983).

    Without an end the value stays at its start.
    """
    if end is None:
        return start
    progress = min(max(progress, 0.0), 1.0)
    match shape:
        case "cosine":
            remaining = 0.5 * (1 + math.cos(math.pi * progress))
        case "linear":
            remaining = 1 - progress
        case _ as unreachable:
            assert_never(unreachable)
    return remaining * start + (1 - remaining) * end
