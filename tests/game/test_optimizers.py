"""The optimizers against torch's own, called directly, and the journey of their state through a checkpoint."""

import json
import math
from collections.abc import Callable
from typing import get_args

import pytest
import torch
from safetensors.torch import load, save
from torch import Tensor, nn

from equipoise.game.optimizers import (
    gradient_norm,
    load_optimizer_tensors,
    make_optimizer,
    optimizer_tensors,
    set_rate,
    step_unless,
)
from equipoise.recipe import OptimizerName, OptimizerSettings

REFERENCES: dict[OptimizerName, Callable[[list[Tensor]], torch.optim.Optimizer]] = {
    "adam": lambda p: torch.optim.Adam(p, lr=0.01, betas=(0.5, 0.9), weight_decay=0.1),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, betas=(0.5, 0.9), weight_decay=0.1),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, alpha=0.9, momentum=0.5, weight_decay=0.1),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.01, weight_decay=0.1),
    "sgd": lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.5, weight_decay=0.1),
}


def settings(name: OptimizerName) -> OptimizerSettings:
    return OptimizerSettings(optimizer=name, rate=0.01, beta1=0.5, beta2=0.9, weight_decay=0.1)


def network() -> nn.Module:
    """Images [N, 1, 2, 2] → logits [N, 1], with a convolution that lies in memory as channels last."""
    torch.manual_seed(0)
    layers = nn.Conv2d(1, 6, 2, padding=1), nn.Tanh(), nn.Conv2d(6, 3, 2), nn.Flatten(), nn.Linear(12, 1)
    return nn.utils.convert_conv2d_weight_memory_format(nn.Sequential(*layers), torch.channels_last)


def take_steps(module: nn.Module, optimizer: torch.optim.Optimizer, num: int, seed: int) -> None:
    draws = torch.Generator().manual_seed(seed)
    for _ in range(num):
        optimizer.zero_grad()
        module(torch.randn(5, 1, 2, 2, generator=draws)).square().sum().backward()
        optimizer.step()


def weights(module: nn.Module) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


@pytest.mark.parametrize("name", get_args(OptimizerName))
def test_optimizers_step_as_torch_does(name: OptimizerName):
    ours, reference = network(), network()
    take_steps(ours, make_optimizer(settings(name), ours.parameters()), 5, seed=1)
    take_steps(reference, REFERENCES[name](list(reference.parameters())), 5, seed=1)
    torch.testing.assert_close(weights(ours), weights(reference))


@pytest.mark.parametrize("name", get_args(OptimizerName))
def test_state_survives_safetensors_and_json_bit_for_bit(name: OptimizerName):
    straight, resumed = network(), network()
    optimizer = make_optimizer(settings(name), straight.parameters())
    take_steps(straight, optimizer, 3, seed=1)
    set_rate(optimizer, 0.02)
    tensors, rest = optimizer_tensors(optimizer)
    tensors, rest = load(save(tensors)), json.loads(json.dumps(rest))

    resumed.load_state_dict(straight.state_dict())
    other = make_optimizer(settings(name), resumed.parameters())
    load_optimizer_tensors(other, tensors, rest)
    take_steps(straight, optimizer, 4, seed=2)
    take_steps(resumed, other, 4, seed=2)
    assert torch.equal(weights(straight), weights(resumed))


def test_state_before_the_first_step_survives_too():
    module = network()
    optimizer = make_optimizer(settings("adam"), module.parameters())
    tensors, rest = optimizer_tensors(optimizer)
    load_optimizer_tensors(optimizer, tensors, json.loads(json.dumps(rest)))
    take_steps(module, optimizer, 1, seed=1)
    assert tensors == {}


def test_restored_state_is_a_copy_of_the_tensors_given():
    module = network()
    optimizer = make_optimizer(settings("adam"), module.parameters())
    take_steps(module, optimizer, 1, seed=1)
    tensors, rest = optimizer_tensors(optimizer)
    given = {name: tensor.clone() for name, tensor in tensors.items()}
    kept = {name: tensor.clone() for name, tensor in given.items()}
    load_optimizer_tensors(optimizer, given, rest)
    take_steps(module, optimizer, 2, seed=2)
    assert all(torch.equal(given[name], kept[name]) for name in kept)


@pytest.mark.parametrize("name", get_args(OptimizerName))
def test_set_rate_reaches_every_optimizer_and_nothing_else_of_it(name: OptimizerName):
    optimizer, other = (make_optimizer(settings(name), network().parameters()) for _ in range(2))
    set_rate(optimizer, 0.5)
    (group,), (unchanged,) = optimizer.param_groups, other.param_groups
    assert group["lr"] == 0.5
    assert {key: group[key] for key in group if key not in ("lr", "params")} == {
        key: unchanged[key] for key in unchanged if key not in ("lr", "params")
    }


def test_state_of_an_optimizer_with_other_settings_is_refused_and_a_moved_rate_is_not():
    optimizer = make_optimizer(settings("adam"), network().parameters())
    tensors, rest = optimizer_tensors(optimizer)
    rest = json.loads(json.dumps(rest))
    for name, other in {"weight_decay": 0.5, "betas": [0.9, 0.99], "amsgrad": True}.items():
        with pytest.raises(ValueError, match=name):
            load_optimizer_tensors(optimizer, tensors, rest | {"groups": [rest["groups"][0] | {name: other}]})
    load_optimizer_tensors(optimizer, tensors, rest | {"groups": [rest["groups"][0] | {"lr": 0.5}]})
    assert optimizer.param_groups[0]["lr"] == 0.5


# Steps that may be refused

NOT_REFUSED, REFUSED = torch.tensor(False), torch.tensor(True)


def tensors_of(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return copies of the moments that are not zero: one that was never moved counts as none."""
    return {name: value.clone() for name, value in optimizer_tensors(optimizer)[0].items() if value.any()}


def differentiate(module: nn.Module, seed: int) -> None:
    module.zero_grad()
    module(torch.randn(5, 1, 2, 2, generator=torch.Generator().manual_seed(seed))).square().sum().backward()


@pytest.mark.parametrize("name", get_args(OptimizerName))
def test_a_step_that_is_not_refused_is_the_optimizers_own(name: OptimizerName):
    ours, reference = network(), network()
    one, other = (make_optimizer(settings(name), module.parameters()) for module in (ours, reference))
    for seed in range(3):
        differentiate(ours, seed)
        step_unless(one, NOT_REFUSED)
        differentiate(reference, seed)
        other.step()
    assert torch.equal(weights(ours), weights(reference))
    assert_same(tensors_of(one), tensors_of(other))


@pytest.mark.parametrize("num_before", [0, 1, 3])
@pytest.mark.parametrize("name", get_args(OptimizerName))
@pytest.mark.parametrize("poison", [math.nan, math.inf, 1.0])
def test_a_refused_step_leaves_weights_and_moments_bit_for_bit_and_the_next_is_as_without_it(
    name: OptimizerName, num_before: int, poison: float
):
    module, without = network(), network()
    one, other = (make_optimizer(settings(name), of.parameters()) for of in (module, without))
    for seed in range(num_before):
        differentiate(module, seed)
        step_unless(one, NOT_REFUSED)
        differentiate(without, seed)
        step_unless(other, NOT_REFUSED)
    before, moments = weights(module), tensors_of(one)
    differentiate(module, 77)
    for parameter in module.parameters():
        assert parameter.grad is not None
        parameter.grad.mul_(poison)
    step_unless(one, REFUSED)
    assert torch.equal(weights(module), before)
    assert_same(tensors_of(one), moments)
    for seed in (8, 9):
        differentiate(module, seed)
        step_unless(one, NOT_REFUSED)
        differentiate(without, seed)
        step_unless(other, NOT_REFUSED)
    assert torch.equal(weights(module), weights(without))
    assert_same(tensors_of(one), tensors_of(other))


@pytest.mark.parametrize("name", get_args(OptimizerName))
def test_a_parameter_that_first_gets_a_gradient_later_is_stepped_and_refused_as_the_others(name: OptimizerName):
    """A head that is trained only from some progress on has no moments before."""
    module, without = network(), network()
    one, other = (make_optimizer(settings(name), of.parameters()) for of in (module, without))
    for seed, is_refused in ((0, NOT_REFUSED), (1, REFUSED), (2, NOT_REFUSED)):
        differentiate(module, seed)
        if seed == 0:
            next(module.parameters()).grad = None
        step_unless(one, is_refused)
        if not is_refused:
            differentiate(without, seed)
            if seed == 0:
                next(without.parameters()).grad = None
            step_unless(other, is_refused)
    assert torch.equal(weights(module), weights(without))
    assert_same(tensors_of(one), tensors_of(other))


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_whole_number_is_a_beta_too():
    module = network()
    take_steps(module, make_optimizer(OptimizerSettings(beta1=0, beta2=0.9), module.parameters()), 1, seed=1)


def with_gradients(*values: list[float]) -> list[Tensor]:
    parameters = [torch.zeros(len(value), requires_grad=True) for value in values]
    for parameter, value in zip(parameters, values, strict=True):
        parameter.grad = torch.tensor(value)
    return [*parameters, torch.zeros(2, requires_grad=True)]  # the last one has no gradient


def gradients(parameters: list[Tensor]) -> list[list[float]]:
    return [parameter.grad.tolist() for parameter in parameters if parameter.grad is not None]


def test_gradient_norm_is_over_all_parameters_and_scales_nothing_unasked():
    parameters = with_gradients([3.0, 0.0], [0.0, 4.0])
    assert gradient_norm(parameters).item() == 5.0
    assert gradients(parameters) == [[3.0, 0.0], [0.0, 4.0]]


def test_gradients_are_scaled_to_the_clip_norm_but_never_up():
    parameters = with_gradients([3.0, 0.0], [0.0, 4.0])
    assert gradient_norm(parameters, clip_norm=10.0).item() == 5.0
    assert gradients(parameters) == [[3.0, 0.0], [0.0, 4.0]]
    assert gradient_norm(parameters, clip_norm=2.5).item() == 5.0
    assert gradients(parameters) == [[1.5, 0.0], [0.0, 2.0]]


def test_gradients_of_zero_are_left_at_zero():
    parameters = with_gradients([0.0, 0.0])
    assert gradient_norm(parameters, clip_norm=1.0).item() == 0.0
    assert gradients(parameters) == [[0.0, 0.0]]


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
def test_one_poisoned_gradient_shows_in_the_norm_and_spoils_no_other(poison: float):
    parameters = with_gradients([1.0, 2.0], [poison])
    assert not gradient_norm(parameters, clip_norm=1.0).isfinite()
    assert gradients(parameters)[0] == [1.0, 2.0]
