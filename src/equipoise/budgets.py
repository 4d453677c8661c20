"""Reading a budget as a person writes it: a time or a number of samples."""

import re

from equipoise.errors import Option, Setting, UserError, shortened
from equipoise.recipe import MAX_BUDGET, Budget, Recipe

_AMOUNT = r"([0-9]+(?:\.[0-9]+)?)\s*"
_UNITS = (  # `m` is of minutes and `M` of millions, so letters count as they are
    (3600.0, "h|hr|hrs|hour|hours"),
    (60.0, "m|min|mins|minute|minutes"),
    (1.0, "s|sec|secs|second|seconds"),
)
_TIME = "".join(rf"(?:{_AMOUNT}(?:{names})(?![A-Za-z])\s*)?" for _, names in _UNITS)
_MULTIPLES = {"": 1, "k": 1_000, "M": 1_000_000}


def parsed_budget(given: str | int) -> Budget:
    """Read `90s`, `10m`, `2h` as time and `60k`, `2M`, `5000` as samples, and whole numbers so; raises UserError.

    A time may also be spelled out (`5min`, `2 hours`) or have parts, the larger unit first (`1h30m`).
    """
    if not isinstance(given, str | int) or isinstance(given, bool):
        problem = f"{type(given).__name__}; give a time (90s, 10m, 2h) or a number of samples (60k, 2M) as text"
        raise UserError(Option("budget", shortened(repr(given))), problem, Option("budget", "10m"))
    text = str(given)
    subject = Option("budget", shortened(text))
    seconds = _seconds(text)
    match = re.fullmatch(_AMOUNT + r"([kM]?)", text.strip(), re.ASCII)
    amount = seconds or 0.0
    if match:
        amount = float(match[1]) * _MULTIPLES[match[2]]  # infinite where there are hundreds of digits
    if amount <= 0:
        problem = "give a time (90s, 10m, 2h) or a number of samples (60k, 2M)"
        raise UserError(subject, problem, Option("budget", "10m"))
    if amount > MAX_BUDGET:
        raise UserError(
            Option("budget", shortened(text, 20)),
            "more than can be counted",
            Option("budget", "24h"),
            Option("budget", "100M"),
        )
    if seconds is not None:
        return Budget(samples=None, seconds=amount)
    if round(amount) < 1:
        raise UserError(subject, "less than one sample", Option("budget", "60k"))
    return Budget(samples=round(amount), seconds=None)


def _seconds(text: str) -> float | None:
    """Read a time of hours, minutes and seconds, any of them left out; None where it is none."""
    match = re.fullmatch(_TIME, text.strip())
    if not match or not any(match.groups()):
        return None
    return sum(float(amount or 0) * size for amount, (size, _) in zip(match.groups(), _UNITS, strict=True))


def refuse_short_budget(recipe: Recipe) -> None:
    """Raise UserError for a number of samples that is less than a batch: probably minutes were meant."""
    samples = recipe.budget.samples
    if samples is None or samples >= recipe.game.batch:
        return
    problem = f"fewer samples than one batch of {recipe.game.batch}; a number without a unit counts samples"
    remedies = [Option("budget", f"{samples}m"), Option("budget", "200k")]
    if recipe.game.batch > 200_000:
        remedies = [Setting("game.batch", 64)]
    raise UserError(Option("budget", str(samples)), problem, *remedies)
