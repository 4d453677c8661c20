from collections.abc import Callable
from dataclasses import replace
from typing import get_args

import pytest
import torch
from made_generators import Bent, Coded, Linear, Mapped, Split, ready
from torch import nn

from equipoise.errors import UserError
from equipoise.explore.directions import directions_of_activations
from equipoise.explore.layer import first_activations, first_layer
from equipoise.explore.space import Space, codes_of, images_of, images_of_codes
from equipoise.nets.players import make_generator
from equipoise.randomness import Randomness
from equipoise.recipe import FamilyName, Networks

FAMILIES = get_args(FamilyName)
LATENT_SIZE = 6


def generator(family: FamilyName, size: int = 16, num_classes: int = 0, **options) -> nn.Module:
    """Return an untrained generator whose weights and running statistics are not those of the beginning."""
    torch.manual_seed(0)
    for norm in ("batch", "none"):
        networks = Networks(family=family, width=8, latent_size=LATENT_SIZE, generator_norm=norm)
        try:
            made = make_generator(replace(networks, **options), size=size, channels=1, num_classes=num_classes)
        except UserError:
            continue
        for _ in range(3):
            labels = torch.randint(num_classes, (16,)) if num_classes else None
            made(torch.randn(16, LATENT_SIZE), labels)
        return ready(made)
    raise AssertionError(family)


def told(num_classes: int) -> Callable[[Randomness, int], torch.Tensor | None]:
    def draw(randomness: Randomness, num: int) -> torch.Tensor | None:
        return torch.randint(num_classes, (num,), generator=randomness.generator("labels")) if num_classes else None

    return draw


@pytest.mark.parametrize("num_classes", [0, 3])
@pytest.mark.parametrize("size", [8, 28, 32])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_shows_where_its_latents_enter(family: FamilyName, size: int, num_classes: int) -> None:
    space = Space(generator(family, size, num_classes), LATENT_SIZE, told(num_classes))
    layer = first_layer(space)
    assert layer.matrix.abs().sum(0).min() > 0, "each latent counts"
    if space.mapping is None:
        assert layer.matrix.shape[1] == LATENT_SIZE, "labels do not"


@pytest.mark.parametrize(
    ("family", "name"), [("mlp", "layers.0"), ("dcgan", "project.0"), ("resnet", "linear"), ("modern", "modulate")]
)
@pytest.mark.parametrize("num_classes", [0, 3])
def test_the_matrix_that_is_measured_is_the_weight(family: FamilyName, name: str, num_classes: int) -> None:
    made = generator(family, num_classes=num_classes)
    layer = first_layer(Space(made, LATENT_SIZE, told(num_classes)))
    assert layer.names == (name,)
    weight = made.state_dict()[f"{name}.weight"]
    if weight.ndim == 4:  # of a transposed convolution: [in, out, h, w]
        weight = weight.flatten(1).T
    assert torch.allclose(layer.matrix, weight[:, :LATENT_SIZE], atol=1e-5)


def test_latents_that_enter_in_pieces_are_found_in_every_place() -> None:
    torch.manual_seed(0)
    made = ready(Split())
    layer = first_layer(Space(made, 6))
    assert layer.names == ("low", "high")
    assert torch.allclose(layer.matrix[:16, :3], made.low.weight, atol=1e-5)
    assert torch.allclose(layer.matrix[16:, 3:], made.high.weight, atol=1e-5)
    assert layer.matrix[:16, 3:].abs().max() == 0


def test_latents_that_become_codes_count_nothing_and_the_others_do() -> None:
    torch.manual_seed(0)
    made = ready(Coded())
    layer = first_layer(Space(made, 6))
    assert layer.names == ("own.0",)
    assert layer.matrix[:, :2].abs().max() == 0
    assert torch.allclose(layer.matrix[:, 2:], made.own[0].weight[:, 2:], atol=1e-5)


def test_behind_a_mapping_network_the_layers_that_take_its_codes_count() -> None:
    torch.manual_seed(0)
    layer = first_layer(Space(ready(Mapped()), 6))
    assert layer.names == ("first", "second")
    assert layer.matrix.shape == (24, 5)


def test_a_network_that_bends_its_latents_first_is_refused_in_words() -> None:
    with pytest.raises(UserError, match="no affine layer"):
        first_layer(Space(ready(Bent()), 6))


def test_activations_are_taken_behind_the_first_nonlinearity() -> None:
    assert first_activations(Space(generator("mlp"), LATENT_SIZE), "layers.0") == "layers.2"
    assert first_activations(Space(generator("dcgan"), LATENT_SIZE), "project.0") == "project.2"
    linear = Space(ready(Linear(0.1 * torch.eye(16)[:, :5])), 5)
    assert first_activations(linear, "layer") == "layer"


def test_looking_leaves_no_hooks_behind() -> None:
    made = generator("modern")
    space = Space(made, LATENT_SIZE)
    first_activations(space, first_layer(space).names[0])
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in made.modules())


def test_the_styles_of_a_generator_with_codes_are_found_too() -> None:
    plain = Space(generator("style"), LATENT_SIZE)
    coded = Space(generator("style", categorical_codes=3, continuous_codes=1), LATENT_SIZE)
    assert plain.mapping_name == "mapping"
    assert coded.mapping is not None
    names = first_layer(coded).names
    assert names == tuple(f"own.{name}" for name in first_layer(plain).names)
    latents = coded.latents(Randomness(0), 5)
    codes = codes_of(coded, latents)
    assert not torch.equal(codes, latents)
    assert torch.allclose(images_of_codes(coded, codes), images_of(coded, latents), atol=1e-6)
    assert directions_of_activations(coded, 2).layers == ("own.mapping",)
