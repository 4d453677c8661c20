import importlib.util

import pytest
import torch
import torch.nn.functional as F

from equipoise.metrics.features.inception import Inception, inception_features, load_inception, resize_as_tensorflow1


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    """Random weights under which activations neither die nor explode."""
    generator = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        names = Inception().state_dict()
    tensors = {}
    for name, like in names.items():
        if like.ndim > 1:
            draw = torch.randn(like.shape, generator=generator) * (2 / like[0].numel()) ** 0.5
        elif name.endswith("num_batches_tracked"):
            draw = torch.zeros((), dtype=torch.int64)
        else:
            draw = torch.rand(like.shape, generator=generator) * 0.2
            draw += 0.9 if name.endswith(("bn.weight", "running_var")) else -0.1
        tensors[name] = draw
    return tensors


def test_keys_and_shapes_are_those_of_the_published_file(state):
    # facts of weights-inception-2015-12-05-6726825d.pth: 566 entries, 95.6 MB
    assert len(state) == 566
    floats = [tensor for tensor in state.values() if tensor.is_floating_point()]
    assert 95_000_000 < 4 * sum(t.numel() for t in floats) < 95_700_000
    expected = {
        "Conv2d_1a_3x3.conv.weight": (32, 3, 3, 3),
        "Mixed_5b.branch_pool.conv.weight": (32, 192, 1, 1),
        "Mixed_6a.branch3x3dbl_3.bn.running_var": (96,),
        "Mixed_6b.branch7x7dbl_2.conv.weight": (128, 128, 7, 1),
        "Mixed_6e.branch7x7_3.conv.weight": (192, 192, 7, 1),
        "Mixed_7a.branch7x7x3_4.conv.weight": (192, 192, 3, 3),
        "Mixed_7c.branch3x3dbl_3b.conv.weight": (384, 384, 3, 1),
        "fc.weight": (1008, 2048),
    }
    assert {name: tuple(state[name].shape) for name in expected} == expected


def test_the_resize_is_the_one_of_tensorflow_1():
    # Without half-pixel centres the first column is the first pixel, and i · H/size is read in between.
    image = torch.tensor([[[[0.0, 10.0, 40.0]]]])
    assert resize_as_tensorflow1(image, 6)[0, 0, 0].tolist() == pytest.approx([0, 5, 10, 25, 40, 40])
    image = torch.rand(2, 3, 299, 299, generator=torch.Generator().manual_seed(0))
    assert torch.equal(resize_as_tensorflow1(image, 299), image)


def test_features_are_2048_of_grey_and_colour_images_after_quantisation(state):
    network = load_inception(state)
    grey = torch.rand(1, 1, 20, 24, generator=torch.Generator().manual_seed(1)) * 2 - 1
    features = inception_features(network, grey)
    assert features.shape == (1, 2048)
    assert features.std() > 0
    torch.testing.assert_close(inception_features(network, grey.expand(-1, 3, -1, -1)), features)
    quantised = ((grey + 1) * 127.5).round() / 127.5 - 1
    torch.testing.assert_close(inception_features(network, quantised), features)


def test_the_last_two_blocks_pool_differently(state):
    network = load_inception(state)
    x = torch.rand(1, 2048, 4, 4, generator=torch.Generator().manual_seed(2))
    pooled = network.Mixed_7c.branch_pool(F.max_pool2d(x, 3, stride=1, padding=1))
    torch.testing.assert_close(network.Mixed_7c(x)[:, -192:], pooled)
    x = x[:, :1280]
    pooled = network.Mixed_7b.branch_pool(F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False))
    torch.testing.assert_close(network.Mixed_7b(x)[:, -192:], pooled)


@pytest.mark.skipif(importlib.util.find_spec("torch_fidelity") is None, reason="torch-fidelity is not installed")
def test_features_equal_those_of_torch_fidelity(state, tmp_path):
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3  # type: ignore

    torch.save(state, tmp_path / "weights.pth")
    reference = FeatureExtractorInceptionV3(
        "inception-v3-compat", ["2048"], feature_extractor_weights_path=tmp_path / "weights.pth"
    )
    pixels = torch.randint(0, 256, (2, 3, 32, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    ours = inception_features(load_inception(state), pixels.float() / 127.5 - 1)
    torch.testing.assert_close(ours, reference(pixels)[0], rtol=1e-4, atol=1e-4)
