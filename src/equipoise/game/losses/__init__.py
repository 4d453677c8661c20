"""The players' losses: logits [N] in, per-sample values [N] out, reduced in the update only; or [N, K] of K judges.

Below, r = D(x) and f = D(G(z)) are logits, σ is the logistic function, and softplus(t) = log(1 + eᵗ), so that
−log σ(t) = softplus(−t). A loss is a record of two functions `(real_logits [N], fake_logits [N]) -> [N]`, one for each
player, and of what its logits mean; a loss of your own goes to `equipoise.train(loss=Loss(...))`.

Each loss is a file of this folder, which is the list of them: `loss` makes it, from the smoothing of real labels and
the margin of energies, of which most take no notice.
"""

from functools import cache
from importlib import import_module
from typing import Protocol, cast

from equipoise.errors import Setting, UserError
from equipoise.game.loss import Loss, LossFunction, logit_stats
from equipoise.recipe import LossName

__all__ = ["Loss", "LossFunction", "logit_stats", "loss_named"]


class Named(Protocol):
    """A module of this folder."""

    def loss(self, smoothing: float, margin: float) -> Loss:
        """Return the loss."""
        ...


@cache
def _module(name: LossName) -> Named:
    return cast(Named, import_module(f"{__name__}.{name.replace('-', '_')}"))


def loss_named(name: LossName, smoothing: float = 0.0, margin: float = 1.0) -> Loss:
    """Return the loss of a name; `smoothing` lowers the real label of those that have one from 1 to 1 − smoothing.

    `margin` is that of energies. Raises UserError for "custom", which is given as functions.
    """
    if name == "custom":
        problem = "its functions are needed; a recipe cannot hold them"
        raise UserError(Setting("game.loss", name), problem, "In Python: equipoise.train(loss=Loss(...))")
    return _module(name).loss(smoothing, margin)
