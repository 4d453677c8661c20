"""What few examples leave unsure: said of the side that has few, with more of that side as the remedy."""

import re

import pytest

from equipoise.evaluation.choosing import FEW, few_cautions
from equipoise.metrics.units import Measured
from equipoise.storage.records import Metric

METRICS = (Metric(name="kid", decides=True), Metric(name="fid"), Metric(name="precision"))


def numbers(text: object) -> set[int]:
    """Return the whole numbers of a text."""
    return {int(number.replace(",", "")) for number in re.findall(r"\b[0-9][0-9,]*\b(?![.])", str(text))}


@pytest.mark.parametrize(
    ("num_generated", "num_real", "dimension", "few", "least"),
    [
        (200, 1150, 224, ["generated"], 225),
        (1150, 200, 224, ["real"], 225),
        (150, 1150, 64, ["generated"], FEW),
        (150, 1150, 224, ["generated"], 225),
        (150, 210, 224, ["generated", "real"], 225),
        (150, 210, 64, ["generated"], FEW),
    ],
)
def test_only_the_side_that_has_few_is_named_and_asked_for_more(
    num_generated: int, num_real: int, dimension: int, few: list[str], least: int
) -> None:
    measured = Measured(loss=0.1, error=0.01, num=num_generated)
    (caution,) = few_cautions(measured, METRICS, {"neighbours": 5, "num_real": num_real}, dimension, "images")
    (remedy,) = caution.remedies
    named, _, _ = caution.problem.partition(":")
    for said in (named, str(remedy)):
        assert [side for side in ("generated", "real") if side in said.split()] == few
    assert least in numbers(remedy)
    assert numbers(named) == {num for side, num in (("generated", num_generated), ("real", num_real)) if side in few}


def test_enough_of_both_sides_are_no_caution() -> None:
    measured = Measured(loss=0.1, error=0.01, num=225)
    assert few_cautions(measured, METRICS, {"neighbours": 5, "num_real": 1150}, 224, "images") == []


def test_without_a_split_there_are_more_real_ones_and_generated_ones_are_still_asked_for() -> None:
    measured = Measured(loss=0.1, error=0.01, num=150)
    (caution,) = few_cautions(measured, METRICS, {"neighbours": 5, "num_real": 100}, 64, "images", num_left=900)
    without, more = map(str, caution.remedies)
    assert ("900" in without, "generated" in more, "real" in more) == (True, True, False)
