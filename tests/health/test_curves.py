import json

import pytest

from equipoise.health.curves import BARS, CURVES, PLAIN_BARS, Pair, bars, curves_of, is_logarithmic, span
from equipoise.health.pages import PAGES, SUBJECTS, Subject


def test_both_games_are_drawn_in_one_scale() -> None:
    pair = Pair([0.0, 1.0, None, 2.0], [2.0, 4.0, 4.0, 4.0])
    assert span(pair) == (0.0, 4.0)
    assert bars(pair, pair.sick, width=4) == f"{BARS[0]}{BARS[2]} {BARS[4]}"
    assert bars(pair, pair.healthy, PLAIN_BARS, width=4) == "+%%%"


def test_values_far_apart_are_drawn_by_their_size() -> None:
    pair = Pair([1.0, 10.0], [100.0, 10_000.0])
    assert is_logarithmic(pair)
    assert pair.shares(pair.sick) == pytest.approx([0.0, 0.25])
    assert not is_logarithmic(Pair([-1.0], [1000.0]))
    assert Pair([1.0], [1.0]).shares([1.0]) == [0.5]


@pytest.mark.parametrize("subject", SUBJECTS)
def test_the_curves_of_a_page_are_those_that_it_names(subject: Subject) -> None:
    found = curves_of(subject)
    assert found.keys() <= set(PAGES[subject].curves)
    for pair in found.values():
        assert {len(bars(pair, values)) for values in (pair.sick, pair.healthy)} == {48}


def test_most_conditions_have_curves() -> None:
    assert len(json.loads(CURVES.read_text())["curves"]) >= 15
