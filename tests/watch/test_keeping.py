"""What is kept of a generator, whole or not at all; and drawing from generators of any kind."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import nn
from torch.optim.swa_utils import AveragedModel

from equipoise.errors import Option, UserError
from equipoise.runs.candidates import keep
from equipoise.storage.files import verify
from equipoise.storage.records import Score
from equipoise.watch.generators import copied, drawing
from equipoise.watch.keeping import content_of

SCORE = Score(samples=1, seconds=0.0, loss=1.0)


def kept(folder: Path, what: Any) -> Path:
    keep(folder, content_of(what).fill, SCORE)
    return folder


def test_a_failing_keep_leaves_the_best_before_it(tmp_path: Path) -> None:
    kept(tmp_path / "best", {"weight": np.ones(2)})

    def fails(folder: Path) -> None:
        (folder / "half").write_text("half")
        raise OSError("full")

    with pytest.raises(OSError, match="full"):
        keep(tmp_path / "best", fails, Score(samples=2, seconds=0.0))
    assert json.loads((tmp_path / "best" / "score.json").read_text())["samples"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["best"]


def test_tied_weights_and_mixed_dicts_are_kept(tmp_path: Path) -> None:
    first, second = nn.Linear(2, 2), nn.Linear(2, 2)
    second.weight = first.weight
    loaded = load_file(kept(tmp_path / "module", nn.Sequential(first, second)) / "generator.safetensors")
    assert set(loaded) == {"0.weight", "0.bias", "1.weight", "1.bias"}
    mixed = kept(tmp_path / "mixed", {"a": first.weight, "b": np.arange(3)})
    assert load_file(mixed / "generator.safetensors")["b"].tolist() == [0, 1, 2]
    assert verify(tmp_path / "module") is None
    (mixed / "score.json").write_text("{ }")
    assert (verify(mixed) or "").startswith("score.json")


@pytest.mark.parametrize("what", [3, {"words": np.array(["a"])}, {"object": object()}])
def test_what_cannot_be_written_is_refused(tmp_path: Path, what: Any) -> None:
    with pytest.raises(UserError) as error:
        kept(tmp_path / "best", what)
    assert error.value.subject in (Option("keep"), Option("keep", "int"))
    assert not (tmp_path / "best").exists()


def compiled(network: nn.Module) -> Any:
    return torch.compile(network)


@pytest.mark.parametrize(
    "wrap",
    [nn.DataParallel, AveragedModel, torch.compile, lambda one: AveragedModel(compiled(nn.DataParallel(one)))],
    ids=["parallel", "averaged", "compiled", "all"],
)
def test_a_dict_of_a_wrapped_network_is_kept_under_plain_names(tmp_path: Path, wrap: Any) -> None:
    network = nn.Sequential(nn.Linear(2, 2))
    loaded = load_file(kept(tmp_path / "best", wrap(network).state_dict()) / "generator.safetensors")
    assert set(loaded) == set(network.state_dict())


def test_names_that_only_some_weights_have_are_the_networks_own(tmp_path: Path) -> None:
    values = {"module.weight": np.ones(2), "n_averaged": np.ones(1), "head.weight": np.ones(2)}
    assert set(load_file(kept(tmp_path / "best", values) / "generator.safetensors")) == set(values)


def test_a_checkpoint_of_several_networks_is_answered_with_which_to_give(tmp_path: Path) -> None:
    for checkpoint in ({"G": nn.Linear(2, 2).state_dict(), "step": 3}, {"G": nn.Linear(2, 2)}):
        with pytest.raises(UserError, match=r'checkpoint\["G"\]'):
            kept(tmp_path / "best", checkpoint)
    with pytest.raises(UserError, match="empty"):
        kept(tmp_path / "best", {})


def test_a_compiled_script_is_copied(tmp_path: Path) -> None:
    script = torch.jit.script(nn.Sequential(nn.Linear(4, 4), nn.Tanh()))
    draw = copied(script, None, kept(tmp_path / "best", script))
    assert draw is not None
    assert torch.equal(draw(torch.ones(2, 4)), script(torch.ones(2, 4)).detach())


def test_weights_of_another_network_or_none_are_not_loaded(tmp_path: Path) -> None:
    module = nn.Linear(4, 4)
    assert copied(module, None, tmp_path) is None
    assert copied(lambda latents: latents, None) is None
    for name, other in (("more", nn.Linear(4, 5)), ("fewer", nn.Linear(4, 4, bias=False)), ("kind", module.double())):
        assert copied(nn.Linear(4, 4), None, kept(tmp_path / name, other)) is None
    folder = kept(tmp_path / "same", module.float())
    draw = copied(nn.Linear(4, 4), None, folder)
    assert draw is not None
    assert torch.equal(draw(torch.ones(2, 4)), module(torch.ones(2, 4)).detach())
    (folder / "generator.safetensors").write_bytes(b"torn")
    assert copied(nn.Linear(4, 4), None, folder) is None


def test_a_copy_does_not_follow_its_original_and_drawing_does() -> None:
    module = nn.Linear(2, 2)
    live, copy = drawing(module, None), copied(module, None)
    assert copy is not None
    before = copy(torch.ones(1, 2))
    with torch.no_grad():
        module.bias.add_(1)
    assert torch.equal(copy(torch.ones(1, 2)), before)
    torch.testing.assert_close(live(torch.ones(1, 2)), before + 1)


def test_latents_take_the_type_of_the_module_and_images_are_floats() -> None:
    assert drawing(nn.Linear(2, 2).double(), None)(torch.ones(1, 2)).dtype == torch.float32
    assert drawing(lambda latents: latents.numpy().tolist(), None)(torch.ones(1, 2)).dtype == torch.float32
    with pytest.raises(UserError) as error:
        drawing(lambda latents: "images", None)(torch.ones(1, 2))
    assert error.value.subject == "generator"


class Noisy(nn.Module):
    """A module that draws at random in any mode, and depends on its mode."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(2)
        self.dropout = nn.Dropout(0.5)

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        return self.dropout(self.norm(latents)) + 0 * torch.randn(2)


def test_a_module_draws_in_evaluation_mode_and_leaves_mode_statistics_and_randomness() -> None:
    module = Noisy().train()
    module.norm.eval()
    module.norm.requires_grad_(False)
    randomness = torch.random.get_rng_state()
    latents = torch.arange(200.0).view(100, 2)
    expected = torch.nn.functional.batch_norm(latents, torch.zeros(2), torch.ones(2), eps=module.norm.eps)
    torch.testing.assert_close(drawing(module, None)(latents), expected)
    module.norm.train()
    torch.testing.assert_close(drawing(module, None)(latents), expected)
    assert module.norm.running_mean is not None
    assert not module.norm.running_mean.any()
    assert module.training
    assert module.norm.training
    assert torch.equal(randomness, torch.random.get_rng_state())
