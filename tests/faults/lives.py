"""The command line as processes in which something is done at a chosen moment, and what they leave."""

import errno
import functools
import hashlib
import importlib
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import killing
from small import as_options

from equipoise.runs import digest
from equipoise.runs.folder import RunFolder
from equipoise.storage.files import verify

BUDGET = 520  # with a look every 160 samples, so that the last one is at the end of the budget and nowhere else
LONGEST = 60.0  # seconds of a whole life on a busy machine

Deed = Callable[[], None]


@dataclass(frozen=True)
class Life:
    """A process that is the command line, and where its two streams go."""

    process: BaseProcess
    out: Path
    err: Path

    def ended(self, within: float = LONGEST) -> int:
        """Wait for the end and return the exit code."""
        self.process.join(within)
        if self.process.exitcode is None:
            self.process.kill()
            raise AssertionError(f"still alive after {within:g} s: {self.said()} {self.told()}")
        return self.process.exitcode

    def said(self) -> str:
        """Return what went to the standard output."""
        return self.out.read_text(errors="replace") if self.out.exists() else ""

    def told(self) -> str:
        """Return what went to the standard error."""
        return self.err.read_text(errors="replace") if self.err.exists() else ""


@dataclass(frozen=True)
class Command:
    """One small settled training, which the same command begins or goes on with."""

    source: Path
    cache: Path
    budget: int = BUDGET
    settings: tuple[str, ...] = killing.SETTLED

    def train(self, out: Path) -> list[str]:
        """Return the arguments of the command line."""
        words = ["--budget", str(self.budget), "--device", "cpu", *as_options(self.settings)]
        return ["train", os.fspath(self.source), "--out", os.fspath(out), "--resume", *words]

    def begun(self, out: Path, hook: Deed | None = None) -> Life:
        """Begin the training in `out`, or go on with it."""
        return begun(self.train(out), self.cache, hook)

    def finished(self, out: Path) -> dict[str, str]:
        """Let the training in `out` come to its end and return the digests of its parts."""
        life = self.begun(out)
        code = life.ended()
        assert code == 0, f"{code}: {life.said()} {life.told()}"
        assert RunFolder(out).read_state()["status"] == "finished"
        return parts_of(out)


@functools.cache
def expected(command: Command) -> dict[str, str]:
    """Return what the training leaves that nothing befalls; it is trained once."""
    return command.finished(command.cache.with_name("whole"))


def parts_of(out: Path) -> dict[str, str]:
    """Return the digests of a run's parts, those of its best generator and of its last choice besides."""
    run = RunFolder(out)
    found, state = digest.digest(run), run.read_state()
    assert verify(run.best) is None
    choice = killing.timeless([state.get("best"), state.get("rescored"), state.get("test")])
    weights = hashlib.sha256((run.best / "generator.safetensors").read_bytes()).hexdigest()
    return found.parts | {"choice": repr(choice), "best": weights, "samples": str(found.samples)}


num_lives = 0


def begun(arguments: Sequence[str], cache: Path, hook: Deed | None = None) -> Life:
    """Start the command line as a process; `hook` is called in it before all else."""
    global num_lives
    num_lives += 1
    out, err = (cache.with_name(f"{cache.name}.{os.getpid()}-{num_lives}.{name}") for name in ("out", "err"))
    process = killing.CONTEXT.Process(target=_live, args=(list(arguments), cache, out, err, hook))
    process.start()
    return Life(process, out, err)


def _live(arguments: list[str], cache: Path, out: Path, err: Path, hook: Deed | None) -> None:
    for path, number in ((out, 1), (err, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666), number)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored, where the tests run behind a script
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # ignored, where they run under nohup
    killing.live(arguments, cache, hook)


# What is done in them; all of it can be sent to a process


def at(place: str, call: int, deed: Deed) -> None:
    """Do something just before the `call`-th call of a function, `module.name` or `module.Class.name`."""
    holder, name = _holder(f"equipoise.{place}")
    real, count = getattr(holder, name), [0]

    def doing(*given: Any, **named: Any) -> Any:
        count[0] += 1
        if count[0] == call:
            deed()
        return real(*given, **named)

    setattr(holder, name, doing)


def _holder(place: str) -> tuple[Any, str]:
    """Return the module or the class that holds a function, and the function's own name."""
    above, _, name = place.rpartition(".")
    module, _, last = above.rpartition(".")
    if last[:1].isupper():
        return getattr(importlib.import_module(module), last), name
    return importlib.import_module(above), name


def worsening() -> None:
    """Let every look find a worse generator than the one before, so that from the fourth on none is a candidate."""
    from equipoise.evaluation import evaluate

    real = evaluate.judged

    def worse(problem: Any, state: Any, *given: Any) -> dict[str, Any]:
        values = real(problem, state, *given) | {"kid": 0.01 * state.samples}
        return values | ({"difference": 1.0, "difference_se": 0.001} if "difference" in values else {})

    evaluate.judged = worse


def kill() -> None:
    """End this process as nothing can prevent."""
    os.kill(os.getpid(), signal.SIGKILL)


def send(number: int, wait: float = 0.0) -> None:
    """Send this process a signal, then be busy for a while with what only a signal ends."""
    os.kill(os.getpid(), number)
    end = time.monotonic() + wait
    while time.monotonic() < end:
        time.sleep(1.0)


def ignore(number: int) -> None:
    """Ignore a signal from now on."""
    signal.signal(number, signal.SIG_IGN)


def send_twice(number: int, apart: float, wait: float) -> None:
    """Send this process a signal now and again a little later, and be busy meanwhile."""
    threading.Timer(apart, os.kill, (os.getpid(), number)).start()
    send(number, wait)


def both(*deeds: Deed) -> None:
    """Do several things."""
    for deed in deeds:
        deed()


def fail(module: str, name: str, match: str, call: int, number: int) -> None:
    """Let the `call`-th call of a function of the system on a path that matches raise this error, and all after it."""
    place: Any = importlib.import_module(module)
    *classes, name = name.split(".")
    for inner in classes:
        place = getattr(place, inner)
    real, count = getattr(place, name), [0]

    def failing(*given: Any, **named: Any) -> Any:
        path = _path_of(given[0])
        if re.search(match, path):
            count[0] += 1
            if count[0] >= call:
                raise OSError(number, os.strerror(number), path if isinstance(given[0], str | Path) else None)
        return real(*given, **named)

    setattr(place, name, failing)


def _path_of(given: Any) -> str:
    return os.readlink(f"/proc/self/fd/{given}") if isinstance(given, int) else os.fspath(given)


def broken_pipe() -> None:
    """Let nobody read what this process prints."""
    read, write = os.pipe()
    os.close(read)
    print_to(write)


def full_output() -> None:
    """Let what this process prints go to a full disk."""
    print_to(os.open("/dev/full", os.O_WRONLY))


def print_to(descriptor: int) -> None:
    """Let what this process prints go elsewhere; a stream learns only when it is made whether it can be sought in."""
    os.dup2(descriptor, 1)
    sys.stdout = os.fdopen(1, "w", closefd=False)


def no_output() -> None:
    """Let this process have no standard output at all."""
    os.close(1)
    sys.stdout = None  # as Python has it then


def ordinary() -> None:
    """Become a user without privileges."""
    os.setgid(65534)
    os.setuid(65534)


def lock_up(folder: Path) -> None:
    """Take away the permission to write into a folder and all below."""
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)


def unlock(folder: Path) -> None:
    """Give the permission back."""
    folder.chmod(0o755)
    for path in folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)


def signalled(place: str, call: int, number: int, wait: float = 0.0) -> Deed:
    """Return a hook that sends a signal at a moment."""
    return partial(at, place, call, partial(send, number, wait))


def one_line(told: str) -> str:
    """Return what a failed command has told, which must be one line and no traceback."""
    assert told.startswith("equipoise: "), told
    assert told.count("\n") == 1, told
    return told


STORAGE = (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS)


def wait_for(path: Path) -> None:
    """Wait until a file is there."""
    end = time.monotonic() + 2 * LONGEST
    while not path.exists() and time.monotonic() < end:
        time.sleep(0.05)


def until(condition: Callable[[], bool]) -> None:
    """Wait until something holds, which it does at once where nothing is broken."""
    end = time.monotonic() + LONGEST
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def go_to(folder: Path, mask: int) -> None:
    """Be a process that was started in a folder, with a mask for what it makes."""
    os.chdir(folder)
    os.umask(mask)


def surround(changes: dict[str, str | None]) -> None:
    """Change the environment; None takes a name away."""
    for name, value in changes.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
