"""Equipoise trains GANs, stops when more training no longer pays, and saves the best generator with its evaluation."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from equipoise.api import Best, Evaluation, Run, evaluate, load, resume, train
    from equipoise.errors import UserError
    from equipoise.game.losses import Loss
    from equipoise.watch.watch import Watch

__version__ = "0.1.0"
__all__ = ["Best", "Evaluation", "Loss", "Run", "UserError", "Watch", "evaluate", "load", "resume", "train"]

ELSEWHERE = {"UserError": "errors", "Loss": "game.losses", "Watch": "watch.watch"}  # than in api


def __getattr__(name: str) -> Any:
    """Import what needs torch only when it is asked for, so that `import equipoise` is quick."""
    if name in __all__:
        return getattr(import_module(f"equipoise.{ELSEWHERE.get(name, 'api')}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
