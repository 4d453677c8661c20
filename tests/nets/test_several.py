"""Several discriminators in one module, and one that is an autoencoder."""

import math
from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from torch import nn

from equipoise.errors import Setting, UserError
from equipoise.game.judged import Judged, judged
from equipoise.game.losses import loss_named
from equipoise.game.terms import StepContext, discriminator_terms, generator_term
from equipoise.nets.attention import SelfAttention
from equipoise.nets.autoencoder import AutoencodingDiscriminator
from equipoise.nets.efficientnet import LITE0, EfficientNetLite
from equipoise.nets.frozen import frozen_names, stages_of
from equipoise.nets.layers import halved
from equipoise.nets.players import make_players
from equipoise.nets.several import SeveralDiscriminators
from equipoise.nets.transfer import carried
from equipoise.randomness import Randomness
from equipoise.recipe import ConditionName, FamilyName, Game, Networks, Penalty, PenaltyName

FAMILIES = get_args(FamilyName)


def made(size: int = 16, family: FamilyName = "dcgan", num_classes: int = 0, **options: Any) -> nn.Module:
    """Return the discriminator of images [N, 1, size, size]."""
    torch.manual_seed(0)
    networks = Networks(family=family, width=4, latent_size=8, **options)
    return make_players(networks, size=size, channels=1, num_classes=num_classes)[1]


def drawn(num: int = 6, size: int = 16, seed: int = 1) -> torch.Tensor:
    return torch.randn(num, 1, size, size, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("family", FAMILIES)
def test_an_ensemble_has_a_logit_for_each_judge_by_weights_of_its_own(family: FamilyName) -> None:
    network = made(family=family, discriminators=3)
    assert isinstance(network, SeveralDiscriminators)
    logits = network(drawn())
    assert logits.shape == (6, 3)
    for place, judge in enumerate(network.judges):
        assert torch.equal(logits[:, place], judge(drawn()))
    assert not torch.allclose(logits[:, 0], logits[:, 1])


@pytest.mark.parametrize("family", FAMILIES)
def test_at_scales_each_judge_sees_the_images_halved_once_more(family: FamilyName) -> None:
    network = made(32, family, scales=3)
    assert isinstance(network, SeveralDiscriminators)
    images = drawn(size=32)
    for place, logits in enumerate(network(images).unbind(1)):
        assert torch.equal(logits, network.judges[place](images))
        images = halved(images)


def test_scales_that_the_small_pictures_of_stage_one_do_not_have_are_refused_by_its_size() -> None:
    with pytest.raises(UserError, match=r"8 × 8 pixels in stage one of networks\.stacked, halved once,") as told:
        made(16, scales=2, stacked=1_000, generator_norm="batch")
    assert told.value.remedies == (Setting("networks.scales", 1),)


def test_an_ensemble_at_scales_is_all_of_both() -> None:
    network = made(32, discriminators=2, scales=2)
    assert isinstance(network, SeveralDiscriminators)
    assert network.halvings == (0, 0, 1, 1)
    assert network(drawn(size=32)).shape == (6, 4)


def test_an_image_that_is_too_small_for_a_scale_is_refused_with_the_most_there_are() -> None:
    with pytest.raises(UserError) as caught:
        made(28, scales=3)
    assert caught.value.subject == Setting("networks.scales", 3)
    assert caught.value.remedies == (Setting("networks.scales", 2),)
    assert made(29, scales=3)(drawn(size=29)).shape == (6, 3)


@pytest.mark.parametrize("kind", ["none", "r1+r2", "wgan-gp"])
def test_the_terms_of_an_ensemble_are_the_sum_of_those_of_each_judge(kind: PenaltyName) -> None:
    network = made(discriminators=3)
    assert isinstance(network, SeveralDiscriminators)
    game = Game(loss="hinge", penalty=Penalty(kind=kind, gamma=2.0))
    loss = loss_named("hinge")
    step = StepContext(Randomness(0))
    real, fake = drawn(), drawn(seed=2)
    whole = discriminator_terms(game, loss, real, fake, network, step, num_judges=3).losses
    parts = [discriminator_terms(game, loss, real, fake, judge, step).losses for judge in network.judges]
    assert whole.keys() == parts[0].keys()
    for name, losses in whole.items():
        assert losses.shape == (6,)
        torch.testing.assert_close(losses, torch.stack([part[name] for part in parts]).sum(0))
    term = generator_term(loss, fake, drawn, network)
    torch.testing.assert_close(term, torch.stack([-judge(fake) for judge in network.judges]).sum(0))


def test_the_first_judge_alone_is_asked_for_more_than_a_logit() -> None:
    said = made(discriminators=2, num_classes=3, condition="naming")(drawn())
    assert isinstance(said, Judged)
    assert said.logits.shape == (6, 2)
    assert said.named is not None
    assert said.named.shape == (6, 3)


@pytest.mark.parametrize("condition", ["naming", "concatenation"])
def test_a_pretrained_judge_stands_beside_all_of_an_ensemble_and_what_it_says(condition: ConditionName) -> None:
    torch.manual_seed(0)
    networks = Networks(family="dcgan", width=4, latent_size=8, discriminators=2, pretrained=True, condition=condition)
    shape = {"size": 16, "channels": 1, "num_classes": 3}
    _, network = make_players(networks, **shape, pretrained=EfficientNetLite(LITE0))
    labels = torch.tensor([0, 1, 2, 0, 1, 2])
    said = judged(network(drawn(), labels))
    assert said.logits.shape == (6, 3)
    assert (said.named is not None) == (condition == "naming")
    changed = judged(network.eval()(drawn(), labels.flip(0))).logits != judged(network(drawn(), labels)).logits
    assert changed.any(0).tolist() == [condition == "concatenation"] * 3


def test_a_stage_of_an_ensemble_is_frozen_in_all_of_its_judges() -> None:
    alone, network = made(), made(discriminators=2, frozen=1)
    assert len(stages_of(network)) == len(stages_of(alone))
    names = frozen_names(network, 1)
    assert {name.split(".")[1] for name in names} == {"0", "1"}
    assert not names & {name for name, _ in network.named_parameters()}


def test_an_ensemble_takes_over_the_weights_of_one_of_as_many() -> None:
    old, new = made(discriminators=2), made(discriminators=2)
    found = carried(old.state_dict(), new.state_dict(), "discriminator")
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in old.state_dict().items())
    assert found.share(found.tensors) == 1


# An autoencoder


def test_the_logit_of_an_autoencoder_is_minus_the_mean_square_of_what_it_does_not_give_back() -> None:
    network = made(autoencoder=True)
    assert isinstance(network, AutoencodingDiscriminator)
    images = drawn()
    said = network(images)
    given_back = network.decoder(said.encoded)
    assert given_back.shape == images.shape
    for place in range(6):
        energy = sum(((given_back[place] - images[place]) ** 2).flatten().tolist()) / 256
        assert math.isclose(-said.logits[place].item(), energy, rel_tol=1e-5)
    assert said.encoded is not None
    assert said.encoded.shape == (6, 8), "a code of a latent's size"


@pytest.mark.parametrize("size", [8, 9, 28])
def test_an_autoencoder_fits_the_size_and_its_gradients_reach_all_weights(size: int) -> None:
    network = made(size, autoencoder=True, discriminator_norm="batch")
    network(drawn(size=size)).logits.sum().backward()
    assert all(weight.grad is not None for weight in network.parameters())
    assert stages_of(network)


def test_the_encoder_of_an_autoencoder_attends_where_its_family_does() -> None:
    network = made(autoencoder=True, attention=4)
    assert isinstance(network, AutoencodingDiscriminator)
    network(drawn()).logits.sum().backward()
    assert isinstance(network.encoder.attention, SelfAttention)
    assert network.encoder.attention.gamma.grad != 0


@pytest.mark.parametrize("family", ["mlp", "resnet", "modern", "style"])
def test_a_family_without_an_autoencoder_says_which_has_one(family: FamilyName) -> None:
    with pytest.raises(UserError) as caught:
        made(family=family, autoencoder=True)
    assert Setting("networks.family", "dcgan") in caught.value.remedies


def test_several_autoencoders_give_an_energy_each_and_the_code_of_the_first() -> None:
    network = made(autoencoder=True, discriminators=2)
    said = judged(network(drawn()))
    assert said.logits.shape == (6, 2)
    assert (said.logits < 0).all()
    assert said.encoded is not None


def test_the_default_discriminator_is_alone_and_has_the_weights_that_the_seed_draws() -> None:
    networks = Networks(family="dcgan", width=4, latent_size=8)
    torch.manual_seed(0)
    _, plain = make_players(networks, size=16, channels=1, num_classes=0)
    torch.manual_seed(0)
    _, same = make_players(replace(networks, discriminators=1, scales=1), size=16, channels=1, num_classes=0)
    assert not isinstance(plain, SeveralDiscriminators)
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), same.parameters(), strict=True))
