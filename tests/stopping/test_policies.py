import math

import pytest

from equipoise.recipe import Budget
from equipoise.stopping.policies import (
    Continue,
    Patience,
    PatienceState,
    Stop,
    Threshold,
    ThresholdState,
    budget_verdict,
    patience_step,
    patience_verdict,
    spoken,
    threshold_step,
    threshold_verdict,
)


def test_a_budget_stops_at_its_samples_or_its_seconds_and_not_before():
    both = Budget(samples=60_000, seconds=600.0)
    assert budget_verdict(both, 59_999, 599.9) == Continue()
    assert budget_verdict(both, 60_000, 0.0) == Stop("budget", "The budget of 60,000 samples is spent.")
    assert budget_verdict(both, 0, 600.0) == Stop("budget", "The budget of 10 min of training is spent.")
    assert budget_verdict(Budget(samples=None, seconds=None), 10**12, 1e12) == Continue()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(90, "90 s"), (0.5, "0.5 s"), (600, "10 min"), (605, "10 min 5 s"), (7200, "2 h"), (9000, "2 h 30 min")],
)
def test_times_are_spoken_plainly(seconds, text):
    assert spoken(seconds) == text


def verdicts_of_threshold(policy, stream):
    state, verdicts = ThresholdState(), []
    for line in stream:
        state = threshold_step(policy, state, line)
        verdicts.append(threshold_verdict(policy, state))
    return verdicts


def test_the_threshold_waits_for_its_minimum_though_an_untrained_discriminator_answers_one_half(stats):
    verdicts = verdicts_of_threshold(Threshold(0.5, window=4, minimum=6), stats(6, fake_probability=0.5))
    assert [isinstance(verdict, Stop) for verdict in verdicts] == [False] * 5 + [True]
    assert "averaged 0.500 over the last 4 intervals" in verdicts[-1].reason
    assert "threshold of 0.5" in verdicts[-1].reason


def test_the_threshold_looks_at_the_mean_of_its_window_and_not_at_one_interval(stats):
    stream = stats(6, fake_probability=0.2) + stats(1, fake_probability=0.99) + stats(6, fake_probability=0.2)
    policy = Threshold(0.5, window=4, minimum=4)
    assert not any(isinstance(verdict, Stop) for verdict in verdicts_of_threshold(policy, stream))
    rising = stats(6, fake_probability=0.2) + stats(4, fake_probability=0.6)  # 0.2+0.6·3 = 2.0 ≥ 4·0.5 at the 9th
    assert [isinstance(verdict, Stop) for verdict in verdicts_of_threshold(policy, rising)].index(True) == 8


def test_an_interval_without_a_finite_probability_counts_for_nothing(stats):
    policy = Threshold(0.5, window=2, minimum=2)
    stream = stats(1, fake_probability=0.9) + stats(5, fake_probability=math.nan)
    assert not any(isinstance(verdict, Stop) for verdict in verdicts_of_threshold(policy, stream))


def verdicts_of_patience(policy, stream):
    state, verdicts = PatienceState(), []
    for line in stream:
        state = patience_step(policy, state, line)
        verdicts.append(patience_verdict(policy, state))
    return verdicts


def test_patience_counts_scores_since_the_best_and_begins_anew_with_every_gain(kids):
    verdicts = verdicts_of_patience(Patience(3), kids(0.5, 0.6, 0.6, 0.4, 0.4, 0.5, 0.6))
    assert [isinstance(verdict, Stop) for verdict in verdicts] == [False] * 6 + [True]
    assert verdicts[-1].reason == (
        "KID has not improved for 3 scores in a row: its best was 0.4 ± 0.01 at 4,000 samples."
    )


def test_failed_and_infinite_scores_are_no_improvement(kids):
    verdicts = verdicts_of_patience(Patience(2), kids(0.5, math.nan, -math.inf))
    assert [isinstance(verdict, Stop) for verdict in verdicts] == [False, False, True]
    never = verdicts_of_patience(Patience(2), kids(math.nan, math.nan))
    assert never[-1] == Stop("patience", "None of 2 attempts to score gave a finite KID.")


def test_patience_on_fid_reads_fid(kids):
    reason = verdicts_of_patience(Patience(1, "fid"), kids(0.5, 0.6))[-1].reason
    assert reason == "FID has not improved for 1 scores in a row: its best was 50 at 1,000 samples."
