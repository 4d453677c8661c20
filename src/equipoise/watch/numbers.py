"""The numbers that a custom training loop gives: of a step, and of a score it took itself. Checked, and by name."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from equipoise.errors import Command, Option, UserError, listed, suggested
from equipoise.health.stats import NAMES, flat, is_tensor, reduced
from equipoise.recipe import LossName
from equipoise.storage.records import Score

if TYPE_CHECKING:
    from torch import Tensor

GIVEN = ("real_logits", "fake_logits")  # from which some of the stats are computed
LOSSES = ("discriminator_loss", "generator_loss")
OF_PROBABILITIES = {"real_logit": "real_probability", "fake_logit": "fake_probability", "accuracy": "accuracy"}


def stat_names(names: Mapping[str, str]) -> dict[str, str]:
    """Return every name under which a number of a step is taken, those in `names` added; raises UserError."""
    known = (*NAMES, *GIVEN)
    for name in names.values():
        if name not in known:
            raise UserError(Option("names"), f'there is no number "{name}"; there are {listed(known)}')
    return {name: name for name in known} | dict(names)


def step_numbers(loss: LossName | None, real_logits: Any, fake_logits: Any, stats: Mapping[str, Any]) -> dict[str, Any]:
    """Return one step's numbers by name, those that follow from others included; raises UserError."""
    known = (*NAMES, *GIVEN)
    for name in stats:
        if name not in NAMES:
            raise UserError(Option(name), f"a step has no such number; it has {listed(known)}", *suggested(name, known))
    numbers = logit_numbers(loss, real_logits, fake_logits)
    numbers |= probability_numbers(stats.get("real_probability"), stats.get("fake_probability"))
    return numbers | {name: reduced(name, value) for name, value in stats.items() if value is not None}


def logit_numbers(loss: LossName | None, real: Any, fake: Any) -> dict[str, Any]:
    """Return what one step's logits mean, of any shape that holds one or more a sample; either may be None.

    Where the loss is not known, only their differences count. A single number is a mean, which has no accuracy.
    """
    if _is_many(real) and _is_many(fake):
        return _of_many(loss or "wasserstein", real, fake)
    numbers = {}
    for name, logits in (("real", real), ("fake", fake)):
        if logits is not None:
            numbers[f"{name}_logit"] = reduced(f"{name}_logits", logits)
    return numbers


def probability_numbers(real: Any, fake: Any) -> dict[str, Any]:
    """Return the numbers of one step's probabilities of being real, where a discriminator ends in a sigmoid."""
    found = logit_numbers("least-squares", real, fake)  # whose boundary is a half, as that of a probability
    return {new: found[old] for old, new in OF_PROBABILITIES.items() if old in found}


def score_of(metric: str, numbers: Mapping[str, float | None], samples: int, seconds: float, protocol: str) -> Score:
    """Return the score that a loop took; raises UserError if its numbers cannot be one.

    The rules for stopping compare by ratios, so what decides must be above zero, or come with a standard error.
    """
    given = {name: number for name, number in numbers.items() if number is not None}
    if metric not in given:
        problem = f'"{metric}" is missing, and it decides what is best; given: {", ".join(given) or "nothing"}'
        others = [Command("Watch", "…", metric=name) for name in list(given)[:1]]
        raise UserError("score()", problem, *others)
    try:
        values = {name: float(number) for name, number in given.items()}
    except (TypeError, ValueError):
        raise UserError("score()", f"{dict(given)} are not all numbers") from None
    error = values.pop(f"{metric}_error", math.nan)
    if metric == "kid":
        error = values.pop("kid_se", error)
    loss = values[metric]
    if loss <= 0 and not 0 < error < math.inf:
        problem = "scores are compared by ratios; give a number above zero, or its standard error, too"
        remedy = Option(f"{metric}_error", 0.01)
        raise UserError(Option(metric, loss), problem, f"A loss that may be negative: math.exp({metric})", remedy)
    return Score(
        samples=samples, seconds=seconds, loss=loss, error=error, values=values, protocol={"numbers": protocol}
    )


def whole(name: str, value: Any) -> int:
    """Return a whole number of at least 1; raises UserError."""
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = 0
    if number < 1 or number != value:
        raise UserError(Option(name, value), "give a whole number of at least 1")
    return number


def _of_many(loss: LossName, real: Any, fake: Any) -> dict[str, Any]:
    from equipoise.game.losses import logit_stats, loss_named

    meaning = loss_named(loss)
    found = logit_stats(meaning, _tensor("real_logits", real), _tensor("fake_logits", fake))
    if meaning.probability is None:
        del found["real_probability"], found["fake_probability"]
    return found


def _tensor(name: str, value: Any) -> "Tensor":
    """Return numbers as a flat tensor; one that is a tensor already is not read, so nothing waits for it."""
    import torch

    if is_tensor(value):
        return value.detach().float().flatten()
    return torch.tensor(flat(name, value))


def _is_many(logits: Any) -> bool:
    """Return whether there is a logit for each sample, rather than none or one mean of all."""
    return logits is not None and not isinstance(logits, int | float) and getattr(logits, "shape", (1,)) != ()
