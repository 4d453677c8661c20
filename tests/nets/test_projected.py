import copy

import pytest
import torch
from torch import Tensor, nn

from equipoise.errors import Setting, UserError
from equipoise.nets.efficientnet import LITE0, LITE0_WEIGHTS, EfficientNetLite, published
from equipoise.nets.players import make_players
from equipoise.nets.projected import AidedDiscriminator, ProjectedDiscriminator, freeze
from equipoise.recipe import Networks
from equipoise.sizes import GivenSize, size_of

NETWORKS = Networks(family="dcgan", width=4, pretrained=True, generator_norm="batch")


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory) -> EfficientNetLite:
    return published(LITE0_WEIGHTS, LITE0, tmp_path_factory.mktemp("cache"))[0]


def _made(pretrained: EfficientNetLite, size: GivenSize = 32, num_classes: int = 0) -> ProjectedDiscriminator:
    torch.manual_seed(0)
    return ProjectedDiscriminator(copy.deepcopy(pretrained), size=size, width=4, num_classes=num_classes)


def _images(num: int = 4, size: int = 32, channels: int = 3) -> Tensor:
    return torch.rand(num, channels, size, size, generator=torch.Generator().manual_seed(1)) * 2 - 1


def test_no_optimizer_sees_the_pretrained_and_the_mixing_weights_and_a_checkpoint_has_them(pretrained):
    network = _made(pretrained)
    trained = {name.split(".")[0] for name, _ in network.named_parameters()}
    assert trained == {"judges"}
    network.requires_grad_(True)  # as the update does, in turn
    assert not any(tensor.requires_grad for tensor in network.buffers())
    other = _made(pretrained)
    for tensor in other.state_dict().values():
        tensor.zero_()
    other.load_state_dict(network.state_dict())
    network.eval()
    other.eval()
    assert torch.equal(network(_images()), other(_images()))


def test_every_scale_reaches_the_finest_one_and_the_generator(pretrained):
    network = _made(pretrained)
    images = _images().requires_grad_()
    mixed = network.seen(images)
    assert [one.shape[1:] for one in mixed] == [(4, 16, 16), (8, 8, 8), (16, 4, 4), (32, 2, 2)]
    (gradient,) = torch.autograd.grad(network(images).sum(), images)
    assert gradient.abs().amax((1, 2, 3)).min() > 0


@pytest.mark.parametrize("size", [8, 28, 40, 64, 100, (40, 30), (16, 200)])
def test_images_of_any_size_and_grey_ones_have_a_logit_each(pretrained, size):
    network = _made(pretrained, size)
    width, height = size_of(size)
    for channels in (1, 3):
        assert network(torch.zeros(2, channels, height, width)).shape == (2,)


def test_the_logit_depends_on_the_class_where_there_are_classes(pretrained):
    network = _made(pretrained, num_classes=3).eval()
    images = _images()
    zeros = torch.zeros(4, dtype=torch.int64)
    assert not torch.equal(network(images, zeros), network(images, zeros + 1))


def test_the_logit_of_an_image_depends_on_how_much_its_batch_differs_where_that_is_asked_for(pretrained):
    given = copy.deepcopy(pretrained)
    network = ProjectedDiscriminator(given, size=32, width=4, num_classes=0, norm="none", minibatch_deviation=True)
    images = _images()
    same = images[:1].repeat(4, 1, 1, 1)
    with torch.no_grad():
        assert not torch.allclose(network(images)[0], network(same)[0], atol=1e-6)
    plain = ProjectedDiscriminator(copy.deepcopy(pretrained), size=32, width=4, num_classes=0, norm="none").eval()
    with torch.no_grad():
        assert torch.allclose(plain(images)[0], plain(same)[0], atol=1e-5)


def test_the_logit_shows_where_the_images_of_a_class_are_all_alike_though_the_batch_is_not(pretrained):
    given = copy.deepcopy(pretrained)
    network = ProjectedDiscriminator(given, size=32, width=4, num_classes=2, norm="none", minibatch_deviation=True)
    network.eval()  # whose spectral norms stay what they are
    images = _images()
    labels = torch.tensor([0, 1, 0, 1])
    alike = torch.stack([images[0], images[1], images[0], images[3]])
    with torch.no_grad():
        found, of_alike = network(images, labels), network(alike, labels)
        assert not torch.allclose(found[0], of_alike[0], atol=1e-6), "two of its class are the same now"
        assert torch.allclose(found[1], of_alike[1], atol=1e-6), "its own class is what it was"
        rows = torch.nn.functional.one_hot(labels, 2).float()
        assert torch.isfinite(network(images, rows)).all(), "of several labels"


def test_a_judge_that_is_not_told_the_class_does_not_see_it_in_how_much_a_batch_differs(pretrained):
    given = copy.deepcopy(pretrained)
    network = ProjectedDiscriminator(given, size=32, width=4, num_classes=0, norm="none", minibatch_deviation=True)
    network.eval()
    images = _images()
    with torch.no_grad():
        assert torch.equal(network(images, torch.tensor([0, 1, 0, 1])), network(images, torch.tensor([0, 0, 1, 1])))


def test_a_penalty_is_on_the_pixels_discriminator_alone_and_the_generator_learns_from_both(pretrained):
    torch.manual_seed(0)
    given = copy.deepcopy(pretrained)
    generator, aided = make_players(NETWORKS, size=32, channels=3, num_classes=0, pretrained=given)
    assert isinstance(aided, AidedDiscriminator)
    real = _images().requires_grad_()
    logits = aided(real)
    assert logits.shape == (4, 2)
    (penalised,) = torch.autograd.grad(logits.sum(), real)
    (own,) = torch.autograd.grad(aided.own(real).sum(), real)
    assert torch.equal(penalised, own)
    fake = generator(torch.randn(4, NETWORKS.latent_size))
    (through_both,) = torch.autograd.grad(aided(fake).sum(), fake, retain_graph=True)
    (through_own,) = torch.autograd.grad(aided.own(fake).sum(), fake)
    assert not torch.equal(through_both, through_own)


def test_what_a_pretrained_network_cannot_see_is_refused_with_what_to_type():
    for channels, packing, remedy in (
        (5, 1, Setting("networks.pretrained", False)),
        (3, 2, Setting("game.packing", 1)),
    ):
        with pytest.raises(UserError) as caught:
            make_players(NETWORKS, size=32, channels=channels, num_classes=0, packing=packing)
        assert remedy in caught.value.remedies


def test_freezing_changes_nothing_but_who_sees_the_weights():
    layer = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2)).eval()
    images = _images(channels=1)
    before = layer(images)
    names = set(layer.state_dict())
    freeze(layer)
    assert list(layer.parameters()) == []
    assert set(layer.state_dict()) == names
    assert torch.equal(layer(images), before)
