"""Zip files without trust: counted before they are listed, checked before they are read, never unpacked.

What zipfile would do by itself: list as many members as it is given, whatever memory that takes, and unpack
bzip2 and LZMA without a bound.
"""

import stat
import struct
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from equipoise.errors import UserError

MAX_RATIO = 200  # what unpacks to more than this many times its size is a bomb
RATIO_FLOOR = 2**24  # bytes up to which nothing is
MAX_DIRECTORY = 2**31  # bytes of the list of members
MAX_NAME = 1024  # characters
_END = b"PK\5\6"  # as zip files mark their parts
_LOCATOR = b"PK\6\7"
_LARGE = b"PK\6\6"
_ENTRY = b"PK\1\2"
_IS_LARGE = 2**32 - 1  # for a length that an end record leaves to the one for large files
_END_LENGTH = 22
_LOCATOR_LENGTH = 20
_LARGE_LENGTH = 56
_LONGEST_COMMENT = 65_535
_LOCAL_LENGTH = 30  # of what stands before a member's name


def opened(path: Path, subject: str, kind: str, most: int) -> zipfile.ZipFile:
    """Open a zip file; raises UserError where it cannot be read, or lists more than `most` members."""
    try:
        with path.open("rb") as file:
            num = _num_listed(file)
        if num > most:
            raise UserError(subject, f"{num} files; at most {most} are allowed", "Unpack it to a folder")
        return zipfile.ZipFile(path)
    except UserError:
        raise
    except Exception as error:  # zipfile raises many types on what is damaged
        reason = str(error)[:200] or type(error).__name__
        raise UserError(subject, f"cannot be read as {kind} ({reason})") from None


def is_bomb(unpacked: int, packed: int) -> bool:
    """Return whether compressed bytes promise more than an honest file holds."""
    return unpacked > RATIO_FLOOR and unpacked > MAX_RATIO * packed


def is_safe_name(member: zipfile.ZipInfo) -> bool:
    """Return whether a member's name leads to a place below a folder, on any system, and can be shown."""
    return is_safe(member.orig_filename)  # zipfile cuts the other name at a NUL


def is_safe(name: str) -> bool:
    """Return whether a name leads to a place below a folder, on any system, and can be shown."""
    parts = name.split("/")
    is_plain = name.isascii() and name.isprintable()
    has_control = not is_plain and any(ord(letter) < 32 or 127 <= ord(letter) < 160 for letter in name)
    is_odd = has_control or "\\" in name or name[1:2] == ":"
    return not is_odd and bool(parts[0]) and ".." not in parts and len(name) <= MAX_NAME


def flaw(member: zipfile.ZipInfo, most_bytes: int) -> str | None:
    """Say why a member is not read, None if it may be."""
    if member.flag_bits & 1:
        return "encrypted"
    if stat.S_IFMT(member.external_attr >> 16) not in (0, stat.S_IFREG):
        return "a link or a device, not a file"
    if member.file_size > most_bytes:
        return f"too large: more than {most_bytes >> 20} MiB"
    if is_bomb(member.file_size, member.compress_size):
        return f"too large: compressed more than {MAX_RATIO}:1"
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "compressed by a method that is not supported"
    return None


def shared(members: Sequence[zipfile.ZipInfo]) -> dict[int, str]:
    """Return the indices of members that repeat a name or overlap another member, each with the reason."""
    found = {}
    end = -1
    names = set()
    for index in sorted(range(len(members)), key=lambda index: members[index].header_offset):
        member = members[index]
        if member.header_offset < end:
            found[index] = "overlaps another file of the zip"
        end = max(end, member.header_offset + _LOCAL_LENGTH + member.compress_size)
    for index, member in enumerate(members):
        if member.filename in names:
            found[index] = "a second file of the same name in the zip"
        names.add(member.filename)
    return found


def _num_listed(file: BinaryIO) -> int:
    """Return at least as many members as zipfile would list; raises ValueError where the list is too long."""
    size = file.seek(0, 2)
    begin = max(0, size - _LONGEST_COMMENT - _END_LENGTH - _LOCATOR_LENGTH)
    file.seek(begin)
    tail = file.read()
    ends = {tail.rfind(_END), len(tail) - _END_LENGTH}  # zipfile takes the second for one without a comment
    return max((_num_before(file, tail, end, begin) for end in ends if end >= 0), default=0)


def _num_before(file: BinaryIO, tail: bytes, end: int, begin: int) -> int:
    """Count the entries before an end record at `end` of a tail that begins at `begin` of the file."""
    if tail[end : end + 4] != _END or len(tail) < end + _END_LENGTH:
        return 0
    (length,) = struct.unpack_from("<L", tail, end + 12)
    lists = [(length, begin + end - length)]  # with where they would begin: zipfile may take any of them
    locator = end - _LOCATOR_LENGTH
    if locator >= 0 and tail[locator : locator + 4] == _LOCATOR:
        (stated,) = struct.unpack_from("<Q", tail, locator + 8)
        before = begin + locator - _LARGE_LENGTH
        for place in (stated, before):  # versions of zipfile differ in which they take
            if 0 <= place <= before:
                file.seek(place)
                mark, large = struct.unpack("<4s36xQ", file.read(48))
                if mark == _LARGE:
                    lists.append((large, place - large))
    if length == _IS_LARGE and len(lists) > 1:
        lists = lists[1:]
    if max(lists)[0] > MAX_DIRECTORY:
        raise ValueError(f"its list of files is longer than {MAX_DIRECTORY >> 30} GiB")
    start = max(0, min(start for _, start in lists))
    file.seek(start)
    left = begin + end - start
    num = 0
    rest = b""
    while left > 0 and (block := file.read(min(left, 2**20))):
        num += (rest + block).count(_ENTRY)
        left -= len(block)
        rest = block[-3:]
    return num
