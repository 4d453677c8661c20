"""The numbers of the game: what one logging interval and one score hold."""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

import msgspec

from equipoise.recipe import MAX_BUDGET, MetricName

MAX_NUMBER = 1e150  # beyond it, squares overflow; no signal of a game that can be told about is as large


@dataclass(frozen=True, kw_only=True)
class StepStats:
    """Means over the steps of one logging interval; a number that could not be taken is NaN."""

    samples: int  # real samples shown to the discriminator so far
    seconds: float  # on the training clock, which stands still while a run is paused
    discriminator_loss: float
    generator_loss: float
    penalty: float
    real_logit: float
    fake_logit: float
    real_probability: float  # mean σ(D(x))
    fake_probability: float  # mean σ(D(G(z)))
    accuracy: float  # share of logits on the right side of 0; of pairs with real > fake where only differences count
    discriminator_gradient: float  # norm over all parameters
    generator_gradient: float
    discriminator_rate: float
    generator_rate: float
    samples_per_second: float
    skipped_steps: int = 0  # not finite, so not applied
    terms: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class ScoreLine:
    """One score of one generator with its protocol; NaN stands for what was not or could not be computed."""

    samples: int
    seconds: float  # that judging took
    kid: float = math.nan
    kid_se: float = math.nan
    fid: float = math.nan
    precision: float = math.nan
    recall: float = math.nan
    density: float = math.nan
    coverage: float = math.nan
    champion: int = 0  # samples of the best generator that this one was compared with; 0: none
    difference: float = math.nan  # KID of this generator minus the champion's, same latents and same reals
    difference_se: float = math.nan
    copying: float = math.nan  # C_T: far below 0 means nearer to the training images than held-out ones are
    discriminator_gap: float = math.nan  # (D(train) − D(validation)) / (D(train) − D(generated)); 0: none
    protocol: dict[str, Any] = field(default_factory=dict)

    @staticmethod
    def from_score(samples: int, values: Mapping[str, Any]) -> "ScoreLine":
        """Build a score line from a judge's values by their names; others are left out."""
        return score_from({**values, "samples": samples})


def comparable(scores: Sequence[ScoreLine]) -> list[ScoreLine]:
    """Return the last scores under one protocol: only those may stand side by side, earlier ones were given up."""
    return list(itertools.takewhile(lambda line: line.protocol == scores[-1].protocol, reversed(scores)))[::-1]


def metric_value(line: ScoreLine, metric: MetricName) -> float:
    """Return the number that decides what is best; lower is better."""
    return line.kid if metric == "kid" else line.fid


def metric_error(line: ScoreLine, metric: MetricName) -> float:
    """Return the standard error of `metric_value`, NaN where none is known."""
    return line.kid_se if metric == "kid" else math.nan


def record_of(line: ScoreLine) -> dict[str, Any]:
    """Return a score as plain JSON values, in which null stands for what is not finite."""
    return msgspec.json.decode(msgspec.json.encode(line))


def stats_from(record: Mapping[str, Any]) -> StepStats:
    """Build the statistics from a log record, in which null stands for NaN; what is of another type is left out."""
    return StepStats(**_fields_from(StepStats, record))


def score_from(record: Mapping[str, Any]) -> ScoreLine:
    """Build a score from a log record, in which null stands for NaN; what is of another type is left out."""
    return ScoreLine(**_fields_from(ScoreLine, record))


def _fields_from(kind: type, record: Mapping[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for part in dataclasses.fields(kind):
        value = record.get(part.name)
        if part.type is float:
            values[part.name] = number_of(value)
        elif part.type is int:
            values[part.name] = whole_of(value)
        elif isinstance(value, Mapping):
            is_numbers = part.name == "terms"
            values[part.name] = {name: number_of(term) for name, term in value.items()} if is_numbers else value
    return values


def whole_of(value: Any) -> int:
    """Return a count out of a file, 0 for anything that is none."""
    number = number_of(value)
    return int(number) if 0 <= number <= MAX_BUDGET else 0


def number_of(value: Any) -> float:
    """Return a number out of a file as a float, NaN for anything else: it may be damaged, or written by others."""
    if isinstance(value, bool) or not isinstance(value, Real):
        return math.nan
    try:
        number = float(value)
    except OverflowError:  # a whole number of hundreds of digits
        return math.nan
    return number if abs(number) <= MAX_NUMBER else math.nan
