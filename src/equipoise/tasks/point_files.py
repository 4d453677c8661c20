"""Points out of a CSV file with the columns x and y; a mistake names its line."""

import csv
import io
import math
from pathlib import Path

import torch
from torch import Tensor

from equipoise.data.sources import subject_of
from equipoise.errors import Option, UserError, shortened
from equipoise.storage.safe_open import read_bytes

LARGEST = 1e12  # of a coordinate: squares and sums of larger ones overflow in float32
MAX_BYTES = 2**28


def read_points(path: Path, name: str) -> Tensor:
    """Read a CSV file with the columns x and y, a line of names or not; raises UserError that names the line."""
    source = subject_of(name)
    shapes = "or a source: ring, grid, spiral"
    for is_none, what in ((path.is_dir(), "a folder"), (not path.exists(), "no such file")):
        if is_none:
            raise UserError(source, f"{what}; points come from a CSV file of x,y, {shapes}", Option("task", "images"))
    try:
        text = read_bytes(path, MAX_BYTES).decode("utf-8-sig")
    except OSError as error:
        raise UserError(source, f"cannot be read ({error.strerror or error})") from None
    except UnicodeDecodeError:
        raise UserError(source, f"not text; points come from a CSV file of x,y, {shapes}") from None
    points = _points(text, source)
    if not points:
        raise UserError(source, "0 points; each line holds two numbers x,y", "Give more points")
    return torch.tensor(points, dtype=torch.float32)


def _points(text: str, source: str) -> list[tuple[float, float]]:
    """Return the points of a CSV file, whose first line may hold names; raises UserError that names the line."""
    points: list[tuple[float, float]] = []
    reader = csv.reader(io.StringIO(text, newline=None))
    try:
        for cells in reader:
            is_names = reader.line_num == 1 and not any(map(_is_number, cells))
            if is_names or not any(cell.strip() for cell in cells):
                continue
            points.append(_point(cells, f"{source}, line {reader.line_num}"))
    except csv.Error as error:
        raise UserError(f"{source}, line {reader.line_num}", f"cannot be read as CSV ({error})") from None
    return points


def _point(cells: list[str], place: str) -> tuple[float, float]:
    """Return the two numbers of a line; raises UserError where it holds anything else."""
    if len(cells) != 2 or not all(map(_is_number, cells)) or not all(math.isfinite(float(cell)) for cell in cells):
        raise UserError(place, f'"{shortened(",".join(cells), 40)}" is not two finite numbers x,y')
    x, y = map(float, cells)
    if max(abs(x), abs(y)) > LARGEST:
        problem = f"{max(abs(x), abs(y)):g} is too large; at most {LARGEST:g} can be computed with"
        raise UserError(place, problem, "Give the points in a larger unit")
    return x, y


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
