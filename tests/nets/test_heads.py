"""How heads are told the label and what they say besides a logit, in every family."""

from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from torch import nn

from equipoise.errors import Setting, UserError
from equipoise.game.judged import Judged, judged
from equipoise.nets.heads import Asked, ConcatenationHead, Head, refitted
from equipoise.nets.layers import ProjectionHead
from equipoise.nets.players import make_players
from equipoise.recipe import FamilyName, Networks

FAMILIES = get_args(FamilyName)
ZEROS, ONES = torch.zeros(4).long(), torch.ones(4).long()


def discriminator(family: FamilyName = "dcgan", num_classes: int = 3, packing: int = 1, **options: Any) -> nn.Module:
    """Return the discriminator of images [N, 2, 16, 16]."""
    torch.manual_seed(0)
    networks = Networks(family=family, width=8, latent_size=16, **options)
    _, found = make_players(networks, size=16, channels=2, num_classes=num_classes, packing=packing)
    return found


def images(num: int = 4) -> torch.Tensor:
    return torch.randn(num, 2, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("family", FAMILIES)
def test_concatenation_sees_the_label_and_gradients_reach_all_weights(family: FamilyName) -> None:
    network = discriminator(family, condition="concatenation")
    zeros, ones = network(images(), ZEROS), network(images(), ONES)
    assert zeros.shape == (4,)
    assert not torch.allclose(zeros, ones)
    zeros.square().sum().backward()
    head = network.get_submodule("head")
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in head.parameters())
    with pytest.raises(ValueError, match="class-conditional"):
        network(images())


def test_a_concatenation_head_is_two_layers_of_the_features_and_the_labels_vector() -> None:
    head = ConcatenationHead(5, 3)
    features = torch.randn(2, 5)
    vectors = head.embedding.weight[[2, 0]]
    hidden = torch.cat([features, vectors], 1) @ head.joint.weight.T + head.joint.bias
    expected = torch.where(hidden > 0, hidden, 0.2 * hidden) @ head.linear.weight[0] + head.linear.bias
    torch.testing.assert_close(head(features, torch.tensor([2, 0])), expected)


def test_of_several_labels_the_concatenated_vector_is_their_sum() -> None:
    head = ConcatenationHead(5, 3)
    features = torch.randn(1, 5)
    both = head(features, torch.tensor([[1, 0, 1]]))
    with torch.no_grad():
        head.embedding.weight[1] = head.embedding.weight[0] + head.embedding.weight[2]
    torch.testing.assert_close(head(features, torch.tensor([1])), both)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_discriminator_that_names_the_class_is_not_told_it(family: FamilyName) -> None:
    network = discriminator(family, condition="naming")
    said = network(images(), ZEROS)
    assert isinstance(said, Judged)
    assert said.logits.shape == (4,)
    assert said.named is not None
    assert said.named.shape == (4, 3)
    assert said.codes is None
    other = judged(network(images(), ONES))
    assert other.named is not None
    torch.testing.assert_close((said.logits, said.named), (other.logits, other.named))


@pytest.mark.parametrize("family", FAMILIES)
def test_codes_are_read_beside_an_unchanged_logit(family: FamilyName) -> None:
    said = judged(discriminator(family, num_classes=0, categorical_codes=4, continuous_codes=2)(images()))
    assert said.codes is not None
    assert said.codes.shape == (4, 6)
    torch.testing.assert_close(said.logits, discriminator(family, num_classes=0)(images()))


def test_what_is_named_and_read_are_layers_on_the_features_of_the_logit() -> None:
    head = Head(ProjectionHead(5, 0), 5, Asked(named=3, codes=2))
    features = torch.randn(4, 5)
    said = judged(head(features, None))
    assert head.namer is not None
    assert head.reader is not None
    torch.testing.assert_close(said.named, head.namer(features))
    torch.testing.assert_close(said.codes, head.reader(features))


def test_a_head_that_is_asked_nothing_stays_the_familys_own() -> None:
    network = discriminator()
    before = dict(network.named_parameters())
    assert refitted(network, Asked()) is network
    assert dict(network.named_parameters()).keys() == before.keys()
    assert isinstance(network.get_submodule("head"), ProjectionHead)


def test_spectral_norm_is_on_every_new_layer_and_once_on_the_old_ones() -> None:
    for condition in ("concatenation", "naming"):
        network = discriminator(spectral_norm=True, condition=condition)
        for name, layer in network.named_modules():
            if isinstance(layer, nn.Conv2d | nn.Linear | nn.Embedding):
                found = layer.get_submodule("parametrizations.weight")
                assert len(list(found.children())) == 1, name


@pytest.mark.parametrize("family", FAMILIES)
def test_codes_go_into_every_generator_as_a_category_and_numbers(family: FamilyName) -> None:
    networks = Networks(family=family, width=8, latent_size=8, generator_norm="none")
    torch.manual_seed(0)
    plain, _ = make_players(networks, size=16, channels=1, num_classes=0)
    torch.manual_seed(0)
    coded = replace(networks, categorical_codes=3, continuous_codes=2)
    generator, _ = make_players(coded, size=16, channels=1, num_classes=0)
    for network in (plain, generator):
        draws = torch.Generator().manual_seed(2)
        with torch.no_grad():
            for weight in network.parameters():
                weight.add_(0.05 * torch.randn(weight.shape, generator=draws))
    latents = torch.tensor([[0.1, 2.0, -1.0, 0.0, 1e3, 0.3, -0.2, 0.7], [3.0, 2.0, -1.0, -1e3, 0.0, 0.3, -0.2, 0.7]])
    given = torch.tensor([[0, 1, 0, 0.0, 1, 0.3, -0.2, 0.7], [1, 0, 0, -1.0, 0, 0.3, -0.2, 0.7]])
    torch.testing.assert_close(generator(latents), plain(given))


@pytest.mark.parametrize("family", ["mlp", "dcgan", "modern"])
def test_a_scale_of_labels_makes_their_vectors_smaller_and_changes_nothing_else(family: FamilyName) -> None:
    def made(scale: float) -> dict[str, torch.Tensor]:
        torch.manual_seed(0)
        networks = Networks(family=family, width=8, latent_size=8, generator_norm="none", label_scale=scale)
        return make_players(networks, size=16, channels=1, num_classes=3)[0].state_dict()

    plain, small = made(1.0), made(0.1)
    for name, tensor in plain.items():
        factor = 0.1 if name == "inputs.embedding.weight" else 1.0
        torch.testing.assert_close(small[name], factor * tensor)
    assert "inputs.embedding.weight" in plain


@pytest.mark.parametrize("latent_skips", [False, True])
def test_a_generator_that_is_told_the_label_by_its_norms_has_no_vector_to_scale(latent_skips: bool) -> None:
    shape: dict[str, Any] = {"size": 16, "channels": 1, "num_classes": 3}
    networks = Networks(family="resnet", width=8, latent_size=20, generator_norm="batch", label_scale=0.1)
    networks = replace(networks, latent_skips=latent_skips)
    with pytest.raises(UserError) as caught:
        make_players(networks, **shape)
    remedies = [one for one in caught.value.remedies if isinstance(one, Setting)]
    assert Setting("networks.label_scale", 1) in remedies
    for one in remedies:  # each way out is one
        changed: dict[str, Any] = {one.field.removeprefix("networks."): one.value}
        make_players(replace(networks, **changed), **shape)
