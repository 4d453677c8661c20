"""Files and folders written whole or not at all, and JSON read with errors that say what to do."""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from equipoise.errors import UserError

MANIFEST = "manifest.json"  # SHA-256 of every other file of a folder


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
    sync(path.parent)


def sync(path: Path) -> None:
    """Put a file, or the names in a folder, on the disk, so that a write or a rename survives a power cut."""
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


@contextlib.contextmanager
def written_whole(final: Path) -> Iterator[Path]:
    """Lend an empty folder, which takes the place of `final` with a manifest once it is filled; raises OSError.

    Where filling it raises, `final` stays as it was and nothing is left beside it.
    """
    aside = final.with_name(f".{final.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        yield aside
        files = sorted(path for path in aside.rglob("*") if path.is_file())
        digests = {path.relative_to(aside).as_posix(): _digest(path) for path in files}
        (aside / MANIFEST).write_text(json.dumps(digests, indent=1))
        for path in [*files, aside / MANIFEST, *(path for path in aside.rglob("*") if path.is_dir()), aside]:
            sync(path)
        _replace_folder(aside, final)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def readable(final: Path) -> Path:
    """Return the folder to read: `final`, or the one it was about to replace if a crash fell between."""
    old = final.with_name(f".{final.name}.old")
    return final if final.exists() or not old.exists() else old


def verify(path: Path) -> str | None:
    """Return what is wrong with a folder that was `written_whole`, or None if all is well."""
    try:
        digests = json.loads((path / MANIFEST).read_text())
    except (OSError, ValueError):
        return f"{MANIFEST} cannot be read"
    for name, digest in digests.items():
        if not (path / name).is_file():
            return f"{name} is missing"
        if _digest(path / name) != digest:
            return f"{name} does not match its SHA-256"
    return None


def _replace_folder(aside: Path, final: Path) -> None:
    """Put a folder in place of another; between the two renames `readable` finds the old one."""
    old = final.with_name(f".{final.name}.old")
    if final.exists():
        shutil.rmtree(old, ignore_errors=True)
        os.rename(final, old)
    os.rename(aside, final)
    sync(final.parent)
    shutil.rmtree(old, ignore_errors=True)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
