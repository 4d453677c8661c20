"""Points out of a CSV file: its columns x and y, or its only two; a mistake names its line."""

import csv
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from equipoise.data.sources import subject_of
from equipoise.errors import Option, UserError, listed, shortened
from equipoise.recipe import SHAPES
from equipoise.storage.safe_open import read_bytes

LARGEST = 1e12  # of a coordinate: squares and sums of larger ones overflow in float32
MAX_BYTES = 2**28
SEPARATORS = (";", "\t", ",")  # the first one that is found counts; without any, blanks do
OR_SHAPES = f"or a source: {', '.join(SHAPES)}"
WORDS = {";": "semicolons", "\t": "tabs", " ": "blanks"}


@dataclass(frozen=True)
class Read:
    """Points [N, 2], and in words how they were read; empty where that needs no saying."""

    points: Tensor
    note: str = ""


@dataclass(frozen=True)
class Columns:
    """How the lines of a file are cut, and which two cells of a line are the point."""

    separator: str
    names: tuple[str, ...]  # empty where the file names none
    x: int = 0
    y: int = 1

    @property
    def num(self) -> int:
        """How many cells a line has."""
        return max(2, len(self.names))

    @property
    def note(self) -> str:
        """How the file is read, where it is not two columns with commas."""
        parts = []
        if self.separator in WORDS:
            parts.append(f"cells are separated by {WORDS[self.separator]}")
        if len(self.names) > 2:
            found = f"{self.names[self.x]} and {self.names[self.y]}"
            parts.append(f"columns {found} of {listed(shortened(name, 20) for name in self.names)}")
        return "; ".join(parts)


def read_points(path: Path, name: str) -> Read:
    """Read a CSV file with the columns x and y, or with two columns; raises UserError that names the line.

    Cells are separated by commas, semicolons, tabs or blanks; beside semicolons and tabs, numbers may have decimal
    commas. Of more columns those named x and y are read.
    """
    source = subject_of(name)
    for is_none, what in ((path.is_dir(), "a folder"), (not path.exists(), "no such file")):
        if is_none:
            raise UserError(
                source,
                f"{what}; points come from a CSV file of x,y, {OR_SHAPES}",
                Option("task", "images"),
            )
    try:
        text = read_bytes(path, MAX_BYTES).decode("utf-8-sig")
    except OSError as error:
        raise UserError(source, f"cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError:
        raise UserError(source, f"not text; points come from a CSV file of x,y, {OR_SHAPES}") from None
    columns = _columns(text, source)
    points = [_point(cells, columns, f"{source}, line {number}") for number, cells in _lines(text, columns, source)]
    if not points:
        raise UserError(source, "0 points; each line holds two numbers x,y", "Give more points")
    return Read(torch.tensor(points, dtype=torch.float32), columns.note)


def _columns(text: str, source: str) -> Columns:
    """Return how a file is read, by its first line; raises UserError where its columns could be any."""
    head = next((line for line in text.splitlines() if line.strip()), "")
    separator = next((one for one in SEPARATORS if one in head), " ")
    cells = head.split() if separator == " " else head.split(separator)
    names = tuple(cell.strip().strip('"') for cell in cells)
    if any(_number(name, separator) is not None for name in names):
        return Columns(separator, ())
    lower = [name.lower() for name in names]
    if lower.count("x") == 1 and lower.count("y") == 1:
        return Columns(separator, names, lower.index("x"), lower.index("y"))
    if len(names) > 2:
        problem = f"{len(names)} columns, {listed(shortened(name, 20) for name in names)}; points have two"
        raise UserError(source, problem, "Name two of them x and y")
    return Columns(separator, names)


def _lines(text: str, columns: Columns, source: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the lines that hold points, each with its number; raises UserError where one is no CSV."""
    reader = csv.reader(io.StringIO(text, newline=None), delimiter=columns.separator, skipinitialspace=True)
    is_head = bool(columns.names)
    try:
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if is_head:
                is_head = False
                continue
            yield reader.line_num, [cell for cell in cells if cell] if columns.separator == " " else cells
    except csv.Error as error:
        raise UserError(f"{source}, line {reader.line_num}", f"cannot be read as CSV ({error})") from None


def _point(cells: Sequence[str], columns: Columns, place: str) -> tuple[float, float]:
    """Return the two numbers of a line; raises UserError where it holds anything else."""
    found = [_number(cell, columns.separator) for cell in cells]
    x, y = (found[columns.x], found[columns.y]) if len(cells) == columns.num else (None, None)
    if x is None or y is None or not math.isfinite(x + y):
        line = columns.separator.join(cells).replace("\t", " ")
        raise UserError(place, f'"{shortened(line, 40)}" is not two finite numbers x,y')
    if max(abs(x), abs(y)) > LARGEST:
        problem = f"{max(abs(x), abs(y)):g} is too large; at most {LARGEST:g} can be computed with"
        raise UserError(place, problem, "Give the points in a larger unit")
    return x, y


def _number(cell: str, separator: str) -> float | None:
    """Return a cell's number, None where it is none; a comma is a decimal one beside semicolons and tabs."""
    if separator in (";", "\t"):
        cell = cell.replace(",", ".")
    try:
        return float(cell)
    except ValueError:
        return None
