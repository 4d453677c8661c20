import math
from typing import get_args

import pytest
import torch
from torch import Tensor

from equipoise.data import augment as module
from equipoise.data.augment import augment, random_flip
from equipoise.recipe import AugmentationName

KINDS: tuple[AugmentationName, ...] = get_args(AugmentationName)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def random_images(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(*shape, generator=generator(99), dtype=dtype) * 2 - 1


def test_strength_zero_returns_the_input_itself():
    images = random_images(4, 3, 8, 8)
    assert augment(images, KINDS, 0.0, generator()) is images
    assert augment(images, (), 1.0, generator()) is images


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_each_kind_changes_the_share_of_images_that_the_strength_asks_for(kind: AugmentationName, strength: float):
    images = random_images(2_000, 3, 16, 16)
    difference = (augment(images, (kind,), strength, generator()) - images).abs()
    changed = (difference.flatten(1).amax(1) > 1e-4).double().mean().item()
    # Of flips half are none; of the 5 × 5 moves by up to two of 16 pixels one is none.
    expected = {"flip": strength / 2, "translation": strength * 24 / 25}.get(kind, strength)
    assert changed == pytest.approx(expected, abs=0.04)


@pytest.mark.parametrize("kind", KINDS)
def test_shape_type_and_finiteness_are_kept(kind: AugmentationName):
    for shape in ((5, 1, 28, 28), (5, 3, 9, 12)):
        images = random_images(*shape)
        result = augment(images, (kind,), 1.0, generator())
        assert result.shape == images.shape
        assert result.dtype == images.dtype
        assert result.isfinite().all()


def test_the_same_generator_state_gives_the_same_augmentation_and_another_seed_another():
    images = random_images(8, 3, 16, 16)
    first, again = (augment(images, KINDS, 0.7, generator(1)) for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, augment(images, KINDS, 0.7, generator(2)))


def test_the_global_random_state_is_neither_read_nor_moved():
    images = random_images(8, 3, 16, 16)
    torch.manual_seed(1)
    first = augment(images, KINDS, 0.7, generator(1))
    state = torch.get_rng_state()
    torch.manual_seed(1)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(first, augment(images, KINDS, 0.7, generator(1)))


@pytest.mark.parametrize("channels", [1, 3])
def test_first_and_second_derivatives_are_exact(channels: int):
    images = random_images(2, channels, 4, 5, dtype=torch.float64).requires_grad_()

    def augmented(images: Tensor) -> Tensor:
        return augment(images, KINDS, 0.8, generator(3))

    assert torch.autograd.gradcheck(augmented, (images,))
    assert torch.autograd.gradgradcheck(augmented, (images,))


def test_a_gradient_penalty_through_the_augmentation_trains_the_critic_exactly():
    images = random_images(4, 1, 6, 6, dtype=torch.float64)
    weights = torch.randn(1, 6, 6, generator=generator(4), dtype=torch.float64)

    def penalty(weights: Tensor) -> Tensor:
        inputs = images.clone().requires_grad_()
        logits = ((augment(inputs, ("rotation", "scale", "color"), 1.0, generator(5)) * weights) ** 2).flatten(1).sum(1)
        (gradient,) = torch.autograd.grad(logits.sum(), inputs, create_graph=True)
        return gradient.pow(2).sum()

    assert torch.autograd.gradcheck(penalty, (weights.requires_grad_(),))


def test_a_flip_is_the_mirror_image():
    images = random_images(64, 3, 7, 7)
    result = augment(images, ("flip",), 1.0, generator())
    mirrored = (result - images.flip(-1)).abs().flatten(1).amax(1) < 1e-5
    kept = (result == images).flatten(1).all(1)
    assert (mirrored | kept).all()
    assert mirrored.any()
    assert kept.any()


def test_a_translation_moves_whole_pixels_by_at_most_an_eighth():
    images = random_images(200, 1, 16, 16)
    result = augment(images, ("translation",), 1.0, generator())
    moves = set()
    for image, moved in zip(images, result, strict=True):
        inner = moved[0, 4:12, 4:12]
        matches = [
            (down, right)
            for down in range(-2, 3)
            for right in range(-2, 3)
            if torch.allclose(inner, image[0, 4 + down : 12 + down, 4 + right : 12 + right], atol=1e-4)
        ]
        assert len(matches) == 1
        moves.add(matches[0])
    assert len(moves) == 25


def test_a_rotation_keeps_distances_on_images_that_are_not_square():
    ramp = torch.linspace(-1, 1, 33, dtype=torch.float64)
    # A picture of its own coordinates in pixels: its values after a rotation tell where each pixel came from.
    places = torch.stack(torch.meshgrid(ramp * 16, torch.arange(-10.0, 11.0).double(), indexing="ij"))[None]
    turned = augment(places.repeat(8, 1, 1, 1), ("rotation",), 1.0, generator())
    centre, right = turned[:, :, 16, 10], turned[:, :, 16, 13]
    assert torch.allclose(centre, torch.zeros_like(centre), atol=1e-9)
    assert torch.allclose((right - centre).norm(dim=1), torch.full((8,), 3.0).double(), atol=1e-9)
    angles = torch.atan2(right[:, 0], right[:, 1])
    assert angles.abs().max() <= module.MAX_ROTATION + 1e-9
    assert angles.std() > math.radians(5)


def test_a_crop_shows_nothing_from_beyond_the_border():
    ramp = torch.linspace(-1, 1, 32, dtype=torch.float64).expand(50, 1, 32, 32)
    steps = augment(ramp, ("crop",), 1.0, generator())[:, 0, 16].diff(dim=1)
    assert (steps[:, 1:-1] > 0).all()  # mirrored parts would fall again
    zoom = steps[:, 16] / (2 / 31)
    assert zoom.min() >= module.MIN_CROP - 1e-9
    assert zoom.max() <= 1 + 1e-9


def test_a_cutout_blanks_at_most_half_a_side_and_nothing_else():
    images = random_images(300, 3, 16, 16) + 3
    result = augment(images, ("cutout",), 1.0, generator())
    blank = result == 0
    assert torch.equal(result[~blank], images[~blank])
    assert (blank.all(1) == blank.any(1)).all()
    assert blank[:, 0].flatten(1).sum(1).max() == 64
    assert blank[:, 0].any(1).sum(1).max() == 8


def test_color_of_one_channel_changes_brightness_and_contrast_alone():
    images = random_images(100, 1, 8, 8, dtype=torch.float64)
    result = augment(images, ("color",), 1.0, generator())
    shift = (result.mean((1, 2, 3)) - images.mean((1, 2, 3))).abs()
    factor = (result - result.mean((1, 2, 3), keepdim=True)) / (images - images.mean((1, 2, 3), keepdim=True))
    assert shift.max() <= 0.5 + 1e-9
    assert torch.allclose(factor.flatten(1).amin(1), factor.flatten(1).amax(1))
    assert 0.5 <= factor.min() < 0.6
    assert 1.4 < factor.max() <= 1.5 + 1e-9


def test_a_warp_in_half_precision_is_computed_in_single_precision():
    images = random_images(4, 1, 8, 8).bfloat16()
    assert augment(images, ("rotation",), 1.0, generator()).dtype == torch.float32


def test_random_flip_mirrors_half_of_the_images_of_any_type():
    for dtype in (torch.uint8, torch.float32):
        images = torch.arange(2_000 * 6).reshape(2_000, 1, 2, 3).to(dtype)
        result = random_flip(images, generator())
        mirrored = (result == images.flip(-1)).flatten(1).all(1)
        kept = (result == images).flatten(1).all(1)
        assert (mirrored ^ kept).all()
        assert mirrored.double().mean().item() == pytest.approx(0.5, abs=0.04)


def test_flipping_twice_alike_gives_the_images_back():
    images = random_images(50, 3, 5, 5)
    assert torch.equal(random_flip(random_flip(images, generator(7)), generator(7)), images)


def test_colours_with_opacity_change_and_what_is_not_seen_stays_without_colour_and_as_transparent():
    images = random_images(200, 4, 8, 8)
    opacity = (images[:, 3:] + 1) / 2
    opacity[:, :, :4] = 0
    premultiplied = torch.cat([(images[:, :3] + 1) * opacity - 1, 2 * opacity - 1], dim=1)
    result = augment(premultiplied, ("color",), 1.0, generator())
    assert torch.equal(result[:, 3], premultiplied[:, 3])
    assert (result[:, :3, :4] == -1).all()
    assert (result[:, :3, 4:] - premultiplied[:, :3, 4:]).abs().mean() > 0.05


def test_opaque_colours_change_as_if_there_were_no_opacity():
    images = random_images(20, 3, 8, 8)
    opaque = torch.cat([images, torch.ones(20, 1, 8, 8)], dim=1)
    with_opacity = augment(opaque, ("color",), 1.0, generator(5))
    torch.testing.assert_close(with_opacity[:, :3], augment(images, ("color",), 1.0, generator(5)))


def test_measured_channels_change_in_brightness_and_contrast_and_do_not_mix():
    images = random_images(50, 6, 8, 8)
    images[:, 2] = 0.25
    changed = augment(images, ("color",), 1.0, generator())
    assert (changed - images).abs().mean() > 0.05
    assert changed[:, 2].flatten(1).std(1).max() < 1e-6, "what is even in one channel stays so"
