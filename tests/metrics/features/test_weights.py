import hashlib
import pickle
from pathlib import Path

import pytest
import safetensors.torch
import torch

from equipoise.errors import UserError
from equipoise.metrics.features.weights import Weights, built, find, find_or_fetch, read


def _published(tmp_path: Path, name: str = "net.pth") -> tuple[Weights, Path]:
    source = tmp_path / "published" / name
    source.parent.mkdir()
    torch.save({"w": torch.arange(3.0)}, source)
    return Weights(name, source.as_uri(), hashlib.sha256(source.read_bytes()).hexdigest()), source


def test_a_missing_file_is_fetched_once_and_whole(tmp_path):
    weights, source = _published(tmp_path)
    cache = tmp_path / "cache"
    assert find(weights, cache) is None
    path = find_or_fetch(weights, cache)
    assert path.read_bytes() == source.read_bytes()
    assert [p.name for p in path.parent.iterdir()] == ["net.pth"]
    source.unlink()
    assert find_or_fetch(weights, cache) == path
    state, digest = read(path, weights)
    assert torch.equal(state["w"], torch.arange(3.0))
    assert digest == weights.sha256


def test_a_file_that_is_not_the_published_one_is_not_kept(tmp_path):
    weights, source = _published(tmp_path)
    source.write_bytes(b"something else")
    with pytest.raises(UserError, match="SHA-256") as told:
        find_or_fetch(weights, tmp_path / "cache")
    assert list((tmp_path / "cache" / "weights").iterdir()) == []
    for part in (weights.file, weights.url, "EQUIPOISE_WEIGHTS", str(tmp_path / "cache" / "weights")):
        assert part in str(told.value)


def test_without_a_connection_the_message_names_file_address_and_place(tmp_path):
    weights = Weights("net.pth", (tmp_path / "nowhere").as_uri(), "0" * 64)
    with pytest.raises(UserError, match=r"net.pth is not here and could not be fetched"):
        find_or_fetch(weights, tmp_path)


def test_the_folder_of_the_environment_variable_comes_first(tmp_path, monkeypatch):
    weights, source = _published(tmp_path)
    monkeypatch.setenv("EQUIPOISE_WEIGHTS", str(source.parent))
    assert find(weights, tmp_path / "cache") == source


def test_a_damaged_local_file_is_refused_before_it_is_opened(tmp_path):
    weights, _ = _published(tmp_path)
    damaged = tmp_path / "weights" / "net.pth"
    damaged.parent.mkdir()
    damaged.write_bytes(pickle.dumps(print))
    with pytest.raises(UserError, match="not the published"):
        read(damaged, weights)


def test_a_safetensors_file_of_the_same_keys_is_taken_with_its_own_digest(tmp_path):
    weights, _ = _published(tmp_path)
    path = tmp_path / "weights" / "net.safetensors"
    path.parent.mkdir()
    safetensors.torch.save_file({"w": torch.arange(3.0)}, path)
    assert find(weights, tmp_path) == path
    state, digest = read(path, weights)
    assert torch.equal(state["w"], torch.arange(3.0))
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()


def test_weights_of_another_network_are_told(tmp_path):
    def build(state: dict[str, torch.Tensor]) -> torch.nn.Linear:
        layer = torch.nn.Linear(2, 2)
        layer.load_state_dict(state)
        return layer

    with pytest.raises(UserError, match="another network"):
        built(build, {"w": torch.zeros(1)}, tmp_path)
