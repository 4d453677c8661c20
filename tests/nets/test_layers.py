"""The pieces that the families share."""

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch

from equipoise.nets.dcgan import DCGANGenerator
from equipoise.nets.layers import (
    ConditionalBatchNorm,
    LabelledLatents,
    MinibatchDeviation,
    ProjectionHead,
    Smooth,
    add_spectral_norm,
    halved,
    make_norm,
    packed,
    stage_channels,
)
from equipoise.sizes import resolutions


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (8, [8, 4]),
        (9, [9, 5, 3]),
        (15, [15, 8, 4]),
        (28, [28, 14, 7, 4]),
        (50, [50, 25, 13, 7, 4]),
        (64, [64, 32, 16, 8, 4]),
        (256, [256, 128, 64, 32, 16, 8, 4]),
    ],
)
def test_resolutions_halve_rounding_up_until_at_most_four(size: int, expected: list[int]):
    assert resolutions(size) == [(side, side) for side in expected]


def test_every_size_ends_at_three_or_four_and_doubling_reaches_back():
    for size in [*range(8, 257), (40, 30), (8, 1024), (481, 321), (9, 50)]:
        sizes = resolutions(size)
        assert 3 <= min(sizes[-1]) <= 4
        for high, low in pairwise(sizes):
            assert 0 <= 2 * low.width - high.width <= 1
            assert 0 <= 2 * low.height - high.height <= 1


def test_a_rectangle_is_halved_until_its_smaller_side_is_low():
    assert resolutions((40, 30)) == [(40, 30), (20, 15), (10, 8), (5, 4)]
    assert resolutions((8, 64)) == [(8, 64), (4, 32)]


def test_channels_double_up_to_eight_times_the_width():
    assert stage_channels(16, 6) == [16, 32, 64, 128, 128, 128]


def test_halving_averages_what_exists_at_an_odd_edge():
    images = torch.arange(9.0).view(1, 1, 3, 3)
    assert halved(images).tolist() == [[[[2.0, 3.5], [6.5, 8.0]]]]


def test_projection_adds_the_inner_product_with_the_labels_embedding():
    head, features = ProjectionHead(3, 4), torch.randn(5, 3)
    labels = torch.tensor([0, 1, 2, 3, 1])
    assert head.embedding is not None
    expected = (features * (head.linear.weight + head.embedding.weight[labels])).sum(dim=1) + head.linear.bias
    torch.testing.assert_close(head(features, labels), expected)


def test_labelled_latents_carry_the_label_behind_the_latents():
    inputs, latents = LabelledLatents(3, num_classes=2), torch.randn(2, 3)
    joined = inputs(latents, torch.tensor([1, 1]))
    assert joined.shape == (2, inputs.size)
    assert torch.equal(joined[:, :3], latents)
    assert torch.equal(joined[0, 3:], joined[1, 3:])
    assert not torch.equal(joined[0, 3:], inputs(latents, torch.tensor([0, 0]))[0, 3:])


def test_conditional_batch_norm_starts_as_the_plain_one_and_scales_by_label():
    norm, features = ConditionalBatchNorm(3, num_classes=2), torch.randn(6, 3, 4, 4)
    labels = torch.tensor([0, 0, 0, 1, 1, 1])
    plain = torch.nn.functional.batch_norm(features, None, None, training=True)
    torch.testing.assert_close(norm(features, labels), plain)
    assert norm.gain is not None
    assert norm.bias is not None
    torch.nn.init.constant_(norm.gain.weight[1], 3.0)
    torch.nn.init.constant_(norm.bias.weight[1], 0.5)
    torch.testing.assert_close(norm(features, labels), torch.cat([plain[:3], 3 * plain[3:] + 0.5]))


SEVERAL = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 0.0], [0.0, 1.0, 1.0]])  # of three labels


def test_projection_of_several_labels_is_the_sum_over_them_and_nothing_of_none():
    head, features = ProjectionHead(3, 3), torch.randn(3, 3)
    assert head.embedding is not None
    a, b, c = head.embedding.weight
    sums = torch.stack([a + b, torch.zeros(3), b + c])
    expected = (features * (head.linear.weight + sums)).sum(dim=1) + head.linear.bias
    torch.testing.assert_close(head(features, SEVERAL), expected)


def test_latents_carry_the_sum_of_several_labels_on_the_scale_of_one():
    inputs, latents = LabelledLatents(3, num_classes=3), torch.randn(3, 3)
    assert inputs.embedding is not None
    a, b, c = inputs.embedding.weight
    expected = torch.stack([(a + b) / math.sqrt(2), torch.zeros(3), (b + c) / math.sqrt(2)])
    torch.testing.assert_close(inputs(latents, SEVERAL), torch.cat([latents, expected], dim=1))


def test_conditional_batch_norm_adds_what_each_label_changes_and_is_the_plain_one_without_any():
    norm, features = ConditionalBatchNorm(2, num_classes=3), torch.randn(3, 2, 4, 4)
    plain = torch.nn.functional.batch_norm(features, None, None, training=True)
    torch.testing.assert_close(norm(features, SEVERAL), plain)
    assert norm.gain is not None
    assert norm.bias is not None
    for label, (gain, bias) in enumerate([(3.0, 0.5), (0.5, -1.0), (1.0, 2.0)]):
        torch.nn.init.constant_(norm.gain.weight[label], gain)
        torch.nn.init.constant_(norm.bias.weight[label], bias)
    expected = torch.stack([2.5 * plain[0] - 0.5, plain[1], 0.5 * plain[2] + 1.0])
    torch.testing.assert_close(norm(features, SEVERAL), expected)


@pytest.mark.parametrize(
    ("make", "is_spectral"),
    [(ProjectionHead, False), (ProjectionHead, True), (LabelledLatents, False), (ConditionalBatchNorm, False)],
)
def test_one_label_of_several_is_that_class(make: Callable[[int, int], torch.nn.Module], is_spectral: bool):
    layer = make(4, 3)
    if is_spectral:
        add_spectral_norm(layer)
    layer.eval()  # no iteration of the power method between the two
    inputs = torch.randn(3, 4, 2, 2) if make is ConditionalBatchNorm else torch.randn(3, 4)
    labels = torch.tensor([2, 0, 1])
    torch.testing.assert_close(layer(inputs, torch.eye(3)[labels]), layer(inputs, labels))


def test_layer_norm_is_over_everything_but_the_sample():
    features = torch.randn(3, 4, 5, 5)
    expected = torch.nn.functional.layer_norm(features, features.shape[1:])
    torch.testing.assert_close(make_norm("layer", 4)(features), expected)


def test_spectral_norm_brings_the_largest_singular_value_to_one():
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Flatten(), torch.nn.Linear(16, 5))
    add_spectral_norm(network)
    for _ in range(50):
        network(torch.randn(2, 3, 4, 4))
    for layer in (network[0], network[2]):
        assert isinstance(layer, torch.nn.Conv2d | torch.nn.Linear)
        assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(1.0, rel=1e-3)


def test_packs_are_samples_in_a_row_side_by_side():
    points = torch.arange(8.0).view(4, 2)
    assert packed(points, 2).tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    images = torch.randn(6, 2, 5, 4).contiguous(memory_format=torch.channels_last)
    packs = packed(images, 3)
    assert packs.shape == (2, 6, 5, 4)
    assert torch.equal(packs[1], torch.cat([images[3], images[4], images[5]]))
    assert packed(images, 1) is images


def test_the_deviation_of_a_minibatch_is_the_mean_over_features_and_places_of_that_over_samples():
    features = torch.tensor([[1.0, 10.0], [3.0, 10.0], [5.0, 16.0]])
    found = MinibatchDeviation()(features)
    by_hand = ((8 / 3) ** 0.5 + 8**0.5) / 2  # of 1, 3, 5 and of 10, 10, 16
    assert torch.equal(found[:, :2], features)
    torch.testing.assert_close(found[:, 2], torch.full((3,), by_hand))
    maps = torch.stack([torch.zeros(2, 3, 3), torch.ones(2, 3, 3)])
    torch.testing.assert_close(MinibatchDeviation()(maps)[:, 2], torch.full((2, 3, 3), 0.5))


def test_with_labels_the_deviation_is_that_of_the_samples_of_the_same_label_by_hand():
    features = torch.tensor([[1.0, 10.0], [7.0, 7.0], [3.0, 10.0], [7.0, 7.0], [5.0, 16.0], [9.0, 9.0]])
    found = MinibatchDeviation()(features, torch.tensor([4, 0, 4, 0, 4, 1]))[:, 2]
    by_hand = ((8 / 3) ** 0.5 + 8**0.5) / 2  # of 1, 3, 5 and of 10, 10, 16
    torch.testing.assert_close(found, torch.tensor([by_hand, 0, by_hand, 0, by_hand, 0]), atol=2e-3, rtol=1e-4)
    maps = features[:, :, None, None].repeat(1, 1, 2, 3)
    of_maps = MinibatchDeviation()(maps, torch.tensor([4, 0, 4, 0, 4, 1]))
    torch.testing.assert_close(of_maps[:, 2], found[:, None, None].expand(6, 2, 3))
    values = torch.randn(4, 3).double().requires_grad_()
    labels = torch.tensor([0, 1, 0, 1])
    assert torch.autograd.gradcheck(lambda values: MinibatchDeviation()(values, labels), values)


def test_the_gradient_of_a_minibatchs_deviation_is_finite_where_all_samples_are_alike():
    features = torch.ones(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(
        lambda values: MinibatchDeviation()(values), torch.randn(4, 3).double().requires_grad_()
    )
    MinibatchDeviation()(features)[:, -1].sum().backward()
    assert features.grad is not None
    assert features.grad.tolist() == [[0.0] * 3] * 4


def test_the_filter_is_the_binomial_one_and_keeps_what_is_even():
    point = torch.zeros(1, 1, 5, 5)
    point[0, 0, 2, 2] = 16
    expected = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]])
    assert torch.equal(Smooth()(point)[0, 0, 1:4, 1:4], expected)
    even = torch.full((1, 2, 4, 6), 0.3)
    torch.testing.assert_close(Smooth()(even), even)


def test_a_checkerboard_is_gone():
    board = (torch.arange(8)[:, None] + torch.arange(8)) % 2 * 2.0 - 1
    inner = Smooth()(board[None, None])[0, 0, 1:-1, 1:-1]
    assert inner.abs().max() < 1e-6


def _unevenness(smooth: bool) -> float:
    """Return how much the four phases of pixels differ in spread, in images of generators of random weights."""
    found = []
    for seed in range(5):
        torch.manual_seed(seed)
        generator = DCGANGenerator(size=32, channels=3, num_classes=0, latent_size=64, width=8, smooth=smooth)
        with torch.no_grad():
            images = generator(torch.randn(64, 64))
        spreads = torch.stack([images[:, :, y::2, x::2].std() for y in (0, 1) for x in (0, 1)])
        found.append((spreads.std() / spreads.mean()).item())
    return sum(found) / len(found)


def test_the_four_pixels_of_a_transposed_convolution_differ_less_with_it():
    assert _unevenness(smooth=True) < 0.5 * _unevenness(smooth=False)


def test_a_class_that_is_always_the_same_shows_in_bfloat16_as_well() -> None:
    features = 1 + 0.05 * torch.rand(8, 5, 4, 4)
    features[4:] = features[:4]
    labels = torch.arange(4).repeat(2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        deviation = MinibatchDeviation()(features, labels)[:, -1]
    torch.testing.assert_close(deviation, torch.full_like(deviation, 1e-4), atol=1e-6, rtol=0.0)
