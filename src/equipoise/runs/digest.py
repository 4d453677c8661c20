"""One digest over everything that decides how a training goes on: equal digests mean equal runs, bit for bit.

Read from the newest good checkpoint and the logs up to it, without torch. Left out is what only tells the time.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from equipoise.errors import UserError
from equipoise.runs.checkpoints import damage_of, named, tensor_header
from equipoise.runs.files import read_json
from equipoise.runs.folder import RunFolder
from equipoise.runs.log import records

TIMES = frozenset(("seconds", "samples_per_second"))


@dataclass(frozen=True)
class Digest:
    """The digest of a run at a position, and those of its parts, which tell where two runs differ."""

    samples: int
    sha256: str
    parts: dict[str, str]


def digest(run: RunFolder) -> Digest:
    """Return the digest of a run's newest good checkpoint; raises UserError where there is none."""
    run.refuse_own_loop()
    path = _newest(run)
    values = read_json(path / "state.json") or {}
    samples = values.pop("samples", 0)
    parts = _of_tensors(path / "tensors.safetensors")
    for name in ("generator_optimizer", "discriminator_optimizer"):
        parts[name] = _sha256(parts.get(name, ""), values.pop(name, None))
    parts["signals"] = _sha256(parts.pop("meter", ""), values.pop("meter", None))
    parts["policies"] = _sha256(values.pop("watch", None))
    parts["position"] = _sha256(samples, values)  # whatever else a checkpoint holds
    logs = [[record for record in records(log) if _at(record) <= samples] for log in (run.steps, run.scores)]
    parts["logs"] = _sha256(*logs)
    return Digest(samples, _sha256(parts), parts)


def digest_text(found: Digest) -> str:
    """Return a digest as lines: the whole, then its parts, each shortened."""
    width = max(map(len, found.parts))
    lines = [f"{found.sha256}  after {found.samples:,} samples", ""]
    return "\n".join(lines + [f"  {name:<{width}}  {part[:16]}" for name, part in sorted(found.parts.items())])


def digest_values(found: Digest) -> dict[str, Any]:
    """Return a digest as plain values for JSON."""
    return {"samples": found.samples, "sha256": found.sha256, "parts": found.parts}


def _newest(run: RunFolder) -> Path:
    paths = named(run.checkpoints)
    for path in paths:
        if damage_of(path) is None:
            return path
    what = "no checkpoint yet" if not paths else f"no good checkpoint among {len(paths)}"
    raise UserError(f"{run.path}: {what}, so there is nothing to compare. Try: equipoise resume {run.path}")


def _of_tensors(path: Path) -> dict[str, str]:
    """Return a digest for each part of a checkpoint's tensors: their names, types, shapes and bytes."""
    parts: dict[str, Any] = {}
    try:
        header, begin = tensor_header(path)
        with path.open("rb") as file:
            for name, tensor in sorted(header.items()):
                part = parts.setdefault(name.split(".")[0], hashlib.sha256())
                start, stop = tensor["data_offsets"]
                part.update(f"{name} {tensor['dtype']} {tensor['shape']}\n".encode())
                file.seek(begin + start)
                part.update(file.read(stop - start))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path}: cannot be read ({type(error).__name__}: {error}). Try: equipoise resume RUN"
        ) from None
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
