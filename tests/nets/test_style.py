"""Networks after StyleGAN2: modulation, demodulation, equalised rates, filters, skip outputs, the mapping."""

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch.optim import Adam

from equipoise.nets.players import make_players
from equipoise.nets.style import (
    MAPPING_RATE,
    ModulatedConv2d,
    ScaledConv2d,
    ScaledLinear,
    StyleGenerator,
    low_passed,
)
from equipoise.recipe import Networks
from equipoise.sizes import Size, resolutions


def test_a_modulated_convolution_is_that_of_the_papers_weights_for_each_sample() -> None:
    layer = ModulatedConv2d(3, 5, 3, 4).double()
    features = torch.randn(2, 3, 6, 7, dtype=torch.float64)
    styles = torch.randn(2, 4, dtype=torch.float64)
    for sample in range(2):
        scales = styles[sample] @ layer.scales.weight.T / math.sqrt(4) + layer.scales.bias
        modulated = scales[None, :, None, None] * layer.weight / math.sqrt(27)  # Eq. 1
        demodulated = modulated / (modulated.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()  # Eq. 3
        expected = F.conv2d(features[sample : sample + 1], demodulated, padding=1)
        torch.testing.assert_close(layer(features, styles)[sample : sample + 1], expected)


@pytest.mark.parametrize("demodulate", [True, False])
def test_demodulation_gives_outputs_of_variance_one_whatever_the_style(demodulate: bool) -> None:
    torch.manual_seed(0)
    layer = ModulatedConv2d(32, 64, 3, 8, demodulate=demodulate)
    features = torch.randn(8, 32, 32, 32)
    strong = layer(features, 5 * torch.randn(8, 8))[:, :, 1:-1, 1:-1]
    deviations = strong.std((2, 3))
    is_one = bool(((deviations - 1).abs() < 0.15).all())
    assert is_one == demodulate


def test_a_modulated_convolution_that_doubles_is_a_transposed_one_and_a_filter() -> None:
    layer = ModulatedConv2d(2, 3, 3, 4, size=Size(9, 7)).double()
    features, styles = torch.randn(1, 2, 4, 5, dtype=torch.float64), torch.randn(1, 4, dtype=torch.float64)
    weight = layer.weight / math.sqrt(18) * layer.scales(styles)[0][None, :, None, None]
    weight = weight / weight.square().sum((1, 2, 3), keepdim=True).sqrt()
    spread = torch.zeros(1, 2, 8, 10, dtype=torch.float64)
    spread[:, :, ::2, ::2] = features
    wide = F.conv2d(F.pad(spread, (2, 1, 2, 1)), weight.flip(2, 3))  # as a transposed convolution sees it
    line = torch.tensor([1, 3, 3, 1], dtype=torch.float64) / 8
    kernel = (4 * line[:, None] * line)[None, None].expand(3, 1, 4, 4)
    expected = F.conv2d(F.pad(wide, (1, 1, 1, 1)), kernel, groups=3)
    found = layer(features, styles)
    assert found.shape == (1, 3, 7, 9)
    torch.testing.assert_close(found[:, :, :6, :8], expected[:, :, :6, :8])


def test_the_filter_is_the_binomial_one_and_keeps_what_is_constant() -> None:
    impulse = torch.zeros(1, 1, 9, 9)
    impulse[0, 0, 4, 4] = 1
    line = torch.tensor([1.0, 3, 3, 1]) / 8
    torch.testing.assert_close(low_passed(impulse, 0)[0, 0, 1:5, 1:5], line[:, None] * line)
    torch.testing.assert_close(low_passed(torch.ones(1, 1, 8, 8), 0), torch.ones(1, 1, 5, 5))


def test_scaled_layers_keep_variance_and_their_weights_are_of_one_scale() -> None:
    torch.manual_seed(0)
    for num in (16, 512):
        layer = ScaledLinear(num, 400)
        assert layer.weight.std().item() == pytest.approx(1, abs=0.05)
        assert layer(torch.randn(500, num)).std().item() == pytest.approx(1, abs=0.05)
        convolution = ScaledConv2d(num, 16, 3)
        assert convolution.weight.std().item() == pytest.approx(1, abs=0.05)
        assert convolution(torch.randn(2, num, 16, 16))[:, :, 1:-1, 1:-1].std().item() == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("rate", [1.0, 0.01])
def test_equalised_weights_all_move_by_the_same_share_of_their_size_in_a_step(rate: float) -> None:
    """Adam's first step is as long as its rate in each weight; by fan-in it would differ by √(512/8)."""
    shares = []
    for num in (8, 512):
        layer = ScaledLinear(num, 16, rate=rate)
        before = layer.weight.detach().clone() * layer.scale
        optimizer = Adam(layer.parameters(), 0.002)
        layer(torch.randn(64, num)).square().sum().backward()
        optimizer.step()
        moved = layer.weight * layer.scale - before
        shares.append((moved.abs().mean() / before.std()).item())
    assert shares[0] == pytest.approx(0.002 * rate, rel=0.2)
    assert shares[1] == pytest.approx(shares[0], rel=0.2)


def made(size: int | tuple[int, int] = 16, num_classes: int = 0) -> StyleGenerator:
    torch.manual_seed(0)
    generator, _ = make_players(
        Networks(family="style", width=8, latent_size=6), size=size, channels=3, num_classes=num_classes
    )
    assert isinstance(generator, StyleGenerator)
    return generator


def test_images_are_those_of_the_styles_that_the_mapping_gives() -> None:
    generator = made(num_classes=3)
    latents, labels = torch.randn(2, 6), torch.tensor([0, 2])
    styles = generator.mapping(latents, labels)
    assert styles.shape == (2, 6)
    assert torch.equal(generator(latents, labels), generator.pictured(styles))
    assert not torch.allclose(styles, generator.mapping(latents, torch.tensor([1, 1])))
    torch.testing.assert_close(styles, generator.mapping(latents, labels))
    assert all(getattr(layer, "rate", 1) == MAPPING_RATE for layer in generator.mapping.layers)


def test_the_mapping_sees_the_direction_of_latents_and_not_their_length() -> None:
    generator = made()
    latents = torch.randn(2, 6)
    torch.testing.assert_close(generator.mapping(latents), generator.mapping(3 * latents), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("size", [16, 28, (40, 30)])
def test_the_image_is_the_sum_of_what_each_size_adds(size: int | tuple[int, int]) -> None:
    generator = made(size)
    styles = torch.randn(2, 6)
    exits: list[Any] = list(generator.exits)
    whole = generator.pictured(styles)
    parts = torch.zeros_like(whole)
    with torch.no_grad():
        kept = [(exit_.weight.clone(), exit_.bias.clone()) for exit_ in exits]
        assert len(kept) == len(resolutions(size))
        for place in range(len(kept)):
            for index, exit_ in enumerate(exits):
                exit_.weight.copy_(kept[index][0] if index == place else torch.zeros_like(exit_.weight))
                exit_.bias.copy_(kept[index][1] if index == place else torch.zeros_like(exit_.bias))
            parts += generator.pictured(styles)
    torch.testing.assert_close(parts, whole, rtol=1e-4, atol=1e-4)
