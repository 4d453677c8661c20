"""Recipes: every wrong value is refused in one line that helps, every right one survives a journey through JSON."""

import dataclasses
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from equipoise.errors import UserError
from equipoise.recipe import (
    Augment,
    Budget,
    Game,
    Networks,
    Penalty,
    Player,
    Recipe,
    checked,
    from_dict,
    parsed_budget,
    refuse_idle_augmentation,
    to_dict,
    with_settings,
)


def refused(*settings: str) -> str:
    with pytest.raises(UserError) as error:
        with_settings(Recipe(), settings)
    message = str(error.value)
    assert "\n" not in message
    return message


def test_a_setting_changes_its_field_and_nothing_else() -> None:
    changed = with_settings(Recipe(), ["game.penalty.every=4"])
    expected = dataclasses.replace(
        Recipe(), game=dataclasses.replace(Recipe().game, penalty=dataclasses.replace(Recipe().game.penalty, every=4))
    )
    assert changed == expected


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("data.size=none", None),
        ("data.size=32", 32),
        ("augment.kinds=flip,color", ("flip", "color")),
        ("augment.kinds=", ()),
        ("networks.conditional=true", True),
        ("game.weight_clip=0.01", 0.01),
        ("game.loss=hinge", "hinge"),
        ("seed=7", 7),
    ],
)
def test_settings_are_read_as_the_type_of_their_field(setting: str, value: object) -> None:
    beside = ["augment.strength=0.5"] if setting == "augment.kinds=flip,color" else []
    node: object = with_settings(Recipe(), [setting, *beside])
    for key in setting.partition("=")[0].split("."):
        node = getattr(node, key)
    assert node == value
    assert type(node) is type(value)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("game.penalty.gama=1", ["gama", 'Did you mean "game.penalty.gamma"?']),
        ("game.penalty=1", ["group", "game.penalty.kind"]),
        ("game.generator.rate=-1", ["game.generator.rate=-1", "> 0"]),
        ("game.generator.rate=nan", ["nan"]),
        ("game.generator.rate=inf", ["inf", "finite"]),
        ("game.generator.rate=fast", ["fast", "a number"]),
        ("game.loss=hing", ["hing", "non-saturating", 'Did you mean "hinge"?']),
        ("augment.kinds=flop", ["flop", 'Did you mean "flip"?']),
        ("data.size=7", ["7", ">= 8"]),
        ("data.size=300", ["300", "<= 256"]),
        ("seed=1.5", ["1.5", "whole number"]),
        ("seed=-1", ["-1"]),
        ("networks.conditional=maybe", ["maybe", "true or false"]),
        ("device=gpu", ["gpu", "cuda"]),
        ("gamma", ["expected FIELD=VALUE"]),
        ("seed.low=1", ["single value"]),
        ("=3", ["no field"]),
        ("game.batch=1", [">= 2"]),
        ("game.label_smoothing=0.5", ["0.5"]),
        ("stopping.alpha=0", ["stopping.alpha=0:", "a number >"]),
        ("stopping.alpha=0.5", ["stopping.alpha=0.5", "< 0.5"]),
        ("stopping.alpha=-0.05", ["-0.05", "a number >"]),
        ("stopping.alpha=nan", ["nan", "number"]),
        ("stopping.alpha=five", ["five", "a number"]),
        ("stopping.delta=0", ["stopping.delta=0", "> 0"]),
        ("stopping.delta=nan", ["nan", "number"]),
        ("stopping.price=0", ["stopping.price=0", "> 0"]),
        ("stopping.price=-1", ["-1", "> 0"]),
        ("stopping.price=nan", ["nan", "number"]),
        ("stopping.price=inf", ["inf", "finite"]),
        ("stopping.share=-0.1", ["-0.1", ">= 0"]),
        ("stopping.share=nan", ["nan", "number"]),
        ("stopping.boundary=pocock", ["pocock", "alpha-spending", "normal-mixture"]),
        ("stopping.boundary=alpha-spendin", ['Did you mean "alpha-spending"?']),
        ("stopping.boundary=", ["alpha-spending", "normal-mixture"]),
        ("stopping.policy=evidenz", ["evidence", "patience", 'Did you mean "evidence"?']),
        ("stopping.patience=0", [">= 1"]),
        ("stopping.prise=0.1", ["prise", 'Did you mean "stopping.price"?']),
    ],
)
def test_a_wrong_setting_is_refused_with_what_is_allowed(setting: str, words: list[str]) -> None:
    message = refused(setting)
    for word in words:
        assert word in message


def test_splits_that_leave_nothing_to_train_on_are_refused() -> None:
    assert "nothing to train on" in refused("data.validation=0.6", "data.test=0.4")


def test_a_gradient_penalty_under_batch_norm_in_the_discriminator_is_refused() -> None:
    assert "batch norm" in refused("game.penalty.kind=r1", "networks.discriminator_norm=batch")


@pytest.mark.parametrize(
    ("settings", "received", "remedy"),
    [
        (["game.label_smoothing=0.1", "game.loss=hinge"], "hinge has no label", "game.label_smoothing=0"),
        (["game.penalty.kind=r1"], "game.penalty.kind=r1", "game.penalty.gamma=0.5"),
        (["game.penalty.kind=wgan-gp", "game.penalty.gamma_end=0"], "wgan-gp", "game.penalty.gamma=10"),
    ],
)
def test_settings_without_effect_are_refused_with_one_that_gives_them_effect(
    settings: list[str], received: str, remedy: str
) -> None:
    message = refused(*settings)
    assert received in message
    assert f"--set {remedy}" in message
    with_settings(Recipe(), [*settings, remedy])


@pytest.mark.parametrize(
    ("augment", "remedy"),
    [(Augment(strength=0.7), "augment.kinds=translation,cutout"), (Augment(kinds=("flip",)), "augment.strength=0.5")],
)
def test_an_augmentation_without_effect_is_refused_once_the_data_are_known(augment: Augment, remedy: str) -> None:
    checked(Recipe(augment=augment))  # few images may still bring kinds of their own
    with pytest.raises(UserError, match=f"--set {remedy}"):
        refuse_idle_augmentation(augment)


def test_settings_that_have_effect_only_together_may_come_in_any_order() -> None:
    for settings in (
        ["augment.strength=0.7", "augment.kinds=flip"],
        ["game.penalty.gamma=1", "game.penalty.kind=r1"],
        ["game.penalty.kind=r1", "game.penalty.gamma_end=1"],
        ["game.label_smoothing=0.1", "game.loss=minimax"],
    ):
        assert with_settings(Recipe(), settings) == with_settings(Recipe(), settings[::-1])


def test_a_threshold_on_logits_that_are_no_probability_is_refused() -> None:
    assert "non-saturating" in refused("stopping.policy=discriminator-threshold")
    allowed = with_settings(Recipe(), ["stopping.policy=discriminator-threshold", "game.loss=non-saturating"])
    assert allowed.stopping.policy == "discriminator-threshold"


@pytest.mark.parametrize(
    "setting", ["stopping.alpha=0.49", "stopping.share=0", "stopping.price=0.001", "stopping.boundary=normal-mixture"]
)
def test_settings_of_the_evidence_at_the_edge_of_what_is_allowed_are_taken(setting: str) -> None:
    name, _, value = setting.removeprefix("stopping.").partition("=")
    assert str(getattr(with_settings(Recipe(), [setting]).stopping, name)) in (value, f"{value}.0")


def test_a_penalty_is_switched_off_by_its_kind_alone() -> None:
    switched = with_settings(Recipe(game=Game(penalty=Penalty(kind="r1", gamma=1.0))), ["game.penalty.kind=none"])
    assert switched.game.penalty.kind == "none"


def test_a_recipe_built_in_python_is_checked_too() -> None:
    for wrong in (
        Recipe(game=Game(generator=Player(rate=math.nan))),
        Recipe(game=Game(generator=Player(rate=-1.0))),
        Recipe(game=Game(batch=0)),
        Recipe(budget=Budget(samples=None, seconds=None)),
        Recipe(budget=Budget(samples=5, seconds=5.0)),
        Recipe(budget=Budget(samples=2**53 + 1, seconds=None)),
        Recipe(game=Game(label_smoothing=0.1, loss="hinge")),
    ):
        with pytest.raises(UserError):
            checked(wrong)


@given(
    seed=st.integers(0, 2**63 - 1),
    gamma=st.floats(1e-9, 1e6),
    rate=st.floats(1e-12, 10),
    width=st.integers(4, 4096),
    kinds=st.lists(st.sampled_from(["flip", "color", "cutout"]), max_size=3),
)
def test_every_recipe_survives_json(seed: int, gamma: float, rate: float, width: int, kinds: list[str]) -> None:
    recipe = Recipe(
        seed=seed,
        networks=Networks(width=width),
        game=Game(penalty=Penalty(kind="r1", gamma=gamma), generator=Player(rate=rate)),
    )
    recipe = with_settings(recipe, [f"augment.kinds={','.join(kinds)}", f"augment.strength={0.5 if kinds else 0}"])
    assert from_dict(json.loads(json.dumps(to_dict(recipe)))) == recipe


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(), lambda inner: st.dictionaries(st.text(), inner)
    ).filter(lambda values: values != {})
)
def test_any_other_json_value_is_refused_in_one_line(values: object) -> None:
    with pytest.raises(UserError) as error:
        from_dict(values)  # type: ignore[arg-type]
    assert len(str(error.value).splitlines()) == 1


@given(st.text())
def test_any_text_as_a_setting_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(UserError) as error:
        with_settings(Recipe(), [text])
    assert len(str(error.value).splitlines()) == 1


def test_unknown_keys_of_a_file_are_named() -> None:
    values = to_dict(Recipe())
    values["game"]["penalti"] = {}
    with pytest.raises(UserError, match=r'game\.penalti.*Did you mean "penalty"'):
        from_dict(values)


@pytest.mark.parametrize(
    ("text", "samples", "seconds"),
    [
        ("90s", None, 90.0),
        ("10m", None, 600.0),
        ("2h", None, 7200.0),
        ("1.5h", None, 5400.0),
        ("60k", 60_000, None),
        ("2M", 2_000_000, None),
        ("5000", 5000, None),
        ("2.5k", 2500, None),
    ],
)
def test_budgets_are_times_or_samples(text: str, samples: int | None, seconds: float | None) -> None:
    assert parsed_budget(text) == Budget(samples=samples, seconds=seconds)


@pytest.mark.parametrize("text", ["", "0", "-5m", "ten minutes", "10d", "m", "nan", "inf", "0.1", "0s", "1e3"])
def test_other_budgets_are_refused_with_an_example(text: str) -> None:
    with pytest.raises(UserError, match=r"--budget .*Try: --budget"):
        parsed_budget(text)


@pytest.mark.parametrize("unit", ["", "k", "M", "s", "m", "h"])
@pytest.mark.parametrize("digits", ["9" * 400, "1" + "0" * 16])
def test_budgets_beyond_what_can_be_counted_are_refused_and_do_not_overflow(digits: str, unit: str) -> None:
    with pytest.raises(UserError, match=r"more than can be counted\. Try: --budget") as error:
        parsed_budget(digits + unit)
    assert len(str(error.value)) < 120


def test_the_largest_budget_is_read_exactly() -> None:
    assert parsed_budget(str(2**53)) == Budget(samples=2**53, seconds=None)
