"""One digest over everything that decides how a training continues: equal digests mean equal runs, bit for bit.

Read from the newest good checkpoint and the logs up to it, without torch. Left out is what only tells the time.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from equipoise.errors import Command, UserError
from equipoise.runs.folder import RunFolder
from equipoise.runs.rules import refuse_custom_loop
from equipoise.storage.checkpoints import damage_of, named, tensor_header
from equipoise.storage.files import read_json
from equipoise.storage.logs import records
from equipoise.storage.safe_open import open_regular

TIMES = frozenset(("seconds", "samples_per_second"))
APART = {"update": "update", "stats": "meter", "policies": "monitor"}  # parts that are more, or other, than tensors
MOST_ATTEMPTS = 5  # while a training prunes what is being read
_BLOCK = 2**20  # bytes of a tensor in memory at a time


@dataclass(frozen=True)
class Digest:
    """The digest of a run at a position, and those of its parts, which tell where two runs differ."""

    samples: int
    sha256: str
    parts: dict[str, str]
    passed_over: tuple[str, ...] = ()  # newer checkpoints that are damaged


def digest(run: RunFolder) -> Digest:
    """Return the digest of a run's newest good checkpoint; raises UserError where there is none that can be read.

    Where a training beside it prunes a checkpoint that is just being read, it begins again, at most four times.
    """
    refuse_custom_loop(run)
    for _ in range(MOST_ATTEMPTS - 1):
        paths = named(run.checkpoints)
        try:
            found = _of_newest(run, paths)
        except UserError:
            if not _is_any_gone(paths):
                raise
        else:
            if not _is_any_gone(run.checkpoints / name for name in found.passed_over):
                return found
    return _of_newest(run, named(run.checkpoints))


def digest_values(found: Digest) -> dict[str, Any]:
    """Return a digest as plain values for JSON."""
    return asdict(found)


def _is_any_gone(paths: Iterable[Path]) -> bool:
    return not all(path.is_dir() for path in paths)


def _of_newest(run: RunFolder, paths: Sequence[Path]) -> Digest:
    path, passed_over = _newest(run, paths)
    try:
        return replace(_of_checkpoint(run, path), passed_over=passed_over)
    except (RecursionError, ValueError, OverflowError) as error:  # JSON that can be read and not be written again
        reason = "nested too deep" if isinstance(error, RecursionError) else str(error)[:200]
        raise UserError(path, f"its state.json or the logs hold what no training writes ({reason})") from None


def _of_checkpoint(run: RunFolder, path: Path) -> Digest:
    values = read_json(path / "state.json") or {}
    samples = values.pop("samples", None)
    if type(samples) is not int or samples < 0:
        raise UserError(path / "state.json", "damaged: it does not say how many samples it is of", _resume(run))
    parts = _of_tensors(path / "tensors.safetensors", _resume(run))
    for part, name in APART.items():
        parts[part] = _sha256(parts.get(part, ""), values.pop(name, None))
    parts["position"] = _sha256(samples, values)  # whatever else a checkpoint holds
    logs = [[record for record in records(log) if _at(record) <= samples] for log in (run.steps, run.scores)]
    parts["logs"] = _sha256(*logs)
    return Digest(samples, _sha256(parts), parts)


def _newest(run: RunFolder, paths: Sequence[Path]) -> tuple[Path, tuple[str, ...]]:
    """Return the newest good checkpoint, and the names of the damaged ones that are newer."""
    damaged: list[str] = []
    for path in paths:
        if damage_of(path) is None:
            return path, tuple(damaged)
        damaged.append(path.name)
    if paths:
        raise UserError(run.path, f"all {len(paths)} checkpoints are damaged, so there is nothing to compare")
    raise UserError(run.path, "there is no checkpoint yet, so there is nothing to compare", _resume(run))


def _resume(run: RunFolder) -> Command:
    return Command("resume", run.path)


def _of_tensors(path: Path, remedy: Command) -> dict[str, str]:
    """Return a digest for each part of a checkpoint's tensors: their names, types, shapes and bytes."""
    parts: dict[str, Any] = {}
    try:
        header, begin = tensor_header(path)
        with open_regular(path) as file:
            for name, tensor in sorted(header.items()):
                part = parts.setdefault(name.split(".")[0], hashlib.sha256())
                start, stop = tensor["data_offsets"]
                part.update(f"{name} {tensor['dtype']} {tensor['shape']}\n".encode())
                file.seek(begin + start)
                for at in range(start, stop, _BLOCK):
                    part.update(file.read(min(_BLOCK, stop - at)))
    except (OSError, ValueError, RecursionError) as error:  # a shape may be a deep list
        raise UserError(path, f"cannot be read ({type(error).__name__}: {str(error)[:200]})", remedy) from None
    return {name: part.hexdigest() for name, part in parts.items()}


def _sha256(*values: Any) -> str:
    return hashlib.sha256(msgspec.json.encode(_timeless(values), order="sorted")).hexdigest()


def _timeless(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _timeless(inner) for name, inner in value.items() if name not in TIMES}
    return [_timeless(inner) for inner in value] if isinstance(value, list | tuple) else value


def _at(record: Mapping[str, Any]) -> int:
    samples = record.get("samples")
    return samples if isinstance(samples, int) else 0
