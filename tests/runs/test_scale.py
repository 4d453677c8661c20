"""The scale of a score: what the best generator beats, what it does not, and baselines that failed."""

import math
from typing import Any

import pytest

from equipoise.runs.scale import scale_sentence
from equipoise.storage.records import Compared, Metric, Rivals, RivalScore, Role

METRIC = Metric(name="mse", label="MSE", decides=True)


def judged(*scores: RivalScore) -> Rivals:
    return Rivals(scores=scores)


def baseline(name: str, role: Role, difference: float | None = None, error: float = 0.01, **values: Any) -> RivalScore:
    best = None if difference is None else Compared(difference=difference, error=error)
    known: dict[str, Any] = {"loss": 0.5, "error": 0.02}
    return RivalScore(name=name, role=role, best=best, **known | values)


@pytest.mark.parametrize(
    ("difference", "error", "verdict", "gap"),
    [
        (-0.03, 0.01, "lower", " 0.030 ± 0.010"),
        (-0.02, 0.01, "cannot", " -0.020 ± 0.010"),
        (0.0, 0.01, "cannot", " 0.000 ± 0.010"),
        (0.02, 0.01, "cannot", " 0.020 ± 0.010"),
        (0.03, 0.01, "higher", " 0.030 ± 0.010"),
        (-3.0, math.nan, "cannot", " -3,"),
        (3.0, math.inf, "cannot", " 3,"),
    ],
)
def test_a_baseline_is_beaten_or_not_beyond_twice_the_standard_error_only(difference, error, verdict, gap):
    text = scale_sentence(judged(baseline("noise", "floor", difference, error)), METRIC)
    assert text.startswith("MSE: ")
    assert gap in text
    assert [word for word in ("lower", "cannot", "higher") if word in text] == [verdict]
    assert ("does not beat noise" in text) == (verdict == "higher")
    assert "nan" not in text
    assert "inf" not in text


def test_a_ceiling_is_named_by_its_score_and_nothing_is_said_of_what_was_not_compared():
    ceiling = baseline("real ones", "ceiling")
    assert scale_sentence(judged(ceiling), METRIC) == "Real ones score 0.50 ± 0.02."
    assert scale_sentence(judged(baseline("noise", "floor")), METRIC) == "Noise scores 0.50 ± 0.02."
    assert scale_sentence(judged(baseline("noise", "floor", math.nan)), METRIC) == ""
    assert scale_sentence(Rivals(), METRIC) == ""
    both = scale_sentence(judged(ceiling, baseline("a", "floor", -1.0), baseline("b", "rival", 1.0)), METRIC)
    assert both.index(" a ") < both.index(" b:") < both.index("Real ones")


def test_each_baseline_is_named_as_what_is_beaten_or_is_not():
    beaten, not_beaten = baseline("bicubic", "rival", -0.03), baseline("nearest", "floor", 0.03)
    assert "lower than bicubic by 0.030 ± 0.010" in scale_sentence(judged(beaten), METRIC)
    assert "not beat nearest" in scale_sentence(judged(not_beaten), METRIC)
    assert "lower than" not in scale_sentence(judged(not_beaten), METRIC)
