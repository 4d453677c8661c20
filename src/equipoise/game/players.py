"""The two players of a game, the loss terms they are given, and where these come from."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from torch import Tensor, nn

from equipoise.errors import UserError, listed, suggested

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


def refuse_unknown_stats(found: Terms, role: Role) -> None:
    """Raise UserError that names the method where a stat is none that a task gives: it would be logged nowhere."""
    for name in found.stats:
        if name not in STATS:
            problem = f'returned the stat "{name}"; allowed are {listed(STATS)}. Loss terms may have any name'
            raise UserError(f"task.{role}_terms()", problem, *suggested(name, STATS))
