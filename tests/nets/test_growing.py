"""Growing networks: the level by samples, each stage as a network of its own, and the mix while one fades in."""

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from equipoise.errors import Option, Setting, UserError
from equipoise.game.ema import update_ema
from equipoise.nets.growing import Level, doubled, set_levels
from equipoise.nets.layers import halved
from equipoise.nets.players import make_players
from equipoise.recipe import FamilyName, Images, Networks, Recipe
from equipoise.recipes.stages import stages_of

GROWING: tuple[FamilyName, ...] = ("dcgan", "resnet", "modern")
LATENT_SIZE = 5
Size = int | tuple[int, int]


def grown(family: FamilyName, size: Size = 32, growing: int = 1_000, **options: Any) -> tuple[Any, Any]:
    """Return players with weights that are not at their start, where much is zero."""
    torch.manual_seed(0)
    num_classes = options.pop("num_classes", 0)
    norm = "none" if family == "modern" else "batch"
    made: dict[str, Any] = {"family": family, "width": 8, "latent_size": LATENT_SIZE, "generator_norm": norm, **options}
    players = make_players(Networks(**made, growing=growing), size=size, channels=2, num_classes=num_classes)
    with torch.no_grad():
        for parameter in itertools.chain(*(player.parameters() for player in players)):
            parameter.add_(0.05 * torch.randn(parameter.shape))
    return players[0].eval(), players[1].eval()


def at(level: float, *players: Any) -> None:
    for player in players:
        player.level.level.fill_(level)


@pytest.mark.parametrize(
    ("samples", "level"),
    [(0, 0), (999, 0), (1_000, 0), (1_250, 0.5), (1_500, 1), (2_000, 1), (2_125, 1.25), (2_500, 2), (10**9, 2)],
)
def test_the_level_is_a_function_of_the_samples_alone(samples: int, level: float) -> None:
    found = Level(3, 1_000)
    for before in (0, 5_000, 1_300):  # wherever it was before, as after a remedy that goes back
        found.reach(before)
        found.reach(samples)
        assert found.level.item() == level


def test_without_fading_a_stage_comes_in_at_once() -> None:
    level = Level(2, 1_000, fades=False)
    assert [level.at(samples) for samples in (0, 999, 1_000, 2_000, 10_000)] == [0, 0, 1, 1, 1]


@pytest.mark.parametrize("family", GROWING)
def test_networks_that_do_not_grow_have_no_level(family: FamilyName) -> None:
    for player in grown(family, growing=0):
        assert not [name for name in player.state_dict() if "level" in name or "ex" in name.split(".")[0]]


def pieces_of(player: nn.Module, plain: nn.Module, is_generator: bool, stage: int) -> dict[str, Tensor]:
    """Return the weights of the plain network of a stage from where they are in a grown one of three stages."""
    weights = player.state_dict()
    above = 2 - stage
    found = {}
    for name in plain.state_dict():
        first, _, rest = name.partition(".")
        index, _, last = rest.partition(".")
        source = name
        if is_generator and above:
            if first == "upwards" and int(index) == stage:
                source = f"exits.{stage}.{last}"
            elif first in ("to_pixels", "norm"):  # one layer, or a norm and a layer
                source = f"exits.{stage}.{name}" if f"exits.{stage}.{name}" in weights else f"exits.{stage}.{rest}"
        elif above:
            if first == "from_pixels":
                source = f"entries.{above - 1}.{rest}"
            elif first in ("downwards", "blocks") and index == "0":
                source = f"entries.{above - 1}.{last}"
            elif first in ("downwards", "blocks", "stages", "transitions"):
                source = f"{first}.{int(index) + above}.{last}"
        found[name] = weights[source]
    return found


@pytest.mark.parametrize("stage", [0, 1, 2])
@pytest.mark.parametrize("family", GROWING)
def test_at_a_whole_level_both_are_the_plain_networks_of_that_side(family: FamilyName, stage: int) -> None:
    generator, discriminator = grown(family, minibatch_deviation=True)
    side = 8 * 2**stage
    width = 8 * 2 ** (2 - stage)
    norm: Any = "none" if family == "modern" else "batch"
    made: dict[str, Any] = {"family": family, "width": width, "latent_size": LATENT_SIZE, "generator_norm": norm}
    plain = make_players(Networks(**made, minibatch_deviation=True), size=side, channels=2, num_classes=0)
    plain[0].load_state_dict(pieces_of(generator, plain[0], True, stage))
    plain[1].load_state_dict(pieces_of(discriminator, plain[1], False, stage))
    at(stage, generator, discriminator)
    latents = torch.randn(3, LATENT_SIZE)
    picture = plain[0].eval()(latents)
    assert picture.shape == (3, 2, side, side)
    torch.testing.assert_close(generator(latents), doubled(picture, 2 - stage))
    images = torch.randn(3, 2, 32, 32)
    seen = images
    for _ in range(2 - stage):
        seen = halved(seen)
    torch.testing.assert_close(discriminator(images), plain[1].eval()(seen))


@pytest.mark.parametrize("size", [32, (64, 32), (24, 40)])
@pytest.mark.parametrize("family", GROWING)
def test_while_a_stage_fades_in_the_picture_is_the_linear_mix_of_two(family: FamilyName, size: Size) -> None:
    generator, discriminator = grown(family, size)
    width, height = (size, size) if isinstance(size, int) else size
    latents = torch.randn(2, LATENT_SIZE)
    pictures = []
    for level in (0, 1, 0.25):
        at(level, generator, discriminator)
        pictures.append(generator(latents))
        assert pictures[-1].shape == (2, 2, height, width)
        assert discriminator(pictures[-1]).shape == (2,)
    torch.testing.assert_close(pictures[2], 0.75 * pictures[0] + 0.25 * pictures[1])
    for stage, picture in ((0, pictures[0]), (1, pictures[1])):
        squares = picture
        for _ in range(generator.level.top - stage):
            squares = halved(squares)
        torch.testing.assert_close(doubled(squares, generator.level.top - stage), picture)


@pytest.mark.parametrize("family", GROWING)
def test_while_a_stage_fades_in_the_features_are_the_linear_mix_of_two(family: FamilyName) -> None:
    _, discriminator = grown(family)
    images = torch.randn(2, 2, 32, 32)
    level = discriminator.level
    found = []
    for share in (0.0, 1.0, 0.25):
        at(1 + share, discriminator)
        stages: list[int] = []

        def lower(stage: int, features: Tensor, stages: list[int] = stages) -> Tensor:
            stages.append(stage)
            return discriminator._lower(stage, features) if stage == 1 else features

        found.append(level.judged(images, discriminator._entry, lower))
        assert stages == ([1, 2] if share else [2])
    torch.testing.assert_close(found[2], 0.75 * found[0] + 0.25 * found[1])


@pytest.mark.parametrize("family", GROWING)
def test_what_has_not_come_in_yet_gets_no_gradient_and_all_else_does(family: FamilyName) -> None:
    generator, discriminator = grown(family, num_classes=3)
    reached: list[set[str]] = []
    for level in (0, 0.5, 1, 2):
        at(level, generator, discriminator)
        labels = torch.tensor([0, 1, 2, 0])
        generator.zero_grad()
        discriminator.zero_grad()
        generator.train()
        discriminator(generator(torch.randn(4, LATENT_SIZE), labels), labels).square().sum().backward()
        players = (("G", generator), ("D", discriminator))
        named = [(f"{role}.{name}", weight) for role, p in players for name, weight in p.named_parameters()]
        reached.append({name for name, weight in named if weight.grad is not None})
    assert reached[0] < reached[1]
    assert reached[2] < reached[1]
    assert not any("exits" in name or "entries" in name for name in reached[3])
    assert set().union(*reached) == {name for name, _ in named}


def test_an_average_is_as_far_grown_as_its_network() -> None:
    generator, _ = grown("dcgan")
    average, _ = grown("dcgan")
    set_levels(1_250, generator)
    assert average.level.level.item() == 2
    update_ema(average, generator, 0.9)
    assert average.level.level.item() == 0.5


@pytest.mark.parametrize("pretrained", [False, True])
def test_a_level_is_set_wherever_the_network_that_grows_stands(pretrained: bool) -> None:
    networks = Networks(family="dcgan", width=8, latent_size=4, growing=100, pretrained=pretrained)
    with torch.device("meta"):  # its value is a number also where there are none
        players = make_players(networks, size=16, channels=1, num_classes=0)
        set_levels(0, *players)
    levels = [module.level.item() for player in players for module in player.modules() if isinstance(module, Level)]
    assert levels == [0, 0]


@pytest.mark.parametrize(
    ("size", "even"), [(28, 32), (9, 8), (17, 16), (100, 96), ((40, 30), "40x32"), ((33, 9), "32x8")]
)
def test_a_size_whose_halves_are_not_whole_is_refused_with_the_nearest_one_that_has_such(size: Size, even: Any) -> None:
    with pytest.raises(UserError) as caught:
        make_players(Networks(family="dcgan", growing=100), size=size, channels=1, num_classes=0)
    assert caught.value.subject == Setting("networks.growing", 100)
    assert caught.value.remedies == (Option("size", even), Setting("networks.growing", 0))


def test_growing_is_refused_where_it_has_no_place() -> None:
    cases: list[tuple[dict[str, Any], Setting]] = [
        ({"family": "mlp"}, Setting("networks.family", "dcgan")),
        ({"family": "dcgan", "frozen": 1}, Setting("networks.frozen", 0)),
    ]
    for options, remedy in cases:
        with pytest.raises(UserError) as caught:
            make_players(Networks(**options, growing=100), size=32, channels=1, num_classes=0)
        assert remedy in caught.value.remedies


@pytest.mark.parametrize("family", ["dcgan", "resnet", "modern"])
@pytest.mark.parametrize("size", [8, 16, 32, (64, 32), 96])
def test_the_stages_that_the_settings_tell_are_those_of_the_networks(family: FamilyName, size: Any) -> None:
    norm = "none" if family == "modern" else "batch"
    networks = Networks(family=family, width=4, latent_size=4, generator_norm=norm, growing=100)
    generator, discriminator = make_players(networks, size=size, channels=1, num_classes=0)
    told = stages_of(Recipe(task=Images(size=size), networks=networks))
    for network in (generator, discriminator):
        (level,) = [module for module in network.modules() if isinstance(module, Level)]
        assert told == tuple(100 * stage for stage in range(1, level.top + 1))
