"""Modules out of their wrappers, left as they were, and by their plain names."""

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from equipoise.errors import UserError
from equipoise.watch.generators import copied, drawing
from equipoise.watch.keeping import content_of
from equipoise.watch.modules import num_untrained_statistics, plain_state, refuse_sharded, refuse_without_weights


class Plain(nn.Module):
    """A network of which one part has the name that wrappers use."""

    def __init__(self) -> None:
        super().__init__()
        self.module = nn.Linear(2, 2)
        self.norm = nn.BatchNorm1d(2)

    def forward(self, latents: Tensor) -> Tensor:
        return self.norm(self.module(latents))


NAMES = set(Plain().state_dict())


@pytest.mark.parametrize(
    "wrap",
    [nn.DataParallel, AveragedModel, torch.compile, lambda one: AveragedModel(nn.DataParallel(one))],
    ids=["parallel", "averaged", "compiled", "both"],
)
def test_wrapped_weights_are_kept_and_loaded_under_plain_names(tmp_path: Path, wrap: Any) -> None:
    network = Plain().eval()
    wrapped = wrap(network)
    content_of(wrapped).fill(tmp_path)
    assert set(load_file(tmp_path / "generator.safetensors")) == NAMES
    other = wrap(Plain())
    draw = copied(other, None, tmp_path)
    assert draw is not None
    torch.testing.assert_close(draw(torch.ones(3, 2)), network(torch.ones(3, 2)).detach())


def test_wrappers_within_a_network_leave_no_names_and_are_not_copied(tmp_path: Path) -> None:
    nested = nn.Sequential(nn.DataParallel(Plain()), AveragedModel(nn.Linear(2, 2)))
    expected = set(nn.Sequential(Plain(), nn.Linear(2, 2)).state_dict())
    assert set(plain_state(nested)) == expected
    content_of(nested).fill(tmp_path)
    assert copied(nested, None, tmp_path) is not None


def test_generate_may_speak_of_the_wrapper_or_of_the_network() -> None:
    wrapped = AveragedModel(Plain())
    for generate in (lambda one, latents: one.module.norm(latents), lambda one, latents: one.norm(latents)):
        assert drawing(wrapped, generate)(torch.ones(3, 2)).shape == (3, 2)
        draw = copied(wrapped, generate)
        assert draw is not None
        assert draw(torch.ones(3, 2)).shape == (3, 2)


def test_whatever_generate_does_nothing_of_the_network_is_changed() -> None:
    network = nn.Sequential(nn.utils.parametrizations.spectral_norm(nn.Linear(2, 2)), nn.BatchNorm1d(2)).eval()
    decoder = nn.BatchNorm1d(2)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    states = (random.getstate(), np.random.get_state(legacy=False)["state"]["key"].tolist(), torch.get_rng_state())  # noqa: NPY002

    def generate(one: Any, latents: Tensor) -> Tensor:
        one.train().requires_grad_(False)
        random.random()
        np.random.rand()  # noqa: NPY002
        one[1].running_var = torch.full((2,), 9.0)
        return decoder(one.double()(latents.double()).float() + torch.randn(2))

    drawing(network, generate)(torch.randn(16, 2, generator=torch.Generator().manual_seed(0)))
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name
        assert value.dtype == before[name].dtype
    assert not network.training
    assert all(weight.requires_grad for weight in network.parameters())
    assert int(decoder.num_batches_tracked or 0) == 0
    assert random.getstate() == states[0]
    assert np.random.get_state(legacy=False)["state"]["key"].tolist() == states[1]  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), states[2])


class Counting(Plain):
    """One that counts its calls in every way."""

    def __init__(self) -> None:
        super().__init__()
        self.num = 0
        self.seen: list[int] = []
        self.total = torch.zeros(())

    def forward(self, latents: Tensor) -> Tensor:
        self.num += 1
        self.seen.append(self.num)
        self.total += 1
        return super().forward(latents)


def test_attributes_hooks_parts_and_gradients_are_put_back() -> None:
    network = Counting()
    network(torch.randn(8, 2)).sum().backward()
    weight = network.module.weight
    gradient = weight.grad
    assert gradient is not None
    expected = gradient.clone()
    names = list(network.state_dict())

    def generate(one: Any, latents: Tensor) -> Tensor:
        with torch.enable_grad():
            one(latents).sum().backward()
        one.zero_grad()
        one.norm.momentum = 0.5
        one.register_forward_hook(lambda *_: None)
        one.norm.register_buffer("more", torch.zeros(1))
        nn.utils.parametrizations.weight_norm(one.module)
        one.other = nn.Linear(2, 2)
        raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        drawing(network, generate)(torch.randn(8, 2))
    assert (network.num, network.seen, network.total.item(), network.norm.momentum) == (1, [1], 1, 0.1)
    assert len(network._forward_hooks) == 0
    assert list(network.state_dict()) == names
    assert network.module.weight is weight
    assert type(network.module) is nn.Linear
    assert weight.grad is gradient
    assert torch.equal(gradient, expected)
    network(torch.randn(8, 2)).sum().backward()


@pytest.mark.parametrize("network", [nn.LazyLinear(2), nn.Linear(2, 2, device="meta")], ids=["lazy", "meta"])
def test_weights_that_do_not_exist_yet_are_refused(network: nn.Module) -> None:
    for call in (lambda: refuse_without_weights(network), lambda: content_of(nn.Sequential(network))):
        with pytest.raises(UserError) as error:
            call()
        assert error.value.subject == "generator"


def test_a_function_that_trains_changes_no_statistics_either() -> None:
    network = Plain().train()
    drawing(lambda latents: network(latents), None)(torch.randn(8, 2))
    assert int(network.norm.num_batches_tracked or 0) == 0
    assert network.training


class Slotted:
    """An object without a dict."""

    __slots__ = ("network",)

    def __init__(self, network: nn.Module) -> None:
        self.network = network


class Trainer:
    """An object of a user's own around networks, as most scripts have one."""

    def __init__(self, network: nn.Module) -> None:
        self.networks = {"G": [network]}
        self.data = [object()] * 100_000

    def sample(self, latents: Tensor) -> Tensor:
        return self.networks["G"][0](latents)

    def __call__(self, latents: Tensor) -> Tensor:
        return self.sample(latents)


def _with_default(network: nn.Module) -> Any:
    def draw(latents: Tensor, generator: nn.Module = network) -> Tensor:
        return generator(latents)

    return draw


@pytest.mark.parametrize(
    "around",
    [
        lambda network: Trainer(network).sample,
        Trainer,
        lambda network: (lambda trainer: lambda latents: trainer.sample(latents))(Trainer(network)),
        lambda network: (lambda held: lambda latents: held[0]["G"](latents))([{"G": network}]),
        lambda network: (lambda held: lambda latents: held.network(latents))(Slotted(network)),
        lambda network: (lambda held: lambda latents: held.network(latents))(SimpleNamespace(network=network)),
        _with_default,
    ],
    ids=["method", "called object", "object", "list of dicts", "slots", "namespace", "default"],
)
def test_a_network_within_objects_lists_and_dicts_is_left_as_it_was(around: Any) -> None:
    network = Plain().train()
    drawing(around(network), None)(torch.randn(8, 2))
    assert int(network.norm.num_batches_tracked or 0) == 0
    drawn = around(network)
    drawing(Plain(), lambda generator, latents: drawn(latents) + generator(latents))(torch.randn(8, 2))
    assert int(network.norm.num_batches_tracked or 0) == 0
    assert network.training


def test_an_object_that_cannot_be_looked_at_hides_no_network() -> None:
    class Odd:
        @property
        def __dict__(self) -> Any:  # pyright: ignore[reportIncompatibleVariableOverride]
            raise RuntimeError("not now")

    network = Plain().train()
    held = (Odd(), network)
    drawing(lambda latents: held[1](latents), None)(torch.randn(8, 2))
    assert int(network.norm.num_batches_tracked or 0) == 0


def test_a_network_with_old_spectral_norm_is_copied_after_a_training_step() -> None:
    network = nn.utils.spectral_norm(nn.Linear(2, 2))
    network(torch.ones(1, 2)).sum().backward()
    assert copied(network, None) is not None


def test_statistics_that_were_never_updated_are_counted() -> None:
    assert num_untrained_statistics(AveragedModel(Plain())) == 1
    trained = Plain()
    trained(torch.randn(8, 2))
    assert num_untrained_statistics(trained) == num_untrained_statistics(nn.Linear(2, 2)) == 0


def test_weights_that_are_shared_out_over_processes_are_refused() -> None:
    class FSDPModule(nn.Linear):
        """As torch names what `fully_shard` makes."""

    with pytest.raises(UserError) as error:
        refuse_sharded(nn.Sequential(FSDPModule(2, 2)))
    assert error.value.subject == "generator"
