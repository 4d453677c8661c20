"""What a recipe was made for is said at other sizes, and nowhere else."""

import dataclasses

import pytest

from equipoise.nets.made_for import size_note
from equipoise.nets.players import make_players
from equipoise.recipes import ABOUT, Facts, RecipeName, build


def note(name: RecipeName, size: int) -> str:
    return size_note(build(name, Facts(size=size)), size)


@pytest.mark.parametrize("name", ABOUT)
def test_a_recipe_says_what_it_was_made_for_at_other_sizes_alone(name: RecipeName) -> None:
    sizes = ABOUT[name].sizes
    assert [note(name, size) for size in sizes] == [""] * len(sizes)
    assert bool(note(name, 40)) == bool(sizes)
    assert name in note(name, 40) or not sizes


def test_a_recipe_for_64_pixels_says_at_40_how_its_networks_differ() -> None:
    text = note("dcgan-64", 40)
    assert "64 × 64" in text
    assert "40 × 40" in text
    assert "3 → 5 → 10 → 20 → 40" in text
    assert "4 → 8 → 16 → 32 → 64" in text
    assert "1,600" in note("mlp-classic", 40)


def test_what_is_said_of_the_networks_is_what_they_are() -> None:
    generator, _ = make_players(build("dcgan-64", Facts()).networks, size=40, channels=3, num_classes=0)
    assert getattr(generator, "sizes", None) == [5, 10, 20, 40]


def test_other_networks_or_another_name_than_the_recipes_leave_nothing_to_say() -> None:
    recipe = build("dcgan", Facts())
    assert size_note(dataclasses.replace(recipe, name="mine"), 40) == ""
    other = dataclasses.replace(recipe.networks, family="resnet")
    assert size_note(dataclasses.replace(recipe, networks=other), 40) == ""
