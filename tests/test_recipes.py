"""Named recipes: every one is listed, can be built for any data, and its networks fit each other."""

import dataclasses
import json
import math
import re
from typing import Any, get_args

import numpy as np
import pytest
import torch
from torch.nn.utils import parametrizations

from equipoise.data.splits import Splits
from equipoise.errors import Near, Option, UserError
from equipoise.game.judged import judged
from equipoise.game.losses import loss_named
from equipoise.nets.players import make_players
from equipoise.recipe import (
    Augment,
    Custom,
    Images,
    LossName,
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
    OF_IMAGES,
    Facts,
    RecipeName,
    build,
    checked_name,
    listing,
    listing_values,
    named,
    note_of_task,
    recipe_for,
    usual,
)
from equipoise.recipes.formulas import LOSSES, PENALTIES
from equipoise.sizes import Size, evenly_halved, parsed_size, size_of
from equipoise.tasks import points

SIZES = (8, 9, 17, 28, 32, 64, 100, 256)
RECTANGLES = (Size(40, 30), Size(64, 20), Size(100, 20), Size(8, 40))


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
        assert recipe.task.size in (None, 28, 64), "a fixed size is that of the paper"
        assert recipe.networks.width >= 8, facts


@pytest.mark.parametrize("name", NAMES)
def test_the_networks_of_a_recipe_can_be_built_for_every_image(
    name: RecipeName, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of shapes alone, where no iteration over numbers has anything to find.
    monkeypatch.setattr(parametrizations._SpectralNorm, "_power_method", lambda *_: None)
    monkeypatch.setattr(torch.nn.init, "orthogonal_", lambda weight: weight)
    every = [(facts, size_of(facts.size), recipe) for facts, recipe in every_recipe(name)]
    for size in RECTANGLES:
        facts = Facts(size=size.side, channels=3, num_train=500, smaller=min(size))
        every.append((facts, size, build(name, facts)))
    for facts, given, recipe in every:
        if facts.channels == 1 or facts.size in (9, 32, 100):
            continue
        assert isinstance(recipe.task, Images)
        size = given if recipe.task.size is None else size_of(recipe.task.size)
        shape = {"size": size.given, "channels": facts.channels, "num_classes": 0}
        if (recipe.networks.growing and evenly_halved(size) != size) or (recipe.networks.stacked and min(size) < 9):
            with pytest.raises(UserError) as caught, torch.device("meta"):
                make_players(recipe.networks, **shape)
            (option,) = [one for one in caught.value.remedies if isinstance(one, Option)]
            shape |= {"size": parsed_size(str(option.value), option)}
        with torch.device("meta"):
            players = make_players(recipe.networks, **shape)
        assert all(next(player.parameters()).is_meta for player in players)


@pytest.mark.parametrize("name", NAMES)
def test_the_networks_of_a_recipe_fit_each_other(name: RecipeName) -> None:
    networks = dataclasses.replace(build(name, Facts(size=16, channels=3, num_train=500)).networks, width=8)
    torch.manual_seed(0)
    num_classes = 2 if networks.conditional else 0
    labels = torch.tensor([0, 1, 0, 1]) if networks.conditional else None
    generator, discriminator = make_players(networks, size=16, channels=3, num_classes=num_classes)
    images = generator(torch.randn(4, networks.latent_size), labels)
    assert images.shape == (4, 3, 16, 16)
    limit = 8 if name in ("stylegan2", "r3gan") else 4  # wide, and no tanh at the end
    assert bool((images.abs() <= limit).all())
    num_judges = networks.discriminators * networks.scales + networks.pretrained
    assert judged(discriminator(images, labels)).logits.shape == ((4, num_judges) if num_judges > 1 else (4,))


@pytest.mark.parametrize("name", NAMES)
def test_turning_off_the_penalty_and_the_augmentation_takes_what_the_refusals_say(name: RecipeName) -> None:
    off = ["game.penalty.kind=none", "game.penalty.gamma=0", "game.penalty.gamma_end=none"]
    off += ["augment.kinds=", "augment.probability=0"]
    for _, recipe in every_recipe(name):
        plain = with_settings(recipe, off)
        assert plain.augment == Augment()
        assert (plain.game.penalty.kind, plain.game.penalty.gamma, plain.game.penalty.gamma_end) == ("none", 0, None)


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
        if of_images.networks.autoencoder and not isinstance(task, Custom):
            with pytest.raises(UserError) as caught:
                build(name, facts, task)
            assert (caught.value.subject, caught.value.remedies) == (
                Option("recipe", name),
                (Option("recipe", "modern"),),
            )
            continue
        recipe = build(name, facts, task)
        assert recipe.task == task
        assert checked(recipe) == recipe
        assert from_dict(to_dict(recipe)) == recipe
        assert recipe.game.loss == of_images.game.loss
        if isinstance(task, Custom):
            terms = {name: getattr(recipe.game, name) for name in OF_IMAGES}
            assert terms == OF_IMAGES, "such a task has terms of its own"
        else:
            assert recipe.augment == Augment(), "these are for images"


@pytest.mark.parametrize("name", [name for name in NAMES if name != "ebgan"])
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


# What a recipe says of itself


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_says_its_mathematics_what_is_the_papers_and_what_is_not(name: RecipeName) -> None:
    about = named(name).about
    assert about.formulas
    assert about.papers.endswith(".")
    assert about.differs.endswith(".")
    assert all(len(line) <= 90 for line in about.formulas)


def value_of(formula: str, real: float, fake: float) -> float:
    """Return what the right side of a formula comes to at one logit of a real and one of a generated image."""
    python = formula.partition("=")[2]
    for written, meant in (
        ("D(G(z))", "fake"),
        ("D(x)", "real"),
        ("E(G(z))", "(-fake)"),
        ("E(x)", "(-real)"),
        ("½", "0.5*"),
        ("²", "**2"),
        ("−", "-"),
    ):
        python = python.replace(written, meant)
    python = re.sub(r"log σ\(([^()]*)\)", r"log(σ(\1))", python)
    names = {"real": real, "fake": fake, "log": math.log, "max": max, "m": 1.0, "σ": lambda t: 1 / (1 + math.exp(-t))}
    return eval(python, {"__builtins__": {}}, names)  # noqa: S307 of this package's own lines


@pytest.mark.parametrize("name", NAMES)
def test_the_formulas_of_a_recipe_are_those_of_its_loss_and_its_penalty(name: RecipeName) -> None:
    formulas = named(name).about.formulas
    for _, recipe in every_recipe(name):
        game = recipe.game
        loss = loss_named(game.loss, game.label_smoothing, margin=1.0)
        for real, fake in ((0.5, -1.25), (-2.0, -0.3), (1.5, 0.75)):
            pair = (torch.tensor([real]), torch.tensor([fake]))
            for player, function in (("L_D =", loss.discriminator), ("L_G =", loss.generator)):
                (formula,) = (line for line in formulas if line.startswith(player))
                assert value_of(formula, real, fake) == pytest.approx(function(*pair).item(), rel=1e-5), formula
        if game.penalty.kind != "none":
            assert PENALTIES[game.penalty.kind] in formulas
        else:
            assert not set(PENALTIES.values()) & set(formulas)


def test_every_loss_that_can_be_named_has_its_formulas() -> None:
    without = {"custom", "relativistic-average"}  # the last one has means over a batch
    assert LOSSES.keys() == set(get_args(LossName)) - without


def test_data_that_leave_out_networks_of_a_recipe_say_so() -> None:
    assert note_of_task(build("acgan", Facts(), Points())) == (
        "Of the recipe acgan, points take the loss, the packing, the kinds of penalty and optimizer, and the order of "
        "the steps; networks, rates and all else are for this task."
    )
    assert "super-resolution takes the loss" in note_of_task(build("mlp-classic", Facts(), SuperResolution()))
    assert note_of_task(build("acgan", Facts())) == ""
    assert note_of_task(dataclasses.replace(build("acgan", Facts(), Points()), name="mine")) == ""


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"ebgan"}))
def test_what_points_are_said_to_take_of_a_recipe_is_what_they_take(name: RecipeName) -> None:
    ours, theirs = build(name, Facts(), Points()).game, named(name).recipe(Facts()).game
    assert (ours.loss, ours.packing, ours.penalty.kind) == (theirs.loss, theirs.packing, theirs.penalty.kind)
    for one, other in ((ours.generator, theirs.generator), (ours.discriminator, theirs.discriminator)):
        assert one.optimizer == other.optimizer
    assert (ours.update, ours.discriminator_steps) == (theirs.update, theirs.discriminator_steps)
    of_super = build(name, Facts(), SuperResolution()).game
    assert (of_super.loss, of_super.update) == (theirs.loss, theirs.update)
