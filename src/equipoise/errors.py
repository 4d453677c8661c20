"""Mistakes in three parts: what it is about, what is wrong, what to do; rendered for the command line or for Python."""

import difflib
import errno
import os
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

LONGEST = 80  # characters of a value that a message quotes


@dataclass(frozen=True)
class Option:
    """An argument: `--budget 10m` in a shell, `budget="10m"` in Python."""

    name: str
    value: Any = None


@dataclass(frozen=True)
class Setting:
    """A field of the recipe: `--set game.batch=32` in a shell, `settings=["game.batch=32"]` in Python."""

    field: str
    value: Any = None


@dataclass(frozen=True)
class Together:
    """Settings of which each needs the others: `--set A --set B` in a shell, `settings=[A, B]` in Python."""

    settings: tuple[Setting, ...]


@dataclass(frozen=True, init=False)
class Command:
    """A command with its arguments and options: `equipoise resume RUN --budget 20m`, `equipoise.resume("RUN", …)`."""

    name: str
    arguments: tuple[Any, ...]
    options: tuple[tuple[str, Any], ...]

    def __init__(self, name: str, *arguments: Any, **options: Any) -> None:
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "arguments", arguments)
        object.__setattr__(self, "options", tuple(options.items()))


@dataclass(frozen=True)
class Near:
    """A word that was probably meant."""

    word: str


Part: TypeAlias = str | Path | Option | Setting | Together | Command | Near
Typed: TypeAlias = Option | Setting | Together | Command  # what a remedy asks to type
IN_PYTHON = ("train", "resume", "load", "evaluate", "Watch")  # commands that Python has under the same name


class UserError(Exception):
    """A mistake of the caller's that has a plain remedy; the command line shows it and exits with 2.

    `subject` is what it is about (a path, an option, a setting), `problem` says in words what was received and what is
    allowed, and `remedies` are what to do: sentences, or options, settings and commands to type.
    """

    def __init__(self, subject: Part, problem: str, *remedies: Part) -> None:
        self.subject = subject
        self.problem = problem
        self.remedies = remedies
        super().__init__(self.told(in_shell=False))

    def told(self, *, in_shell: bool) -> str:
        """Return the three parts as one line, in the words of the command line or of Python."""
        text = f"{_subject(self.subject, in_shell)}: {self.problem.rstrip('.')}."
        to_type = [typed(part, in_shell) for part in self.remedies if isinstance(part, Typed)]
        near = [f'Did you mean "{part.word}"?' for part in self.remedies if isinstance(part, Near)]
        sentences = [f"{str(part).rstrip('.')}." for part in self.remedies if isinstance(part, str | Path)]
        tries = [f"Try: {', or '.join(to_type)}"] if to_type else []
        return " ".join(" ".join([text, *near, *sentences, *tries]).splitlines())

    def about(self, subject: Part) -> "UserError":
        """Return the same mistake, about something that the caller knows by another name."""
        return type(self)(subject, self.problem, *self.remedies)


class RunBusyError(UserError):
    """A second training in one run folder; the command line exits with 3."""


class StorageError(UserError):
    """What the disk did not take, or gave up, while something was being written; the command line exits with 4."""


class RunInterrupted(KeyboardInterrupt):
    """A signal that ended the work on a run outside its training loop; says how to go on."""

    def __init__(self, path: Path, during: str = "") -> None:
        self.path = path
        self.during = during
        super().__init__(self.told(in_shell=False))

    def told(self, *, in_shell: bool) -> str:
        """Return in one line what was interrupted, and what continues the run."""
        text = "Interrupted."
        if self.during:
            text = f"Interrupted while {self.during}."
        return f"{text} Continue with: {typed(Command('resume', self.path), in_shell)}"


def together(settings: Sequence[Setting]) -> tuple[Part, ...]:
    """Return settings as one remedy, as each needs the others; none where there are none."""
    if len(settings) <= 1:
        return tuple(settings)
    return (Together(tuple(settings)),)


def suggested(word: str, allowed: Iterable[str]) -> tuple[Near, ...]:
    """Return the nearest allowed word as a remedy, or none where nothing is near."""
    if len(word) > LONGEST:
        return ()
    words = list(allowed)
    of_same_letters = [one for one in words if one.lower() == word.lower()]
    return tuple(map(Near, of_same_letters[:1] or difflib.get_close_matches(word, words, n=1, cutoff=0.6)))


def listed(words: Iterable[str], most: int | None = None) -> str:
    """Join words for a sentence: `a, b or c`; of more than `most` only so many, and how many others there are."""
    words = list(words)
    if most is not None and len(words) > most:
        words = [*words[:most], f"one of {len(words) - most} others"]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def shortened(text: str, longest: int = LONGEST) -> str:
    """Return a text as a message can quote it: its beginning, where it is long."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def is_of_disk(error: OSError) -> bool:
    """Return whether it is the disk that fails, being full, over a quota or broken, and not a permission."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def what_failed(error: OSError) -> str:
    """Return in words what the disk or a permission did not allow."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "the disk is full"
    reason = error.strerror or str(error)
    if error.errno == errno.EFBIG and reason == os.strerror(errno.EFBIG):  # else what is read is too large
        return "a file would be larger than this disk or `ulimit -f` allows"
    return f"cannot be read or written ({reason})"


def _subject(part: Part, in_shell: bool) -> str:
    if isinstance(part, Setting):
        return part.field if part.value is None else f"{part.field}={_plain(part.value)}"
    if isinstance(part, Option | Together | Command):
        return typed(part, in_shell)
    return str(part)


def typed(part: Typed, in_shell: bool) -> str:
    """Return an argument, settings or a command as they are typed in a shell, or in Python."""
    match part:
        case Option(name, value):
            if in_shell:
                dashed = f"--{name.replace('_', '-')}"
                return dashed if value is None else f"{dashed} {shlex.quote(str(value))}"
            return f"{name}=" if value is None else f"{name}={_python(value)}"
        case Setting():
            return typed(Together((part,)), in_shell)
        case Together(settings):
            written = [f"{setting.field}={_plain(setting.value)}" for setting in settings]
            if in_shell:
                return " ".join(f"--set {shlex.quote(setting)}" for setting in written)
            listed_settings = ", ".join(f'"{setting}"' for setting in written)
            return f"settings=[{listed_settings}]"
        case Command(name, arguments, options):
            if in_shell or name not in IN_PYTHON:
                words = [shlex.quote(str(argument)) for argument in arguments]
                words += [typed(Option(key, value), in_shell=True) for key, value in options]
                return " ".join([f"equipoise {name}", *words])
            given = [*map(_python, arguments), *(f"{key}={_python(value)}" for key, value in options)]
            return f"equipoise.{name}({', '.join(given)})"


def _plain(value: Any) -> str:
    """Write a value as a setting takes it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _python(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str | Path) else repr(value)
