"""Which layers of a generator take its latents, found by watching what comes in, and not by their names.

A layer counts if it is given the latents as they are, all or some of them and whatever stands beside them, and if what
it gives is an affine function of them. Its matrix is measured: by how much the output changes with each latent. So a
linear layer, a transposed convolution, one with a scaled or normalised weight, and one with a batch norm behind it all
count, and none has to be known by name.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from equipoise.errors import UserError
from equipoise.explore.space import Space, codes_of
from equipoise.randomness import Randomness

NUM_PROBES = 8  # latents by which it is seen what comes where
TOLERANCE = 1e-3  # of an output's spread, up to which it is affine


@dataclass(frozen=True, eq=False)
class FirstLayer:
    """The layers that the latents enter, by name in order, and their matrices [M, W] one below the other.

    A family without latents in several places has one such layer. Where a mapping network comes first, these are the
    layers that take what it makes.
    """

    names: tuple[str, ...]
    matrix: Tensor


@torch.no_grad()
def first_layer(space: Space) -> FirstLayer:
    """Find where the latents enter; raises UserError where no affine layer takes them as they are."""
    randomness = Randomness(0)
    latents = space.latents(randomness, NUM_PROBES, "probes")
    labels = space.told(randomness, NUM_PROBES)
    codes = codes_of(space, latents, labels)
    mapping = () if space.mapping is None else (space.mapping_name,)
    names: list[str] = []
    matrices: list[Tensor] = []
    for name, module, given in _inputs(space, latents, labels):
        if any(f"{name}.".startswith(f"{known}.") for known in (*mapping, *names)):
            continue
        columns = _columns(given, codes)
        if (columns < 0).all():
            continue
        matrix = _matrix(module, given[:1], columns)
        if matrix is not None:
            names.append(name)
            matrices.append(matrix)
    if not names:
        problem = "no affine layer of this network takes the latents as they are, so no direction follows from weights"
        raise UserError("the first layer", problem, "Directions by the activations need none")
    return FirstLayer(tuple(names), torch.cat(matrices))


@torch.no_grad()
def first_activations(space: Space, layer: str) -> str:
    """Return the first module, beginning with a layer, whose output is no affine function of the latents.

    Up to there, activations hold nothing but the latents themselves, turned. The layer itself where all are affine.
    """
    randomness = Randomness(1)
    ends = space.latents(randomness, 2 * NUM_PROBES, "ends")
    ends = torch.cat([ends, (ends[:NUM_PROBES] + ends[NUM_PROBES:]) / 2])
    labels = space.told(randomness, 1)
    labels = labels if labels is None else labels.expand(len(ends), *labels.shape[1:])
    has_begun = False
    for name, made in _outputs(space, ends, labels):
        has_begun = has_begun or name == layer
        if not has_begun or made.ndim < 2 or len(made) != len(ends):
            continue
        first, last, middle = made.flatten(1).split(NUM_PROBES)
        if not _is_near(middle, (first + last) / 2):
            return name
    return layer


def activations_of(space: Space, name: str, latents: Tensor, labels: Tensor | None) -> Iterator[Tensor]:
    """Yield what a module gives, flattened to [n, D], for latents [N, Z], part by part."""
    for begin in range(0, len(latents), space.batch):
        part = slice(begin, begin + space.batch)
        found: list[Tensor] = []
        told = labels if labels is None else labels[part].to(space.device)
        module = space.generator.get_submodule(name)
        handle = module.register_forward_hook(lambda module, given, made, found=found: found.append(made))
        try:
            with torch.no_grad():
                space.generator(latents[part].to(space.device), told)
        finally:
            handle.remove()
        yield found[0].detach().float().flatten(1).cpu()


def _inputs(space: Space, latents: Tensor, labels: Tensor | None) -> list[tuple[str, nn.Module, Tensor]]:
    """Return the modules with weights that are given one tensor [N, K] or [N, K, 1, 1] alone, as they are reached."""
    found: list[tuple[str, nn.Module, Tensor]] = []
    seen: set[str] = set()

    def watch(name: str) -> Callable[..., None]:
        def look(module: nn.Module, given: tuple[Any, ...]) -> None:
            if name in seen or len(given) != 1 or not isinstance(given[0], Tensor):
                return
            seen.add(name)
            if given[0].is_floating_point() and given[0].ndim in (2, 4) and given[0][0].numel() == given[0].shape[1]:
                found.append((name, module, given[0].detach()))

        return look

    handles = [
        module.register_forward_pre_hook(watch(name))
        for name, module in space.generator.named_modules()
        if name and next(module.parameters(), None) is not None
    ]
    _pass_through(space, latents, labels, handles)
    return found


def _outputs(space: Space, latents: Tensor, labels: Tensor | None) -> list[tuple[str, Tensor]]:
    """Return what each module gives, as they finish."""
    found: list[tuple[str, Tensor]] = []

    def watch(name: str) -> Callable[..., None]:
        def look(module: nn.Module, given: tuple[Any, ...], made: Any) -> None:
            if isinstance(made, Tensor):
                found.append((name, made.detach().float()))

        return look

    handles = [module.register_forward_hook(watch(name)) for name, module in space.generator.named_modules() if name]
    _pass_through(space, latents, labels, handles)
    return found


def _pass_through(space: Space, latents: Tensor, labels: Tensor | None, handles: list[Any]) -> None:
    told = labels if labels is None else labels.to(space.device)
    try:
        space.generator(latents.to(space.device), told)
    finally:
        for handle in handles:
            handle.remove()


def _columns(given: Tensor, codes: Tensor) -> Tensor:
    """Return where each of the codes [N, W] stands among the columns of an input, int64 [W]; −1 where it does not."""
    same = (given.flatten(1).cpu()[:, :, None] == codes[:, None, :]).all(0)
    return torch.where(same.any(0), same.int().argmax(0), -1)


def _matrix(module: nn.Module, given: Tensor, columns: Tensor) -> Tensor | None:
    """Return by how much an output [M] changes with each latent, [M, W]; None where it is not affine in them.

    A latent that does not come in changes nothing.
    """
    entering = (columns >= 0).nonzero()[:, 0]
    places = columns[entering]
    away = Randomness(2).normal("away", 2, len(entering)).to(given)
    moved = given.flatten(1).repeat(1 + len(places) + len(away), 1)
    moved[torch.arange(1, 1 + len(places)), places] += 1
    moved[-len(away) :, places] += away
    made = module(moved.view(-1, *given.shape[1:]))
    if not isinstance(made, Tensor) or len(made) != len(moved):
        return None
    made = made.float().flatten(1)
    changes = made[1 : 1 + len(places)] - made[0]
    if not _is_near(made[-len(away) :] - made[0], away.float() @ changes) or not changes.any():
        return None
    matrix = changes.new_zeros(changes.shape[1], len(columns))
    matrix[:, entering] = changes.T
    return matrix.cpu()


def _is_near(one: Tensor, other: Tensor) -> bool:
    """Return whether two outputs are the same but for rounding."""
    return bool((one - other).square().mean() <= TOLERANCE**2 * one.var(correction=0) + 1e-12)
