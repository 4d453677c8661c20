"""One player after the other, each at the weights that the one before has left."""

from typing import TYPE_CHECKING

from equipoise.game.players import Numbers, TermsOf
from equipoise.game.steps import take_step
from equipoise.recipe import Game

if TYPE_CHECKING:
    from equipoise.game.updates import Update

NEEDS_GRAPH = False


def num_batches(game: Game, more_steps: int) -> int:
    """Return how many batches of real samples a round shows to the discriminator."""
    return game.discriminator_steps + more_steps


def play(update: "Update", terms: TermsOf, more_steps: int) -> list[Numbers]:
    """Take the discriminator's steps, then one of the generator, each at the weights that the one before left."""
    num = num_batches(update.game, more_steps)
    steps = [take_step(update, terms, "discriminator", draw) for draw in range(num)]
    return [*steps, take_step(update, terms, "generator", num)]
