"""The end of a run: candidates are evaluated again, the selected one is tested once beside its rivals, and shown."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from equipoise.evaluation.evaluate import measure
from equipoise.evaluation.rivals import compared_with, judge_rivals
from equipoise.evaluation.selection import INTERRUPTED, no_candidates, optimism_of, select_best
from equipoise.host.deadline import Deadline
from equipoise.metrics.crossfit import corrected
from equipoise.runs.folder import RunFolder
from equipoise.runs.held_out import place_of
from equipoise.stopping.monitor import Monitor
from equipoise.storage.records import EventKind, Exhibits, Rivals, Score, Selection, deciding
from equipoise.storage.records import Exhibit as ExhibitRecord
from equipoise.tasks.base import Evaluated, Exhibit
from equipoise.tasks.exhibits import file_of

LONG = 4  # selecting takes several evaluations

Stage = Callable[[str, float], None]
Event = Callable[[EventKind, str], None]


@dataclass(frozen=True)
class Ending:
    """What the end needs: the run, the task, how to load a kept generator, and how long each part may take."""

    run: RunFolder
    task: Evaluated
    monitor: Monitor
    load: Callable[[Path], Any]
    timeout: float
    event: Event
    stage: Stage


@dataclass
class Findings:
    """What the end found, as far as it came."""

    selection: Selection | None = None
    not_selected: str | None = None
    test: Score | None = None
    rivals: Rivals | None = None
    failures: list[str] = field(default_factory=list)


def attempt(ending: Ending, what: str, do: Callable[[Deadline], None], timeout: float) -> str | None:
    """Do one part of the end; return why it failed, which is an event then, or None.

    The training is over and saved, so only what the disk raises ends the run here: it can be resumed.
    """
    try:
        do(Deadline(timeout))
    except Exception as error:
        if isinstance(error, OSError) and not isinstance(error, TimeoutError):
            raise
        reason = str(error).strip().rstrip(".") or "no reason was given"
        failed = f"{what} failed ({type(error).__name__}: {reason})."
        ending.event("final stage failed", failed)
        return failed
    return None


def select(ending: Ending, found: Findings) -> None:
    """Evaluate the candidates again and promote the lowest, or say why that was not done.

    Where too few are held out for a second half it is on the same ones, with other inputs: a paired test of so few
    hardly ever shows that a generator is better, and the best while training may be one of long before.
    """

    def do(deadline: Deadline) -> None:
        judge = ending.task.judge("validation, second half") or ending.task.judge("validation")
        if not ending.monitor.candidates:
            found.not_selected = no_candidates(ending.run)
        elif judge is None:
            found.not_selected = "The best generators were not evaluated again: there are no validation examples."
        else:
            ending.stage("evaluating the best generators again", 0.0)
            found.selection = select_best(ending.run, ending.task, judge, ending.monitor, ending.load, deadline)
            if found.selection is None:
                found.not_selected = "The best generators were not evaluated again: none of them could be loaded."

    if failed := attempt(ending, "Evaluating the best generators again", do, LONG * ending.timeout):
        found.not_selected = failed


def test(ending: Ending, found: Findings, generator: Any, samples: int) -> None:
    """Evaluate the selected generator once on the test split, and the rivals beside it.

    Where few examples are held out, these are the ones that have chosen it. By how much that flatters it is added.
    """

    def do(deadline: Deadline) -> None:
        judge = ending.task.judge("test")
        if judge is None:
            return
        ending.stage("testing the best generator", 0.0)
        measured = measure(ending.task, judge, generator, judge.seed, deadline)
        optimism = optimism_of(ending.run, judge)
        if math.isfinite(optimism):
            measured = corrected(measured, optimism, deciding(judge.metrics).name)
        found.test = Score(
            samples=samples,
            seconds=0.0,
            loss=measured.loss,
            error=measured.error,
            values=measured.values,
            optimism=optimism,
            protocol=dict(judge.protocol),
        )
        where = place_of(judge.protocol, "test")
        ending.stage(f"scoring the baselines on {where}", 0.0)
        judged = judge_rivals(
            ending.task.rivals(),
            judge,
            deadline,
            lambda text: ending.event("baseline failed", f"on {where}: {text}"),
            ending.task.chunk,
        )
        found.rivals = compared_with(judged, measured)

    if failed := attempt(ending, "Testing the best generator", do, LONG * ending.timeout):
        found.failures.append(failed)


def show(ending: Ending, generator: Any) -> None:
    """Write what the report shows of the best generator."""

    def do(_: Deadline) -> None:
        ending.stage("drawing samples", 0.0)
        write_exhibits(ending.run, ending.task.exhibits(generator))

    attempt(ending, "Making the exhibits", do, ending.timeout)


def write_exhibits(run: RunFolder, exhibits: list[Exhibit]) -> None:
    """Write exhibits into a run's folder, with a record of them for the report."""
    records = []
    contents = {}
    for exhibit in exhibits:
        file = file_of(exhibit)
        contents[file] = exhibit.content
        records.append(
            ExhibitRecord(
                kind=exhibit.kind, file=file, title=exhibit.title, caption=exhibit.caption, intro=exhibit.intro
            )
        )
    run.write_exhibits(Exhibits(exhibits=tuple(records)), contents)


def conclude(ending: Ending, best: Callable[[], tuple[Any, Score] | None], *, is_final: bool) -> Findings:
    """Select, show and test; `best` gives the selected generator with its score, None where there is none to load.

    Where the run was only interrupted nothing is selected or tested: it will end another time.
    """
    found = Findings()
    if is_final:
        select(ending, found)
    else:
        found.not_selected = INTERRUPTED
    selected = best()
    if selected is None:
        return found
    generator, score = selected
    show(ending, generator)
    if is_final:
        test(ending, found, generator, score.samples)
    return found
