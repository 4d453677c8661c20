"""A game that diverges goes back to its last healthy checkpoint; a kill around that leaves no trace."""

import re
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import calls
import killing
import lives
import pytest
from calls import Call
from killing import Case
from small import as_options

import equipoise as eq
from equipoise.errors import UserError
from equipoise.runs.folder import RunFolder
from equipoise.storage.logs import records
from equipoise.storage.records import RunState

BATCH = 8
BRIEF = ("evaluation.every=24", "saving.every=16", f"saving.log_every={BATCH}")  # a line of the log in every step
BACK = 32  # samples of the last checkpoint before it goes wrong
BEGIN = 48  # of the generator's first draws that are poisoned, in the step that begins at 40
DIVERGED = 64  # after three intervals without a step of the generator
BUDGET = 144
AROUND = 4  # calls before a remedy and after it
TASKS = ("images", "points", "super-resolution")
UPDATES = ("alternating", "simultaneous", "extragradient")
SPENT = 200  # of a run whose every attempt diverges; more than it can spend

CaseOf = Callable[[str], Case]


def diverging(case: Case, *settings: str, begin: int = BEGIN, attempts: int = 1, budget: int = BUDGET) -> Case:
    """Return a brief training whose first attempts diverge from some samples on."""
    return case.but(*BRIEF, *settings, befallen=partial(lives.diverging, begin, attempts), budget=budget)


def hopeless(case: Case) -> Case:
    """Return a brief training that diverges whatever is tried, once."""
    return diverging(case, "remedies.attempts=1", attempts=99, budget=SPENT)


def remedies(out: Path) -> list[tuple[int, int]]:
    """Return where a run went back, with the attempts before that."""
    found = records(RunFolder(out).events)
    return [(event["samples"], event["attempt"]) for event in found if event["kind"] == "remedy"]


def ended(out: Path) -> RunState:
    """Return how a run ended."""
    return RunFolder(out).read_state()


def counted_around(case: Case, folder: Path) -> tuple[list[Call], list[range]]:
    """Let a run live whole; return its calls, and which of them each of its remedies makes."""
    out = folder / "counted"
    lines = folder / "calls"
    marked = folder / "marked"
    marking = partial(calls.mark, "repair.roll_back", lines, marked)
    assert killing.lived(case, out, partial(lives.both, partial(calls.record, out, lines), marking)) == 0
    marks = [int(number) for number in marked.read_text().split()]
    return calls.recorded(lines), [range(*pair) for pair in zip(marks[::2], marks[1::2], strict=True)]


def kill_around(case: Case, folder: Path, step: int = 1) -> dict[str, Any]:
    """Kill a run before every call around its remedies and compare each at its end; return the whole one's facts."""
    expected = killing.finished(case, folder / "whole")
    found, within = counted_around(case, folder)
    targets = [found[index].target for remedy in within for index in remedy]
    saved = [target for target in targets if re.search(r"/checkpoints/\d+$", target)]
    assert not saved, "a remedy writes no checkpoint: a run that is killed meets the same condition again"
    around = range(within[0].start - AROUND, within[-1].stop + AROUND, step)
    tally = killing.kill_at_calls(case, folder, expected, found, around)
    print(tally)
    assert tally.total() >= len(around)
    return expected


@pytest.mark.faults
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("task", "step"), {"images": 3, "points": 1, "super-resolution": 3}.items())
def test_a_kill_before_any_call_around_a_remedy_leaves_no_trace(
    case_of: CaseOf, tmp_path: Path, task: str, step: int
) -> None:
    """Its event, the checkpoints it removes, the logs it cuts, the candidates and the best that it puts back.

    Of points at every call; the calls are the same whatever is learned, so of the others at every third.
    """
    kill_around(diverging(case_of(task)), tmp_path, step)
    assert remedies(tmp_path / "whole") == [(DIVERGED, 0)]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_kill_around_a_remedy_leaves_no_trace(case_of: CaseOf, tmp_path: Path) -> None:
    """The quick part of the test above."""
    kill_around(diverging(case_of("points")), tmp_path, 8)
    assert remedies(tmp_path / "whole") == [(DIVERGED, 0)]


@pytest.mark.faults
@pytest.mark.timeout(3600)
def test_a_kill_around_a_remedy_that_begins_anew_leaves_no_trace(case_of: CaseOf, tmp_path: Path) -> None:
    """No checkpoint is healthy: all of them go, and the run is none whose checkpoints are lost."""
    kill_around(diverging(case_of("points"), begin=0, attempts=2), tmp_path, 2)
    assert remedies(tmp_path / "whole") == [(3 * BATCH, 0), (3 * BATCH, 1)]
    assert ended(tmp_path / "whole").samples == BUDGET - 2 * 3 * BATCH


@pytest.mark.faults
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("task", "update"), [*((task, "alternating") for task in TASKS), *(("points", update) for update in UPDATES[1:])]
)
def test_kills_at_random_moments_of_a_training_with_remedies_leave_no_trace(
    case_of: CaseOf, tmp_path: Path, task: str, update: str, seed: int
) -> None:
    """It diverges twice, and every kill falls anywhere."""
    case = case_of(task).but(f"game.update={update}", budget=1200)
    case = case.but(befallen=partial(lives.diverging, 400, 2))
    assert killing.kill_at_random(case, tmp_path, 6, seed).num_kills == 6
    assert [attempt for _, attempt in remedies(tmp_path / "whole")] == [0, 1]
    assert ended(tmp_path / "whole").stop_reason == "budget"


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_kills_leave_no_trace_where_rates_are_too_high_until_they_have_been_halved(
    case_of: CaseOf, tmp_path: Path, seed: int
) -> None:
    """Nothing is poisoned here: least squares by plain gradient descent are unstable beyond a rate."""
    players = ("generator", "discriminator")
    rates = [f"game.{player}.{what}" for player in players for what in ("rate=2", "rate_end=none", "optimizer=sgd")]
    case = case_of("points").but(*rates, "game.penalty.kind=none", "game.loss=least-squares", budget=2400)
    assert killing.kill_at_random(case, tmp_path, 6, seed).num_kills == 6
    assert 1 <= len(remedies(tmp_path / "whole")) <= 3
    assert ended(tmp_path / "whole").stop_reason == "budget"


def check_honest_end(out: Path) -> None:
    """See that a run says that it has diverged, what was tried, and that a resume does not begin it again."""
    state = ended(out)
    assert (state.status, state.stop_reason) == ("finished", "diverged")
    assert remedies(out) == [(DIVERGED, 0)]
    stops = [event for event in records(RunFolder(out).events) if event["kind"] == "stop"]
    assert [event["message"] for event in stops] == [state.message]
    for options in ({}, {"budget": "9k"}, {"policy": "budget"}):
        with pytest.raises(UserError):
            eq.resume(out, **options)  # type: ignore[arg-type]


@pytest.mark.faults
@pytest.mark.timeout(3600)
def test_attempts_that_are_spent_end_in_an_honest_stop_also_after_kills(case_of: CaseOf, tmp_path: Path) -> None:
    """A kill gives no attempt back, and takes none."""
    kill_around(hopeless(case_of("points")), tmp_path, 3)
    check_honest_end(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_attempts_that_are_spent_end_in_an_honest_stop_also_after_a_kill(
    case_of: CaseOf, tmp_path: Path, seed: int
) -> None:
    """The quick part of the test above, at a random moment."""
    assert killing.kill_at_random(hopeless(case_of("points")), tmp_path, 2, seed).num_kills == 2
    check_honest_end(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_a_remedy_goes_back_to_other_draws_and_forgets_neither_what_was_spent_nor_what_has_happened(
    case_of: CaseOf, tmp_path: Path, task: str
) -> None:
    """Draws are other ones from the checkpoint on, the same before it; the budget pays for abandoned samples too."""
    diverged = tmp_path / "diverged"
    killing.finished(diverging(case_of(task)), diverged)
    healthy = tmp_path / "healthy"
    killing.finished(diverging(case_of(task), attempts=0), healthy)

    state = ended(diverged)
    assert state.spent == BUDGET
    assert state.samples == BUDGET - (DIVERGED - BACK)
    kinds = [event["kind"] for event in records(RunFolder(diverged).events)]
    assert kinds == ["steps skipped", "remedy", "stop"]

    found = {line["samples"]: line for line in records(RunFolder(diverged).steps)}
    others = {line["samples"]: line for line in records(RunFolder(healthy).steps)}
    losses = ("terms", "discriminator_loss", "generator_loss")
    of_both = [[[lines[place][name] for name in losses] for lines in (found, others)] for place in (BACK, BACK + BATCH)]
    assert of_both[0][0] == of_both[0][1]
    assert of_both[1][0] != of_both[1][1]
    assert [found[BACK + place * BATCH]["attempt"] for place in (-1, 0, 1, 2)] == [0, 0, 1, 1]


@pytest.mark.slow
def test_a_remedy_when_the_budget_is_spent_is_followed_by_a_stop_that_says_so(case_of: CaseOf, tmp_path: Path) -> None:
    """What is left is of before the divergence, and nothing more is trained."""
    out = tmp_path / "run"
    killing.finished(diverging(case_of("points"), budget=DIVERGED), out)
    state = ended(out)
    assert (state.stop_reason, state.samples, state.spent) == ("budget", BACK, DIVERGED)
    found = [(event["kind"], event["samples"], event["attempt"]) for event in records(RunFolder(out).events)]
    assert found[1:] == [("remedy", DIVERGED, 0), ("stop", BACK, 1)]


SIGNALLED = {
    "before it": ("repair.roll_back", 1),
    "while it removes checkpoints": ("state.discard", 1),
    "while it cuts the logs": ("state._match_files", 2),
    "after it": ("loop.set_rates", DIVERGED // BATCH + 1),
}


@pytest.mark.faults
@pytest.mark.parametrize("moment", SIGNALLED)
def test_a_signal_around_a_remedy_ends_the_training_in_order_and_costs_nothing(
    case_of: CaseOf, tmp_path: Path, moment: str
) -> None:
    """What is left is of before the remedy, or of after it, and the resumed run ends as the one without a signal."""
    case = diverging(case_of("points"))
    expected = killing.finished(case, tmp_path / "whole")
    out = tmp_path / "run"
    assert killing.lived(case, out, lives.signalled(*SIGNALLED[moment], signal.SIGTERM)) == 130, killing.said(out)
    assert ended(out).status == "stopped"
    found = killing.finished(case, out)
    for facts in (found, expected):
        facts["events"] = [event for event in facts["events"] if event["kind"] != "stop"]
    killing.check_same(found, expected)


def test_what_diverges_is_said_by_the_command_line(case_of: CaseOf, tmp_path: Path) -> None:
    """Whoever watches the terminal learns that the run goes back, and to where."""
    case = diverging(case_of("points"))
    assert killing.lived(case, tmp_path / "run") == 0
    lines = [line for line in killing.said(tmp_path / "run").splitlines() if f" {BACK} " in line]
    assert lines, as_options(case.settings)
