"""Both players look ahead by the step of the round before, which takes one gradient for each step."""

from typing import TYPE_CHECKING

import torch

from equipoise.game.optimizers import Copies, kept_copies, step_unless
from equipoise.game.players import ROLES, Numbers, Role, TermsOf
from equipoise.game.steps import (
    any_of,
    differentiate_both,
    ended,
    go_back,
    kept_buffers,
    last_step,
    remember_step,
)
from equipoise.recipe import Game

if TYPE_CHECKING:
    from equipoise.game.updates import Update

NEEDS_GRAPH = False


def num_batches(game: Game, more_steps: int) -> int:
    """Return how many batches of real samples a round shows to the discriminator."""
    return 1


def play(update: "Update", terms: TermsOf, more_steps: int) -> list[Numbers]:
    """Extrapolate by the step of the round before, which costs no gradient (Popov 1980; arXiv:1802.10551, section 3.3).

    w' = w + d₋, then w + d with d found at w'. The first round extrapolates by nothing.
    """
    kept = kept_buffers(update.players)
    before: dict[Role, Copies] = {role: kept_copies(update.optimizers[role]) for role in ROLES}
    last = {role: last_step(update, role) for role in ROLES}
    with torch.no_grad():
        for role in ROLES:
            for parameter, step in zip(update.players.of(role).parameters(), last[role], strict=True):
                parameter.add_(step)
    found = differentiate_both(update, terms, 0)
    is_refused = any_of([refused for _, refused in found.values()])
    go_back(update, before)
    for role in ROLES:
        step_unless(update.optimizers[role], is_refused)
        remember_step(update, role, before[role], is_refused)
    return ended(update, found, kept, is_refused)
