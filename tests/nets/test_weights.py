import hashlib
import io
import pickle
import urllib.request
from pathlib import Path

import pytest
import safetensors.torch
import torch

from equipoise.errors import Setting, UserError
from equipoise.nets.weights import Weights, built, find, find_or_fetch, read


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
    with pytest.raises(UserError) as caught:
        find_or_fetch(weights, tmp_path / "cache")
    assert list((tmp_path / "cache" / "weights").iterdir()) == []
    assert caught.value.subject == weights.file
    assert weights.sha256[:16] in caught.value.problem
    by_hand, setting = caught.value.remedies
    for part in (weights.url, "EQUIPOISE_WEIGHTS", str(tmp_path / "cache" / "weights")):
        assert part in str(by_hand)
    assert setting == Setting("evaluation.features", "encoder")


def test_without_a_connection_the_message_names_file_address_and_place(tmp_path):
    weights = Weights("net.pth", (tmp_path / "nowhere").as_uri(), "0" * 64)
    with pytest.raises(UserError) as caught:
        find_or_fetch(weights, tmp_path)
    assert caught.value.subject == "net.pth"
    assert weights.url in str(caught.value.remedies)
    assert str(tmp_path / "weights") in str(caught.value.remedies)
    assert list((tmp_path / "weights").iterdir()) == []


def test_a_download_that_ends_early_leaves_nothing(tmp_path, monkeypatch):
    weights, _ = _published(tmp_path)

    class Broken(io.BytesIO):
        def read(self, *_):
            if self.tell():
                raise ConnectionResetError("the connection is gone")
            return super().read(10)

    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: Broken(b"x" * 100))
    with pytest.raises(UserError) as caught:
        find_or_fetch(weights, tmp_path)
    assert "the connection is gone" in caught.value.problem
    assert list((tmp_path / "weights").iterdir()) == []


def test_the_folder_of_the_environment_variable_comes_first(tmp_path, monkeypatch):
    weights, source = _published(tmp_path)
    monkeypatch.setenv("EQUIPOISE_WEIGHTS", str(source.parent))
    assert find(weights, tmp_path / "cache") == source


def test_a_damaged_local_file_is_refused_before_it_is_opened(tmp_path):
    weights, _ = _published(tmp_path)
    damaged = tmp_path / "weights" / "net.pth"
    damaged.parent.mkdir()
    damaged.write_bytes(pickle.dumps(print))
    with pytest.raises(UserError) as caught:
        read(damaged, weights)
    assert caught.value.subject == damaged
    assert weights.sha256[:16] in caught.value.problem
    assert weights.url in str(caught.value.remedies)


def test_a_safetensors_file_of_the_same_keys_is_taken_with_its_own_digest(tmp_path):
    weights, _ = _published(tmp_path)
    path = tmp_path / "weights" / "net.safetensors"
    path.parent.mkdir()
    safetensors.torch.save_file({"w": torch.arange(3.0)}, path)
    assert find(weights, tmp_path) == path
    state, digest = read(path, weights)
    assert torch.equal(state["w"], torch.arange(3.0))
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_file_that_holds_no_tensors_is_named(tmp_path):
    weights, _ = _published(tmp_path)
    path = tmp_path / "net.safetensors"
    path.write_bytes(b"no tensors")
    with pytest.raises(UserError) as caught:
        read(path, weights)
    assert caught.value.subject == path
    with pytest.raises(UserError) as caught:
        read(tmp_path / "gone.safetensors", weights)
    assert caught.value.subject == tmp_path / "gone.safetensors"


def test_weights_of_another_network_are_named(tmp_path):
    def build(state: dict[str, torch.Tensor]) -> torch.nn.Linear:
        layer = torch.nn.Linear(2, 2)
        layer.load_state_dict(state)
        return layer

    with pytest.raises(UserError) as caught:
        built(build, {"w": torch.zeros(1)}, tmp_path)
    assert caught.value.subject == tmp_path
    assert '"w"' in caught.value.problem
