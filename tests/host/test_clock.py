"""The training clock: it goes on from an earlier session, measures after a warm-up, and divides by nothing."""

import pytest

from equipoise.host.clock import LEAST_LAPS, MOST_LAPS, SHARE, WARM_ROUNDS, WARM_SECONDS, Clock
from equipoise.recipe import Budget


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the time, to be moved by hand."""
    time = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: time[0])
    return time


SAMPLES = Budget(samples=10**6, seconds=None)


def test_a_clock_goes_on_from_where_an_earlier_session_ended(now: list[float]) -> None:
    clock = Clock(100.0, 5000)
    assert clock.seconds() == 100.0
    now[0] += 2.5
    assert clock.seconds() == 102.5
    assert clock.lap(5500) == 500 / 2.5
    now[0] += 1.0
    assert clock.lap(5600) == 100.0


def test_what_is_set_apart_from_a_lap_does_not_slow_it_down(now: list[float]) -> None:
    clock = Clock(0.0, 0)
    now[0] += 5.0
    clock.set_apart(4.0)
    assert clock.lap(100) == 100.0
    now[0] += 1.0
    assert clock.lap(150) == 50.0, "the next lap has nothing set apart"


def test_the_present_speed_is_the_median_of_the_last_laps_and_unknown_before_there_are_some(now: list[float]) -> None:
    clock = Clock(0.0, 0)
    samples = 0
    for lap in range(LEAST_LAPS + MOST_LAPS):
        assert (clock.present_speed() is None) == (lap < LEAST_LAPS)
        now[0] += 1.0
        samples += 10 if lap < LEAST_LAPS else 200
        clock.lap(samples)
    assert clock.present_speed() == 200.0
    for _ in range(LEAST_LAPS - 1):
        now[0] += 1.0
        samples += 50
        clock.lap(samples)
    assert (clock.present_speed(), clock.latest_speed()) == (200.0, 50.0)
    for _ in range(MOST_LAPS):
        now[0] += 1.0
        samples += 200
        clock.lap(samples)
    now[0] += 100.0
    clock.lap(samples + 100)
    assert clock.present_speed() == 200.0, "one odd lap says nothing"


def test_a_clock_that_does_not_move_divides_by_nothing(now: list[float]) -> None:
    clock = Clock(0.0, 0)
    assert clock.lap(64) > 0
    assert clock.speed(64) > 0


def test_a_speed_leaves_the_first_rounds_out(now: list[float]) -> None:
    clock = Clock(0.0, 0)
    warm = []
    for index in range(1, 2 * WARM_ROUNDS + 1):
        now[0] += 10.0 if index <= WARM_ROUNDS else WARM_SECONDS
        warm.append(clock.is_warm(100 * index, SAMPLES))
    assert warm == [False] * (2 * WARM_ROUNDS - 1) + [True]
    assert clock.speed(100 * 2 * WARM_ROUNDS) == pytest.approx(100 / WARM_SECONDS)


def test_fast_rounds_are_timed_for_as_long_as_it_takes(now: list[float]) -> None:
    clock = Clock(0.0, 0)
    rounds = 0
    while not clock.is_warm(rounds, SAMPLES):
        rounds += 1
        now[0] += 0.01
    assert rounds == pytest.approx(WARM_SECONDS / 0.01 + WARM_ROUNDS - 1, abs=2)


def test_a_speed_is_known_also_where_nothing_was_trained_since_the_warm_up(now: list[float]) -> None:
    clock = Clock(0.0, 0)
    now[0] += 4.0
    for _ in range(WARM_ROUNDS):
        clock.is_warm(100, SAMPLES)
    assert clock.speed(100) == 25.0


def test_a_slow_round_does_not_outlast_a_time_budget_unseen(now: list[float]) -> None:
    clock = Clock(0.0, 0)
    now[0] += 60.0 / SHARE - 0.1
    assert not clock.is_warm(64, Budget(samples=None, seconds=60.0))
    now[0] += 0.2
    assert clock.is_warm(128, Budget(samples=None, seconds=60.0))


def test_a_small_budget_in_samples_is_warm_in_time_to_be_evaluated(now: list[float]) -> None:
    assert Clock(0.0, 0).is_warm(64, Budget(samples=64 * SHARE, seconds=None))
    assert not Clock(0.0, 0).is_warm(64, Budget(samples=64 * SHARE + SHARE, seconds=None))
