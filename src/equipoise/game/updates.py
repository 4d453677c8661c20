"""The order of the players' steps: an update takes a closure for both players' loss terms and owns their optimizers.

`terms(role, draw)` returns one player's terms at the present weights; draws 0, 1, … of a round are of different real
samples and latents. A step is applied only if its loss and all its gradients are finite. That flag stays on the device:
nothing waits for it, and with several processes it is reduced over them, so that all refuse a step or none.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from equipoise.game.optimizers import (
    load_optimizer_tensors,
    make_optimizer,
    optimizer_tensors,
    set_momentum,
    set_rate,
    set_smoothing,
)
from equipoise.game.players import ROLES, STATS, Numbers, Players, Role, Terms, TermsOf, refuse_unknown_stats
from equipoise.game.steps import look_ahead, rule_of, settings_of, slow_weights
from equipoise.recipe import Game

__all__ = [
    "ROLES",
    "STATS",
    "Numbers",
    "Players",
    "Role",
    "Terms",
    "TermsOf",
    "Update",
    "make_update",
    "refuse_unknown_stats",
    "samples_per_round",
    "step_index",
]

MEMORY = "memory."  # in the names of a checkpoint's tensors: what a rule remembers


@dataclass(frozen=True)
class Update:
    """One rule for a round of the game, with both players' optimizers and what the rule remembers of its rounds."""

    game: Game
    players: Players
    optimizers: dict[Role, Optimizer]
    memory: dict[str, Tensor] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=lambda: {"rounds": 0})

    def round(self, terms: TermsOf, more_steps: int = 0) -> list[Numbers]:
        """Play one round and return each step's numbers, scalars on the device; nothing waits for them.

        `more_steps` are taken by the discriminator besides those of the game, where the two alternate.
        """
        play = rule_of(self.game).play
        if not self.game.lookahead:
            return play(self, terms, more_steps)
        for role in ROLES:
            slow_weights(self, role)  # where they begin
        found = play(self, terms, more_steps)
        look_ahead(self)
        return found

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
        found = {
            f"{role}.{name}": tensor
            for role in ROLES
            for name, tensor in optimizer_tensors(self.optimizers[role])[0].items()
        }
        return found | {f"{MEMORY}{name}": tensor.contiguous() for name, tensor in self.memory.items()}

    def values(self) -> dict[str, Any]:
        """Return everything else of a checkpoint, as values for JSON."""
        found: dict[str, Any] = {role: optimizer_tensors(self.optimizers[role])[1] for role in ROLES}
        return found | self.counts if self.game.lookahead else found

    def load(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        """Take back what `tensors` and `values` gave; raises KeyError, TypeError or ValueError for another update's."""
        for role in ROLES:
            start = len(role) + 1
            own = {name[start:]: tensor for name, tensor in tensors.items() if name.startswith(f"{role}.")}
            if settings_of(self.game, role).beta2_end is not None:  # it moves, and is set before each round
                self.set_smoothing(role, float(values[role]["groups"][0]["betas"][1]))
            load_optimizer_tensors(self.optimizers[role], own, values[role])
        self.memory.clear()
        for name, tensor in tensors.items():
            if name.startswith(MEMORY):
                self.memory[name.removeprefix(MEMORY)] = self._placed(name.removeprefix(MEMORY), tensor)
        if self.game.lookahead:
            self.counts["rounds"] = int(values["rounds"])

    def _placed(self, name: str, tensor: Tensor) -> Tensor:
        """Return a copy of a remembered tensor that lies in memory as its parameter does, channels last, say.

        In another order its sums would be rounded otherwise. Raises ValueError where no parameter is like it.
        """
        role, _, index = name.split(".")
        parameters = [*self.players.generator.parameters()]
        if role == "discriminator":
            parameters = [*self.players.discriminator.parameters()]
        parameter = parameters[int(index)]
        if tensor.ndim and tensor.shape != parameter.shape:
            raise ValueError(f"{name} is {list(tensor.shape)}, not {list(parameter.shape)}")
        like = parameter if tensor.ndim else parameter.new_empty(())
        return torch.empty_like(like, requires_grad=False).copy_(tensor)

    def renew(self, role: Role) -> None:
        """Give a player that was made anew a new optimizer, and forget what the rule remembers of it."""
        self.optimizers[role] = make_optimizer(settings_of(self.game, role), self.players.of(role).parameters())
        for name in [name for name in self.memory if name.startswith(f"{role}.")]:
            del self.memory[name]


def make_update(game: Game, players: Players) -> Update:
    """Return the update of a recipe's game over these players."""
    optimizers: dict[Role, Optimizer] = {
        "generator": make_optimizer(game.generator, players.generator.parameters()),
        "discriminator": make_optimizer(game.discriminator, players.discriminator.parameters()),
    }
    return Update(game, players, optimizers)


def samples_per_round(game: Game, more_steps: int = 0) -> int:
    """Return how many real samples one round shows to the discriminator."""
    return game.batch * rule_of(game).num_batches(game, more_steps)


def step_index(game: Game, samples: int, draw: int) -> int:
    """Return the index of a discriminator step in a round that begins at `samples`; lazy penalties count by it.

    The steps of a round that the rule takes together share one: of an extragradient round, the penalty would else fall
    on the extrapolation alone.
    """
    if game.update == "alternating":
        return samples // game.batch + draw
    return samples // samples_per_round(game)
