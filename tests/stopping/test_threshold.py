"""The `discriminator-threshold` policy: a mean over a window, once an untrained discriminator's ½ is past."""

import math
from collections.abc import Callable, Sequence

import pytest

from equipoise.recipe import ThresholdSettings
from equipoise.stopping import threshold
from equipoise.stopping.threshold import MINIMUM, WINDOW, ThresholdState
from equipoise.stopping.verdicts import Stop
from equipoise.storage.records import StepStats

Stats = Callable[..., list[StepStats]]
HALF = ThresholdSettings(level=0.5)


def states(stream: Sequence[StepStats]) -> list[ThresholdState]:
    state, every = ThresholdState(), []
    for stats in stream:
        state = threshold.observe(state, stats)
        every.append(state)
    return every


def first_stop(settings: ThresholdSettings, stream: Sequence[StepStats]) -> int | None:
    """Return the number of intervals at the first stop, None if there is none."""
    verdicts = [threshold.verdict(settings, state) for state in states(stream)]
    return next((index for index, verdict in enumerate(verdicts, 1) if isinstance(verdict, Stop)), None)


def test_the_threshold_waits_for_its_minimum_though_an_untrained_discriminator_answers_one_half(stats: Stats):
    stream = stats(MINIMUM, fake_probability=0.5)
    assert first_stop(HALF, stream) == MINIMUM
    stop = threshold.verdict(HALF, states(stream)[-1])
    assert isinstance(stop, Stop)
    assert stop.reason == "discriminator-threshold"
    for part in ("0.500", str(WINDOW), "0.5."):
        assert part in stop.message


def test_the_threshold_looks_at_the_mean_of_its_window_and_not_at_one_interval(stats: Stats):
    low, spike = stats(MINIMUM, fake_probability=0.2), stats(1, fake_probability=0.99)
    assert first_stop(HALF, [*low, *spike, *low]) is None
    rising = [*low, *stats(WINDOW, fake_probability=0.6)]  # 0.2 · (10 − n) + 0.6 · n ≥ 10 · 0.5 from n = 7.5 on
    assert first_stop(HALF, rising) == MINIMUM + 8
    assert first_stop(ThresholdSettings(level=0.35), rising) == MINIMUM + 4
    assert first_stop(ThresholdSettings(level=0.61), rising) is None


@pytest.mark.parametrize("missing", [math.nan, math.inf])
def test_an_interval_without_a_finite_probability_counts_for_nothing(stats: Stats, missing: float):
    stream = stats(MINIMUM - 1, fake_probability=0.9) + stats(5, fake_probability=missing)
    assert first_stop(HALF, stream) is None
    assert first_stop(HALF, [*stream, *stats(1, fake_probability=0.9)]) == len(stream) + 1


def test_no_more_than_a_window_is_remembered(stats: Stats):
    last = states(stats(100, fake_probability=0.25))[-1]
    assert (len(last.recent), last.num_seen) == (WINDOW, 100)


def test_the_status_says_what_is_reached_and_what_still_has_to_pass(stats: Stats):
    assert "0.5" not in threshold.status(HALF, ThresholdState())
    few = threshold.status(HALF, states(stats(3, fake_probability=0.25))[-1])
    for part in ("0.25", f"3 of at least {MINIMUM}", "0.5."):
        assert part in few
    many = threshold.status(HALF, states(stats(MINIMUM, fake_probability=0.75))[-1])
    assert "0.75" in many
    assert str(MINIMUM) not in many
