"""Schedules at their ends, in the middle and beyond."""

from typing import Literal

import pytest

from equipoise.game.schedules import scheduled


@pytest.mark.parametrize("shape", ["cosine", "linear"])
def test_schedules_go_from_start_to_end_through_the_middle_and_stay_there(shape: Literal["cosine", "linear"]):
    assert scheduled(0.05, 0.005, 0.0, shape) == 0.05
    assert scheduled(0.05, 0.005, 1.0, shape) == 0.005
    assert scheduled(0.05, 0.005, 0.5, shape) == pytest.approx(0.0275)
    assert scheduled(0.05, 0.005, -1.0, shape) == 0.05
    assert scheduled(0.05, 0.005, 1.7, shape) == 0.005


def test_quarter_way_is_a_quarter_of_a_line_and_less_of_a_cosine():
    assert scheduled(1.0, 0.0, 0.25, "linear") == pytest.approx(0.75)
    assert scheduled(1.0, 0.0, 0.25, "cosine") == pytest.approx((2 + 2**0.5) / 4)


def test_a_schedule_from_a_value_to_itself_is_constant():
    assert [scheduled(0.1, 0.1, progress / 7) for progress in range(8)] == pytest.approx([0.1] * 8)


@pytest.mark.parametrize("shape", ["cosine", "linear"])
def test_without_an_end_the_value_stays_at_its_start(shape: Literal["cosine", "linear"]):
    assert [scheduled(0.3, None, progress, shape) for progress in (0.0, 0.5, 1.0, 2.0)] == [0.3] * 4
