"""The numbers that somebody's own loop hands over, added up without making an accelerator wait.

Numbers may be floats, arrays or tensors; torch is used only where it is loaded already. A tensor stays where it is
until `fold`, which reads all of them at once.
"""

import math
import statistics
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, assert_never

from equipoise.errors import UserError, listed, suggestion
from equipoise.recipe import LossName, MetricName

SIGNALS = (
    "discriminator_loss",
    "generator_loss",
    "penalty",
    "real_logit",
    "fake_logit",
    "real_probability",
    "fake_probability",
    "accuracy",
    "discriminator_gradient",
    "generator_gradient",
    "discriminator_rate",
    "generator_rate",
)
GIVEN = ("real_logits", "fake_logits")  # what some of the signals are computed from
NUMBERS = ("kid", "kid_se", "fid", "precision", "recall", "density", "coverage")


@dataclass
class Sum:
    """The finite values of one number added up, and how many were not finite."""

    total: float = 0.0
    num: int = 0
    num_not_finite: int = 0

    def add(self, value: float) -> None:
        """Add one step's value."""
        if math.isfinite(value):
            self.total, self.num = self.total + value, self.num + 1
        else:
            self.num_not_finite += 1


class Meter:
    """Means since the last log line; its whole state is in `state_dict`."""

    def __init__(self) -> None:
        self._sums: dict[str, Sum] = {}
        self._pending: dict[str, list[Any]] = {}

    def add(self, numbers: dict[str, Any]) -> None:
        """Add one step's numbers: floats, or tensors of one element, which are not read yet."""
        for name, value in numbers.items():
            self._pending.setdefault(name, []).append(value)

    def fold(self) -> dict[str, Sum]:
        """Read what waits and return the sums by name."""
        for name, values in self._pending.items():
            of_name = self._sums.setdefault(name, Sum())
            for value in _read(values):
                of_name.add(value)
        self._pending = {}
        return self._sums

    def mean(self, name: str) -> float:
        """Return the mean of a number's finite values, NaN if there is none."""
        found = self.fold().get(name, Sum())
        return found.total / found.num if found.num else math.nan

    def clear(self) -> None:
        """Begin anew."""
        self._sums, self._pending = {}, {}

    def state_dict(self) -> dict[str, list[float]]:
        """Return the sums as plain JSON."""
        return {name: [item.total, item.num, item.num_not_finite] for name, item in self.fold().items()}

    def load_state_dict(self, state: dict[str, list[float]]) -> None:
        """Take the sums back exactly."""
        self._pending = {}
        self._sums = {name: Sum(total, int(num), int(bad)) for name, (total, num, bad) in state.items()}


def is_tensor(value: Any) -> bool:
    """Return whether a value is a torch tensor, without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def signal_names(names: Mapping[str, str]) -> dict[str, str]:
    """Return every name under which a signal is taken, those in `names` added; raises UserError for an unknown one."""
    known = (*SIGNALS, *GIVEN)
    if unknown := [name for name in names.values() if name not in known]:
        raise UserError(f"names: the watch knows no signal {unknown[0]}; it knows {', '.join(known)}")
    return {name: name for name in known} | dict(names)


def reduced(name: str, value: Any) -> Any:
    """Return a number as a float, or as a tensor of one element: the mean of what was given. Raises UserError."""
    if is_tensor(value):
        if value.numel() == 0 or value.is_complex():
            raise UserError(f"{name}: a tensor of shape {tuple(value.shape)}; give a number, or one per sample [N]")
        return value.detach().float().mean()
    values = _flat(name, value)
    return statistics.fmean(values) if values else math.nan


def logit_numbers(loss: LossName | None, real: Any, fake: Any) -> dict[str, Any]:
    """Return the signals of one step's logits, of any shape that holds one or more a sample; either may be None.

    The accuracy is the share on the right side of the loss's boundary, or, where only differences have a meaning (None:
    the loss is not known), of pairs with the real one above. A single number is a mean, which has no accuracy.
    """
    numbers: dict[str, Any] = {}
    for name, logits in (("real", real), ("fake", fake)):
        if logits is not None:
            numbers[f"{name}_logit"] = reduced(f"{name}_logits", logits)
    if not (_is_many(real) and _is_many(fake)):
        return numbers
    if is_tensor(real) and is_tensor(fake):
        return numbers | _of_tensors(loss, real.detach().float().flatten(), fake.detach().float().flatten())
    return numbers | _of_floats(loss, _flat("real_logits", real), _flat("fake_logits", fake))


def probability_numbers(real: Any, fake: Any) -> dict[str, Any]:
    """Return the signals of one step's probabilities of being real, for a discriminator that ends in a sigmoid."""
    found = logit_numbers("least-squares", real, fake)
    named = {"real_logit": "real_probability", "fake_logit": "fake_probability", "accuracy": "accuracy"}
    return {named[name]: value for name, value in found.items() if not name.endswith("_probability")}


def score_numbers(metric: MetricName, numbers: Mapping[str, float | None]) -> dict[str, float]:
    """Return the numbers of a score that were given; raises UserError if they cannot be one.

    The rules for stopping compare by ratios, so what decides must be above zero, or come with a standard error.
    """
    for name in numbers:
        if name not in NUMBERS:
            raise UserError(
                f"score: there is no number {name}; there are {listed(NUMBERS)}.{suggestion(name, NUMBERS)}"
            )
    if numbers.get(metric) is None:
        other = [name for name in ("fid", "kid") if numbers.get(name) is not None]
        remedy = f'Watch(..., metric="{other[0]}")' if other else f"score({metric}=12.3, keep=generator)"
        raise UserError(f"score: {metric} is missing, and it decides what is best. Try: {remedy}")
    try:
        values = {name: float(value) for name, value in numbers.items() if value is not None}
    except (TypeError, ValueError):
        raise UserError(f"score: {dict(numbers)} are not all numbers. Try: score({metric}=12.3)") from None
    if values[metric] <= 0 and metric == "fid":
        raise UserError(
            f"score: fid={values['fid']:g}, and scores are compared by ratios. Give a number above zero, for example "
            "score(fid=math.exp(loss))"
        )
    if values[metric] <= 0 and not 0 < values.get("kid_se", math.nan) < math.inf:
        raise UserError(
            f"score: kid={values['kid']:g} says nothing without its standard error, a number above zero. "
            f"Try: score(kid={values['kid']:g}, kid_se=0.002)"
        )
    return values


def boundary(loss: LossName | None) -> float | None:
    """Return the logit that parts real from fake under a loss, None where only differences have a meaning."""
    match loss:
        case "minimax" | "non-saturating" | "hinge":
            return 0.0
        case "least-squares":
            return 0.5
        case "wasserstein" | "relativistic" | "relativistic-average" | None:
            return None
        case _:
            assert_never(loss)


def _of_tensors(loss: LossName | None, real: Any, fake: Any) -> dict[str, Any]:
    torch, level = sys.modules["torch"], boundary(loss)
    if level is None:
        num = min(len(real), len(fake))
        return {"accuracy": (real[:num] > fake[:num]).float().mean()}
    numbers = {"accuracy": torch.cat([real > level, fake < level]).float().mean()}
    if loss in ("minimax", "non-saturating"):
        numbers |= {"real_probability": real.sigmoid().mean(), "fake_probability": fake.sigmoid().mean()}
    elif loss == "least-squares":
        numbers |= {"real_probability": real.clamp(0, 1).mean(), "fake_probability": fake.clamp(0, 1).mean()}
    return numbers


def _of_floats(loss: LossName | None, real: list[float], fake: list[float]) -> dict[str, float]:
    level = boundary(loss)
    if level is None:
        return {"accuracy": statistics.fmean(float(x > y) for x, y in zip(real, fake, strict=False))}
    numbers = {"accuracy": statistics.fmean([float(x > level) for x in real] + [float(y < level) for y in fake])}
    for name, logits in (("real_probability", real), ("fake_probability", fake)):
        if loss in ("minimax", "non-saturating"):
            numbers[name] = statistics.fmean(0.5 + 0.5 * math.tanh(logit / 2) for logit in logits)
        elif loss == "least-squares":
            numbers[name] = statistics.fmean(min(1.0, max(0.0, logit)) for logit in logits)
    return numbers


def _is_many(logits: Any) -> bool:
    """Return whether there is a logit for each sample, rather than none or one mean of all."""
    return logits is not None and not isinstance(logits, int | float) and getattr(logits, "shape", (1,)) != ()


def _flat(name: str, value: Any) -> list[float]:
    """Return the numbers in a float, a list or an array of any library, flattened; raises UserError."""
    if isinstance(value, int | float):
        return [float(value)]
    if is_tensor(value):
        return value.detach().float().flatten().tolist()
    if not isinstance(value, list | tuple):
        try:
            plain = value.numpy() if hasattr(value, "numpy") else value  # TensorFlow
            value = plain.tolist() if hasattr(plain, "tolist") else float(plain)
        except (TypeError, ValueError, AttributeError):
            raise UserError(f"{name}: {type(value).__name__}; give a number, a tensor or an array") from None
        return _flat(name, value)
    if not value:
        raise UserError(f"{name}: empty; give a number, or one per sample")
    return [number for part in value for number in _flat(name, part)]


def _read(values: list[Any]) -> list[float]:
    """Return floats, waiting at most once for an accelerator."""
    tensors = [value for value in values if is_tensor(value)]
    if not tensors:
        return values
    read = iter(sys.modules["torch"].stack([tensor.to(tensors[0].device) for tensor in tensors]).tolist())
    return [next(read) if is_tensor(value) else value for value in values]
