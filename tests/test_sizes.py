"""The size of images, as people write it."""

import pytest

from equipoise.errors import Option, Setting, UserError
from equipoise.sizes import Size, parsed_size, refuse_size, size_of, size_of_shape, typed_size


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("64", 64),
        ("40x30", (40, 30)),
        ("40X30", (40, 30)),
        ("40×30", (40, 30)),
        (" 40 x 30 ", (40, 30)),
        ("40,30", (40, 30)),
        ("(40, 30)", (40, 30)),
        ("32x32", 32),
        ("8x1024", (8, 1024)),
    ],
)
def test_a_size_is_read_as_people_write_it(text: str, found: int | tuple[int, int]) -> None:
    assert parsed_size(text, Option("size", text)) == found


@pytest.mark.parametrize(
    ("text", "lacking", "typed"),
    [
        ("40x0", "height is less than 8", 40),
        ("40x", "height is missing", 40),
        ("x30", "width is missing", 30),
        ("7x7", "width is less than 8", 8),
        ("2000x10", "width is more than 1024", "1024x10"),
        ("10x-5", "height is less than 8", 10),
        ("5000", "side is more than 1024", 1024),
        ("0", "side is less than 8", 8),
        ("large", "", 64),
        ("40x30x3", "", 64),
        ("4e2", "", 64),
        ("x", "", 64),
        ("", "", 64),
        ("9" * 40, "", 64),
    ],
)
def test_a_wrong_size_is_refused_with_what_is_wrong_and_what_to_type(text: str, lacking: str, typed: int | str) -> None:
    for subject in (Option("size", text), Setting("task.size", text)):
        with pytest.raises(UserError) as error:
            parsed_size(text, subject)
        remedy = error.value.remedies[0]
        assert lacking in error.value.problem
        assert "1024" in error.value.problem
        assert isinstance(remedy, Option | Setting)
        assert (type(remedy), remedy.value) == (type(subject), typed)


def test_a_size_is_kept_written_and_typed_as_width_and_height() -> None:
    size = size_of((40, 30))
    assert (size.given, size.plain, size.typed, str(size)) == ((40, 30), [40, 30], "40x30", "40 × 30")
    assert (size.pixels, size.side) == (1200, 35)
    square = size_of(64)
    assert (square.given, square.plain, square.typed) == (64, 64, 64)
    assert size_of_shape((10, 3, 30, 40)) == size
    assert [typed_size(given) for given in (64, (40, 30), [40, 30], "40x30")] == ["64", "40x30", "40x30", "40x30"]


@pytest.mark.parametrize("given", [7, 1025, (40, 7), (1025, 40)])
def test_a_recipe_with_a_size_out_of_bounds_is_refused(given: int | tuple[int, int]) -> None:
    with pytest.raises(UserError):
        refuse_size(given)


def test_the_largest_and_the_smallest_size_are_allowed() -> None:
    refuse_size(8)
    refuse_size(Size(1024, 8))
