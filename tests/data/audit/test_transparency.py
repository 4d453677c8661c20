"""Transparent images: how many vanish on the background, and on which they would not."""

import numpy as np
import pytest

from equipoise.data.audit.transparency import COLORS, GREYS, Tally
from equipoise.data.decode import parse_background

WHITE = (255, 255, 255)


def sprite(*colors: tuple[int, int, int]) -> np.ndarray:
    """Return a picture with a row of each colour below a transparent one, in which a colour hides."""
    rgba = np.zeros((1 + len(colors), 8, 4), dtype=np.uint8)
    rgba[0] = (0, 255, 0, 0)
    for row, color in enumerate(colors, 1):
        rgba[row] = (*color, 255)
    return rgba


def tally(*pictures: np.ndarray, background: tuple[int, int, int] = WHITE) -> Tally:
    counted = Tally(background)
    for picture in pictures:
        counted.add(picture)
    return counted


def test_pictures_mostly_in_the_colour_of_the_background_are_counted_as_vanishing():
    counted = tally(sprite(WHITE, WHITE, (9, 9, 9)), sprite((240, 240, 240)), sprite(WHITE, (9, 9, 9)))
    found = counted.found(is_grey=False)
    assert (found.num, found.num_blank, found.num_vanishing) == (3, 0, 2)
    assert found.suggested == "gray", "black occurs"


def test_what_is_transparent_has_no_colour():
    found = tally(sprite((250, 250, 250))).found(is_grey=False)
    assert (found.num_vanishing, found.suggested, found.share) == (1, "black", 0)


def test_a_picture_of_which_nothing_is_seen_is_counted_and_vanishes_nowhere():
    found = tally(np.zeros((4, 4, 4), dtype=np.uint8)).found(is_grey=False)
    assert (found.num, found.num_blank, found.num_vanishing, found.suggested) == (1, 1, 0, None)


def test_where_every_colour_occurs_the_rarest_is_suggested_with_its_share():
    every = sprite(WHITE, WHITE, WHITE, *map(parse_background, (*COLORS[:-1], *COLORS[:-1], *COLORS)))
    found = tally(every, sprite(WHITE)).found(is_grey=False)
    assert found.suggested == COLORS[-1]
    assert found.share == pytest.approx(1 / 28 / 2)


def test_grey_pictures_are_given_a_grey_background():
    pictures = sprite(*[(value, value, value) for value in (255, 255, 255, 0, 128)])
    assert tally(pictures).found(is_grey=True).suggested in GREYS
    assert tally(pictures).found(is_grey=False).suggested not in GREYS


def test_no_other_background_is_suggested_where_none_is_better():
    assert tally(sprite((9, 9, 9))).found(is_grey=False).suggested is None
    found = tally(sprite((0, 0, 0), WHITE), background=(0, 0, 0)).found(is_grey=False)
    assert found.num_vanishing == 0


def test_another_background_is_worth_it_from_one_picture_in_a_hundred():
    few = tally(sprite(WHITE), *[sprite((9, 9, 9))] * 199).found(is_grey=False)
    assert (few.num_vanishing, few.is_worth_another) == (1, False)
    assert tally(sprite(WHITE), *[sprite((9, 9, 9))] * 99).found(is_grey=False).is_worth_another
