"""Which remedy a condition has, by its bounds; the controller of augmentation against a simulation by hand."""

from dataclasses import replace
from typing import get_args

import pytest
from trainings import points_recipe

from equipoise.game.adjustments import Adjustments
from equipoise.health.advice import settings_of, suggested_settings
from equipoise.health.remedies import (
    ENDING,
    GAMMA,
    GOING_BACK,
    HIGHEST,
    LOWEST,
    MOST_AUGMENTED,
    MOST_NOISE,
    MOST_OF_ONE,
    RAMP,
    REST,
    STRONGER,
    TARGET,
    NoTreatment,
    RemedyHistory,
    Situation,
    Treatment,
    adapted_augmentation,
    for_non_finite,
    in_words,
    to_treat,
    treatment,
)
from equipoise.recipe import Augment, Custom, with_settings
from equipoise.storage.records import Condition, Confidence, Diagnosis

EXHAUSTED = Adjustments(LOWEST, LOWEST, penalty=GAMMA, noise=MOST_NOISE)
RATES = ("game.generator.rate_end=none", "game.discriminator.rate_end=none")


def diagnosed(condition: Condition, since: int = 500) -> Diagnosis:
    return Diagnosis(condition=condition, since=since, confidence="likely", evidence="2 is more than 1.")


def situation(*settings: str, **changes: object) -> Situation:
    recipe = points_recipe("remedies.policy=act", "remedies.attempts=10", *settings)
    start = 0 if changes.get("places") else 10_000  # without a place to go back to, it was never otherwise
    return replace(Situation(recipe, start=start), **changes)


def done(condition: Condition, at: Situation) -> Treatment:
    found = treatment(diagnosed(condition), at)
    assert isinstance(found, Treatment), found
    return found


@pytest.mark.parametrize("condition", get_args(Condition))
@pytest.mark.parametrize("kind", ["none", "r1+r2", "wgan-gp"])
def test_every_condition_has_bounded_treatments_or_a_reason(condition: Condition, kind: str) -> None:
    settings = [f"game.penalty.kind={kind}", "game.penalty.gamma=1"] if kind != "none" else ["game.penalty.kind=none"]
    at = situation(*settings, places=(100, 400), best=400)
    for _ in range(MOST_OF_ONE):
        found = treatment(diagnosed(condition), at)
        if isinstance(found, NoTreatment):
            assert found.reason
            return
        now = found.adjustments
        assert LOWEST <= now.generator_rate <= HIGHEST
        assert LOWEST <= now.discriminator_rate <= HIGHEST
        assert 0 <= now.noise <= MOST_NOISE
        assert found.back_to in (None, 400)
        assert in_words(at.adjustments, at.recipe, found), "a treatment that changes nothing is none"
        at = replace(at, adjustments=now, remedy_history=at.remedy_history.after(condition))
    found = treatment(diagnosed(condition), at)
    assert isinstance(found, NoTreatment), "it was tried often enough"
    assert found.is_end == (condition in ENDING)


def test_remedies_end_with_those_allowed_in_all_and_nothing_ends_that_was_not_tried() -> None:
    at = situation("remedies.attempts=3", remedy_history=RemedyHistory({"cycling": 2, "non-finite": 1}))
    found = treatment(diagnosed("mode-collapse"), at)
    assert isinstance(found, NoTreatment)
    assert not found.is_end


@pytest.mark.parametrize(
    ("places", "best", "since", "back_to"),
    [
        ((100, 400), None, 500, 400),
        ((100, 400), None, 399, 100),
        ((600, 700), 600, 500, 600),
        ((600, 700), 600, 300, 0),
    ],
)
def test_a_collapsed_game_goes_back_to_before_its_collapse_or_to_its_best_and_to_its_beginning_if_it_always_was(
    places: tuple[int, ...], best: int | None, since: int, back_to: int
) -> None:
    for condition in ("mode-collapse", "vanishing-gradient", "exploding-gradient", "rate-too-high"):
        found = treatment(diagnosed(condition, since), situation(start=300, places=places, best=best))
        assert isinstance(found, Treatment)
        assert found.back_to == back_to


def test_a_game_that_worked_is_never_given_up_as_a_whole() -> None:
    for places in ((), (600,)):
        found = treatment(diagnosed("mode-collapse", 500), situation(start=300, places=places))
        assert isinstance(found, NoTreatment)


@pytest.mark.parametrize("condition", get_args(Condition))
def test_a_condition_for_which_a_run_goes_back_spoils_checkpoints(condition: Condition) -> None:
    found = treatment(diagnosed(condition), situation("game.penalty.kind=none", places=(400,), best=400))
    if isinstance(found, Treatment) and found.back_to is not None:
        assert condition in GOING_BACK


def test_diverged_scores_go_back_to_the_best_one_or_before_and_nowhere_without_one() -> None:
    found = done("divergence", situation(places=(100, 400, 700), best=400))
    assert (found.back_to, found.adjustments.generator_rate, found.adjustments.discriminator_rate) == (400, 0.5, 0.5)
    assert isinstance(treatment(diagnosed("divergence"), situation(places=(700,), best=400)), NoTreatment)
    assert isinstance(treatment(diagnosed("divergence"), situation(places=(100,))), NoTreatment)


def test_a_discriminator_of_many_steps_takes_one_and_has_a_penalty_at_once() -> None:
    at = situation("game.penalty.kind=none", "game.discriminator_steps=15")
    found = done("discriminator-overpowering", at)
    assert found == Treatment(Adjustments(discriminator_steps=-14, penalty=GAMMA))
    assert "15 → 1" in in_words(at.adjustments, at.recipe, found)
    critic = situation("game.penalty.kind=none", "game.discriminator_steps=5", "game.loss=wasserstein")
    assert done("discriminator-overpowering", critic).adjustments == Adjustments(penalty=GAMMA), "it is to be good"


def test_much_momentum_is_taken_away_first_and_its_settings_are_advised() -> None:
    swinging = situation("game.generator.beta1=0.9", "game.discriminator.beta1=0.9")
    for condition in ("cycling", "mode-collapse", "discriminator-too-weak"):
        found = done(condition, swinging)
        assert found.adjustments == Adjustments(momentum=0.0)
        assert "β1" in in_words(swinging.adjustments, swinging.recipe, found)
    assert settings_of(Adjustments(momentum=0.0), swinging.recipe) == [
        "game.generator.beta1=0",
        "game.discriminator.beta1=0",
    ]
    usual = situation("game.generator.beta1=0.5", "game.discriminator.beta1=0.5")
    assert done("cycling", usual).adjustments.momentum == 1
    without = situation("game.generator.beta1=0.9", "game.generator.optimizer=adagrad")
    assert done("cycling", without).adjustments.momentum == 1, "Adagrad has none"


def test_a_game_that_is_not_finite_goes_back_with_lower_rates_and_from_its_beginning_without_momentum() -> None:
    swinging = situation("game.generator.beta1=0.9", "game.discriminator.beta1=0.9")
    first = for_non_finite(swinging, None)
    assert first == Treatment(Adjustments(momentum=0.0), back_to=0)
    second = for_non_finite(replace(swinging, adjustments=first.adjustments), None)
    assert second == Treatment(Adjustments(0.5, 0.5, momentum=0.0), back_to=0)
    assert for_non_finite(swinging, 400) == Treatment(Adjustments(0.5, 0.5), back_to=400)
    suggesting = replace(swinging, recipe=with_settings(swinging.recipe, ["remedies.policy=suggest"]))
    assert for_non_finite(suggesting, None) == Treatment(Adjustments(0.5, 0.5), back_to=0), "asked for or not"


def test_a_game_that_never_worked_gets_much_lower_rates_and_one_that_broke_a_stronger_penalty() -> None:
    at = situation("game.penalty.kind=r1", "game.penalty.gamma=1")
    assert done("mode-collapse", at).adjustments == Adjustments(0.125, 0.125)
    broken = done("mode-collapse", replace(at, start=0, places=(400,)))
    assert (broken.adjustments, broken.back_to) == (Adjustments(gamma=STRONGER), 400)


def test_a_penalty_comes_in_only_where_there_is_none_and_batch_norm_and_the_task_allow_it() -> None:
    assert done("vanishing-gradient", situation("game.penalty.kind=none")).adjustments.penalty > 0
    kept = done("discriminator-overpowering", situation("game.penalty.kind=r1", "game.penalty.gamma=1")).adjustments
    assert (kept.penalty, kept.gamma > 1) == (0, True)
    clipped = situation("game.penalty.kind=none", "game.weight_clip=0.1")
    instead = done("mode-dropping", clipped).adjustments
    assert instead.penalty > 0
    assert "game.weight_clip=none" in settings_of(instead, clipped.recipe)
    normed = situation("game.penalty.kind=none", "networks.discriminator_norm=batch")
    assert done("discriminator-overpowering", normed).adjustments == Adjustments(discriminator_rate=0.5)
    custom = situation("game.penalty.kind=none")
    custom = replace(custom, recipe=replace(custom.recipe, task=Custom()))
    assert done("discriminator-overpowering", custom).adjustments == Adjustments(discriminator_rate=0.5)


def test_players_get_the_rate_of_the_generator_and_of_the_discriminator_where_that_is_far_too_high() -> None:
    at = situation("game.generator.rate=0.001", "game.discriminator.rate=0.00025", *RATES)
    high = situation("game.generator.rate=0.02", "game.discriminator.rate=0.005", *RATES)
    for condition in ("mode-collapse", "cycling", "discriminator-too-weak"):
        assert done(condition, at).adjustments == Adjustments(discriminator_rate=4.0)
        assert done(condition, high).adjustments == Adjustments(generator_rate=0.25)
    for rates in (("7e-4", "7e-5"), ("3e-4", "1e-5"), ("1.1e-3", "7e-4")):
        unequal = situation(f"game.generator.rate={rates[0]}", f"game.discriminator.rate={rates[1]}", *RATES)
        equal = replace(unequal, adjustments=done("cycling", unequal).adjustments)
        assert done("cycling", equal).adjustments.penalty > 0, "equal rates are not made equal again"
    other = situation("game.generator.rate=0.001", "game.discriminator.rate=0.0001", "game.discriminator.optimizer=sgd")
    assert done("cycling", other).adjustments.penalty > 0, "rates of different optimizers are not comparable"
    assert suggested_settings("mode-collapse", high.recipe) == ["game.generator.rate=0.005"]
    alike = situation("game.generator.rate=0.001", "game.discriminator.rate=0.001", *RATES)
    assert done("discriminator-too-weak", alike).adjustments == Adjustments(generator_rate=0.25, penalty=GAMMA)


def test_rates_have_a_floor_that_is_said() -> None:
    at = situation(adjustments=Adjustments(generator_rate=LOWEST, discriminator_rate=LOWEST))
    assert isinstance(treatment(diagnosed("rate-too-high"), at), NoTreatment)
    assert done("rate-too-low", at).adjustments.generator_rate > LOWEST
    steep = situation("remedies.rate_factor=0.1")
    assert done("rate-too-high", steep).adjustments == Adjustments(LOWEST, LOWEST)


def test_rates_that_are_too_low_are_raised_to_what_is_usual_at_most() -> None:
    low = situation("game.generator.rate=1e-6", "game.discriminator.rate=1e-6", *RATES)
    assert done("rate-too-low", low).adjustments == Adjustments(100.0, 100.0)
    near = situation("game.generator.rate=1e-3", "game.discriminator.rate=5e-4", *RATES)
    assert done("rate-too-low", near).adjustments == Adjustments(2.0, 2.0)
    above = situation("game.generator.rate=0.01", "game.discriminator.rate=5e-4", *RATES)
    assert isinstance(treatment(diagnosed("rate-too-low"), above), NoTreatment)


def test_mode_dropping_gets_a_fresh_discriminator_where_nothing_else_is_left() -> None:
    at = situation("game.penalty.kind=none")
    assert not done("mode-dropping", at).fresh_discriminator
    assert done("mode-dropping", replace(at, adjustments=EXHAUSTED)).fresh_discriminator


def test_a_rest_lasts_as_many_log_lines_as_it_says() -> None:
    remedy_history = RemedyHistory().after("cycling")
    for _ in range(REST):
        assert remedy_history.rest > 0
        remedy_history = remedy_history.rested()
    assert remedy_history.rest == 0
    assert remedy_history.rested() == remedy_history
    assert remedy_history.num_tried == 1


def augmented(probability: float, augment: float = 0.0, *, is_begun: bool = True) -> Situation:
    at = situation()
    recipe = replace(at.recipe, augment=Augment(kinds=("translation",), probability=probability))
    remedy_history = RemedyHistory({"discriminator-overfitting": 1} if is_begun else {})
    return Situation(recipe, Adjustments(augment=augment), remedy_history)


def test_augmentation_follows_the_rule_of_ada_as_simulated_by_hand() -> None:
    at = augmented(0.2)
    probability = 0.2
    gaps = [TARGET + 0.3, TARGET + 0.1, TARGET - 0.1, TARGET + 0.4, float("nan"), TARGET - 0.4]
    for gap in gaps:
        if gap == gap:
            probability += 25_000 / RAMP * (1 if gap > TARGET else -1)
        at = replace(at, adjustments=adapted_augmentation(at, gap, 25_000, 100 * RAMP))
        assert at.recipe.augment.probability + at.adjustments.augment == pytest.approx(probability)
    assert probability == pytest.approx(0.25)


def test_adaptive_augmentation_stays_between_nothing_and_where_it_leaks_and_is_faster_in_short_runs() -> None:
    for gap, end in ((1.0, MOST_AUGMENTED), (-1.0, 0.0)):
        at = augmented(0.2)
        for _ in range(100):
            at = replace(at, adjustments=adapted_augmentation(at, gap, 25_000, 100 * RAMP))
        assert 0.2 + at.adjustments.augment == pytest.approx(end)
    quick = adapted_augmentation(augmented(0.2), 1.0, 100, 4_000)
    assert quick.augment == pytest.approx(0.1), "a quarter of the budget is 1,000 samples"
    assert adapted_augmentation(augmented(0.2, is_begun=False), 1.0, 100, 4_000) == Adjustments()


def test_without_kinds_of_augmentation_overfitting_has_no_remedy_within_the_run() -> None:
    assert isinstance(treatment(diagnosed("discriminator-overfitting"), situation()), NoTreatment)
    assert done("discriminator-overfitting", augmented(0.2, is_begun=False)).adjustments.augment > 0
    leaking = done("augmentation-leak", augmented(0.4, 0.2))
    assert 0.4 + leaking.adjustments.augment == pytest.approx(0.3)


def diagnosis(condition: Condition, confidence: Confidence) -> Diagnosis:
    return Diagnosis(condition=condition, since=100, confidence=confidence, evidence="It was staged.")


def test_a_cause_is_treated_before_what_follows_from_it_once_anything_is_sure() -> None:
    collapse, rate = diagnosis("mode-collapse", "likely"), diagnosis("rate-too-high", "possible")
    maybe = diagnosis("cycling", "possible")
    assert to_treat([collapse, maybe, rate], start=100) == [rate, collapse]
    assert to_treat([collapse, maybe, rate], start=99) == [collapse], "it followed from something else"
    weak = diagnosis("discriminator-too-weak", "possible")
    assert to_treat([collapse, weak], start=99) == [weak, collapse]
    for certain in ("nothing-more-to-gain", "non-finite"):
        assert to_treat([diagnosis(certain, "certain"), weak]) == [], "it has a verdict of its own"
    leak = diagnosis("augmentation-leak", "likely")
    assert to_treat([leak, weak]) == [leak], "nothing follows from what is only possible"
    assert to_treat([diagnosis("mode-collapse", "possible"), rate]) == []
    assert to_treat([]) == []
