"""Equipoise trains GANs, says how the game is going, and hands over the best generator with its evidence."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from equipoise.api import Best, Run, evaluate, load, resume, train
    from equipoise.errors import UserError
    from equipoise.watch.watch import Watch

__version__ = "0.1.0"
__all__ = ["Best", "Run", "UserError", "Watch", "evaluate", "load", "resume", "train"]


def __getattr__(name: str) -> Any:
    """Import what needs torch only when it is asked for, so that `import equipoise` is quick."""
    if name == "UserError":
        from equipoise.errors import UserError

        return UserError
    if name == "Watch":  # serves loops without torch, too
        from equipoise.watch.watch import Watch

        return Watch
    if name in __all__:
        from equipoise import api

        return getattr(api, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
