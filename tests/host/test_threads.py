"""How many threads a training computes with: found by trials, on machines whose speeds are known here."""

import itertools
from collections.abc import Callable
from dataclasses import replace

import pytest

from equipoise.host.threads import REST_SECONDS, ThreadChoice, begins_trial, is_lost, observed, put_off

LAP = 0.25  # seconds of training between two observations


def settled_after(seconds: float, most: int, speed_of: Callable[[int, float], float]) -> tuple[int, dict[int, float]]:
    """Return the number that is settled for after so long on a machine of known speeds, and the seconds of each."""
    choice = ThreadChoice(most=most, settled=most)
    spent: dict[int, float] = {}
    now = 0.0
    while now < seconds:
        spent[choice.now] = spent.get(choice.now, 0.0) + LAP
        choice = observed(choice, round(speed_of(choice.now, now) * LAP), LAP)
        now += LAP
    return choice.settled, spent


def quiet(threads: int, seconds: float) -> float:
    """Return samples a second where every thread helps a little."""
    return 1000.0 * threads**0.4


def busy(threads: int, seconds: float) -> float:
    """Return samples a second where every thread waits for the others."""
    return 1000.0 / threads


def test_a_quiet_machine_trains_with_all_threads_but_for_a_few_seconds():
    settled, spent = settled_after(600, 8, quiet)
    assert settled == 8
    assert spent[8] / sum(spent.values()) > 0.97


def test_a_busy_machine_comes_down_to_one_thread_within_seconds():
    settled, spent = settled_after(600, 8, busy)
    assert settled == 1
    assert spent[8] < 8
    assert spent[1] / sum(spent.values()) > 0.95


def test_the_fastest_number_in_between_is_found():
    def speed(threads: int, seconds: float) -> float:
        return {1: 600.0, 2: 1000.0, 4: 1300.0, 8: 900.0, 12: 700.0}.get(threads, 500.0)

    assert settled_after(300, 8, speed)[0] == 4
    assert settled_after(300, 12, speed)[0] in (3, 6, 12)  # halves of 12, none of which is much faster


@pytest.mark.parametrize(("at_first", "later", "expected"), [(quiet, busy, 1), (busy, quiet, 4)])
def test_a_machine_that_changes_is_followed(at_first, later, expected):
    """At once where the training became much slower, else with the next trials."""
    settled, _ = settled_after(900, 4, lambda threads, now: (at_first if now < 300 else later)(threads, now))
    assert settled == expected
    if expected == 1:
        settled, _ = settled_after(310, 4, lambda threads, now: (at_first if now < 300 else later)(threads, now))
        assert settled < 4, "not heard before the next trial"


def test_one_slow_second_changes_nothing():
    def speed(threads: int, now: float) -> float:
        return quiet(threads, now) / (10 if 30 <= now < 31 or 100.5 <= now < 102 else 1)

    assert settled_after(99, 4, speed)[0] == 4
    assert settled_after(400, 4, speed)[0] == 4


def test_a_number_that_is_hardly_faster_is_not_taken():
    assert settled_after(200, 2, lambda threads, _: 1000.0 if threads == 2 else 1090.0)[0] == 2


def test_with_one_thread_there_is_nothing_to_try():
    choice = ThreadChoice(most=1, settled=1)
    for _ in range(1000):
        choice = observed(choice, 100, LAP)
    assert choice.now == 1
    assert choice.on_trial is None


def test_a_number_on_trial_does_not_stay_without_having_been_faster():
    """However short the observations are."""
    choice = ThreadChoice(most=2, settled=2)
    turns = []
    for _ in range(round(3 * REST_SECONDS / 0.01)):
        turns.append(choice.now)
        choice = observed(choice, 10, 0.01)
    assert 0.9 * 3 < turns.count(1) * 0.01 < 1.2 * 4


def test_a_trial_that_is_put_off_is_not_held_and_comes_again_after_a_rest():
    choice = ThreadChoice(most=2, settled=1)
    begun = []
    for lap in range(round(2.5 * REST_SECONDS / LAP)):
        before = choice
        choice = observed(before, 100, LAP)
        if begins_trial(before, choice):
            begun.append(lap * LAP)
            choice = put_off(choice)
        assert choice.now == 1
    assert len(begun) == 3, "at once, and after each rest"
    assert min(later - earlier for earlier, later in itertools.pairwise(begun)) >= REST_SECONDS


def test_a_trial_has_lost_once_a_second_of_it_was_much_slower_and_not_before():
    trial = ThreadChoice(most=2, settled=1, speed=400.0, on_trial=2)
    assert not is_lost(trial, 8, 0.9), "a second at least"
    assert is_lost(trial, 264, 1.0)
    assert not is_lost(trial, 272, 1.0), "within 1.5 times"
    assert not is_lost(ThreadChoice(most=2, settled=1, speed=400.0), 8, 60.0), "no trial"
    over = ThreadChoice(most=2, settled=1, speed=400.0, on_trial=2, trial_speed=20.0)
    assert not is_lost(over, 8, 60.0), "the settled number has its turn"


def test_what_an_unfinished_turn_has_seen_counts_as_well() -> None:
    trial = ThreadChoice(most=2, settled=1, speed=400.0, on_trial=2, samples=4, seconds=0.6)
    assert is_lost(trial, 4, 0.5)
    assert not is_lost(replace(trial, samples=400), 4, 0.5), "fast until a moment ago"


@pytest.mark.parametrize(("before", "after", "expected"), [(100, 130, 2), (130, 100, 2), (100, 100, 1)])
def test_a_trial_is_compared_with_the_present_number_before_it_and_after_it(before, after, expected) -> None:
    """Else whatever else ran beside one of the two would decide."""
    choice = ThreadChoice(most=2, settled=2)
    for speed in (before, 120, after):
        choice = observed(choice, speed, 1.0)
    assert choice.settled == expected


def test_after_a_trial_that_was_put_off_the_other_direction_has_its_turn() -> None:
    choice = put_off(ThreadChoice(most=4, settled=2, speed=100.0, on_trial=4, is_upwards=True))
    while choice.on_trial is None:
        choice = observed(choice, 100, 1.0)
    assert choice.on_trial == 1
