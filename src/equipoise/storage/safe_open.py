"""Opening what may be anything: a regular file is read, and nothing that could block."""

import errno
import os
import stat
from io import BufferedReader
from pathlib import Path


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file to read its bytes; raises OSError, also for a pipe or a device, which could block."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.ENOTSUP, "not a regular file", str(path))
    return os.fdopen(descriptor, "rb")


def read_bytes(path: Path, limit: int) -> bytes:
    """Read a whole regular file; raises OSError, also where it holds more than `limit` bytes."""
    with open_regular(path) as file:
        if os.fstat(file.fileno()).st_size > limit:
            raise OSError(errno.EFBIG, f"it holds more than {limit:,} bytes", str(path))
        return file.read()


def writable_text(name: str) -> str:
    """Return a file's name as text that can be written, whatever bytes it holds."""
    return name.encode(errors="replace").decode()
