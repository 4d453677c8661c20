from dataclasses import replace

import numpy as np
import pytest
import torch

from equipoise.errors import Setting, UserError
from equipoise.metrics.features import dinov2, encoder, inception, load
from equipoise.metrics.features.kept import RunEncoder
from equipoise.metrics.features.load import load_features
from equipoise.nets import efficientnet, weights

IMAGES = np.random.default_rng(0).integers(0, 256, (64, 1, 16, 16), dtype=np.uint8)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(encoder, "PAIRS", 8)
    monkeypatch.setattr(encoder.load_or_train, "__kwdefaults__", {"steps": 2, "report": None})
    monkeypatch.delenv("EQUIPOISE_WEIGHTS", raising=False)


def _load(name, cache, channels: int = 1, **more) -> load.Features:
    return load_features(name, train_images=lambda: IMAGES, channels=channels, cache=cache, pool_digest="pool", **more)


def test_auto_is_the_encoder_for_grey_images_and_never_downloads(tmp_path, monkeypatch):
    def refuse(*_):
        raise AssertionError("auto tried to download")

    monkeypatch.setattr(weights, "_fetch", refuse)
    shares = []
    found = _load("auto", tmp_path, report=shares.append)
    assert (found.name, found.dimension, len(found.digest)) == ("encoder", 224, 64)
    assert shares == [0.5, 1.0]


def test_auto_is_efficientnet_for_colour_and_trains_nothing(tmp_path):
    def refuse():
        raise AssertionError("training images were asked for")

    found = load_features("auto", train_images=refuse, channels=3, cache=tmp_path, pool_digest="pool")
    assert (found.name, found.dimension, found.digest) == ("efficientnet", 1280, efficientnet.LITE1_WEIGHTS.sha256)
    assert found.protocol == {"features": "efficientnet", "features_digest": efficientnet.LITE1_WEIGHTS.sha256}


def test_auto_is_the_encoder_for_colour_where_the_package_of_the_weights_is_gone(tmp_path, monkeypatch):
    gone = replace(efficientnet.LITE1_WEIGHTS, package="package-that-is-not-there")
    monkeypatch.setattr(efficientnet, "LITE1_WEIGHTS", gone)
    assert load.automatic(3, tmp_path, "cpu") == "encoder"
    with pytest.raises(UserError) as caught:
        _load("efficientnet", tmp_path, channels=3)
    assert caught.value.remedies == ("pip install package-that-is-not-there", Setting("evaluation.features", "encoder"))


def test_a_run_that_has_an_encoder_keeps_it_where_auto_would_be_something_else(tmp_path):
    first = _load("encoder", tmp_path, channels=3)
    assert first.taught is not None
    (tmp_path / "encoder.safetensors").write_bytes(first.taught.data)
    of_run = RunEncoder(tmp_path / "encoder.safetensors", first.taught.record, "pool")
    assert _load("auto", tmp_path / "other", channels=3, run=of_run).digest == first.digest


def test_auto_is_inception_on_a_gpu_where_its_file_is_at_hand(tmp_path):
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / inception.WEIGHTS.file).write_bytes(b"")
    assert load.automatic(3, tmp_path, "cuda") == "inception"
    assert load.automatic(1, tmp_path, "cuda") == "inception"
    assert load.automatic(3, tmp_path, "cpu") == "efficientnet"


@pytest.mark.parametrize(("name", "module"), [("inception", inception), ("dinov2", dinov2)])
def test_published_weights_that_cannot_be_downloaded_are_named(tmp_path, monkeypatch, name, module):
    nowhere = weights.Weights(module.WEIGHTS.file, (tmp_path / "nowhere").as_uri(), module.WEIGHTS.sha256)
    monkeypatch.setattr(module, "WEIGHTS", nowhere)
    with pytest.raises(UserError) as caught:
        _load(name, tmp_path)
    assert caught.value.subject == module.WEIGHTS.file
    assert Setting("evaluation.features", "encoder") in caught.value.remedies


def test_extraction_is_float32_without_gradient_whatever_surrounds_it_and_does_not_depend_on_the_batch(tmp_path):
    extract = _load("encoder", tmp_path).extract
    images = torch.rand(40, 1, 16, 16, generator=torch.Generator().manual_seed(0)).requires_grad_()
    plain = extract(images)
    assert (plain.dtype, plain.shape, plain.requires_grad) == (torch.float32, (40, 224), False)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(extract(images), plain)
    torch.testing.assert_close(torch.cat([extract(part) for part in images.split(7)]), plain, rtol=1e-4, atol=1e-4)


def test_the_digests_published_are_whole():
    for published in (inception.WEIGHTS, dinov2.WEIGHTS):
        assert len(published.sha256) == 64
        assert set(published.sha256) <= set("0123456789abcdef")
    assert inception.WEIGHTS.file.endswith(f"{inception.WEIGHTS.sha256[:8]}.pth")
