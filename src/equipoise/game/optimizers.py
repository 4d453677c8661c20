"""The players' optimizers: made, steered, checked, and flattened into tensors for a checkpoint."""

from collections.abc import Iterable
from typing import Any, assert_never

import torch
from torch import Tensor
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop

from equipoise.recipe import Player


def make_optimizer(player: Player, parameters: Iterable[Tensor]) -> Optimizer:
    """Return one player's optimizer at its first rate."""
    # One fused kernel takes a third of the time of a loop over parameters, on a CPU as well; rmsprop has none.
    parameters = list(parameters)
    decay = player.weight_decay
    betas = (float(player.beta1), float(player.beta2))  # torch refuses a whole number beside a float
    match player.optimizer:
        case "adam":
            return Adam(parameters, player.rate, betas=betas, weight_decay=decay, fused=True)
        case "adamw":
            return AdamW(parameters, player.rate, betas=betas, weight_decay=decay, fused=True)
        case "rmsprop":
            smoothing, momentum = player.beta2, player.beta1
            return RMSprop(parameters, player.rate, alpha=smoothing, momentum=momentum, weight_decay=decay)
        case "adagrad":
            return Adagrad(parameters, player.rate, weight_decay=decay, fused=True)
        case "sgd":
            return SGD(parameters, player.rate, momentum=player.beta1, weight_decay=decay, fused=True)
        case _ as unreachable:
            assert_never(unreachable)


def set_rate(optimizer: Optimizer, rate: float) -> None:
    """Set the learning rate of every parameter."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def gradient_norm(parameters: Iterable[Tensor], clip_norm: float | None = None) -> Tensor:
    """Return the norm of all gradients together [], before scaling them down to at most `clip_norm`, if given.

    Nothing is scaled if the norm is not finite; one look at the returned value tells whether a step may be taken.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    if clip_norm is not None:
        factor = torch.where(norm.isfinite(), (clip_norm / norm).clamp(max=1.0), 1.0)
        for gradient in gradients:
            gradient.mul_(factor)
    return norm


def optimizer_tensors(optimizer: Optimizer) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return an optimizer's state as tensors named `<parameter's index>.<quantity>`, and the rest as plain values."""
    state = optimizer.state_dict()
    tensors: dict[str, Tensor] = {}
    plain: dict[str, dict[str, Any]] = {}
    for index, quantities in state["state"].items():
        for name, value in quantities.items():
            if isinstance(value, Tensor):
                tensors[f"{index}.{name}"] = value.contiguous()  # safetensors knows no other layout
            else:
                plain.setdefault(str(index), {})[name] = value
    return tensors, {"state": plain, "groups": state["param_groups"]}


@torch.no_grad()
def load_optimizer_tensors(optimizer: Optimizer, tensors: dict[str, Tensor], rest: dict[str, Any]) -> None:
    """Restore what `optimizer_tensors` returned, also after a journey through safetensors and JSON."""
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state: dict[int, dict[str, Any]] = {int(index): dict(values) for index, values in rest["state"].items()}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        parameter = parameters[int(index)]
        # Fused kernels walk through memory: a moment must lie there as its parameter does (channels last, say).
        restored = torch.empty_like(parameter) if value.shape == parameter.shape else torch.empty_like(value)
        state.setdefault(int(index), {})[name] = restored.copy_(value)
    groups = [{name: tuple(value) if name == "betas" else value for name, value in g.items()} for g in rest["groups"]]
    for own, group in zip(optimizer.state_dict()["param_groups"], groups, strict=True):
        if odd := [name for name in own.keys() | group.keys() if name != "lr" and own.get(name) != group.get(name)]:
            raise ValueError(f"{odd[0]} of the optimizer is {group.get(odd[0])}, not {own.get(odd[0])}")
    optimizer.load_state_dict({"state": state, "param_groups": groups})
