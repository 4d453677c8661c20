"""Clocks that jump, stand still or go on while the machine slept: nothing stops, divides by zero, or changes."""

import ast
import math
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import equipoise as eq
from equipoise import formatting
from equipoise.api import Silent
from equipoise.host.clock import WARM_ROUNDS, Clock
from equipoise.loop import Progress
from equipoise.recipe import Budget
from equipoise.runs.digest import digest
from equipoise.runs.status import read_status
from equipoise.storage import logs

RunOf = Callable[..., eq.Run]
ROOT = Path(eq.__file__).parent
# Who may ask what time it is on the wall, and why: a time that was written down by another process cannot be compared
# with anything else.
ON_THE_WALL = {
    "data/store.py": "how old a folder is that another process left",
    "data/folders.py": "whether a folder was changed just now, so that its time may stand for two states",
}
OF_THE_WALL = (("time", "time"), ("time", "time_ns"), ("datetime", "now"), ("datetime", "utcnow"))
MEASURED = ("evaluation.every=none", "saving.every=none", "saving.log_every=none")
whole: dict[str, str] = {}


class Checking(Silent):
    """Sees that what it is told meanwhile is a number."""

    def progress(self, progress: Progress) -> None:
        """Look at each number that would be shown."""
        for number in (progress.seconds_left, progress.samples_per_second, progress.share):
            assert math.isfinite(number)
            assert number >= 0
        assert "-" not in formatting.duration(progress.seconds_left)


@pytest.fixture
def run_of(run_of: RunOf) -> RunOf:
    """Return a function that trains, and looks at what is shown meanwhile."""
    return lambda *given, **options: run_of(*given, **options, observer=Checking())


def expected(run_of: RunOf) -> dict[str, str]:
    """Return the parts of a training by a clock that goes right; it is trained once."""
    if not whole:
        whole.update(digest(run_of("healthy").folder).parts)
    return whole


def jumping(chance: random.Random) -> Iterator[float]:
    """Give back an hour or take one at random, also one that it gave before."""
    now = 1e9
    while True:
        now += 0.001
        yield now + chance.choice((-3600.0, 0.0, 0.0, 3600.0))


def leaping() -> Iterator[float]:
    """Let three hours pass at every hundredth call, as where the clock went on while the machine slept."""
    now = 1e6
    while True:
        for _ in range(99):
            now += 0.001
            yield now
        now += 10_800.0
        yield now


def standing() -> Iterator[float]:
    """Let no time pass."""
    while True:
        yield 5.0


@pytest.mark.parametrize(
    ("clock", "times"),
    [
        pytest.param("time", jumping(random.Random(0)), id="the-walls-clock-jumps-by-an-hour"),
        pytest.param("monotonic", standing(), id="no-time-passes"),
        pytest.param("monotonic", leaping(), id="hours-pass-at-once"),
    ],
)
def test_a_clock_that_goes_wrong_changes_nothing(
    run_of: RunOf, monkeypatch: pytest.MonkeyPatch, clock: str, times: Iterator[float]
) -> None:
    """Weights, scores and how it ended are those of a clock that goes right; no time is below zero."""
    healthy = expected(run_of)
    with monkeypatch.context() as patch:
        patch.setattr(time, clock, lambda: next(times))
        run = run_of("run", "evaluation.timeout=1e9")  # hours may pass within an evaluation
    assert digest(run.folder).parts == healthy
    assert run.state.status == "finished"
    for record in [*logs.records(run.folder.steps), *logs.records(run.folder.scores)]:
        assert record["seconds"] >= 0
    now = read_status(run.folder)
    assert now.samples == 400
    assert now.seconds >= 0


@pytest.mark.parametrize("times", [standing(), leaping()], ids=["no time passes", "hours pass at once"])
def test_intervals_that_such_a_clock_has_measured_are_whole_rounds_all_the_same(
    run_of: RunOf, monkeypatch: pytest.MonkeyPatch, times: Iterator[float]
) -> None:
    """Nothing is due at every step, or never."""
    with monkeypatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: next(times))
        run = run_of("run", *MEASURED)
    found = run.folder.read_intervals()
    for number in (found.samples_per_second, found.evaluation_seconds):
        assert math.isfinite(number)
        assert number >= 0
    for every in (found.log_every, found.evaluate_every, found.save_every):
        assert every is not None
        assert every >= 8
    assert run.state.samples == 400
    assert run.state.best is not None


def test_a_budget_of_time_is_spent_by_hours_asleep_and_the_run_ends_in_order(
    run_of: RunOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stops with its best generator, as if the hours had been trained."""
    times = leaping()
    with monkeypatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: next(times))
        run = run_of("run", budget="1h")
    assert run.state.stop_reason == "budget"
    assert run.state.best is not None


def test_a_clock_that_stands_still_knows_a_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no time passes the budget in samples decides when the speed can be told, and no speed is infinite."""
    monkeypatch.setattr(time, "monotonic", lambda: 5.0)
    clock = Clock(0.0, 0)
    budget = Budget(samples=1_000)
    warm = [clock.is_warm(8 * index, budget) for index in range(1, 2 * WARM_ROUNDS + 2)]
    assert warm == [False] * (2 * WARM_ROUNDS) + [True], "56 of 1,000 samples are the first beyond a twentieth"
    for value in (clock.speed(56), clock.lap(56), clock.lap(56)):
        assert math.isfinite(value)
        assert value >= 0


def test_nothing_asks_what_time_it_is_on_the_wall_without_a_reason() -> None:
    """The wall's clock may be set back at any moment."""
    asking = {path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.py") if asks_the_wall(path)}
    assert asking == set(ON_THE_WALL)


def asks_the_wall(path: Path) -> bool:
    """Return whether a module asks for the time of day, or may under another name."""
    return any(is_of_the_wall(node) for node in ast.walk(ast.parse(path.read_text())))


def is_of_the_wall(node: ast.AST) -> bool:
    """Return whether it is `time.time` or the like, or an import of such a name."""
    match node:
        case ast.Attribute(value=ast.Name(id=module), attr=name):
            return (module, name) in OF_THE_WALL
        case ast.ImportFrom(module="time" | "datetime"):
            return True
        case _:
            return False
