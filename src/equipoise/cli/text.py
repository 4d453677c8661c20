"""What all texts of the command line share: a table, labelled rows, commands to type, JSON."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from equipoise import errors, formatting
from equipoise.errors import Command

if TYPE_CHECKING:
    from equipoise.recipe import TaskSettings

WIDTH = 80
INDENT = 12  # of a labelled text
POLICIES = ("evidence", "patience", "discriminator-threshold")  # that stop a run before its budget is spent


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return lines of a plain table: the first column to the left, the others to the right."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    lines = []
    for row in [head, ["─" * width for width in widths], *rows]:
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append("  " + "  ".join([row[0].ljust(widths[0]), *cells[1:]]))
    return lines


def labelled(label: str, text: str, indent: int = INDENT) -> list[str]:
    """Return a text in 80 columns with a label before its first line; a path stays in one piece."""
    return formatting.wrapped(text, WIDTH, label, indent)


def typed(command: Command) -> str:
    """Write a command as it is typed in a shell."""
    return errors.typed(command, in_shell=True)


def way_on(task: "TaskSettings", path: Path) -> str:
    """Return how a stopped run is continued: by a command, or in Python where that alone knows the task."""
    from equipoise.tasks import formats_of

    if formats_of(task).needs_python:
        return f"equipoise.resume({str(path)!r}, task=…) in Python"
    return typed(Command("resume", path))


def counted(num: int, word: str) -> str:
    """Return a count with its word: `1 file`, `1,200 files`."""
    plural = "" if num == 1 else "s"
    return f"{num:,} {word}{plural}"


def setting(value: Any) -> str:
    """Write a setting or a part of a protocol; a digest by its beginning, which `--json` gives in full."""
    if isinstance(value, str) and re.fullmatch("[0-9a-f]{32,}", value):
        return f"{value[:12]}…"
    return formatting.shown(value)


def json_text(values: Any) -> str:
    """Return values as indented JSON, in which null stands for what is not finite."""
    import msgspec

    return msgspec.json.format(msgspec.json.encode(values), indent=2).decode()
