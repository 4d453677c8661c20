"""Recorded series of scores, to replay stopping policies over: out of files and run folders."""

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import msgspec

from equipoise.errors import Command, Option, UserError, listed
from equipoise.recipe import MAX_BUDGET, PROBABILISTIC
from equipoise.runs.folder import RunFolder
from equipoise.runs.recorded_tables import HEAD, Table, is_higher_better, measured_by, read_table
from equipoise.runs.status import best_of
from equipoise.runs.stopping_status import metrics_of
from equipoise.storage.logs import is_score, records
from equipoise.storage.records import Metric, Score, StepStats, comparable, deciding, lenient, strict

ColumnName = Literal["fid", "kid"]

MIN_EVALUATIONS = 5
MAX_MEASURE = 1e15  # beyond it, sums of squares overflow
METRICS: dict[ColumnName, Metric] = {  # columns of a file that can decide
    "fid": Metric(name="fid", label="FID", decides=True),
    "kid": Metric(name="kid", label="KID", decides=True, signed=True),
}
OF_SEVERAL_RUNS = ("seed", "model", "name", "experiment", "method", "trial", "version", "config", "dir_name")
LOGS = (".csv", ".tsv", ".jsonl", ".json", ".txt", ".log")
OF_LOGS = ("metrics", "scores", "history", "progress", "evaluation", "evals", "results")  # names of files of scores
MOST_LISTED = 2_000  # files of a folder that are looked at for logs
EMPTY_CELL = "Leave the cell empty where an evaluation failed"

Record = TypeVar("Record", Score, StepStats)
Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_BUDGET)]


class Row(msgspec.Struct, kw_only=True):
    """One line of a file: an evaluation; an empty cell is NaN."""

    run: str
    step: Count
    fid: float = math.nan
    kid: float = math.nan
    kid_se: float = math.nan  # standard error of the KID
    precision: float = math.nan
    recall: float = math.nan
    density: float = math.nan
    coverage: float = math.nan
    copying: float = math.nan
    discriminator_gap: float = math.nan
    compared_with: Count = 0  # step of the best generator of the recording
    difference: float = math.nan  # of the KID, from that one's
    difference_error: float = math.nan


NAMES = Row.__struct_fields__
MEASURES = tuple(field.name for field in msgspec.structs.fields(Row) if field.type is float)


@dataclass(frozen=True)
class Series:
    """The recorded evaluations of one run in order, and its stats where a run folder has D(G(z))."""

    name: str
    metric: Metric
    scores: tuple[Score, ...]
    stats: tuple[StepStats, ...] = ()
    notes: tuple[str, ...] = ()  # how a file was read, where that is not plain


def read(paths: Sequence[Path], metric: ColumnName | None = None) -> list[Series]:
    """Read every run of files and run folders; raises UserError for what cannot be read or is given twice."""
    series: list[Series] = []
    seen: set[Path] = set()
    for path in paths:
        try:
            whole = path.resolve()
            exists = path.exists()
            is_folder = path.is_dir()
        except OSError as error:
            raise _unreadable(path, error) from None
        if not exists:
            problem = f"does not exist; give a CSV file with the columns {HEAD}, or a run's folder"
            raise UserError(path, problem, Command("replay", "runs/modern-mnist-001"))
        if whole in seen:
            raise UserError(path, "given twice, and its runs would count twice", "Give it once")
        seen.add(whole)
        is_shared = sum(other.stem == path.stem for other in paths) > 1
        name = f"{whole.parent.name}/{path.stem}" if is_shared else path.stem
        if is_folder and not RunFolder.is_run(path):
            _refuse_folder(path)
        series += [read_run(path, metric)] if is_folder else read_file(path, metric, name)
    return series


def _refuse_folder(path: Path) -> None:
    """Raise UserError where a folder that is no run holds logs of another tool, with those to give."""
    every = itertools.islice(itertools.chain(path.glob("*"), path.glob("*/*")), MOST_LISTED)
    logs = [file for file in every if file.suffix.lower() in LOGS and _is_log(file.stem.lower())]
    if logs:
        problem = f"a folder, and not a run of Equipoise; logs in it: {len(logs):,}"
        raise UserError(path, problem, *(Command("replay", log) for log in sorted(logs)[:3]))


def _is_log(stem: str) -> bool:
    return measured_by(stem) is not None or any(word in re.split(r"[\W_]+", stem) for word in OF_LOGS)


# Files


def read_file(path: Path, metric: ColumnName | None = None, name: str | None = None) -> list[Series]:
    """Read the runs of a file with a step and a FID or KID a line, CSV or JSON; raises UserError that names the line.

    What decides is the FID where there is one, else the KID; an empty cell is NaN, a failed evaluation. Without a
    column that says which run a line is of, all are of one run of the given name, by default the file's.
    """
    table = read_table(path, metric, NAMES)
    names = list(table.names)
    chosen = _chosen(path, names, metric)
    notes = table.notes
    if "run" not in names:
        notes = (*notes, f'one run, called "{name or path.stem}"')
    _refuse_joined(path, table)
    runs: dict[str, list[tuple[str, Score]]] = {}
    for number, cells in table.rows:
        where = f"{path}, line {number}"
        row = _row(where, {"run": name or path.stem} | cells)
        score = _score(row, chosen, names)
        _refuse_impossible(where, score, METRICS[chosen])
        runs.setdefault(row.run, []).append((where, score))
    if not runs:
        raise UserError(path, "a first line and no evaluations below it")
    series = []
    for run, found in runs.items():
        scores, told = _in_order(run, found)
        series.append(_checked(path, Series(run, METRICS[chosen], tuple(scores), notes=(*notes, *told))))
    return series


def _refuse_joined(path: Path, table: Table) -> None:
    """Raise UserError where a column such as seed has several values, and none says which run a line is of."""
    for name in table.names:
        values = {row[name] for _, row in table.rows if row[name]}
        if "run" not in table.names and name.lower() in OF_SEVERAL_RUNS and len(values) > 1:
            problem = f'its column "{name}" has {len(values):,} values, so its lines may be of several runs'
            remedy = f'Rename the column "{name}" to "run", if it tells runs apart; else leave it out'
            raise UserError(path, problem, remedy)


def _in_order(run: str, found: Sequence[tuple[str, Score]]) -> tuple[list[Score], list[str]]:
    """Return a run's scores by their steps, each once, and what was done for that.

    Raises UserError where a step has two scores: of two runs, or of one that was resumed further back.
    """
    by_step: dict[int, Score] = {}
    for where, score in found:
        first = by_step.setdefault(score.samples, score)
        if repr(first) != repr(score):  # NaN is unequal to itself
            remedy = "Keep the line that counts, or tell runs apart by a column run"
            problem = f"step {score.samples} is there twice"
            raise UserError(f'{where}: run "{run}"', problem, remedy)
    scores = list(by_step.values())
    notes = []
    if num_again := len(found) - len(scores):
        notes.append(f'{num_again:,} lines of run "{run}" are there again, unchanged, and count once')
    ordered = sorted(scores, key=lambda score: score.samples)
    if [score.samples for score in ordered] != [score.samples for score in scores]:
        notes.append(f'the lines of run "{run}" are sorted by their steps')
    return ordered, notes


def _chosen(path: Path, names: Sequence[str], metric: ColumnName | None) -> ColumnName:
    """Return the column that decides, after refusing columns that are missing or there twice."""
    chosen: ColumnName = "kid" if "kid" in names and "fid" not in names else "fid"
    needed = "step and fid (or kid)"
    if metric is not None:
        chosen = metric
        needed = f"step and {metric}"
    found = ", ".join(name[:24] for name in names[:12])
    if len(names) > 12:
        found += ", …"
    for name in ("step", chosen):
        if name not in names:
            problem = f'no column "{name}"; found are {found}; needed are {needed}'
            if name == chosen and (higher := next(filter(is_higher_better, names), None)):
                problem += f'; of "{higher[:24]}" higher is better, and policies are replayed on FID or KID alone'
            raise UserError(path, problem, _remedy_without(name, names, chosen))
    for name in NAMES:
        if names.count(name) > 1:
            raise UserError(path, f'the column "{name}" is there {names.count(name)} times; found are {found}')
    return chosen


def _remedy_without(name: str, names: Sequence[str], chosen: ColumnName) -> str:
    """Return what to do with a file that lacks a column: what its first line holds says which."""
    are_numbers = [re.fullmatch(r"[-+]?\d+(?:[.,]\d+)?(?:e[-+]?\d+)?", one) is not None for one in names]
    if len(names) == 2 and all(are_numbers):
        return f"Its first line has no names; begin with the line step,{chosen}"
    if len(names) > 2 and all(are_numbers[1:]) and not are_numbers[0]:
        return "Its lines seem to be columns: write a line for each evaluation"
    if name == "step" and chosen in names:
        return 'Rename the column of the steps to "step"; where there is none, add one: 1, 2, 3, …'
    return f"Begin with a line such as run,step,{chosen}"


def _row(where: str, cells: dict[str, str]) -> Row:
    """Return one line as typed values; raises UserError that names the cell."""
    named = {name: cell.strip() for name, cell in cells.items()}
    named["step"] = re.sub(r"(?<=\d)[.]0+$", "", named["step"])  # some tools write 1000.0
    try:
        row = msgspec.convert({name: cell for name, cell in named.items() if cell}, Row, strict=False)
    except msgspec.ValidationError as error:
        name = re.findall("[a-z_]+", str(error))[-1]
        subject = f'{where}: {name} "{named.get(name, "")[:24]}"'
        if name == "run":
            raise UserError(subject, "every line needs the name of its run") from None
        if name in MEASURES:
            raise UserError(subject, "not a number", _alone(named[name]) or EMPTY_CELL) from None
        remedy = _alone(named.get(name, "")) or "Number the evaluations: 1, 2, 3, …"
        raise UserError(subject, "not a whole number from 0 on", remedy) from None
    for name in MEASURES:
        value = getattr(row, name)
        if math.isfinite(value) and abs(value) > MAX_MEASURE:
            raise UserError(f"{where}: {name} {value:g}", "too large for a score", EMPTY_CELL)
    return row


def _alone(cell: str) -> str:
    """Return what to write for a number with something beside it, empty where there is no such number."""
    if "%" in cell:
        return "Write it without the sign, and all lines in one unit"
    numbers = re.findall(r"(?<![\w.-])\d+(?:[.]\d+)?(?![\w.])", cell)
    if not numbers or numbers == [cell]:
        return ""
    return f"Write the number alone, such as {numbers[0]}"


def _score(row: Row, chosen: ColumnName, names: Sequence[str]) -> Score:
    """Return the score of one line; what is not finite becomes NaN, and paired differences are those of the KID."""
    known = {name: value for name in MEASURES if math.isfinite(value := getattr(row, name))}
    paired: dict[str, Any] = {}
    if chosen == "kid":
        paired = {name: known[name] for name in ("difference", "difference_error") if name in known}
        paired |= {"error": known.get("kid_se", math.nan), "compared_with": row.compared_with}
    apart = ("kid_se", "difference", "difference_error")
    values = {name: known.get(name, math.nan) for name in MEASURES if name in names and name not in apart}
    return Score(samples=row.step, seconds=0.0, loss=known.get(chosen, math.nan), values=values, **paired)


# Run folders


def read_run(path: Path, metric: ColumnName | None = None) -> Series:
    """Read the scores of a run folder under its last protocol, failed ones too; raises UserError.

    What decides is the run's own metric, unless another is asked for. Stats are read where the loss makes D(G(z)) a
    probability.
    """
    run = RunFolder.open(path)
    recipe = run.recipe()
    chosen = _chosen_of(run, metric)
    try:
        log = [record for record in records(run.scores) if is_score(record)]
        scores = comparable([_strictly(Score, record) for record in log])
        steps = records(run.steps) if recipe.game.loss in PROBABILISTIC else []
        stats = [_strictly(StepStats, record) for record in steps]
        events = [record for record in records(run.events) if record["kind"] == "evaluation failed"]
        failed = [msgspec.convert(record["samples"], int) for record in events]
    except OSError as error:
        raise _unreadable(path, error) from None
    except (msgspec.ValidationError, KeyError, TypeError, AttributeError) as error:
        raise UserError(path, f"its log is damaged ({str(error)[:200]})", "Restore it from a copy") from None
    name = path.resolve().name
    if metric is not None:
        scores = [_by(score, chosen) for score in scores]
    for index, score in enumerate(scores):
        _refuse_disorder(str(run.scores), name, scores[max(0, index - 1) : index + 1])
        _refuse_impossible(f"{run.scores}, step {score.samples}", score, chosen)
    every = sorted([*scores, *_failures(failed, scores)], key=lambda score: score.samples)
    return _checked(path, Series(name, chosen, tuple(every), tuple(stats)))


def _chosen_of(run: RunFolder, metric: ColumnName | None) -> Metric:
    """Return the metric that decides; raises UserError where the one that is asked for was not measured."""
    metrics = metrics_of(run)
    if metric is None:
        return deciding(metrics)
    found = next((one for one in metrics if one.name == metric), None)
    if found is None:
        measured = listed([one.name for one in metrics]) if metrics else "nothing by name"
        raise UserError(Option("metric", metric), f"{run.path} measured {measured}", "Leave the option out")
    return found


def _by(score: Score, metric: Metric) -> Score:
    """Return a score by a metric; errors and paired differences are known of the one that decided only."""
    if metric.decides:
        return score
    unknown = {"error": math.nan, "compared_with": 0, "difference": math.nan, "difference_error": math.nan}
    return msgspec.structs.replace(score, loss=score.value(metric.name), **unknown)


def _strictly(kind: type[Record], record: dict[str, Any]) -> Record:
    """Return a record of a log if all of it can be read; raises msgspec.ValidationError for a wrong type."""
    strict(kind, record)
    return lenient(kind, record)


def _failures(failed: Sequence[int], scores: Sequence[Score]) -> list[Score]:
    """Return evaluations that failed under the last protocol: they stand in the log of events only."""
    taken = {score.samples for score in scores}
    return [
        Score(samples=samples, seconds=0.0, protocol=scores[-1].protocol)
        for samples in sorted(set(failed) - taken)
        if scores and samples > scores[0].samples  # what came before was under another protocol
    ]


# What is refused


def _refuse_disorder(where: str, run: str, last: Sequence[Score]) -> None:
    """Raise UserError if the last two steps of a run do not rise."""
    steps = [score.samples for score in last]
    if len(steps) < 2 or steps[0] < steps[1]:
        return
    problem = f"step {steps[1]} follows step {steps[0]}"
    if steps[0] == steps[1]:
        problem = f"step {steps[1]} is there twice"
    raise UserError(f'{where}: run "{run}"', problem, "The steps of every run must rise")


def _refuse_impossible(where: str, score: Score, metric: Metric) -> None:
    """Raise UserError for a FID of zero or below, which no two sets of images have, and for an error below zero."""
    if score.error < 0 or score.difference_error < 0:
        raise UserError(where, "a standard error below zero", "Leave the cell empty where none is known")
    if metric.name == "fid" and score.loss <= 0:
        raise UserError(where, f"FID {score.loss:g}, and a FID is above zero", EMPTY_CELL)


def _checked(path: Path, series: Series) -> Series:
    """Return a series that has enough evaluations to replay; raises UserError."""
    num = len(series.scores)
    subject = f'{path}: run "{series.name}"'
    if num < MIN_EVALUATIONS:
        evaluations = "1 evaluation" if num == 1 else f"{num} evaluations"
        raise UserError(subject, f"{evaluations}, too few to replay: at least {MIN_EVALUATIONS} are needed")
    if best_of(list(series.scores)) is None:
        others = [name for name in METRICS if any(math.isfinite(score.value(name)) for score in series.scores)]
        remedies = [Option("metric", name) for name in others]
        raise UserError(subject, f"{num} evaluations, and none with a finite {series.metric.shown}", *remedies)
    return series


def _unreadable(path: Path, error: OSError) -> UserError:
    return UserError(path, f"cannot be read ({error.strerror})", "Check its name and its permissions")
