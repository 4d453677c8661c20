import math

import msgspec
import pytest

from equipoise import formatting
from equipoise.storage.records import Score


def test_a_list_is_shown_in_part_with_an_ellipsis_only_where_more_is_there() -> None:
    assert formatting.first_few(["a", "b"], 2) == "a, b"
    assert formatting.first_few(["a", "b", "c"], 2, "; ") == "a; b; …"
    assert formatting.first_few([], 2) == ""


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (950, "950"), (999.6, "1k"), (1000, "1k"), (12_345, "12.3k"), (60_000, "60k"), (999_700, "1M"),
     (1_234_567, "1.23M"), (2.5e9, "2.5G")],
)  # fmt: skip
def test_counts_have_three_digits(number, text):
    assert formatting.count(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (12.4, "0:12"), (59.6, "1:00"), (725, "12:05"), (3599.7, "1:00:00"), (10_925, "3:02:05"),
     (-3, "0:00"), (math.nan, "–"), (math.inf, "–")],
)  # fmt: skip
def test_durations_are_those_of_a_clock(seconds, text):
    assert formatting.duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (5, "1 minute"),
        (60, "1 minute"),
        (61, "2 minutes"),
        (15 * 60 + 3, "20 minutes"),
        (61 * 60, "90 minutes"),
        (91 * 60, "2 hours"),
        (9.5 * 3600, "10 hours"),
        (12 * 3600, "20 hours"),
    ],
)
def test_an_estimate_is_said_in_round_numbers_and_never_too_low(seconds, text):
    assert formatting.rough_duration(seconds) == text


@pytest.mark.parametrize(
    ("share", "text"), [(0.213, "21 %"), (0.999, "99 %"), (1.0, "100 %"), (0.29, "29 %"), (math.nan, "–")]
)
def test_a_share_is_rounded_down(share, text):
    assert formatting.percent(share) == text


@pytest.mark.parametrize(
    ("number", "error", "text"),
    [(0.03412, 0.0021, "0.034 ± 0.002"), (0.03412, 0.0014, "0.0341 ± 0.0014"), (0.03412, 0.00096, "0.034 ± 0.001"),
     (12.345, 0.5, "12.3 ± 0.5"), (123.4, 21.0, "123 ± 21"), (-0.0003, 0.0004, "-0.0003 ± 0.0004"),
     (-0.00001, 0.0024, "0.0000 ± 0.0024"),
     (0.03412, 0.0, "0.0341"), (0.03412, math.nan, "0.0341"), (0.5, None, "0.500"), (math.nan, 0.1, "–"),
     (1.0, 1e-320, "1 ± 1.00e-320"), (1e-300, 1e-301, "1.00e-300 ± 1.00e-301"), (1e300, 1.0, "1.00e+300 ± 1"),
     (None, None, "–")],
)  # fmt: skip
def test_a_score_has_the_digits_that_its_error_allows(number, error, text):
    assert formatting.with_error(number, error) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (12.345, "12.3"),
        (0.0, "0"),
        (3.0, "3"),
        (999.9, "1000"),
        (0.00051234, "0.000512"),
        (2e-7, "2.00e-07"),
        (math.inf, "–"),
    ],
)
def test_a_value_has_three_digits(number, text):
    assert formatting.value(number) == text


def score(samples: int, loss: float, error: float = 0.002) -> Score:
    return Score(samples=samples, seconds=1.0, loss=loss, error=error)


def test_the_progress_line_says_all_of_it():
    text = formatting.progress_line(12_345, 60_000, 4010.4, 12.0, score(12_000, 0.0341), score(9000, 0.0312))
    assert text == "12.3k / 60k samples · 20 % · 4,010/s · 0:12 left · KID 0.034 ± 0.002 (best 0.031)"


@pytest.mark.parametrize(
    ("changes", "is_chance"),
    [({}, True), ({"loss": 0.0312}, False), ({"compared_with": 8000}, False), ({"difference": math.nan}, False),
     ({"samples": 9000, "compared_with": 9000}, False), ({"broken": ("psnr",)}, False)],
)  # fmt: skip
def test_only_a_lower_score_that_was_paired_with_the_best_is_said_to_be_chance(changes, is_chance):
    best = score(9000, 0.0312)
    last = score(12_000, 0.0301)
    last = msgspec.structs.replace(last, compared_with=9000, difference=-0.001, difference_error=0.001)
    last = msgspec.structs.replace(last, **changes)
    assert formatting.is_lower_not_significant(last, best) == is_chance
    text = formatting.progress_line(12_345, None, math.nan, math.nan, last, best, "FID")
    assert ("(best 0.031;" in text) == (is_chance or bool(last.broken))
    assert ("significant" in text) == is_chance


def test_a_lower_score_that_misses_a_limit_comes_with_the_limit():
    best = score(9000, 1.0)
    last = msgspec.structs.replace(score(12_000, 0.5), compared_with=9000, difference=-0.5, difference_error=0.01)
    broken = msgspec.structs.replace(last, broken=("psnr", "consistency"))
    assert "psnr, consistency" in formatting.why_not_best(broken, best)
    assert "psnr" in formatting.progress_line(12_345, None, math.nan, math.nan, broken, best)
    assert formatting.why_not_best(msgspec.structs.replace(broken, loss=1.5), best) == ""
    assert formatting.why_not_best(msgspec.structs.replace(broken, loss=math.nan), best) == ""


def test_what_is_shown_is_one_line_without_control_characters():
    assert formatting.printable("a\x1b[31m\x9b1m\n\u202eb") == "a?[31m?1m??b"


def test_the_progress_line_leaves_out_what_is_not_known():
    assert formatting.progress_line(0, None, math.nan, math.nan) == "0 samples"
    best = score(100, 12.34, math.nan)
    assert formatting.progress_line(100, 50, 0.0, math.inf, best, best, "FID") == (
        "100 / 100 samples · 100 % · FID 12.3 (the best so far)"
    )


def test_a_text_is_wrapped_with_its_label_before_the_first_line_and_a_path_in_one_piece():
    path = "/" + "x" * 30
    lines = formatting.wrapped(f"one two {path} three", 20, "label", 8)
    assert lines == ["label   one two", f"        {path}", "        three"]
    assert formatting.wrapped("", 20, "label", 8) == ["label   "]
    assert formatting.wrapped("a\x1bb", 20) == ["a?b"]


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "none"), (True, "yes"), (False, "no"), (0.5, "0.5"), (3, "3"), ("x", "x"), ((), "none"), ([1, 2], "1, 2")],
)
def test_settings_are_shown_as_people_read_them(value, text):
    assert formatting.shown(value) == text


def test_a_width_and_a_height_are_shown_as_they_are_typed() -> None:
    assert formatting.shown((40, 30)) == formatting.shown([40, 30]) == "40x30"
    assert formatting.shown(("flip", "color")) == "flip, color"
    assert formatting.shown([1, 2, 3]) == "1, 2, 3"


def test_channels_are_told_in_words() -> None:
    words = [formatting.colours_of(channels) for channels in (1, 2, 3, 4, 16)]
    assert len(set(words)) == 5
    assert words[-1] == "16 channels"
