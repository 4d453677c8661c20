"""The `patience` policy: it counts evaluations since the best, whatever an evaluation was."""

import math
from collections.abc import Callable, Sequence

import pytest

from equipoise.recipe import PatienceSettings
from equipoise.stopping import patience
from equipoise.stopping.patience import PatienceState
from equipoise.stopping.verdicts import Stop
from equipoise.storage.records import Score

Kids = Callable[..., list[Score]]


def states(found: Sequence[Score]) -> list[PatienceState]:
    state, every = PatienceState(), []
    for one in found:
        state = patience.score(state, one)
        every.append(state)
    return every


def stops(evaluations: int, found: Sequence[Score]) -> list[Stop | None]:
    """Return the stop after each score, None where there is none."""
    settings = PatienceSettings(evaluations=evaluations)
    every = [patience.verdict(settings, state, "MSE-Y") for state in states(found)]
    return [verdict if isinstance(verdict, Stop) else None for verdict in every]


def test_patience_counts_scores_since_the_best_and_begins_anew_with_every_gain(kids: Kids):
    found = stops(3, kids(0.5, 0.6, 0.6, 0.4, 0.4, 0.5, 0.6))
    assert [bool(stop) for stop in found] == [False] * 6 + [True]
    last = found[-1]
    assert last is not None
    assert last.reason == "patience"
    for part in ("MSE-Y", "3", "0.4 ± 0.01", "4,000"):
        assert part in last.message


def test_an_equal_score_is_no_gain_and_the_smallest_gain_is_one(kids: Kids):
    assert [state.num_since for state in states(kids(0.5, 0.5, math.nextafter(0.5, 0), 0.7))] == [0, 1, 0, 1]


def test_failed_and_infinite_scores_are_no_improvement(kids: Kids):
    assert [bool(stop) for stop in stops(2, kids(0.5, math.nan, -math.inf))] == [False, False, True]
    never = stops(2, kids(math.nan, math.nan))[-1]
    assert never is not None
    assert never.reason == "patience"
    assert "2" in never.message


def test_a_best_without_an_error_is_told_without_one(kids: Kids):
    (stop,) = stops(1, kids(0.5, 0.6, se=math.nan))[-1:]
    assert stop is not None
    assert "±" not in stop.message
    assert "nan" not in stop.message


@pytest.mark.parametrize("evaluations", [1, 3, 10])
def test_the_status_counts_scores_since_the_best(kids: Kids, evaluations: int):
    settings = PatienceSettings(evaluations=evaluations)
    told = [patience.status(settings, state) for state in states(kids(0.5, 0.6, math.nan, 0.4))]
    for num, text in zip((0, 1, 2, 0), told, strict=True):
        assert f"{num} of {evaluations}" in text


def test_where_a_lower_score_broke_a_guard_the_best_is_that_of_generators_that_keep_theirs(kids: Kids):
    state = states(kids(0.5, 0.6))[-1]
    messages = []
    for lowest_broken in (math.inf, 0.5, 0.4):
        stop = patience.verdict(PatienceSettings(evaluations=1), state, "MSE-Y", lowest_broken)
        assert isinstance(stop, Stop)
        messages.append(stop.message)
    assert ["limits" in message for message in messages] == [False, False, True]
