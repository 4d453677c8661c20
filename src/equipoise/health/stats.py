"""The numbers of the game, added up over a logging interval without making an accelerator wait.

Numbers may be floats, arrays or tensors; torch is used only where it is loaded already. A tensor stays where it is
until `fold`, which reads all of them at once.
"""

import math
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from equipoise.errors import Option, UserError
from equipoise.storage.records import SIGNAL, StepStats, lenient

NAMES = (
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
RECENT = 32  # log lines kept as they are
HISTORY = 96  # log lines kept in all
SCORES = 64  # the last ones, that are kept
RATE_SECONDS = 60.0  # of the last log lines, from which the rate that is shown is taken
TERM = "term/"  # begins the name of a loss term among a step's numbers: term/generator/adversarial


@dataclass
class Sum:
    """The finite values of one number added up, and how many were not finite."""

    total: float = 0.0
    num: int = 0
    num_not_finite: int = 0

    def add(self, value: float) -> None:
        """Add one step's value."""
        if math.isfinite(value):
            self.total += value
            self.num += 1
        else:
            self.num_not_finite += 1

    @property
    def mean(self) -> float:
        """The mean of the finite values, NaN if there are none."""
        return self.total / self.num if self.num else math.nan


class Meter:
    """Sums since the last log line; its whole state is in `state_dict`."""

    def __init__(self) -> None:
        self._sums: dict[str, Sum] = {}
        self._pending: dict[str, list[Any]] = {}
        self._of_empty: dict[str, list[Any]] = {}  # of steps on no samples

    def add(self, numbers: Mapping[str, Any], *, is_empty: bool = False) -> None:
        """Add one step's numbers: floats, or tensors of one element, which are not read yet.

        Of an empty batch, what is not finite is no number at all: it is the mean of nothing.
        """
        pending = self._of_empty if is_empty else self._pending
        for name, value in numbers.items():
            pending.setdefault(name, []).append(value)

    def fold(self) -> dict[str, Sum]:
        """Read what waits and return the sums by name; what cannot be read is lost, and raises."""
        pending = self._pending
        of_empty = self._of_empty
        self._pending = {}
        self._of_empty = {}
        for name, values in pending.items():
            of_name = self._sums.setdefault(name, Sum())
            for value in _read(values):
                of_name.add(value)
        for name, values in of_empty.items():
            for value in filter(math.isfinite, _read(values)):
                self._sums.setdefault(name, Sum()).add(value)
        return self._sums

    def mean(self, name: str) -> float:
        """Return the mean of a number's finite values, NaN if there is none."""
        return self.fold().get(name, Sum()).mean

    def clear(self) -> None:
        """Begin again."""
        self._sums = {}
        self._pending = {}
        self._of_empty = {}

    def state_dict(self) -> dict[str, list[float]]:
        """Return the sums as plain JSON."""
        return {name: [item.total, item.num, item.num_not_finite] for name, item in self.fold().items()}

    def load_state_dict(self, state: Mapping[str, list[float]]) -> None:
        """Take the sums back exactly; raises TypeError or ValueError for anything else."""
        self._pending = {}
        self._of_empty = {}
        sums = {}
        for name, (total, num, bad) in state.items():
            found = math.nan if total is None else float(total)  # JSON has no number for a sum that ran over
            sums[name] = Sum(found, int(num), int(bad))
        self._sums = sums


def thinned(history: tuple[StepStats, ...]) -> tuple[StepStats, ...]:
    """Keep the span of the whole run in bounded memory: drop every second of the older log lines when full."""
    if len(history) <= HISTORY:
        return history
    return history[:-RECENT:2] + history[-RECENT:]


def present_rate(steps: Sequence[StepStats], evaluate_every: int | None = None) -> float:
    """Return the samples a second, evaluations included, over the last minute of log lines; NaN without any.

    It is a longer span where evaluations are farther apart, or one of them would decide.
    """
    timed = [stats for stats in steps if math.isfinite(stats.seconds)]
    if not timed:
        return math.nan
    last = timed[-1]
    span = evaluate_every or 0
    before = [
        stats
        for stats in timed
        if stats.seconds <= last.seconds - RATE_SECONDS and _spent(stats) <= _spent(last) - span
    ]
    first = before[-1] if before else timed[0]
    if first.seconds >= last.seconds:
        return last.samples_per_second
    return (_spent(last) - _spent(first)) / (last.seconds - first.seconds)


def _spent(stats: StepStats) -> int:
    """Return the samples spent, which the first runs did not tell from the position."""
    return max(stats.samples, stats.spent)


def interval_stats(meter: Meter, samples: int, seconds: float, samples_per_second: float, **more: Any) -> StepStats:
    """Return the means since the last log line; `more` are rates, the attempt, and whatever else is known."""
    sums = meter.fold()
    skipped = sum(sums[name].total for name in ("discriminator_skipped", "generator_skipped") if name in sums)
    terms = {name.removeprefix(TERM).replace("/", "_", 1): sums[name].mean for name in sums if name.startswith(TERM)}
    signals = {name.removeprefix(SIGNAL): float(f"{sums[name].mean:.4g}") for name in sums if name.startswith(SIGNAL)}
    values: dict[str, Any] = {name: meter.mean(name) for name in NAMES}
    values |= {"samples": samples, "seconds": seconds, "samples_per_second": samples_per_second}
    values |= {"skipped_steps": round(skipped), "terms": terms, "signals": signals}
    return lenient(StepStats, values | more)


def is_tensor(value: Any) -> bool:
    """Return whether a value is a torch tensor, without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def reduced(name: str, value: Any) -> Any:
    """Return a number as a float, or as a tensor of one element: the mean of what was given. Raises UserError.

    Tensors, also in lists, are not read: nothing waits for them.
    """
    if isinstance(value, int | float):
        return float(value)
    tensor = joined(name, value)
    if tensor is not None:
        if tensor.numel() == 0:
            raise UserError(Option(name), f"{received(value)} is empty; give a number, or one per sample [N]")
        return tensor.mean()
    array = array_of(value)
    if array is not None and array.size:
        return float(array.mean())
    return statistics.fmean(flat(name, value))


def joined(name: str, value: Any) -> Any:
    """Return a tensor, or a list of tensors however nested, as one flat float tensor where it is; None for what has no
    tensor. Raises UserError for numbers that have no order, such as complex ones.
    """
    parts = _tensors_in(value)
    if not parts:
        return None
    torch = sys.modules["torch"]
    try:
        flats = [_local(part).detach().flatten() for part in parts]
        if any(part.is_complex() for part in flats):
            raise TypeError("complex numbers")
        if len(flats) == 1:
            return flats[0].float()
        return torch.cat([part.float().to(flats[0].device) for part in flats])
    except (TypeError, ValueError, RuntimeError, NotImplementedError) as error:
        problem = f"{received(value)} cannot be read ({error}); give a number, a tensor or an array of numbers"
        raise UserError(Option(name), problem) from None


def array_of(value: Any) -> Any:
    """Return an array of any library, or a list of arrays, as one flat NumPy array of floats; None for anything else.

    Without NumPy there are none.
    """
    numpy = sys.modules.get("numpy")
    if numpy is None or is_tensor(value):
        return None
    if isinstance(value, list | tuple):
        parts = [array_of(part) for part in value]
        return numpy.concatenate(parts) if parts and all(part is not None for part in parts) else None
    if not hasattr(value, "__array__"):
        return None
    try:
        array = numpy.asarray(value)
        return None if array.dtype.kind in "cOSUmM" else array.astype(float).ravel()
    except Exception:  # whatever another library raises
        return None


def has_tensors(value: Any) -> bool:
    """Return whether a value is a tensor, or a list of nothing but tensors."""
    return bool(_tensors_in(value))


def _tensors_in(value: Any) -> list[Any]:
    """Return the tensors in a list, however nested, itself where it is one; none where anything else is in it."""
    if is_tensor(value):
        return [value]
    if not isinstance(value, list | tuple):
        return []
    found: list[Any] = []
    for part in value:
        tensors = _tensors_in(part)
        if not tensors:
            return []
        found += tensors
    return found


def _local(tensor: Any) -> Any:
    """Return the part of a tensor that this process holds: for the rest it would wait for the others."""
    return tensor.to_local() if hasattr(tensor, "to_local") else tensor


def flat(name: str, value: Any) -> list[float]:
    """Return the numbers in a float, a list or an array of any library, flattened; raises UserError."""
    if isinstance(value, int | float):
        return [float(value)]
    if is_tensor(value):
        return joined(name, value).tolist()
    if not isinstance(value, list | tuple):
        try:
            plain = value.numpy() if hasattr(value, "numpy") else value  # TensorFlow
            value = plain.tolist() if hasattr(plain, "tolist") else float(plain)
        except Exception:  # whatever an object of another library raises where it is no number
            raise UserError(Option(name), f"{received(value)}; give a number, a tensor or an array") from None
        return flat(name, value)
    if not value:
        raise UserError(Option(name), "empty; give a number, or one per sample")
    return [number for part in value for number in flat(name, part)]


def received(value: Any) -> str:
    """Say what was given in a few words: its kind, and its shape or the number itself."""
    shape = getattr(value, "shape", None)
    if shape is not None:
        return f"{type(value).__name__} of shape {list(shape)}"
    if isinstance(value, list | tuple):
        return f"{type(value).__name__} of {len(value)}"
    return type(value).__name__


def _read(values: list[Any]) -> list[float]:
    """Return floats, waiting at most once for an accelerator."""
    tensors = [value for value in values if is_tensor(value)]
    if not tensors:
        return values
    read = iter(sys.modules["torch"].stack([tensor.float().to(tensors[0].device) for tensor in tensors]).tolist())
    return [next(read) if is_tensor(value) else value for value in values]
