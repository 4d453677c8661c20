"""Two stages: what each draws and sees, that the first stays as it is in the second, and what is refused."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from equipoise.errors import Option, Setting, UserError
from equipoise.nets.growing import set_levels
from equipoise.nets.layers import halved
from equipoise.nets.players import make_players
from equipoise.nets.stacked import StackedDiscriminator, StackedGenerator, small_size
from equipoise.recipe import FamilyName, Networks
from equipoise.sizes import size_of

FAMILIES: tuple[FamilyName, ...] = ("dcgan", "resnet", "modern")


def stacked(
    family: FamilyName = "dcgan", size: Any = 32, num_classes: int = 0, **options: Any
) -> tuple[StackedGenerator, StackedDiscriminator]:
    torch.manual_seed(0)
    made: dict[str, Any] = {"family": family, "width": 8, "latent_size": 5, "stacked": 100}
    made["generator_norm"] = "none" if family == "modern" else "batch"
    players = make_players(Networks(**(made | options)), size=size, channels=2, num_classes=num_classes)
    assert isinstance(players[0], StackedGenerator)
    assert isinstance(players[1], StackedDiscriminator)
    return players[0], players[1]


@pytest.mark.parametrize(
    ("size", "small"), [(64, 16), (32, 8), (28, 7), (16, 8), (9, 5), (17, 5), ((40, 30), (10, 8)), ((10, 64), (5, 32))]
)
def test_small_pictures_have_a_quarter_of_each_side_or_half_where_that_is_too_little(size: Any, small: Any) -> None:
    assert small_size(size) == size_of(small)


@pytest.mark.parametrize("num_classes", [0, 3])
@pytest.mark.parametrize("size", [9, 28, 32, (40, 30), (10, 64)])
@pytest.mark.parametrize("family", FAMILIES)
def test_both_stages_draw_and_judge_images_of_the_full_size(family: FamilyName, size: Any, num_classes: int) -> None:
    generator, discriminator = stacked(family, size, num_classes)
    labels = torch.tensor([0, 2]) if num_classes else None
    width, height = size_of(size)
    for samples in (0, 100):
        set_levels(samples, generator, discriminator)
        images = generator(torch.randn(2, 5), labels)
        assert images.shape == (2, 2, height, width)
        assert discriminator(images, labels).shape == (2,)


def test_stage_one_is_a_network_of_small_pictures_and_sees_no_more_than_these() -> None:
    generator, discriminator = stacked()
    set_levels(99, generator, discriminator)
    generator.eval()
    latents = torch.randn(3, 5)
    picture = generator.first(latents)
    assert picture.shape == (3, 2, 8, 8)
    images = generator(latents)
    assert torch.equal(images[:, :, ::4, ::4], picture)
    torch.testing.assert_close(halved(halved(images)), picture)
    real = torch.randn(3, 2, 32, 32)
    assert torch.equal(discriminator(real), discriminator.first(halved(halved(real))))
    set_levels(100, generator, discriminator)
    assert torch.equal(discriminator(real), discriminator.second(real))


@pytest.mark.parametrize("family", FAMILIES)
def test_in_stage_two_the_first_stays_as_it_is_and_all_else_learns(family: FamilyName) -> None:
    generator, discriminator = stacked(family, num_classes=3)
    labels = torch.tensor([0, 1, 2, 0])
    for samples, learning in ((0, ("first.",)), (100, ("inputs.", "look.", "tell.", "join.", "residuals.", "blocks."))):
        set_levels(samples, generator, discriminator)
        generator.zero_grad()
        before = copy.deepcopy(generator.first.state_dict())
        discriminator(generator(torch.randn(4, 5), labels), labels).sum().backward()
        reached = {name for name, weight in generator.named_parameters() if weight.grad is not None}
        assert {name.partition(".")[0] + "." for name in reached} >= set(learning)
        assert any(name.startswith("first.") for name in reached) == (samples == 0)
        same = all(torch.equal(before[name], tensor) for name, tensor in generator.first.state_dict().items())
        assert same or samples == 0, "the statistics of its norms stay, too"
        assert generator.first.training, "as the whole generator is"


def test_stage_two_sees_the_small_picture_and_the_latents_again() -> None:
    generator, _ = stacked()
    set_levels(100, generator)
    generator.eval()
    latents, others = torch.randn(2, 1, 5)

    class Fixed(nn.Module):
        picture: torch.Tensor

        def forward(self, latents: torch.Tensor, _: torch.Tensor | None) -> torch.Tensor:
            return self.picture

    generator.first = fixed = Fixed()
    fixed.picture = torch.zeros(1, 2, 8, 8)
    images = generator(latents)
    assert not torch.allclose(images, generator(others))
    fixed.picture = torch.ones(1, 2, 8, 8)
    assert not torch.allclose(images, generator(latents))


@pytest.mark.parametrize(
    ("options", "size", "remedy"),
    [
        ({}, 8, Option("size", 16)),
        ({}, (8, 64), Option("size", "16x128")),
        ({"family": "mlp"}, 32, Setting("networks.family", "dcgan")),
        ({"growing": 10}, 32, Setting("networks.growing", 0)),
        ({"frozen": 1}, 32, Setting("networks.frozen", 0)),
        ({"attention": 4}, 32, Setting("networks.attention", 0)),
    ],
)
def test_what_two_stages_cannot_do_is_refused_with_what_to_type(options: Any, size: Any, remedy: Any) -> None:
    with pytest.raises(UserError) as caught:
        stacked(size=size, **options)
    assert remedy in caught.value.remedies
