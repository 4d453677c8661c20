"""What a network takes over of another one's weights: by hand, for each family."""

from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from equipoise.nets.efficientnet import LITE0, EfficientNetLite
from equipoise.nets.players import make_players
from equipoise.nets.transfer import carried
from equipoise.recipe import FamilyName, Networks

Weights = dict[str, Tensor]
SPECTRAL = ".parametrizations.weight"
LISTS = ("upwards.", "downwards.", "blocks.", "stages.", "transitions.")


def made(family: FamilyName, seed: int, size: int = 32, channels: int = 1, num_classes: int = 0, **options: Any):
    torch.manual_seed(seed)
    norm: Literal["batch", "none"] = "none" if family == "modern" else "batch"
    settings = {"width": 4, "latent_size": 6, "generator_norm": norm, **options}
    networks = Networks(family=family, conditional=num_classes > 0, **settings)
    pretrained = EfficientNetLite(LITE0) if networks.pretrained else None
    return make_players(networks, size=size, channels=channels, num_classes=num_classes, pretrained=pretrained)


def state(network: nn.Module) -> Weights:
    """Return a network's tensors, each with numbers of its own, buffers too."""
    draws = torch.Generator().manual_seed(int(next(network.parameters()).abs().sum() * 1000))
    return {
        name: tensor + torch.rand(tensor.shape, generator=draws) if tensor.is_floating_point() else tensor + 7
        for name, tensor in network.state_dict().items()
    }


def taken(family: FamilyName, role: int, old: dict[str, Any], new: dict[str, Any], classes: Any = ()):
    """Return the names of the old network's tensors from which those of a new one were taken, by the new names."""
    before = state(made(family, 0, **old)[role])
    fresh = state(made(family, 1, **new)[role])
    found = carried(before, fresh, "generator" if role == 0 else "discriminator", classes)
    assert found.tensors.keys() == fresh.keys()
    sources: dict[str, str] = {}
    for name, tensor in found.tensors.items():
        if not found.num_taken[name]:
            assert torch.equal(tensor, fresh[name]), f"{name} stays fresh"
        elif found.num_taken[name] == tensor.numel() and tensor.is_floating_point():
            equal = [
                other for other, kept in before.items() if kept.shape == tensor.shape and torch.equal(kept, tensor)
            ]
            (sources[name],) = equal
    return sources


def lists(sources: dict[str, str]) -> set[tuple[str, str]]:
    """Return the places of lists, as (new, old), from which something was taken."""
    return {(place(new), place(old)) for new, old in sources.items() if place(new).startswith(LISTS)}


def place(name: str) -> str:
    return ".".join(name.removeprefix("own.").split(".")[:2])


@pytest.mark.parametrize("family", ["mlp", "dcgan", "resnet", "modern"])
@pytest.mark.parametrize("role", [0, 1])
def test_the_same_networks_are_taken_whole(family: FamilyName, role: int) -> None:
    options = {"size": 28, "num_classes": 2}
    before = state(made(family, 0, **options)[role])
    fresh = state(made(family, 1, **options)[role])
    found = carried(before, fresh, "discriminator" if role else "generator", [(0, 0), (1, 1)])
    for name, tensor in found.tensors.items():
        assert torch.equal(tensor, before[name]), name
    assert found.share(before) == 1
    assert found.has_layers


def test_the_stages_of_a_larger_dcgan_generator_are_counted_from_the_pixels() -> None:
    """32×32 has three doublings, of 16, 8 and 4 channels; 128×128 has five, of 32, 32, 16, 8 and 4."""
    sources = taken("dcgan", 0, {"size": 32}, {"size": 128})
    assert lists(sources) == {("upwards.3", "upwards.1"), ("upwards.2", "upwards.0"), ("upwards.4", "upwards.2")}
    assert sources["upwards.2.0.weight"] == "upwards.0.0.weight"
    assert sources["upwards.2.1.running_mean"] == "upwards.0.1.running_mean"
    assert "project.0.weight" not in sources, "16 channels are no 32"
    assert "project.0.weight" in taken("dcgan", 0, {"size": 64}, {"size": 128})


def test_the_stages_of_a_smaller_generator_are_counted_from_the_pixels_too() -> None:
    sources = taken("dcgan", 0, {"size": 128}, {"size": 32})
    assert lists(sources) == {("upwards.0", "upwards.2"), ("upwards.1", "upwards.3"), ("upwards.2", "upwards.4")}


def test_the_stages_of_a_larger_dcgan_discriminator_begin_at_the_pixels() -> None:
    sources = taken("dcgan", 1, {"size": 32}, {"size": 64})
    assert lists(sources) == {(f"downwards.{index}", f"downwards.{index}") for index in range(3)}
    assert "head.linear.weight" not in sources


def test_resnet_blocks_are_counted_from_the_pixels_and_the_last_of_the_discriminator_is_the_last() -> None:
    """64×64 has four halvings, of 4, 8, 16 and 32 channels, 128×128 a fifth one of 32; then a block halves nothing."""
    generator = taken("resnet", 0, {"size": 64}, {"size": 128})
    assert lists(generator) == {(f"blocks.{index + 1}", f"blocks.{index}") for index in range(4)}
    assert {"linear.weight", "to_pixels.weight", "norm.norm.norm.weight"} <= generator.keys()
    discriminator = taken("resnet", 1, {"size": 64}, {"size": 128})
    assert lists(discriminator) == {*((f"blocks.{index}",) * 2 for index in range(4)), ("blocks.5", "blocks.4")}
    assert "head.linear.weight" in discriminator
    smaller = taken("resnet", 1, {"size": 128}, {"size": 64})
    assert lists(smaller) == {*((f"blocks.{index}",) * 2 for index in range(4)), ("blocks.4", "blocks.5")}


def test_the_modern_family_takes_stages_and_the_changes_between_them_from_the_pixels() -> None:
    generator = taken("modern", 0, {"size": 64}, {"size": 128})
    stages = {(f"stages.{index + 1}", f"stages.{index}") for index in range(4)}
    assert lists(generator) == stages | {(f"transitions.{index + 1}", f"transitions.{index}") for index in range(3)}
    assert {"basis", "modulate.weight", "to_pixels.weight"} <= generator.keys()
    discriminator = taken("modern", 1, {"size": 64}, {"size": 128})
    same = {(f"stages.{index}",) * 2 for index in range(4)} | {(f"transitions.{index}",) * 2 for index in range(3)}
    assert lists(discriminator) == same
    assert {"from_pixels.weight", "basis.weight", "head.linear.weight"} <= discriminator.keys()


def test_a_network_with_one_stage_gives_it_to_the_one_next_to_the_pixels() -> None:
    assert lists(taken("modern", 0, {"size": 8}, {"size": 32})) == {("stages.2", "stages.0")}


def test_a_perceptron_takes_the_layers_that_do_not_see_pixels() -> None:
    assert {name.split(".")[1] for name in taken("mlp", 0, {"size": 8}, {"size": 16})} == {"0", "1", "3", "4", "6", "7"}
    weights = {name for name in taken("mlp", 1, {"size": 8}, {"size": 16}) if "weight" in name}
    assert weights == {"layers.4.weight", "layers.8.weight", "head.linear.weight"}


def test_other_channels_leave_the_layers_next_to_the_pixels_fresh_with_their_biases() -> None:
    generator = taken("dcgan", 0, {"channels": 1}, {"channels": 3})
    assert lists(generator) == {("upwards.0", "upwards.0"), ("upwards.1", "upwards.1")}
    discriminator = taken("dcgan", 1, {"channels": 1}, {"channels": 3})
    assert lists(discriminator) == {("downwards.1", "downwards.1"), ("downwards.2", "downwards.2")}
    assert "head.linear.weight" in discriminator


def test_spectral_norms_come_along_with_their_layers() -> None:
    options = {"spectral_norm": True, "discriminator_norm": "none"}
    sources = taken("dcgan", 1, {"size": 32, **options}, {"size": 64, **options})
    layer = f"downwards.2.0{SPECTRAL}"
    for name in (f"{layer}.original", f"{layer}.0._u", f"{layer}.0._v"):
        assert sources[name] == name
    assert not any(name.startswith(("downwards.3", "head")) for name in sources)


@pytest.mark.parametrize("spectral", [False, True])
def test_the_rows_of_classes_that_both_know_are_taken_by_their_names(spectral: bool) -> None:
    """The new classes are an unknown one, then the third and the first of the old ones."""
    known = [(1, 2), (2, 0)]
    norms = {"spectral_norm": spectral}
    for role, names in (
        (0, ["blocks.0.norm1.norm.gain.weight", "blocks.0.norm1.norm.bias.weight"]),
        (1, [f"head.embedding{SPECTRAL}.original" if spectral else "head.embedding.weight"]),
    ):
        before = state(made("resnet", 0, num_classes=3, **norms)[role])
        fresh = state(made("resnet", 1, num_classes=3, **norms)[role])
        found = carried(before, fresh, "discriminator" if role else "generator", known)
        for name in names:
            assert torch.equal(found.tensors[name][0], fresh[name][0])
            assert torch.equal(found.tensors[name][1], before[name][2])
            assert torch.equal(found.tensors[name][2], before[name][0])
            assert found.num_taken[name] == 2 * before[name].shape[1]


def test_the_rows_of_a_table_that_all_blocks_share_are_taken_by_their_names_too() -> None:
    skips = {"latent_skips": True, "latent_size": 20}
    before = state(made("resnet", 0, num_classes=3, **skips)[0])
    fresh = state(made("resnet", 1, num_classes=3, **skips)[0])
    rows = carried(before, fresh, "generator", [(0, 2)]).tensors["pieces.shared.weight"]
    assert torch.equal(rows[0], before["pieces.shared.weight"][2])
    assert torch.equal(rows[1:], fresh["pieces.shared.weight"][1:])


def test_more_classes_than_before_keep_what_both_know() -> None:
    before = state(made("dcgan", 0, num_classes=2)[0])
    fresh = state(made("dcgan", 1, num_classes=5)[0])
    found = carried(before, fresh, "generator", [(4, 1)])
    rows = found.tensors["inputs.embedding.weight"]
    assert torch.equal(rows[4], before["inputs.embedding.weight"][1])
    assert torch.equal(rows[:4], fresh["inputs.embedding.weight"][:4])
    assert torch.equal(found.tensors["project.0.weight"], before["project.0.weight"])


def test_a_network_that_learns_classes_begins_with_fresh_rows() -> None:
    generator = taken("resnet", 0, {}, {"num_classes": 2})
    assert not any("gain" in name or ".norm.bias" in name for name in generator)
    assert {"linear.weight", "blocks.0.conv1.weight", "blocks.0.norm1.norm.norm.running_mean"} <= generator.keys()
    discriminator = taken("resnet", 1, {}, {"num_classes": 2})
    assert "head.linear.weight" in discriminator
    assert "head.embedding.weight" not in discriminator


@pytest.mark.parametrize("is_aided_before", [False, True])
def test_the_own_discriminator_fits_beside_a_projected_one_or_without(is_aided_before: bool) -> None:
    sources = taken("dcgan", 1, {"pretrained": is_aided_before}, {"pretrained": not is_aided_before})
    prefix = "" if is_aided_before else "own."
    assert sources[f"{prefix}downwards.0.0.weight"] == f"{'own.' if is_aided_before else ''}downwards.0.0.weight"
    assert lists(sources) == {(f"downwards.{index}", f"downwards.{index}") for index in range(3)}
    assert f"{prefix}head.linear.weight" in sources
    assert not any(name.startswith("projected") for name in sources)


def test_nothing_of_a_generator_fits_that_differs_next_to_the_pixels_and_at_the_lowest_stage() -> None:
    before = made("dcgan", 0, size=8, channels=1)[0].state_dict()
    fresh = made("dcgan", 1, size=16, channels=3)[0].state_dict()
    found = carried(before, fresh, "generator")
    assert not found.has_layers
    assert found.share(fresh) < 0.1


def test_what_is_taken_is_no_view_of_either_network() -> None:
    before = made("dcgan", 0)[0].state_dict()
    fresh = made("dcgan", 1)[0].state_dict()
    found = carried(before, fresh, "generator")
    for tensor in found.tensors.values():
        tensor.zero_()
    assert all(tensor.any() for name, tensor in {**before, **fresh}.items() if name.endswith("weight"))
