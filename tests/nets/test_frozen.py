"""Stages of a discriminator that keep their weights."""

import pytest
import torch

from equipoise.errors import Setting, UserError
from equipoise.nets.efficientnet import LITE0, EfficientNetLite
from equipoise.nets.frozen import freeze_lowest, frozen_names, stages_of
from equipoise.nets.players import make_players
from equipoise.recipe import FamilyName, Networks

NUM_STAGES = {
    "dcgan": 3,
    "resnet": 4,
    "modern": 3,
    "style": 3,
}  # at 32×32; a residual network has one more, that halves nothing
FIRST = {
    "dcgan": "downwards.0.",
    "resnet": "blocks.0.",
    "modern": ("from_pixels.", "stages.0."),
    "style": ("from_pixels.", "downwards.0."),
}


def discriminator_of(family: FamilyName, frozen: int, **options) -> torch.nn.Module:
    torch.manual_seed(0)
    networks = Networks(family=family, width=4, frozen=frozen, **options)
    pretrained = EfficientNetLite(LITE0) if networks.pretrained else None
    return make_players(networks, size=32, channels=1, num_classes=0, pretrained=pretrained)[1]


def own(name: str) -> str:
    return name.removeprefix("own.")


@pytest.mark.parametrize("is_aided", [False, True])
@pytest.mark.parametrize("family", NUM_STAGES)
def test_the_stages_next_to_the_pixels_have_no_parameters_any_more_and_the_same_tensors(
    family: FamilyName, is_aided: bool
) -> None:
    plain = discriminator_of(family, 0, pretrained=is_aided)
    frozen = discriminator_of(family, 1, pretrained=is_aided)
    names = {name for name, _ in plain.named_parameters()}
    kept = {name for name in names if own(name).startswith(FIRST[family])}
    assert kept
    assert {name for name, _ in frozen.named_parameters()} == names - kept
    assert frozen.state_dict().keys() == plain.state_dict().keys(), "a checkpoint has all of them"
    assert all(torch.equal(tensor, plain.state_dict()[name]) for name, tensor in frozen.state_dict().items())
    assert kept <= frozen_names(frozen, 1)
    assert all(own(name).startswith(FIRST[family]) for name in frozen_names(frozen, 1))


@pytest.mark.parametrize("family", NUM_STAGES)
def test_what_is_frozen_stays_as_it_is_in_a_step_and_lets_gradients_through(family: FamilyName) -> None:
    spectral = family not in ("modern", "style")
    plain = discriminator_of(family, 0, spectral_norm=spectral)
    frozen = discriminator_of(family, 2, spectral_norm=spectral)
    images = torch.randn(4, 1, 32, 32, requires_grad=True)
    logits = frozen(images)
    assert torch.equal(logits, plain(images))
    frozen.requires_grad_(True)  # as the update does, in turn
    before = {name: tensor.clone() for name, tensor in frozen.state_dict().items()}
    optimizer = torch.optim.Adam(frozen.parameters(), 0.1)
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    (logits.mean() + gradient.square().sum()).backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0
    optimizer.step()
    names = {name for name in frozen_names(frozen, 2) if not name.endswith(("._u", "._v"))}
    for name, tensor in frozen.state_dict().items():
        if name in names:
            assert torch.equal(tensor, before[name]), name
    assert not torch.equal(frozen.state_dict()["head.linear.bias"], before["head.linear.bias"])


@pytest.mark.parametrize("family", NUM_STAGES)
def test_more_stages_than_there_are_are_refused_with_their_number(family: FamilyName) -> None:
    num = NUM_STAGES[family]
    assert len(stages_of(discriminator_of(family, num))) == num
    with pytest.raises(UserError) as caught:
        discriminator_of(family, num + 1)
    assert caught.value.subject == Setting("networks.frozen", num + 1)
    assert Setting("networks.frozen", num) in caught.value.remedies


def test_a_perceptron_has_no_stages_to_freeze() -> None:
    with pytest.raises(UserError) as caught:
        discriminator_of("mlp", 1)
    assert caught.value.remedies == (Setting("networks.frozen", 0),)
    freeze_lowest(discriminator_of("mlp", 0), 0)


def test_minibatch_deviation_is_no_stage_of_its_own() -> None:
    assert len(stages_of(discriminator_of("resnet", 0, minibatch_deviation=True))) == NUM_STAGES["resnet"]
