"""Checkpoints: written aside, synced, renamed, with a manifest; verified on reading; the newest good one is used.

Only safetensors and JSON are written and read: nothing that could carry code.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor, nn

from equipoise.errors import UserError
from equipoise.runs.files import readable as readable
from equipoise.runs.files import verify, written_whole

NUM_KEPT = 2


@dataclass(frozen=True)
class Checkpoint:
    """One verified checkpoint: its folder, tensors by name, and everything else as plain values."""

    path: Path
    tensors: dict[str, Tensor]
    values: dict[str, Any]


def save(folder: Path, samples: int, tensors: dict[str, Tensor], values: dict[str, Any]) -> Path:
    """Write `folder/<samples>` durably and return it; older ones beyond the last two are removed."""
    final = folder / f"{samples:012d}"
    write_folder(final, {"tensors.safetensors": tensors}, {"state.json": values})
    for old in sorted(_complete(folder))[:-NUM_KEPT]:
        shutil.rmtree(old)
    return final


def latest(folder: Path, on_damage: Callable[[str], None] | None = None) -> Checkpoint | None:
    """Return the newest checkpoint whose files match its manifest, or None if there never was one.

    `on_damage` is told of each damaged one; raises UserError if there are some and all are damaged.
    """
    candidates = sorted(_complete(folder), reverse=True)
    for path in candidates:
        damage = verify(path)
        if damage is None:
            values = json.loads((path / "state.json").read_text())
            return Checkpoint(path, safetensors.torch.load_file(path / "tensors.safetensors"), values)
        if on_damage is not None:
            on_damage(f"checkpoint {path.name} is damaged ({damage}); the one before it is used")
    if candidates:
        raise UserError(
            f"{folder}: all {len(candidates)} checkpoints are damaged, so this run cannot go on. "
            "Its best generator may still be good: equipoise sample RUN"
        )
    return None


def write_folder(final: Path, tensors: dict[str, dict[str, Tensor]], values: dict[str, Any]) -> None:
    """Write tensors and JSON values as files of one folder that appears whole or not at all."""
    with written_whole(final) as folder:
        for name, group in tensors.items():
            plain = {key: tensor.detach().cpu().contiguous() for key, tensor in group.items()}
            # Not save_file: on a full disk it raises an error of its own, and no OSError.
            (folder / name).write_bytes(safetensors.torch.save(plain))
        for name, value in values.items():
            (folder / name).write_text(json.dumps(value, indent=1))


def module_tensors(prefix: str, module: nn.Module) -> dict[str, Tensor]:
    """Return a module's parameters and buffers, their names led by `prefix`."""
    return {f"{prefix}.{name}": tensor for name, tensor in module.state_dict().items()}


def load_module(prefix: str, module: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Copy tensors led by `prefix` into a module; raises RuntimeError if one is missing or too many."""
    start = len(prefix) + 1
    module.load_state_dict({key[start:]: value for key, value in tensors.items() if key.startswith(f"{prefix}.")})


def _complete(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [path for path in folder.iterdir() if path.is_dir() and path.name.isdigit()]
