"""A recipe as a page: its boxes are those of its settings, do not overlap, and hold their texts."""

import re
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from xml.etree import ElementTree

import pytest

from equipoise.recipes import NAMES, RecipeName
from equipoise.recipes.drawing import LEFT, drawing_of, framed, in_characters
from equipoise.recipes.explained import explained
from equipoise.report.recipe_page import WIDE, picture, write_recipe

MOST_LETTERS = 32  # of a line in a box, at 6.2 pixels a letter


@pytest.mark.parametrize("name", NAMES)
def test_the_picture_of_a_recipe_has_boxes_side_by_side_that_hold_their_texts(name: RecipeName) -> None:
    drawing = explained(name).drawing
    image = ElementTree.fromstring(picture(drawing))
    _, _, width, height = map(float, image.attrib["viewBox"].split())
    edges = []
    for group in image.iter("g"):
        rectangle = group.find("rect")
        assert rectangle is not None
        left, top, wide, high = (float(rectangle.attrib[key]) for key in ("x", "y", "width", "height"))
        assert 0 <= left <= left + wide <= width
        assert 0 <= top <= top + high <= height + 1
        for text in group.iter("text"):
            assert left < float(text.attrib["x"]) < left + wide
            assert top < float(text.attrib["y"]) < top + high
        edges.append((left, top, left + wide, top + high))
    assert len(edges) == len(drawing.boxes) == 5
    for one, other in combinations(edges, 2):
        assert one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
    for box in drawing.boxes:
        assert all(len(line) <= MOST_LETTERS < WIDE / 6 for line in box.lines), box


@pytest.mark.parametrize("name", NAMES)
def test_the_picture_in_characters_cuts_no_text_off(name: RecipeName) -> None:
    drawing = explained(name).drawing
    lines = in_characters(drawing)
    assert max(map(len, lines)) <= 80
    whole = "\n".join(lines)
    for box in drawing.boxes:
        assert all(line in whole for line in (box.title, *box.lines)), box


def test_boxes_say_what_settings_make_of_a_game() -> None:
    said = {
        name: " ".join(text for box in explained(name).drawing.boxes for text in (box.title, *box.lines))
        for name in NAMES
    }
    for name, part in (
        ("acgan", "it names it"),
        ("acgan", "1 · naming the class"),
        ("cgan", "by concatenation"),
        ("infogan", "a category of 10"),
        ("infogan", "2 numbers in −1..1"),
        ("pacgan", "packs of 2"),
        ("ensemble", "3 discriminators D"),
        ("multi-scale", "at 2 scales"),
        ("ebgan", "an autoencoder"),
        ("photos", "2 discriminators D"),
        ("photos", "50 groups"),
        ("wgan", "5 steps for each of G"),
        ("wgan", "clipped to ±0.01"),
        ("modern", "r1+r2, γ 0.3 → 0.1"),
        ("hinge-sn", "spectral norm"),
    ):
        assert part in said[name], name
        assert part not in said["lsgan"]


def test_a_box_in_characters_is_as_wide_as_asked_and_is_left_below() -> None:
    box = framed(drawing_of(explained("dcgan").recipe).latents, LEFT, down=True)
    assert {len(line) for line in box} == {LEFT}
    assert box[-1].index("┬") == LEFT // 2


def test_the_settings_of_a_recipe_are_those_that_differ_from_the_defaults_and_no_others() -> None:
    fields = {field: (value, default) for field, value, default in explained("infogan").settings}
    assert fields["networks.categorical_codes"] == ("10", "0")
    assert fields["game.loss"] == ("non-saturating", "relativistic")
    assert "game.batch" not in fields
    assert "name" not in fields


@pytest.mark.parametrize("name", NAMES)
def test_the_page_of_a_recipe_holds_all_that_explains_it_with_every_text_escaped(
    name: RecipeName, tmp_path: Path
) -> None:
    found = explained(name)
    found = replace(found, about=replace(found.about, purpose=f"<script>{found.about.purpose}"))
    write_recipe(tmp_path / "page.html", found)
    page = (tmp_path / "page.html").read_text("utf-8")
    assert "<script>" not in page
    assert "default-src 'none'" in page
    text = re.sub(r"<[^>]*>", " ", page)
    for field, _, _ in found.settings:
        assert field in text
    assert name in text
    assert found.about.formulas[0].replace("<", "&lt;").replace("'", "&#39;") in page
