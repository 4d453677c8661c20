"""What a training does to the files of its run, call by call: counted, cut short by a kill, followed to the disk."""

import builtins
import io
import itertools
import json
import os
import re
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from places import replace_in_package

NAMES = ("fsync", "rename", "replace", "unlink", "rmdir", "mkdir", "ftruncate", "write", "pwrite", "open")
FOR_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


@dataclass(frozen=True)
class Call:
    """One call that changes a run's files, or puts them on the disk; paths are relative to the folder above the run."""

    name: str
    path: str
    target: str = ""  # of a rename

    @property
    def kind(self) -> tuple[str, str]:
        """Return what two runs have in common: `replace` is a rename, and names lent for an instant are random."""
        path = re.sub(r"[.]aside-[^/]+", ".aside", self.path)
        if self.name == "replace":
            return "rename", path
        return self.name, path

    @property
    def place(self) -> tuple[str, str, str]:
        """Return what the calls have in common that do the same to files of one kind, of any run at any samples."""
        name, path = self.kind
        return name, _nameless(path), _nameless(self.target)


def _nameless(path: str) -> str:
    """Return a path without the name of its run and without numbers."""
    return re.sub(r"\d+", "N", re.sub(r"^[^/.][^/]*", "run", path))


def record(out: Path, to: Path, *, synchronous: bool = True, is_careless: bool = False) -> None:
    """Write every call of this process to a file of JSON lines, once it has succeeded or failed.

    A careless process leaves out the syncs of what it has written: the tests that look for them must see it.
    """
    if synchronous:
        write_at_once()
    if is_careless:
        from equipoise.runs import folder
        from equipoise.storage import files

        files.sync = folder.sync = lambda path: None
    lines = os.open(to, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    real = os.write

    def after(call: Call, error: str) -> None:
        real(lines, json.dumps([call.name, call.path, call.target, error]).encode() + b"\n")

    wrap(out, lambda call: None, after)


def mark(place: str, lines: Path, to: Path) -> None:
    """Write down how many calls `record` has told when a function of the package begins, and when it ends."""

    def marking(*given: Any, **named: Any) -> Any:
        _note(lines, to)
        result = real(*given, **named)
        _note(lines, to)
        return result

    real = replace_in_package(place, marking)


def _note(lines: Path, to: Path) -> None:
    with to.open("a") as file:
        file.write(f"{len(lines.read_bytes().splitlines())}\n")


def recorded(path: Path, *, failed: bool = True) -> list[Call]:
    """Return what `record` wrote, if asked without the calls that failed."""
    found = [json.loads(line) for line in path.read_text().splitlines()]
    return [Call(*values[:3]) for values in found if failed or not values[3]]


def kill_before(out: Path, index: int, torn: bool = False) -> None:
    """Kill this process before one call, counted from 0; a torn one has written half of its bytes."""
    count = itertools.count()
    _kill_when(out, lambda call: next(count) == index, torn)


def kill_at_place(out: Path, place: tuple[str, str, str], torn: bool = False) -> None:
    """Kill this process before its first call of a place, or within it."""
    _kill_when(out, lambda call: call.place == place, torn)


def _kill_when(out: Path, is_due: Callable[[Call], bool], torn: bool) -> None:
    write_at_once()
    is_next = False

    def before(call: Call) -> None:
        nonlocal is_next
        is_next = is_due(call)
        if is_next and not torn:
            os.kill(os.getpid(), signal.SIGKILL)

    real = os.write

    def half(descriptor: int, data: bytes) -> int:
        if not is_next:
            return real(descriptor, data)
        real(descriptor, data[: len(data) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
        return 0

    if torn:
        os.write = half
    wrap(out, before, lambda call, error: None)


def wrap(out: Path, before: Callable[[Call], None], after: Callable[[Call, str], None]) -> None:
    """Have every call of this process that concerns a run told before and after it; one at a time."""
    lock = threading.RLock()

    def told(name: str, real: Callable[..., Any], *given: Any, **named: Any) -> Any:
        call = _call(name, out, given, named)
        if call is None:
            return real(*given, **named)
        with lock:
            before(call)
            try:
                result = real(*given, **named)
            except OSError as error:
                after(call, type(error).__name__)
                raise
            after(call, "")
            return result

    for name in NAMES:
        setattr(os, name, partial(told, name, getattr(os, name)))
    builtins.open = io.open = partial(told, "open", io.open)


def write_at_once() -> None:
    """Let the training write by itself, so that the calls have one order."""
    from equipoise.host.writer import BackgroundWriter

    BackgroundWriter.submit = lambda self, job: job()


def _call(name: str, out: Path, given: tuple[Any, ...], named: dict[str, Any]) -> Call | None:
    if name == "open" and not _is_for_writing(given, named):
        return None
    path = _path(given[0], named.get("dir_fd"))
    base = os.fspath(out.parent)
    if path != base and path != os.fspath(out) and not path.startswith(f"{os.fspath(out)}/"):
        return None
    target = ""
    if name in ("rename", "replace"):
        target = os.path.relpath(os.fspath(given[1]), base)
    return Call(name, os.path.relpath(path, base), target)


def _is_for_writing(given: tuple[Any, ...], named: dict[str, Any]) -> bool:
    if isinstance(given[0], int):
        return False  # a descriptor that is there already
    how = named.get("flags", named.get("mode", "r"))
    if len(given) > 1:
        how = given[1]
    if isinstance(how, int):
        return bool(how & FOR_WRITING)
    return bool(set(how) & set("wax+"))


def _path(place: Any, folder: int | None) -> str:
    if isinstance(place, int):
        return os.readlink(f"/proc/self/fd/{place}")
    path = os.fsdecode(place)
    if folder is not None:
        return os.path.join(os.readlink(f"/proc/self/fd/{folder}"), path)
    return os.path.abspath(path)


@dataclass
class Disk:
    """What a power cut would spare: a file's bytes once it was synced, a name once its folder was."""

    folders: set[str] = field(default_factory=set)
    bare: set[str] = field(default_factory=set)  # files with bytes that are not on the disk
    loose: set[str] = field(default_factory=set)  # names that are not on the disk

    def take(self, call: Call) -> None:
        """Follow one call that succeeded."""
        match call.name:
            case "mkdir":
                self.folders.add(call.path)
                self.loose.add(call.path)
            case "open":
                self.bare.add(call.path)
                self.loose.add(call.path)
            case "write" | "pwrite" | "ftruncate":
                self.bare.add(call.path)
            case "fsync":
                self.bare.discard(call.path)
                self.loose = {path for path in self.loose if os.path.dirname(path) != _above(call.path)}
            case "rename" | "replace":
                for paths in (self.folders, self.bare, self.loose):
                    moved = {path for path in paths if _is_in(path, call.path)}
                    gone = {path for path in paths if _is_in(path, call.target)}
                    paths -= moved | gone
                    paths |= {call.target + path[len(call.path) :] for path in moved}
                self.loose.add(call.target)
            case "unlink" | "rmdir":
                for paths in (self.folders, self.bare, self.loose):
                    paths.discard(call.path)
            case other:
                raise AssertionError(other)

    def at_risk(self, below: str = "") -> list[str]:
        """Return what a power cut could take now; a lock is of use only while its process lives."""
        paths = self.bare | self.loose
        return sorted(path for path in paths if _is_in(path, below) and os.path.basename(path) != "lock")


def _above(folder: str) -> str:
    if folder == ".":
        return ""
    return folder


def _is_in(path: str, folder: str) -> bool:
    return not folder or path == folder or path.startswith(f"{folder}/")


def broken_promises(calls: list[Call]) -> list[str]:
    """Return where a run could lose by a power cut what a checkpoint, or a folder written whole, relies on."""
    disk = Disk()
    found = []
    for call in calls:
        is_rename = call.name in ("rename", "replace")
        if is_rename and re.search(r"/checkpoints/\d+$", call.target):
            found += [f"{path} is not on the disk before {call.target}" for path in disk.at_risk() if path != call.path]
        elif is_rename and call.path.endswith(".partial"):
            inside = [path for path in disk.at_risk(call.path) if path != call.path]
            found += [f"{path} is not on the disk before {call.target}" for path in inside]
        elif is_rename and call.target.endswith((".gone", ".old")):
            loose = [path for path in disk.at_risk() if re.search(r"/checkpoints/\d+$", path)]
            found += [f"{path} is not on the disk before {call.path} goes" for path in loose]
        disk.take(call)
    return found
