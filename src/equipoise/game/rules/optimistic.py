"""Both players count on the other to go on as before, and correct the step of the round before."""

from typing import TYPE_CHECKING

from equipoise.game.optimizers import Copies, kept_copies, step_unless
from equipoise.game.players import ROLES, Numbers, Role, TermsOf
from equipoise.game.steps import (
    any_of,
    differentiate_both,
    ended,
    kept_buffers,
    last_step,
    remember_step,
    step_further,
)
from equipoise.recipe import Game

if TYPE_CHECKING:
    from equipoise.game.updates import Update

NEEDS_GRAPH = False


def num_batches(game: Game, more_steps: int) -> int:
    """Return how many batches of real samples a round shows to the discriminator."""
    return 1


def play(update: "Update", terms: TermsOf, more_steps: int) -> list[Numbers]:
    """Step by 2d − d₋, the present step twice less the one before (arXiv:1711.00141, Algorithm 1 with Adam's d).

    The first round has none before, and is one of plain steps.
    """
    kept = kept_buffers(update.players)
    before: dict[Role, Copies] = {role: kept_copies(update.optimizers[role]) for role in ROLES}
    found = differentiate_both(update, terms, 0)
    is_refused = any_of([refused for _, refused in found.values()])
    for role in ROLES:
        step_unless(update.optimizers[role], is_refused)
        last = [step.clone() for step in last_step(update, role)]
        remember_step(update, role, before[role], is_refused)
        step_further(update, role, last, is_refused)
    return ended(update, found, kept, is_refused)
