import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from equipoise.errors import UserError
from equipoise.metrics.features import encoder
from equipoise.metrics.features.corruptions import (
    NUM_KINDS,
    blurred,
    corrupted,
    holed,
    mixed,
    noisy,
    speckled,
    view,
    warped,
)
from equipoise.metrics.features.encoder import Encoder, load_or_train, train_encoder
from equipoise.metrics.fid import fid, moments


def _shapes(num: int, channels: int = 1, size: int = 16) -> np.ndarray:
    """Bars and discs in random places: uint8 [N, C, H, W]."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:size, :size] / size
    images = np.zeros((num, channels, size, size), np.uint8)
    for image in images:
        y, x = random.uniform(0.3, 0.7, 2)
        shape = np.hypot(rows - y, columns - x) < 0.2 if random.random() < 0.5 else abs(rows - y) < 0.1
        image[:, shape] = random.integers(120, 255, (channels, 1))
    return images


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(encoder, "PAIRS", 16)


def test_training_is_deterministic_and_leaves_the_global_stream_and_gradient_mode_alone():
    images = _shapes(64)
    before = torch.get_rng_state()
    with torch.no_grad():
        first = train_encoder(images, steps=3)
        assert not torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(99)
    second = train_encoder(images, steps=3)
    for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert not first.training
    assert not any(p.requires_grad for p in first.parameters())


def test_the_encoder_is_kept_and_read_back_until_data_change(tmp_path, monkeypatch):
    images = _shapes(64)
    first = load_or_train(images, tmp_path, "pool-a", steps=2)
    assert sorted(p.suffix for p in tmp_path.iterdir()) == [".json", ".safetensors"]
    calls = []
    monkeypatch.setattr(encoder, "train_encoder", lambda *a, **k: calls.append(1) or first.network)
    again = load_or_train(images, tmp_path, "pool-a", steps=2)
    assert again.digest == first.digest
    assert calls == []
    x = torch.rand(5, 1, 16, 16)
    assert torch.equal(again.network(x), first.network(x))
    load_or_train(images, tmp_path, "pool-b", steps=2)
    assert calls == [1]


class Interrupted(BaseException):
    """Ctrl-C."""


def interrupted_at(share: float) -> Callable[[float], None]:
    """Return a report that interrupts the training once a share of it is done."""

    def report(done: float) -> None:
        if done >= share:
            raise Interrupted

    return report


@pytest.mark.parametrize("share", [0.2, 0.5, 0.95])
def test_a_training_that_was_interrupted_is_taken_up_and_ends_in_the_same_weights(tmp_path, monkeypatch, share):
    """Before anything was kept, at what was kept, and between."""
    monkeypatch.setattr(encoder, "KEEP_EVERY", 4)
    images = _shapes(32)
    expected = load_or_train(images, tmp_path / "whole", "pool", steps=10).digest
    with pytest.raises(Interrupted):
        load_or_train(images, tmp_path / "cut", "pool", steps=10, report=interrupted_at(share))
    done: list[float] = []
    found = load_or_train(images, tmp_path / "cut", "pool", steps=10, report=done.append).digest
    assert found == expected
    assert done[0] == pytest.approx({0.2: 0.1, 0.5: 0.5, 0.95: 0.9}[share])
    assert not list((tmp_path / "cut").glob("*unfinished*"))


@pytest.mark.parametrize("damage", [b"", b"x" * 100, None])
def test_what_was_kept_of_a_training_and_does_not_fit_is_learned_again(tmp_path, monkeypatch, damage):
    monkeypatch.setattr(encoder, "KEEP_EVERY", 4)
    images = _shapes(32)
    expected = load_or_train(images, tmp_path / "whole", "pool", steps=10).digest
    with pytest.raises(Interrupted):
        load_or_train(images, tmp_path / "cut", "pool", steps=10, report=interrupted_at(0.5))
    (path,) = (tmp_path / "cut").glob("*unfinished*")
    tensors = safetensors.torch.load_file(path)
    tensors["optimizer.0.exp_avg"] = torch.zeros(1)  # of another shape, and found last
    path.write_bytes(safetensors.torch.save(tensors) if damage is None else damage)
    assert load_or_train(images, tmp_path / "cut", "pool", steps=10).digest == expected


def test_an_encoder_fresh_or_kept_leaves_the_global_stream_alone(tmp_path):
    images = _shapes(32)
    before = torch.get_rng_state()
    for state in ("fresh", "kept"):
        load_or_train(images, tmp_path, "pool", steps=2)
        assert torch.equal(torch.get_rng_state(), before), state


@pytest.mark.parametrize("suffix", [".json", ".safetensors"])
def test_a_torn_cache_file_is_made_again(tmp_path, suffix):
    images = _shapes(32)
    digest = load_or_train(images, tmp_path, "pool", steps=2).digest
    (path,) = tmp_path.glob(f"*{suffix}")
    path.write_bytes(path.read_bytes()[:40])
    again = load_or_train(images, tmp_path, "pool", steps=2).digest
    assert again == digest
    (facts,) = tmp_path.glob("*.json")
    assert json.loads(facts.read_text())["sha256"] == digest


@pytest.mark.parametrize(("channels", "size"), [(1, 8), (3, 28), (3, 33), (1, 64), (3, 256)])
def test_every_size_and_channel_count_gives_finite_features(channels, size):
    images = torch.rand(3, channels, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    network = Encoder(channels, size, size).eval()
    assert network(images).shape == (3, Encoder.dimension)
    assert torch.isfinite(network(images)).all()
    assert max(network.size) <= 64


def test_standardised_features_of_real_images_have_mean_0_and_a_moderate_spread():
    images = _shapes(600)
    features = train_encoder(images, steps=10)(torch.from_numpy(images).float() / 127.5 - 1)
    # the statistics come from 4,000 draws with replacement of the same images
    assert features.mean(0).abs().max() < 0.15
    assert 0.1 < features.std(0).median() < 2


def test_no_images_and_images_of_another_type_are_refused():
    for images in (np.zeros((0, 1, 8, 8), np.uint8), np.zeros((3, 1, 8, 8), np.float32)):
        with pytest.raises(UserError) as caught:
            load_or_train(images, Path("unused"), "pool")
        assert f"{images.dtype} {images.shape}" in caught.value.problem


def test_corruptions_of_strength_0_change_nothing_and_of_strength_1_change_every_kind():
    images = torch.from_numpy(_shapes(NUM_KINDS * 2)).float() / 127.5 - 1
    generator = torch.Generator().manual_seed(0)
    kinds = torch.arange(NUM_KINDS).repeat(2)
    assert torch.equal(corrupted(images, kinds, torch.zeros(len(kinds)), generator), images)
    changed = (corrupted(images, kinds, torch.ones(len(kinds)), generator) - images).abs().amax((1, 2, 3))
    for kind in range(NUM_KINDS):
        assert changed[kinds == kind].max() > 0.1, kind


def test_views_keep_shape_and_finiteness():
    images = torch.from_numpy(_shapes(8, channels=3)).float() / 127.5 - 1
    seen = view(images, torch.Generator().manual_seed(0))
    assert seen.shape == images.shape
    assert torch.isfinite(seen).all()


def _mnist() -> dict[str, np.ndarray]:
    folder = os.environ.get("EQUIPOISE_DATA")
    if not folder or not (Path(folder) / "mnist.npz").is_file():
        pytest.skip("EQUIPOISE_DATA names no folder with mnist.npz")
    with np.load(Path(folder) / "mnist.npz") as data:
        order = np.random.default_rng(0).permutation(len(data["x_train"]))
        return {"x": data["x_train"][order][:, None], "y": data["y_train"][order]}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_on_digits_the_distance_grows_with_every_kind_of_damage_and_every_dropped_class(monkeypatch):
    monkeypatch.undo()
    data = _mnist()
    network = train_encoder(data["x"][:40_000])
    extract = lambda images: torch.cat([network(part) for part in images.split(500)])  # noqa: E731
    floats = lambda images: torch.from_numpy(images).float() / 127.5 - 1  # noqa: E731
    real = moments(extract(floats(data["x"][40_000:44_000])))
    fresh, generator = floats(data["x"][50_000:52_000]), torch.Generator().manual_seed(0)
    level = lambda value: torch.full((len(fresh),), value)  # noqa: E731
    rows = {
        "blur": [blurred(fresh, level(v)) for v in (0.4, 0.6, 0.8, 1.2)],
        "noise": [noisy(fresh, level(v), generator) for v in (0.03, 0.06, 0.12, 0.25, 0.5)],
        "speckles": [speckled(fresh, level(v), generator) for v in (0.01, 0.03, 0.1)],
        "warp": [warped(fresh, level(v), generator) for v in (0.4, 0.8, 1.6, 3.2)],
        "holes": [holed(fresh, level(v), generator) for v in (0.1, 0.2, 0.3)],
        "mixed": [mixed(fresh, level(v), generator) for v in (0.1, 0.2, 0.3)],
    }
    late, labels = data["x"][50_000:], data["y"][50_000:]
    dropped = (3, 7, 0, 5, 1)
    rows["dropped"] = [floats(late[~np.isin(labels, dropped[:n])][:2000]) for n in range(1, 6)]
    untouched = fid(real, moments(extract(fresh)))
    for name, levels in rows.items():
        distances = [untouched, *(fid(real, moments(extract(images))) for images in levels)]
        assert distances == sorted(distances), (name, distances)
