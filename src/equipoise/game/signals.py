"""Signals of one round: how far the players move, what reaches their layers, how varied the generated batch is.

They cost about as much as half a round, so they are taken in the last round before a log line alone. All are scalars
that stay on the device, none draws from a random stream, and nothing changes with them.

- `step/ROLE`, `step/ROLE/LAYERS`: ‖Δw‖ / ‖w‖, how far a player, and each part of it, moved in the round, divided by
  the number of its steps.
- `gradient/ROLE/LAYERS`: the norm of the gradient that reached a part of a network, first to last.
- `dead/ROLE`: the share of units whose weights received no gradient at all.
- `saturated/real`, `saturated/generated`: the share of values within 2 % of the ends of [-1, 1].
- `spread`, `nearest`: the deviation of a generated batch over that of a real one, and the same of the distances of its
  samples to their nearest neighbours, both as D sees them; near 0 where the generator collapses.
- `rotation`: the cosine between the joint updates of two rounds; in a cycle they turn (arXiv:1705.10461, §3).
"""

import functools
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from equipoise.game.updates import ROLES, Players
from equipoise.storage.records import SIGNAL

MOST_PARTS = 4  # of a network; deeper ones are told apart more coarsely
MOST_COMPARED = 64  # samples of a batch
SATURATED = 0.98
SKETCH = 512  # numbers that stand for a joint update: a cosine from them has an error of 0.04

Signals = dict[str, Tensor]


@dataclass
class Look:
    """What a look at a round has found: its signals, and a sketch of its joint update `[512]`."""

    signals: Signals = field(default_factory=dict)
    sketch: Tensor | None = None


@dataclass
class _Batches:
    """What went through the players: in its own turn, D's first two inputs are the real and the generated batch."""

    seen: list[Tensor] = field(default_factory=list)
    drawn: Tensor | None = None


@contextmanager
def look_at_round(
    players: Players, before: Tensor | None, *, is_whole: bool, discriminator_steps: int = 1
) -> Iterator[Look]:
    """Yield a look, which holds what it has found once the round in the block is over.

    `before` is the sketch of the round before, None where there is none. Without `is_whole` only a sketch is taken.
    A round has one step of the generator and so many of the discriminator.
    """
    look = Look()
    weights = {role: [weight.detach().clone() for weight in players.of(role).parameters()] for role in ROLES}
    with _batches_of(players) as batches:
        yield look
    with torch.no_grad():
        steps = {role: _steps(players.of(role), weights[role]) for role in ROLES}
        look.sketch = sketch_of([step for role in ROLES for step in steps[role]])
        if not is_whole:
            return
        found = _of_batches(batches)
        for role in ROLES:
            num_steps = discriminator_steps if role == "discriminator" else 1
            found |= _of_player(role, players.of(role), steps[role], weights[role], num_steps)
        if before is not None:
            found["rotation"] = torch.nn.functional.cosine_similarity(before, look.sketch, dim=0)
        look.signals = {f"{SIGNAL}{name}": value for name, value in found.items()}


@contextmanager
def _batches_of(players: Players) -> Iterator[_Batches]:
    """Note what goes through the players in the block."""
    batches = _Batches()
    hooks = [
        players.discriminator.register_forward_pre_hook(lambda network, inputs: _note_input(batches, network, inputs)),
        players.generator.register_forward_hook(lambda _, inputs, output: _note_output(batches, output)),
    ]
    try:
        yield batches
    finally:
        for hook in hooks:
            hook.remove()


def _note_input(batches: _Batches, network: nn.Module, inputs: tuple[Any, ...]) -> None:
    is_its_turn = any(weight.requires_grad for weight in network.parameters())  # in the generator's it is frozen
    if is_its_turn and len(batches.seen) < 2 and inputs and isinstance(inputs[0], Tensor):
        batches.seen.append(inputs[0].detach())


def _note_output(batches: _Batches, output: Any) -> None:
    if isinstance(output, Tensor):
        batches.drawn = output.detach()


def _steps(network: nn.Module, before: Sequence[Tensor]) -> list[Tensor]:
    return [weight.detach() - old for weight, old in zip(network.parameters(), before, strict=True)]


# The players


def _of_player(
    role: str, network: nn.Module, steps: Sequence[Tensor], before: Sequence[Tensor], num_steps: int
) -> Signals:
    found: Signals = {}
    gradients = [weight.grad for weight in network.parameters()]
    moved = _norms(steps) / num_steps
    sizes = _norms(before)
    found[f"step/{role}"] = _ratio(moved, sizes)
    received = _norms([torch.zeros((), device=moved.device) if grad is None else _dense(grad) for grad in gradients])
    for part, places in parts_of([name for name, _ in network.named_parameters()]).items():
        if all(gradients[place] is None for place in places):
            continue  # it has no part in the game at present, as stages that have not come in yet
        found[f"step/{role}/{part}"] = _ratio(moved[places], sizes[places])
        found[f"gradient/{role}/{part}"] = received[places].norm()
    dead = _dead(network)
    if dead is not None:
        found[f"dead/{role}"] = dead
    return found


def _norms(tensors: Sequence[Tensor]) -> Tensor:
    return torch.stack([torch.linalg.vector_norm(tensor.float()) for tensor in tensors])


def _dense(gradient: Tensor) -> Tensor:
    """Return the values of a gradient, of a sparse one those that are there."""
    return gradient.coalesce().values() if gradient.is_sparse else gradient


def _ratio(moved: Tensor, sizes: Tensor) -> Tensor:
    return moved.norm() / sizes.norm().clamp(min=1e-12)


def parts_of(names: Sequence[str]) -> dict[str, list[int]]:
    """Return the places of a network's parameters by its parts, first to last; long networks in a few stretches.

    Several discriminators are one: a part is that of all, as no one of them comes before another.
    """
    parts: dict[str, list[int]] = {}
    for place, name in enumerate(names):
        above = _JUDGE.sub("", name).split(".")[:-1] or [name]
        num = 2 if len(above) > 1 and above[1].isdigit() else 1
        parts.setdefault(".".join(above[:num]), []).append(place)
    if len(parts) <= MOST_PARTS:
        return parts
    stretches: dict[str, list[int]] = {}
    every = list(parts)
    for index in range(MOST_PARTS):
        chosen = every[index * len(every) // MOST_PARTS : (index + 1) * len(every) // MOST_PARTS]
        name = chosen[0] if len(chosen) == 1 else f"{chosen[0]}..{chosen[-1]}"
        stretches[name] = [place for part in chosen for place in parts[part]]
    return stretches


_JUDGE = re.compile(r"^judges\.\d+\.")  # leads the names of one of several discriminators


def _dead(network: nn.Module) -> Tensor | None:
    """Return the share of units, over all layers, of whose weights none received a gradient."""
    flags = []
    for layer in network.modules():
        if not isinstance(layer, _LAYERS):
            continue
        own = dict(layer.named_parameters())
        weight = own.get("weight", own.get("parametrizations.weight.original"))  # to ask a spectral norm moves it
        if weight is None or weight.grad is None or weight.grad.is_sparse or not weight.numel():
            continue
        of_units = weight.grad if not isinstance(layer, _TRANSPOSED) else weight.grad.transpose(0, 1)
        flags.append(torch.linalg.vector_norm(of_units.flatten(1), dim=1) == 0)
    return torch.cat(flags).float().mean() if flags else None


_TRANSPOSED = nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d
_LAYERS = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d | _TRANSPOSED


# The batches


def _of_batches(batches: _Batches) -> Signals:
    found: Signals = {}
    if batches.drawn is not None and batches.drawn.is_floating_point():
        found["saturated/generated"] = _saturated(batches.drawn)
    if len(batches.seen) < 2:
        return found
    real, fake = (_flat(batch) for batch in batches.seen)
    if real.shape != fake.shape or len(real) < 3 or not batches.seen[0].is_floating_point():
        return found  # not a pair of batches: whatever D was asked, it was something else
    is_within = batches.seen[0].abs().max() <= 1  # else the ends of [-1, 1] mean nothing
    found["saturated/real"] = torch.where(is_within, _saturated(batches.seen[0]), torch.nan)
    found["spread"] = _over(_deviation(fake), _deviation(real))
    found["nearest"] = _over(_nearest(fake), _nearest(real))
    return found


def _flat(batch: Tensor) -> Tensor:
    return batch[:MOST_COMPARED].float().flatten(1) if batch.dim() > 1 else batch[:MOST_COMPARED, None].float()


def _saturated(values: Tensor) -> Tensor:
    return (values.float().abs() >= SATURATED).float().mean()


def _deviation(flat: Tensor) -> Tensor:
    return flat.var(0).sum().sqrt()


def _nearest(flat: Tensor) -> Tensor:
    """Return the mean distance of samples to their nearest neighbours."""
    return torch.cdist(flat, flat).fill_diagonal_(torch.inf).min(1).values.mean()


def _over(fake: Tensor, real: Tensor) -> Tensor:
    return torch.where(real > 0, fake / real, torch.nan)


# The rotation


def sketch_of(tensors: Sequence[Tensor]) -> Tensor:
    """Return numbers `[512]` whose cosines are about those of all these tensors as one vector (a count sketch).

    Each tensor is cut into rows of 512, and these are added up with signs.
    """
    sketch = torch.zeros(SKETCH, device=tensors[0].device)
    for place, tensor in enumerate(tensors):
        flat = tensor.float().flatten()
        if not len(flat):
            continue
        rows = torch.nn.functional.pad(flat, (0, -len(flat) % SKETCH)).view(-1, SKETCH)
        sketch += (_signs(len(rows), sketch.device) @ rows).roll(place)  # not all biases at the same places
    return sketch


@functools.lru_cache(maxsize=1_000)
def _signs(num: int, device: torch.device) -> Tensor:
    """Return ±1 `[num]`, always the same."""
    drawn = torch.randint(2, (num,), generator=torch.Generator().manual_seed(num))
    return (2.0 * drawn - 1.0).to(device)
