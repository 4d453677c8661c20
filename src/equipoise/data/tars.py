"""Tar files without trust: read header by header, each checked by its checksum, never unpacked.

The formats of POSIX (ustar, pax) and of GNU tar, uncompressed.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass

RECORD = 512  # bytes; a header takes one, and what follows it whole ones
MAX_EXTENDED = 2**16  # bytes of a header that holds a long name
_FILES = b"0\0" + b"7"  # types of ordinary files
_FOLDER = b"5"
_LONG_NAME = b"L"  # of GNU tar: the name of the next member
_LONG_LINK = b"K"
_EXTENDED = b"x"  # of POSIX: keys and values of the next member
_FOR_ALL = b"g"
_SPARSE = b"S"


@dataclass(frozen=True, slots=True)
class Member:
    """A file of a tar file: where its bytes lie."""

    name: str
    offset: int
    size: int
    flaw: str | None = None  # why it cannot be read


def members(descriptor: int) -> Iterator[Member]:
    """Yield the files of a tar file in their order, folders left out; raises ValueError where it is damaged."""
    end = os.fstat(descriptor).st_size
    place = 0
    values: dict[str, str] = {}  # of the next member
    while place < end:
        header = os.pread(descriptor, RECORD, place)
        if len(header) == RECORD and not header.strip(b"\0"):
            return  # an empty record ends it
        if len(header) < RECORD or not _is_whole(header):
            raise ValueError(f"damaged at byte {place:,}")
        kind = header[156:157]
        size = _size(header, values, place)
        begin = place + RECORD
        place = begin + -(-size // RECORD) * RECORD
        if begin + size > end:
            break
        if kind in (_LONG_NAME, _EXTENDED):
            values |= _extended(descriptor, kind, begin, size)
        elif kind not in (_LONG_LINK, _FOR_ALL):
            name = values.get("path") or _name(header)
            if kind != _FOLDER and not name.endswith("/"):
                yield Member(name, begin, size, _flaw(kind, values))
            values = {}
    raise ValueError("it ends too early, as a download that broke off")


def read_member(descriptor: int, offset: int, size: int) -> bytes:
    """Return the bytes of a member; raises OSError where they are not there."""
    content = os.pread(descriptor, size, offset)
    if len(content) < size:  # it was cut since it was listed
        raise OSError("it ends too early")
    return content


def _is_whole(header: bytes) -> bool:
    """Return whether the checksum of a header is right: the sum of its bytes, with blanks in the checksum's place."""
    try:
        stated = _octal(header[148:156])
    except ValueError:
        return False
    others = header[:148] + header[156:]
    found = sum(others) + 8 * 32
    return found == stated or found - 256 * sum(letter > 127 for letter in others) == stated  # old programs add signed


def _octal(field: bytes) -> int:
    text = field.split(b"\0")[0].strip()
    return int(text, 8) if text else 0


def _size(header: bytes, values: dict[str, str], place: int) -> int:
    """Return the size of a member; raises ValueError for one that is no number."""
    field = header[124:136]
    try:
        if "size" in values:
            size = int(values["size"])
        elif field[0] & 0x80:  # GNU tar writes large ones in binary
            size = int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
        else:
            size = _octal(field)
    except ValueError:
        size = -1
    if size < 0:
        raise ValueError(f"damaged at byte {place:,}")
    return size


def _name(header: bytes) -> str:
    name = header[:100].split(b"\0")[0]
    prefix = header[345:500].split(b"\0")[0] if header[257:263] == b"ustar\0" else b""
    return (prefix + b"/" + name if prefix else name).decode(errors="surrogateescape")


def _flaw(kind: bytes, values: dict[str, str]) -> str | None:
    if kind == _SPARSE or any(key.startswith("GNU.sparse") for key in values):
        return "stored with holes, which is not supported"
    return None if kind in _FILES else "a link or a device, not a file"


def _extended(descriptor: int, kind: bytes, begin: int, size: int) -> dict[str, str]:
    """Return what a header for the next member says of it; raises ValueError where that is damaged."""
    if size > MAX_EXTENDED:
        raise ValueError(f"damaged at byte {begin:,}")
    content = os.pread(descriptor, size, begin)
    if kind == _LONG_NAME:
        return {"path": content.split(b"\0")[0].decode(errors="surrogateescape")}
    values = {}
    while content:
        length, _, rest = content.partition(b" ")
        try:
            end = int(length) - len(length) - 1
        except ValueError:
            end = 0
        if not 0 < end <= len(rest) or b"=" not in rest[:end]:
            raise ValueError(f"damaged at byte {begin:,}")
        key, _, value = rest[: end - 1].partition(b"=")
        values[key.decode(errors="surrogateescape")] = value.decode(errors="surrogateescape")
        content = rest[end:]
    return values
