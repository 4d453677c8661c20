"""Who trains in a folder: one process at a time, by a lock that the kernel frees when that process dies."""

import contextlib
import fcntl
import os
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from equipoise.errors import UserError

NAME = "lock"
NUM_ATTEMPTS = 40  # of 50 ms each
NUM_PATIENT = 5  # attempts, since a reader asking who trains holds the lock for an instant


class Holder(msgspec.Struct, frozen=True):
    """The process that trains in a folder."""

    host: str
    pid: int


UNKNOWN = Holder("unknown", 0)  # who holds the lock without its file saying who


class Busy(Exception):
    """Another process holds the folder; `holder` says which, if that is known."""

    def __init__(self, holder: Holder | None) -> None:
        super().__init__(holder)
        self.holder = holder


@contextlib.contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold a folder while entered; raises Busy where another process does, UserError where there are no locks."""
    descriptor = os.open(folder / NAME, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    process = os.getpid()
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise UserError(folder / NAME, "is not a regular file", "Remove it, then continue")
        if not _locked(descriptor, folder):
            raise Busy(_read_holder(descriptor))
        with _folder_locked(folder):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, msgspec.json.encode(Holder(socket.gethostname(), os.getpid())), 0)
            try:
                yield
            finally:
                with contextlib.suppress(OSError):  # or a failing disk would hide what has failed before
                    if os.getpid() == process:  # a forked process ends, and the run of this one goes on
                        os.ftruncate(descriptor, 0)
    finally:
        os.close(descriptor)


def holder_of(folder: Path) -> Holder | None:
    """Return who holds a folder right now, None if nobody does, or if it cannot be said."""
    try:
        descriptor = os.open(folder / NAME, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read_holder_soon(descriptor) or UNKNOWN
    except OSError:
        return None  # of a file system without locks nobody can tell
    else:
        return None
    finally:
        os.close(descriptor)


def named(holder: Holder | None) -> str:
    """Return who holds a folder as one says it."""
    if holder is None or holder == UNKNOWN:
        return "another process"
    return f"process {holder.pid} on {holder.host}"


def is_this_process(holder: Holder) -> bool:
    """Return whether the holder is the process that asks: another lock of its own is still open."""
    return holder == Holder(socket.gethostname(), os.getpid())


def is_lock_file(descriptor: int) -> bool:
    """Return whether an open file is empty or says who held a folder: then it is one of these locks."""
    return not os.pread(descriptor, 1, 0) or _read_holder(descriptor) is not None


def _locked(descriptor: int, folder: Path) -> bool:
    """Try for a quarter of a second, and as long as nobody has said that he trains, for two seconds.

    Many readers at once hold the lock for longer than one.
    """
    for attempt in range(NUM_ATTEMPTS):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if attempt >= NUM_PATIENT and _read_holder(descriptor) is not None:
                return False
            time.sleep(0.05)
        except OSError as error:
            problem = f"this file system has no locks ({error.strerror}), so two trainings could not be kept apart"
            raise UserError(folder, problem, "Use a folder on another disk") from None
        else:
            return True
    return False


@contextlib.contextmanager
def _folder_locked(folder: Path) -> Iterator[None]:
    """Hold the folder itself, too: somebody may take the lock's file for one left behind, and remove it.

    Raises Busy. A file system that does not lock folders goes without.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(None) from None
        except OSError:
            pass
        yield
    finally:
        os.close(descriptor)


def _read_holder_soon(descriptor: int) -> Holder | None:
    """Wait an instant for who has just begun to hold the lock to say so."""
    for _ in range(10):
        if holder := _read_holder(descriptor):
            return holder
        time.sleep(0.02)
    return None


def _read_holder(descriptor: int) -> Holder | None:
    try:
        return msgspec.json.decode(os.pread(descriptor, 4096, 0), type=Holder)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OSError):
        return None
