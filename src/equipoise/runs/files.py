"""Files written whole or not at all, and JSON read with errors that say what to do."""

import os
import tempfile
from pathlib import Path
from typing import Any

import msgspec

from equipoise.errors import UserError


def write_bytes(path: Path, data: bytes) -> None:
    """Replace a file in one step: written aside, synced, renamed, and the folder synced; raises OSError."""
    descriptor, aside = tempfile.mkstemp(prefix=".aside-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), 0o644)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException:
        Path(aside).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Put the names in a folder on the disk, so that a rename survives a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: Path, values: Any) -> None:
    """Write values as indented JSON in one step; NaN and infinity become null."""
    write_bytes(path, msgspec.json.format(msgspec.json.encode(values), indent=2) + b"\n")


def read_json(path: Path) -> dict[str, Any] | None:
    """Read a JSON object, None if there is no such file; raises UserError if it is damaged or unreadable."""
    try:
        values = msgspec.json.decode(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}). Check its permissions.") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: damaged, no JSON ({error}). Restore it from a copy.") from None
    if not isinstance(values, dict):
        raise UserError(f"{path}: damaged, expected a JSON object. Restore it from a copy.")
    return values
