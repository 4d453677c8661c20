"""The command line as processes in which something is done at a chosen moment, and what they leave."""

import dataclasses
import errno
import functools
import hashlib
import importlib
import itertools
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
import msgspec
from places import holder_of, replace_in_package
from small import as_options

from equipoise.runs import digest
from equipoise.runs.folder import RunFolder
from equipoise.storage.files import verify
from equipoise.storage.records import plain

BUDGET = 520  # with an evaluation every 160 samples, so that the last one is at the end of the budget alone
LONGEST = 300.0  # seconds of a whole life on a busy machine
LEAVING = 120.0  # and of one that is told to leave; what hangs would last for longer

Deed = Callable[[], None]

num_lives = 0


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

    def killed(self) -> None:
        """Kill it, as nothing can prevent."""
        self.process.kill()
        self.process.join()

    def said(self) -> str:
        """Return what went to the standard output."""
        return _text(self.out)

    def told(self) -> str:
        """Return what went to the standard error."""
        return _text(self.err)


def _text(path: Path) -> str:
    if not path.exists():
        return ""
    return path.read_text(errors="replace")


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
        assert RunFolder(out).read_state().status == "finished"
        return parts_of(out)


@functools.cache
def expected(command: Command) -> dict[str, str]:
    """Return what the training leaves that nothing befalls; it is trained once."""
    return command.finished(command.cache.with_name(f"whole-{num_lives}"))


def parts_of(out: Path) -> dict[str, str]:
    """Return the digests of a run's parts, those of its best generator and of how it ended besides."""
    run = RunFolder(out)
    found = digest.digest(run)
    assert verify(run.best) is None
    end = killing.timeless(plain(run.read_state()))
    weights = hashlib.sha256((run.best / "generator.safetensors").read_bytes()).hexdigest()
    return found.parts | {"end": repr(end), "best": weights, "samples": str(found.samples)}


def begun(arguments: Sequence[str], cache: Path, hook: Deed | None = None) -> Life:
    """Start the command line as a process; `hook` is called in it before all else."""
    global num_lives
    num_lives += 1
    out = cache.with_name(f"{cache.name}.{os.getpid()}-{num_lives}.out")
    err = out.with_suffix(".err")
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
    count = itertools.count(1)

    def doing(*given: Any, **named: Any) -> Any:
        if next(count) == call:
            deed()
        return real(*given, **named)

    real = replace_in_package(place, doing)


def at_last(place: str, call: int, deed: Deed) -> None:
    """Do what `at` does, and hang where the function is called once more: it must not be."""
    at(place, call, deed)
    at(place, call + 1, partial(send, 0, 2 * LONGEST))


def worsening() -> None:
    """Let every evaluation find a worse generator than the one before: from the fourth on none is a candidate."""
    from equipoise.evaluation.evaluate import Contender, Evaluation

    def worse(task: Any, judge: Any, contender: Contender, best: Contender | None, deadline: Any) -> Evaluation:
        found = real(task, judge, contender, best, deadline)
        changes: dict[str, Any] = {"loss": 0.01 * contender.samples}
        if best is not None:
            changes |= {"difference": 1.0, "difference_error": 0.001}
        return Evaluation(msgspec.structs.replace(found.score, **changes), found.measured)

    real = replace_in_package("evaluation.scoring.evaluate", worse)


TASKS = ("tasks.images.ImageTask", "tasks.points.PointTask", "tasks.super_resolution.SuperTask")


def diverging(begin: int, attempts: int, end: int = sys.maxsize) -> None:
    """Let the generator's loss be NaN between some samples in the first attempts, whatever is learned."""
    for task in TASKS:
        _poison(f"{task}.generator_terms", begin, end, attempts)


def _poison(place: str, begin: int, end: int, attempts: int) -> None:
    from equipoise.game.updates import Players, Terms

    def terms(self: Any, players: Players, batch: Any, step: Any) -> Terms:
        found = real(self, players, batch, step)
        where = step.randomness
        if where.attempt >= attempts or not begin <= where.samples < end:
            return found
        return Terms({name: loss * float("nan") for name, loss in found.losses.items()}, found.stats)

    real = replace_in_package(place, terms)


BROKEN = "broken on purpose"


def breaking(method: str) -> None:
    """Let every task fail at its floor, at its exhibits or at its snapshot."""
    for task in TASKS:
        replace_in_package(f"{task}.{method}", _with_broken_floor(task) if method == "rivals" else _broken)


def _with_broken_floor(task: str) -> Callable[[Any], tuple[Any, ...]]:
    def rivals(self: Any) -> tuple[Any, ...]:
        return tuple(
            dataclasses.replace(rival, outputs=_broken) if rival.role == "floor" else rival for rival in real(self)
        )

    holder, name = holder_of(f"{task}.rivals")
    real = getattr(holder, name)
    return rivals


def _broken(*_: Any) -> Any:
    raise ZeroDivisionError(BROKEN)


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
    real = getattr(place, name)
    count = itertools.count(1)

    def failing(*given: Any, **named: Any) -> Any:
        path = _path_of(given[0])
        if re.search(match, path) and next(count) >= call:
            raise OSError(number, os.strerror(number), _told_path(given[0]))
        return real(*given, **named)

    setattr(place, name, failing)


def _path_of(given: Any) -> str:
    if isinstance(given, int):
        return os.readlink(f"/proc/self/fd/{given}")
    return os.fspath(given)


def _told_path(given: Any) -> str | None:
    """Return the path that the system's own error would name, which knows no path of a descriptor."""
    if isinstance(given, int):
        return None
    return os.fspath(given)


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
    _allow(folder, 0o555, 0o444)


def unlock(folder: Path) -> None:
    """Give the permission back."""
    _allow(folder, 0o755, 0o644)


def _allow(folder: Path, of_folders: int, of_files: int) -> None:
    for path in [folder, *folder.rglob("*")]:
        mode = of_files
        if path.is_dir():
            mode = of_folders
        path.chmod(mode)


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
