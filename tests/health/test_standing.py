import math
from collections.abc import Callable
from typing import get_args

import msgspec
import pytest

from equipoise.health.standing import (
    FOOLED,
    Standing,
    describe,
    describe_game,
    describe_scores,
    gradient_share,
    mean_accuracy,
    num_skipped,
    standing,
    trend,
)
from equipoise.storage.records import Score, StepStats

changed = msgspec.structs.replace
Kids = Callable[..., list[Score]]
Stats = Callable[..., list[StepStats]]


@pytest.mark.parametrize(
    ("accuracy", "expected"),
    [(0.5, "fooled"), (0.56, "balanced"), (0.84, "balanced"), (0.9, "ahead"), (0.99, "winning")],
)
def test_accuracy_alone_names_how_the_fight_stands(stats: Stats, accuracy: float, expected: Standing):
    assert standing(stats(10, accuracy=accuracy)) == expected
    assert mean_accuracy(stats(10, accuracy=accuracy)) == pytest.approx(accuracy)


def test_the_share_of_a_gradient_is_one_of_its_own_upper_quartile(stats: Stats):
    before = stats(20, generator_gradient=1.0)
    assert gradient_share(before + stats(8, first=21, generator_gradient=0.05)) == pytest.approx(0.05)
    long_ago = stats(10, generator_gradient=1.0) + stats(25, first=11, generator_gradient=0.01)
    assert gradient_share(long_ago) == pytest.approx(0.01)


def test_poisoned_steps_come_before_everything_else(stats: Stats):
    recent = stats(10, accuracy=0.999)
    skipped = [*recent, *stats(skipped_steps=2, first=11)]
    assert standing(skipped) == "skipping"
    assert num_skipped(skipped) == 2
    assert "2" in describe(skipped, [])
    assert standing([*recent, *stats(discriminator_loss=math.nan, first=11)]) == "broken"
    assert standing([*skipped, *stats(generator_loss=math.nan, first=12)]) == "broken"
    assert standing(stats(skipped_steps=2) + stats(8, first=2)) == "balanced"  # it is past


def test_a_discriminator_that_rests_is_no_fooled_one_and_has_no_accuracy_to_speak_of(stats: Stats):
    resting = stats(10, discriminator_loss=0.0, discriminator_gradient=0.0, accuracy=math.nan)
    assert standing(resting) == "resting"
    assert "nan" not in describe(resting, [])
    assert standing([*resting, *stats(9, first=11)]) == "balanced"
    assert standing([*resting, *stats(first=11, skipped_steps=1)]) == "skipping"


def test_too_few_intervals_or_no_accuracy_say_nothing(stats: Stats):
    assert standing([]) == standing(stats(2)) == standing(stats(9, accuracy=math.nan)) == "starting"


def test_each_condition_has_words_of_its_own(stats: Stats):
    every: dict[Standing, list[StepStats]] = {
        "starting": [],
        "broken": stats(discriminator_loss=math.nan),
        "skipping": stats(skipped_steps=1),
        "resting": stats(discriminator_gradient=0.0),
        "winning": stats(10, accuracy=0.99),
        "ahead": stats(10, accuracy=0.9),
        "balanced": stats(10, accuracy=0.7),
        "fooled": stats(10, accuracy=FOOLED - 0.01),
    }
    assert every.keys() == set(get_args(Standing))
    assert all(standing(recent) == name for name, recent in every.items())
    assert len({describe_game(recent) for recent in every.values()}) == len(every)


def test_a_trend_counts_beyond_twice_the_error_only(kids: Kids):
    assert trend([]) == "none"
    assert trend(kids(0.5)) == "single"
    assert trend(kids(0.5, 0.4)) == "falling"
    assert trend(kids(0.5, 0.48)) == "level"  # 0.02 < 2·√2·0.01
    assert trend(kids(0.5, 0.3, 0.2, 0.5, 0.5, 0.5)) == "rising"
    assert trend(kids(0.5, 0.3, 0.2, 0.5, 0.2, 0.5)) == "level"  # one of the last three is as good
    assert trend(kids(0.5, 0.4, math.nan)) == "falling"


def test_a_score_without_an_error_needs_two_per_cent(kids: Kids):
    assert trend(kids(0.5, 0.495, se=math.nan)) == "level"
    assert trend(kids(0.5, 0.48, se=math.nan)) == "falling"


def test_the_sentence_is_one_plain_sentence(stats: Stats, kids: Kids):
    game, scores = describe_game(stats(10)), describe_scores(kids(0.5, 0.3), "MSE-Y")
    assert "71 %" in game
    assert "MSE-Y" in scores
    assert describe(stats(10), kids(0.5, 0.3), "MSE-Y") == f"{game}; {scores}."
    for accuracy in (0.5, 0.7, 0.9, 0.99, math.nan):
        text = describe(stats(10, accuracy=accuracy), [])
        assert text.endswith(f"; {describe_scores([])}.")
        assert "nan" not in text
        assert text.count(". ") == 0


def test_losses_never_speak_of_quality(stats: Stats):
    low, high = stats(10, generator_loss=0.01), stats(10, generator_loss=50.0)
    assert describe(low, []) == describe(high, [])
