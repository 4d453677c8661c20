"""Files and folders written whole or not at all, and JSON read with errors that say what to do."""

import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from equipoise.errors import Part, StorageError, UserError, is_of_disk
from equipoise.storage.safe_open import open_regular, read_bytes

MANIFEST = "manifest.json"  # SHA-256 of every other file of a folder
MAX_JSON_BYTES = 2**28  # far more than any run writes; what is read takes ten times as much memory
_ASIDE = re.compile(r"[.]aside-[0-9]+-[0-9a-f]{8}")  # a file that is being written, by which process
_LEFT = re.compile(r"[.](?P<name>best|start|[0-9]+)[.](?P<end>partial|gone|old)")  # of a written or discarded folder


def aside_in(folder: Path) -> Path:
    """Return a new path in a folder for what is being written, to rename once it is whole."""
    return folder / f".aside-{os.getpid()}-{secrets.token_hex(4)}"  # mkstemp would ignore the umask


def write_bytes(path: Path, data: bytes) -> None:
    """Replace a file in one step, as `replaced` does; raises OSError."""
    with replaced(path) as file:
        file.write(data)


@contextlib.contextmanager
def replaced(path: Path) -> Iterator[BinaryIO]:
    """Lend a file to fill, which then replaces `path`: synced, renamed, the folder synced; raises OSError.

    Where filling it raises, `path` stays as it was and nothing is left beside it.
    """
    aside = aside_in(path.parent)
    try:
        with aside.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    sync(path.parent)


def sync(path: Path) -> None:
    """Put a file, or the names in a folder, on the disk, so that a write or a rename survives a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_all(folder: Path) -> None:
    """Put a folder and everything in it on the disk; raises OSError."""
    for path in [*folder.rglob("*"), folder]:
        if path.is_file() or path.is_dir():
            sync(path)


def write_json(path: Path, values: Any) -> None:
    """Write values as indented JSON in one step; NaN and infinity become null."""
    write_bytes(path, msgspec.json.format(msgspec.json.encode(values), indent=2) + b"\n")


def as_read(values: Any) -> Any:
    """Return values as they come back from a file."""
    return msgspec.json.decode(msgspec.json.encode(values))


def read_json(path: Path, remedy: Part = "Restore it from a copy") -> dict[str, Any] | None:
    """Read a JSON object, None if there is no such file; raises UserError if it is damaged or unreadable."""
    try:
        values = msgspec.json.decode(read_bytes(path, MAX_JSON_BYTES))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        problem = f"cannot be read ({error.strerror})"
        if is_of_disk(error):
            raise StorageError(path, problem, "Check the disk") from None
        raise UserError(path, problem, "Check its permissions") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UserError(path, f"damaged, not JSON ({error})", remedy) from None
    if not isinstance(values, dict):
        raise UserError(path, "damaged, not a JSON object", remedy)
    return values


@contextlib.contextmanager
def written_whole(final: Path) -> Iterator[Path]:
    """Lend an empty folder, which replaces `final`, with a manifest, once it is filled; raises OSError.

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
        sync_all(aside)
        _replace_folder(aside, final)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def discard(folder: Path) -> None:
    """Remove a folder so that it is there whole or not at all; raises OSError."""
    gone = folder.with_name(f".{folder.name}.gone")
    shutil.rmtree(gone, ignore_errors=True)
    os.rename(folder, gone)
    shutil.rmtree(gone, ignore_errors=True)


def tidy(folder: Path) -> None:
    """Clear up what a kill has left among things written whole; only for who may write there; raises OSError.

    Only what has a name that is given here is touched, and no link: whatever else lies there is the user's.
    """
    for left in sorted(folder.glob(".*")):
        if is_aside(left):
            left.unlink(missing_ok=True)
        elif (match := _LEFT.fullmatch(left.name)) and left.is_dir() and not left.is_symlink():
            final = folder / match["name"]
            if match["end"] != "old" or final.exists():
                shutil.rmtree(left, ignore_errors=True)
            elif not final.is_symlink():  # between the two renames of a replacement
                os.rename(left, final)


def is_aside(path: Path) -> bool:
    """Return whether a file is one that `write_bytes` was writing; raises OSError."""
    return _ASIDE.fullmatch(path.name) is not None and path.is_file() and not path.is_symlink()


def readable(final: Path) -> Path:
    """Return the folder to read: `final`, or the one it was about to replace if a crash fell between."""
    old = final.with_name(f".{final.name}.old")
    if old.exists() and not final.exists():
        return old
    return final


def verify(path: Path, names: Collection[str] | None = None) -> str | None:
    """Return what is wrong with a folder that was `written_whole`, the bad file's name first, or None.

    `names` are the files that its manifest must list, and no others; none of them may be a link then.
    """
    try:
        digests = json.loads(read_bytes(path / MANIFEST, MAX_JSON_BYTES))
    except (OSError, ValueError, RecursionError):
        return f"{MANIFEST} cannot be read"
    if not isinstance(digests, dict):
        return f"{MANIFEST} is not a JSON object"
    for name in names or ():
        if name not in digests:
            return f"{MANIFEST} does not list {name}"
    for name, digest in digests.items():
        if not _is_below(name) or (names is not None and name not in names):
            return f"{MANIFEST} lists a file that does not belong here: {name[:80]!r}"
        if damage := _damage(path, name, digest, may_be_link=names is None):
            return damage
    return None


def _is_below(name: str) -> bool:
    """Return whether a name leads to a place within its folder."""
    return "\0" not in name and not any(part in ("", ".", "..") for part in name.split("/"))


def _damage(path: Path, name: str, digest: Any, *, may_be_link: bool) -> str | None:
    try:
        if not may_be_link and (path / name).is_symlink():
            return f"{name} is a link"
        if not (path / name).is_file():
            return f"{name} is missing"
        if _digest(path / name) != digest:
            return f"{name} does not match its SHA-256"
    except OSError as error:
        return f"{name} cannot be read ({error.strerror})"
    return None


def _replace_folder(aside: Path, final: Path) -> None:
    """Put a folder in place of another; between the two renames `readable` finds the old one."""
    old = final.with_name(f".{final.name}.old")
    if final.exists():
        shutil.rmtree(old, ignore_errors=True)
        os.rename(final, old)
    try:
        os.rename(aside, final)
    except OSError:
        if old.exists():
            os.rename(old, final)
        raise
    sync(final.parent)
    shutil.rmtree(old, ignore_errors=True)


def _digest(path: Path) -> str:
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
