"""Both players from the same weights: theory is mostly written for it."""

from typing import TYPE_CHECKING

from equipoise.game.optimizers import step_unless
from equipoise.game.players import ROLES, Numbers, TermsOf
from equipoise.game.steps import any_of, differentiate_both, ended, kept_buffers
from equipoise.recipe import Game

if TYPE_CHECKING:
    from equipoise.game.updates import Update

NEEDS_GRAPH = False


def num_batches(game: Game, more_steps: int) -> int:
    """Return how many batches of real samples a round shows to the discriminator."""
    return 1


def play(update: "Update", terms: TermsOf, more_steps: int) -> list[Numbers]:
    """Take both players' steps from the same weights."""
    kept = kept_buffers(update.players)
    found = differentiate_both(update, terms, 0)
    is_refused = any_of([refused for _, refused in found.values()])
    for role in ROLES:
        step_unless(update.optimizers[role], is_refused)
    return ended(update, found, kept, is_refused)
