"""Where a run's checkpoints lie and whether they are whole: all that can be known of them without torch."""

import os
import re
from pathlib import Path
from typing import Any

import msgspec

from equipoise.errors import UserError
from equipoise.reading import open_regular
from equipoise.runs.files import MANIFEST, verify

FILES = ("tensors.safetensors", "state.json")
WEIGHTS_FILES = ("generator.safetensors", "score.json")  # of `best/` and of a candidate
MAX_HEADER = 2**24  # bytes that describe the tensors of a file: room for some 100,000
MAX_DIMENSIONS = 64  # as in PyTorch


def named(folder: Path) -> list[Path]:
    """Return whatever has the name of a checkpoint, the newest first; what lies aside, or is another's, has not.

    Raises UserError where the folder cannot be read.
    """
    try:
        found = [path for path in folder.iterdir() if re.fullmatch("[0-9]{12,18}", path.name)]
    except FileNotFoundError:
        found = []
        if folder.is_symlink():
            raise UserError(f"{folder}: is a link that leads nowhere. Put it right, and go on") from None
    except OSError as error:
        raise UserError(f"{folder}: cannot be read ({error.strerror}). Check its permissions.") from None
    found = [path for path in found if path.name == f"{int(path.name):012d}"]
    return sorted(found, key=lambda path: int(path.name), reverse=True)


def candidate_paths(folder: Path) -> list[Path]:
    """Return the folders of generators that may yet be the best one, by their samples; raises OSError.

    Whatever has another name, is a link or has no manifest is the user's; behind a link in the folder's place, all is.
    """
    if folder.is_symlink() or not folder.is_dir():
        return []
    found = [path for path in folder.iterdir() if re.fullmatch("0|[1-9][0-9]{0,17}", path.name)]
    found = [path for path in found if not path.is_symlink() and (path / MANIFEST).is_file()]
    return sorted(found, key=lambda path: int(path.name))


def damage_of(path: Path) -> str | None:
    """Return what is wrong with a checkpoint's files, the bad one first, or None if they are those of its manifest."""
    if path.is_symlink():
        return f"{path}: is a link, which is not followed"
    damage = verify(path, FILES)
    return f"{path}/{damage}" if damage else None


def tensor_header(path: Path) -> tuple[dict[str, Any], int]:
    """Return what a safetensors file says of its tensors, by name, and where their bytes begin.

    Raises ValueError or OSError, also for a header so large, or of so many dimensions, that reading would take long,
    and for tensors that claim more bytes than the file has.
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
        raise ValueError("its header is no JSON object")
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
