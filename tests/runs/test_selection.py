"""What is said of a selection: "the lowest" only of the generators that could have been selected."""

import math

import pytest

from equipoise.runs.selection import has_lower_broken, reselected
from equipoise.storage.records import CandidateScore, RunState, Score, Selection


def candidate(samples: int, loss: float, *broken: str) -> CandidateScore:
    """Return a candidate that was evaluated again with a loss."""
    found = Score(samples=samples, seconds=1.0, loss=0.5)
    return CandidateScore(found=found, rescored=Score(samples=samples, seconds=1.0, loss=loss, broken=broken))


def told(*candidates: CandidateScore) -> str:
    """Return what is said of a selection whose first candidate was selected."""
    best = candidates[0].found
    selection = Selection(protocol={}, num_scores=9, candidates=candidates, winner=best.samples)
    return reselected(RunState(best=best, selection=selection), best)


@pytest.mark.parametrize(
    ("best", "other", "is_passed_over"),
    [
        (candidate(1, 0.2), candidate(2, 0.3), False),
        (candidate(1, 0.2), candidate(2, 0.3, "psnr"), False),
        (candidate(1, 0.2), candidate(2, 0.1, "psnr"), True),
        (candidate(1, 0.2, "psnr"), candidate(2, 0.3, "psnr"), False),
        (candidate(1, 0.2), candidate(2, math.nan, "psnr"), False),
    ],
)
def test_a_lower_candidate_that_breaks_a_limit_is_not_hidden(best, other, is_passed_over):
    text = told(best, other)
    assert "lowest" in text
    assert " 2 " in text
    assert ("limits" in text) == is_passed_over
    selection = Selection(protocol={}, num_scores=9, candidates=(best, other), winner=1)
    assert has_lower_broken(selection) == is_passed_over


def test_nothing_is_said_where_nothing_was_chosen():
    assert told(candidate(1, 0.2)) == ""
    assert told(candidate(1, math.nan), candidate(2, math.nan)) == ""
    best = Score(samples=7, seconds=1.0, loss=0.5)
    assert reselected(RunState(best=best), best) == ""
