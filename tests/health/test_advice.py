"""What is advised: settings that the recipe takes, and words where there is none."""

from typing import get_args

import msgspec
import pytest
from trainings import points_recipe

from equipoise.health.advice import advice, suggested_settings
from equipoise.health.telling import told_all
from equipoise.recipe import Recipe, with_settings
from equipoise.storage.records import Condition, Diagnosis

changed = msgspec.structs.replace

RECIPES = (
    Recipe(),
    points_recipe(),
    points_recipe("game.penalty.kind=r1+r2", "game.penalty.gamma=0.2", "game.penalty.gamma_end=0.1"),
    points_recipe("game.discriminator_steps=15"),
    with_settings(Recipe(), ["augment.kinds=translation", "augment.probability=0.4"]),
)


@pytest.mark.parametrize("condition", get_args(Condition))
@pytest.mark.parametrize("recipe", RECIPES, ids=range(len(RECIPES)))
def test_what_is_advised_can_be_typed_and_changes_the_recipe(condition: Condition, recipe: Recipe) -> None:
    assert advice(condition).endswith(".")
    settings = [part for line in suggested_settings(condition, recipe) for part in line.split(" --set ")]
    text = advice(condition, recipe)
    assert all(setting in text for setting in settings)
    if settings:
        assert with_settings(recipe, settings) != recipe


def test_a_run_that_goes_on_is_offered_to_act_where_that_changes_anything() -> None:
    collapsing = points_recipe("game.penalty.kind=none")
    assert "--remedies act" in advice("mode-collapse", collapsing)
    assert "--remedies act" not in advice("mode-collapse", with_settings(collapsing, ["remedies.attempts=0"]))
    for condition in ("memorization", "averaged-generator-worse", "divergence"):
        assert "--remedies act" not in advice(condition, collapsing)


def test_rates_are_advised_as_a_share_of_this_recipes() -> None:
    recipe = points_recipe("game.generator.rate=0.03", "game.generator.rate_end=none")
    assert "game.generator.rate=0.015" in suggested_settings("divergence", recipe)
    assert "game.generator.rate=0.0075" in suggested_settings("rate-too-high", recipe)


def test_advice_is_told_unless_remedies_act_or_are_off() -> None:
    found = [Diagnosis(condition="rate-too-high", since=100, confidence="likely", evidence="It was staged.")]
    for policy, is_told in (("suggest", True), ("act", False), ("off", False)):
        text = told_all(found, 20, points_recipe(f"remedies.policy={policy}"))
        assert ("--set" in text) == is_told
    assert "--set" not in told_all(found, 20)
    assert advice("rate-too-high") in told_all(found, 20)


def test_acting_is_offered_and_awaited_only_as_far_as_remedies_would_act() -> None:
    collapsing = ["game.penalty.kind=none"]
    likely = Diagnosis(condition="mode-collapse", since=100, confidence="likely", evidence="It was staged.")
    possible = changed(likely, confidence="possible")
    suggesting = points_recipe("remedies.policy=suggest", *collapsing)
    assert "--remedies act" in told_all([likely], 20, suggesting)
    assert "--remedies act" not in told_all([possible], 20, suggesting), "nothing is done about what is only possible"
    acting = points_recipe("remedies.policy=act", *collapsing)
    assert "--set" in told_all([possible], 20, acting), "who lets it act is not told less"
    assert "likely" in told_all([possible], 20, acting).partition("--set")[2]
    assert "--set" not in told_all([likely], 20, acting)
