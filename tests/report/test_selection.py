"""What is said of the choice: the winner's curse only where it is seen, and how sure the choice is."""

import math

import pytest

from equipoise.errors import UserError
from equipoise.health.stats import ScoreLine
from equipoise.report.selection import certainty, curse
from equipoise.runs.selection import Candidate, Rescoring, rescoring_from


def candidate(samples: int, found: float, again: float, difference: float = 0.0) -> Candidate:
    lines = [ScoreLine(samples=samples, seconds=1.0, kid=kid, kid_se=0.001, fid=9.0) for kid in (found, again)]
    return Candidate(lines[0], lines[1], difference, 0.0005 if difference else 0.0)


def rescoring(*candidates: Candidate, num_scores: int = 40) -> Rescoring:
    return Rescoring({}, num_scores, candidates, candidates[0].found.samples)


@pytest.mark.parametrize(
    ("again", "words"),
    [
        (0.0240, "flatters itself. Here, more than noise explains: KID 0.0200 ± 0.0010 while training; 0.0240"),
        (0.0215, "Here, the two agree within noise"),
        (0.0190, "Here, the two agree within noise"),
        (0.0150, "Here it is the other way round"),
    ],
)
def test_the_winners_curse_is_claimed_only_beyond_the_noise(again: float, words: str) -> None:
    assert words in curse(rescoring(candidate(1, 0.020, again)), "kid")


def test_one_score_is_no_lowest_of_many_and_fid_of_other_numbers_is_not_compared() -> None:
    one = rescoring(candidate(1, 0.020, 0.026), num_scores=1)
    assert "lowest" not in curse(one, "kid")
    assert "do not compare" in curse(one, "fid")
    assert "nan" not in curse(rescoring(candidate(1, 0.020, math.nan)), "kid")


@pytest.mark.parametrize(
    ("difference", "words"),
    [(0.0030, "the choice is clear"), (0.0004, "too little to tell"), (-0.0030, "by KID, that one")],
)
def test_the_nearest_candidate_says_how_sure_the_choice_is(difference: float, words: str) -> None:
    found = rescoring(candidate(1, 0.02, 0.02), candidate(2, 0.02, 0.03, 0.01), candidate(3, 0.02, 0.03, difference))
    assert words in certainty(found)


def test_a_choice_of_one_or_without_differences_claims_nothing() -> None:
    assert "one candidate" in certainty(rescoring(candidate(1, 0.02, 0.02)))
    assert "could not" in certainty(rescoring(candidate(1, 0.02, 0.02), candidate(2, 0.02, 0.03, math.nan)))


def test_a_damaged_choice_is_told_in_a_short_line_however_long_what_it_holds() -> None:
    values = {"protocol": {}, "num_scores": "x" * 5_000, "candidates": [], "winner": 1}
    with pytest.raises(UserError, match="damaged") as caught:
        rescoring_from({"rescored": values})
    assert len(str(caught.value)) < 400
