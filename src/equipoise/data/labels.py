"""Classes out of the names of folders, or out of a dataset.json; and in words what was made of them."""

import itertools
import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from equipoise.data.several import Sets, Words, combined, doubt, rows_of, told

SPLIT_WORDS = frozenset((
    "train", "training", "trn", "test", "testing", "tst", "val", "valid", "validation", "validate", "trainval", "dev",
    "eval", "evaluation", "pred", "prediction", "holdout", "fold", "entrainement", "entraînement", "apprentissage",
    "validierung", "entrenamiento", "prueba", "validación", "validacion", "treino", "treinamento", "teste", "validação",
    "validacao", "addestramento", "обучение", "тест", "валидация", "训练", "训练集", "测试", "测试集", "验证", "验证集",
    "訓練", "学習", "テスト", "検証", "評価", "훈련", "학습", "테스트", "검증", "평가",
))  # fmt: skip
OF_TRAINING = frozenset(("tr", "trn", "train", "training"))
SHORT_WORDS = frozenset(("tr", "te", "ts", "va", "vl", "cv"))  # splits beside one for training alone
WORDS_BESIDE = frozenset("set data dataset images image imgs img split seg out".split())  # noqa: SIM905
GLUED = re.compile(r"^(train|training|test|testing|val|valid|validation)(set|data|images|imgs|split)$")  # testset
NO_SPLITS = frozenset("unlabeled unlabelled extra holdout gallery query".split())  # noqa: SIM905
PARTS = frozenset((  # of each example of a set: no classes, if all folders are called so
    "images", "image", "imgs", "img", "photos", "jpegimages", "masks", "mask", "labels", "label",
    "annotations", "annotation", "segmentations", "segmentation", "segmentationclass", "groundtruth", "gt",
))  # fmt: skip
OF_A_DOMAIN = re.compile(r"(train|test|val)[_-]?([A-Z])", re.IGNORECASE)  # trainA, test_B: as in CycleGAN's sets
SHARD = re.compile(r"\d{5}")  # StyleGAN's zips: 00000, 00001, … of a thousand images each
SHARD_SIZE = 1000
SHARD_LEAST = 900  # of which some images may be missing
MOST_STRAY = 0.01  # share of images beside class folders that are left out
FEWEST = 20  # images of which a single one may be left out
DATASET = "dataset.json"
SHOWN = 6  # names in a sentence
OF_CLASSES = ("label", "class", "cls", "class_name", "label_name", "category")  # fields of examples in shards


@dataclass(frozen=True)
class Labels:
    """The class of each image by the order of names, −1 where it has none and is left out; how they were found."""

    labels: np.ndarray | None = None  # int64 [N]
    classes: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    sets: Sets = ()  # of several labels an image the combinations, which `labels` are places of then
    used: tuple[str, ...] = ()  # files that the classes are read from
    combined: tuple[str, ...] = ()  # those of the notes that hold wherever the classes come from


@dataclass(frozen=True)
class Level:
    """One level of folders: the folder of each image there, None where it lies in none that could be a class."""

    tops: list[str | None]
    ends: list[int]  # of the folder's name in each path, −1 where there is none
    folders: Counter[str]

    @property
    def num_stray(self) -> int:
        """How many images lie in no folder."""
        return len(self.tops) - self.folders.total()

    @property
    def are_stray_many(self) -> bool:
        """Whether too many lie in no folder to be left out."""
        return are_too_many(self.num_stray, len(self.tops))


def labels_of(names: Sequence[str], dataset: str | None = None) -> Labels:
    """Return the classes of images by their paths, or by the text of a dataset.json beside them, where that has any.

    A single folder around all is looked through. Folders that are called like splits are put together; so is a set
    that lies once more in itself. What is inferred is said in the notes.
    """
    if dataset is not None and (found := _by_dataset(names, dataset)) is not None:
        return found
    starts = [0] * len(names)
    notes: list[str] = []
    are_merged = False
    while (level := _level(names, starts, are_merged=are_merged)).folders:
        shown = _some(sorted(level.folders))
        nested = _nested(names, starts, level)
        reason = None if nested is not None else _no_classes(level, shown)
        if reason is not None:
            return Labels(notes=(*notes, *reason), combined=tuple(notes))
        if domains := _domains(level.folders):
            notes.append(f"train and test of the domains {_some(sorted(set(domains.values())))} are combined")
            return _numbered([None if top is None else domains[top] for top in level.tops], notes)
        if nested is not None:
            notes.append(f'the folder "{nested}" contains the same folders again; they are combined')
        elif are_splits(level.folders):
            are_merged = True
            notes.append(f"the folders {shown} are splits; they are combined and split again")
        elif len(level.folders) > 1:
            return _numbered(_in_one_case(names, starts, level.tops, notes) if are_merged else level.tops, notes)
        starts = [
            end + 1 if end >= 0 and nested in (None, top) else start
            for start, end, top in zip(starts, level.ends, level.tops, strict=True)
        ]
    return Labels(notes=tuple(notes), combined=tuple(notes))


def splits_note(kind: str, files: Sequence[str]) -> tuple[str, ...]:
    """Say that shards are called like splits, such as train-00000.tar, where all are; `kind` is what one calls them."""
    stems = Counter(PurePosixPath(name).stem for name in files)
    if not are_splits(stems):
        return ()
    return (f"the {kind} {_some(sorted(stems))} are splits; they are combined and split again",)


def _level(names: Sequence[str], starts: Sequence[int], *, are_merged: bool) -> Level:
    """Return the folders that begin at a place of each path; beside those of merged splits, `images` is no class."""
    ends = [name.find("/", start) for name, start in zip(names, starts, strict=True)]
    tops = [name[start:end] if end >= 0 else None for name, start, end in zip(names, starts, ends, strict=True)]
    folders = Counter(top for top in tops if top is not None)
    if are_merged and len(folders) > 2:  # train/CLASS/images beside test/images
        plain = {name for name in folders if name.lower() in WORDS_BESIDE}
        tops = [None if top in plain else top for top in tops]
        folders = Counter(top for top in tops if top is not None)
    return Level(tops, ends, folders)


def _no_classes(level: Level, shown: str) -> tuple[str, ...] | None:
    """Say why the folders of a level are no classes, nor hold any; None where they may."""
    if _are_shards(level.folders):
        return (f"the folders {shown} are parts of one data set, not classes",)
    if level.are_stray_many:
        if len(level.folders) < 2 or are_splits(level.folders):
            return ()
        verb = "images lie" if level.num_stray > 1 else "image lies"
        return (f"{level.num_stray:,} {verb} beside the folders {shown}: no classes",)
    kinds = set(_domains(level.folders).values()) or set(level.folders)
    if len(kinds) > 1 and all("".join(_words(name)) in PARTS for name in kinds):
        return (f"the folders {shown} are parts of each example, not classes",)
    num_lone = sum(num == 1 for num in level.folders.values())
    if len(level.folders) >= FEWEST and num_lone > len(level.folders) / 2:
        return (f"the folders {shown} hold one image each, so they are no classes",)
    if _are_near_splits(level.folders):
        return (f"the folders {shown} look like splits of different things, so there are no classes",)
    return None


def _in_one_case(
    names: Sequence[str], starts: Sequence[int], tops: list[str | None], notes: list[str]
) -> list[str | None]:
    """Return the folders of merged splits, those as one that differ in capital letters and are never in one split."""
    places: dict[str, dict[str, set[str]]] = {}
    for name, start, top in zip(names, starts, tops, strict=True):
        if top is not None:
            places.setdefault(top.lower(), {}).setdefault(top, set()).add(name[:start])
    chosen: dict[str, str] = {}
    for written in places.values():
        first = max(sorted(written))  # the one in small letters
        are_apart = sum(map(len, written.values())) == len(set().union(*written.values()))
        if len(written) > 1 and are_apart:
            chosen |= dict.fromkeys(written, first)
            notes.append(f"the folders {_some(sorted(written))} of different splits are one class")
    return [top if top is None else chosen.get(top, top) for top in tops]


def _numbered(found: Sequence[str | None], notes: Sequence[str]) -> Labels:
    classes, labels = indexed(found)
    notes = [*notes, f"the classes are the folders {_some(classes)}"]
    if num_stray := int((labels < 0).sum()):
        images = "1 image is" if num_stray == 1 else f"{num_stray:,} images are"
        notes.append(f"{images} beside the class folders and left out")
    return Labels(labels, classes, tuple(notes))


def indexed(found: Sequence[Any]) -> tuple[tuple[Any, ...], np.ndarray]:
    """Return the classes that were found, in order, and the place of each image's among them, −1 for none."""
    classes = tuple(sorted({one for one in found if one is not None}))
    number = {one: index for index, one in enumerate(classes)}
    return classes, np.array([-1 if one is None else number[one] for one in found], dtype=np.int64)


def are_one_each(num_classes: int, num_images: int) -> bool:
    """Return whether there are so many classes for so many images that they are names of images, and no classes."""
    return num_classes >= FEWEST and num_classes > num_images / 2


def are_too_many(num: int, total: int) -> bool:
    """Return whether so many images of all without a class are too many to be left out."""
    return num > max(MOST_STRAY * total, total >= FEWEST)


def _some(names: Sequence[str]) -> str:
    """Return some names for a sentence."""
    shown = ", ".join(name[:40] for name in names[:SHOWN])
    return f"{shown}, … ({len(names):,})" if len(names) > SHOWN else shown


def are_splits(folders: Counter[str]) -> bool:
    """Return whether all of several folders are called like splits: train, seg_train, Validation_set.

    Words that all have, as in birds_train and birds_test, are passed over, and tr and te are splits beside each other.
    """
    if len(folders) < 2:
        return False
    found = [_words(name) for name in folders]
    shared = set.intersection(*map(set, found)) - SPLIT_WORDS
    own = [[word for word in words if word not in shared] for words in found]
    has_training = any(word in OF_TRAINING for words in own for word in words)
    return all(_are_of_split(words, SPLIT_WORDS | SHORT_WORDS if has_training else SPLIT_WORDS) for words in own)


def _words(name: str) -> list[str]:
    """Return the words of a folder's name in lower case: two of TrainImages, of train_images and of trainimages."""
    parted = re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", " ", name)
    words = [word for word in re.split(r"[\W\d_]+", parted.lower()) if word]
    return [part for word in words for part in GLUED.sub(r"\1 \2", word).split()]


def _is_split(name: str) -> bool:
    return _are_of_split(_words(name), SPLIT_WORDS)


def _are_of_split(words: Sequence[str], of_splits: frozenset[str]) -> bool:
    """Return whether words name one split, or train and val together, and nothing else."""
    is_plain = all(word in of_splits or word in WORDS_BESIDE for word in words)
    named = [word for word in words if word in of_splits]
    return is_plain and (len(named) == 1 or named == ["train", "val"])


def _are_near_splits(folders: Counter[str]) -> bool:
    """Return whether some folders are splits and the others no classes: train, train_masks, test, unlabeled.

    One folder alone is looked through, whatever its name.
    """
    if len(folders) < 2 or are_splits(folders):
        return False
    splits = [name for name in folders if _is_split(name)]
    num_splits = len(splits)
    kinds = {word in OF_TRAINING for name in splits for word in _words(name) if word in SPLIT_WORDS}
    if len(kinds) == 2:  # train and test: what lies beside them is no class, such as sample
        return True
    others = [set(_words(name)) for name in folders if not _is_split(name)]
    return num_splits > 0 and all(words & (SPLIT_WORDS | NO_SPLITS) for words in others)


def _domains(folders: Counter[str]) -> dict[str, str]:
    """Return the domain of each folder that is called like trainA, testB or horse_train; empty unless all are, of two.

    Of names with words, one domain at least has two splits: test tubes and train tracks are classes.
    """
    found = {name: match[2].upper() for name in folders if (match := OF_A_DOMAIN.fullmatch(name))}
    if len(found) == len(folders) and len(set(found.values())) > 1:
        return found
    parted = {name: _parted(name) for name in folders}
    domains = {name: own for name, (own, split) in parted.items() if own and split}
    are_all = len(domains) == len(folders) and len({split for _, split in parted.values()}) > 1
    return domains if are_all and 1 < len(set(domains.values())) < len(folders) else {}


def _parted(name: str) -> tuple[str, str]:
    """Return what of a folder's name is no split, such as horse of horse_train, and the split; empty where none is."""
    words = [word for word in re.split(r"[\W_]+", name) if word]
    splits = [word for word in words if word.lower() in SPLIT_WORDS]
    if len(splits) != 1:
        return name, ""
    return "_".join(word for word in words if word.lower() not in SPLIT_WORDS), splits[0].lower()


def _are_shards(folders: Counter[str]) -> bool:
    """Return whether folders are numbered parts of some thousand images, as StyleGAN's zips and FFHQ have them."""
    if len(folders) < 2 or not all(SHARD.fullmatch(name) for name in folders):
        return False
    numbers = sorted(int(name) for name in folders)
    steps = {after - before for before, after in itertools.pairwise(numbers)}
    *whole, last = sorted(folders)
    is_full = all(SHARD_LEAST <= folders[name] <= SHARD_SIZE for name in whole)
    return numbers[0] == 0 and steps in ({1}, {SHARD_SIZE}) and is_full and folders[last] <= SHARD_SIZE


def _nested(names: Sequence[str], starts: Sequence[int], level: Level) -> str | None:
    """Return the folder that holds nothing but the others once more, None where there is none."""
    if len(level.folders) < 3:
        return None
    inside: dict[str, set[str]] = {}
    for name, start, top in zip(names, starts, level.tops, strict=True):
        if top is not None:
            begin = start + len(top) + 1
            end = name.find("/", begin)
            inside.setdefault(top, set()).add("" if end < 0 else name[begin:end])
    others = set(level.folders)
    return next((name for name, inner in inside.items() if len(inner) > 1 and inner <= others - {name}), None)


def _by_dataset(names: Sequence[str], text: str) -> Labels | None:
    """Return the labels of a dataset.json, {"labels": [[name, number], …]}; None where it is none of such."""
    try:
        pairs = json.loads(text)["labels"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    if pairs is None:
        return Labels(notes=(f"{DATASET} has no classes, and the folders beside it are none",))
    try:
        given = [(_plain(str(name)), label) for name, label in _items(pairs, names)]
        if any(isinstance(label, list) and not _is_one_hot(label) for _, label in given):
            return _several_by_dataset(names, given)
        items = [(name, _class_of(label)) for name, label in given]
        numbers = dict(items)
    except (ValueError, TypeError, OverflowError):
        reason = "its labels are neither whole numbers, names nor lists of 0 and 1 of one length"
        return Labels(notes=(f"{DATASET} was not used: {reason}; no classes",))
    if twice := next((name for name, label in items if numbers[name] != label), None):
        return Labels(notes=(f"{DATASET} was not used: it has two labels for {twice[:40]}; no classes",))
    found = [numbers.get(_plain(name)) for name in names]
    if len({type(label) for label in found if label is not None}) > 1:
        return Labels(notes=(f"{DATASET} was not used: it has both numbers and names as labels; no classes",))
    num_without = sum(label is None for label in found)
    if are_too_many(num_without, len(names)):
        reason = f"it has labels of {len(names) - num_without:,} of {len(names):,} images"
        if num_without == len(names) and numbers and names:
            reason += f"; it names {next(iter(numbers))[:40]}, and an image here is {names[0][:40]}"
        return Labels(notes=(f"{DATASET} was not used: {reason}; no classes",))
    classes, labels = indexed(found)
    if are_one_each(len(classes), len(names)):
        reason = f"it has {len(classes):,} different labels for {len(names):,} images"
        return Labels(notes=(f"{DATASET} was not used: {reason}; no classes",))
    notes = [f"the {len(classes)} classes are those of {DATASET}"]
    if len(classes) == 1:
        notes = [f"{DATASET} has one class alone, {str(classes[0])[:40]}"]
    if num_without:
        notes.append(f"images that it does not name are left out ({num_without:,})")
    return Labels(labels, tuple(map(str, classes)), tuple(notes), used=(DATASET,))


def _several_by_dataset(names: Sequence[str], given: Sequence[tuple[str, Any]]) -> Labels:
    """Return combinations of the labels of a dataset.json; raises ValueError where these are none."""
    items = list(zip((name for name, _ in given), _words_of([label for _, label in given]), strict=True))
    words = dict(items)
    if twice := next((name for name, one in items if words[name] != one), None):
        return Labels(notes=(f"{DATASET} was not used: it has two labels for {twice[:40]}; no classes",))
    found = [words.get(_plain(name)) for name in names]
    num_without = sum(one is None for one in found)
    if are_too_many(num_without, len(names)):
        problem = f"it has labels of {len(names) - num_without:,} of {len(names):,} images"
        return Labels(notes=(f"{DATASET} was not used: {problem}; no classes",))
    combinations = combined(found)
    num_classes = len(combinations.classes)
    problem = doubt(combinations)
    if not combinations.sets and are_one_each(num_classes, len(names)):
        problem = f"it has {num_classes:,} different labels for {len(names):,} images"
    if problem:
        return Labels(notes=(f"{DATASET} was not used: {problem}; no classes",))
    notes = [f"the {num_classes} classes are those of {DATASET}"]
    if combinations.sets:
        notes = [told(combinations, DATASET)]
    if num_without:
        notes.append(f"images that it does not name are left out ({num_without:,})")
    return Labels(combinations.labels, combinations.classes, tuple(notes), combinations.sets, used=(DATASET,))


def _words_of(labels: Sequence[Any]) -> list[Words | None]:
    """Return the labels of each image, of lists of words or of 0 and 1; raises ValueError for others."""
    labels = [[label] if isinstance(label, str) else label for label in labels]
    lists = [label for label in labels if label is not None]
    if all(map(_are_names, lists)):
        return [None if label is None else frozenset(filter(None, map(str.strip, label))) for label in labels]
    if any(isinstance(one, str) for label in lists for one in label):
        raise ValueError("words beside numbers")
    values = np.array(lists, dtype=np.float64)  # raises ValueError for lists of different lengths
    if values.ndim != 2:
        raise ValueError("lists of lists")
    rows = iter(rows_of(values, [str(index) for index in range(values.shape[1])]))
    return [None if label is None else next(rows) for label in labels]


def _items(pairs: Any, names: Sequence[str]) -> Iterable[tuple[Any, Any]]:
    """Return pairs of names and labels, also of {class: [names]}; raises TypeError or ValueError for others.

    {name: [labels]} is told from that by the names that images have.
    """
    if not isinstance(pairs, dict):
        if any(isinstance(pair, dict) for pair in pairs):
            raise TypeError("a dict is no pair")
        return [(name, label) for name, label in pairs]
    if pairs and all(map(_are_names, pairs.values())) and {_plain(str(name)) for name in pairs}.isdisjoint(names):
        return [(name, label) for label, names in pairs.items() for name in names]
    return pairs.items()


def _are_names(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _plain(name: str) -> str:
    """Return a path as folders and zips list it, however a dataset.json writes it."""
    return name.replace("\\", "/").removeprefix("./")


def _class_of(label: object) -> int | str | None:
    """Return the class that a label of a dataset.json means; raises ValueError where it means none."""
    if label is None or isinstance(label, str):
        return label
    if isinstance(label, int | float) and int(label) == label:
        return int(label)
    if isinstance(label, list) and _is_one_hot(label):
        return label.index(1)
    raise ValueError(f"{label!r} is no class")


def _is_one_hot(label: list[Any]) -> bool:
    return label.count(1) == 1 and label.count(0) == len(label) - 1
