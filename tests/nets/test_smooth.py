import pytest
import torch

from equipoise.errors import Setting, UserError
from equipoise.nets.layers import Smooth
from equipoise.nets.players import make_generator
from equipoise.recipe import Networks


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
        networks = Networks(family="dcgan", width=8, generator_norm="batch", smooth=smooth)
        generator = make_generator(networks, size=32, channels=3, num_classes=0)
        with torch.no_grad():
            images = generator(torch.randn(64, networks.latent_size))
        spreads = torch.stack([images[:, :, y::2, x::2].std() for y in (0, 1) for x in (0, 1)])
        found.append((spreads.std() / spreads.mean()).item())
    return sum(found) / len(found)


def test_the_four_pixels_of_a_transposed_convolution_differ_less_with_it():
    assert _unevenness(smooth=True) < 0.5 * _unevenness(smooth=False)


@pytest.mark.parametrize("family", ["mlp", "resnet", "modern"])
def test_a_family_without_transposed_convolutions_refuses_it(family):
    with pytest.raises(UserError) as caught:
        make_generator(Networks(family=family, smooth=True), size=16, channels=3, num_classes=0)
    assert Setting("networks.family", "dcgan") in caught.value.remedies
