"""Pace: spacings are multiples of a step, judging keeps its share, and a resume meets the same positions."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from equipoise.host.intervals import Stopwatch, measured_pace
from equipoise.recipe import Budget, Game, Judging, Recipe


def recipe(budget: Budget, batch: int = 64, steps: int = 1, judging: Judging | None = None) -> Recipe:
    return Recipe(budget=budget, game=Game(batch=batch, discriminator_steps=steps), judging=judging or Judging())


@given(
    speed=st.floats(0.5, 1e6),
    judge_seconds=st.floats(1e-3, 1e3),
    seconds=st.floats(1, 1e5),
    batch=st.integers(2, 512),
    steps=st.integers(1, 5),
)
def test_everything_falls_due_only_after_whole_steps(
    speed: float, judge_seconds: float, seconds: float, batch: int, steps: int
) -> None:
    pace = measured_pace(speed, judge_seconds, recipe(Budget(samples=None, seconds=seconds), batch, steps))
    assert pace.log_every % (batch * steps) == 0
    assert pace.judge_every % (batch * steps) == 0
    assert pace.save_every % (batch * steps) == 0
    assert pace.horizon % (batch * steps) == 0


@given(speed=st.floats(10, 1e5), judge_seconds=st.floats(1e-2, 1e2))
def test_judging_takes_no_more_than_its_share_of_the_time(speed: float, judge_seconds: float) -> None:
    pace = measured_pace(speed, judge_seconds, recipe(Budget(samples=None, seconds=1e4)))
    training_seconds = pace.judge_every / speed
    assert judge_seconds / training_seconds <= 0.05 + 1e-9


def test_a_spacing_that_was_asked_for_is_kept_to_the_step() -> None:
    asked = Judging(every=1000)
    pace = measured_pace(5000, 9.0, recipe(Budget(samples=100_000, seconds=None), judging=asked))
    assert pace.judge_every == 1024
    assert [samples for samples in range(0, 4097, 64) if samples and pace.is_judging_due(samples)] == [
        1024,
        2048,
        3072,
        4096,
    ]


@pytest.mark.parametrize("every", [30_000, 50_000, 100_000])
def test_a_spacing_of_judgings_leaves_the_log_at_a_line_a_second(every: int) -> None:
    asked = Judging(every=every)
    pace = measured_pace(5000, 9.0, recipe(Budget(samples=10_000_000, seconds=None), judging=asked))
    assert 0.9 <= pace.log_every / 5000 <= 1.1


def test_a_slow_step_does_not_outlast_a_time_budget_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    watch = Stopwatch(0.0, 0)
    now[0] = 30.0  # one step of thirty seconds
    assert watch.is_warm(64, Budget(samples=None, seconds=60.0))


def test_a_budget_in_samples_is_the_horizon_whatever_the_speed() -> None:
    budget = Budget(samples=64_000, seconds=None)
    paces = [measured_pace(speed, 1.0, recipe(budget)) for speed in (10, 1e3, 1e5)]
    assert {pace.horizon for pace in paces} == {64_000}
    assert paces[0].progress(0) == 0
    assert paces[0].progress(32_000) == 0.5
    assert paces[0].progress(70_000) == 1.0


def test_a_stopwatch_goes_on_from_where_an_earlier_session_ended() -> None:
    watch = Stopwatch(100.0, 5000)
    assert 100.0 <= watch.seconds() < 101.0


def test_a_clock_that_does_not_move_divides_by_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.monotonic", lambda: 5.0)
    watch = Stopwatch(0.0, 0)
    assert watch.lap(64) > 0
    assert watch.speed(64) > 0


def test_a_small_budget_in_samples_is_warm_in_time_to_be_judged() -> None:
    watch = Stopwatch(0.0, 0)
    assert watch.is_warm(64, Budget(samples=640, seconds=None))
    assert not Stopwatch(0.0, 0).is_warm(64, Budget(samples=64_000, seconds=None))


def test_pace_is_plain_numbers_for_the_run_folder() -> None:
    pace = measured_pace(5000, 0.5, recipe(Budget(samples=None, seconds=60)))
    assert type(pace)(**dataclasses.asdict(pace)) == pace
