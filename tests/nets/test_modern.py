"""The modern family: fix-up, groups, and that resampling and 1×1 convolutions were put in a cheap order."""

import pytest
import torch
import torch.nn.functional as F

from equipoise.nets.modern import ModernDiscriminator, ModernGenerator, ResidualBlock, num_groups, scaled


def test_every_block_is_the_identity_at_first():
    torch.manual_seed(0)
    generator = ModernGenerator(size=28, channels=1, num_classes=0, latent_size=8, width=8)
    discriminator = ModernDiscriminator(size=28, channels=1, num_classes=0, width=8)
    blocks = [m for player in (generator, discriminator) for m in player.modules() if isinstance(m, ResidualBlock)]
    assert len(blocks) == 12
    for block in blocks:
        features = torch.randn(2, block.project.out_channels, 7, 7)
        assert torch.equal(block(features), features)


def test_inner_layers_are_scaled_by_the_depth_of_the_network():
    """The standard deviation is gain · L^(-1/4) / √fan-in, gain² = 2 / (1 + 0.2²)."""
    torch.manual_seed(0)
    block = ResidualBlock(64, num_blocks=16)
    expected = (2 / 1.04) ** 0.5 / 2
    assert block.expand.weight.std().item() * 64**0.5 == pytest.approx(expected, rel=0.03)
    assert block.mix.weight.std().item() * (16 * 9) ** 0.5 == pytest.approx(expected, rel=0.03)


def test_scaled_layers_keep_the_variance():
    torch.manual_seed(0)
    features = torch.randn(4, 64, 16, 16)
    doubled = scaled(torch.nn.ConvTranspose2d(64, 8, 4, 2, 1), fan_in=4 * 64)(features)
    halved = scaled(torch.nn.Conv2d(64, 64, 4, 2, 1))(features)
    assert doubled[..., 1:-1, 1:-1].std().item() == pytest.approx(1.0, rel=0.1)
    assert halved[..., 1:-1, 1:-1].std().item() == pytest.approx(1.0, rel=0.1)


@pytest.mark.parametrize(("channels", "groups"), [(8, 1), (16, 1), (32, 2), (128, 8), (40, 4), (72, 6), (26, 2)])
def test_groups_have_sixteen_channels_or_the_next_smaller_divisor(channels: int, groups: int):
    assert num_groups(channels) == groups


def test_resampling_commutes_with_the_1x1_convolution_before_it():
    torch.manual_seed(0)
    features, weight = torch.randn(2, 6, 7, 7), torch.randn(3, 6, 1, 1)
    late = F.conv2d(F.interpolate(features, scale_factor=2.0, mode="bilinear"), weight)
    early = F.interpolate(F.conv2d(features, weight), scale_factor=2.0, mode="bilinear")
    torch.testing.assert_close(late, early, rtol=1e-4, atol=1e-5)
