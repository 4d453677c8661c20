"""Networks of super-resolution: resampling that is exact where it can be, and a generator of any size."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from equipoise.nets.super_resolution import SuperDiscriminator, SuperGenerator, enlarge, reduce


def smooth(height: int, width: int, seed: int = 0) -> Tensor:
    """Return an image [1, 3, H, W] in [-1, 1] without sharp edges."""
    coarse = torch.rand(1, 3, 3, 3, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    return nn.functional.interpolate(coarse, size=(height, width), mode="bicubic", align_corners=True).clamp(-1, 1)


def stirred(scale: int, width: int = 8) -> SuperGenerator:
    """Return a generator whose detail is not zero, as after some training."""
    torch.manual_seed(0)
    generator = SuperGenerator(scale, width).eval()
    nn.init.normal_(generator.tail.weight, std=0.05)
    return generator.requires_grad_(False)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_resampling_is_pillows(scale: int) -> None:
    """Pillow's bicubic filter is antialiased with a = −½, too; it rounds to 8 bits between rows and columns."""
    pixels = np.random.default_rng(0).integers(80, 176, (12 * scale, 10 * scale, 3)).astype(np.uint8)
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)[None].float()
    small = Image.fromarray(pixels).resize((10, 12), Image.Resampling.BICUBIC)
    large = Image.fromarray(pixels).resize((10 * scale**2, 12 * scale**2), Image.Resampling.BICUBIC)
    for found, expected in ((reduce(tensor, scale), small), (enlarge(tensor, (12 * scale**2, 10 * scale**2)), large)):
        ours = found[0].permute(1, 2, 0).round().clamp(0, 255).numpy()
        assert np.abs(ours - np.asarray(expected).astype(float)).max() <= 1


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_resampling_keeps_a_constant_and_the_place_of_a_slope(scale: int) -> None:
    constant = torch.full((1, 3, 4 * scale, 5 * scale), 0.3)
    torch.testing.assert_close(reduce(constant, scale), torch.full((1, 3, 4, 5), 0.3))
    torch.testing.assert_close(enlarge(constant, (7 * scale, 9 * scale)), torch.full((1, 3, 7 * scale, 9 * scale), 0.3))
    places = torch.arange(24.0 * scale).expand(1, 3, 8 * scale, 24 * scale)
    inside = reduce(places, scale)[0, 0, 4, 4:-4]
    torch.testing.assert_close(inside, torch.arange(4.0, 20.0) * scale + (scale - 1) / 2)


def test_resampling_is_in_float32_whatever_the_networks_compute_in() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert reduce(smooth(8, 8).bfloat16(), 2).dtype == torch.float32
        assert enlarge(smooth(8, 8).bfloat16(), (16, 16)).dtype == torch.float32


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_generator_begins_as_bicubic_interpolation_with_what_reducing_it_would_miss(scale: int) -> None:
    small = smooth(9, 7)
    size = (9 * scale, 7 * scale)
    large = enlarge(small, size)
    expected = large + enlarge(small - reduce(large, scale), size)
    torch.testing.assert_close(SuperGenerator(scale, 4)(small), expected)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_back_projection_brings_the_reduced_output_nearer_to_the_input(scale: int) -> None:
    generator = stirred(scale)
    small = smooth(16, 16)
    features = generator.head(small)
    first = features
    for block in generator.blocks:
        features = block(features)
    detail = nn.functional.pixel_shuffle(generator.tail(first + generator.body(features)), scale)
    plain = enlarge(small, (16 * scale, 16 * scale)) + detail
    before = (reduce(plain, scale) - small).square().mean()
    after = (reduce(generator(small), scale) - small).square().mean()
    assert before > 1e-6, "else there is nothing to put right"
    assert after < 0.1 * before


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (3, 2), (17, 31)])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_images_of_any_size_are_enlarged(scale: int, size: tuple[int, int]) -> None:
    large = stirred(scale)(smooth(*size))
    assert large.shape == (1, 3, size[0] * scale, size[1] * scale)
    assert large.isfinite().all()


def test_every_weight_of_a_generator_learns_once_its_tail_has() -> None:
    generator = stirred(2).requires_grad_()
    generator(smooth(8, 8)).square().sum().backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in generator.parameters())


@pytest.mark.parametrize("spectral_norm", [False, True])
def test_a_discriminator_tells_pairs_apart_by_image_and_by_input(spectral_norm: bool) -> None:
    torch.manual_seed(0)
    discriminator = SuperDiscriminator(8, spectral_norm=spectral_norm).eval()
    large = smooth(32, 24)
    other = smooth(32, 24, 1)
    batch = torch.cat([large, other]), torch.cat([other, large])
    logits = discriminator(*batch)
    assert logits.shape == (2,)
    torch.testing.assert_close(logits[:1], discriminator(large, other))
    assert len({logits[0].item(), logits[1].item(), discriminator(large, large).item()}) == 3
    normed = [name for name in discriminator.state_dict() if "parametrizations" in name]
    assert bool(normed) == spectral_norm


def test_features_are_of_each_stage_at_half_the_size_and_give_the_logits() -> None:
    torch.manual_seed(0)
    discriminator = SuperDiscriminator(8)
    large = smooth(32, 48)
    found = discriminator.features(large, large)
    assert [tuple(part.shape[1:]) for part in found] == [(8, 16, 24), (16, 8, 12), (32, 4, 6)]
    assert torch.equal(discriminator.logits(found), discriminator(large, large))
