"""What is said of the selection: the winner's curse only where it is seen, and how sure the selection is."""

import math
import re

import msgspec
import pytest
from fake_runs import PROTOCOL, change_state

from equipoise.errors import UserError
from equipoise.report.selection import bias_text, certainty_text, ordered, rule_text
from equipoise.storage.records import CandidateScore, Metric, Score, Selection, plain

KID = Metric(name="kid", label="KID", decides=True)
EVIL = "<script>alert(1)</script>"


def candidate(samples: int, found: float, again: float, difference: float = 0.0, **more) -> CandidateScore:
    scores = [Score(samples=samples, seconds=1.0, loss=loss, error=0.001, **more) for loss in (found, again)]
    error = 0.0005 if difference else 0.0
    return CandidateScore(found=scores[0], rescored=scores[1], difference=difference, difference_error=error)


def selection(*candidates: CandidateScore, num_scores: int = 40, split: str = "validation, second half") -> Selection:
    winner = candidates[0].found.samples
    return Selection(protocol=PROTOCOL | {"split": split}, num_scores=num_scores, candidates=candidates, winner=winner)


@pytest.mark.parametrize(
    ("again", "word"), [(0.0240, "more"), (0.0215, "agree"), (0.0190, "agree"), (0.0150, "lower still")]
)
def test_the_winners_curse_is_claimed_only_beyond_the_noise(again, word):
    text = bias_text(selection(candidate(1, 0.020, again)), KID)
    assert word in text
    assert "40" in text
    assert re.findall(r"[\d.]+ ± 0.0010", text) == ["0.0200 ± 0.0010", f"{again:.4f} ± 0.0010"]


def test_a_selection_on_the_same_examples_says_that_both_scores_are_optimistic():
    text = bias_text(selection(candidate(1, 0.020, 0.0240), split="validation"), KID)
    assert "optimistic" in text


def test_one_score_is_no_best_of_many():
    assert bias_text(selection(candidate(1, 0.020, 0.026), num_scores=1), KID).startswith(KID.label)
    assert "nan" not in bias_text(selection(candidate(1, 0.020, math.nan)), KID)


@pytest.mark.parametrize(("difference", "word"), [(0.0030, "clear"), (0.0004, "either")])
def test_the_nearest_candidate_says_how_sure_the_selection_is(difference, word):
    found = selection(candidate(1, 0.02, 0.02), candidate(2, 0.02, 0.03, 0.01), candidate(3, 0.02, 0.03, difference))
    text = certainty_text(found, KID)
    assert word in text
    assert f"{difference:.4f} ± 0.0005" in text


@pytest.mark.parametrize("difference", [-0.0030, -0.0001, 0.0001])
def test_a_candidate_that_breaks_a_limit_could_not_have_been_selected(difference):
    """The selection is as sure as the nearest of the others says."""
    best = candidate(1, 0.02, 0.02)
    broken = candidate(3, 0.02, 0.02 + difference, difference, broken=("psnr",))
    text = certainty_text(selection(best, candidate(2, 0.02, 0.03, 0.01), broken), KID)
    assert "0.0100 ± 0.0005" in text
    assert "clear" in text
    assert "limits" in text
    alone = certainty_text(selection(best, broken), KID)
    assert "±" not in alone
    assert "either" not in alone
    assert "limit" in alone


def test_where_all_break_a_limit_any_of_them_could_have_been_selected():
    found = [candidate(index, 0.02, 0.02, 0.0001 * (index - 1), broken=("psnr",)) for index in (1, 2)]
    assert "either" in certainty_text(selection(*found), KID)


@pytest.mark.parametrize(
    ("again", "broken", "word"),
    [(0.03, (), "lowest"), (0.03, ("psnr",), "lowest"), (0.01, ("psnr",), "limits"), (math.nan, (), "lowest")],
)
def test_the_rule_says_where_a_lower_one_was_passed_over(tmp_path, fake_run, page, again, broken, word):
    run = fake_run(tmp_path / "run", num_steps=5)
    found = selection(candidate(1, 0.02, 0.02), candidate(2, 0.02, again, again - 0.02, broken=broken))
    change_state(run, selection=found)
    text = rule_text(found, KID)
    assert word in text
    assert ("limits" in text) == (word == "limits")
    assert text in page(run).one("section", id="selection").one("p", class_="intro").text


def test_without_a_finite_second_score_nothing_is_called_the_lowest():
    text = rule_text(selection(candidate(1, 0.02, math.nan), candidate(2, 0.02, math.nan)), KID)
    assert "lowest" not in text


def test_a_selection_of_one_or_without_differences_claims_nothing():
    texts = [certainty_text(selection(candidate(1, 0.02, 0.02)), KID)]
    texts.append(certainty_text(selection(candidate(1, 0.02, 0.02), candidate(2, 0.02, 0.03, math.nan)), KID))
    assert not any("±" in text for text in texts)


def test_the_selected_one_comes_first_and_one_without_a_score_last():
    found = selection(candidate(1, 0.02, 0.03), candidate(2, 0.02, math.nan), candidate(3, 0.02, 0.02))
    assert [one.found.samples for one in ordered(found)] == [1, 3, 2]


def test_the_candidates_are_a_table_with_the_selected_one_first(tmp_path, fake_run, page):
    run = fake_run(tmp_path / "run", num_steps=5)
    broken = candidate(3, 0.0100, 0.0300, 0.004, broken=(EVIL,))
    change_state(run, selection=selection(candidate(1, 0.021, 0.0262), candidate(2, 0.02, 0.029, 0.0028), broken))
    section = page(run).one("section", id="selection")
    assert section.one("tr", class_="winner") is section.all("tr")[1]
    assert section.one("table").cells()[1:] == [
        ["1 samples", "0.0210 ± 0.0010", "0.0262 ± 0.0010", "–", "selected"],
        ["2 samples", "0.0200 ± 0.0010", "0.0290 ± 0.0010", "0.0028 ± 0.0005", ""],
        ["3 samples", "0.0100 ± 0.0010", "0.0300 ± 0.0010", "0.0040 ± 0.0005", section.all("td")[-1].text],
    ]
    assert EVIL in section.all("td")[-1].text
    assert "0.0104" in section.all("p", class_="note")[0].text  # the test score
    assert page(run).one("div", data_number="again").one("dd").text == "0.0262 ± 0.0010"


def test_points_below_a_selected_one_say_that_it_was_selected(tmp_path, fake_run, page):
    run = fake_run(tmp_path / "run", num_steps=5)
    best = msgspec.structs.replace(run.read_state().best, loss=0.02, samples=1)
    change_state(run, best=best, selection=selection(candidate(1, 0.02, 0.02), candidate(2, 0.01, 0.03, 0.01)))
    assert " 2 " in page(run).one("figure", data_chart="kid").one("figcaption").text


def test_a_run_without_a_selection_says_why(tmp_path, fake_run, page):
    run = fake_run(tmp_path / "run", num_steps=5)
    assert not page(run).one("section", id="selection").all("table")
    change_state(run, not_selected=EVIL)
    assert page(run).one("section", id="selection").one("p").text == EVIL


@pytest.mark.parametrize(
    "damage", [{"winner": 7}, {"winner": None}, {"candidates": EVIL}, {"protocol": 3}, {"candidates": []}]
)
def test_a_damaged_selection_is_a_short_and_clear_error(tmp_path, fake_run, page, damage):
    run = fake_run(tmp_path / "run", num_steps=5)
    found = msgspec.structs.replace(selection(candidate(1, 0.021, 0.026)), protocol={"num_real": EVIL, EVIL: EVIL})
    change_state(run, selection=found)
    page(run)
    values = plain(run.read_state())
    values["selection"] |= damage
    (run.path / "state.json").write_bytes(msgspec.json.encode(values))
    with pytest.raises(UserError, match=r"state\.json: damaged") as error:
        page(run)
    assert len(str(error.value).splitlines()) == 1
    assert len(str(error.value)) < 600
