"""Both players look one step ahead, which takes two gradients for each step."""

from typing import TYPE_CHECKING

from equipoise.game.optimizers import Copies, kept_copies, put_back, step_unless
from equipoise.game.players import ROLES, Numbers, Role, TermsOf
from equipoise.game.steps import any_of, differentiate_both, ended, go_back, kept_buffers
from equipoise.recipe import Game

if TYPE_CHECKING:
    from equipoise.game.updates import Update

NEEDS_GRAPH = False


def num_batches(game: Game, more_steps: int) -> int:
    """Return how many batches of real samples a round shows to the discriminator."""
    return 2


def play(update: "Update", terms: TermsOf, more_steps: int) -> list[Numbers]:
    """Step from the present weights with the gradients found one step ahead (Korpelevich 1976; arXiv:1802.10551).

    Both players extrapolate, w' = w − η v(w) by their own optimizer, then w is replaced by w − η v(w'). Extrapolation
    and update both advance the optimizers' moments, as in ExtraAdam.
    """
    kept = kept_buffers(update.players)
    before: dict[Role, Copies] = {role: kept_copies(update.optimizers[role]) for role in ROLES}
    ahead = differentiate_both(update, terms, 0)
    is_refused = any_of([refused for _, refused in ahead.values()])
    for role in ROLES:
        step_unless(update.optimizers[role], is_refused)
    found = differentiate_both(update, terms, 1)
    is_refused = any_of([is_refused, *(refused for _, refused in found.values())])
    go_back(update, before)
    for role in ROLES:
        step_unless(update.optimizers[role], is_refused)
        put_back(update.optimizers[role], before[role], is_refused)  # the extrapolation has moved the moments
    return ended(update, found, kept, is_refused)
