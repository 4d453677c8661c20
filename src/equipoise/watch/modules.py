"""Torch modules as a watch finds them: out of their wrappers, left as they were, copied, and by their plain names."""

import contextlib
import copy
import functools
import inspect
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm, _NormBase  # what all of them share has no public name

from equipoise.errors import UserError

# Where a wrapper holds its network: those of the packages below, known by their names, as not all of them are loaded.
PACKAGES = ("torch", "lightning", "lightning_fabric", "timm", "ema_pytorch")
INNER = {
    "DistributedDataParallel": "module",
    "DataParallel": "module",
    "AveragedModel": "module",
    "OptimizedModule": "_orig_mod",
    "_FabricModule": "module",
    "ModelEma": "module",
    "EMA": "ema_model",
    "ModelEmaV2": "module",
    "ModelEmaV3": "module",
}
# How far the networks are looked for that a function draws from.
DEEPEST = 5  # objects within objects: a method's trainer, its dict of networks, the network
MOST_HELD = 1_000  # items of a list or dict; longer ones are data
MOST_LOOKED_AT = 5_000  # objects
SHARDED = ("FullyShardedDataParallel", "FSDPModule", "DeepSpeedEngine")


class Shell(nn.Module):
    """A network where its wrapper was: `generate` may speak of `.module`, and of the network's own parts."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Call the network."""
        return self.module(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("module"), name)


def inner_name(module: nn.Module) -> str | None:
    """Return the attribute in which a wrapper holds its network, None for a module that is no wrapper."""
    for kind in type(module).__mro__:
        if kind.__name__ in INNER and kind.__module__.partition(".")[0] in PACKAGES:
            return INNER[kind.__name__]
    return None


def bare(module: nn.Module) -> nn.Module:
    """Return the network in a module, out of all wrappers around it."""
    while (inner := inner_name(module)) is not None:
        module = getattr(module, inner)
    return module


def num_shells(module: nn.Module) -> int:
    """Return how many wrappers around a network call it `.module`."""
    num = 0
    while (inner := inner_name(module)) is not None:
        num += inner == "module"
        module = getattr(module, inner)
    return num


def shelled(network: nn.Module, num: int) -> nn.Module:
    """Return a network in so many shells, which look like its wrappers."""
    for _ in range(num):
        network = Shell(network)
    return network


def refuse_sharded(module: nn.Module, name: str = "generator") -> None:
    """Raise UserError where a module's weights are shared out over processes: one alone would wait for the others."""
    for part in module.modules():
        kinds = {kind.__name__ for kind in type(part).__mro__}
        if kinds & set(SHARDED) or any(hasattr(weight, "to_local") for weight in part.parameters(recurse=False)):
            problem = (
                f"the weights of {type(part).__name__} are shared out over processes, and a watch is in one of them, "
                "so it can neither draw from it nor keep it"
            )
            remedies = (
                "Give a whole copy that this process holds, such as a moving average of the weights",
                "Or draw in all processes, and give the watch your own score: score()",
            )
            raise UserError(name, problem, *remedies)


def refuse_without_weights(module: nn.Module, name: str = "generator") -> None:
    """Raise UserError where weights do not exist yet: drawing would make them, and putting back would lose them."""
    weights = [*module.parameters(), *module.buffers()]
    if any(map(nn.parameter.is_lazy, weights)):
        problem = "some of its weights have no shape yet, as it has lazy layers that were never called"
        raise UserError(name, problem, "Call it once on latents, before its optimizer is made")
    if any(weight.is_meta for weight in weights):
        raise UserError(name, "some of its weights lie on the meta device, which holds no values", "Load them first")


def plain_state(module: nn.Module) -> dict[str, Tensor]:
    """Return the parameters and buffers of the network in a module, by the names that it has without any wrapper."""
    network = bare(module)
    found: dict[str, Tensor] = {}
    for name, value in network.state_dict().items():
        plain = _plain_name(network, name)
        if plain is not None:
            found[plain] = value
    return found


def _plain_name(network: nn.Module, name: str) -> str | None:
    """Return a name without the parts of wrappers; None for what is a wrapper's own, such as a count of averages."""
    part: Any = network
    kept: list[str] = []
    for word in name.split("."):
        inner = inner_name(part) if isinstance(part, nn.Module) else None
        if inner is None:
            kept.append(word)
        elif word != inner:
            return None
        part = getattr(part, word, None)
    return ".".join(kept)


def copy_of(module: nn.Module) -> nn.Module:
    """Return a copy of the network in a module, also of what is wrapped within it; raises whatever copying raises.

    A wrapper that spans processes is not copied: that would wait for the others.
    """
    network = bare(module)
    known: dict[int, Any] = {}
    for part in network.modules():
        for value in vars(part).values():
            if isinstance(value, Tensor) and not value.is_leaf:  # what spectral_norm computes; copying would refuse it
                known[id(value)] = value.detach().clone()
            elif type(value).__name__ == "ProcessGroup":
                known[id(value)] = value
    for part in reversed(list(network.modules())):  # the inner ones first
        if inner_name(part) is not None:
            known[id(part)] = copy.deepcopy(bare(part), known)
    return copy.deepcopy(network, known)


def num_untrained_statistics(module: nn.Module) -> int:
    """Return how many batch norms there are, if not one of them has ever updated its running statistics; else 0."""
    norms = [part for part in module.modules() if isinstance(part, _NormBase) and part.running_mean is not None]
    for norm in norms:
        mean, variance = norm.running_mean, norm.running_var
        assert mean is not None
        assert variance is not None
        if bool(mean.any()) or not bool((variance == 1).all()):
            return 0
    return len(norms)


def modules_of(function: Any) -> list[nn.Module]:
    """Return the modules that a function draws from, as far as it shows: its own, and those that it names.

    They are looked for in its object, in variables around it, and within lists, dicts and objects there.
    """
    found: list[nn.Module] = []
    seen: set[int] = set()
    waiting = deque([(function, 0)])
    while waiting and len(seen) < MOST_LOOKED_AT:
        one, depth = waiting.popleft()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, nn.Module):
            found.append(one)
        elif depth < DEEPEST:
            with contextlib.suppress(Exception):  # whatever an object of another library raises where it is looked at
                waiting += [(inner, depth + 1) for inner in _held_by(one)]
    return found


def _held_by(one: Any) -> list[Any]:
    """Return what an object holds and a function names; of long lists and dicts nothing, as these hold data."""
    if isinstance(one, FunctionType | MethodType | functools.partial):
        return _named_by(one)
    if isinstance(one, Mapping | list | tuple | set | frozenset):
        held = one.values() if isinstance(one, Mapping) else one
        return list(held) if len(held) <= MOST_HELD else []
    if isinstance(one, type | ModuleType | Tensor | np.ndarray):
        return []
    attributes = getattr(one, "__dict__", None)
    held = list(attributes.values()) if isinstance(attributes, dict) else []
    slots = (name for kind in type(one).__mro__ for name in _words(getattr(kind, "__slots__", ())))
    held += [getattr(one, name) for name in slots if not name.startswith("__") and hasattr(one, name)]
    called = next((vars(kind)["__call__"] for kind in type(one).__mro__ if "__call__" in vars(kind)), None)
    return held + (_named_by(called) if isinstance(called, FunctionType) else [])


def _words(slots: Any) -> tuple[str, ...]:
    return (slots,) if isinstance(slots, str) else tuple(slots)


def _named_by(function: Any) -> list[Any]:
    """Return what a function holds and names: its object, its arguments, its attributes, variables around it."""
    found: list[Any] = [getattr(function, "__self__", None), *getattr(function, "__dict__", {}).values()]
    found += [
        *(getattr(function, "__defaults__", None) or ()),
        *(getattr(function, "__kwdefaults__", None) or {}).values(),
    ]
    if isinstance(function, functools.partial):
        found += [function.func, *function.args, *function.keywords.values()]
    with contextlib.suppress(TypeError, ValueError):
        names = inspect.getclosurevars(inspect.unwrap(function))
        found += [*names.nonlocals.values(), *names.globals.values()]
    return found


@contextlib.contextmanager
def untouched(modules: Iterable[nn.Module]) -> Iterator[None]:
    """Put modules back as they were afterwards, whatever is done to them: modes, buffers, types and places of weights.

    So is randomness. No module speaks to other processes meanwhile, which might never answer.
    """
    parts = list(dict.fromkeys(part for module in modules for part in module.modules()))
    with same_randomness(parts), _alone(parts), contextlib.ExitStack() as stack:
        for part in parts:
            stack.callback(_attributes_back(part))
            for name, buffer in part._buffers.items():
                stack.callback(_buffer_back(part, name, buffer))
            for weight in part.parameters(recurse=False):
                stack.callback(_weight_back(weight))
        yield


def _attributes_back(part: nn.Module) -> Callable[[], None]:
    """Return what undoes a change of a module's attributes: mode, counters, and what it holds by name, also hooks."""
    kind = type(part)
    mode = part.training
    held = dict(vars(part))
    inside = {name: value.copy() for name, value in held.items() if isinstance(value, dict | list | set)}
    tensors = [_tensor_back(value) for value in held.values() if isinstance(value, Tensor)]

    def back() -> None:
        if type(part) is not kind:  # parametrizations change it
            part.__class__ = kind
        now = vars(part)
        for name in now.keys() - held.keys():
            del now[name]
        now.update(held)
        for name, content in inside.items():
            held[name].clear()
            if isinstance(content, list):
                held[name].extend(content)
            else:
                held[name].update(content)
        for one in tensors:
            one()
        if part.training != mode:  # a compiled script holds it elsewhere
            part.training = mode

    return back


def _buffer_back(part: nn.Module, name: str, buffer: Tensor | None) -> Callable[[], None]:
    values_back = None if buffer is None else _tensor_back(buffer)

    def back() -> None:
        part._buffers[name] = buffer
        if values_back is not None:
            values_back()

    return back


def _tensor_back(tensor: Tensor) -> Callable[[], None]:
    kept = tensor.detach().clone()

    def back() -> None:
        if not _is_same(tensor, kept):
            with torch.no_grad():
                tensor.copy_(kept)

    return back


def _is_same(one: Tensor, other: Tensor) -> bool:
    """Return whether two tensors hold the same, NaN being the same as NaN."""
    if (one.shape, one.dtype, one.device) != (other.shape, other.dtype, other.device):
        return False
    return bool((one.eq(other) | (one.ne(one) & other.ne(other))).all())


def _weight_back(weight: nn.Parameter) -> Callable[[], None]:
    """Return what undoes a change of a weight's type, device or place, of its gradient, and of whether it is trained.

    Meanwhile the gradient is out of reach, so that nothing adds to it.
    """
    data = weight.data
    gradient = weight.grad
    weight.grad = None
    is_trained = weight.requires_grad

    def back() -> None:
        with contextlib.suppress(RuntimeError):  # a tensor without a place of its own
            if (weight.dtype, weight.data.data_ptr()) != (data.dtype, data.data_ptr()):
                weight.data = data
        if weight.requires_grad != is_trained:
            weight.requires_grad_(is_trained)
        weight.grad = gradient

    return back


@contextlib.contextmanager
def same_randomness(parts: Iterable[nn.Module] = ()) -> Iterator[None]:
    """Put the random states of torch, NumPy and Python back, those of the modules' devices included."""
    devices = {weight.device for part in parts for weight in part.parameters(recurse=False) if weight.is_cuda}
    of_python = random.getstate()
    of_numpy = np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng(sorted(devices, key=str)):
            yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)  # noqa: NPY002


@contextlib.contextmanager
def _alone(parts: Iterable[nn.Module]) -> Iterator[None]:
    """Keep buffers from being sent to other processes, and batch statistics from being taken over all of them."""
    with contextlib.ExitStack() as stack:
        for part in parts:
            if "forward" in vars(part):
                continue
            if type(part).__name__ == "DistributedDataParallel":
                vars(part)["forward"] = bare(part)
                stack.callback(vars(part).pop, "forward", None)
            elif isinstance(part, nn.SyncBatchNorm):
                vars(part)["forward"] = MethodType(_BatchNorm.forward, part)
                stack.callback(vars(part).pop, "forward", None)
        yield
