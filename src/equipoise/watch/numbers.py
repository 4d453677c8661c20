"""The numbers that a custom training loop gives: of a step, and of a score it took itself. Checked, and by name."""

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec

from equipoise.errors import Command, Option, UserError, listed, suggested
from equipoise.health.stats import NAMES, array_of, flat, has_tensors, joined, received, reduced
from equipoise.recipe import LossName
from equipoise.storage.records import Score, StepStats

if TYPE_CHECKING:
    from torch import Tensor

GIVEN = ("real_logits", "fake_logits")  # from which some of the stats are computed
LOSSES = ("discriminator_loss", "generator_loss")
PER_SAMPLE = (*LOSSES, "penalty")  # one number, or one for each sample
SHARES = ("accuracy", "real_probability", "fake_probability")
TOLERANCE = 1e-3  # a sum of shares in half precision may be a little more than 1
LEAST_PER_CENT = 1.5  # a share just above 1 is no per cent, but a mistake of its own
MOST_SAMPLES = 10**12  # of one step; beyond, it is no count
OF_PROBABILITIES = {"real_logit": "real_probability", "fake_logit": "fake_probability", "accuracy": "accuracy"}


def stat_names(names: Mapping[str, str]) -> dict[str, str]:
    """Return every name under which a number of a step is taken, those in `names` added; raises UserError."""
    known = (*NAMES, *GIVEN)
    for name in names.values():
        if name not in known:
            raise UserError(Option("names"), f'there is no number "{name}"; there are {listed(known)}')
    return {name: name for name in known} | dict(names)


def step_numbers(
    loss: LossName | None, samples: Any, given: Mapping[str, Any], *, reads: bool
) -> tuple[int, dict[str, Any], list[UserError]]:
    """Return on how many samples a step was, its numbers by name, those that follow from others included, and mistakes.

    What is a mistake is left out of the numbers. With `reads`, also the values are looked at, which may wait for an
    accelerator.
    """
    mistakes: list[UserError] = []
    num = 0
    numbers: dict[str, Any] = {}
    try:
        num = whole("samples", samples, least=0)
    except UserError as error:
        mistakes.append(error)
    for found in (_of_logits, _of_probabilities, *(partial(_of_stat, name) for name in given if name not in GIVEN)):
        try:
            numbers |= found(_Step(loss, num, given, reads))
        except UserError as error:
            mistakes.append(error)
        except Exception as error:  # whatever an object of another library raises where it is read
            problem = f"cannot be read ({type(error).__name__}: {error}); give numbers, arrays or tensors"
            mistakes.append(UserError(_subject(found), problem))
    return num, numbers, mistakes


def _subject(found: Any) -> Option:
    """Return what a function of a step's numbers reads, for messages."""
    names = {_of_logits: "real_logits", _of_probabilities: "real_probability"}
    return Option(names[found] if found in names else found.args[0])


@dataclass(frozen=True)
class _Step:
    loss: LossName | None
    num: int
    given: Mapping[str, Any]
    reads: bool

    def many(self, name: str) -> Any:
        """Return what was given under a name, None for nothing; an empty batch has no logits and no losses."""
        value = self.given.get(name)
        return None if value is None or (self.num == 0 and _size(value) == 0) else value


def _of_logits(step: _Step) -> dict[str, Any]:
    return logit_numbers(step.loss, step.many("real_logits"), step.many("fake_logits"))


def _of_probabilities(step: _Step) -> dict[str, Any]:
    real = step.many("real_probability")
    fake = step.many("fake_probability")
    for name, value in (("real_probability", real), ("fake_probability", fake)):
        if value is not None:
            _refuse_no_share(name, value, step)
    return probability_numbers(real, fake)


def _of_stat(name: str, step: _Step) -> dict[str, Any]:
    """Return one number that is given by its name; raises UserError where it is none, or of something else."""
    known = (*NAMES, *GIVEN)
    if name not in NAMES:
        raise UserError(Option(name), f"a step has no such number; it has {listed(known)}", *suggested(name, known))
    value = step.many(name)
    if value is None:
        return {}
    if name in PER_SAMPLE:
        _refuse_several(name, value, step.num)
    if name in SHARES:
        _refuse_no_share(name, value, step)
    return {name: reduced(name, value)}


def _refuse_several(name: str, value: Any, num: int) -> None:
    """Raise UserError where a loss is neither one number nor one for each sample: its mean would mean nothing."""
    size = _size(value)
    if size is None or size <= 1 or num == 0 or _is_per_sample(value, num):
        return
    problem = f"{received(value)}: {size} numbers for {num} samples; give one number, or one for each sample"
    several = f"Of [loss, accuracy], as Keras' train_on_batch gives them: {name}=values[0], accuracy=values[1]"
    raise UserError(Option(name), problem, several, "Of several losses give their sum or their mean")


def _is_per_sample(value: Any, num: int) -> bool:
    """Return whether there are one or more numbers for each sample, as far as the shape tells."""
    size = _size(value)
    if size == num or size is None:
        return True
    if isinstance(value, list | tuple):
        return num > 1 and all(_is_per_sample(part, num) for part in value)
    is_flat = len(getattr(value, "shape", ())) == 1
    return size % num == 0 and not (num == 1 and is_flat)


def _refuse_no_share(name: str, value: Any, step: _Step) -> None:
    """Raise UserError where what should be a share between 0 and 1 is none."""
    if has_tensors(value) and not step.reads:
        return  # looked at once an interval is over
    for one in _extremes(name, value):
        if one < -TOLERANCE or one > 1 + TOLERANCE:
            raise _no_share(name, one, step.num)


def _extremes(name: str, value: Any) -> tuple[float, float]:
    """Return the smallest and the largest number in a value; NaN where one is none."""
    tensor = joined(name, value)
    if tensor is not None:
        return (float(tensor.min()), float(tensor.max())) if tensor.numel() else (math.nan, math.nan)
    array = array_of(value)
    if array is not None:
        return (float(array.min()), float(array.max())) if array.size else (math.nan, math.nan)
    values = flat(name, value)
    return min(values), max(values)


def _no_share(name: str, value: float, num: int = 0) -> UserError:
    problem = f"it is {value:.6g}, and a share from 0 to 1 is meant"
    if name == "accuracy" and 1 < value <= num and value == round(value):
        by_num = f"Of {num} samples, divide by {num}: accuracy={value / num:.6g}"
        return UserError(Option(name), problem, by_num, f"Of per cent, by 100: accuracy={value / 100:.6g}")
    if name == "accuracy" and LEAST_PER_CENT <= value <= 100:
        return UserError(Option(name), f"{problem}, not per cent", f"Divide by 100: accuracy={value / 100:.6g}")
    if name == "accuracy":
        return UserError(Option(name), problem)
    return UserError(Option(name), problem, f"Before the sigmoid it is a logit: {name.split('_')[0]}_logits")


def drop_impossible(stats: StepStats) -> tuple[StepStats, dict[str, str]]:
    """Return an interval's stats without shares that are none, and what is wrong with these, by name."""
    mistakes: dict[str, str] = {}
    for name in SHARES:
        value = getattr(stats, name)
        if value < -TOLERANCE or value > 1 + TOLERANCE:
            mistakes[name] = str(_no_share(name, value))
    if not mistakes:
        return stats, {}
    return msgspec.structs.replace(stats, **dict.fromkeys(mistakes, math.nan)), mistakes


def _size(value: Any) -> int | None:
    """Return how many numbers there are in a value, None where that cannot be told; reads nothing."""
    if isinstance(value, list | tuple):
        sizes = [_size(part) for part in value]
        known = [size for size in sizes if size is not None]
        return sum(known) if len(known) == len(sizes) else None
    shape = getattr(value, "shape", None)
    if shape is None:
        return 1 if isinstance(value, int | float) else None
    try:
        return math.prod(int(side) for side in shape)
    except (TypeError, ValueError):
        return None


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
    values = {name: _number(name, number) for name, number in given.items()}
    error = values.pop(f"{metric}_error", math.nan)
    if metric == "kid":
        error = values.pop("kid_se", error)
    loss = values[metric]
    if loss <= 0 and not 0 < error < math.inf:
        problem = "scores are compared by ratios; give a number above zero, or its standard error, too"
        remedy = Option(f"{metric}_error", 0.01)
        raise UserError(Option(metric, loss), problem, f"A loss that may be negative: math.exp({metric})", remedy)
    if error < 0:
        raise UserError(Option(f"{metric}_error", error), "a standard error is not below zero", "Leave it out")
    return Score(
        samples=samples, seconds=seconds, loss=loss, error=error, values=values, protocol={"numbers": protocol}
    )


def _number(name: str, value: Any) -> float:
    """Return one number of a score; raises UserError for what is none."""
    with contextlib.suppress(Exception):  # whatever an object of another library raises where it is no number
        if not isinstance(value, bool):
            return float(value)
    raise UserError("score()", f'"{name}" is {received(value)}; give one number')


def without_odd_ones(metric: str, numbers: Mapping[str, Any]) -> tuple[dict[str, Any], list[UserError]]:
    """Return the numbers of a score without those beside the deciding one that are none, and what is wrong with these.

    A score does not depend on them.
    """
    kept: dict[str, Any] = {}
    mistakes: list[UserError] = []
    for name, value in numbers.items():
        try:
            if value is not None and name != metric:
                _number(name, value)
        except UserError as error:
            mistakes.append(error)
        else:
            kept[name] = value
    return kept, mistakes


def whole(name: str, value: Any, least: int = 1) -> int:
    """Return a whole number of at least `least`; raises UserError.

    An array or a tensor counts only without a side: one with a single element may be a batch of one.
    """
    is_list = isinstance(value, list | tuple)
    is_many = is_list or bool(getattr(value, "shape", ()))
    if not is_list and not is_many and "bool" not in str(getattr(value, "dtype", type(value).__name__)):
        with contextlib.suppress(Exception):  # whatever an object of another library raises where it is no number
            number = int(value)
            if least <= number <= MOST_SAMPLES and bool(number == value):
                return number
    if is_many or not isinstance(value, int | float | str | None):
        problem = f"{received(value)}; give how many samples it holds, a whole number"
        raise UserError(Option(name), problem, f"Try: {name}=len(…)")
    raise UserError(Option(name, value), f"give a whole number of at least {least}, and at most {MOST_SAMPLES:,}")


def _of_many(loss: LossName, real: Any, fake: Any) -> dict[str, Any]:
    from equipoise.game.losses import logit_stats, loss_named

    meaning = loss_named(loss)
    found = logit_stats(meaning, _tensor("real_logits", real), _tensor("fake_logits", fake))
    if meaning.probability is None:
        del found["real_probability"], found["fake_probability"]
    return found


def _tensor(name: str, value: Any) -> "Tensor":
    """Return numbers as a flat tensor; what is tensors already is not read, so nothing waits for it."""
    import torch

    tensor = joined(name, value)
    if tensor is not None:
        return tensor
    array = array_of(value)
    if array is not None:
        return torch.from_numpy(array.astype("float32"))
    return torch.tensor(flat(name, value))


def _is_many(logits: Any) -> bool:
    """Return whether there is a logit for each sample, rather than none or one mean of all."""
    return logits is not None and not isinstance(logits, int | float) and getattr(logits, "shape", (1,)) != ()
