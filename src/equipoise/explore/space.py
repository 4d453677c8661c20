"""The latents of a generator: where they lie, what they become, ways between them, and their middle."""

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from equipoise.errors import UserError
from equipoise.randomness import Randomness

NUM_FOR_CENTRE = 4_096  # latents whose mean is the centre, where a mapping network moves them
MAPPING = "mapping"  # the attribute that a generator keeps its mapping network in, if it has one
MAPPINGS = (MAPPING, f"own.{MAPPING}")  # the second one stands within a generator that makes codes of its latents

Told = Callable[[Randomness, int], Tensor | None]


def nothing_told(randomness: Randomness, num: int) -> None:
    """Tell a generator nothing but its latents."""


@dataclass(frozen=True, eq=False)
class Space:
    """A generator from standard normal latents `[N, Z]`, and labels if it is told any, to images `[N, C, H, W]`.

    `told` draws labels as often as they come in the data: int64 `[N]`, or one row of weights `[N, L]` each.
    """

    generator: nn.Module
    latent_size: int
    told: Told = nothing_told
    batch: int = 100  # images drawn at once

    @property
    def mapping(self) -> nn.Module | None:
        """The network that maps latents to what the layers take (arXiv:1812.04948), if the generator has one."""
        return self._named_mapping[1]

    @property
    def mapping_name(self) -> str:
        """Where the generator keeps its mapping network; empty if it has none."""
        return self._named_mapping[0]

    @cached_property
    def _named_mapping(self) -> tuple[str, nn.Module | None]:
        named = dict(self.generator.named_modules())
        return next(((name, named[name]) for name in MAPPINGS if name in named), ("", None))

    @property
    def device(self) -> torch.device:
        """Where the generator computes."""
        return next(self.generator.parameters()).device

    def latents(self, randomness: Randomness, num: int, stream: str = "latents") -> Tensor:
        """Draw standard normal latents `[num, Z]`."""
        return randomness.normal(stream, num, self.latent_size)


@torch.no_grad()
def images_of(space: Space, latents: Tensor, labels: Tensor | None = None) -> Tensor:
    """Return the images `[N, C, H, W]` in [-1, 1] of latents `[N, Z]`, on the CPU."""
    return torch.cat([_shown(space, *part) for part in _parts(space, latents, labels)])


@torch.no_grad()
def codes_of(space: Space, latents: Tensor, labels: Tensor | None = None) -> Tensor:
    """Return what the generator's layers take `[N, W]`: the latents, or what the mapping network makes of them."""
    if space.mapping is None:
        return latents
    found: list[Tensor] = []

    def keep(module: nn.Module, given: object, made: Tensor) -> None:
        found.append(made.detach().float().cpu())
        raise _Reached  # what comes after it is not needed

    with _hooked(space.mapping, keep):
        for part in _parts(space, latents, labels):
            with contextlib.suppress(_Reached):
                _shown(space, *part)
    codes = torch.cat(found)
    if codes.ndim != 2:
        problem = f"its mapping network gives {list(codes.shape)}, and one row of numbers for each image is expected"
        raise UserError("the generator", problem)
    return codes


@torch.no_grad()
def images_of_codes(space: Space, codes: Tensor, labels: Tensor | None = None) -> Tensor:
    """Return the images `[N, C, H, W]` in [-1, 1] of what `codes_of` returns `[N, W]`."""
    if space.mapping is None:
        return images_of(space, codes, labels)
    images: list[Tensor] = []
    for part, told in _parts(space, codes, labels):

        def put(module: nn.Module, given: object, made: Tensor, part: Tensor = part) -> Tensor:
            return part.to(made)

        with _hooked(space.mapping, put):
            images.append(_shown(space, torch.zeros(len(part), space.latent_size), told))
    return torch.cat(images)


def centre_of(space: Space, seed: int = 0) -> Tensor:
    """Return the mean `[W]` of what the layers take: 0 for normal latents, else that of many mapped ones.

    It is the one place that knows it. With labels, these come as often as in the data (arXiv:1912.04958, section 2).
    """
    if space.mapping is None:
        return torch.zeros(space.latent_size)
    randomness = Randomness(seed)
    latents = space.latents(randomness, NUM_FOR_CENTRE, "centre")
    return codes_of(space, latents, space.told(randomness, NUM_FOR_CENTRE)).mean(0)


def on_shell(latents: Tensor) -> Tensor:
    """Return latents [N, Z] scaled to length √Z, where nearly all normal ones of a large Z lie."""
    return latents * (math.sqrt(latents.shape[1]) / latents.norm(dim=1, keepdim=True).clamp(min=1e-12))


def slerp(one: Tensor, other: Tensor, shares: Tensor) -> Tensor:
    """Return points [T, Z] on the arc from `one` [Z] to `other` [Z] at shares [T] of it (arXiv:1609.04468).

    The direction turns evenly, the length changes evenly: between normal latents a straight line would pass through
    lengths that the generator has never seen.
    """
    lengths = torch.lerp(one.norm(), other.norm(), shares)
    first = one / one.norm().clamp(min=1e-12)
    last = other / other.norm().clamp(min=1e-12)
    angle = torch.acos((first @ last).clamp(-1, 1))
    shares = shares[:, None]
    if angle.sin() < 1e-4:  # the same direction, or opposite ones, between which no arc is the shortest
        turned = torch.lerp(first.expand(len(shares), -1), last.expand(len(shares), -1), shares)
    else:
        turned = (torch.sin((1 - shares) * angle) * first + torch.sin(shares * angle) * last) / angle.sin()
    return turned * lengths[:, None]


def closed_walk(stops: Tensor, steps: int) -> Tensor:
    """Return a loop [P · steps, Z] through stops [P, Z]; it ends one step before the first stop."""
    shares = torch.arange(steps) / steps
    legs = zip(stops, stops.roll(-1, 0), strict=True)
    return torch.cat([slerp(one, other, shares) for one, other in legs])


class _Reached(Exception):
    """What was wanted of a pass through the generator is known."""


@contextlib.contextmanager
def _hooked(module: nn.Module, hook: Callable[..., Tensor | None]) -> Iterator[None]:
    handle = module.register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _parts(space: Space, latents: Tensor, labels: Tensor | None) -> Iterator[tuple[Tensor, Tensor | None]]:
    for begin in range(0, len(latents), space.batch):
        part = slice(begin, begin + space.batch)
        yield latents[part], None if labels is None else labels[part]


def _shown(space: Space, latents: Tensor, labels: Tensor | None) -> Tensor:
    told = labels if labels is None else labels.to(space.device)
    return space.generator(latents.to(space.device), told).float().clamp(-1, 1).cpu()
