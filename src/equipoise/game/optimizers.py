"""The players' optimizers: made, steered, stepped without a look at the numbers, and flattened for a checkpoint."""

from collections.abc import Iterable
from typing import Any, TypeAlias, assert_never

import torch
from torch import Tensor
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop

from equipoise.recipe import OptimizerSettings

Copies: TypeAlias = dict[tuple[int, str], Tensor]


def make_optimizer(settings: OptimizerSettings, parameters: Iterable[Tensor]) -> Optimizer:
    """Return one player's optimizer at its first rate."""
    # One fused kernel takes a third of the time of a loop over parameters, on a CPU as well; rmsprop has none.
    parameters = list(parameters)
    decay = settings.weight_decay
    betas = (float(settings.beta1), float(settings.beta2))  # torch refuses a whole number beside a float
    match settings.optimizer:
        case "adam":
            return Adam(parameters, settings.rate, betas=betas, weight_decay=decay, fused=True)
        case "adamw":
            return AdamW(parameters, settings.rate, betas=betas, weight_decay=decay, fused=True)
        case "rmsprop":
            smoothing, momentum = settings.beta2, settings.beta1
            return RMSprop(parameters, settings.rate, alpha=smoothing, momentum=momentum, weight_decay=decay)
        case "adagrad":
            return Adagrad(parameters, settings.rate, weight_decay=decay, fused=True)
        case "sgd":
            optimizer = SGD(parameters, settings.rate, momentum=settings.beta1, weight_decay=decay, fused=True)
            if settings.beta1:
                for parameter in parameters:  # or a first step that is refused would leave them uninitialised
                    optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
            return optimizer
        case _ as unreachable:
            assert_never(unreachable)


def set_rate(optimizer: Optimizer, rate: float) -> None:
    """Set the learning rate of every parameter."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def set_momentum(optimizer: Optimizer, momentum: float) -> None:
    """Set the momentum, which is Adam's first β; Adagrad has none."""
    for group in optimizer.param_groups:
        if "betas" in group:
            group["betas"] = (momentum, group["betas"][1])
        elif "momentum" in group:
            group["momentum"] = momentum


@torch.no_grad()
def step_unless(optimizer: Optimizer, is_refused: Tensor) -> None:
    """Take a step unless `is_refused` [] is true, without waiting for the device to say so.

    A refused step changes neither weights nor moments. Fused kernels take the flag themselves; for others, what the
    step changes is put back.
    """
    if optimizer.defaults.get("fused"):
        optimizer.found_inf = is_refused.float()  # type: ignore[attr-defined]
        optimizer.step()
        del optimizer.found_inf  # type: ignore[attr-defined]
        return
    before = kept_copies(optimizer)
    optimizer.step()
    put_back(optimizer, before, is_refused)


def kept_copies(optimizer: Optimizer) -> Copies:
    """Return copies of all that a step changes: the parameters and the moments that are there."""
    return {key: tensor.clone() for key, tensor in _changing(optimizer).items()}


@torch.no_grad()
def put_back(optimizer: Optimizer, before: Copies, is_refused: Tensor) -> None:
    """Where a flag [] is true, put parameters and moments back; moments that are new since then begin at zero."""
    for key, tensor in _changing(optimizer).items():
        old = before[key] if key in before else torch.zeros_like(tensor)
        tensor.copy_(torch.where(is_refused.to(tensor.device), old, tensor))


def set_smoothing(optimizer: Optimizer, smoothing: float) -> None:
    """Set Adam's second β; other optimizers have none."""
    for group in optimizer.param_groups:
        if "betas" in group:
            group["betas"] = (group["betas"][0], smoothing)


def _parameters(optimizer: Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _changing(optimizer: Optimizer) -> Copies:
    """Return all tensors that a step changes, by their parameter's index and the quantity; "" is the parameter.

    A count of steps that lies on the CPU beside parameters on a device is left out: to put it back would wait for the
    device, and rules that read it keep it on theirs (`capturable`).
    """
    found: Copies = {}
    for index, parameter in enumerate(_parameters(optimizer)):
        found[index, ""] = parameter
        moments = optimizer.state.get(parameter, {})
        found |= {
            (index, name): value
            for name, value in moments.items()
            if isinstance(value, Tensor) and value.device == parameter.device
        }
    return found


def gradient_norm(parameters: Iterable[Tensor], clip_norm: float | None = None) -> Tensor:
    """Return the norm of all gradients together [], before scaling them down to at most `clip_norm`, if given.

    Nothing is scaled if the norm is not finite; the returned value tells whether a step may be taken.
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
    parameters = _parameters(optimizer)
    state: dict[int, dict[str, Any]] = {int(index): dict(values) for index, values in rest["state"].items()}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        parameter = parameters[int(index)]
        # Fused kernels walk through memory: a moment must lie there as its parameter does (channels last, say).
        like = parameter if value.shape == parameter.shape else value
        state.setdefault(int(index), {})[name] = torch.empty_like(like).copy_(value)
    groups = [_with_tuples(group) for group in rest["groups"]]
    for own, group in zip(optimizer.state_dict()["param_groups"], groups, strict=True):
        odd = [name for name in own.keys() | group.keys() if name != "lr" and own.get(name) != group.get(name)]
        if odd:
            raise ValueError(f"{odd[0]} of the optimizer is {group.get(odd[0])}, not {own.get(odd[0])}")
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def _with_tuples(group: dict[str, Any]) -> dict[str, Any]:
    """Return a group of parameters as torch writes it: JSON has lists where torch has tuples."""
    return group | {"betas": tuple(group["betas"])} if "betas" in group else dict(group)
