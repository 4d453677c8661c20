"""Clocks that jump, stand still or go on while the machine slept: nothing stops, divides by zero, or changes."""

import ast
import math
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import equipoise as eq
from equipoise import formatting, loop
from equipoise.host.intervals import Stopwatch
from equipoise.recipe import Budget
from equipoise.runs.digest import digest
from equipoise.runs.status import status
from equipoise.storage import logs

ROOT = Path(eq.__file__).parent
# Who may ask what time it is on the wall, and why: a time that was written down by another process cannot be compared
# with anything else.
ON_THE_WALL = {"data/store.py": "how old a folder is that another process left"}
whole: dict[str, str] = {}


@pytest.fixture
def run_of(run_of: Callable[..., eq.Run]) -> Callable[..., eq.Run]:
    """Return a function that trains, and sees that what it is told meanwhile is a number."""

    def run(*given: str, **options: Any) -> eq.Run:
        told: list[loop.Progress] = []
        found = run_of(*given, **options, tell=told.append)
        for progress in told:
            numbers = (progress.seconds_left, progress.samples_per_second, progress.share)
            assert all(math.isfinite(number) and number >= 0 for number in numbers)
            assert "-" not in formatting.duration(progress.seconds_left)
        return found

    return run


def expected(run_of: Callable[..., eq.Run]) -> dict[str, str]:
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
    now, calls = 1e6, 0
    while True:
        calls += 1
        now += 10_800.0 if calls % 100 == 0 else 0.001
        yield now


def standing() -> Iterator[float]:
    while True:
        yield 5.0


@pytest.mark.parametrize(
    ("clock", "times"),
    [
        pytest.param("time", jumping(random.Random(0)), id="the wall's clock jumps by an hour"),
        pytest.param("monotonic", standing(), id="no time passes"),
        pytest.param("monotonic", leaping(), id="hours pass at once"),
    ],
)
def test_a_clock_that_goes_wrong_changes_nothing(
    run_of: Callable[..., eq.Run], monkeypatch: pytest.MonkeyPatch, clock: str, times: Iterator[float]
) -> None:
    healthy = expected(run_of)
    with monkeypatch.context() as patch:
        patch.setattr(time, clock, lambda: next(times))
        run = run_of("run")
    assert digest(run.folder).parts == healthy
    assert run.state["status"] == "finished"
    for record in [*logs.records(run.folder.steps), *logs.records(run.folder.scores)]:
        assert record["seconds"] >= 0
    assert status(run.folder)


@pytest.mark.parametrize("times", [standing(), leaping()], ids=["no time passes", "hours pass at once"])
def test_a_pace_that_is_measured_by_such_a_clock_is_one_all_the_same(
    run_of: Callable[..., eq.Run], monkeypatch: pytest.MonkeyPatch, times: Iterator[float]
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: next(times))
        run = run_of("run", "judging.every=none", "saving.every=none", "saving.log_every=none")
    pace = run.folder.read_pace()
    assert all(value is None or (math.isfinite(value) and value >= 0) for value in pace.values())
    assert min(pace["log_every"], pace["judge_every"], pace["save_every"]) >= 8
    assert run.state["samples"] == 400
    assert run.state["best"] is not None


def test_a_budget_of_time_is_spent_by_hours_asleep_and_the_run_ends_in_order(
    run_of: Callable[..., eq.Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    times = leaping()
    with monkeypatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: next(times))
        run = run_of("run", budget="1h")
    assert run.state["policy"] == "budget"
    assert run.state["best"] is not None


def test_a_stopwatch_on_a_clock_that_stands_still_knows_a_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 5.0)
    watch = Stopwatch(0.0, 0)
    budget = Budget(samples=1_000)
    assert [watch.is_warm(samples, budget) for samples in (8, 16, 24, 32, 40, 48, 56)][-1], "the budget decides then"
    for value in (watch.speed(56), watch.lap(56), watch.lap(56)):
        assert math.isfinite(value)
        assert value >= 0


def test_nothing_asks_what_time_it_is_on_the_wall_without_a_reason() -> None:
    asking = set()
    for path in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                names = (node.value.id, node.attr)
                if names in (("time", "time"), ("time", "time_ns"), ("datetime", "now"), ("datetime", "utcnow")):
                    asking.add(path.relative_to(ROOT).as_posix())
            imported = node.names if isinstance(node, ast.ImportFrom) and node.module in ("time", "datetime") else []
            if imported:
                asking.add(path.relative_to(ROOT).as_posix())
    assert asking == set(ON_THE_WALL)
