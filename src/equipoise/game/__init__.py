"""The game of two players: losses, penalties, optimizers, and updates, which may be used without the rest of Equipoise.

`make_update` takes any two modules. `round` plays a round of the game with their loss terms:

    >>> import torch
    >>> from torch import nn
    >>> from equipoise.game import Game, OptimizerSettings, Players, Terms, make_update
    >>> class Number(nn.Module):
    ...     def __init__(self, value):
    ...         super().__init__()
    ...         self.weight = nn.Parameter(torch.tensor([value]))
    >>> players = Players(Number(1.0), Number(1.0))
    >>> sgd = OptimizerSettings(optimizer="sgd", rate=0.3)
    >>> update = make_update(Game(update="optimistic", generator=sgd, discriminator=sgd), players)
    >>> def terms(role, draw):  # min over x and max over y of xy, from any weights
    ...     product = players.generator.weight * players.discriminator.weight
    ...     return Terms({"product": product if role == "generator" else -product})
    >>> for _ in range(200):
    ...     numbers = update.round(terms)
    >>> bool(players.generator.weight.abs() < 0.01)
    True
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from equipoise.game.losses import Loss, loss_named
    from equipoise.game.updates import Players, Terms, Update, make_update
    from equipoise.recipe import Correction, Game, OptimizerSettings, Penalty

__all__ = [
    "Correction",
    "Game",
    "Loss",
    "OptimizerSettings",
    "Penalty",
    "Players",
    "Terms",
    "Update",
    "loss_named",
    "make_update",
]

IN_LOSSES = ("Loss", "loss_named")
IN_RECIPE = ("Correction", "Game", "OptimizerSettings", "Penalty")


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for: rules about runs read this room without torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name in IN_RECIPE:
        return getattr(import_module("equipoise.recipe"), name)
    return getattr(import_module(f"equipoise.game.{'losses' if name in IN_LOSSES else 'updates'}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
