"""Everything that a running training holds, as paths and values; and things planted in it to be forgotten."""

import collections
import dataclasses
import enum
import functools
import hashlib
import json
import os
import random
import re
import shutil
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import calls
import numpy as np
import torch
from places import replace_in_package
from torch import Tensor, nn

Inventory = dict[str, str]  # values by paths such as `state.players.generator.body.0.weight`

CUT = 320  # samples at the checkpoint from which the other run goes on: between two lines of the log
TURNS = (304, CUT, 336, 416)  # when a training tells all it holds between two steps; after the last it ends
# Set anew in every turn before it is read, or made of what has names of its own; who only shows the training.
NOT_KEPT = {"verdict", "remedy", "stop", "progress", "terms", "numbers", "num", "decay", "observer"}
OF_MODULES = ("equipoise", "torch", "collections", "functools", "builtins", "types")
PLAIN = (type(None), bool, int, float, complex, str, bytes, enum.Enum, torch.dtype, torch.device, torch.memory_format)
OPAQUE = (type, types.ModuleType, types.BuiltinFunctionType, types.FrameType, types.CodeType, Path)


def taken(roots: dict[str, Any]) -> Inventory:
    """Return the leaves below some objects; what is reached on two paths is listed on both."""
    known: dict[int, tuple[Any, list[tuple[str, str]]]] = {}
    return {path: value for name, root in roots.items() for path, value in _walk(root, name, known, set())}


def _walk(
    thing: Any, path: str, known: dict[int, tuple[Any, list[tuple[str, str]]]], active: set[int]
) -> Iterator[tuple[str, str]]:
    if isinstance(thing, PLAIN):
        yield path, repr(thing)
    elif isinstance(thing, Tensor):
        plain = thing.detach().cpu().contiguous()
        yield path, f"{thing.dtype} {list(thing.shape)} {_sha256(plain.flatten().view(torch.uint8).numpy())}"
    elif isinstance(thing, np.ndarray):
        yield path, f"{thing.dtype} {list(thing.shape)} {_sha256(thing)}"
    elif isinstance(thing, torch.Generator):
        yield path, _sha256(thing.get_state().numpy())
    elif not isinstance(thing, OPAQUE) and id(thing) not in active:
        if id(thing) not in known:
            active.add(id(thing))
            steps = [(step, _walk(inner, "", known, active)) for step, inner in _parts(thing)]
            known[id(thing)] = (thing, [(step + rest, value) for step, found in steps for rest, value in found])
            active.discard(id(thing))  # kept with its leaves: or another thing could get its id
        yield from ((path + rest, value) for rest, value in known[id(thing)][1])


def _parts(thing: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(thing, torch.optim.Optimizer):
        yield from _of_optimizer(thing)
    elif isinstance(thing, dict):
        yield ".keys()", str(len(thing))
        for place, (key, value) in enumerate(thing.items()):
            yield f"[{key!r}]" if isinstance(key, PLAIN) else f"[{place}]", value
    elif isinstance(thing, list | tuple | collections.deque):
        yield ".len()", str(len(thing))
        yield from ((f"[{place}]", value) for place, value in enumerate(thing))
    elif isinstance(thing, set | frozenset):
        yield ".items()", str(sorted(map(repr, thing)) if all(isinstance(one, PLAIN) for one in thing) else len(thing))
    elif isinstance(thing, functools.partial):
        yield from (("(function)", thing.func), ("(given)", thing.args), ("(named)", thing.keywords))
    elif isinstance(thing, types.MethodType):
        yield "(self)", thing.__self__
    elif isinstance(thing, types.FunctionType):
        for name, cell in zip(thing.__code__.co_freevars, thing.__closure__ or (), strict=True):
            if _is_full(cell):
                yield f"(closure).{name}", cell.cell_contents
    elif type(thing).__module__.split(".")[0] in OF_MODULES:
        yield from _of_instance(thing)


def _of_instance(thing: Any) -> Iterator[tuple[str, Any]]:
    yield from ((f".{name}", value) for name, value in getattr(thing, "__dict__", {}).items())
    for kind in type(thing).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        if isinstance(slots, str):
            slots = (slots,)
        for name in slots:
            if hasattr(thing, name) and name not in ("__dict__", "__weakref__"):
                yield f".{name}", getattr(thing, name)


def _of_optimizer(optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, Any]]:
    """Name the state by the places of the parameters, since a dictionary keeps the order in which they came."""
    for place, group in enumerate(optimizer.param_groups):
        yield f".param_groups[{place}]", {name: value for name, value in group.items() if name != "params"}
        for number, parameter in enumerate(group["params"]):
            yield f".state[{place}][{number}]", dict(optimizer.state.get(parameter, {}))
    apart = ("param_groups", "state")
    yield from ((f".{name}", value) for name, value in vars(optimizer).items() if name not in apart)


def _is_full(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def _sha256(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()[:16]


def globals_of_package() -> dict[str, Any]:
    """Return what the modules and the classes of the package hold that is no code."""
    found: dict[str, Any] = {}
    for name, module in sorted(sys.modules.items()):
        if name.split(".")[0] == "equipoise":
            for key, value in vars(module).items():
                if not key.startswith("__") and not callable(value) and not isinstance(value, OPAQUE):
                    found[f"{name}.{key}"] = value
                if isinstance(value, type) and value.__module__ == name:
                    own = {part: held for part, held in vars(value).items() if not part.startswith("__")}
                    kinds = (*PLAIN, list, dict, set)
                    found |= {f"{name}.{key}.{part}": held for part, held in own.items() if isinstance(held, kinds)}
    return found


def streams() -> dict[str, Any]:
    """Return the states of the global generators of random numbers."""
    return {
        "stream of torch": torch.get_rng_state(),
        "stream of python": repr(random.getstate()),
        "stream of numpy": repr(np.random.get_state()),  # noqa: NPY002
    }


@dataclasses.dataclass(frozen=True)
class Telling:
    """An observer in place of another, which hears of each line of the log before that one."""

    real: Any
    hear: Callable[[], None]

    def progress(self, progress: Any) -> None:
        """Tell both where the training stands."""
        self.hear()
        self.real.progress(progress)

    def stage(self, text: str, share: float) -> None:
        """Tell of a stage."""
        self.real.stage(text, share)

    def message(self, text: str) -> None:
        """Tell a lasting line."""
        self.real.message(text)


def take(to: Path, plant: Callable[[], None] | None = None, copy: Path | None = None) -> None:
    """Write what this process's training holds in some turns and whenever it tells of itself.

    The run's folder as it is at the checkpoint of `CUT` samples goes to `copy`, if asked.
    """
    if plant is not None:
        plant()
    calls.write_at_once()

    def save(folder: Path, samples: int, *rest: Any) -> Path:
        path = real_save(folder, samples, *rest)
        if samples == CUT and copy is not None:
            shutil.copytree(folder.parent, copy)
        return path

    lines = to.open("a")

    def note(kind: str, frame: types.FrameType, more: dict[str, Any]) -> None:
        samples = frame.f_locals["state"].samples
        if samples < TURNS[0] or (kind == "turn" and samples not in TURNS):
            return
        kept = {name: value for name, value in frame.f_locals.items() if name not in NOT_KEPT}
        lines.write(json.dumps([kind, samples, taken(kept | globals_of_package() | more)]) + "\n")
        lines.flush()
        if kind == "turn" and samples == TURNS[-1]:
            os._exit(0)

    def train(*given: Any) -> Any:
        *first, observer = given
        return real_train(*first, Telling(observer, lambda: note("tell", sys._getframe(2), streams())))

    def set_rates(*given: Any) -> None:
        note("turn", sys._getframe(1), {})  # between two rounds: where a checkpoint is taken, and gone on from
        real_rates(*given)

    real_save: Callable[..., Path] = replace_in_package("storage.checkpoints.save", save)
    real_train: Callable[..., Any] = replace_in_package("loop.train", train)
    real_rates: Callable[..., None] = replace_in_package("loop.set_rates", set_rates)


Moments = dict[tuple[str, int], Inventory]


def read(path: Path) -> Moments:
    """Return the inventories of one process by their moments."""
    return {(kind, samples): found for kind, samples, found in map(json.loads, path.read_text().splitlines())}


def stateful(moments: Moments) -> set[str]:
    """Return the paths whose values change from one moment to another of its kind, or that come or go."""
    changing: set[str] = set()
    for kind in ("turn", "tell"):
        found = [holds for (one, _), holds in moments.items() if one == kind]
        changing |= {path for one in found for path in one if any(other.get(path) != one[path] for other in found)}
    return changing


def forgotten(whole: Moments, resumed: Moments, expected: Iterable[str]) -> list[str]:
    """Return what a resumed training holds otherwise than the whole one did, but for what is expected."""
    changing = stateful(whole)
    pattern = re.compile("|".join(expected))
    found = {
        path
        for moment, holds in resumed.items()
        for path in changing | (holds.keys() - whole[moment].keys())
        if holds.get(path) != whole[moment].get(path)
    }
    return sorted(path for path in found if not pattern.fullmatch(path))


def plant_in_monitor() -> None:
    """Let the monitor count what it sees."""
    _counting("stopping.monitor.Monitor.observe", lambda given: given[0])


def plant_in_state() -> None:
    """Let the state count the players' terms."""
    _counting("loop.terms_of", lambda given: given[1])


def plant_in_meter() -> None:
    """Let the meter count what is added."""
    _counting("health.stats.Meter.add", lambda given: given[0])


def plant_in_update() -> None:
    """Let the players count the rounds."""
    _counting("game.updates.Update.round", lambda given: given[0].players.generator)


def plant_in_optimizer() -> None:
    """Let an optimizer count its steps beside its groups and its state."""
    real = torch.optim.Adam.step

    def step(self: Any, *given: Any) -> Any:
        self.planted = getattr(self, "planted", 0) + 1
        return real(self, *given)

    torch.optim.Adam.step = step  # type: ignore[method-assign]


def plant_in_network() -> None:
    """Give a network a buffer that is in no state_dict, and let it count the passes."""

    def init(self: nn.Module, **named: Any) -> None:
        real_init(self, **named)
        self.register_buffer("planted", torch.zeros(()), persistent=False)

    def forward(self: nn.Module, *given: Any) -> Tensor:
        self.get_buffer("planted").add_(1)
        return real_forward(self, *given)

    real_init: Callable[..., None] = replace_in_package("nets.mlp.MLPGenerator.__init__", init)
    real_forward: Callable[..., Tensor] = replace_in_package("nets.mlp.MLPGenerator.forward", forward)


def plant_in_module() -> None:
    """Let a module of the package count in a global."""
    _counting("loop.terms_of", lambda given: sys.modules["equipoise.loop"])


def _counting(place: str, keeper_of: Callable[[tuple[Any, ...]], Any]) -> None:
    def counted(*given: Any, **named: Any) -> Any:
        keeper = keeper_of(given)
        keeper.planted = getattr(keeper, "planted", 0) + 1
        return real(*given, **named)

    real = replace_in_package(place, counted)
