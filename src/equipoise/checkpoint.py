"""Checkpoints: written aside, synced, renamed, with a manifest; verified on reading; the newest good one is used.

Only safetensors and JSON are written and read: nothing that could carry code.
"""

import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from equipoise.errors import UserError
from equipoise.runs.checkpoints import WEIGHTS_FILES as WEIGHTS_FILES
from equipoise.runs.checkpoints import damage_of, named, tensor_header
from equipoise.runs.files import discard, read_json, write_json, written_whole
from equipoise.runs.files import readable as readable
from equipoise.runs.files import verify as verify

NUM_KEPT = 2


@dataclass(frozen=True)
class Checkpoint:
    """One verified checkpoint: its folder, tensors by name, and everything else as plain values."""

    path: Path
    tensors: dict[str, Tensor]
    values: dict[str, Any]


def save(
    folder: Path,
    samples: int,
    tensors: dict[str, Tensor],
    values: dict[str, Any],
    keep: Callable[[int], bool] = lambda samples: False,
) -> Path:
    """Write `folder/<samples>` durably and return it; of the older ones the last and those to `keep` stay."""
    final = folder / f"{samples:012d}"
    write_folder(final, {"tensors.safetensors": tensors}, {"state.json": values})
    prune(folder, samples, keep)
    return final


def prune(folder: Path, samples: int, keep: Callable[[int], bool]) -> None:
    """Remove the checkpoints before the one of `samples`, but the last of them and those to `keep`; raises OSError.

    Those beyond it are no reason to remove an earlier one: they are damaged, or a run would have gone on from them.
    """
    until = [path for path in named(folder) if path.is_dir() and int(path.name) <= samples]
    for old in until[NUM_KEPT:]:
        if not keep(int(old.name)):
            discard(old)


def latest(folder: Path, on_damage: Callable[[str], None] | None = None) -> Checkpoint | None:
    """Return the newest checkpoint whose files match its manifest, or None if there never was one.

    `on_damage` is told of each damaged one; raises UserError if there are some and all are damaged.
    """
    candidates, damages = named(folder), []
    for path in candidates:
        try:
            return _read(path)
        except UserError as error:
            damages.append(str(error))
        if on_damage is not None:
            then = "the one before it is used" if path != candidates[-1] else "there is none before it"
            on_damage(f"checkpoint {path.name} is damaged ({damages[-1]}); {then}")
    if candidates:
        raise UserError(
            f"{folder}: all {len(candidates)} checkpoints are damaged, the newest in {damages[0]}, so this run cannot "
            f"go on. Its best generator may still be good: equipoise sample {shlex.quote(str(folder.parent))}"
        )
    return None


def _read(path: Path) -> Checkpoint:
    """Read one checkpoint; raises UserError that begins with the bad file."""
    if damage := damage_of(path):
        raise UserError(damage)
    values = read_json(path / "state.json")
    if values is None:
        raise UserError(f"{path}/state.json: is gone")
    return Checkpoint(path, load_tensors(path / "tensors.safetensors"), values)


def load_tensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file; raises UserError if it is missing, or none that this version of torch can hold."""
    try:
        tensor_header(path)
        return safetensors.torch.load_file(path)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
    except Exception as error:  # a header can be wrong in many ways, and each raises another type
        raise UserError(f"{path}: is no safetensors file of tensors ({_short(error)})") from None


def load_weights(folder: Path, module: nn.Module) -> None:
    """Copy the weights in `folder/generator.safetensors` into a generator; raises UserError if they are another's."""
    path = folder / WEIGHTS_FILES[0]
    try:
        load_module("generator", module, load_tensors(path))
    except RuntimeError as error:
        raise UserError(f"{path}: holds the weights of another network ({_short(error)})") from None


def _short(error: Exception) -> str:
    return " ".join(f"{error or type(error).__name__}".split())[:200]


def write_folder(final: Path, tensors: dict[str, dict[str, Tensor]], values: dict[str, Any]) -> None:
    """Write tensors and JSON values as files of one folder that appears whole or not at all."""
    with written_whole(final) as folder:
        for name, group in tensors.items():
            # Not save_file: on a full disk it raises an error of its own, and no OSError.
            (folder / name).write_bytes(safetensors.torch.save(group))
        for name, value in values.items():
            write_json(folder / name, value)


def copied(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return copies in plain layout on the CPU, for writing while the training goes on."""
    return {
        name: torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor.detach()) for name, tensor in tensors.items()
    }


def module_tensors(prefix: str, module: nn.Module) -> dict[str, Tensor]:
    """Return a module's parameters and buffers, their names led by `prefix`."""
    return {f"{prefix}.{name}": tensor for name, tensor in module.state_dict().items()}


def load_module(prefix: str, module: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Copy tensors led by `prefix` into a module; raises RuntimeError if any is missing, too many or another kind."""
    start, own = len(prefix) + 1, module.state_dict()
    given = {key[start:]: value for key, value in tensors.items() if key.startswith(f"{prefix}.")}
    if odd := sorted(own.keys() ^ given.keys()):
        raise RuntimeError(f"{prefix}.{odd[0]} is {'missing' if odd[0] in own else 'not in this network'}")
    for name, value in given.items():  # PyTorch would convert the type unasked
        if (value.shape, value.dtype) != (own[name].shape, own[name].dtype):
            raise RuntimeError(f"{prefix}.{name} is {_kind(value)}, not {_kind(own[name])}")
    module.load_state_dict(given)


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
