"""Stopping policies replayed over recorded series of scores: what they would have saved, and what that would have cost.

A policy sees the evaluations strictly one at a time, through the same `Referee` as a training. Lower scores are
better. A score that is not a finite number is a failed evaluation: no improvement, and never the best.
"""

import csv
import dataclasses
import io
import math
import statistics
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias, TypeVar

import msgspec

from equipoise import formatting
from equipoise.errors import UserError, listed, suggestion
from equipoise.health.stats import ScoreLine, StepStats, comparable, metric_value, score_from, stats_from
from equipoise.recipe import (
    MAX_BUDGET,
    PROBABILISTIC,
    Budget,
    MetricName,
    PolicyName,
    Recipe,
    Stopping,
    from_dict,
    with_settings,
)
from equipoise.runs.compare import table
from equipoise.runs.folder import RunFolder
from equipoise.runs.status import best_of
from equipoise.stopping.monitor import Referee
from equipoise.stopping.policies import Stop, Verdict
from equipoise.storage.logs import is_score, records

MIN_EVALUATIONS = 5
NEAR, NEARER = 1.05, 1.02  # regrets that count as within 5 % and within 2 % of the best
MAX_MEASURE = 1e15  # beyond it, sums of squares overflow
WIDTH = 80
DEFAULT_POLICIES: tuple[PolicyName, ...] = ("evidence", "patience", "budget")  # all that scores alone allow
MEASURES = tuple(  # columns that are handed on; champion, a whole number, is one too
    field.name for field in dataclasses.fields(ScoreLine) if field.type is float and field.name != "seconds"
)
HEAD = "run,step,fid"

Line = TypeVar("Line", ScoreLine, StepStats)
ReplayedName: TypeAlias = PolicyName | Literal["oracle"]


@dataclass(frozen=True)
class Series:
    """The recorded evaluations of one run in order, and its signals where a run folder has D(G(z))."""

    name: str
    metric: MetricName
    lines: tuple[ScoreLine, ...]
    signals: tuple[StepStats, ...] = ()


@dataclass(frozen=True)
class Seen:
    """What a policy said after one more record, and what it would hand over."""

    samples: int
    verdict: Verdict
    best: ScoreLine | None


@dataclass(frozen=True)
class Replayed:
    """One policy over one run: `saved` is 1 − stop / last step, `regret` is defined by `regret_of`."""

    run: str
    policy: ReplayedName
    stop_samples: int
    last_samples: int
    best_samples: int | None  # of what the policy hands over; None: nothing
    num_evaluations: int  # seen until the stop
    saved: float
    regret: float
    reason: str | None  # None: it never stopped


@dataclass(frozen=True)
class Summary:
    """One policy over many runs; regrets are over the runs that have one, p90 by the nearest rank."""

    policy: ReplayedName
    runs: int
    saved: float  # mean
    within_2pct: int
    within_5pct: int
    mean_regret: float
    p90_regret: float
    worst_regret: float
    without_regret: int  # runs whose best is zero or below
    settings: Stopping | None
    each: tuple[Replayed, ...]


# Reading


def read(paths: Sequence[Path], metric: MetricName | None = None) -> list[Series]:
    """Read every run of CSV files and run folders; raises UserError for what cannot be read or is given twice."""
    series: list[Series] = []
    seen: set[Path] = set()
    for path in paths:
        try:
            whole, exists, is_folder = path.resolve(), path.exists(), path.is_dir()
        except OSError as error:
            raise UserError(_unreadable(path, error)) from None
        if not exists:
            raise UserError(
                f"{path}: does not exist; give a CSV file with the columns {HEAD}, or a run's folder. "
                "Try: equipoise replay runs/modern-mnist-001"
            )
        if whole in seen:
            raise UserError(f"{path}: is given twice, and its runs would count twice. Give it once.")
        seen.add(whole)
        series += [read_run(path, metric)] if is_folder else read_csv(path, metric)
    return series


def read_csv(path: Path, metric: MetricName | None = None) -> list[Series]:
    """Read the runs of a CSV file with the columns run, step, and fid or kid; raises UserError that names the line.

    The metric is fid where there is such a column, else kid; an empty cell is NaN, a failed evaluation.
    """
    rows = _rows(path)
    _, head = next(rows, (0, None))
    if head is None:
        raise UserError(f"{path}: is empty. Its first line must name columns such as {HEAD}")
    names = [cell.strip() for cell in head]
    chosen = _chosen_metric(path, names, metric)
    runs: dict[str, list[ScoreLine]] = {}
    for number, cells in rows:
        where = f"{path}, line {number}"
        if len(cells) < len(names) or any(cell.strip() for cell in cells[len(names) :]):
            raise UserError(f"{where}: has {len(cells)} cells, and the first line names {len(names)} columns.")
        run, line = _line(where, dict(zip(names, cells, strict=False)))
        before = runs.setdefault(run, [])
        _refuse_disorder(where, run, [*before[-1:], line])
        _refuse_impossible(where, line, chosen)
        before.append(line)
    if not runs:
        raise UserError(f"{path}: has a first line and no evaluations below it.")
    return [_checked(str(path), Series(run, chosen, tuple(lines))) for run, lines in runs.items()]


def read_run(path: Path, metric: MetricName | None = None) -> Series:
    """Read the scores of a run folder under its last protocol, failed ones too; raises UserError.

    The metric is the one the run was judged by. Signals are read where the loss makes D(G(z)) a probability.
    """
    run = RunFolder.open(path)
    recipe = from_dict(run.read_recipe())
    probable = recipe.game.loss in PROBABILISTIC
    try:
        scores, events = list(filter(is_score, records(run.scores))), records(run.events)
        steps = records(run.steps) if probable else []
        lines = comparable([_strictly(record, score_from(record)) for record in scores])
        signals = [_strictly(record, stats_from(record)) for record in steps]
        failed = [msgspec.convert(record["samples"], int) for record in events if record["kind"] == "judging failed"]
    except OSError as error:
        raise UserError(_unreadable(path, error)) from None
    except (msgspec.ValidationError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: its log is damaged ({str(error)[:200]}). Restore it from a copy.") from None
    name, chosen = path.resolve().name, metric or recipe.judging.metric
    for index, line in enumerate(lines):
        _refuse_disorder(str(run.scores), name, lines[max(0, index - 1) : index + 1])
        _refuse_impossible(f"{run.scores}, step {line.samples}", line, chosen)
    every = tuple(sorted([*lines, *_failures(failed, lines)], key=lambda line: line.samples))
    return _checked(str(path), Series(name, chosen, every, tuple(signals)))


def _strictly(record: dict[str, Any], read: Line) -> Line:
    """Return what was read of a log record if all of it could be; raises msgspec.ValidationError for a wrong type."""
    given = {name: value for name, value in record.items() if value is not None and name != "terms"}
    msgspec.convert({**vars(read), **given}, type(read))
    return read


def _failures(failed: Sequence[int], lines: Sequence[ScoreLine]) -> list[ScoreLine]:
    """Return evaluations that failed under the last protocol: they stand in the log of events only."""
    taken = {line.samples for line in lines}
    return [
        ScoreLine(samples=samples, seconds=0.0, protocol=lines[-1].protocol)
        for samples in sorted(set(failed) - taken)
        if lines and samples > lines[0].samples  # what came before was another judge's
    ]


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of a CSV file that are not blank, each with the number of its first line."""
    try:
        if not (path.is_file() or path.is_fifo()):
            raise UserError(f"{path}: is neither a file nor a folder. Try: equipoise replay scores.csv")
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise UserError(_unreadable(path, error)) from None
    except UnicodeDecodeError:
        text = "\0"
    if "\0" in text:
        raise UserError(f"{path}: is no text in UTF-8. Save it as CSV in UTF-8, with the columns {HEAD}")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, skipinitialspace=True)
    begin = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield begin, cells
            begin = reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"{path}, line {begin}: is no CSV ({error}). Check its quotes.") from None


def _chosen_metric(path: Path, names: Sequence[str], metric: MetricName | None) -> MetricName:
    """Return the metric of a file, after refusing columns that are missing or there twice."""
    chosen: MetricName = metric or ("kid" if "kid" in names and "fid" not in names else "fid")
    found = ", ".join(name[:24] for name in names[:12]) + (", …" if len(names) > 12 else "")
    needed = f"needed are run, step and {metric or 'fid (or kid)'}"
    for name in ("run", "step", chosen):
        if name not in names:
            remedy = f"Try a first line such as run,step,{chosen}"
            raise UserError(f'{path}: no column "{name}"; found are {found}; {needed}. {remedy}')
    for name in ("run", "step", "champion", *MEASURES):
        if names.count(name) > 1:
            raise UserError(f'{path}: the column "{name}" is there {names.count(name)} times; found are {found}.')
    return chosen


def _line(where: str, row: dict[str, str]) -> tuple[str, ScoreLine]:
    """Return the run's name and the score of one row; what is not finite becomes NaN."""
    run = row["run"].strip()
    if not run:
        raise UserError(f"{where}: the cell of run is empty. Give every row the name of its run.")
    values: dict[str, Any] = {name: _number(where, name, row[name]) for name in MEASURES if name in row}
    values = {name: value if math.isfinite(value) else math.nan for name, value in values.items()}
    champion = _whole(where, "champion", row["champion"]) if row.get("champion", "").strip() else 0
    return run, ScoreLine(samples=_whole(where, "step", row["step"]), seconds=0.0, champion=champion, **values)


def _number(where: str, name: str, text: str) -> float:
    value = _parsed(text)
    if value is None:
        raise UserError(f'{where}: {name} "{_short(text)}" is no number. Leave it empty where an evaluation failed.')
    if math.isfinite(value) and abs(value) > MAX_MEASURE:
        raise UserError(f"{where}: {name} {value:g} is too large for any score. Leave it empty where it diverged.")
    return value


def _whole(where: str, name: str, text: str) -> int:
    value = _parsed(text)
    if value is None or not 0 <= value <= MAX_BUDGET or value != math.floor(value):
        raise UserError(f'{where}: {name} "{_short(text)}" is no whole number from 0 on.')
    return int(value)


def _parsed(text: str) -> float | None:
    """Return the number in a cell, NaN if it is empty, None if it holds anything else."""
    try:
        return float(text.strip() or "nan") if "_" not in text else None  # Python would read 1_0 as ten
    except ValueError:
        return None


def _refuse_disorder(where: str, run: str, last: Sequence[ScoreLine]) -> None:
    """Raise UserError if the last two steps of a run do not rise."""
    if len(last) < 2 or last[0].samples < last[1].samples:
        return
    before, now = (line.samples for line in last)
    problem = f"step {now} is there twice" if before == now else f"step {now} follows step {before}"
    raise UserError(f'{where}: run "{run}": {problem} (steps {before}, {now}); every run\'s steps must rise.')


def _refuse_impossible(where: str, line: ScoreLine, metric: MetricName) -> None:
    """Raise UserError for a FID of zero or below, which no two sets of images have, and for an error below zero."""
    if line.kid_se < 0 or line.difference_se < 0:
        raise UserError(f"{where}: a standard error below zero. Leave the cell empty where none is known.")
    if metric == "fid" and line.fid <= 0:
        raise UserError(
            f"{where}: FID {line.fid:g}, and a FID is above zero. Leave the cell empty where an evaluation failed."
        )


def _checked(where: str, series: Series) -> Series:
    """Return a series that has enough evaluations to replay; raises UserError."""
    num = len(series.lines)
    if num < MIN_EVALUATIONS:
        raise UserError(
            f'{where}: run "{series.name}" has {num} evaluation{"s" * (num != 1)}, too few to replay: '
            f"at least {MIN_EVALUATIONS} are needed."
        )
    if best_of(list(series.lines), series.metric) is None:
        other: MetricName = "kid" if series.metric == "fid" else "fid"
        hint = f" Try: --metric {other}" if best_of(list(series.lines), other) else ""
        raise UserError(
            f'{where}: run "{series.name}" has {num} evaluations, and none with a finite {series.metric.upper()}.{hint}'
        )
    return series


def _short(text: str) -> str:
    return text.strip()[:24]


def _unreadable(path: Path, error: OSError) -> str:
    return f"{path}: cannot be read ({error.strerror}). Check its name and its permissions."


# Replaying


def stopping_with(settings: Sequence[str]) -> Stopping:
    """Return the default stopping settings, changed by `stopping.patience=12` and the like; raises UserError."""
    allowed = [f"stopping.{field.name}" for field in dataclasses.fields(Stopping) if field.name != "policy"]
    for setting in settings:
        path, separator, _ = setting.partition("=")
        if not separator:
            raise UserError(f'--set "{setting}": expected FIELD=VALUE. Try: --set stopping.patience=12')
        if path.strip() == "stopping.policy":
            raise UserError(f'--set "{setting}": a replay gets its policies by --policy. Try: --policy patience')
        if path.strip() not in allowed:
            near = suggestion(path.strip(), allowed) or " Try: --set stopping.patience=12"
            raise UserError(f'--set "{setting}": replay trains nothing; what it can set is {listed(allowed)}.{near}')
    return with_settings(Recipe(), settings).stopping


def follow(stopping: Stopping, metric: MetricName, past: Iterable[ScoreLine | StepStats]) -> Iterator[Seen]:
    """Yield what the policy says after each record, before the next one is even read."""
    referee = Referee(stopping, Budget(samples=None, seconds=None), metric)
    for record in past:
        match record:
            case ScoreLine():
                referee.score(record)
            case StepStats():
                referee.observe(record)
        yield Seen(record.samples, referee.verdict(record.samples, 0.0), referee.best)


def replay(stopping: Stopping, series: Series) -> Replayed:
    """Run one policy over one series until it stops; raises UserError if the series lacks what the policy reads."""
    past: Sequence[ScoreLine | StepStats] = series.lines
    if stopping.policy == "discriminator-threshold":
        if not series.signals:
            raise UserError(
                f'{series.name}: the policy "{stopping.policy}" reads D(G(z)), which only a run folder with the loss '
                f"{listed(PROBABILISTIC)} has; a series of scores has not. Try: --policy evidence patience"
            )
        signals = [stats for stats in series.signals if stats.samples <= series.lines[-1].samples]
        past = sorted([*signals, *series.lines], key=lambda record: record.samples)  # as in a training
    seen = None
    for seen in follow(stopping, series.metric, past):
        if isinstance(seen.verdict, Stop):
            return _replayed(series, stopping.policy, seen.samples, seen.best, seen.verdict.reason)
    return _replayed(series, stopping.policy, series.lines[-1].samples, seen.best if seen else None, None)


def oracle(series: Series) -> Replayed:
    """Stop at the first score within 2 % of the best of the whole run (the best itself where that is not above 0)."""
    best = metric_value(_best(series), series.metric)
    values = [metric_value(line, series.metric) for line in series.lines]
    index = next(i for i, value in enumerate(values) if value == best or regret_of(value, best) <= NEARER)
    reason = "The first score within 2 % of the best of the whole run, which only hindsight knows."
    return _replayed(series, "oracle", series.lines[index].samples, series.lines[index], reason)


def regret_of(value: float, best: float) -> float:
    """Return value / best, to 12 digits: NaN where the best is not above 0, since no ratio to it means anything.

    Infinite if nothing was handed over, because the policy had seen no finite score.
    """
    if best <= 0:
        return math.nan
    return round(value / best, 12) if math.isfinite(value) else math.inf


def summary(results: Sequence[Replayed], settings: Stopping | None = None) -> Summary:
    """Return one policy's means over its runs, of which there is at least one."""
    regrets = sorted(result.regret for result in results if not math.isnan(result.regret))
    return Summary(
        policy=results[0].policy,
        runs=len(results),
        saved=statistics.fmean(result.saved for result in results),
        within_2pct=sum(regret <= NEARER for regret in regrets),
        within_5pct=sum(regret <= NEAR for regret in regrets),
        mean_regret=statistics.fmean(regrets) if regrets else math.nan,
        p90_regret=regrets[math.ceil(0.9 * len(regrets)) - 1] if regrets else math.nan,
        worst_regret=regrets[-1] if regrets else math.nan,
        without_regret=len(results) - len(regrets),
        settings=settings,
        each=tuple(results),
    )


def summaries(policies: Sequence[PolicyName], stopping: Stopping, series: Sequence[Series]) -> list[Summary]:
    """Return the summary of every policy over all series, and the oracle's as the last; raises UserError."""
    found = []
    for policy in policies:
        settings = dataclasses.replace(stopping, policy=policy)
        found.append(summary([replay(settings, one) for one in series], settings))
    return [*found, summary([oracle(one) for one in series])]


def _best(series: Series) -> ScoreLine:
    best = best_of(list(series.lines), series.metric)
    assert best is not None, "a series has at least one finite score"
    return best


def _replayed(
    series: Series, policy: ReplayedName, samples: int, handed: ScoreLine | None, reason: str | None
) -> Replayed:
    last = series.lines[-1].samples
    value = metric_value(handed, series.metric) if handed else math.nan
    return Replayed(
        run=series.name,
        policy=policy,
        stop_samples=samples,
        last_samples=last,
        best_samples=handed.samples if handed else None,
        num_evaluations=sum(line.samples <= samples for line in series.lines),
        saved=1 - samples / last,
        regret=regret_of(value, metric_value(_best(series), series.metric)),
        reason=reason,
    )


# Showing

HEADINGS = ("policy", "runs", "saved", "within 2 %", "within 5 %", "mean regret", "p90", "worst")


def replay_text(found: Sequence[Summary], series: Sequence[Series]) -> str:
    """Return summaries as a table with a sentence that says what the numbers are; for one run also every reason."""
    lines = table(HEADINGS, [_cells(one) for one in found])
    if len(series) == 1:
        lines += ["", *(line for one in found for line in _wrapped(_stop_text(one.each[0])))]
    if without := found[-1].without_regret:
        lines += ["", *_wrapped(
            f"In {without} of {len(series)} runs the best score is zero or below (a KID can be), and no ratio to it "
            "means anything: they count in saved only."
        )]  # fmt: skip
    metrics = listed(sorted({one.metric.upper() for one in series}))
    runs = f"{len(series)} run{'s' * (len(series) != 1)}"
    return "\n".join([*lines, "", *_wrapped(
        f"Over {runs} judged by {metrics}, saved is the mean share of a run's steps that lay after the stop, and "
        "regret is the score that the policy hands over divided by the best of the whole run: 1 where nothing was "
        "lost; nine runs in ten lose no more than p90 (nearest rank)."
    )])  # fmt: skip


def replay_values(found: Sequence[Summary]) -> dict[str, Any]:
    """Return summaries as plain values for `--json`; a regret that is infinite or not defined becomes null."""
    return {"policies": [_values(one) for one in found[:-1]], "oracle": _values(found[-1])}


def _values(one: Summary) -> dict[str, Any]:
    values = {field.name: getattr(one, field.name) for field in dataclasses.fields(one) if field.name != "each"}
    settings = values.pop("settings")
    if not one.without_regret:
        del values["without_regret"]
    if settings is not None:
        values["settings"] = {name: value for name, value in vars(settings).items() if name != "policy"}
    return values


def _cells(one: Summary) -> list[str]:
    rated = one.runs - one.without_regret
    near = [
        f"{num} ({formatting.percent(num / rated)})" if rated else "–" for num in (one.within_2pct, one.within_5pct)
    ]
    regrets = (one.mean_regret, one.p90_regret, one.worst_regret)
    return [one.policy, str(one.runs), f"{100 * one.saved:.1f} %", *near, *map(_regret, regrets)]


def _regret(number: float) -> str:
    if math.isnan(number):
        return "–"
    return f"{number:.3f}" if math.isfinite(number) else "∞"


def _stop_text(result: Replayed) -> str:
    if result.reason is None:
        return f"{result.policy} goes on to the last step, {result.last_samples:,}."
    return f"{result.policy} stops at step {result.stop_samples:,} of {result.last_samples:,}: {result.reason}"


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, break_on_hyphens=False)
