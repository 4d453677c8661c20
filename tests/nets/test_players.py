"""Every family at every size: shapes, gradients, double gradients, parameters, labels."""

from dataclasses import replace
from typing import get_args

import pytest
import torch
from torch import Tensor, nn

from equipoise.errors import Setting, UserError
from equipoise.nets.players import make_players
from equipoise.recipe import FamilyName, Networks

FAMILIES = get_args(FamilyName)
UNNORMALISED = ("modern", "style")
LATENT_SIZE = 6


def networks(family: FamilyName, width: int = 8, **options) -> Networks:
    norm = "none" if family in UNNORMALISED else "batch"
    return replace(Networks(family=family, width=width, latent_size=LATENT_SIZE, generator_norm=norm), **options)


def players(
    family: FamilyName,
    size: int | tuple[int, int] = 9,
    channels: int = 2,
    num_classes: int = 0,
    packing: int = 1,
    **options,
):
    torch.manual_seed(0)
    shape = {"size": size, "channels": channels, "num_classes": num_classes}
    return make_players(networks(family, **options), **shape, packing=packing)


def num_parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


def leave_start(network: nn.Module) -> None:
    """Move every weight a little, since fix-up starts layers at zero, through which nothing else learns."""
    draws = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=draws))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [8, 9, 28, 32, 50, 64])
@pytest.mark.parametrize("family", FAMILIES)
def test_generator_and_discriminator_fit_the_size_and_the_channels(family: FamilyName, size: int, channels: int):
    generator, discriminator = players(family, size, channels)
    images = generator(torch.randn(2, LATENT_SIZE))
    assert images.shape == (2, channels, size, size)
    assert discriminator(images).shape == (2,)
    assert discriminator(images).isfinite().all()


@pytest.mark.parametrize("size", [(40, 30), (30, 41), (8, 64), (33, 9)])
@pytest.mark.parametrize("family", FAMILIES)
def test_players_fit_rectangles(family: FamilyName, size: tuple[int, int]):
    generator, discriminator = players(family, size, 3, width=4)
    images = generator(torch.randn(2, LATENT_SIZE))
    assert images.shape == (2, 3, size[1], size[0])
    assert discriminator(images).shape == (2,)


@pytest.mark.parametrize("family", FAMILIES)
def test_players_fit_large_images(family: FamilyName):
    generator, discriminator = players(family, 96, 4, width=4)
    images = generator(torch.randn(2, LATENT_SIZE))
    assert images.shape == (2, 4, 96, 96)
    assert discriminator(images).shape == (2,)


@pytest.mark.parametrize("num_classes", [0, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_reach_every_parameter(family: FamilyName, num_classes: int):
    generator, discriminator = players(family, num_classes=num_classes)
    leave_start(generator)
    leave_start(discriminator)
    labels = torch.tensor([0, 1, 2, 0]) if num_classes else None
    discriminator(generator(torch.randn(4, LATENT_SIZE), labels), labels).square().sum().backward()
    for player in (generator, discriminator):
        for name, parameter in player.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            # A bias in front of a batch norm is taken out again by its mean.
            assert parameter.grad.abs().sum() > 0 or name.endswith("bias"), name


@pytest.mark.parametrize("size", [8, 28])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_discriminator_judges_each_pack_of_images_by_all_of_them_and_by_no_others(family: FamilyName, size: int):
    _, discriminator = players(family, size, packing=2)
    leave_start(discriminator)
    images = torch.randn(6, 2, size, size)
    logits = discriminator(images)
    assert logits.shape == (3,)
    images[3] += 1
    changed = discriminator(images) != logits
    assert changed.tolist() == [False, True, False]


@pytest.mark.parametrize("size", [8, 28])
@pytest.mark.parametrize("family", FAMILIES)
def test_with_the_deviation_of_the_minibatch_a_discriminator_sees_how_much_images_differ(family: FamilyName, size: int):
    _, plain = players(family, size)
    _, discriminator = players(family, size, minibatch_deviation=True)
    leave_start(plain)
    leave_start(discriminator)
    images = (4 if family == "style" else 1) * torch.randn(4, 2, size, size)  # style's first weights say less of it
    alike = images[:1].expand(4, -1, -1, -1)
    torch.testing.assert_close(plain(images)[0], plain(alike)[0], atol=1e-4, rtol=1e-3)
    assert (discriminator(images)[0] - discriminator(alike)[0]).abs() > 1e-3
    discriminator(images).square().sum().backward()
    assert all(parameter.grad is not None for parameter in discriminator.parameters())


@pytest.mark.parametrize("spectral_norm", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_gradients_norm_can_be_differentiated_again(family: FamilyName, spectral_norm: bool):
    if spectral_norm and family in UNNORMALISED:
        pytest.skip("these families have no spectral norm")
    _, discriminator = players(family, width=16, spectral_norm=spectral_norm)
    leave_start(discriminator)
    images = torch.randn(3, 2, 9, 9, requires_grad=True)
    (gradient,) = torch.autograd.grad(discriminator(images).sum(), images, create_graph=True)
    gradient.square().sum().backward()
    weights = [parameter for parameter in discriminator.parameters() if parameter.dim() > 1]
    reached = [weight for weight in weights if weight.grad is not None and weight.grad.abs().sum() > 0]
    assert len(reached) == len(weights)


@pytest.mark.parametrize("family", FAMILIES)
def test_double_backward_agrees_with_finite_differences(family: FamilyName):
    _, discriminator = players(family, size=8, channels=1, width=4)
    leave_start(discriminator)
    discriminator.double()
    images = torch.randn(1, 1, 8, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(discriminator, images, fast_mode=True)


@pytest.mark.parametrize("norm", ["batch", "layer", "none"])
@pytest.mark.parametrize("family", ["mlp", "dcgan", "resnet"])
def test_discriminators_take_every_norm(family: FamilyName, norm: str):
    _, discriminator = players(family, size=16, discriminator_norm=norm)
    leave_start(discriminator)
    images = torch.randn(4, 2, 16, 16)
    alone = torch.stack([discriminator(images[i : i + 1].repeat(2, 1, 1, 1))[0] for i in range(4)])
    together = discriminator(images)
    assert together.isfinite().all()
    # Only a batch norm lets one sample see another.
    assert torch.allclose(alone, together, atol=1e-5) == (norm != "batch")


@pytest.mark.parametrize("family", FAMILIES)
def test_dropout_acts_while_training_and_only_then(family: FamilyName):
    _, discriminator = players(family, dropout=0.5)
    leave_start(discriminator)
    images = torch.randn(4, 2, 9, 9)
    assert not torch.equal(discriminator(images), discriminator(images))
    discriminator.eval()
    assert torch.equal(discriminator(images), discriminator(images))


@pytest.mark.parametrize("generator_norm", ["batch", "none"])
@pytest.mark.parametrize("family", FAMILIES)
def test_labels_change_images_and_logits(family: FamilyName, generator_norm: str):
    if family in UNNORMALISED and generator_norm == "batch":
        pytest.skip("these families have no norm")
    generator, discriminator = players(family, num_classes=3, generator_norm=generator_norm)
    leave_start(generator)
    leave_start(discriminator)
    generator.eval()
    latents, zeros, ones = torch.randn(4, LATENT_SIZE), torch.zeros(4).long(), torch.ones(4).long()
    images = generator(latents, zeros)
    assert not torch.allclose(images, generator(latents, ones))
    assert not torch.allclose(discriminator(images, zeros), discriminator(images, ones))
    with pytest.raises(ValueError, match="class-conditional"):
        generator(latents)
    with pytest.raises(ValueError, match="class-conditional"):
        discriminator(images)


@pytest.mark.parametrize("family", FAMILIES)
def test_labels_are_ignored_without_classes(family: FamilyName):
    generator, discriminator = players(family)
    generator.eval()
    latents, labels = torch.randn(2, LATENT_SIZE), torch.tensor([7, 9])
    images = generator(latents)
    assert torch.equal(images, generator(latents, labels))
    assert torch.equal(discriminator(images), discriminator(images, labels))


@pytest.mark.parametrize("family", ["mlp", "dcgan", "resnet"])
def test_images_stay_within_minus_one_and_one(family: FamilyName):
    generator, _ = players(family)
    images = generator(100 * torch.randn(8, LATENT_SIZE))
    assert images.abs().max() <= 1


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_are_a_function_of_the_global_seed(family: FamilyName):
    def weights(seed: int) -> Tensor:
        torch.manual_seed(seed)
        pair = make_players(networks(family), size=9, channels=1, num_classes=2)
        return torch.cat([nn.utils.parameters_to_vector(player.parameters()) for player in pair])

    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))


@pytest.mark.parametrize("family", FAMILIES)
def test_forward_draws_nothing_without_dropout(family: FamilyName):
    generator, discriminator = players(family, spectral_norm=family not in UNNORMALISED)
    latents = torch.randn(2, LATENT_SIZE)
    before = torch.get_rng_state()
    discriminator(generator(latents))
    assert torch.equal(before, torch.get_rng_state())


def test_spectral_norm_bounds_how_fast_the_logits_change():
    """Each layer of the MLP and each leaky ReLU stretches by at most 1, up to the power iteration's error."""
    _, discriminator = players("mlp", width=64, spectral_norm=True)
    images = 10 * torch.randn(64, 2, 9, 9)
    others = images + 1e-1 * torch.randn(64, 2, 9, 9)
    for _ in range(30):
        discriminator(images)
    discriminator.eval()
    change = (discriminator(images) - discriminator(others)).abs()
    assert (change <= 1.01 * (images - others).flatten(1).norm(dim=1)).all()


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        ({"generator_norm": "batch"}, Setting("networks.generator_norm", "none")),
        ({"discriminator_norm": "layer"}, Setting("networks.discriminator_norm", "none")),
        ({"spectral_norm": True}, Setting("networks.spectral_norm", False)),
    ],
)
@pytest.mark.parametrize("family", UNNORMALISED)
def test_families_without_norms_refuse_them_by_name(family: FamilyName, options: dict, remedy: Setting):
    with pytest.raises(UserError) as caught:
        players(family, **options)
    (value,) = options.values()
    assert caught.value.subject == Setting(remedy.field, value)
    assert caught.value.remedies == (remedy, Setting("networks.family", "resnet"))


def test_classic_mlp_has_the_parameters_of_784_1024_512_256():
    generator, discriminator = make_players(
        Networks(family="mlp", width=1024, latent_size=100), size=28, channels=1, num_classes=0
    )
    inwards = (784 * 1024 + 1024) + (1024 * 512 + 512) + (512 * 256 + 256)
    assert num_parameters(discriminator) == inwards + 256 + 1
    outwards = (100 * 256 + 256) + (256 * 512 + 512) + (512 * 1024 + 1024) + (1024 * 784 + 784)
    assert num_parameters(generator) == outwards


def test_classic_dcgan_has_the_parameters_of_512_256_128_64():
    generator, discriminator = make_players(
        Networks(family="dcgan", width=64, latent_size=100, generator_norm="batch", discriminator_norm="batch"),
        size=64,
        channels=3,
        num_classes=0,
    )
    between = 16 * (512 * 256 + 256 * 128 + 128 * 64)  # 4×4 kernels; no bias in front of a norm
    norms = 2 * (512 + 256 + 128 + 64)
    assert num_parameters(generator) == 16 * 100 * 512 + between + norms + 16 * 64 * 3 + 3
    assert num_parameters(discriminator) == 16 * 3 * 64 + 64 + between + norms - 2 * 64 + 16 * 512 + 1


@pytest.mark.parametrize("family", ["mlp", "resnet", "modern", "style"])
def test_a_family_without_transposed_convolutions_refuses_to_smooth_them(family: FamilyName) -> None:
    with pytest.raises(UserError) as error:
        make_players(Networks(family=family, smooth=True), size=16, channels=3, num_classes=0)
    assert Setting("networks.family", "dcgan") in error.value.remedies
