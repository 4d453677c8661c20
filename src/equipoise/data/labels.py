"""Classes out of the names of folders, or out of a dataset.json; and in words what was made of them."""

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SPLIT_WORDS = frozenset(
    "train training test testing val valid validation dev eval evaluation pred prediction".split()  # noqa: SIM905
)
WORDS_BESIDE = frozenset("set data dataset images image imgs img split seg".split())  # noqa: SIM905
OF_A_DOMAIN = re.compile(r"(train|test|val)([A-Z])")  # trainA, testB: pairs of domains, as in CycleGAN's sets
SHARD = re.compile(r"\d{5}")  # StyleGAN's zips: 00000, 00001, … of a thousand images each
SHARD_SIZE = 1000
MOST_STRAY = 0.01  # share of images beside class folders that are left out
FEWEST = 20  # images of which a single one may be left out
DATASET = "dataset.json"
SHOWN = 6  # names in a sentence


@dataclass(frozen=True)
class Labels:
    """The class of each image by the order of names, −1 where it has none and is left out; how they were found."""

    labels: np.ndarray | None = None  # int64 [N]
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def left_out(self) -> list[int]:
        """The places of the images that lie beside the class folders."""
        return [] if self.labels is None else np.flatnonzero(self.labels < 0).tolist()


def labels_of(names: Sequence[str], dataset: str | None = None) -> Labels:
    """Return the classes of images by their paths, or by the text of a dataset.json beside them, where that has any.

    A single folder around all is looked through. Folders that are called like splits are put together; so is a set
    that lies once more in itself. What is inferred is said in the notes.
    """
    if dataset is not None and (found := _by_dataset(names, dataset)) is not None:
        return found
    starts = [0] * len(names)
    notes: list[str] = []
    while names:
        ends = [name.find("/", start) for name, start in zip(names, starts, strict=True)]
        folders = Counter(name[start:end] for name, start, end in zip(names, starts, ends, strict=True) if end >= 0)
        num_stray = len(names) - folders.total()
        if not folders:
            break
        if _are_shards(folders):
            notes.append(f"the folders {_some(sorted(folders))} are parts of one set, and no classes")
            break
        if len(folders) > 1 and (domains := _domains(folders)) and not num_stray:
            notes.append(f"train and test of the domains {_some(sorted(set(domains.values())))} are put together")
            return _numbered([domains[name[s:e]] for name, s, e in zip(names, starts, ends, strict=True)], notes)
        if num_stray > max(MOST_STRAY * len(names), len(names) >= FEWEST):
            if len(folders) > 1 and not _are_splits(folders):
                notes.append(f"{num_stray:,} images lie beside the folders {_some(sorted(folders))}: no classes")
            break
        nested = None
        if len(folders) > 2:
            nested = _nested(names, starts, ends, folders)
        if nested is not None:
            notes.append(f'the folder "{nested}" holds the same folders once more; they are put together')
            inner = [
                end >= 0 and name[start:end] == nested for name, start, end in zip(names, starts, ends, strict=True)
            ]
            starts = [end + 1 if is_in else start for start, end, is_in in zip(starts, ends, inner, strict=True)]
            continue
        if len(folders) > 1 and not _are_splits(folders):
            found = [name[s:e] if e >= 0 else None for name, s, e in zip(names, starts, ends, strict=True)]
            if num_stray:
                images = "1 image" if num_stray == 1 else f"{num_stray:,} images"
                notes.append(f"{images} beside the class folders left out")
            return _numbered(found, notes)
        if len(folders) > 1:
            notes.append(f"the folders {_some(sorted(folders))} are splits: they are put together and split anew")
        starts = [end + 1 if end >= 0 else start for start, end in zip(starts, ends, strict=True)]
    return Labels(notes=tuple(notes))


def _numbered(found: Sequence[str | None], notes: Sequence[str]) -> Labels:
    classes = tuple(sorted({name for name in found if name is not None}))
    number = {name: index for index, name in enumerate(classes)}
    labels = np.array([-1 if name is None else number[name] for name in found], dtype=np.int64)
    return Labels(labels, classes, (*notes, f"the classes are the folders {_some(classes)}"))


def _some(names: Sequence[str]) -> str:
    """Return some names for a sentence."""
    shown = ", ".join(name[:40] for name in names[:SHOWN])
    return f"{shown}, … ({len(names):,})" if len(names) > SHOWN else shown


def _are_splits(folders: Counter[str]) -> bool:
    """Return whether all folders are called like splits: train, seg_train, Validation_set."""
    return all(_is_split(name) for name in folders)


def _is_split(name: str) -> bool:
    words = [word for word in re.split(r"[^a-z]+", name.lower()) if word]
    return sum(word in SPLIT_WORDS for word in words) == 1 and all(
        word in SPLIT_WORDS or word in WORDS_BESIDE for word in words
    )


def _domains(folders: Counter[str]) -> dict[str, str]:
    """Return the domain of each folder that is called like trainA or testB; empty unless all are, of two domains."""
    found = {name: match[2] for name in folders if (match := OF_A_DOMAIN.fullmatch(name))}
    return found if len(found) == len(folders) and len(set(found.values())) > 1 else {}


def _are_shards(folders: Counter[str]) -> bool:
    """Return whether folders are numbered parts of a thousand images, as StyleGAN's zips have them."""
    if len(folders) < 2 or not all(SHARD.fullmatch(name) for name in folders):
        return False
    *whole, last = sorted(folders)
    return all(folders[name] == SHARD_SIZE for name in whole) and folders[last] <= SHARD_SIZE


def _nested(names: Sequence[str], starts: Sequence[int], ends: Sequence[int], folders: Counter[str]) -> str | None:
    """Return the folder that holds nothing but the others once more, None where there is none."""
    inside: dict[str, set[str]] = {}
    for name, start, end in zip(names, starts, ends, strict=True):
        if end >= 0:
            inner = name.find("/", end + 1)
            inside.setdefault(name[start:end], set()).add("" if inner < 0 else name[end + 1 : inner])
    others = set(folders)
    return next((name for name, inner in inside.items() if len(inner) > 1 and inner <= others - {name}), None)


def _by_dataset(names: Sequence[str], text: str) -> Labels | None:
    """Return the labels of a dataset.json, {"labels": [[name, number], …]}; None where it has none for these images."""
    try:
        pairs = json.loads(text)["labels"]
        numbers = {str(name): int(label) for name, label in pairs or ()}
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
        return None
    if not numbers:
        note = f"{DATASET} has no classes, and the folders beside it are none"
        return Labels(notes=(note,)) if pairs is None else None
    found = [numbers.get(name) for name in names]
    if sum(label is None for label in found) > MOST_STRAY * len(names):
        return None
    classes = sorted(set(numbers.values()))
    number = {label: index for index, label in enumerate(classes)}
    labels = np.array([-1 if label is None else number[label] for label in found], dtype=np.int64)
    note = f"the {len(classes)} classes are those of {DATASET}"
    return Labels(labels, tuple(map(str, classes)), (note,))
