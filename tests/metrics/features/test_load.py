import numpy as np
import pytest
import torch

from equipoise.errors import Setting, UserError
from equipoise.metrics.features import dinov2, encoder, inception, load, weights
from equipoise.metrics.features.load import load_features

IMAGES = np.random.default_rng(0).integers(0, 256, (64, 1, 16, 16), dtype=np.uint8)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(encoder, "PAIRS", 8)
    monkeypatch.setattr(encoder.load_or_train, "__kwdefaults__", {"steps": 2, "report": None})
    monkeypatch.delenv("EQUIPOISE_WEIGHTS", raising=False)


def _load(name, cache, **more) -> load.Features:
    return load_features(name, train_images=IMAGES, cache=cache, pool_digest="pool", **more)


def test_auto_is_the_encoder_where_no_file_is_at_hand_and_never_downloads(tmp_path, monkeypatch):
    def refuse(*_):
        raise AssertionError("auto tried to download")

    monkeypatch.setattr(weights, "_fetch", refuse)
    shares = []
    found = _load("auto", tmp_path, report=shares.append)
    assert (found.name, found.dimension, len(found.digest)) == ("encoder", 224, 64)
    assert shares == [0.5, 1.0]


def test_auto_is_inception_where_its_file_is_at_hand(tmp_path, monkeypatch):
    seen = []
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / inception.WEIGHTS.file).write_bytes(b"")
    monkeypatch.setattr(weights, "read", lambda path, _: (seen.append(path.name) or {}, "digest"))
    monkeypatch.setattr(inception, "load_inception", lambda _: torch.nn.Identity())
    found = _load("auto", tmp_path)
    assert (found.name, found.dimension, found.digest) == ("inception", 2048, "digest")
    assert seen == [inception.WEIGHTS.file]


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
