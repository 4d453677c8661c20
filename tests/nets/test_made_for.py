"""What a recipe was made for is said at other sizes, and nowhere else."""

import dataclasses
from typing import Any

import pytest

from equipoise.nets.made_for import cost_note, size_note, step_cost
from equipoise.nets.players import make_players
from equipoise.recipe import Networks
from equipoise.recipes import NAMES, Facts, RecipeName, build, named
from equipoise.sizes import Size, size_of


def note(name: RecipeName, size: int) -> str:
    return size_note(build(name, Facts(size=size)), size_of(size))


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_says_what_it_was_made_for_at_other_sizes_alone(name: RecipeName) -> None:
    sizes = named(name).about.sizes
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
    assert getattr(generator, "sizes", None) == list(map(size_of, [5, 10, 20, 40]))


def test_other_networks_or_another_name_than_the_recipes_leave_nothing_to_say() -> None:
    recipe = build("dcgan", Facts())
    assert size_note(dataclasses.replace(recipe, name="mine"), size_of(40)) == ""
    other = dataclasses.replace(recipe.networks, family="resnet")
    assert size_note(dataclasses.replace(recipe, networks=other), size_of(40)) == ""


def test_a_step_costs_what_its_layers_multiply() -> None:
    pixels, hidden = 3 * 8 * 16, (16, 8, 4)
    generator = 2 * hidden[2] + hidden[2] * hidden[1] + hidden[1] * hidden[0] + hidden[0] * pixels
    discriminator = pixels * hidden[0] + hidden[0] * hidden[1] + hidden[1] * hidden[2] + hidden[2]
    networks = Networks(family="mlp", width=16, latent_size=2)
    assert step_cost(networks, Size(16, 8), 3) == generator + discriminator


def test_a_size_that_is_large_for_a_cpu_is_told_with_its_cost_and_others_are_not() -> None:
    networks = Networks(family="modern", width=16, latent_size=2)
    times = step_cost(networks, Size(512, 300), 3) / step_cost(networks, Size(64, 64), 3)
    assert f"{times:,.0f} times" in cost_note(networks, Size(512, 300), 3)
    assert cost_note(networks, Size(256, 256), 3) == ""


def test_a_rectangle_says_how_its_networks_grow() -> None:
    assert "5×4 → 10×8 → 20×15 → 40×30" in size_note(build("dcgan-64", Facts()), Size(40, 30))


@pytest.mark.parametrize(
    "options", [{"scales": 5}, {"frozen": 5}, {"growing": 1_000}, {"stacked": 1_000}, {"attention": 128}], ids=str
)
def test_a_large_size_is_told_with_its_cost_whatever_fits_it_but_not_64_pixels(options: dict[str, Any]) -> None:
    networks = Networks(family="dcgan", width=8, latent_size=4, generator_norm="batch", **options)
    assert "times the arithmetic" in cost_note(networks, Size(512, 512), 1)
