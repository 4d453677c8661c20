"""Residual networks: latents in every block, orthogonal weights, spectral norm of G, and what is refused."""

from typing import Any

import pytest
import torch
from torch import nn

from equipoise.errors import Setting, UserError
from equipoise.nets.players import make_generator, make_players
from equipoise.nets.resnet import SHARED, ModulatedBatchNorm, ResNetGenerator
from equipoise.recipe import Networks


def made(num_classes: int = 0, size: int = 32, **options: Any) -> ResNetGenerator:
    torch.manual_seed(0)
    networks = Networks(family="resnet", width=8, latent_size=11, generator_norm="batch", **options)
    generator = make_generator(networks, size=size, channels=3, num_classes=num_classes)
    assert isinstance(generator, ResNetGenerator)
    return generator


@pytest.mark.parametrize("num_classes", [0, 3])
def test_with_latent_skips_each_block_is_told_its_own_piece_of_the_latents(num_classes: int) -> None:
    generator = made(num_classes, latent_skips=True)
    labels = torch.tensor([0, 2]) if num_classes else None
    latents = torch.arange(22.0).reshape(2, 11)
    told: list[torch.Tensor] = []
    for block in generator.blocks:
        block.register_forward_pre_hook(lambda _, inputs: told.append(inputs[1]))
    assert generator(latents, labels).shape == (2, 3, 32, 32)
    assert [block[:, :2].tolist() for block in told] == [latents[:, a : a + 2].tolist() for a in (5, 7, 9)]
    shared = [block[:, 2:] for block in told]
    assert all(block.shape == (2, SHARED if num_classes else 0) for block in shared)
    assert all(torch.equal(block, shared[0]) for block in shared), "one vector a label"


def test_several_labels_share_a_vector_on_the_scale_of_one() -> None:
    generator = made(3, latent_skips=True)
    assert generator.pieces is not None
    latents = torch.zeros(1, 11)
    one, two = (generator.pieces(latents, labels)[1][0, 2:] for labels in (torch.tensor([0]), torch.tensor([1])))
    both = generator.pieces(latents, torch.tensor([[1, 1, 0]]))[1][0, 2:]
    torch.testing.assert_close(both, (one + two) / 2**0.5)


def test_the_norm_of_a_block_is_the_batchs_with_a_gain_of_one_and_a_linear_part() -> None:
    norm = ModulatedBatchNorm(2, 3).double()
    features = torch.randn(4, 2, 3, 3, dtype=torch.float64)
    told = torch.randn(4, 3, dtype=torch.float64)
    mean = features.mean((0, 2, 3), keepdim=True)
    plain = (features - mean) / (features.var((0, 2, 3), keepdim=True, correction=0) + 1e-5).sqrt()
    gain = 1 + told @ norm.scale.weight.T
    bias = told @ norm.shift.weight.T
    torch.testing.assert_close(norm(features, told), gain[:, :, None, None] * plain + bias[:, :, None, None])


def test_orthogonal_weights_keep_lengths() -> None:
    players = make_players(
        Networks(family="resnet", width=8, latent_size=4, orthogonal=True), size=16, channels=3, num_classes=2
    )
    for player in players:
        for layer in player.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                weight = layer.weight.flatten(1)
                small = min(weight.shape)
                gram = weight @ weight.T if len(weight) == small else weight.T @ weight
                torch.testing.assert_close(gram, torch.eye(small), atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", ["resnet", "dcgan", "mlp"])
def test_spectral_norm_of_a_generator_bounds_its_layers_and_leaves_gains_by_the_label_alone(family: Any) -> None:
    torch.manual_seed(0)
    networks = Networks(
        family=family, width=8, latent_size=4, generator_norm="batch", generator_spectral_norm=True, spectral_norm=True
    )
    generator, _ = make_players(networks, size=16, channels=1, num_classes=3)
    latents, labels = torch.randn(6, 4), torch.tensor([0, 1, 2, 0, 1, 2])
    for _ in range(40):
        generator(latents, labels)
    generator.eval()
    layers = [m for m in generator.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d | nn.Linear)]
    for layer in layers:
        matrix = layer.weight.transpose(0, 1) if isinstance(layer, nn.ConvTranspose2d) else layer.weight
        assert torch.linalg.matrix_norm(matrix.flatten(1), 2).item() == pytest.approx(1, abs=0.05)
    for embedding in (m for m in generator.modules() if isinstance(m, nn.Embedding)):
        assert not hasattr(embedding, "parametrizations")


@pytest.mark.parametrize(
    ("options", "remedy"),
    [
        ({"family": "modern", "attention": 8}, Setting("networks.family", "resnet")),
        ({"family": "mlp", "attention": 8}, Setting("networks.attention", 0)),
        ({"family": "modern", "generator_spectral_norm": True}, Setting("networks.generator_spectral_norm", False)),
        ({"family": "dcgan", "latent_skips": True}, Setting("networks.family", "resnet")),
        ({"family": "dcgan", "orthogonal": True}, Setting("networks.orthogonal", False)),
        ({"family": "resnet", "latent_skips": True}, Setting("networks.generator_norm", "batch")),
        (
            {"family": "resnet", "latent_skips": True, "generator_norm": "batch", "latent_size": 2},
            Setting("networks.latent_size", 60),
        ),
    ],
)
def test_what_a_family_has_no_place_for_is_refused_with_what_to_type(options: dict[str, Any], remedy: Setting) -> None:
    with pytest.raises(UserError) as caught:
        make_players(Networks(**options), size=16, channels=1, num_classes=0)
    assert isinstance(caught.value.subject, Setting)
    assert remedy in caught.value.remedies
