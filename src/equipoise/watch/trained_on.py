"""What a loop trains on, out of whatever it is given as: paths, places, or images."""

import itertools
import operator
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from torch.utils import data

from equipoise.data.sources import SUFFIXES
from equipoise.errors import UserError
from equipoise.watch.modules import same_randomness

SUBJECT = "check_training()"
MOST_TIMES = 2  # as many images of a stream are looked at as there are real ones, so often
MOST_LISTED = 10_000_000  # paths or places of an iterator
WHOLE_SAMPLERS = ("SequentialSampler", "RandomSampler", "DistributedSampler")  # which come to every item


@dataclass(frozen=True, eq=False)
class TrainedOn:
    """Paths, places or images, of which one is given; `chosen` are the items that count, None for all."""

    paths: list[str] | None = None
    places: np.ndarray | None = None
    images: Any = None
    chosen: np.ndarray | None = None


def trained_on(images: Any, num_real: int, *, is_known: Callable[[str], bool] | None) -> TrainedOn:
    """Return what is trained on; `is_known` says whether a path is of a real image, None where these have no names.

    Raises UserError for what is nothing of that kind.
    """
    if is_dataclass(images) and not isinstance(images, type):
        images = _named(images)
    images = _column_of_paths(images)
    if isinstance(images, Iterator | Set | Mapping):
        images = _listed(images, num_real * MOST_TIMES)
    elif isinstance(images, data.Sampler):
        images = list(_drawn(images, num_real))
    if isinstance(images, str | bytes | os.PathLike):
        return TrainedOn(paths=_files_of(os.fsdecode(images)))
    places = _places_in(images, num_real)
    if places is not None:
        return TrainedOn(places=places)
    paths = _paths_in(images)
    if paths is not None:
        return TrainedOn(paths=paths)
    whole, chosen = _unwrapped(images)
    if is_known is not None:
        paths = _paths_of_data_set(whole)
        if paths is not None and any(map(is_known, paths)):
            return TrainedOn(paths=paths, chosen=chosen)
    if not hasattr(whole, "__len__") and isinstance(whole, Iterable):  # a stream, alone or in a loader
        with same_randomness():
            return TrainedOn(images=_unbatched(_listed(iter(whole), num_real * MOST_TIMES)))
    return TrainedOn(images=_unbatched(whole), chosen=chosen)


# Loaders, and parts of data sets


def _unwrapped(images: Any) -> tuple[Any, np.ndarray | None]:
    """Return the data set within loaders and parts, and which of its items these take; None stands for all.

    What maps the items of a data set in a way of its own is taken as it is.
    """
    chosen: np.ndarray | None = None
    while hasattr(images, "dataset") and not isinstance(images, Tensor | np.ndarray):
        taken = _taken(images)
        if taken is None and not hasattr(images, "batch_size") and _length(images) != _length(images.dataset):
            break
        if taken is not None:
            chosen = taken if chosen is None else taken[chosen]
        images = images.dataset
    return images, chosen


def _taken(part: Any) -> np.ndarray | None:
    """Return which items of its data set a part or a loader takes, None where it may take all."""
    if hasattr(part, "batch_size") and hasattr(part, "sampler"):
        sampler = part.sampler
        if part.batch_sampler is not None:
            sampler = part.batch_sampler
            if type(sampler) is data.BatchSampler:
                sampler = sampler.sampler
        num = _length(part.dataset)
        return None if num is None else _drawn_places(sampler, num)
    indices = getattr(part, "indices", None)
    if indices is None or _length(indices) != _length(part):
        return None
    return np.asarray(indices, dtype=np.int64)


def _drawn_places(sampler: Any, num: int) -> np.ndarray | None:
    if hasattr(sampler, "indices"):
        return np.asarray(sampler.indices, dtype=np.int64)
    if isinstance(sampler, data.WeightedRandomSampler):
        return np.flatnonzero(np.asarray(sampler.weights) > 0)
    if type(sampler).__name__ in WHOLE_SAMPLERS:
        return None
    places = np.unique(np.asarray(_drawn(sampler, num), dtype=np.int64))
    return places[(places >= 0) & (places < num)]


def _drawn(sampler: Any, num: int) -> list[int]:
    """Return what a sampler, also one of batches, draws in a round; of one without end, ten times all."""
    with same_randomness():
        drawn = list(itertools.islice(iter(sampler), 10 * num + 1_000))
    return [place for one in drawn for place in (one if isinstance(one, list | tuple) else [one])]


def _length(items: Any) -> int | None:
    try:
        return len(items)
    except (TypeError, NotImplementedError):
        return None


def _listed(items: Iterable[Any], most: int) -> list[Any]:
    """Return the items of an iterator, a set or a dict's keys; of images or batches of them no more than so many."""
    if isinstance(items, Mapping) and _batch_in(items) is not None:
        return [items]  # a batch, and not paths with what belongs to them
    found: list[Any] = []
    num = 0
    for item in items:
        found.append(item)
        if _is_path(item) or _place(item) is not None or _path(item) is not None:
            num += most / MOST_LISTED
        else:
            batch = _batch_in(item)
            num += 1 if batch is None else len(batch)
        if num >= most:
            break
    return found


# Places


def _places_in(images: Any, num_real: int) -> np.ndarray | None:
    """Return places, also those that a mask chooses; None for what is neither. Raises UserError for other numbers."""
    if isinstance(images, tuple) and len(images) == 1 and isinstance(images[0], np.ndarray):
        images = images[0]  # as np.where gives them
    if isinstance(images, Tensor | np.ndarray):
        array = np.asarray(
            images.detach().cpu() if isinstance(images, Tensor) and images.is_floating_point() else images
        )
        is_column = array.ndim == 2 and array.shape[1] == 1
        if array.dtype.kind not in "iubf" or not (array.ndim == 1 or is_column):
            return None
        return _checked_places(array.ravel(), num_real)
    if isinstance(images, range):
        return np.asarray(images, dtype=np.int64)
    if not isinstance(images, Sequence) or isinstance(images, str | bytes) or not len(images):
        return None
    if all(isinstance(one, bool | np.bool_) for one in images):
        return _checked_places(np.asarray(images), num_real)
    places = [_place(one) for one in images]
    if any(place is None for place in places):
        return None
    return np.asarray(places, dtype=np.int64)


def _checked_places(array: np.ndarray, num_real: int) -> np.ndarray:
    if array.dtype.kind == "f":
        raise UserError(SUBJECT, f"{len(array):,} numbers with decimals; places are whole numbers", "Give .astype(int)")
    if array.dtype.kind != "b":
        return array.astype(np.int64)
    if len(array) != num_real:
        raise UserError(SUBJECT, f"a mask of {len(array):,}, and there are {num_real:,} real images", "Give places")
    return np.flatnonzero(array)


def _place(one: Any) -> int | None:
    """Return a whole number, None for everything else."""
    if isinstance(one, bool | np.bool_) or (isinstance(one, Tensor | np.ndarray) and one.ndim):
        return None
    try:
        return operator.index(one)
    except (TypeError, ValueError, RuntimeError):
        return None


# Paths


def _named(one: Any) -> dict[str, Any]:
    """Return the parts of a dataclass by their names."""
    return {part.name: getattr(one, part.name) for part in fields(one)}


def _column_of_paths(images: Any) -> Any:
    """Return the paths of a table, such as a dict of lists or a data frame; anything else as it is."""
    if not isinstance(images, Mapping) and not (hasattr(images, "columns") and hasattr(images, "__getitem__")):
        if hasattr(images, "tolist") and not isinstance(images, Tensor | np.ndarray | np.generic):
            return images.tolist()  # a column alone
        return images
    names = list(images) if isinstance(images, Mapping) else list(images.columns)
    columns = [images[name] for name in names]
    columns = [column.tolist() if hasattr(column, "tolist") else column for column in columns]
    return next((column for column in columns if isinstance(column, list) and _paths_in(column) is not None), images)


def _is_path(one: Any) -> bool:
    return isinstance(one, str | bytes | os.PathLike)


def _path(one: Any) -> str | None:
    """Return a path, also one with what belongs to it: (path, class), {"file": path}; None for what has none."""
    if isinstance(one, Mapping):
        one = next((value for value in one.values() if _is_path(value)), None)
    elif isinstance(one, tuple | list):
        one = next(iter(one), None)
    return os.fsdecode(one).removeprefix("file://") if _is_path(one) else None


def _paths_in(images: Any) -> list[str] | None:
    """Return the paths in a list or an array of them, None for anything else."""
    if isinstance(images, np.ndarray):
        if images.dtype.kind not in "USO" or images.ndim != 1:
            return None
        images = images.tolist()
    if not isinstance(images, Sequence) or not len(images):
        return None
    paths = [_path(one) for one in images]
    return None if None in paths else [path for path in paths if path is not None]


def _files_of(path: str) -> list[str]:
    """Return the images below a folder, or the one path."""
    if not os.path.isdir(path):
        return [path.removeprefix("file://")]
    return [str(found) for found in sorted(Path(path).rglob("*")) if found.suffix.lower() in SUFFIXES]


def _paths_of_data_set(items: Any) -> list[str] | None:
    """Return the files of a data set's items, where one of its attributes lists them, or those of its parts do."""
    num = _length(items)
    parts = getattr(items, "datasets", None)
    if isinstance(parts, Sequence) and parts:
        found = [_paths_of_part(part) for part in parts]
        return None if None in found else [path for paths in found if paths is not None for path in paths]
    for listing in (getattr(items, "samples", None), *getattr(items, "__dict__", {}).values()):
        if isinstance(listing, Sequence | np.ndarray) and not isinstance(listing, str) and num and len(listing) == num:
            paths = _paths_in(listing)
            if paths is not None:
                return paths
    return None


def _paths_of_part(part: Any) -> list[str] | None:
    whole, chosen = _unwrapped(part)
    paths = _paths_of_data_set(whole)
    return paths if paths is None or chosen is None else [paths[place] for place in chosen.tolist()]


# Images in batches


def _unbatched(images: Any) -> Any:
    """Return the images of batches as one array; anything else as it is."""
    if not isinstance(images, list | tuple) or not images:
        return images
    batches = [batch for one in images if (batch := _batch_in(one)) is not None]
    if len(batches) == 1 and _batch_in(images[0]) is not None:
        return batches[0]  # (images, labels), or a batch alone
    return np.concatenate(batches) if len(batches) == len(images) else images


def _batch_in(one: Any) -> np.ndarray | None:
    """Return the images [N, C, H, W] in a batch, None for what is none."""
    if is_dataclass(one) and not isinstance(one, type):
        one = _named(one)
    if isinstance(one, Mapping):
        return next(filter(lambda found: found is not None, map(_batch_in, one.values())), None)
    if isinstance(one, tuple | list):
        return next(filter(lambda found: found is not None, map(_batch_in, one[:2])), None)
    if isinstance(one, Tensor):
        return one.detach().cpu().float().numpy() if one.ndim == 4 and one.is_floating_point() else _as_batch(one)
    return _as_batch(one) if isinstance(one, np.ndarray) else None


def _as_batch(one: Any) -> np.ndarray | None:
    return np.asarray(one) if one.ndim == 4 else None
