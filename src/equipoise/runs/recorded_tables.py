"""Logs of evaluations as other tools write them: CSV with any usual separator, or JSON; also gzipped.

What is unambiguous is read, and how it was read is said in words; the rest is refused with what to change.
"""

import ast
import csv
import io
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

from equipoise.errors import Option, UserError
from equipoise.runs.recorded_text import paired, text_of, undrawn

HEAD = "run,step,fid"
JSON = re.compile(r"\s*(?:\{|\[\s*[\[{])")  # how it begins; [2024-05-01 is the time of a line
SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars", " ": "blanks"}
STEPS = (  # of several, the first one here counts
    "step", "global_step", "_step", "steps", "iteration", "iterations", "iter", "itr", "samples", "nimg", "kimg",
    "training_step", "train_step", "iters", "n_iter", "update", "updates", "num_updates", "kimgs", "tick",
    "epoch", "epochs",
)  # fmt: skip
RUNS = ("run", "run_name", "run_id", "run_uuid")
IN_THOUSANDS = ("kimg", "kimgs")
OF_TAGS = ("tag", "key", "metric", "metric_name", "metricname", "name", "variable")  # a line for each number
OF_VALUES = ("value", "metric_value", "metricvalue")
MEASURE = re.compile(  # val/fid, fid50k_full, fid_val, FID-50K
    r"(?:^|[/._:\s-])(fid|kid|fr[eé]chet_inception_distance|kernel_inception_distance)(?:[_-]?\d+k)?"
    r"(?:[_/.:-](?:full|score|value|mean|val|valid|validation|test|train|eval|ema))*$"
)
HIGHER_IS_BETTER = re.compile(r"(?:^|[/._:\s-])(?:is(?:_mean)?|inception_score\w*)$")
DERIVED = re.compile(r"(?:^|[/._:\s-])(?:best|min|max|std|se|err|error|time)(?:$|[/._:\s-])")  # best_fid: no series
TIMES = ("time", "seconds", "timestamp", "_timestamp", "_runtime", "_stamp", "wall_time", "total_time", "created_at")
OF_A_RUN = re.compile(r"(?P<run>.+) - (?P<name>.+)")  # Weights & Biases: a column for each run
SPREAD = re.compile(r"__(MIN|MAX)$")  # and two more that say how its lines were averaged
SNAPSHOT = re.compile(r"(\d+)\D*$")  # StyleGAN: network-snapshot-000200.pkl, in thousands of images
TENSORBOARD = ["wall time", "step", "value"]
DECIMAL_COMMA = re.compile(r"[-+]?\d+,\d+(?:[eE][-+]?\d+)?")
POINTED = re.compile(r"[1-9]\d{0,2}(?:[.]\d{3})+")  # thousands, where decimals have commas
THOUSANDS = re.compile(r"[-+]?[1-9]\d{0,2}(?:,\d{3})+")  # or a decimal comma: nobody can tell
DECIMAL = re.compile(r"\d+(?:[.]\d*)?")
FRACTION = re.compile(r"\d+[.]\d*[1-9]\d*")
OF_THOUSANDS = re.compile(r"(\d+(?:[.]\d+)?)\s?([kKmM])(?:img|imgs)?")  # 100k, 1.5M, 200kimg
PARTED = re.compile(r"[1-9]\d{0,2}(?:[_'\u2019 \u00a0\u2009\u202f]\d{3})+")  # 100_000, 100 000
PERCENT = re.compile(r"(\d+(?:[.,]\d+)?)\s?%")
SHARES = ("precision", "recall", "density", "coverage", "copying", "discriminator_gap")
MISSING = frozenset(("-", "--", "n/a", "na", "none", "null"))  # of a number that is not there
RARE = 0.2  # share of lines with the metric up to which the others are of something else

Row = dict[str, str]


@dataclass(frozen=True)
class Table:
    """The lines of a file, each with its number and its cells by name, and in words how they were read."""

    names: tuple[str, ...]
    rows: tuple[tuple[int, Row], ...]
    notes: tuple[str, ...] = ()

    def noting(self, note: str) -> "Table":
        """Return the table with one more note."""
        return replace(self, notes=(*self.notes, note))


def read_table(path: Path, metric: str | None, known: Sequence[str]) -> Table:
    """Return a file's lines under the names `run`, `step`, `fid` and `kid`, and any other as the file has it.

    `known` are the columns that mean something; a line that has others but not the metric is no evaluation. Raises
    UserError for what is no table, or can be read in two ways.
    """
    text, notes = text_of(path, HEAD)
    table = _of_json(path, text) if JSON.match(text) else _of_text(path, text)
    table = replace(table, notes=(*notes, *table.notes))
    table = _of_tags(_without_marks(table))
    table = _of_tensorboard(path, table, metric)
    table = _with_units(_named(path, table, metric))
    return _evaluations(table, known)


def _without_marks(table: Table) -> Table:
    """Return the table with empty cells for marks such as "-" and "n/a", except in the names of runs."""
    rows = [
        (
            number,
            {name: "" if cell.lower() in MISSING and name.lower() not in RUNS else cell for name, cell in row.items()},
        )
        for number, row in table.rows
    ]
    return replace(table, rows=tuple(rows))


# Formats


def _of_text(path: Path, text: str) -> Table:
    """Read a drawn table, lines of named numbers, or CSV."""
    plain, told = undrawn(path, text)
    if told:
        return _of_csv(path, plain).noting(told)
    rows, num_others = paired(text)
    if rows and any(_num_known(list(row)) >= 2 or "snapshot_pkl" in row for _, row in rows):
        names = dict.fromkeys(name for _, row in rows for name in row)
        passed_over = f"; those that do not are passed over ({num_others:,})" if num_others else ""
        return _filled(names, rows, [f"each line names its numbers{passed_over}"])
    return _of_csv(path, text)


def _of_csv(path: Path, text: str) -> Table:
    """Read CSV by the separator under which its first line names most of what is needed."""
    text = _from_head(text)
    head = next((line for line in text.splitlines() if line.strip()), "")
    separator = max(SEPARATORS, key=lambda one: _num_known(head.strip().split(None if one == " " else one)))
    lines = _lines(path, text, separator)
    _, first = next(lines, (0, None))
    if first is None:
        raise UserError(path, f"empty; its first line must name columns such as {HEAD}")
    names = [cell.strip() for cell in first]
    if separator == " ":
        names = [name for name in names if name]
        lines = _without_numbers([(number, _blank_free(cells)) for number, cells in lines], len(names))
    rows = []
    num_heads = 0
    for number, cells in lines:
        if cells in (first, names):  # a resumed tool writes it again
            num_heads += 1
            continue
        if len(cells) < len(names) or any(cell.strip() for cell in cells[len(names) :]):
            problem = f"{len(cells)} cells, but the first line names {len(names)} columns"
            remedies = ["Write nan where a number is missing, and names without blanks"] if separator == " " else []
            raise UserError(f"{path}, line {number}", problem, *remedies)
        rows.append((number, dict(zip(names, (cell.strip() for cell in cells), strict=False))))
    doubled = [name for name, num in Counter(names).items() if num > 1 and measured_by(name)]
    if doubled:
        raise UserError(
            path, f'the column "{doubled[0]}" is there {names.count(doubled[0])} times', "Rename one of them"
        )
    table = _with_points(path, Table(tuple(names), tuple(rows)), separator)
    if num_heads:
        table = table.noting(f"the first line is there again ({num_heads:,}), and passed over")
    if separator == ",":
        return table
    return table.noting(f"cells are separated by {SEPARATORS[separator]}")


def _blank_free(cells: Sequence[str]) -> list[str]:
    """Return cells between blanks without the empty ones at the ends of a line."""
    return [cell for cell in cells if cell.strip()]


def _without_numbers(lines: list[tuple[int, list[str]]], num: int) -> Iterator[tuple[int, list[str]]]:
    """Yield lines without the numbers that pandas prints before each, where the first line has no name for them."""
    are_numbered = all(len(cells) == num + 1 and cells[0] == str(place) for place, (_, cells) in enumerate(lines))
    yield from ((number, cells[are_numbered:]) for number, cells in lines)


def _from_head(text: str) -> str:
    """Return the text with blank lines for what stands above its first line of cells: comments and `sep=;`.

    A first line that is a comment itself, such as `# step,fid`, becomes the first line of cells.
    """
    lines = text.splitlines(keepends=True)
    num = 0
    while num < len(lines) and (not lines[num].strip() or re.match(r"\s*(#|\"?sep=)", lines[num])):
        num += 1
    if num and _num_named(lines[num - 1].lstrip("# \t")) >= 2 > _num_named(lines[num] if num < len(lines) else ""):
        num -= 1
        lines[num] = lines[num].lstrip("# \t")
    return "\n" * num + "".join(lines[num:])


def _num_named(line: str) -> int:
    """Return how many columns that matter a line names, whatever separates them."""
    return max(_num_known(re.split(separator, line)) for separator in (r"[,;\t|]", r"\s+"))


def _with_points(path: Path, table: Table, separator: str) -> Table:
    """Turn decimal commas into points, column by column; raises UserError where they may separate thousands."""
    decimal = set()
    whole: dict[str, str] = {}
    for name in table.names:
        if not _matters(name):
            continue
        cells = [(number, row[name]) for number, row in table.rows if DECIMAL_COMMA.fullmatch(row[name])]
        unclear = [(number, cell) for number, cell in cells if THOUSANDS.fullmatch(cell)]
        if _plain(name) not in STEPS and len(unclear) < len(cells):
            decimal.add(name)
        elif unclear and separator == "," and _plain(name) in STEPS:  # whole numbers where decimals have points
            whole[name] = ","
        elif unclear:
            number, cell = unclear[0]
            problem = "its comma may separate thousands or decimals"
            raise UserError(f'{path}, line {number}: {name} "{cell}"', problem, "Write numbers without thousands")
    if decimal:
        pointed = [name for name in table.names if _plain(name) in STEPS and _any_matches(table, name, POINTED)]
        whole = dict.fromkeys(pointed, ".")
    rows = [
        (number, {name: _pointed(name, cell, decimal, whole) for name, cell in row.items()})
        for number, row in table.rows
    ]
    table = replace(table, rows=tuple(rows))
    if whole:
        return table.noting(f"steps have {'commas' if ',' in whole.values() else 'points'} between thousands")
    return table


def is_higher_better(name: str) -> bool:
    """Return whether a column is an Inception Score, by its name."""
    return HIGHER_IS_BETTER.search(_plain(name)) is not None


def _matters(name: str) -> bool:
    return _plain(name) in (*STEPS, "value") or measured_by(name) is not None


def _any_matches(table: Table, name: str, pattern: re.Pattern[str]) -> bool:
    return any(pattern.fullmatch(row[name]) for _, row in table.rows)


def _pointed(name: str, cell: str, decimal: set[str], whole: Mapping[str, str]) -> str:
    """Return a number as Python writes it; in columns of whole numbers, marks between thousands are left out."""
    if name in whole:
        return cell.replace(whole[name], "")
    return cell.replace(",", ".") if name in decimal else cell


def _plain(name: str) -> str:
    """Return the name of a column in lower case, without brackets and arrows, its words joined: FID (50k) ↓."""
    return "_".join(re.sub(r"[()\[\]↓↑]", " ", name.lower()).split())


def _num_known(cells: Sequence[str]) -> int:
    names = [_plain(cell.strip().strip('"')) for cell in cells]
    return sum(name in STEPS or name in RUNS or measured_by(name) is not None for name in names)


def measured_by(name: str) -> str | None:
    """Return "fid" or "kid" for the name of a column of those, None for any other."""
    plain = _plain(name)
    found = MEASURE.search(plain)
    if found is None or DERIVED.search(plain):
        return None
    return "fid" if found[1].startswith("f") else "kid"


def _lines(path: Path, text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the lines of CSV that are not blank, each with its number."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True, delimiter=separator)
    begin = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield begin, cells
            begin = reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"{path}, line {begin}", f"not CSV ({error})", "Check its quotes") from None


def _of_json(path: Path, text: str) -> Table:
    """Read a JSON object a line, a list of objects, or an object of lists.

    What is in an object within gets a name such as results/fid.
    """
    if (whole := _of_one_value(text)) is not None:
        return whole
    rows = []
    names: dict[str, None] = {}
    notes = ["a JSON object a line"]
    lines = text.splitlines()
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            found = object_in(line)
        except (ValueError, RecursionError) as error:
            if rows and number == len(lines) and not text.endswith("\n"):
                notes.append(f"line {number} is cut off, and passed over")
                continue
            raise UserError(where, f"not JSON ({error})", "Give a JSON object a line, or CSV") from None
        if not isinstance(found, dict):
            raise UserError(where, "not a JSON object", "Give a JSON object a line, or CSV")
        row = dict(_cells(found))
        names |= dict.fromkeys(row)
        rows.append((number, row))
    return _filled(names, rows, notes)


def object_in(line: str) -> Any:
    """Return the JSON value of a line, or the one that Python prints: {'step': 100}; raises ValueError."""
    try:
        return json.loads(line)
    except ValueError:
        try:
            return ast.literal_eval(re.sub(r"(?<=: )nan\b", "None", line.strip()))
        except (ValueError, SyntaxError, MemoryError):
            pass
        raise


def _filled(names: Mapping[str, None], rows: Sequence[tuple[int, Row]], notes: Sequence[str]) -> Table:
    filled = [(number, {name: row.get(name, "") for name in names}) for number, row in rows]
    return Table(tuple(names), tuple(filled), tuple(notes))


def _of_one_value(text: str) -> Table | None:
    """Read one JSON value over all lines: a list of objects, or an object of lists of one length; None for others."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(found, dict) and (inner := _objects_in(found)) is not None:
        found = inner
    if isinstance(found, dict) and found and all(isinstance(value, list) for value in found.values()):
        if len({len(value) for value in found.values()}) != 1:
            return None
        found = [dict(zip(found, values, strict=True)) for values in zip(*found.values(), strict=True)]
    if isinstance(found, list) and found and all(_is_of_tensorboard(one) for one in found):
        found = [dict(zip(TENSORBOARD, one, strict=True)) for one in found]
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        return None
    rows = [(number, dict(_cells(one))) for number, one in enumerate(found, 1)]
    names = dict.fromkeys(name for _, row in rows for name in row)
    return _filled(names, rows, ["one JSON value: its objects are the lines"])


def _objects_in(found: dict[str, Any]) -> list[Any] | None:
    """Return the objects of the one list within an object, or those that it names by their steps; None for others."""
    lists = [value for value in found.values() if isinstance(value, list) and value and isinstance(value[0], dict)]
    if len(lists) == 1:
        return lists[0]
    if found and all(name.isdecimal() and isinstance(value, dict) for name, value in found.items()):
        return [value if "step" in value else {"step": int(name)} | value for name, value in found.items()]
    return None


def _is_of_tensorboard(value: Any) -> bool:
    """Return whether a value is [time, step, value], as TensorBoard exports JSON."""
    return isinstance(value, list) and len(value) == 3 and all(isinstance(one, int | float) for one in value)


def _cells(values: dict[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if isinstance(value, dict) and not above:
            yield from _cells(value, f"{name}/")
        elif value is None:
            yield above + name, ""
        elif isinstance(value, str | int | float):
            yield above + name, str(value)


# Names


def _of_tags(table: Table) -> Table:
    """Turn a table with a line for each number (MLflow, Comet, TensorBoard) into one with a line for each step."""
    lower = {_plain(name): name for name in reversed(table.names)}
    tag = next((lower[one] for one in OF_TAGS if one in lower), None)
    value = next((lower[one] for one in OF_VALUES if one in lower), None)
    if tag is None or value is None or any(map(measured_by, table.names)):
        return table
    rows: dict[tuple[str, ...], tuple[int, Row]] = {}
    names = [name for name in table.names if name not in (tag, value)]
    places = [name for name in names if name.lower() not in TIMES]
    measures: dict[str, None] = {}
    num_others = 0
    for number, row in table.rows:
        if measured_by(row[tag]) is None:
            num_others += 1
            continue
        measures[row[tag]] = None
        key = tuple(row[name] for name in places)
        if row[tag] in rows.get(key, (0, {}))[1]:  # a step with two scores, which is refused where runs are read
            key = (*key, str(number))
        rows.setdefault(key, (number, {name: row[name] for name in names}))[1][row[tag]] = row[value]
    if not measures:
        return table
    passed_over = f"; lines of other numbers are passed over ({num_others:,})" if num_others else ""
    told = f'a line for each number, which the column "{tag}" names{passed_over}'
    filled = _filled(dict.fromkeys([*names, *measures]), list(rows.values()), table.notes)
    return filled.noting(told)


def _of_tensorboard(path: Path, table: Table, metric: str | None) -> Table:
    """Name the one value of a TensorBoard export after the option or the file."""
    if [name.lower() for name in table.names] != TENSORBOARD:
        return table
    name = metric or measured_by(path.stem)
    if name is None:
        problem = "one value a step (a TensorBoard export), and neither the file nor its name says of what"
        raise UserError(path, problem, Option("metric", "fid"))
    return _renamed(table, {table.names[2]: name}).noting(f"a TensorBoard export: its values are the {name.upper()}")


def _named(path: Path, table: Table, metric: str | None) -> Table:
    """Give the columns that matter the names run, step, fid and kid; raises UserError where two might be meant."""
    table = _runs_apart(table)
    names = {}
    names |= _first_of(table, "run", RUNS)
    steps = _first_of(table, "step", STEPS)
    for kind in ("fid", "kid"):
        if metric in (None, kind):
            names |= _measure(path, table, kind)
    if not steps and "snapshot_pkl" in table.names and "step" not in table.names:
        return _of_snapshots(_renamed(table, names))
    if _plain(next(iter(steps), "")) in IN_THOUSANDS:
        table = _of_thousands(table, next(iter(steps)))
    table = _renamed(table, names | steps)
    told = [f'{name} is the column "{column}"' for column, name in (names | steps).items()]
    return table.noting(", ".join(told)) if told else table


def _of_thousands(table: Table, column: str) -> Table:
    """Turn thousands of images into images, where some are no whole thousands: 0.5 kimg."""
    cells = [row[column] for _, row in table.rows]
    if not any(FRACTION.fullmatch(cell) for cell in cells):
        return table
    rows = []
    for number, row in table.rows:
        cell = row[column]
        if DECIMAL.fullmatch(cell):
            cell = f"{Decimal(cell) * 1_000:f}".rstrip("0").rstrip(".") or "0"
        rows.append((number, row | {column: cell}))
    return replace(table, rows=tuple(rows)).noting(f'"{column}" counts thousands of images: steps are images')


def _first_of(table: Table, name: str, wanted: Sequence[str]) -> dict[str, str]:
    """Return which column is meant by a name, none where there is that name itself, or nothing like it."""
    if name in table.names:
        return {}
    lower = {_plain(column): column for column in reversed(table.names)}
    return next(({lower[one]: name} for one in wanted if one in lower), {})


def _measure(path: Path, table: Table, kind: str) -> dict[str, str]:
    if kind in table.names:
        return {}
    found = [name for name in table.names if measured_by(name) == kind]
    if len(found) > 1:
        problem = f"several columns may be the {kind.upper()}: {', '.join(found[:6])}"
        raise UserError(path, problem, f'Rename the one that counts to "{kind}"')
    return dict.fromkeys(found, kind)


def _runs_apart(table: Table) -> Table:
    """Turn a table with a column for each run (Weights & Biases) into one with a line for each evaluation."""
    columns = {
        name: match
        for name in table.names
        if (match := OF_A_RUN.fullmatch(name)) and not SPREAD.search(name) and measured_by(match["name"])
    }
    measures = {match["name"] for match in columns.values()}
    if not columns or len(measures) > 1:
        return table
    (measure,) = measures
    names = [name for name in table.names if not OF_A_RUN.fullmatch(name)]
    rows = [
        (number, {name: row[name] for name in names} | {"run": match["run"], measure: row[column]})
        for column, match in columns.items()
        for number, row in table.rows
        if row[column]
    ]
    table = replace(table, names=("run", *names, measure), rows=tuple(rows))
    return table.noting("a Weights & Biases export: a column for each run")


def _of_snapshots(table: Table) -> Table:
    """Take the steps out of the names of StyleGAN's snapshots."""
    rows = []
    for number, row in table.rows:
        found = SNAPSHOT.search(row["snapshot_pkl"])
        rows.append((number, row | {"step": (found[1].lstrip("0") or "0") if found else ""}))
    table = replace(table, names=(*table.names, "step"), rows=tuple(rows))
    return table.noting("steps are the numbers of the snapshots, in thousands of images")


def _renamed(table: Table, names: dict[str, str]) -> Table:
    rows = [(number, {names.get(name, name): cell for name, cell in row.items()}) for number, row in table.rows]
    return replace(table, names=tuple(names.get(name, name) for name in table.names), rows=tuple(rows))


def _with_units(table: Table) -> Table:
    """Turn steps such as 100k and 100_000, and shares such as 90%, into plain numbers."""
    rows = []
    told = set()
    for number, row in table.rows:
        plain = dict(row)
        for name, cell in row.items():
            if name == "step" and (match := OF_THOUSANDS.fullmatch(cell)):
                value = Decimal(match[1]) * (1_000 if match[2] in "kK" else 1_000_000)
                plain[name] = str(int(value)) if value == int(value) else cell
                told.add("steps such as 100k are of thousands, those such as 1M of millions")
            elif name == "step" and PARTED.fullmatch(cell):
                plain[name] = re.sub(r"\D", "", cell)
                told.add("steps have marks between thousands")
            elif name in SHARES and (match := PERCENT.fullmatch(cell)):
                plain[name] = str(Decimal(match[1].replace(",", ".")) / 100)
                told.add("90% is read as 0.9")
        rows.append((number, plain))
    return replace(table, rows=tuple(rows), notes=(*table.notes, *sorted(told)))


def _evaluations(table: Table, known: Sequence[str]) -> Table:
    """Leave out the lines of something else: those that fill what no line with the metric fills.

    Where hardly any line has the metric, all others that hold numbers besides their place and time are so, too.
    """
    measures = [name for name in ("fid", "kid") if name in table.names]
    places = {*known, *(name for name in table.names if name.lower() in (*STEPS, *RUNS, *TIMES))}
    others = [name for name in table.names if name not in places]
    kept = [(number, row) for number, row in table.rows if any(_is_there(row[name]) for name in measures)]
    if not measures or not kept:
        return table
    beside = {name for name in others for _, row in kept if _is_there(row[name])}
    is_rare = len(kept) <= RARE * len(table.rows)
    apart = {
        number
        for number, row in table.rows
        if not any(_is_there(row[name]) for name in measures)
        and any(_is_there(row[name]) and (is_rare or name not in beside) for name in others)
    }
    if not apart:
        return table
    metrics = " or ".join(name.upper() for name in measures)
    text = f"{len(apart):,} lines without a {metrics} are of something else, and not failed evaluations"
    rows = tuple((number, row) for number, row in table.rows if number not in apart)
    return replace(table, rows=rows).noting(text)


def _is_there(cell: str) -> bool:
    """Return whether a cell holds something: pandas writes NaN into the empty ones."""
    return bool(cell) and cell.lower() != "nan"
