"""Intervals: multiples of a round, evaluations that keep their share, and a resume that meets the same positions."""

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from equipoise.game.updates import samples_per_round
from equipoise.host.intervals import FAR_OFF, Intervals, is_far_off, measured_intervals, settled_intervals
from equipoise.recipe import Budget, Evaluation, Game, Recipe, Saving
from equipoise.storage.records import IntervalsRecord, strict

STEP = 64


def recipe(budget: Budget, every: int | None = None, **saving: Any) -> Recipe:
    return Recipe(budget=budget, evaluation=Evaluation(every=every), saving=Saving(**saving))


def in_samples(samples: int) -> Budget:
    return Budget(samples=samples, seconds=None)


def in_seconds(seconds: float) -> Budget:
    return Budget(samples=None, seconds=seconds)


@given(
    speed=st.floats(0.5, 1e6),
    evaluation_seconds=st.floats(1e-3, 1e3),
    seconds=st.floats(1, 1e5),
    batch=st.integers(2, 512),
    steps=st.integers(1, 5),
)
def test_everything_falls_due_only_after_whole_rounds(
    speed: float, evaluation_seconds: float, seconds: float, batch: int, steps: int
) -> None:
    step = samples_per_round(Game(batch=batch, discriminator_steps=steps))
    found = measured_intervals(speed, evaluation_seconds, recipe(in_seconds(seconds)), step)
    for value in (found.log_every, found.evaluate_every, found.save_every, found.horizon):
        assert value is not None
        assert value > 0
        assert value % step == 0


@given(speed=st.floats(10, 1e5), evaluation_seconds=st.floats(1e-2, 1e2))
def test_evaluation_takes_no_more_than_its_share_of_the_time(speed: float, evaluation_seconds: float) -> None:
    found = measured_intervals(speed, evaluation_seconds, recipe(in_seconds(1e4)), STEP)
    assert found.evaluate_every is not None
    assert evaluation_seconds / (found.evaluate_every / speed) <= 0.05 + 1e-9


def test_an_interval_that_was_asked_for_is_kept_to_the_round() -> None:
    found = measured_intervals(5000, 9.0, recipe(in_samples(100_000), every=1000), STEP)
    assert found.evaluate_every == 1024
    due = [samples for samples in range(STEP, 4097, STEP) if found.is_evaluation_due(samples, STEP)]
    assert due == [1024, 2048, 3072, 4096]


@pytest.mark.parametrize("every", [30_000, 50_000, 100_000])
def test_an_interval_of_evaluations_leaves_the_log_at_a_line_a_second(every: int) -> None:
    found = measured_intervals(5000, 9.0, recipe(in_samples(10_000_000), every=every), STEP)
    assert found.log_every is not None
    assert 0.9 <= found.log_every / 5000 <= 1.1


def test_a_budget_in_samples_is_the_horizon_whatever_the_speed() -> None:
    every = [measured_intervals(speed, 1.0, recipe(in_samples(64_000)), STEP) for speed in (10, 1e3, 1e5)]
    assert {found.horizon for found in every} == {64_000}
    assert settled_intervals(recipe(in_samples(64_000)), STEP).horizon == 64_000, "before anything is measured"


def test_a_short_budget_is_saved_four_times_and_a_long_one_every_minute() -> None:
    for samples, expected in ((64_000, 16_000), (10_000_000, 60_000)):
        found = measured_intervals(1e3, 1.0, recipe(in_samples(samples)), STEP)
        assert found.save_every is not None
        assert expected <= found.save_every < expected + 2_000


def test_however_little_an_evaluation_takes_there_are_no_more_than_two_hundred() -> None:
    found = measured_intervals(1e3, 1e-3, recipe(in_samples(10_000_000)), STEP)
    assert found.evaluate_every is not None
    assert 50_000 <= found.evaluate_every < 52_000


def test_before_anything_is_measured_nothing_is_due() -> None:
    found = Intervals()
    assert not found.is_known
    assert found.measured is None
    assert not any(
        due(samples, STEP)
        for due in (found.is_log_due, found.is_evaluation_due, found.is_saving_due)
        for samples in range(0, 10_000, STEP)
    )


@pytest.mark.parametrize("step", [64, 128, 192, 320])
@pytest.mark.parametrize("every", [64, 640, 1000])
def test_each_multiple_of_an_interval_falls_due_once_also_where_rounds_grow(every: int, step: int) -> None:
    """A remedy may add discriminator steps: a round may step over a multiple, which the next position makes up for."""
    found = Intervals(horizon=10**6, log_every=every, evaluate_every=every, save_every=every)
    positions = range(step, 20_000, step)
    for due in (found.is_log_due, found.is_evaluation_due, found.is_saving_due):
        at = [samples for samples in positions if due(samples, step)]
        reached = {samples // every for samples in at}
        assert len(reached) == len(at), "not twice"
        expected = {samples // every for samples in positions} - {0}
        assert reached == expected


def test_a_position_alone_decides_what_is_due() -> None:
    found = Intervals(horizon=10**6, save_every=1024)
    assert found.is_saving_due(2048, STEP)
    assert not found.is_saving_due(2048 + STEP, STEP)
    assert found.is_saving_due(2048 + STEP, 2 * STEP), "rounds of two batches come from 1984"


# Settled by the recipe


def test_a_recipe_that_asks_for_all_needs_no_measurement() -> None:
    settled = settled_intervals(
        Recipe(budget=in_samples(6400), evaluation=Evaluation(every=600), saving=Saving(every=1200, log_every=64)), STEP
    )
    assert settled.is_known
    assert settled.measured is None
    assert (settled.horizon, settled.evaluate_every, settled.save_every, settled.log_every) == (6400, 640, 1216, 64)


@pytest.mark.parametrize("missing", ["evaluation", "saving", "log"])
def test_a_recipe_that_leaves_one_open_waits_for_the_machine(missing: str) -> None:
    asked = Recipe(
        budget=in_samples(6400),
        evaluation=Evaluation(every=None if missing == "evaluation" else 640),
        saving=Saving(every=None if missing == "saving" else 640, log_every=None if missing == "log" else 64),
    )
    assert not settled_intervals(asked, STEP).is_known


def test_what_is_asked_for_is_the_same_measured_or_settled() -> None:
    asked = Recipe(
        budget=in_samples(6400), evaluation=Evaluation(every=600), saving=Saving(every=1200, log_every=64, keep=3)
    )
    measured, settled = measured_intervals(5000, 9.0, asked, STEP), settled_intervals(asked, STEP)
    for name in ("horizon", "log_every", "evaluate_every", "save_every", "keep_every"):
        assert getattr(measured, name) == getattr(settled, name), name
    assert settled.keep_every == 3 * 1216


def test_the_two_measurements_give_the_same_intervals_again() -> None:
    asked = recipe(in_seconds(60))
    found = measured_intervals(5000.5, 0.5, asked, STEP)
    assert found.measured == (5000.5, 0.5)
    assert measured_intervals(5000.5, 0.5, asked, STEP) == found


def test_under_a_time_budget_intervals_that_are_asked_for_need_no_measurement_either() -> None:
    asked = Recipe(budget=in_seconds(60.0), evaluation=Evaluation(every=600), saving=Saving(every=1200, log_every=64))
    found = settled_intervals(asked, STEP)
    assert (found.horizon, found.log_every, found.evaluate_every, found.save_every) == (None, 64, 640, 1216)
    assert found.is_known


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [(100, 100, False), (100, 149, False), (100, 151, True), (100, 67, False), (100, 66, True), (100, math.nan, False)],
)
def test_only_a_speed_half_as_high_again_or_lower_moves_intervals(before: float, now: float, expected: bool) -> None:
    assert FAR_OFF == 1.5
    assert is_far_off(before, now) == expected


def test_intervals_are_written_for_readers_and_read_back() -> None:
    found = measured_intervals(5000, 0.5, recipe(in_seconds(60), keep=2), STEP).record()
    assert strict(IntervalsRecord, msgspec.json.decode(msgspec.json.encode(found))) == found
    assert found.keep_every == 2 * (found.save_every or 0)
    settled = Intervals(horizon=640).record()
    back = strict(IntervalsRecord, msgspec.json.decode(msgspec.json.encode(settled)))
    assert math.isnan(back.samples_per_second)
    assert Intervals().record().horizon == 0


def test_a_short_budget_is_evaluated_a_few_times_however_slow_the_first_evaluation_was():
    found = measured_intervals(100.0, 30.0, Recipe(budget=Budget(samples=None, seconds=60.0)), 64)
    assert found.evaluate_every is not None
    assert found.horizon is not None
    assert found.horizon / 4 < found.evaluate_every <= found.horizon / 3 + (found.log_every or 0)
