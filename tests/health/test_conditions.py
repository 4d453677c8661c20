import math
import re
from collections.abc import Callable
from typing import Any, get_args

import msgspec
import pytest

from equipoise.health.conditions import FEWEST, LASTED, LASTED_LONG, WINDOW, examine, turning_points
from equipoise.health.stats import HISTORY, RECENT, thinned
from equipoise.health.telling import title, told, told_all
from equipoise.storage.records import Condition, Diagnosis, Score, StepStats

changed = msgspec.structs.replace
Kids = Callable[..., list[Score]]
Stats = Callable[..., list[StepStats]]
SIGNALS = {
    "spread": 1.0,
    "nearest": 1.0,
    "step/generator": 1e-3,
    "step/discriminator": 1e-3,
    "gradient/discriminator/first": 0.1,
    "gradient/discriminator/last": 0.2,
    "saturated/real": 0.1,
    "saturated/generated": 0.1,
}


def names(found: tuple[Diagnosis, ...]) -> list[Condition]:
    return [diagnosis.condition for diagnosis in found]


def line(stats: Stats, num: int = 1, /, *, first: int = 1, **changes: Any) -> list[StepStats]:
    """Return log lines with signals of a healthy game; `changed` are signals, and so is what has one of their names."""
    changes |= changes.pop("changed", {})
    signals = {name: value for name, value in changes.items() if name in SIGNALS}
    others = {name: value for name, value in changes.items() if name not in signals}
    return stats(num, first, signals=SIGNALS | signals, **others)


def with_values(scores: list[Score], name: str, *values: float) -> list[Score]:
    return [changed(score, values={name: value}) for score, value in zip(scores, values, strict=True)]


SICK: list[tuple[Condition, dict[str, Any], dict[str, Any]]] = [  # what makes it ill, and what is not yet enough
    ("non-finite", {"skipped_steps": 1}, {"skipped_steps": 0}),
    ("exploding-gradient", {"discriminator_gradient": 501.0}, {"discriminator_gradient": 499.0}),
    ("mode-collapse", {"spread": 0.24}, {"spread": 0.61}),
    ("mode-collapse", {"nearest": 0.09}, {"nearest": 0.11}),
    ("mode-dropping", {"spread": 0.59}, {"spread": 0.61}),
    (
        "vanishing-gradient",
        {"gradient/discriminator/first": 1e-4},
        {"gradient/discriminator/first": 3e-4},
    ),
    ("discriminator-too-weak", {"accuracy": 0.44}, {"accuracy": 0.46}),
    (
        "discriminator-overpowering",
        {"accuracy": 0.96, "real_logit": 4.0, "fake_logit": -4.0},
        {"accuracy": 0.84, "real_logit": 4.0, "fake_logit": -4.0},
    ),
    (
        "discriminator-overpowering",
        {"accuracy": 0.86, "real_logit": 2.6, "fake_logit": -2.6},
        {"accuracy": 0.86, "real_logit": 2.4, "fake_logit": -2.4},
    ),
    ("saturation", {"saturated/generated": 0.51}, {"saturated/generated": 0.49}),
    ("rate-too-high", {"step/generator": 0.041}, {"step/generator": 0.039}),
    (
        "rate-too-low",
        {"step/generator": 4e-5, "step/discriminator": 4e-5},
        {"step/generator": 4e-5, "step/discriminator": 6e-5},
    ),
]


@pytest.mark.parametrize(
    ("condition", "ill", "well"), SICK, ids=[f"{row[0]}-{place}" for place, row in enumerate(SICK)]
)
def test_a_condition_begins_at_its_threshold_and_not_before(
    stats: Stats, condition: Condition, ill: dict[str, Any], well: dict[str, Any]
) -> None:
    assert names(examine(line(stats, 2 * WINDOW, changed=ill), [])) == [condition]
    assert examine(line(stats, 2 * WINDOW, changed=well), []) == ()


OF_SCORES: list[tuple[Condition, str, list[float], list[float]]] = [
    ("discriminator-overfitting", "discriminator_gap", [0.1, 0.6, 0.52], [0.1, 0.6, 0.4]),
    ("memorization", "copying", [1.0, -4.0, -3.1], [1.0, -4.0, -2.9]),
    ("augmentation-leak", "augmentation_leak", [1.0, -4.0, -3.1], [1.0, -4.0, -2.9]),
    ("mode-dropping", "coverage", [0.8, 0.3, 0.25], [0.8, 0.3, 0.4]),
    ("mode-dropping", "recall", [0.8, 0.3, 0.25], [0.15, 0.01, 0.01]),
    ("mode-dropping", "kl", [0.1, 0.6, 0.51], [0.1, 0.6, 0.49]),
    ("mode-collapse", "coverage", [0.8, 0.1, 0.1], [0.8, 0.9, 0.7]),
]


@pytest.mark.parametrize(
    ("condition", "name", "ill", "well"), OF_SCORES, ids=[f"{row[0]}-{row[1]}" for row in OF_SCORES]
)
def test_a_condition_of_scores_needs_the_last_two_of_them(
    stats: Stats, kids: Kids, condition: Condition, name: str, ill: list[float], well: list[float]
) -> None:
    scores = kids(0.5, 0.5, 0.5)
    assert names(examine(line(stats, WINDOW), with_values(scores, name, *ill))) == [condition]
    assert examine(line(stats, WINDOW), with_values(scores, name, *well)) == ()
    assert examine(line(stats, WINDOW), with_values(scores[:1], name, ill[-1])) == ()


def test_samples_that_resemble_nothing_yet_are_no_copies(stats: Stats, kids: Kids) -> None:
    scores = with_values(kids(0.5, 0.5, 0.5), "copying", -9.0, -9.0, -9.0)
    for recall, found in (((0.0, 0.0, 0.04), []), ((0.0, 0.06, 0.0), ["memorization"]), ((0.5, 0.0, 0.0), [])):
        told = [
            changed(score, values={**score.values, "recall": value})
            for score, value in zip(scores, recall, strict=True)
        ]
        assert [name for name in names(examine(line(stats, WINDOW), told)) if name == "memorization"] == found


def test_an_averaged_generator_is_worse_where_it_is_so_surely_and_by_half_twice(stats: Stats, kids: Kids) -> None:
    def found(*pairs: tuple[float, float], kid: float = 0.5) -> list[Condition]:
        scores = kids(*[kid] * len(pairs))
        values = [{"averaging": sure, "raw": raw} for sure, raw in pairs]
        return names(examine(line(stats, WINDOW), [changed(a, values=b) for a, b in zip(scores, values, strict=True)]))

    assert found((4.0, 0.2), (3.1, 0.33)) == ["averaged-generator-worse"]
    assert found((4.0, 0.2), (2.9, 0.33)) == []
    assert found((4.0, 0.2), (3.1, 0.34)) == []
    assert found((3.1, 0.33)) == []
    assert found((4.0, -0.2), (3.1, -0.1)) == ["averaged-generator-worse"]  # a kernel distance may be below 0


def test_a_leak_that_is_measured_at_every_fourth_evaluation_is_told(stats: Stats, kids: Kids) -> None:
    none = [math.nan] * 3
    scores = with_values(kids(*[0.5] * 8), "augmentation_leak", *none, -5.0, *none, -4.0)
    assert names(examine(line(stats, WINDOW), scores)) == ["augmentation-leak"]


def test_what_was_measured_long_ago_says_nothing_of_now(stats: Stats, kids: Kids) -> None:
    scores = with_values(kids(*[0.5] * 7), "discriminator_gap", 0.9, 0.9, 0.9, *[math.nan] * 4)
    assert examine(line(stats, WINDOW), scores) == ()


def test_a_divergence_is_told_from_noise_and_from_a_small_rise_after_a_long_way_down(stats: Stats, kids: Kids) -> None:
    lines = line(stats, WINDOW)
    assert names(examine(lines, kids(1.0, 0.5, 1.1, 1.2, 1.1))) == ["divergence"]
    assert examine(lines, kids(1.0, 0.5, 1.1, 0.9, 1.1)) == ()  # one of the last three is near the best
    assert examine(lines, kids(1.0, 0.5, 1.1, 1.2, 1.1, se=0.2)) == ()
    assert examine(lines, kids(1.0, 0.05, 0.11, 0.11, 0.11, se=0.001)) == ()
    found = examine(lines, kids(1.0, 0.5, 1.1, 1.2, 1.1))[0]
    assert found.since == 3000  # the first of the three scores
    assert "2.2" in found.evidence


def test_a_gradient_is_measured_by_its_own_past(stats: Stats, kids: Kids) -> None:
    before = line(stats, 24, generator_gradient=1.0)
    now = line(stats, WINDOW, first=25, generator_gradient=0.019)
    assert names(examine(before + now, [])) == ["vanishing-gradient"]
    assert examine(before + now, kids(0.5, 0.4)) == ()  # while the score falls, it is enough
    grown = line(stats, WINDOW, first=25, generator_gradient=101.0)
    assert names(examine(before + grown, [])) == ["exploding-gradient"]
    assert examine(before + line(stats, WINDOW, first=25, generator_gradient=99.0), []) == ()


def test_a_strong_discriminator_is_no_illness_while_the_score_falls_or_answers_are_no_logits(
    stats: Stats, kids: Kids
) -> None:
    strong = {"accuracy": 0.99, "real_logit": 9.0, "fake_logit": -9.0}
    assert examine(line(stats, WINDOW, changed=strong), kids(0.5, 0.3)) == ()
    assert names(examine(line(stats, WINDOW, changed=strong), kids(0.5, 0.5))) == ["discriminator-overpowering"]
    assert examine(line(stats, WINDOW, changed=strong, fake_probability=math.nan), kids(0.5, 0.5)) == ()


def test_where_only_its_answers_are_known_a_discriminator_is_too_strong_with_both_at_their_ends(stats: Stats) -> None:
    unknown = {"accuracy": math.nan, "real_logit": math.nan, "fake_logit": math.nan}

    def found(real: float, fake: float) -> list[Condition]:
        return names(examine(stats(WINDOW, **unknown, real_probability=real, fake_probability=fake), []))

    assert found(0.98, 0.02) == ["discriminator-overpowering"]
    assert found(0.96, 0.02) == found(0.98, 0.04) == found(math.nan, 0.0) == []


def test_a_discriminator_that_is_wrong_in_single_lines_follows_no_longer(stats: Stats) -> None:
    lines = line(stats, WINDOW)
    wild = [
        changed(one, accuracy=0.2) if place in (2, 5) else changed(one, accuracy=0.8) for place, one in enumerate(lines)
    ]
    assert names(examine(wild, [])) == ["discriminator-too-weak"]
    assert examine([changed(wild[0], accuracy=0.2), *(changed(one, accuracy=0.8) for one in wild[1:])], []) == ()


def test_a_generator_that_begins_to_make_different_things_has_not_collapsed(stats: Stats) -> None:
    rising = [line(stats, 1, first=place, spread=0.01 * place, nearest=0.005 * place)[0] for place in range(1, 20)]
    assert examine(rising, []) == ()
    assert examine(line(stats, WINDOW, spread=0.1), []) == ()  # one window alone cannot tell


def test_a_collapse_is_told_from_where_the_variety_went_although_it_takes_longer_to_be_sure(stats: Stats) -> None:
    lines = line(stats, 10) + line(stats, 2 * WINDOW, first=11, spread=0.01)
    (found,) = examine(lines, [])
    assert (found.condition, found.since) == ("mode-collapse", 1100)


def test_whatever_moves_no_further_is_told_as_a_low_rate_alone(stats: Stats) -> None:
    still = {"step/generator": 1e-6, "step/discriminator": 1e-6}
    born = line(stats, 2 * WINDOW, spread=0.01, nearest=0.01, accuracy=0.2, changed=still)
    assert names(examine(born, [])) == ["rate-too-low"]


def test_steps_that_become_small_at_the_end_of_a_schedule_are_no_low_rate(stats: Stats) -> None:
    later = {"step/generator": 1e-6, "step/discriminator": 1e-6}
    assert examine(line(stats, 20) + line(stats, 20, first=21, changed=later), []) == ()


def test_where_numbers_are_not_finite_their_names_are_told(stats: Stats) -> None:
    lines = line(stats, WINDOW)
    terms = {"generator_adversarial": math.nan, "discriminator_adversarial": 0.1}
    bad = changed(lines[-1], skipped_steps=3, terms=terms)
    (found,) = examine([*lines[:-1], bad], [])
    assert (found.condition, found.confidence, found.since) == ("non-finite", "certain", lines[-1].samples)
    assert "generator's adversarial" in found.evidence
    assert "discriminator" not in found.evidence
    of_parts = SIGNALS | {"gradient/discriminator/last": math.nan}
    (found,) = examine([*lines[:-1], changed(lines[-1], skipped_steps=3, signals=of_parts)], [])
    assert "discriminator/last" in found.evidence
    assert names(examine(stats(1, skipped_steps=1), [])) == ["non-finite"]  # from the first line on
    assert names(examine(stats(1, discriminator_loss=math.nan), [])) == ["non-finite"]


def test_a_condition_keeps_its_beginning_and_ends_below_where_it_began(stats: Stats) -> None:
    began = examine(line(stats, WINDOW, changed={"step/generator": 0.05}), [])
    assert [one.since for one in began] == [100]
    later = line(stats, WINDOW, first=9, changed={"step/generator": 0.037})
    assert examine(later, []) == ()
    (kept,) = examine(later, [], began)
    assert kept.since == 100
    assert examine(line(stats, WINDOW, first=17, changed={"step/generator": 0.035}), [], began) == ()


def test_how_sure_a_diagnosis_is_follows_from_its_strength_and_from_how_long_it_lasts(stats: Stats) -> None:
    def sure(num: int, step: float) -> list[str]:
        lines = line(stats, num, changed={"step/generator": step})
        found: tuple[Diagnosis, ...] = ()
        for place in range(WINDOW, num + 1):
            found = examine(lines[:place], [], found)
        return [one.confidence for one in found]

    assert sure(LASTED, 0.057) == ["likely"]
    assert sure(LASTED - 1, 0.057) == ["possible"]
    assert sure(LASTED, 0.056) == ["possible"]
    told_from = WINDOW - 1  # lines before the first of them at which it is told
    assert sure(LASTED_LONG + told_from, 0.041) == ["likely"], "what is told long is likely also at its threshold"
    assert sure(LASTED_LONG + told_from - 1, 0.041) == ["possible"]


def test_what_began_long_before_it_was_told_is_not_likely_at_once(stats: Stats, kids: Kids) -> None:
    lines = line(stats, LASTED_LONG + WINDOW, changed={"spread": 0.57})
    (first,) = examine(lines, kids(0.5, 0.5, 0.5, 0.5))
    assert (first.since, first.num_lines, first.confidence) == (100, 1, "possible")
    told_long = changed(first, num_lines=LASTED_LONG)
    assert examine(lines, kids(0.5, 0.5, 0.5, 0.5), [told_long])[0].confidence == "likely"


def test_a_strong_discriminator_is_no_illness_while_any_late_score_is_the_best_one(stats: Stats, kids: Kids) -> None:
    strong = line(stats, WINDOW, changed={"accuracy": 0.99, "real_logit": 9.0, "fake_logit": -9.0})
    assert examine(strong, kids(0.9, 0.8, 0.7, 0.5, 0.65)) == (), "it has fallen, and has risen since"
    assert examine(strong, kids(0.9)) == (), "of a single score nobody knows where it goes"
    assert examine(strong, kids(0.9, 0.5, 0.65)) == ()
    assert names(examine(strong, kids(0.9, 0.5, 0.7, 0.6, 0.65))) == ["discriminator-overpowering"]
    assert names(examine(strong, [])) == ["discriminator-overpowering"]


def test_a_game_without_numbers_or_with_few_of_them_is_not_judged(stats: Stats) -> None:
    assert examine([], []) == ()
    assert examine(line(stats, FEWEST - 1, accuracy=0.1, spread=0.0), []) == ()
    unknown = dict.fromkeys(("accuracy", "real_logit", "fake_logit", "generator_gradient"), math.nan)
    assert examine(stats(20, **unknown, discriminator_gradient=math.nan), []) == ()


def test_more_training_that_brings_nothing_is_told_last(stats: Stats) -> None:
    found = examine(line(stats, 2 * WINDOW, spread=0.5), [], settled="25 % more training brings 0.1 %.")
    assert names(found) == ["mode-dropping", "nothing-more-to-gain"]
    assert [one.evidence for one in found][-1] == "25 % more training brings 0.1 %."


def test_a_series_turns_where_it_went_far_enough_before_and_after() -> None:
    assert turning_points([0.5, 0.9, 0.3, 0.8], 0.25) == [0.9, 0.3]
    assert turning_points([0.5, 0.9, 0.8, 0.95, 0.3, 0.4, 0.2, 0.8], 0.25) == [0.95, 0.2]
    assert turning_points([0.1, 0.2, 0.4, 0.6, 0.9], 0.25) == []
    assert turning_points([0.9, 0.2], 0.25) == []
    assert turning_points([0.7, 0.5, 0.7, 0.5, 0.7], 0.25) == []
    assert turning_points([0.0, 1.0] * 4, 1.0) == [1.0, 0.0, 1.0, 0.0, 1.0, 0.0]


def test_players_that_go_round_each_other_are_told_with_how_often_and_how_far(stats: Stats) -> None:
    lines = stats(RECENT)
    wave = [changed(one, accuracy=0.7 + 0.15 * math.sin(place * math.pi / 4)) for place, one in enumerate(lines)]
    (found,) = examine(wave, [])
    assert found.condition == "cycling"
    assert re.findall(r"\d+", found.evidence) == ["6", "32", "55", "85"]
    small = [changed(one, accuracy=0.7 + 0.1 * math.sin(place * math.pi / 4)) for place, one in enumerate(lines)]
    assert examine(small, []) == ()
    slow = [changed(one, accuracy=0.7 + 0.15 * math.sin(place * math.pi / 16)) for place, one in enumerate(lines)]
    assert examine(slow, []) == ()


def test_the_history_keeps_the_last_lines_and_the_span_of_the_run(stats: Stats) -> None:
    history: tuple[StepStats, ...] = ()
    lines = stats(1_000)
    for one in lines:
        history = thinned((*history, one))
    assert len(history) <= HISTORY
    assert list(history[-RECENT:]) == lines[-RECENT:]
    assert list(history)[:1] == lines[:1]


def test_every_condition_has_a_heading_of_its_own_and_is_told_with_since_when_and_how_sure() -> None:
    every = get_args(Condition)
    assert len({title(condition) for condition in every}) == len(every)
    first = Diagnosis(condition="mode-collapse", since=12_800, confidence="likely", evidence="A batch has 2 %.")
    other = Diagnosis(condition="cycling", since=20_000, confidence="possible", evidence="Every 8 log lines.")
    text = told_all([first, other], 50)
    assert told(first) in text
    assert all(part in text for part in ("12.8k", "likely", "2 %", "cycling", "explain mode-collapse"))
    assert told_all([], FEWEST - 1) != told_all([], FEWEST)
