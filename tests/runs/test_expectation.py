"""What a budget pays for: the numbers in the sentence."""

import dataclasses
import re

from equipoise.recipe import Budget, Points, Recipe, with_settings
from equipoise.recipes import Facts, build, named
from equipoise.recipes.stages import stages_of
from equipoise.runs.expectation import expectation, expectation_of_rest


def numbers(text: str) -> list[str]:
    """Return the numbers and times of a sentence."""
    return re.findall(r"\d[\d,:]*\d|\d", text)


def test_of_a_time_budget_it_says_the_samples_and_when_the_result_of_the_table_is_reached():
    recipe = dataclasses.replace(build("modern", Facts(), None), budget=Budget(samples=None, seconds=300.0))
    shown = named("modern").about.samples
    assert shown is not None
    minutes, seconds = divmod(round(shown / 1149.0), 60)
    found = numbers(expectation(recipe, 1149.0, 327_450))
    assert found == ["1,100", "5:00", "330,000", f"{shown:,}", f"{minutes}:{seconds:02}"]


def test_of_a_budget_in_samples_it_says_the_time():
    recipe = dataclasses.replace(build("modern", Facts(), None), budget=Budget(samples=200_000, seconds=None))
    assert numbers(expectation(recipe, 100.0, 200_000))[:3] == ["100", "200,000", "33:20"]


def test_of_a_recipe_without_a_measured_result_it_says_nothing_more():
    time = Budget(samples=None, seconds=300.0)
    points = dataclasses.replace(build("modern", Facts(), Points()), budget=time)
    assert len(numbers(expectation(points, 1000.0, 300_000))) == 3
    assert len(numbers(expectation(Recipe(name="my own", budget=time), 1000.0, 300_000))) == 3


def test_of_a_recipe_that_is_not_for_digits_it_names_no_result_on_them():
    assert named("photos").about.samples is None
    recipe = dataclasses.replace(build("photos", Facts(), None), budget=Budget(samples=3_000, seconds=None))
    assert numbers(expectation(recipe, 10.0, 3_000)) == ["10", "3,000", "5:00"]


def test_a_budget_that_ends_before_pictures_have_their_full_size_is_told_with_what_to_type():
    recipe = with_settings(build("growing", Facts(size=64)), ["task.size=64"])
    assert stages_of(recipe) == (20_000, 40_000, 60_000)
    found = expectation(recipe, 100.0, 50_000)
    assert "ends in stage 3 of 4, before pictures have their full size" in found
    assert found.endswith("give it 80,000 samples or more, or shorten the stages with --set networks.growing=12500.")
    shorter = expectation(with_settings(recipe, ["networks.growing=12500"]), 100.0, 50_000)
    assert shorter.endswith("This is the speed of the first stage, whose pictures are small: later ones are slower.")
    stacked = with_settings(build("stackgan", Facts(size=64)), ["task.size=64"])
    assert "ends in stage 1 of 2" in expectation(stacked, 100.0, 20_000)
    assert "ends soon after the last stage has begun" in expectation(stacked, 100.0, 30_000)
    assert "stage" not in expectation(build("modern", Facts()), 100.0, 1_000)


def test_where_a_run_goes_on_it_says_what_is_left_and_what_that_pays_for():
    time = Recipe(budget=Budget(samples=None, seconds=600.0))
    assert numbers(expectation_of_rest(time, 1149.0, 327_450, 285.0)) == ["1,100", "4:45", "330,000"]
    samples = Recipe(budget=Budget(samples=900_000, seconds=None))
    assert numbers(expectation_of_rest(samples, 1149.0, 327_450, 285.0)) == ["1,100", "327,450", "4:45"]
