"""Append-only logs of one JSON object a line; a torn last line is as if it had never been written."""

import collections
import errno
import itertools
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from equipoise.storage.files import write_bytes
from equipoise.storage.safe_open import open_regular

MAX_LINE = 2**24  # bytes; no record is as long, and no longer line is ever held in memory
MOST_SCORES = 10_000  # no training takes as many; a log of more would take memory and time without end


def append(path: Path, record: Any) -> None:
    """Append one mapping or dataclass with a single write, after removing what a crash has torn.

    NaN and infinity become null. Raises OSError, and leaves no half line, when the disk is full; so it does for a link,
    as what that leads to may be another's.
    """
    line = msgspec.json.encode(record) + b"\n"
    file = _opened(path)
    try:
        if not stat.S_ISREG(os.fstat(file).st_mode):
            raise OSError(errno.ENOTSUP, "it is no regular file", str(path))
        _drop_torn_line(file)
        if os.write(file, line) != len(line):
            _drop_torn_line(file)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    finally:
        os.close(file)


def _opened(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    except OSError as error:
        if error.errno == errno.ELOOP:  # no word of "levels" where there is but one link
            raise OSError(errno.ELOOP, "it is a link, which is not followed", str(path)) from None
        raise


def records(path: Path) -> list[dict[str, Any]]:
    """Return every whole record of a log, in memory that grows with their number; none if there is no log yet."""
    try:
        with open_regular(path) as file:
            return [record for line in _lines(file) if (record := _parsed(line)) is not None]
    except FileNotFoundError:
        return []


def last_scores(path: Path) -> list[dict[str, Any]]:
    """Return at most the last 10,000 scores of a log: the records that say after how many samples they were taken."""
    return last_records(path, MOST_SCORES, is_score)


def last_records(
    path: Path, num: int, is_kept: Callable[[dict[str, Any]], bool] = lambda record: True
) -> list[dict[str, Any]]:
    """Return at most the last `num` records of which something is true, without reading the whole of a long log.

    No more of them are in memory at a time, and none is looked for further back than 64 MiB before the end.
    """
    if num < 1:
        return []
    try:
        with open_regular(path) as file:
            size, reach = file.seek(0, os.SEEK_END), 65_536
            while True:
                begin = max(0, size - reach)
                file.seek(begin)
                if begin > 0:
                    file.readline(MAX_LINE)  # the rest of a line that began before
                parsed = (record for line in _lines(file) if (record := _parsed(line)) is not None)
                found = collections.deque(filter(is_kept, parsed), maxlen=num)
                if len(found) == num or begin == 0 or reach > MAX_LINE:
                    return list(found)
                reach *= 4
    except FileNotFoundError:
        return []


def cut(path: Path, samples: int) -> int:
    """Drop the records beyond a checkpoint's samples and return how many; those that do not say where stay."""
    lines = _whole_lines(path)
    kept = [line for line, record in lines if not _is_beyond(record, samples)]
    if len(kept) < len(lines):
        write_bytes(path, b"".join(kept))
    return len(lines) - len(kept)


def drop_last(path: Path, is_dropped: Callable[[dict[str, Any]], bool]) -> None:
    """Drop from the end of a log the records of which that is true, up to the first of which it is not."""
    lines = _whole_lines(path)
    num = sum(1 for _ in itertools.takewhile(is_dropped, (record for _, record in reversed(lines))))
    if num:
        write_bytes(path, b"".join(line for line, _ in lines[:-num]))


def _whole_lines(path: Path) -> list[tuple[bytes, dict[str, Any]]]:
    """Return every whole line with its record; none if there is no log yet."""
    try:
        with open_regular(path) as file:
            return [(line, record) for line in _lines(file) if (record := _parsed(line)) is not None]
    except FileNotFoundError:
        return []


def is_score(record: dict[str, Any]) -> bool:
    """Return whether a record says after how many samples it was taken: no other record is a score."""
    samples = record.get("samples")
    return type(samples) is int and samples >= 0


def _is_beyond(record: dict[str, Any], samples: int) -> bool:
    value = record.get("samples")
    return isinstance(value, int | float) and not isinstance(value, bool) and value > samples


def _lines(file: BinaryIO) -> Iterator[bytes]:
    """Yield whole lines; what follows the last newline is torn, and a line beyond `MAX_LINE` is no record."""
    is_inside = False
    while line := file.readline(MAX_LINE):
        is_end = line.endswith(b"\n")
        if is_end and not is_inside:
            yield line
        is_inside = not is_end


def _parsed(line: bytes) -> dict[str, Any] | None:
    """Return a record, None for a block that a power cut left unwritten, and for anything else that is none."""
    try:
        record = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


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
