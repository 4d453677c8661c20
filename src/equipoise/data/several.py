"""Several labels a picture: read from cells, lists and columns of 0 and 1; and which combinations of them there are."""

import ast
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from equipoise.errors import Option, UserError, suggested

MOST_LABELS = 256
NUM_NEAREST = 3  # combinations that are told in place of one that no picture has
NO_LABEL = "no label"  # what a combination of none is called
STRONG = ";|"  # between words in a cell, whatever the words are
WEAK = ","  # also within a class of its own, such as "tench, Tinca tinca"
OFF = frozenset(("0", "0.0", "-1", "-1.0", "false", "no"))
ON = frozenset(("1", "1.0", "true", "yes", "x"))
NOTHING = frozenset(("",))
OF_MINUS = frozenset(("-1", "-1.0"))

Words = frozenset[str]
Sets = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, eq=False)
class Combined:
    """The place of each image's combination among `sets`, which hold places of classes in ascending order.

    Without sets each image has one label, and `labels` are places of classes. An image with −1 is left out.
    """

    labels: np.ndarray  # int64 [N]
    classes: tuple[str, ...]
    sets: Sets = ()


def combined(found: Sequence[Words | None], order: Iterable[str] = ()) -> Combined:
    """Return the combinations of the words of each image, None for one to be left out; classes in order, then sorted.

    Where each image has one word, there are classes and no combinations.
    """
    seen = set(chain.from_iterable(words for words in set(found) if words))
    ordered = [name for name in dict.fromkeys(order) if name in seen]
    classes = (*ordered, *in_order(seen.difference(ordered)))
    place = {name: index for index, name in enumerate(classes)}
    of_words = {words: tuple(sorted(place[name] for name in words)) for words in set(found) if words is not None}
    sets = tuple(sorted(of_words.values()))
    number = {one: index for index, one in enumerate(sets)}
    labels = np.array([-1 if words is None else number[of_words[words]] for words in found], dtype=np.int64)
    return _plain(Combined(labels, classes, sets))


def renumbered(combinations: Combined) -> Combined:
    """Return combinations numbered over those that still occur, of the labels that still occur."""
    present, labels = np.unique(combinations.labels, return_inverse=True)
    sets = [combinations.sets[index] for index in present.tolist()]
    used = sorted(set(chain.from_iterable(sets)))
    place = {index: now for now, index in enumerate(used)}
    classes = tuple(combinations.classes[index] for index in used)
    return _plain(Combined(labels.astype(np.int64), classes, tuple(tuple(place[one] for one in row) for row in sets)))


def _plain(combinations: Combined) -> Combined:
    """Return classes in place of combinations where each is of one label."""
    sets = combinations.sets
    if any(len(one) != 1 for one in sets):
        return combinations
    classes = np.array([index for (index,) in sets] + [-1])  # the last: of images that are left out
    return Combined(classes[combinations.labels], combinations.classes)


def in_order(words: Iterable[str]) -> list[str]:
    """Return words sorted, whole numbers by their value."""
    every = list(words)
    return sorted(every, key=int) if all(map(str.isdecimal, every)) else sorted(every)


def counts_of(labels: np.ndarray, classes: Sequence[str], sets: Sets) -> tuple[int, ...]:
    """Return how many of these images, int64 [N], have each label."""
    if not sets:
        return tuple(np.bincount(labels, minlength=len(classes)).tolist())
    counts = np.zeros(len(classes), np.int64)
    for one, num in zip(sets, np.bincount(labels, minlength=len(sets)).tolist(), strict=True):
        counts[list(one)] += num
    return tuple(counts.tolist())


def called(one: Iterable[int], classes: Sequence[str]) -> str:
    """Return what a combination is called, as one types it."""
    names = [classes[index] for index in one]
    return ("; " if any("," in name for name in names) else ", ").join(names) or NO_LABEL


def told(combinations: Combined, place: str) -> str:
    """Say what the labels of a place are, and which combination is the most frequent."""
    labels = combinations.labels
    counts = np.bincount(labels[labels >= 0], minlength=len(combinations.sets))
    most = int(counts.argmax())
    name = called(combinations.sets[most], combinations.classes)
    labels_in = f"{_number(len(combinations.classes), 'label')} in {len(combinations.sets):,} combinations"
    often = f"most often {name[:80]} ({_number(int(counts[most]), 'image')})"
    return f"several labels a picture, from {place}: {labels_in}, {often}"


def _number(num: int, noun: str) -> str:
    return f"{num:,} {noun}" if num == 1 else f"{num:,} {noun}s"


def doubt(combinations: Combined) -> str:
    """Say why combinations that were found cannot be used; empty where they can."""
    num = len(combinations.classes)
    if combinations.sets and num > MOST_LABELS:
        return f"it has {num:,} different labels, and at most {MOST_LABELS} can be used; keep the most frequent ones"
    if not num:
        return "no image has a label"
    if len(combinations.sets) == 1:
        return "all images have the same labels"
    return ""


# What a person asks for


def places_of(label: str, classes: Sequence[str]) -> tuple[int, ...]:
    """Return the places of labels typed with commas between, of none for an empty text; raises UserError."""
    if label.strip() == NO_LABEL and NO_LABEL not in classes:
        return ()
    parts = re.split("([,;|])", label)  # words, and between them what parts them
    places = set[int]()
    begin = 0
    while begin < len(parts):
        tried = [("".join(parts[begin:end]).strip(), end) for end in range(len(parts), begin, -2)]
        known = next(((word, end) for word, end in tried if word in classes), None)  # the longest, as "tench, Tinca"
        word, end = known or tried[-1]
        if known is not None:
            places.add(classes.index(word))
        elif word:
            problem = f'"{word}" is none of the labels that this generator knows: {", ".join(classes)}'
            raise UserError(Option("label", label), problem, *suggested(word, classes), "Put commas between labels")
        begin = end + 1
    return tuple(sorted(places))


def never_seen(asked: Sequence[int], classes: Sequence[str], sets: Sets, counts: Sequence[int]) -> str:
    """Say that no training picture has exactly these labels, and which have nearly; empty where some have."""
    numbers = dict(zip(sets, counts, strict=True))
    if not sets or numbers.get(tuple(asked), 0) > 0:
        return ""
    seen = [one for one in sets if numbers[one] > 0]
    nearest = sorted(seen, key=lambda one: (len(set(one) ^ set(asked)), -numbers[one]))[:NUM_NEAREST]
    shown = "; ".join(f"{called(one, classes)} ({numbers[one]:,})" for one in nearest)
    return f"no training picture has exactly these labels, so some may not come out. Nearest that some have: {shown}"


# What a file says


def rows_of(values: np.ndarray, names: Sequence[str]) -> list[Words]:
    """Return the labels of rows [N, L] of 0 and 1, or of −1 and 1; raises ValueError for other numbers."""
    if not (((values == 0) | (values == 1)).all() or ((values == -1) | (values == 1)).all()):
        odd = next((one for one in values.ravel().tolist() if one not in (-1, 0, 1)), None)
        what = "both 0 and -1" if odd is None else f"{odd:g}"
        raise ValueError(f"a row of labels holds 0 and 1, or -1 and 1, and here is {what}")
    return [frozenset(names[index] for index in np.flatnonzero(row).tolist()) for row in values == 1]


def parted(cells: Sequence[str], *, is_named: bool = True) -> list[Words] | None:
    """Return the words of each cell of a column where cells hold lists; None where each is a class by itself.

    A list is in brackets, or has ; or | between its words, or commas where words recur in other cells. Raises
    ValueError for lists of numbers that may be something else, above all where no name says that these are classes.
    """
    distinct = set(cells)
    are_bracketed = all(cell[:1] == "[" and cell[-1:] == "]" for cell in distinct if cell)
    for between in ("[" if are_bracketed else "", *STRONG, WEAK):
        if not between or not any(between in cell for cell in distinct):
            continue
        lists = {cell: _list(cell, between) for cell in distinct}
        num = len(set(chain.from_iterable(lists.values())))
        if between == "[" or num < len(distinct) or (between in STRONG and num == len(distinct)):
            words = _words(lists, between, is_named=is_named)
            return [words[cell] for cell in cells]
    return None


def _list(cell: str, between: str) -> list[str]:
    if between == "[":
        try:
            found = ast.literal_eval(cell)  # of literals only; JSON's lists of words and numbers are such
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            found = cell.strip("[]").split(",")
        return [word for one in found if (word := str(one).strip().strip("'\""))]
    return [word for one in cell.split(between) if (word := one.strip())]


def _words(lists: Mapping[str, Sequence[str]], between: str, *, is_named: bool) -> dict[str, Words]:
    """Return the labels that the list of each cell means; raises ValueError where that cannot be told."""
    words = {cell: frozenset(one) for cell, one in lists.items()}
    if not all(map(is_number, chain.from_iterable(lists.values()))):
        return words
    full = {cell: one for cell, one in lists.items() if one}
    lengths = set(map(len, full.values()))
    if len(lengths) == 1 and max(lengths) > 1:
        values = np.array(list(full.values()), dtype=np.float64)
        if np.isin(values, (-1, 0, 1)).all():  # a number for each label, as rows of arrays have
            return words | dict(zip(full, rows_of(values, list(map(str, range(values.shape[1])))), strict=True))
    example = max(sorted(full), key=len)[:40]
    if between == WEAK and (len(lengths) == 1 or max(lengths) == 2):
        raise ValueError(f'its cells, such as "{example}", may be labels or other numbers; put ; between labels')
    if not is_named:
        raise ValueError(
            f'its lists of numbers, such as "{example}", may be no labels; if they are, call them "labels"'
        )
    return words


def is_number(cell: str) -> bool:
    """Return whether a cell holds a number."""
    try:
        float(cell)
    except ValueError:
        return False
    return True


def columns(
    head: Sequence[str], body: Sequence[Sequence[str]], places: Sequence[int]
) -> tuple[list[Words], str] | None:
    """Return the labels of each line where each label has a column of 0 and 1, or −1 and 1, or why that cannot be told.

    Where no cell says that a picture lacks a label, an empty one does. None where hardly any column is of this kind.
    """
    values = {place: {row[place].strip().lower() for row in body} for place in places}
    are_marks = not any(found & OFF for found in values.values() if found <= OFF | ON | NOTHING)
    off = NOTHING if are_marks else OFF
    odd = [place for place in places if not values[place] <= off | ON or values[place] == NOTHING]
    if len(odd) > len(places) / 2 or len(places) - len(odd) < 2:
        return None
    if len({head[place] for place in places} - {""}) < len(places):
        return [], "its columns of 0 and 1 need a name each, in the first line"
    if odd:
        value = max(values[odd[0]] - off - ON, default="")[:20]
        what = f'holds "{value}"' if value else "is empty" if are_marks else "has empty cells"
        others = "a mark or nothing" if are_marks else "0 and 1"
        write = "mark in it what has the label" if are_marks else "write 1 for a label and 0 for none"
        return [], f'its column "{head[odd[0]]}" {what}, where the others hold {others}; take it out, or {write}'
    every = set().union(*values.values())
    if every & OF_MINUS and every & (OFF - OF_MINUS):
        return [], "its columns hold both 0 and -1; write 1 for a label and 0 for none"
    return [frozenset(head[place] for place in places if row[place].strip().lower() in ON) for row in body], ""
