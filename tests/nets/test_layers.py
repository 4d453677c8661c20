"""The pieces that the families share."""

from itertools import pairwise

import pytest
import torch

from equipoise.nets.layers import (
    ConditionalBatchNorm,
    LabelledLatents,
    ProjectionHead,
    add_spectral_norm,
    halved,
    make_norm,
    resolutions,
    stage_channels,
)


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
    assert resolutions(size) == expected


def test_every_size_ends_at_three_or_four_and_doubling_reaches_back():
    for size in range(8, 257):
        sizes = resolutions(size)
        assert 3 <= sizes[-1] <= 4
        assert all(0 <= 2 * low - high <= 1 for high, low in pairwise(sizes))


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
