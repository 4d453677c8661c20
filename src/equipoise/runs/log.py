"""Append-only logs of one JSON object a line; a torn last line is as if it had never been written."""

import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from equipoise.runs.files import write_bytes


def append(path: Path, record: Any) -> None:
    """Append one mapping or dataclass with a single write, after removing what a crash has torn.

    NaN and infinity become null. Raises OSError, and leaves no half line, when the disk is full.
    """
    line = msgspec.json.encode(record) + b"\n"
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
    try:
        _drop_torn_line(file)
        if os.write(file, line) != len(line):
            _drop_torn_line(file)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    finally:
        os.close(file)


def records(path: Path) -> list[dict[str, Any]]:
    """Return every whole record of a log; none if there is no log yet."""
    try:
        return _parsed(path.read_bytes())
    except FileNotFoundError:
        return []


def last_records(path: Path, num: int) -> list[dict[str, Any]]:
    """Return at most the last `num` records without reading the whole log."""
    try:
        with path.open("rb") as file:
            position, data = file.seek(0, os.SEEK_END), b""
            while position > 0 and data.count(b"\n") <= num:
                start = max(0, position - 65_536)
                file.seek(start)
                data = file.read(position - start) + data
                position = start
    except FileNotFoundError:
        return []
    if position > 0:
        data = data[data.index(b"\n") + 1 :] if b"\n" in data else b""
    return _parsed(data)[-num:]


def cut(path: Path, samples: int) -> int:
    """Drop the records beyond a checkpoint's samples and return how many."""
    every = records(path)
    kept = [record for record in every if not isinstance(record.get("samples"), int) or record["samples"] <= samples]
    if path.exists() and len(kept) < len(every):
        write_bytes(path, b"".join(msgspec.json.encode(record) + b"\n" for record in kept))
    return len(every) - len(kept)


def _parsed(data: bytes) -> list[dict[str, Any]]:
    lines = data.split(b"\n")[:-1]  # what follows the last newline is torn, or nothing
    found = []
    for line in lines:
        try:
            record = msgspec.json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            continue  # a block that a power cut left unwritten
        if isinstance(record, Mapping):
            found.append(dict(record))
    return found


def _drop_torn_line(file: int) -> None:
    size = end = os.fstat(file).st_size
    while end > 0:
        start = max(0, end - 65_536)
        newline = os.pread(file, end - start, start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    if end < size:
        os.ftruncate(file, end)
