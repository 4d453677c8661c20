"""Checkpoints: whole or absent, verified on reading, and the newest good one is used."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from equipoise.errors import Command, UserError
from equipoise.storage import checkpoints, files


def tensors(value: float) -> dict[str, torch.Tensor]:
    return {"a.weight": torch.full((3, 2), value), "b": torch.tensor(7, dtype=torch.int64)}


def test_what_is_saved_is_what_is_read(tmp_path: Path) -> None:
    checkpoints.save(tmp_path, 64, tensors(1.5), {"samples": 64, "pi": 3.141592653589793})
    found = checkpoints.latest(tmp_path)
    assert found is not None
    assert found.values == {"samples": 64, "pi": 3.141592653589793}
    assert found.tensors.keys() == tensors(0).keys()
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in tensors(1.5).items())


def test_only_the_last_two_are_kept(tmp_path: Path) -> None:
    for samples in (64, 128, 192, 256):
        checkpoints.save(tmp_path, samples, tensors(samples), {"samples": samples})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000000000192", "000000000256"]


def test_there_is_none_before_the_first(tmp_path: Path) -> None:
    assert checkpoints.latest(tmp_path) is None
    assert checkpoints.latest(tmp_path / "missing") is None


@pytest.mark.parametrize("name", ["tensors.safetensors", "state.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
def test_a_damaged_checkpoint_gives_way_to_the_one_before_and_is_named(tmp_path: Path, name: str, damage: str) -> None:
    checkpoints.save(tmp_path, 64, tensors(1), {"samples": 64})
    newest = checkpoints.save(tmp_path, 128, tensors(2), {"samples": 128})
    content = bytearray((newest / name).read_bytes())
    if damage == "remove":
        (newest / name).unlink()
    else:
        content[len(content) // 2] ^= 1
        (newest / name).write_bytes(content if damage == "flip" else content[: len(content) // 2])
    told: list[str] = []
    found = checkpoints.latest(tmp_path, told.append)
    assert found is not None
    assert found.values == {"samples": 64}
    assert len(told) == 1
    assert newest.name in told[0]
    assert name in told[0], "the bad file is named"


def test_every_byte_counts_truncated_anywhere_it_is_noticed(tmp_path: Path) -> None:
    path = checkpoints.save(tmp_path, 64, tensors(1), {"samples": 64})
    whole = (path / "tensors.safetensors").read_bytes()
    for cut in range(0, len(whole), max(1, len(whole) // 20)):
        (path / "tensors.safetensors").write_bytes(whole[:cut])
        assert files.verify(path) is not None


def test_all_damaged_is_an_error_and_never_a_silent_restart(tmp_path: Path) -> None:
    for samples in (64, 128):
        (checkpoints.save(tmp_path / "checkpoints", samples, tensors(1), {}) / "state.json").write_text("{")
    with pytest.raises(UserError) as caught:
        checkpoints.latest(tmp_path / "checkpoints")
    assert caught.value.subject == tmp_path / "checkpoints"
    assert "all 2 checkpoints" in caught.value.problem
    assert "000000000128" in caught.value.problem, "the newest is named"
    assert "state.json" in caught.value.problem, "with the bad file"
    assert Command("sample", tmp_path) in caught.value.remedies


def test_a_crash_while_writing_leaves_the_old_one_and_no_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoints.save(tmp_path, 64, tensors(1), {"samples": 64})

    def crash(*_: object) -> None:
        raise OSError("the disk is gone")

    with monkeypatch.context() as patch:
        patch.setattr("os.rename", crash)
        with pytest.raises(OSError, match="gone"):
            checkpoints.save(tmp_path, 128, tensors(2), {"samples": 128})
    found = checkpoints.latest(tmp_path)
    assert found is not None
    assert found.values == {"samples": 64}
    checkpoints.save(tmp_path, 128, tensors(2), {"samples": 128})
    found = checkpoints.latest(tmp_path)
    assert found is not None
    assert found.values == {"samples": 128}


def test_a_folder_being_replaced_is_readable_at_every_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    best = tmp_path / "best"
    checkpoints.write_folder(best, {"g.safetensors": tensors(1)}, {"score.json": {"kid": 1}})
    import os

    real, seen = os.rename, []

    def spying(source: Path, target: Path) -> None:
        real(source, target)
        seen.append(json.loads((files.readable(best) / "score.json").read_text())["kid"])

    monkeypatch.setattr("os.rename", spying)
    checkpoints.write_folder(best, {"g.safetensors": tensors(2)}, {"score.json": {"kid": 2}})
    assert seen == [1, 2]


def test_modules_go_out_and_come_back_under_their_prefix() -> None:
    one, other = nn.Linear(3, 2), nn.Linear(3, 2)
    stored = checkpoints.module_tensors("g", one) | checkpoints.module_tensors("d", nn.Linear(1, 1))
    checkpoints.load_module("g", other, stored)
    assert torch.equal(one.weight, other.weight)
    with pytest.raises(RuntimeError, match=r"g\.weight is float32 \[2, 3\], not float32 \[5, 3\]"):
        checkpoints.load_module("g", nn.Linear(3, 5), stored)
    with pytest.raises(RuntimeError, match=r"g\.bias is missing"):
        checkpoints.load_module("g", other, {"g.weight": one.weight})
    with pytest.raises(RuntimeError, match=r"g\.bias is not in this network"):
        checkpoints.load_module("g", nn.Linear(3, 2, bias=False), stored)


def test_what_is_no_file_of_tensors_names_itself(tmp_path: Path) -> None:
    path = tmp_path / "generator.safetensors"
    for content in (None, b"", b"{" * 100, (4).to_bytes(8, "little") + b"[1]{"):
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(UserError) as caught:
            checkpoints.load_tensors(path)
        assert caught.value.subject == path
    checkpoints.write_folder(tmp_path / "best", {"generator.safetensors": {"generator.weight": torch.ones(2)}}, {})
    with pytest.raises(UserError) as caught:
        checkpoints.load_weights(tmp_path / "best", nn.Linear(2, 2))
    assert caught.value.subject == tmp_path / "best" / "generator.safetensors"
    assert "generator.bias" in caught.value.problem
