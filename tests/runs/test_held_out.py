"""By which examples a score was taken, in words: those of a split, or all that are held out, cross-fitted."""

import math
from typing import Any

import pytest

from equipoise.runs.held_out import label_of, num_together, optimism_text, place_of, taken_on, title_of
from equipoise.storage.records import CandidateScore, Score, Selection

APART = {"split": "test", "num_real": 500}
TOGETHER = {"split": "test", "num_real": 42, "folds": 5}


def score(protocol: dict[str, Any], optimism: float = math.nan) -> Score:
    return Score(samples=9, seconds=1.0, loss=0.5, protocol=protocol, optimism=optimism)


def selection(num_scores: int) -> Selection:
    candidate = CandidateScore(found=score(TOGETHER), rescored=score(TOGETHER))
    return Selection(protocol=TOGETHER, num_scores=num_scores, candidates=(candidate,), winner=9)


@pytest.mark.parametrize("protocol", [{}, APART, {"folds": 5}, {"folds": 5, "num_real": "many"}], ids=str)
def test_a_split_is_named_unless_the_protocol_says_that_all_judge(protocol: dict[str, Any]) -> None:
    assert num_together(protocol) == 0
    assert place_of(protocol, "test") == "the test split"
    assert taken_on(score(protocol), "validation") == "the validation split"
    assert label_of(score(protocol), "test") == "test"
    assert optimism_text(score(protocol, 0.1), None, "images") == ""


def test_all_that_are_held_out_are_counted_and_cross_fitted_only_where_that_was_done() -> None:
    assert num_together(TOGETHER) == 42
    assert "42" in taken_on(score(TOGETHER), "test")
    assert "split" not in taken_on(score(TOGETHER), "test")
    assert [("cross-fitted" in taken_on(score(TOGETHER, found), "test")) for found in (math.nan, 0.0, 0.1)] == [
        False,
        True,
        True,
    ]
    assert label_of(score(TOGETHER), "validation") != label_of(score(TOGETHER, 0.1), "test")


def test_the_optimism_is_told_with_what_it_rests_on() -> None:
    text = optimism_text(score(TOGETHER, 0.0021), selection(17), "images")
    assert all(number in text for number in ("42", "17", "0.0021", "5-fold"))
    assert optimism_text(score(TOGETHER), selection(17), "images") == ""
    same = optimism_text(score(TOGETHER, 0.0), selection(17), "images")
    assert "17" in same
    assert "optimistic" not in same
    alone = optimism_text(score(TOGETHER, 0.0), selection(1), "images")
    assert "42" in alone
    assert "optimistic" not in alone, "one alone was not chosen"


def test_a_title_names_a_split_only_where_all_its_scores_are_of_it() -> None:
    assert "test split" in title_of("test", [APART, APART])
    assert "cross-fitted" in title_of("test", [TOGETHER])
    assert "cross-fitted" not in title_of("validation", [TOGETHER])
    mixed = title_of("test", [APART, TOGETHER])
    assert "split" not in mixed
    assert "cross-fitted" not in mixed
