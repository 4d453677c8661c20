"""Logs of GAN trainings by other tools, with losses, answers of the discriminator and scores, as log lines of a game.

Columns are known by the words in their names: D_loss, errG, Loss/D/loss, D(x), grad_norm/generator, val/fid. What is
not there stays unknown, and is said.
"""

import csv
import io
import json
import math
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equipoise.errors import UserError, shortened
from equipoise.runs.recorded_tables import DECIMAL_COMMA, POINTED, THOUSANDS, measured_by, object_in
from equipoise.runs.recorded_text import text_of, undrawn
from equipoise.storage.records import Score, StepStats

HEAD = "step,d_loss,g_loss"
FEWEST = 6  # lines
MOST_BYTES = 2**25  # of a file: about 800,000 lines
MOST = 512  # log lines that are looked at; of more, stretches are averaged
NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|[-+]?(?:nan|inf(?:inity)?)"
NAMED = re.compile(  # names are bounded, or a line without end would take time without end
    rf"(?<![A-Za-z0-9])([A-Za-z][\w./ -]{{0,100}}+(?:\([^:=]{{0,40}}\))?)\s*+[:=]\s*({NUMBER})\b", re.IGNORECASE
)
OF_EPOCHS = re.compile(r"\[(\d+)/\d+\]\s*\[(\d+)/(\d+)\]")  # [epoch/of][batch/of], as PyTorch's tutorial prints
STEPS = (
    "samples",
    "nimg",
    "kimg",
    "step",
    "global_step",
    "_step",
    "steps",
    "iteration",
    "iterations",
    "iter",
    "epoch",
    "tick",
)
GENERATOR = frozenset(("g", "gen", "generator"))
DISCRIMINATOR = frozenset(("d", "disc", "dis", "discriminator", "critic", "c"))
LOSS = frozenset(("loss", "losses", "err", "error"))
IDLE = frozenset(
    ("train", "training", "progress", "step", "epoch", "mean", "avg", "average", "total", "metrics", "batch", "model")
)
GRADIENT = frozenset(("grad", "grads", "gradient", "gradients", "norm", "gradnorm"))
ACCURACY = frozenset(("acc", "accuracy", "categorical", "binary"))
LOGIT = frozenset(("score", "scores", "logit", "logits", "output", "outputs"))
REAL = frozenset(("real",))
FAKE = frozenset(("fake", "generated"))
VALUES = ("precision", "recall", "density", "coverage")
SIGNS = ("real_sign", "fake_sign")  # StyleGAN: the mean sign of the discriminator's answers
NAMES = {
    "discriminator_loss": "the discriminator's loss",
    "generator_loss": "the generator's loss",
    "accuracy": "the discriminator's accuracy",
    "real_logit": "its logits for real samples",
    "fake_logit": "its logits for generated samples",
    "real_probability": "D(x)",
    "fake_probability": "D(G(z))",
    "discriminator_gradient": "the discriminator's gradient norm",
    "generator_gradient": "the generator's gradient norm",
    "score": "a score, FID or KID",
}

Row = dict[str, str]
Lines = list[tuple[int, Row]]  # each with its number in the file


@dataclass(frozen=True)
class LossLog:
    """A log as log lines and scores, the unit of its steps, what each column was read as, and what is missing."""

    lines: tuple[StepStats, ...]
    scores: tuple[Score, ...]
    unit: str
    read: dict[str, str]  # column: what it was read as
    missing: tuple[str, ...]


def read_log(path: Path) -> LossLog:
    """Read a log; raises UserError where it is none, or has no number of a game."""
    refuse_large(path, path.stat().st_size)
    text, _ = text_of(path, HEAD)
    refuse_large(path, len(text))
    lines = [(number, _with_step(_of_tensorboard(row, path))) for number, row in _rows(path, undrawn(path, text)[0])]
    names = list(dict.fromkeys(name for _, row in lines for name in row))
    known = {name: kind for name in names if (kind := kind_of(name)) is not None}
    if not known:
        raise UserError(
            path, f"no column with a loss, D(x), an accuracy or a FID: {_found(names)}", f"Name columns {HEAD}"
        )
    lines = [(number, row) for number, row in lines if any(row.get(name, "").strip() for name in known)]
    if len(lines) < FEWEST:
        raise UserError(
            path, f"{len(lines)} lines with numbers of a game; at least {FEWEST} are needed to tell anything"
        )
    step = _step_of(lines, names)
    lines = _with_points(path, lines, known, step)
    numbered = [
        (_place(f"{path}, line {number}", row, step, place), _numbers(f"{path}, line {number}", row, known))
        for place, (number, row) in enumerate(lines)
    ]
    merged = _merged(sorted(numbered, key=lambda pair: pair[0]))
    if len(merged) < FEWEST:
        problem = f"its lines are of {len(merged)} different steps; at least {FEWEST} are needed to tell anything"
        raise UserError(path, problem, f"Leave the column {step} out where it does not count the lines")
    unit = "lines" if step is None else {"nimg": "samples", "kimg": "samples"}.get(step.lower().split("/")[-1], step)
    kinds = {"accuracy" if kind in SIGNS else kind for kind in known.values()}
    kinds = {"score" if kind in ("fid", "kid") else kind for kind in kinds}
    missing = tuple(text for kind, text in NAMES.items() if kind not in kinds)
    stats = [_line(place, found, kinds) for place, found in _averaged(merged)]
    return LossLog(tuple(stats), tuple(_scores(merged)), _in_words(unit), known, missing)


def refuse_large(path: Path, size: int) -> None:
    """Raise UserError for a log of so many bytes that to read it would take minutes and gigabytes."""
    if size <= MOST_BYTES:
        return
    every = math.ceil(size / MOST_BYTES)
    source, new = shlex.quote(str(path)), shlex.quote(f"{path.stem}-thin{path.suffix}")
    raise UserError(
        path,
        f"{size >> 20:,} MiB; a log of at most {MOST_BYTES >> 20} MiB is read",
        f"Keep one line in {every}: awk 'NR == 1 || NR % {every} == 0' {source} > {new}",
    )


def _found(names: Sequence[str]) -> str:
    """Say in a few words which columns there are in place of those of a game."""
    if not names:
        return "there are none in it"
    if all(map(_is_number, names)):
        return "its first line has numbers and no names"
    shown = f"{', '.join(shortened(name, 20) for name in names[:6])}{', …' if len(names) > 6 else ''}"
    return f"its only column is {shown}" if len(names) == 1 else f"its columns are {shown}"


def kind_of(name: str) -> str | None:
    """Return what a column holds, as the field of a log line, "fid", "kid" or a share; None of what is not known."""
    name = name.rpartition(" - ")[2]  # Weights & Biases: run-1 - d_loss
    if name.endswith(("__MIN", "__MAX")):
        return None
    plain = name.strip().lower().replace(" ", "")
    if plain in ("d(x)", "dx", "d_x", "d_real", "p_real", "real_prob", "real_probability"):
        return "real_probability"
    if plain in ("d(g(z))", "dgz", "d_g_z", "d_gz", "d_fake", "p_fake", "fake_prob", "fake_probability", "d_g_z1"):
        return "fake_probability"
    if measure := measured_by(name):
        return measure
    words = [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)]
    found = frozenset(words) - IDLE
    if "signs" in found and found & (REAL | FAKE):
        return SIGNS[0] if found & REAL else SIGNS[1]
    player = _player(found)
    rest = found - GENERATOR - DISCRIMINATOR
    if rest and rest <= LOSS and player is not None:
        return f"{player}_loss"
    if rest & GRADIENT and rest <= GRADIENT | LOSS and player is not None:
        return f"{player}_gradient"
    if rest and rest <= ACCURACY and player != "generator":
        return "accuracy"
    if rest & LOGIT and rest <= LOGIT | LOSS | REAL | FAKE and rest & (REAL | FAKE) and player != "generator":
        return "real_logit" if rest & REAL else "fake_logit"
    return next((value for value in VALUES if value in found), None)


def _player(words: frozenset[str]) -> str | None:
    has = (bool(words & GENERATOR), bool(words & DISCRIMINATOR))
    return {(True, False): "generator", (False, True): "discriminator"}.get(has)


# Formats


def _rows(path: Path, text: str) -> Iterator[tuple[int, Row]]:
    """Yield the lines of a log as cells by name: JSON objects, lines of named numbers, or CSV."""
    begin = text.lstrip()[:1]
    if begin == "{" or (begin == "[" and _as_json(text) is not None):
        yield from _of_json(path, text)
        return
    named = [(number, _of_line(line)) for number, line in enumerate(text.splitlines(), 1) if ":" in line or "=" in line]
    if sum(len(row) >= 2 and any(map(kind_of, row)) for _, row in named) >= FEWEST:
        yield from ((number, row) for number, row in named if row)
        return
    yield from _of_csv(path, text)


def _as_json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _of_json(path: Path, text: str) -> Iterator[tuple[int, Row]]:
    whole = _as_json(text)
    if isinstance(whole, dict) and whole and all(isinstance(value, list) for value in whole.values()):
        whole = [dict(zip(whole, values, strict=False)) for values in zip(*whole.values(), strict=False)]
    objects: Iterable[tuple[int, Any]] = (
        enumerate(whole, 1)
        if isinstance(whole, list)
        else ((number, _object(path, number, line, is_last)) for number, line, is_last in _lines_of(text))
    )
    for number, one in objects:
        if isinstance(one, dict):
            yield number, dict(_cells(one))


def _lines_of(text: str) -> Iterator[tuple[int, str, bool]]:
    lines = text.splitlines()
    yield from ((number, line, number == len(lines)) for number, line in enumerate(lines, 1) if line.strip())


def _object(path: Path, number: int, line: str, is_last: bool) -> Any:
    try:
        return object_in(line)
    except (ValueError, RecursionError) as error:
        if is_last:
            return None  # cut off: the tool still writes
        raise UserError(f"{path}, line {number}", f"not JSON ({error})", "Give a JSON object a line, or CSV") from None


def _cells(values: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Yield numbers by name; of StyleGAN's {num, mean, std} the mean."""
    for name, value in values.items():
        if isinstance(value, Mapping) and "mean" in value:
            yield above + str(name), str(value["mean"])
        elif isinstance(value, Mapping) and not above:
            yield from _cells(value, "" if name == "results" else f"{name}/")
        elif isinstance(value, int | float | str) and not isinstance(value, bool):
            yield above + str(name), str(value)


def _of_line(line: str) -> Row:
    row = {name.strip().strip("|, ").strip(): value for name, value in NAMED.findall(line)}
    if place := OF_EPOCHS.search(line):
        row["step"] = str(int(place[1]) * int(place[3]) + int(place[2]))
    return row


def _of_csv(path: Path, text: str) -> Iterator[tuple[int, Row]]:
    lines = [
        (number, line)
        for number, line in enumerate(text.splitlines(), 1)
        if line.strip() and not line.lstrip().startswith(("#", "sep=", '"sep='))
    ]
    if len(lines) < 2:
        what = "a log has more than one line" if lines else "empty"
        raise UserError(path, f"no log: {what}", f"Give a CSV with the columns {HEAD}")
    (_, first), *others = _split(path, lines)
    names = [name.strip().strip('"') for name in first]
    if len(names) < 2:
        raise UserError(
            path,
            f"one column ({shortened(', '.join(names), 40)}); a log has a loss and more",
            f"Name columns {HEAD}",
        )
    doubled = next((name for name in names if names.count(name) > 1 and kind_of(name)), None)
    if doubled is not None:
        raise UserError(path, f'the column "{doubled}" is there {names.count(doubled)} times', "Rename one of them")
    for number, cells in others:
        if cells != first:  # a tool that goes on writes it again
            yield number, dict(zip(names, cells, strict=False))


def _split(path: Path, lines: Sequence[tuple[int, str]]) -> list[tuple[int, list[str]]]:
    """Return the cells of each line, by the separator that the first has most of, else by blanks."""
    separator = max((",", ";", "\t", "|"), key=lines[0][1].count)
    if not lines[0][1].count(separator):
        return [(number, line.split()) for number, line in lines]
    text = io.StringIO("\n".join(line for _, line in lines))
    reader = csv.reader(text, delimiter=separator, skipinitialspace=True)
    try:
        return [(lines[reader.line_num - 1][0], cells) for cells in reader]
    except csv.Error as error:
        raise UserError(
            f"{path}, line {lines[reader.line_num - 1][0]}", f"not CSV ({error})", "Check its quotes"
        ) from None


def _of_tensorboard(row: Row, path: Path) -> Row:
    """Name the one value of a TensorBoard export after its file, as it has no name of its own."""
    if [name.lower() for name in row] != ["wall time", "step", "value"]:
        return row
    _, step, value = row.values()
    return {"step": step, path.name.removesuffix(".gz").rpartition(".")[0]: value}


def _with_step(row: Row) -> Row:
    """Add the step of a line that names a snapshot of StyleGAN, in thousands of images."""
    found = re.search(r"(\d+)\D*$", row.get("snapshot_pkl", ""))
    return row | {"kimg": found[1]} if found is not None and "kimg" not in row else row


# Numbers


def _step_of(lines: Lines, names: Sequence[str]) -> str | None:
    """Return the column of steps, None where no such column has numbers: then lines are counted."""
    for one in STEPS:
        for name in names:
            if name.lower().split("/")[-1] == one and any(_is_number(row.get(name, "")) for _, row in lines):
                return name
    return None


def _with_points(path: Path, lines: Lines, known: Mapping[str, str], step: str | None) -> Lines:
    """Return lines with points for decimal commas, by column; points between the thousands of their steps are left out.

    Raises UserError where commas may separate thousands as well.
    """
    decimal = set()
    for name in known:
        cells = [(number, cell) for number, row in lines if DECIMAL_COMMA.fullmatch(cell := _bare(row.get(name, "")))]
        unclear = [(number, cell) for number, cell in cells if THOUSANDS.fullmatch(cell)]
        if unclear and len(unclear) == len(cells):
            number, cell = unclear[0]
            problem = "its comma may separate thousands or decimals"
            raise UserError(f'{path}, line {number}: {name} "{cell}"', problem, "Write numbers without thousands")
        if cells:
            decimal.add(name)
    if not decimal:
        return lines
    return [
        (number, {name: _pointed(cell, name in decimal, name == step) for name, cell in row.items()})
        for number, row in lines
    ]


def _pointed(cell: str, is_decimal: bool, is_step: bool) -> str:
    if is_step and POINTED.fullmatch(cell.strip()):
        return cell.replace(".", "")
    return cell.replace(",", ".") if is_decimal or is_step else cell


def _bare(cell: str) -> str:
    """Return a cell without blanks and a sign of percent."""
    return cell.strip().rstrip("%").strip()


def _is_number(cell: str) -> bool:
    try:
        float(cell.strip().replace(",", ".", 1))
    except ValueError:
        return False
    return True


def _place(where: str, row: Row, step: str | None, place: int) -> float:
    """Return where a line stands: its step, in samples where that can be told, else its number."""
    if step is None:
        return place
    cell = row.get(step, "").strip()
    if not cell:
        return place
    found = _number(where, step, cell)
    if not math.isfinite(found):
        return math.inf
    return 1000 * found if step.lower().split("/")[-1] == "kimg" else found


def _number(where: str, name: str, cell: str) -> float:
    """Return a cell's number; raises UserError for a word."""
    try:
        return float(cell)
    except ValueError:
        raise UserError(
            f'{where}: {name} "{shortened(cell, 40)}"', "not a number", "Write numbers, and nan where none is"
        ) from None


def _numbers(where: str, row: Row, known: Mapping[str, str]) -> dict[str, float]:
    """Return the numbers of a line by what they are; raises UserError for a word where a number belongs."""
    found = {}
    for name, kind in known.items():
        cell = _bare(row.get(name, ""))
        if not cell or cell.lower() in ("none", "null", "-", "n/a"):
            continue
        value = _number(where, name, cell)
        found[kind] = value / 100 if kind == "accuracy" and (value > 1 or "%" in row[name]) else value
    if all(sign in found for sign in SIGNS):
        real, fake = (found.pop(sign) for sign in SIGNS)
        found["accuracy"] = (2 + real - fake) / 4
    return found


def _merged(numbered: Sequence[tuple[float, dict[str, float]]]) -> list[tuple[int, dict[str, float]]]:
    """Return one line for each step: some tools write the numbers of a step in several lines."""
    merged: dict[int, dict[str, float]] = {}
    for place, found in numbered:
        if math.isfinite(place) and abs(place) < 2**53:
            merged.setdefault(round(place), {}).update(found)
    return sorted(merged.items())


def _averaged(merged: Sequence[tuple[int, dict[str, float]]]) -> Iterator[tuple[int, dict[str, float]]]:
    """Yield the lines, of very many the means of stretches; a loss that was not finite in one is not in its mean."""
    lines = [pair for pair in merged if pair[1].keys() - {"fid", "kid", *VALUES}] or list(merged)
    every = math.ceil(len(lines) / MOST)
    for begin in range(0, len(lines), every):
        stretch = lines[begin : begin + every]
        found: dict[str, float] = {}
        for kind in dict.fromkeys(kind for _, numbers in stretch for kind in numbers):
            values = [numbers[kind] for _, numbers in stretch if kind in numbers]
            finite = [value for value in values if math.isfinite(value)]
            found[kind] = sum(finite) / len(finite) if len(finite) == len(values) else math.nan
        yield stretch[-1][0], found


def _line(place: int, found: Mapping[str, float], kinds: Iterable[str]) -> StepStats:
    """Return a log line; a loss that the log never has is 0, as it is no sign of anything."""
    fields = {name: math.nan for name in NAMES if name != "score"}
    for name in ("discriminator_loss", "generator_loss"):
        if name not in kinds or name not in found:
            fields[name] = 0.0
    fields |= {name: value for name, value in found.items() if name in fields}
    unknown = dict.fromkeys(
        ("seconds", "penalty", "discriminator_rate", "generator_rate", "samples_per_second"), math.nan
    )
    return StepStats(samples=place, **fields, **unknown)


def _scores(merged: Sequence[tuple[int, dict[str, float]]]) -> Iterator[Score]:
    kinds = [kind for kind in ("fid", "kid") if any(kind in found for _, found in merged)]
    for place, found in merged:
        if kinds and kinds[0] in found:
            values = {name: value for name, value in found.items() if name in ("fid", "kid", *VALUES)}
            yield Score(samples=place, seconds=0.0, loss=found[kinds[0]], values=values)


def _in_words(unit: str) -> str:
    plain = unit.lower().split("/")[-1].strip("_")
    return {"epoch": "epochs", "iter": "iterations", "iteration": "iterations", "tick": "ticks"}.get(
        plain, "samples" if plain in ("samples", "nimg") else "lines" if plain == "lines" else "steps"
    )
