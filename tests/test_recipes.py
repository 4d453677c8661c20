"""Named recipes: every one is listed, can be built for any data, and its networks fit each other."""

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
import torch

from equipoise.data.splits import Splits
from equipoise.errors import Near, Option, UserError
from equipoise.nets.players import make_players
from equipoise.recipe import (
    Augment,
    Custom,
    Images,
    Points,
    Recipe,
    SuperResolution,
    checked,
    from_dict,
    to_dict,
    with_settings,
)
from equipoise.recipes import (
    NAMES,
    Facts,
    RecipeName,
    build,
    checked_name,
    listing,
    listing_values,
    named,
    recipe_for,
    usual,
)
from equipoise.sizes import evenly_halved, size_of
from equipoise.tasks import points

SIZES = (8, 9, 17, 28, 32, 64, 100, 256)


def every_recipe(name: RecipeName) -> list[tuple[Facts, Recipe]]:
    """Return a recipe for images of every size and number, on every machine."""
    every = [
        Facts(size=size, channels=channels, num_train=num, is_cpu=is_cpu)
        for size in SIZES
        for channels, num in ((1, 60_000), (3, 500))
        for is_cpu in (True, False)
    ]
    return [(facts, build(name, facts)) for facts in every]


def test_every_name_is_listed_with_its_paper_purpose_and_result() -> None:
    text = listing()
    for name in NAMES:
        assert f"\n\n{name}\n" in f"\n\n{text}"
        assert named(name).about.paper in " ".join(text.split())
        assert named(name).about.purpose
        assert named(name).about.whom in " ".join(text.split())
        assert named(name).about.result
    assert max(map(len, text.splitlines())) <= 80
    assert [values["name"] for values in json.loads(json.dumps(listing_values()))] == list(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_is_valid_for_every_image_and_machine(name: RecipeName) -> None:
    for facts, recipe in every_recipe(name):
        assert recipe.name == name
        assert checked(recipe) == recipe
        assert from_dict(to_dict(recipe)) == recipe
        assert isinstance(recipe.task, Images)
        assert recipe.task.size in (None, 28, 64) or (
            (recipe.networks.growing or recipe.networks.stacked)
            and recipe.task.size == max(evenly_halved(size_of(facts.size)).given, 16 if recipe.networks.stacked else 8)
        ), "a fixed size is that of the paper, or the nearest that can be halved"
        assert recipe.networks.width >= 8, facts


@pytest.mark.parametrize("name", NAMES)
def test_the_networks_of_a_recipe_can_be_built_for_every_image(name: RecipeName) -> None:
    for facts, recipe in every_recipe(name):
        if facts.channels == 1 or facts.size in (9, 32, 100):
            continue
        assert isinstance(recipe.task, Images)
        size = recipe.task.size or facts.size
        with torch.device("meta"):
            players = make_players(recipe.networks, size=size, channels=facts.channels, num_classes=0)
        assert all(next(player.parameters()).is_meta for player in players)


@pytest.mark.parametrize("name", NAMES)
def test_the_networks_of_a_recipe_fit_each_other(name: RecipeName) -> None:
    networks = dataclasses.replace(build(name, Facts(size=16, channels=3, num_train=500)).networks, width=8)
    torch.manual_seed(0)
    generator, discriminator = make_players(networks, size=16, channels=3, num_classes=0)
    images = generator(torch.randn(4, networks.latent_size), None)
    assert images.shape == (4, 3, 16, 16)
    assert bool((images.abs() <= (8 if name in ("stylegan2", "r3gan") else 4)).all())  # wide, and no tanh at the end
    assert discriminator(images, None).shape == ((4, 2) if networks.pretrained else (4,))


@pytest.mark.parametrize("name", NAMES)
def test_turning_off_the_penalty_and_the_augmentation_takes_what_the_refusals_say(name: RecipeName) -> None:
    off = ["game.penalty.kind=none", "game.penalty.gamma=0", "game.penalty.gamma_end=none"]
    off += ["augment.kinds=", "augment.probability=0"]
    for _, recipe in every_recipe(name):
        assert with_settings(recipe, off).augment == Augment()


def test_few_images_are_augmented_by_the_default_recipe_and_many_are_not() -> None:
    assert build("modern", Facts(num_train=500)).augment.probability > 0
    assert build("modern", Facts(num_train=60_000)).augment.probability == 0
    assert "color" not in build("modern", Facts(num_train=500, channels=1)).augment.kinds


def test_photographs_are_told_groups_where_there_are_enough_and_always_augmented() -> None:
    for num, groups, probability in ((150, 0, 1.0), (400, 5, 1.0), (4_000, 50, 1.0), (60_000, 50, 1.0)):
        recipe = build("photos", Facts(size=64, channels=3, num_train=num))
        assert (recipe.networks.groups, recipe.augment.probability) == (groups, probability)
    assert recipe.networks.pretrained
    assert not build("photos", Facts(channels=4)).networks.pretrained, "it sees no opacity"


def test_who_names_no_recipe_gets_the_one_that_was_measured_to_draw_these_images_better() -> None:
    colour = Facts(size=64, channels=3, num_train=500)
    assert usual(colour) == usual(dataclasses.replace(colour, size=32), Images()) == "photos"
    assert recipe_for(None, colour, None) == build("photos", colour)
    others: list[dict[str, Any]] = [
        {"channels": 1},
        {"channels": 4},  # it sees no opacity
        {"size": 28},
        {"size": 128},
        {"is_cpu": False},
        {"has_pretrained": False},
    ]
    for other in others:
        assert usual(dataclasses.replace(colour, **other)) == "modern", other
    for task in (Points(), SuperResolution(), Custom(name="mine")):
        assert usual(colour, task) == "modern"


def test_classes_that_are_asked_for_take_the_place_of_groups_unless_both_are() -> None:
    recipe = build("photos", Facts(size=64, channels=3, num_train=4_000))
    assert recipe.networks.groups == 50
    assert with_settings(recipe, ["networks.conditional=true"]).networks.groups == 0
    assert with_settings(recipe, ["networks.conditional=false"]).networks.groups == 50
    assert with_settings(recipe, ["networks.conditional=true", "networks.groups=20"]).networks.groups == 20


def test_a_wrong_name_is_refused_with_the_nearest_and_all_others() -> None:
    assert checked_name("wgan-gp") == "wgan-gp"
    with pytest.raises(UserError) as caught:
        checked_name("wgan_gp")
    assert (caught.value.subject, caught.value.remedies) == (Option("recipe", "wgan_gp"), (Near("wgan-gp"),))
    assert all(name in caught.value.problem for name in NAMES)


@pytest.mark.parametrize("task", [Points(deviation=0.2), SuperResolution(scale=2), Custom(name="mine")], ids=str)
@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_is_valid_for_every_task_and_keeps_its_loss(name: RecipeName, task: Any) -> None:
    for is_cpu in (True, False):
        facts = Facts(num_train=500, is_cpu=is_cpu)
        of_images = build(name, facts)
        recipe = build(name, facts, task)
        assert recipe.task == task
        assert checked(recipe) == recipe
        assert from_dict(to_dict(recipe)) == recipe
        assert recipe.game.loss == of_images.game.loss
        if not isinstance(task, Custom):
            assert recipe.augment == Augment(), "these are for images"


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_for_points_fits_what_points_can_do(name: RecipeName) -> None:
    recipe = build(name, Facts(), Points())
    source = points.PointSource("ring", torch.zeros(500, 2), every_tenth(500), None, torch.device("cpu"))
    recipe = dataclasses.replace(recipe, game=dataclasses.replace(recipe.game, batch=64))
    assert source.settled(recipe) == recipe
    assert recipe.game.penalty.every == 1
    assert recipe.game.penalty.kind == build(name, Facts()).game.penalty.kind


def every_tenth(num: int) -> Splits:
    """Return splits that hold out a tenth for validation and a tenth for the test."""
    places = np.arange(num)
    return Splits(places[places % 10 > 1], places[places % 10 == 0], places[places % 10 == 1])


def test_without_a_task_a_recipe_is_for_images() -> None:
    for task in (None, Images(flip=True)):
        assert isinstance(build("modern", Facts(), task).task, Images)
    assert build("dcgan-64", Facts(), Images()).task == Images(size=64), "a fixed size is that of the paper"
