"""Encoders in the cache, and which images taught them: nearly the same images need no new one.

`encoder-v1-<key>.safetensors` holds the weights, the `.json` of that name what they are, and `.taught.safetensors` the
hashes of the images that taught them. A `.json` may name the weights of another key, which its images nearly share.
"""

import contextlib
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch

from equipoise.storage.files import write_bytes
from equipoise.storage.records import EncoderRecord
from equipoise.storage.safe_open import read_bytes

VERSION = 1  # of all that decides the weights
NEAR = 0.9  # of all images that taught an encoder or would teach a new one, this share must be both to take the old one
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
    digest = facts["sha256"]
    record = EncoderRecord(digest=digest)
    if place != stem.name:
        taught = _taught(stem.with_name(place))
        if taught is None or lesson is None:
            return None
        record = _record(digest, taught, lesson)
    elif lesson is not None:
        record = _record(digest, lesson.hashes, lesson)
    return Kept(data, record) if fits(data) else None


def nearest(stem: Path, lesson: Lesson, facts: Mapping[str, Any], fits: Fits) -> Kept | None:
    """Return the encoder that was taught by nearly these images and by none that is held out, the nearest such one.

    It is found under this name from now on, so that these very images are always judged by one encoder.
    """
    found: list[tuple[float, str, np.ndarray]] = []
    for path in stem.parent.glob(f"encoder-v{VERSION}-*.json"):
        taught = _taught(path.with_suffix(""))
        if taught is None or any(_facts(path.with_suffix("")).get(name) != facts[name] for name in ("steps", "size")):
            continue
        num_both = len(np.intersect1d(taught, lesson.hashes))
        likeness = num_both / (len(taught) + len(lesson.hashes) - num_both)
        if likeness >= NEAR and not len(np.intersect1d(taught, lesson.held_out)):
            found.append((-likeness, path.stem, taught))
    for _, name, taught in sorted(found, key=lambda one: one[:2]):
        digest = _facts(stem.with_name(name)).get("sha256")
        data = _whole(stem.with_name(f"{name}.safetensors"), digest)
        if data is None or digest is None or not fits(data):
            continue
        with contextlib.suppress(OSError):  # a cache that can only be read serves as well
            _write_json(stem, {**facts, "weights": name, "sha256": digest})
        return Kept(data, _record(digest, taught, lesson))
    return None


def write(stem: Path, data: bytes, facts: Mapping[str, Any], lesson: Lesson | None) -> Kept:
    """Keep the weights of an encoder that these images taught; raises OSError."""
    digest = hashlib.sha256(data).hexdigest()
    stem.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(stem.with_suffix(".safetensors"), data)
    record = EncoderRecord(digest=digest)
    if lesson is not None:
        record = _record(digest, lesson.hashes, lesson)
        hashes = torch.from_numpy(lesson.hashes.view(np.int64))
        write_bytes(_taught_path(stem), safetensors.torch.save({"hashes": hashes}))
    _write_json(stem, {**facts, "sha256": digest})
    return Kept(data, record)


def _record(digest: str, taught: np.ndarray, lesson: Lesson) -> EncoderRecord:
    return EncoderRecord(
        digest=digest,
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
    if hashes.dtype != torch.int64 or hashes.ndim != 1:
        return None
    return np.unique(hashes.numpy().view(np.uint64))
