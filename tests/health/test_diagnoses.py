import math
from dataclasses import replace

import pytest

from equipoise.health.diagnoses import condition, coverage_fall, describe, gradient_share, trend


@pytest.mark.parametrize(
    ("accuracy", "expected"),
    [(0.5, "fooled"), (0.56, "balanced"), (0.84, "balanced"), (0.9, "ahead"), (0.99, "winning")],
)
def test_accuracy_alone_names_how_the_fight_stands(stats, accuracy, expected):
    assert condition(stats(10, accuracy=accuracy)) == expected


def test_a_perfect_discriminator_is_an_illness_only_with_a_vanished_generator_gradient(stats):
    before = stats(20, generator_gradient=1.0)
    assert condition(before + stats(8, first=21, accuracy=0.995, generator_gradient=0.5)) == "winning"
    ill = before + stats(8, first=21, accuracy=0.995, generator_gradient=0.05)
    assert condition(ill) == "overpowering"
    assert gradient_share(ill) == pytest.approx(0.05)
    assert "5 % of what it was" in describe(ill, [])


def test_a_gradient_that_vanished_long_ago_is_still_noticed(stats):
    recent = stats(10, generator_gradient=1.0) + stats(25, first=11, accuracy=0.999, generator_gradient=0.01)
    assert condition(recent) == "overpowering"


def test_a_vanished_gradient_of_a_fair_fight_is_no_overpowering(stats):
    assert condition(stats(20) + stats(8, first=21, generator_gradient=1e-4)) == "balanced"


def test_poisoned_steps_come_before_everything_else(stats):
    recent = stats(10, accuracy=0.999)
    assert condition([*recent, *stats(skipped_steps=2, first=11)]) == "skipping"
    assert "2 recent steps were not finite" in describe([*recent, *stats(skipped_steps=2, first=11)], [])
    assert condition([*recent, *stats(discriminator_loss=math.nan, first=11)]) == "broken"
    assert condition(stats(skipped_steps=2) + stats(8, first=2)) == "balanced"  # it is past


def test_too_few_intervals_or_no_accuracy_say_nothing(stats):
    assert condition([]) == condition(stats(2)) == condition(stats(9, accuracy=math.nan)) == "starting"


def test_a_trend_counts_beyond_twice_the_error_only(kids):
    assert trend([]) == "none"
    assert trend(kids(0.5)) == "single"
    assert trend(kids(0.5, 0.4)) == "falling"
    assert trend(kids(0.5, 0.48)) == "level"  # 0.02 < 2·√2·0.01
    assert trend(kids(0.5, 0.3, 0.2, 0.5, 0.5, 0.5)) == "rising"
    assert trend(kids(0.5, 0.3, 0.2, 0.5, 0.2, 0.5)) == "level"  # one of the last three is as good
    assert trend(kids(0.5, 0.4, math.nan)) == "falling"


def test_fid_needs_two_per_cent(kids):
    assert trend(kids(0.5, 0.495), "fid") == "level"
    assert trend(kids(0.5, 0.48), "fid") == "falling"


def test_lost_variety_is_told_before_the_trend(stats, kids):
    lines = [replace(line, coverage=value) for line, value in zip(kids(0.5, 0.4, 0.3), (0.2, 0.8, 0.3), strict=True)]
    assert coverage_fall(lines) == (0.8, 0.3)
    assert coverage_fall(lines[:2]) is None
    assert "coverage fell from 0.80 to 0.30" in describe(stats(10), lines)


def test_the_sentence_is_one_plain_sentence(stats, kids):
    assert describe(stats(10), kids(0.5, 0.3)) == (
        "The discriminator tells real from fake 71 % of the time: a fair fight; KID is still falling (lower is better)."
    )
    for accuracy in (0.5, 0.7, 0.9, 0.99, math.nan):
        text = describe(stats(10, accuracy=accuracy), [])
        assert text.endswith("no score yet.")
        assert "nan" not in text
        assert text.count(". ") == 0


def test_losses_never_speak_of_quality(stats):
    low, high = stats(10, generator_loss=0.01), stats(10, generator_loss=50.0)
    assert describe(low, []) == describe(high, [])
