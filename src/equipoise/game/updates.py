"""The order of the players' steps: an update takes a closure for both players' loss terms and owns their optimizers.

`terms(role, draw)` returns one player's terms at the present weights; draws 0, 1, … of a round are of different real
samples and latents. A step is applied only if its loss and all its gradients are finite. That flag stays on the device:
nothing waits for it, and with several processes it is reduced over them, so that all refuse a step or none.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, assert_never

import torch
from torch import Tensor, distributed, nn
from torch.optim import Optimizer

from equipoise.errors import UserError, listed, suggested
from equipoise.game.optimizers import (
    gradient_norm,
    kept_copies,
    load_optimizer_tensors,
    make_optimizer,
    optimizer_tensors,
    put_back,
    set_momentum,
    set_rate,
    set_smoothing,
    step_unless,
)
from equipoise.recipe import Game

Role = Literal["generator", "discriminator"]
ROLES: tuple[Role, Role] = ("generator", "discriminator")
STATS = ("penalty", "real_logit", "fake_logit", "real_probability", "fake_probability", "accuracy")  # that a task gives


@dataclass(frozen=True)
class Players:
    """The two networks of a game; several of a kind live in one module."""

    generator: nn.Module
    discriminator: nn.Module

    def of(self, role: Role) -> nn.Module:
        """Return the network of a role."""
        return self.generator if role == "generator" else self.discriminator


@dataclass(frozen=True)
class Terms:
    """Named loss terms, weighted and per sample `[N]` (the update adds up their means), and scalar stats of `STATS`.

    Without any loss the player rests in this step.
    """

    losses: dict[str, Tensor]
    stats: dict[str, Tensor] = field(default_factory=dict)


TermsOf: TypeAlias = Callable[[Role, int], Terms]
Numbers: TypeAlias = dict[str, Tensor]


@dataclass(frozen=True)
class Update:
    """One rule for a round of the game, with both players' optimizers."""

    game: Game
    players: Players
    optimizers: dict[Role, Optimizer]

    def round(self, terms: TermsOf, more_steps: int = 0) -> list[Numbers]:
        """Play one round and return each step's numbers, scalars on the device; nothing waits for them.

        `more_steps` are taken by the discriminator besides those of the game, where the two alternate.
        """
        match self.game.update:
            case "alternating":
                return alternating(self, terms, self.game.discriminator_steps + more_steps)
            case "simultaneous":
                return simultaneous(self, terms)
            case "extragradient":
                return extragradient(self, terms)
            case _ as unreachable:
                assert_never(unreachable)

    def set_rates(self, generator: float, discriminator: float) -> None:
        """Set both learning rates."""
        set_rate(self.optimizers["generator"], generator)
        set_rate(self.optimizers["discriminator"], discriminator)

    def set_momentum(self, factor: float) -> None:
        """Set both momenta to so many times the recipe's."""
        set_momentum(self.optimizers["generator"], factor * self.game.generator.beta1)
        set_momentum(self.optimizers["discriminator"], factor * self.game.discriminator.beta1)

    def set_smoothing(self, role: Role, smoothing: float) -> None:
        """Set a player's second β of Adam."""
        set_smoothing(self.optimizers[role], smoothing)

    def rate(self, role: Role) -> float:
        """Return a player's learning rate."""
        return self.optimizers[role].param_groups[0]["lr"]

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors of a checkpoint, by name; not copies."""
        return {
            f"{role}.{name}": tensor
            for role in ROLES
            for name, tensor in optimizer_tensors(self.optimizers[role])[0].items()
        }

    def values(self) -> dict[str, Any]:
        """Return everything else of a checkpoint, as values for JSON."""
        return {role: optimizer_tensors(self.optimizers[role])[1] for role in ROLES}

    def load(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        """Take back what `tensors` and `values` gave; raises KeyError, TypeError or ValueError for another update's."""
        for role in ROLES:
            start = len(role) + 1
            own = {name[start:]: tensor for name, tensor in tensors.items() if name.startswith(f"{role}.")}
            settings = self.game.generator if role == "generator" else self.game.discriminator
            if settings.beta2_end is not None:  # it moves, and is set before each round
                self.set_smoothing(role, float(values[role]["groups"][0]["betas"][1]))
            load_optimizer_tensors(self.optimizers[role], own, values[role])


def make_update(game: Game, players: Players) -> Update:
    """Return the update of a recipe's game over these players."""
    optimizers: dict[Role, Optimizer] = {
        "generator": make_optimizer(game.generator, players.generator.parameters()),
        "discriminator": make_optimizer(game.discriminator, players.discriminator.parameters()),
    }
    return Update(game, players, optimizers)


def samples_per_round(game: Game, more_steps: int = 0) -> int:
    """Return how many real samples one round shows to the discriminator."""
    match game.update:
        case "alternating":
            return game.batch * (game.discriminator_steps + more_steps)
        case "simultaneous":
            return game.batch
        case "extragradient":
            return 2 * game.batch
        case _ as unreachable:
            assert_never(unreachable)


def step_index(game: Game, samples: int, draw: int) -> int:
    """Return the index of a discriminator step in a round that begins at `samples`; lazy penalties count by it.

    Both halves of an extragradient round share one, or the penalty would fall on the extrapolation alone.
    """
    if game.update == "extragradient":
        return samples // samples_per_round(game)
    return samples // game.batch + draw


def alternating(update: Update, terms: TermsOf, discriminator_steps: int) -> list[Numbers]:
    """Take the discriminator's steps, then one of the generator, each at the weights that the one before left."""
    steps = [_step(update, terms, "discriminator", draw) for draw in range(discriminator_steps)]
    return [*steps, _step(update, terms, "generator", discriminator_steps)]


def simultaneous(update: Update, terms: TermsOf) -> list[Numbers]:
    """Take both players' steps from the same weights."""
    kept = _kept_buffers(update.players)
    found = {role: _differentiate(update, terms, role, 0) for role in ROLES}
    is_refused = _any_of([refused for _, refused in found.values()])
    for role in ROLES:
        step_unless(update.optimizers[role], is_refused)
    _restore(kept, is_refused)
    _clip_weights(update, is_refused)
    return [_with_flag(found[role][0], is_refused, role) for role in ROLES]


def extragradient(update: Update, terms: TermsOf) -> list[Numbers]:
    """Step from the present weights with the gradients found one step ahead (Korpelevich 1976; arXiv:1802.10551).

    Both players extrapolate, w' = w − η v(w) by their own optimizer, then w is replaced by w − η v(w'). Extrapolation
    and update both advance the optimizers' moments, as in ExtraAdam.
    """
    kept = _kept_buffers(update.players)
    before = {role: kept_copies(update.optimizers[role]) for role in ROLES}
    ahead = {role: _differentiate(update, terms, role, 0) for role in ROLES}
    is_refused = _any_of([refused for _, refused in ahead.values()])
    for role in ROLES:
        step_unless(update.optimizers[role], is_refused)
    found = {role: _differentiate(update, terms, role, 1) for role in ROLES}
    is_refused = _any_of([is_refused, *(refused for _, refused in found.values())])
    with torch.no_grad():
        for role in ROLES:
            for index, parameter in enumerate(update.players.of(role).parameters()):
                parameter.copy_(before[role][index, ""])
    for role in ROLES:
        step_unless(update.optimizers[role], is_refused)
        put_back(update.optimizers[role], before[role], is_refused)  # the extrapolation has moved the moments
    _restore(kept, is_refused)
    _clip_weights(update, is_refused)
    return [_with_flag(found[role][0], is_refused, role) for role in ROLES]


def over_ranks(flag: Tensor) -> Tensor:
    """Return a flag [] that is true where it is true in any of the processes that train together."""
    if distributed.is_available() and distributed.is_initialized():
        flag = flag.float()
        distributed.all_reduce(flag, op=distributed.ReduceOp.MAX)
        return flag.bool()
    return flag


def refuse_unknown_stats(found: Terms, role: Role) -> None:
    """Raise UserError that names the method where a stat is none that a task gives: it would be logged nowhere."""
    for name in found.stats:
        if name not in STATS:
            problem = f'returned the stat "{name}"; allowed are {listed(STATS)}. Loss terms may have any name'
            raise UserError(f"task.{role}_terms()", problem, *suggested(name, STATS))


def _step(update: Update, terms: TermsOf, role: Role, draw: int) -> Numbers:
    """Take one player's step, unless its loss or a gradient is not finite."""
    kept = _kept_buffers(update.players)
    numbers, is_refused = _differentiate(update, terms, role, draw)
    step_unless(update.optimizers[role], is_refused)
    _restore(kept, is_refused)
    if role == "discriminator":
        _clip_weights(update, is_refused)
    return _with_flag(numbers, is_refused, role)


def _differentiate(update: Update, terms: TermsOf, role: Role, draw: int) -> tuple[Numbers, Tensor]:
    """Put the gradients of one player's terms into its parameters; return its numbers, and if any is not finite."""
    for other in ROLES:
        update.players.of(other).requires_grad_(other == role)
    update.optimizers[role].zero_grad(set_to_none=True)
    found = terms(role, draw)
    refuse_unknown_stats(found, role)
    if not found.losses:  # this player rests: a sum of no terms, and no gradient to step by
        nothing = torch.zeros((), device=next(update.players.of(role).parameters()).device)
        return {f"{role}_loss": nothing, f"{role}_gradient": nothing}, nothing.bool()
    means = {name: values.mean() for name, values in found.losses.items()}
    loss = torch.stack(list(means.values())).sum()
    loss.backward()
    settings = update.game.generator if role == "generator" else update.game.discriminator
    norm = gradient_norm(update.players.of(role).parameters(), settings.clip_norm)
    numbers = {f"term/{role}/{name}": mean.detach() for name, mean in means.items()}
    numbers |= {f"{role}_loss": loss.detach(), f"{role}_gradient": norm}
    numbers |= {name: values.detach().mean() for name, values in found.stats.items()}
    return numbers, over_ranks(~torch.isfinite(loss.detach() + norm))


def _with_flag(numbers: Numbers, is_refused: Tensor, role: Role) -> Numbers:
    """Return a step's numbers, NaN where it was refused, and the flag that says so."""
    found = {name: torch.where(is_refused, torch.nan, value.float()) for name, value in numbers.items()}
    return found | {f"{role}_skipped": is_refused.float()}


def _any_of(flags: list[Tensor]) -> Tensor:
    return torch.stack(flags).any()


def _clip_weights(update: Update, is_refused: Tensor) -> None:
    """Clip the discriminator's weights after its step where the game asks for it (arXiv:1701.07875)."""
    clip = update.game.weight_clip
    if clip is None:
        return
    with torch.no_grad():
        for parameter in update.players.discriminator.parameters():
            parameter.copy_(torch.where(is_refused, parameter, parameter.clamp(-clip, clip)))


def _kept_buffers(players: Players) -> list[tuple[Tensor, Tensor]]:
    """Return both players' buffers (running statistics, singular vectors), each with a copy of its values."""
    return [(buffer, buffer.clone()) for buffer in _buffers(players)]


def _buffers(players: Players) -> Iterator[Tensor]:
    for role in ROLES:
        yield from players.of(role).buffers()


@torch.no_grad()
def _restore(kept: list[tuple[Tensor, Tensor]], is_refused: Tensor) -> None:
    """Undo what a refused step's forward pass wrote into the buffers."""
    for buffer, before in kept:
        buffer.copy_(torch.where(is_refused, before, buffer))
