"""What callbacks are given, beside what their library says: the metric, and where the generator is."""

from typing import Any

from equipoise.errors import Option, UserError
from equipoise.watch.watch import Watch


def refuse_metric(watch: Watch, metric: str | None) -> None:
    """Raise UserError where a number of the loop's own should score what the watch evaluates itself."""
    if metric is not None and watch.has_real:
        problem = "the watch has real images, and takes its own scores by them"
        raise UserError(Option("metric", metric), problem, "Leave it out, or give the watch no real images")


def generator_at(owner: Any, name: str) -> Any:
    """Return the attribute of a module or model that holds the generator, also dotted; raises UserError."""
    found = owner
    try:
        for part in name.split("."):
            found = getattr(found, part)
    except Exception as error:  # a property may raise anything
        problem = f"{type(owner).__name__} has no such attribute; name the one that holds the generator"
        if not isinstance(error, AttributeError):
            problem = f"{type(owner).__name__} does not give it ({type(error).__name__}: {error})"
        raise UserError(Option("generator", name), problem) from None
    return found
