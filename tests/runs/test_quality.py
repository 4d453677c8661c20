"""The grade of a run: from its place between floor and ceiling, its coverage, and how many examples there are."""

import dataclasses
import math
from typing import Any

import msgspec
import pytest

from equipoise.runs.quality import COVERED, FEW, HARD_TO_TELL, MORE, PROMISING, SOME, TOLD, USABLE, quality_of
from equipoise.runs.status import Status, read_status
from equipoise.storage.records import Compared, Rivals, RivalScore, Score

CEILING = RivalScore(name="real images", role="ceiling", loss=0.0, error=0.001)
FLOOR = RivalScore(name="the mean image with noise", role="floor", loss=1.0, error=0.01)
BICUBIC = RivalScore(name="bicubic", role="rival", loss=0.5, error=0.1)


@pytest.fixture
def status(tmp_path, fake_run):
    """Return a function that gives how a finished run stands, with a test loss, a coverage and baselines."""
    run = fake_run(tmp_path / "run")
    whole = read_status(run)
    record = whole.data
    assert record is not None

    def made(
        loss: float,
        coverage: float = 0.9,
        num: int = 50_000,
        rivals: tuple[RivalScore, ...] = (FLOOR, CEILING),
        **more: Any,
    ) -> Status:
        values = {} if math.isnan(coverage) else {"coverage": coverage}
        test = Score(samples=100, seconds=1.0, loss=loss, error=0.001, values=values)
        counts = {"num_train": num - 20, "num_validation": 10, "num_test": 10, "num_duplicates": 0}
        data = msgspec.structs.replace(record, **counts)
        return dataclasses.replace(whole, test=test, data=data, rivals=Rivals(scores=rivals), **more)

    return made


def advice_of(now: Status) -> str:
    found = quality_of(now)
    assert found is not None
    return found.advice


@pytest.mark.parametrize(
    ("loss", "coverage", "grade"),
    [
        (0.9 * USABLE, COVERED, "usable"),
        (1.1 * USABLE, COVERED, "promising"),
        (0.9 * USABLE, 0.9 * COVERED, "promising"),
        (0.9 * PROMISING, SOME, "promising"),
        (1.1 * PROMISING, COVERED, "not usable yet"),
        (0.9 * USABLE, 0.9 * SOME, "not usable yet"),
        (1.5, 0.9, "not usable yet"),
        (-0.001, 0.95, "usable"),
        (0.9 * USABLE, math.nan, "usable"),
    ],
)
def test_the_grade_follows_from_the_place_between_floor_and_ceiling_and_the_coverage(status, loss, coverage, grade):
    found = quality_of(status(loss, coverage))
    assert found is not None
    assert found.grade == grade
    assert found.sentence.startswith(f"{grade[:1].upper()}{grade[1:]}: ")
    assert ("coverage" in found.basis) != math.isnan(coverage)
    assert "50,000" in found.basis
    assert bool(found.advice) == (grade != "usable")


def test_high_precision_over_no_coverage_is_never_usable(status):
    now = status(0.001, 0.0)
    assert now.test is not None
    now = dataclasses.replace(now, test=msgspec.structs.replace(now.test, values={"precision": 0.999, "coverage": 0.0}))
    found = quality_of(now)
    assert found is not None
    assert found.grade == "not usable yet"
    assert "precision" not in found.sentence


@pytest.mark.parametrize(
    ("told", "grade", "said"),
    [
        (HARD_TO_TELL, "usable", "75 %"),
        (HARD_TO_TELL + 0.01, "promising", "76 %"),
        (TOLD, "promising", "95 %"),
        (TOLD + 0.01, "not usable yet", "96 %"),
        (1.0, "not usable yet", "100 %"),
    ],
)
def test_what_a_classifier_tells_from_real_images_is_not_usable_however_low_its_distance(status, told, grade, said):
    now = status(0.5 * USABLE, 0.95)
    assert now.test is not None
    now = dataclasses.replace(now, test=msgspec.structs.replace(now.test, values={"coverage": 0.95, "c2st": told}))
    found = quality_of(now)
    assert found is not None
    assert found.grade == grade
    assert said in found.basis


@pytest.mark.parametrize(
    ("share", "coverage", "told", "first"),
    [
        (0.017, 0.284, 0.998, "coverage"),
        (0.017, 0.6, 0.998, "a classifier"),
        (0.2, 0.6, 0.7, "KID"),
        (0.001, 0.95, 0.8, "a classifier"),
        (0.001, 0.95, 0.5, "KID"),
    ],
)
def test_what_decides_the_grade_stands_first(status, share, coverage, told, first):
    now = status(share, coverage)
    values = {"coverage": coverage, "c2st": told}
    now = dataclasses.replace(now, test=msgspec.structs.replace(now.test, values=values))
    found = quality_of(now)
    assert found is not None
    assert found.basis.startswith(first)


def test_few_images_are_never_called_usable_and_more_are_what_helps(status):
    found = quality_of(status(0.001, 0.95, num=FEW - 1))
    assert found is not None
    assert found.grade == "promising"
    assert "copying" in found.basis


@pytest.mark.parametrize(
    ("difference", "error", "grade"), [(-0.3, 0.1, "usable"), (-0.1, 0.1, "promising"), (0.2, 0.05, "promising")]
)
def test_where_there_is_a_classical_method_it_is_what_counts(status, difference, error, grade):
    rival = msgspec.structs.replace(BICUBIC, best=Compared(difference=difference, error=error))
    found = quality_of(status(0.3, math.nan, num=200, rivals=(FLOOR, rival, CEILING)))
    assert found is not None
    assert found.grade == grade
    assert ("significantly" in found.basis) == (grade != "usable")


def certificate(speed: float, forecast: float = 0.1, noise: float = 0.0, num: int = 20) -> dict[str, Any]:
    """Return what a run's scores say."""
    return {"speed": speed, "forecast": forecast, "noise": noise, "min_gain": 0.02, "num_evaluations": num}


@pytest.mark.parametrize(
    ("found", "said", "times"),
    [
        (certificate(1.0), "middle, about 5 minutes in all", 5.0),
        (certificate(1.0, noise=0.1), "middle, about 5 minutes, 5 minutes to 10 minutes, in all", 5.0),
        (certificate(1.0, noise=0.4), "middle, about 5 minutes, 3 minutes at least, in all", 5.0),
        (certificate(10.0), "middle, about 2 minutes in all", 2.0),
        (certificate(0.01, 0.03), "more than 20 min", 2.0),
        (certificate(1.0, 0.001), "predicted to bring little", 2.0),
        (certificate(0.5, 0.001), "More training is predicted to bring little: another recipe", 2.0),
        (None, "Longer training would help most.", 2.0),
        (certificate(0.01, 0.001, num=2), "Longer training would help most.", 2.0),
    ],
)
def test_what_would_help_most_follows_from_the_runs_own_curve_and_its_noise(status, found, said, times):
    """Five times too much is missing: at a gain of one e-fold for each e-fold of training, five times the minute."""
    quality = quality_of(status(0.05, certificate=found, seconds=60.0))
    assert quality is not None
    assert said in quality.advice
    assert quality.times == pytest.approx(times)


def test_more_images_are_asked_for_where_there_are_few_and_more_training_brings_little(status):
    """Not after a minute of training, where longer helps however few they are."""
    little = certificate(0.5, 0.001)
    assert "more images" in advice_of(status(0.05, num=MORE - 1, certificate=little))
    assert "more images" not in advice_of(status(0.05, num=MORE, certificate=little))
    assert advice_of(status(0.05, num=MORE - 1, certificate=certificate(1.0))).startswith("Longer")


def test_an_interrupted_run_is_told_to_go_on(status):
    found = quality_of(status(0.05, state="stopped"))
    assert found is not None
    assert "continue" in found.advice


@pytest.mark.parametrize(
    ("reason", "state", "word"),
    [("diverged", "finished", "rates"), ("patience", "finished", "recipe"), (None, "failed", "continue")],
)
def test_what_would_help_most_does_not_contradict_why_it_ended(status, reason, state, word):
    """A diverged run is refused by a resume, and one whose scores no longer improve gains nothing from it."""
    found = quality_of(status(0.05, certificate=None, stop_reason=reason, state=state))
    assert found is not None
    assert word in found.advice
    assert "Longer" not in found.advice


def test_no_more_time_is_said_to_be_needed_than_is_known(status):
    """Twenty times 7:05 is 2 h 21 min; rounded up it would be 3 hours, which nobody knows to be too few."""
    assert "2 h 21 min" in advice_of(status(0.05, certificate=certificate(0.01, 0.03), seconds=425.0))


def test_a_test_that_gave_no_number_leaves_the_grade_to_the_best_score(status):
    now = status(math.nan)
    found = quality_of(now)
    assert found is not None
    assert found == quality_of(dataclasses.replace(now, test=None))
    assert math.isfinite(found.share)


def test_a_floor_that_is_no_worse_than_real_images_is_no_scale(status):
    for floor in (0.0, -0.1):
        assert quality_of(status(0.1, rivals=(msgspec.structs.replace(FLOOR, loss=floor), CEILING))) is None


def test_nothing_is_said_without_a_score_or_without_a_scale(status):
    assert quality_of(dataclasses.replace(status(0.1), test=None, best=None)) is None
    assert quality_of(status(0.1, rivals=())) is None
    uncovered = quality_of(status(0.1, 0.02, rivals=()))
    assert uncovered is not None
    assert uncovered.grade == "not usable yet"
