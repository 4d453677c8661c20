"""Encoders in the cache, and which images taught them: nearly the same images need no new one.

`encoder-v2-<key>.safetensors` holds the weights, the `.json` of that name what they are, and `.taught.safetensors` the
hashes of the images that taught them. A `.json` may name the weights of another key, which its images
nearly share.
"""

import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import safetensors.torch
import torch

from equipoise.storage.files import write_bytes
from equipoise.storage.records import EncoderRecord
from equipoise.storage.safe_open import read_bytes

VERSION = 2  # of all that decides the weights
NEAR = 0.9  # of all images that taught an encoder or would teach a new one, this share must be both to take the old one
KNOWN = 0.7  # of the training images must have taught an encoder for another one to begin with its weights
MAX_BYTES = 2**26  # of a file of an encoder; the largest takes a fiftieth of that
_NAME = re.compile("encoder-v[0-9]+-[0-9a-f]{16}")


@dataclass(frozen=True, eq=False)
class Lesson:
    """Contents of the images that are to teach an encoder, and of those that must not have: uint64, each one once."""

    hashes: np.ndarray
    held_out: np.ndarray

    @staticmethod
    def of(hashes: np.ndarray, held_out: np.ndarray) -> "Lesson":
        """Return the lesson of some images; one that is on both sides is no secret."""
        return Lesson(np.unique(hashes), np.setdiff1d(held_out, hashes))


@dataclass(frozen=True, eq=False)
class Start:
    """Weights of another encoder for one to begin with."""

    data: bytes
    digest: str


@dataclass(frozen=True)
class RunEncoder:
    """Where a run's encoder is: in a file of its folder as a record says, or else in the cache under a key."""

    path: Path
    record: EncoderRecord | None
    key: str


@dataclass(frozen=True, eq=False)
class Kept:
    """The weights of an encoder as they lie on the disk, and which images taught it."""

    data: bytes
    record: EncoderRecord


Fits = Callable[[bytes], bool]  # fills a network with weights, where they are this network's


def stem_of(key: str, steps: int) -> str:
    """Return the name, without a suffix, of the files in which an encoder is kept."""
    return f"encoder-v{VERSION}-{hashlib.sha256(f'{key}/{steps}'.encode()).hexdigest()[:16]}"


def of_run(cache: Path, run: RunEncoder, steps: int, fits: Fits) -> Kept | None:
    """Return a run's very own encoder, from its folder or from the cache; None where neither has it."""
    if run.record is None:
        return under(cache / stem_of(run.key, steps), None, fits)
    for path in (run.path, *_weights_of(cache, run.record.digest)):
        data = _whole(path, run.record.digest)
        if data is not None and fits(data):
            return Kept(data, run.record)
    return None


def under(stem: Path, lesson: Lesson | None, fits: Fits) -> Kept | None:
    """Return the encoder that is kept under a name for these very images; None where there is none that is whole."""
    facts = _facts(stem)
    place = str(facts.get("weights", stem.name))
    if not _NAME.fullmatch(place):  # it becomes a part of a path
        return None
    data = _whole(stem.with_name(f"{place}.safetensors"), facts.get("sha256"))
    if data is None:
        return None
    taught = None if lesson is None else lesson.hashes
    if place != stem.name:
        taught = _taught(stem.with_name(place))
        if taught is None or lesson is None:
            return None
    record = _record(facts, taught, lesson)
    return Kept(data, record) if fits(data) else None


def nearest(stem: Path, lesson: Lesson, facts: Mapping[str, Any], fits: Fits) -> Kept | None:
    """Return the encoder that was taught by nearly these images and by none that is held out, the nearest such one.

    It is found under this name from now on, so that these very images are always judged by one encoder.
    """
    found: list[tuple[float, Path, np.ndarray]] = []
    for other, taught, num_both in _related(stem, lesson, facts):
        likeness = num_both / (len(taught) + len(lesson.hashes) - num_both)
        if likeness >= NEAR:
            found.append((-likeness, other, taught))
    for _, other, taught in sorted(found, key=lambda one: one[:2]):
        of_other = _facts(other)
        data = _whole(other.with_suffix(".safetensors"), of_other.get("sha256"))
        if data is None or not fits(data):
            continue
        of_both = {name: of_other.get(name, "") for name in ("sha256", "started_from")}
        with contextlib.suppress(OSError):  # a cache that can only be read serves as well
            _write_json(stem, {**facts, **of_both, "weights": other.name})
        return Kept(data, _record(of_both, taught, lesson))
    return None


def starts(stem: Path, lesson: Lesson, facts: Mapping[str, Any]) -> list[Start]:
    """Return the encoders from random weights that most of these images have taught, and none that is held out.

    The one that knows the most comes first. Those of another size are not begun with: their weights gave features so
    uneven on photographs of clothes that the scores were noise.
    """
    found: list[tuple[float, str, Start]] = []
    for other, _, num_both in _related(stem, lesson, facts):
        of_other = _facts(other)
        known = num_both / len(lesson.hashes)
        if of_other.get("started_from") or known < KNOWN:
            continue
        data = _whole(other.with_suffix(".safetensors"), of_other.get("sha256"))
        if data is not None:
            found.append((-known, other.name, Start(data, of_other["sha256"])))
    return [start for _, _, start in sorted(found, key=lambda one: one[:2])]


def _related(stem: Path, lesson: Lesson, facts: Mapping[str, Any]) -> Iterator[tuple[Path, np.ndarray, int]]:
    """Yield the other encoders of this kind and size that none of what is held out has taught.

    Each is its name, the hashes of what taught it, and how many of these images are among that.
    """
    for path in sorted(stem.parent.glob(f"encoder-v{VERSION}-*.json")):
        other = path.with_suffix("")
        of_other = _facts(other)
        if any(of_other.get(name) != facts[name] for name in ("steps", "size", "channels")):
            continue
        taught = _taught(other)
        if taught is not None and not len(np.intersect1d(taught, lesson.held_out)):
            yield other, taught, len(np.intersect1d(taught, lesson.hashes))


def write(stem: Path, data: bytes, facts: Mapping[str, Any], lesson: Lesson | None) -> Kept:
    """Keep the weights of an encoder that a lesson's images taught; raises OSError."""
    facts = {**facts, "sha256": hashlib.sha256(data).hexdigest()}
    stem.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(stem.with_suffix(".safetensors"), data)
    if lesson is not None:
        hashes = torch.from_numpy(lesson.hashes.view(np.int64))
        write_bytes(_taught_path(stem), safetensors.torch.save({"hashes": hashes}))
    _write_json(stem, facts)
    return Kept(data, _record(facts, None if lesson is None else lesson.hashes, lesson))


def _record(facts: Mapping[str, Any], taught: np.ndarray | None, lesson: Lesson | None) -> EncoderRecord:
    record = EncoderRecord(digest=str(facts["sha256"]), started_from=str(facts.get("started_from", "")))
    if taught is None or lesson is None:
        return record
    return msgspec.structs.replace(
        record,
        num_taught=len(taught),
        num_shared=len(np.intersect1d(taught, lesson.hashes)),
        num_train=len(lesson.hashes),
    )


def _write_json(stem: Path, values: Mapping[str, Any]) -> None:
    write_bytes(stem.with_suffix(".json"), json.dumps(values, indent=1).encode())


def _facts(stem: Path) -> dict[str, Any]:
    """Return what a `.json` says of an encoder; nothing where it cannot be read, for whatever reason."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        facts = json.loads(read_bytes(stem.with_suffix(".json"), MAX_BYTES))
        if isinstance(facts, dict):
            return facts
    return {}


def _weights_of(cache: Path, digest: str) -> Iterator[Path]:
    """Yield where the cache may have the weights of a digest."""
    for path in sorted(cache.glob(f"encoder-v{VERSION}-*.json")):
        if _facts(path.with_suffix("")).get("sha256") == digest:
            yield path.with_suffix(".safetensors")


def _whole(path: Path, digest: object) -> bytes | None:
    """Return a file's bytes where they have this SHA-256."""
    with contextlib.suppress(OSError):
        data = read_bytes(path, MAX_BYTES)
        if hashlib.sha256(data).hexdigest() == digest:
            return data
    return None


def _taught_path(stem: Path) -> Path:
    return stem.with_suffix(".taught.safetensors")


def _taught(stem: Path) -> np.ndarray | None:
    """Return the hashes uint64 of the images that taught the encoder of a name; None where they cannot be read."""
    try:
        hashes = safetensors.torch.load(read_bytes(_taught_path(stem), MAX_BYTES))["hashes"]
    except Exception:  # a cache: a header can be wrong in many ways, and each raises another type
        return None
    if (hashes.dtype, hashes.ndim) != (torch.int64, 1):
        return None
    return np.unique(hashes.numpy().view(np.uint64))
