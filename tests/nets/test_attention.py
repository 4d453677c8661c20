"""Self-attention: its numbers by hand, its derivatives, where it stands, and what it changes."""

import math

import pytest
import torch

from equipoise.errors import Setting, UserError
from equipoise.nets.attention import SelfAttention, attended_place
from equipoise.nets.players import make_players
from equipoise.recipe import FamilyName, Networks


def test_attention_is_the_sum_over_all_places_that_one_computes_by_hand() -> None:
    layer = SelfAttention(2).double()  # compared and summed in one channel
    with torch.no_grad():
        layer.key.weight.copy_(torch.tensor([[1.0, 0.5]])[:, :, None, None])
        layer.query.weight.copy_(torch.tensor([[0.3, -1.0]])[:, :, None, None])
        layer.value.weight.copy_(torch.tensor([[2.0, 1.0]])[:, :, None, None])
        layer.project.weight.copy_(torch.tensor([[1.0], [-3.0]])[:, :, None, None])
        layer.gamma.fill_(0.7)
    places = [(1.0, 2.0), (-1.0, 0.5), (0.0, 3.0)]  # of a picture of 1×3 pixels and two channels
    features = torch.tensor(places, dtype=torch.float64).T[None, :, None, :]
    expected = []
    for x0, x1 in places:
        scores = [math.exp((a + 0.5 * b) * (0.3 * x0 - x1)) for a, b in places]
        summed = sum(score * (2 * a + b) for score, (a, b) in zip(scores, places, strict=True)) / sum(scores)
        expected.append((x0 + 0.7 * summed, x1 - 0.7 * 3 * summed))
    torch.testing.assert_close(layer(features)[0, :, 0].T, torch.tensor(expected, dtype=torch.float64))


def test_attention_begins_as_the_identity_and_learns_from_there() -> None:
    layer = SelfAttention(16)
    features = torch.randn(2, 16, 3, 5)
    assert torch.equal(layer(features), features)
    layer(features).square().sum().backward()
    assert layer.gamma.grad is not None
    assert layer.gamma.grad.abs() > 0


def test_attention_can_be_differentiated_twice_as_gradient_penalties_need() -> None:
    layer = SelfAttention(8).double()
    torch.nn.init.constant_(layer.gamma, 0.5)
    features = torch.randn(1, 8, 2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, features)
    assert torch.autograd.gradgradcheck(layer, features)


@pytest.mark.parametrize(
    ("size", "attention", "place"),
    [(64, 32, 1), (64, 17, 1), (64, 16, 2), (64, 1, 4), (28, 14, 1), (28, 7, 2), (28, 5, 2), ((40, 30), 15, 1)],
)
def test_attention_stands_at_the_lowest_side_that_is_not_below_it(size: int, attention: int, place: int) -> None:
    assert attended_place(size, attention) == place
    assert attended_place(size, 0) is None


@pytest.mark.parametrize("growing", [0, 100])
@pytest.mark.parametrize("size", [16, 32, (48, 32)])
@pytest.mark.parametrize("attention", [4, 8])
@pytest.mark.parametrize("family", ["dcgan", "resnet"])
def test_both_networks_attend_at_that_side_and_nowhere_else(
    family: FamilyName, attention: int, size: int | tuple[int, int], growing: int
) -> None:
    torch.manual_seed(0)
    networks = Networks(family=family, width=8, latent_size=6, attention=attention, growing=growing)
    generator, discriminator = make_players(networks, size=size, channels=1, num_classes=0)
    seen: list[int] = []
    for player in (generator, discriminator):
        layers = [layer for layer in player.modules() if isinstance(layer, SelfAttention)]
        assert len(layers) == 1
        torch.nn.init.constant_(layers[0].gamma, 1.0)
        layers[0].register_forward_hook(lambda _, __, features: seen.append(min(features.shape[2:])))
    discriminator(generator(torch.randn(2, 6))).sum().backward()
    assert seen == [attention, attention]
    for player in (generator, discriminator):
        reached = [p.grad for name, p in player.named_parameters() if name.startswith("attention.")]
        assert all(gradient is not None and gradient.abs().sum() > 0 for gradient in reached)


def test_attention_above_all_features_is_refused_with_the_highest_side_there_is() -> None:
    with pytest.raises(UserError) as caught:
        make_players(Networks(family="resnet", attention=32), size=28, channels=1, num_classes=0)
    assert caught.value.subject == Setting("networks.attention", 32)
    assert Setting("networks.attention", 14) in caught.value.remedies
