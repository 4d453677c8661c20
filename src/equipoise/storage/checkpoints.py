"""Checkpoints: written whole, with a manifest; verified on reading; the newest good one is used.

Only safetensors and JSON are written and read: nothing that could carry code. What can be known of a
checkpoint without torch is, so that `status` and `digest` start at once; torch is imported where tensors are
read or written.
"""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from equipoise.errors import Command, UserError
from equipoise.storage.files import MANIFEST, discard, read_json, verify, write_json, written_whole
from equipoise.storage.safe_open import open_regular

if TYPE_CHECKING:
    from torch import Tensor, nn

NUM_KEPT = 2
FILES = ("tensors.safetensors", "state.json")
START_FILES = ("tensors.safetensors",)  # of `start/`, what a run's weights began with
WEIGHTS_FILES = ("generator.safetensors", "score.json")  # of `best/` and of a candidate
MAX_HEADER = 2**24  # bytes that describe the tensors of a file: room for some 100,000
MAX_DIMENSIONS = 64  # as in PyTorch


def named(folder: Path) -> list[Path]:
    """Return whatever has the name of a checkpoint, the newest first.

    Raises UserError where the folder cannot be read.
    """
    try:
        found = [path for path in folder.iterdir() if re.fullmatch("[0-9]{12,18}", path.name)]
    except FileNotFoundError:
        found = []
        if folder.is_symlink():
            raise UserError(folder, "a link that leads nowhere", "Repair the link, or remove it") from None
    except OSError as error:
        raise UserError(folder, f"cannot be read ({error.strerror})", "Check its permissions") from None
    found = [path for path in found if path.name == f"{int(path.name):012d}"]
    return sorted(found, key=lambda path: int(path.name), reverse=True)


def candidate_paths(folder: Path) -> list[Path]:
    """Return the folders of generators that may yet be the best one, by their samples; raises OSError.

    Whatever has another name, is a link or has no manifest is the user's; behind a link in the folder's
    place, all is.
    """
    if folder.is_symlink() or not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if re.fullmatch("0|[1-9][0-9]{0,17}", path.name)]
    found = [path for path in found if not path.is_symlink() and (path / MANIFEST).is_file()]
    return sorted(found, key=lambda path: int(path.name))


def damage_of(path: Path) -> str | None:
    """Return what is wrong with a checkpoint, the bad file's name first, or None."""
    if path.is_symlink():
        return "a link, which is not followed"
    return verify(path, FILES)


def tensor_header(path: Path) -> tuple[dict[str, Any], int]:
    """Return what a safetensors file says of its tensors, by name, and where their bytes begin.

    Raises ValueError or OSError, also for a header so large, or of so many dimensions, that reading would
    take long, and for tensors that claim more bytes than the file has.
    """
    with open_regular(path) as file:
        length = int.from_bytes(file.read(8), "little")
        if length > MAX_HEADER:
            raise ValueError(f"its header is longer than {MAX_HEADER >> 20} MiB")
        try:
            header = msgspec.json.decode(file.read(length))
        except RecursionError:
            raise ValueError("its header is nested too deep") from None
        num_bytes = os.fstat(file.fileno()).st_size - 8 - length
    if not isinstance(header, dict):
        raise ValueError("its header is not a JSON object")
    header.pop("__metadata__", None)
    claimed = 0
    for name, entry in header.items():
        start, stop = _place(name, entry, num_bytes)
        claimed += stop - start
    if claimed > num_bytes:  # or a few bytes, claimed by each of many, would be read for hours
        raise ValueError(f"its tensors claim {claimed:,} bytes, and {num_bytes:,} are there")
    return header, 8 + length


def _place(name: str, entry: Any, num_bytes: int) -> tuple[int, int]:
    """Return where a tensor's bytes begin and end among those of its file; raises ValueError."""
    match entry:
        case {"dtype": str(), "shape": [*shape], "data_offsets": [int(start), int(stop)]}:
            if len(shape) > MAX_DIMENSIONS:
                raise ValueError(f"{name[:80]} has {len(shape)} dimensions")
            if not 0 <= start <= stop <= num_bytes:
                raise ValueError(f"{name[:80]} lies outside of the file")
            return start, stop
        case _:
            raise ValueError(f"{name[:80]} does not say what it is and where it lies")


@dataclass(frozen=True)
class Checkpoint:
    """One verified checkpoint: its folder, tensors by name, and everything else as plain values."""

    path: Path
    tensors: "dict[str, Tensor]"
    values: dict[str, Any]


def save(
    folder: Path,
    samples: int,
    tensors: "dict[str, Tensor]",
    values: dict[str, Any],
    keep: Callable[[int], bool] = lambda samples: False,
) -> Path:
    """Write `folder/<samples>` durably and return it; of the older ones the last and those to `keep` stay."""
    final = folder / f"{samples:012d}"
    write_folder(final, {"tensors.safetensors": tensors}, {"state.json": values})
    prune(folder, samples, keep)
    return final


def prune(folder: Path, samples: int, keep: Callable[[int], bool]) -> None:
    """Remove the checkpoints before `samples`, but the last of them and those to `keep`; raises OSError.

    Those beyond it are no reason to remove an earlier one: they are damaged, or a run would have gone on from
    them.
    """
    until = [path for path in named(folder) if path.is_dir() and int(path.name) <= samples]
    for old in until[NUM_KEPT:]:
        if not keep(int(old.name)):
            discard(old)


def latest(folder: Path, on_damage: Callable[[str], None] | None = None, until: int | None = None) -> Checkpoint | None:
    """Return the newest checkpoint whose files match its manifest, or None if there never was one.

    `on_damage` is called with a sentence on each damaged one, and those beyond `until` samples are left out; raises
    UserError if there are some and all are damaged.
    """
    candidates = [path for path in named(folder) if until is None or int(path.name) <= until]
    damages = []
    for path in candidates:
        try:
            return _read(path)
        except UserError as error:
            damages.append(f"{error.subject}: {error.problem}")
        if on_damage is not None:
            then = "the one before it is used" if path != candidates[-1] else "there is none before it"
            on_damage(f"checkpoint {path.name} is damaged ({damages[-1]}); {then}")
    if not candidates:
        return None
    num = len(candidates)
    problem = f"all {num} checkpoints are damaged, so this run cannot be continued; the newest is {damages[0]}"
    raise UserError(folder, problem, "Its best generator may still be good", Command("sample", folder.parent))


def _read(path: Path) -> Checkpoint:
    """Read one checkpoint; raises UserError that names the bad file."""
    if damage := damage_of(path):
        raise UserError(path, damage)
    values = read_json(path / "state.json")
    if values is None:
        raise UserError(path / "state.json", "missing")
    return Checkpoint(path, load_tensors(path / "tensors.safetensors"), values)


def load_tensors(path: Path) -> "dict[str, Tensor]":
    """Read a safetensors file; raises UserError if it is missing, damaged, or not for this torch."""
    import safetensors.torch

    try:
        tensor_header(path)
        return safetensors.torch.load_file(path)
    except OSError as error:
        raise UserError(path, f"cannot be read ({error.strerror or error})") from None
    except Exception as error:  # a header can be wrong in many ways, and each raises another type
        raise UserError(path, f"not a safetensors file that can be read ({_short(error)})") from None


def load_weights(folder: Path, module: "nn.Module") -> None:
    """Copy the weights of a folder into a generator; raises UserError if they are another network's."""
    path = folder / WEIGHTS_FILES[0]
    try:
        load_module("generator", module, load_tensors(path))
    except RuntimeError as error:
        raise UserError(path, f"holds the weights of another network ({_short(error)})") from None


def _short(error: Exception) -> str:
    return " ".join((str(error) or type(error).__name__).split())[:200]


def write_folder(final: Path, tensors: "dict[str, dict[str, Tensor]]", values: dict[str, Any]) -> None:
    """Write tensors and JSON values as files of one folder that appears whole or not at all."""
    import safetensors.torch

    with written_whole(final) as folder:
        for name, group in tensors.items():
            # Not save_file: on a full disk it raises an error of its own, which is not an OSError.
            (folder / name).write_bytes(safetensors.torch.save(group))
        for name, value in values.items():
            write_json(folder / name, value)


def copied(tensors: "dict[str, Tensor]") -> "dict[str, Tensor]":
    """Return copies in plain layout on the CPU, for writing while the training goes on."""
    import torch

    copies = {name: torch.empty(tensor.shape, dtype=tensor.dtype) for name, tensor in tensors.items()}
    for name, tensor in tensors.items():
        copies[name].copy_(tensor.detach())
    return copies


def module_tensors(prefix: str, module: "nn.Module") -> "dict[str, Tensor]":
    """Return a module's parameters and buffers, their names led by `prefix`."""
    return {f"{prefix}.{name}": tensor for name, tensor in module.state_dict().items()}


def load_module(prefix: str, module: "nn.Module", tensors: "dict[str, Tensor]") -> None:
    """Copy tensors led by `prefix` into a module; raises RuntimeError if names, shapes or types differ."""
    module.load_state_dict(fitting(prefix, module, tensors))


def fitting(prefix: str, module: "nn.Module", tensors: "dict[str, Tensor]") -> "dict[str, Tensor]":
    """Return the tensors led by `prefix`, by a module's own names; raises RuntimeError if they are not this module's.

    The module may be on the device "meta".
    """
    own = module.state_dict()
    start = f"{prefix}."
    given = {key.removeprefix(start): value for key, value in tensors.items() if key.startswith(start)}
    if missing := sorted(own.keys() - given.keys()):
        raise RuntimeError(f"{start}{missing[0]} is missing")
    if unknown := sorted(given.keys() - own.keys()):
        raise RuntimeError(f"{start}{unknown[0]} is not in this network")
    for name, value in given.items():  # PyTorch would convert the type unasked
        if (value.shape, value.dtype) != (own[name].shape, own[name].dtype):
            raise RuntimeError(f"{start}{name} is {_kind(value)}, not {_kind(own[name])}")
    return given


def _kind(tensor: "Tensor") -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
