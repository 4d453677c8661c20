import importlib.util

import pytest
import torch
import torch.nn.functional as F

from equipoise.metrics.features.dinov2 import DIMENSION, DinoV2, _names, dinov2_features, load_dinov2


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    """Random weights under the published names."""
    generator = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        shapes = DinoV2().state_dict()
    tensors = {}
    for ours, theirs in _names().items():
        draw = torch.randn(shapes[ours].shape, generator=generator) * 0.05
        tensors[theirs] = draw + 1 if "norm" in ours and ours.endswith("weight") else draw
    return tensors


def test_names_and_sizes_are_those_of_the_published_file(state):
    # facts of facebook/dinov2-small: 22,056,576 numbers in 223 tensors, one of them the mask token, unused here
    assert len(state) == 222
    assert sum(tensor.numel() for tensor in state.values()) == 22_056_576 - DIMENSION
    assert state["embeddings.position_embeddings"].shape == (1, 1370, 384)
    assert state["encoder.layer.11.mlp.fc1.weight"].shape == (1536, 384)
    assert state["encoder.layer.0.attention.attention.query.bias"].shape == (384,)


def test_one_attention_block_is_the_formula(state):
    block = load_dinov2(state).blocks[0]
    x = torch.randn(1, 5, 384, generator=torch.Generator().manual_seed(1))
    get = lambda name: state[f"encoder.layer.0.{name}"]  # noqa: E731
    dense = lambda y, name: y @ get(f"{name}.weight").T + get(f"{name}.bias")  # noqa: E731
    normed = F.layer_norm(x, (384,), get("norm1.weight"), get("norm1.bias"), 1e-6)
    q, k, v = (dense(normed, f"attention.attention.{n}") for n in ("query", "key", "value"))
    heads = []
    for h in range(6):
        part = slice(64 * h, 64 * h + 64)
        heads.append(torch.softmax(q[..., part] @ k[..., part].mT / 8, -1) @ v[..., part])
    x = x + get("layer_scale1.lambda1") * dense(torch.cat(heads, -1), "attention.output.dense")
    normed = F.layer_norm(x, (384,), get("norm2.weight"), get("norm2.bias"), 1e-6)
    hidden = F.gelu(dense(normed, "mlp.fc1"))
    expected = x + get("layer_scale2.lambda1") * dense(hidden, "mlp.fc2")
    given = torch.randn(1, 5, 384, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(block(given), expected, rtol=1e-4, atol=1e-4)


def test_features_are_384_of_grey_and_colour_images(state):
    network = load_dinov2(state)
    grey = torch.rand(1, 1, 20, 20, generator=torch.Generator().manual_seed(1)) * 2 - 1
    features = dinov2_features(network, grey)
    assert features.shape == (1, 384)
    torch.testing.assert_close(dinov2_features(network, grey.expand(-1, 3, -1, -1)), features)


def test_a_missing_tensor_is_an_error(state):
    with pytest.raises(KeyError):
        load_dinov2({name: tensor for name, tensor in state.items() if "layer.3.norm1" not in name})


@pytest.mark.skipif(importlib.util.find_spec("transformers") is None, reason="transformers is not installed")
def test_features_equal_those_of_transformers(tmp_path):
    import safetensors.torch
    from transformers import Dinov2Config, Dinov2Model  # type: ignore

    config = Dinov2Config(
        hidden_size=384, num_hidden_layers=12, num_attention_heads=6, image_size=518, layerscale_value=1.0
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        reference = Dinov2Model(config).eval()
    reference.save_pretrained(tmp_path)
    ours = load_dinov2(safetensors.torch.load_file(tmp_path / "model.safetensors"))
    images = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = reference(images).last_hidden_state[:, 0]
    torch.testing.assert_close(ours(images), expected, rtol=1e-4, atol=1e-4)
