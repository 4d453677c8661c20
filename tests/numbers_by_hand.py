"""Stats and scores written by hand."""

from collections.abc import Callable
from typing import Any

import pytest

from equipoise.storage.records import Score, StepStats

HEALTHY: dict[str, Any] = {
    "seconds": 1.0,
    "discriminator_loss": 0.6,
    "generator_loss": 0.9,
    "penalty": 0.1,
    "real_logit": 0.5,
    "fake_logit": -0.5,
    "real_probability": 0.6,
    "fake_probability": 0.4,
    "accuracy": 0.71,
    "discriminator_gradient": 0.5,
    "generator_gradient": 0.2,
    "discriminator_rate": 2e-4,
    "generator_rate": 2e-4,
    "samples_per_second": 4000.0,
}


@pytest.fixture
def stats() -> Callable[..., list[StepStats]]:
    """Return a maker of intervals of a healthy game with some values changed."""

    def make(num: int = 1, first: int = 1, **changes: Any) -> list[StepStats]:
        return [StepStats(samples=100 * index, **(HEALTHY | changes)) for index in range(first, first + num)]

    return make


@pytest.fixture
def kids() -> Callable[..., list[Score]]:
    """Return a maker of scores with given KIDs and one standard error."""

    def make(*values: float, se: float = 0.01) -> list[Score]:
        return [
            Score(
                samples=1000 * index,
                seconds=1.0,
                loss=value,
                error=se,
                values={"kid": value, "fid": 100 * value},
                protocol={"split": "v"},
            )
            for index, value in enumerate(values, 1)
        ]

    return make
