"""The two sides of an evaluation: what each is made of, and what makes a comparison doubtful, with what to do."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np

from equipoise.errors import Command, Option, Part, Setting, typed
from equipoise.storage.records import Rejected
from equipoise.storage.safe_open import writable_text

SAME_SHARE = 0.02  # of a side's contents, above which equal ones on both sides are no chance; of emoji it is 0.01
LEAST_DISTINCT_SHARE = 0.5

CautionKind: TypeAlias = Literal[
    "few",
    "seen",
    "chosen",
    "not checked",
    "sizes",
    "colours",
    "same",
    "near copies",
    "repeated",
    "alike",
    "blank",
    "sheets",
]


@dataclass(frozen=True, init=False)
class Caution:
    """Why a comparison may not mean what it seems to: a kind, what was found, and what to do."""

    kind: CautionKind
    problem: str
    remedies: tuple[Part, ...]

    def __init__(self, kind: CautionKind, problem: str, *remedies: Part) -> None:
        object.__setattr__(self, "kind", kind)
        object.__setattr__(self, "problem", problem)
        object.__setattr__(self, "remedies", remedies)

    def told(self, *, in_shell: bool) -> str:
        """Return it as sentences, with what is to be typed in the words of the command line or of Python."""
        parts = [self.problem]
        for part in self.remedies:
            is_typed = isinstance(part, Option | Setting | Command)
            parts.append(f"Try: {typed(part, in_shell)}" if is_typed else str(part))
        return " ".join(f"{part.rstrip('.')}." for part in parts)

    def __str__(self) -> str:
        return self.told(in_shell=False)


@dataclass(frozen=True, kw_only=True)
class Side:
    """What one side of an evaluation is made of; the counts go from what was found to what is compared."""

    source: str
    num_found: int
    num_used: int  # of what was found, as far as it could be read
    num_compared: int  # of these, by the split that was chosen
    num_distinct: int | None = None  # of the compared ones; None where nobody has looked
    num_same: int = 0  # generated ones that are also real ones, by content
    split: str | None = None  # "all", "test", …; None where nothing is split
    num_seen: int = 0  # left out, since the run was trained on them or chosen by them
    rejected: tuple[Rejected, ...] = ()
    num_passed_over: int = 0  # files that are no images by their names
    sizes: Mapping[tuple[int, int], int] = field(default_factory=dict)  # (width, height) and how many have it
    modes: Mapping[str, int] = field(default_factory=dict)
    num_cropped: int = 0  # of another shape, brought to that of the others
    num_enlarged: int = 0
    notes: tuple[str, ...] = ()

    def values(self) -> dict[str, Any]:
        """Return it as plain values, under the names that `data check --json` has."""
        return {
            "source": writable_text(self.source),
            "split": self.split,
            "found": self.num_found,
            "used": self.num_used,
            "compared": self.num_compared,
            "distinct": self.num_distinct,
            "same_on_both_sides": self.num_same,
            "seen_by_the_run": self.num_seen,
            "not_used": [{"name": writable_text(item.name), "reason": item.reason} for item in self.rejected],
            "passed_over": self.num_passed_over,
            "sizes": [
                {"width": width, "height": height, "images": num}
                for (width, height), num in sorted(self.sizes.items(), key=lambda item: (-item[1], item[0]))
            ],
            "modes": dict(sorted(self.modes.items(), key=lambda item: (-item[1], item[0]))),
            "not_square": self.num_cropped,
            "enlarged": self.num_enlarged,
            "inferred": [writable_text(note) for note in self.notes],
        }


def num_distinct(hashes: np.ndarray) -> int:
    """Return how many different contents hashes uint64 [N] stand for."""
    return len(np.unique(hashes))


def halved(hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of two halves of hashes uint64 [N]; what is equal stays together, and the order is random."""
    order = np.argsort(hashes, kind="stable")
    distinct, first = np.unique(hashes[order], return_index=True)
    cut = len(order)
    if len(distinct) > 1:
        cut = int(first[len(distinct) // 2])
    return order[:cut], order[cut:]


def repeated(what: str, source: str, noun: str, hashes: np.ndarray) -> list[Caution]:
    """Say where a side is one content over and over."""
    num = len(hashes)
    distinct = num_distinct(hashes)
    if num < 2 or distinct >= LEAST_DISTINCT_SHARE * num:
        return []
    found = f"only {distinct:,} are different"
    if distinct == 1:
        found = "all are the same"
    problem = f"Of the {num:,} {what} {noun} of {source}, {found}: a score of repeated {noun} says little"
    return [Caution("repeated", problem, f"Give different {noun}, or look whether the right ones were saved")]


def num_same(real: np.ndarray, generated: np.ndarray) -> int:
    """Return how many of the generated contents, by their hashes uint64 [N], are also real ones."""
    return int(np.isin(generated, real).sum())


def same_on_both(real: np.ndarray, generated: np.ndarray, noun: str) -> list[Caution]:
    """Say where contents, by their hashes, stand on both sides."""
    common = len(np.intersect1d(real, generated))
    if common <= SAME_SHARE * min(num_distinct(real), num_distinct(generated)):
        return []
    num = num_same(real, generated)
    problem = (
        f"The same {noun} stand on both sides: {num:,} of the {len(generated):,} generated ones are also real ones, so "
        "the score looks better than it is"
    )
    return [Caution("same", problem, "Give samples of a generator, and real ones that are not among them")]
