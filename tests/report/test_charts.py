import math
import xml.etree.ElementTree as ElementTree

import pytest

from equipoise.report.charts import (
    Axis,
    Level,
    Line,
    Svg,
    finest_of,
    histogram,
    line_chart,
    line_of,
    log_ticks,
    reach,
    signed_ticks,
    stretched,
    ticks,
    wants_log,
    waveform,
)

SVG = "{http://www.w3.org/2000/svg}"
SIZE = {"title": "t", "width": 400, "height": 200}


def parsed(chart: str) -> ElementTree.Element:
    return ElementTree.fromstring(chart.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))


def of_class(chart: str, kind: str) -> list[ElementTree.Element]:
    return [element for element in parsed(chart).iter() if (element.get("class") or "").split(" ")[0] == kind]


def numbers(chart: str, kind: str) -> list[tuple[float, float]]:
    text = of_class(chart, kind)[0].get("points") or ""
    return [tuple(map(float, pair.split(","))) for pair in text.split()]  # type: ignore[misc]


def texts(chart: str) -> list[str]:
    return [element.text or "" for element in parsed(chart).iter(f"{SVG}text")]


def heights(chart: str) -> list[float]:
    """Return the pixels of the levels."""
    return [float((element.get("d") or "").split(" ")[1].split("H")[0]) for element in of_class(chart, "level")]


def falling(num: int = 20, start: float = 1.0, end: float = 0.1) -> Line:
    return line_of("loss", list(range(num)), [start + (end - start) * at / (num - 1) for at in range(num)])


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, [0, 0.5, 1]), (0, 2_400_000, [0, 1e6, 2e6]), (-0.3, 0.3, [-0.2, 0, 0.2]), (3, 7, [3, 4, 5, 6, 7])],
)
def test_ticks_are_round_and_within_the_range(low, high, expected):
    assert ticks(low, high) == pytest.approx(expected)


@pytest.mark.parametrize("scale", [1e-7, 1e-3, 1.0, 37.0, 1e9])
def test_there_are_always_a_few_ticks(scale):
    assert 2 <= len(ticks(0.13 * scale, 1.91 * scale)) <= 6


def test_a_range_around_zero_has_more_ticks_than_zero_alone():
    assert ticks(-0.0049, 0.0049) == pytest.approx([-0.004, -0.002, 0, 0.002, 0.004])


def test_log_ticks_are_powers_of_ten_with_2_and_5_between_near_ones():
    assert log_ticks(0.009, 0.6) == pytest.approx([0.01, 0.02, 0.05, 0.1, 0.2, 0.5])
    assert log_ticks(1e-4, 10.0) == pytest.approx([1e-4, 1e-3, 1e-2, 0.1, 1, 10])
    assert len(log_ticks(1e-30, 1e30)) <= 7


@pytest.mark.parametrize(
    ("ys", "expected"), [([0.5, 0.01, math.nan], True), ([0.5, -0.01], False), ([0.5, 0.1], False), ([], False)]
)
def test_a_log_axis_is_for_positive_values_far_apart(ys, expected):
    assert wants_log([line_of("", list(range(len(ys))), ys)]) is expected


@pytest.mark.parametrize(
    ("ys", "error", "expected"),
    [
        ([66.0, 8.0, 0.02, -0.01], 0.01, 0.025),
        ([-66.0, -8.0, 0.02, -0.01], 0.01, 0.025),
        ([0.5, 0.3, 0.1, -0.01], 0.01, 0.0),
        ([1.0, 1.0, 1.0, 1.0], 0.0, 0.0),
        ([], 0.0, 0.0),
    ],
)
def test_a_scale_about_zero_is_for_lines_that_end_in_noise_far_below_their_start(ys, error, expected):
    line = line_of("", list(range(len(ys))), ys, [error] * len(ys))
    assert finest_of([line]) == pytest.approx(expected)


def test_a_signed_scale_shows_the_end_of_a_line_the_levels_beside_it_and_its_start():
    line = line_of("KID", [0, 1, 2, 3, 4], [66.0, 2.0, 0.04, 0.01, -0.01], [0.01] * 5)
    finest = finest_of([line])
    levels = [Level(3.0, "floor"), Level(0.001, "ceiling")]
    flat = numbers(line_chart([line], **SIZE), "line")
    chart = line_chart([line], **SIZE, finest=finest, levels=levels)
    drawn = numbers(chart, "line")
    assert flat[4][1] - flat[2][1] < 1 < 5 < drawn[4][1] - drawn[2][1]
    assert len(heights(chart)) == 2
    low, high = reach([line], log=False, finest=finest)
    assert low < -0.01 < 66 < high
    assert {"0", "0.1", "1", "10"} <= set(texts(chart))


def test_ticks_of_a_signed_scale_are_zero_and_powers_of_ten_on_both_sides():
    places = stretched(-0.5, 0.02), stretched(66.0, 0.02)
    assert signed_ticks(*places, 0.02) == pytest.approx([-0.1, 0, 0.1, 1, 10])
    assert signed_ticks(stretched(0.05, 1.0), stretched(0.5, 1.0), 1.0) == []
    assert len(signed_ticks(stretched(-1e30, 1.0), stretched(1e30, 1.0), 1.0)) <= 11


def test_an_axis_maps_its_ends_and_its_geometric_middle():
    linear, log = Axis(0, 10, 100, 200), Axis(0.01, 1, 100, 200, log=True)
    assert [linear.at(value) for value in (0, 5, 10)] == [100, 150, 200]
    assert [log.at(value) for value in (0.01, 0.1, 1)] == pytest.approx([100, 150, 200])
    assert log.at(-3) == 100


def test_the_band_lies_one_error_above_and_below_the_line():
    line = line_of("KID", [0, 100, 200], [0.5, 0.4, 0.3], [0.1, 0.05, math.nan])
    assert [point.low for point in line.points] == pytest.approx([0.4, 0.35, 0.3])
    assert [point.high for point in line.points] == pytest.approx([0.6, 0.45, 0.3])
    chart = line_chart([line], **SIZE, bounds=(0.0, 1.0))
    stroke, band = numbers(chart, "line"), numbers(chart, "band")
    assert [x for x, _ in band] == [x for x, _ in stroke] + [x for x, _ in reversed(stroke)]
    scale = (stroke[0][1] - stroke[1][1]) / (0.5 - 0.4)
    assert band[0][1] - stroke[0][1] == pytest.approx(0.1 * scale, abs=0.2)
    assert band[-1][1] - stroke[0][1] == pytest.approx(-0.1 * scale, abs=0.2)


def test_many_points_are_averaged_with_the_band_over_their_range():
    line = line_of("loss", list(range(10_000)), [index % 2 for index in range(10_000)])
    assert len(line.points) <= 240
    assert line.points[-1].x == 9999
    assert {(point.y, point.low, point.high) for point in line.points[:-1]} == {(0.5, 0, 1)}


def test_values_that_are_not_finite_are_left_out():
    line = line_of("loss", [1, 2, 3, 4], [1.0, math.nan, math.inf, 2.0])
    assert [point.x for point in line.points] == [1, 4]
    assert line_chart([line_of("loss", [1, 2], [1.0, math.nan])], **SIZE) == ""
    assert line_chart([], **SIZE) == ""


@pytest.mark.parametrize(
    "ys", [[1.0] * 5, [0.0] * 5, [1e-9, 1.0, 1e9], [-1.0, 0.0, 1.0], [1e300, 1e301], [0.5, -0.5] * 300]
)
def test_every_chart_is_well_formed_and_its_line_within_reach(ys):
    mark = (1.0, ys[1], "best <1>")
    line = line_of("a < b & c", list(range(len(ys))), ys)
    options = {"log": wants_log([line]), "mark": mark, "levels": [Level(0.5, "half <2>"), Level(ys[0], "first")]}
    chart = line_chart([line], title='t"<', width=400, height=200, **options)
    assert "nan" not in chart
    assert "inf" not in chart
    for x, y in numbers(chart, "line"):
        assert 0 <= x <= 400
        assert math.isfinite(y)
    assert {"best <1>", "a < b & c", "first"} <= set(texts(chart))


def test_a_chart_is_taken_as_it_is_and_a_text_is_not():
    import jinja2

    chart = line_chart([line_of("<b>", [0, 1], [1.0, 2.0])], **SIZE)
    template = jinja2.Environment(autoescape=True).from_string("{{ chart }}{{ text }}")
    assert template.render(chart=chart, text="<b>") == f"{chart}&lt;b&gt;"
    assert type(chart) is Svg
    assert "<b>" not in chart


def test_rare_extremes_do_not_flatten_everything_else():
    ys = [1.0 + 0.1 * math.sin(index) for index in range(200)]
    ys[3] = 1000.0
    levels = sorted(y for _, y in numbers(line_chart([line_of("loss", list(range(200)), ys)], **SIZE), "line"))[1:]
    assert levels[-1] - levels[0] > 80


def test_labels_at_the_ends_of_near_lines_do_not_touch():
    lines = [line_of("real", [0, 1], [0.5, 0.5]), line_of("fake", [0, 1], [0.5, 0.501], tone="ink")]
    labels = [float(element.get("y") or 0) for element in of_class(line_chart(lines, **SIZE), "label")]
    assert abs(labels[0] - labels[1]) >= 15


def test_a_level_within_reach_is_drawn_at_its_height_and_widens_the_range():
    plain = line_chart([falling()], **SIZE)
    chart = line_chart([falling()], **SIZE, levels=[Level(0.55, "middle"), Level(1.3, "above")])
    middle, above = heights(chart)
    line = numbers(chart, "line")
    assert middle == pytest.approx((line[0][1] + line[-1][1]) / 2, abs=0.2)
    assert above < line[0][1] < numbers(plain, "line")[-1][1]
    assert {"middle", "above"} <= set(texts(chart))


@pytest.mark.parametrize(("start", "end"), [(1.0, 0.1), (1.0, 0.001)])
def test_a_level_far_away_is_left_out_and_does_not_flatten_the_line(start, end):
    lines = [line_of("loss", [0, 1, 2], [start, math.sqrt(start * end), end])]
    log = wants_log(lines)
    low, high = reach(lines, log)
    far = [Level(2 * high, "high"), Level(low - 1.0, "low"), Level(-5.0, "negative")]
    assert line_chart(lines, **SIZE, log=log, levels=far) == line_chart(lines, **SIZE, log=log)
    near = line_chart(lines, **SIZE, log=log, levels=[Level(high, "top"), Level(low, "bottom")])
    points = numbers(near, "line")
    assert points[-1][1] - points[0][1] > 0.4 * (200 - 14 - 30)
    assert len(heights(near)) == 2


def test_the_label_of_a_level_stands_where_the_lines_are_not():
    chart = line_chart([falling(end=0.0)], **SIZE, levels=[Level(1.0, "floor"), Level(0.0, "ceiling")])
    anchors = {element.text: element.get("text-anchor") for element in of_class(chart, "label")}
    assert (anchors["floor"], anchors["ceiling"]) == ("end", "start")


def test_labels_of_near_levels_do_not_touch():
    chart = line_chart([falling()], **SIZE, levels=[Level(1.0, "one"), Level(1.01, "two")])
    places = [float(element.get("y") or 0) for element in of_class(chart, "label") if element.text in ("one", "two")]
    assert abs(places[0] - places[1]) >= 15


def test_a_waveform_is_as_high_as_its_peaks():
    bars = (of_class(waveform([0.0, 0.5, 1.0], "t"), "wave")[0][0].get("d") or "").split("M")[1:]
    tops = [float(bar.split(" ")[1].split("V")[0]) for bar in bars]
    assert tops == [20.0, 10.5, 1.0]


def test_a_histogram_counts_its_values():
    chart = histogram([0.0, 0.1, 0.2, 1.0], "t", num=2)
    bars = (of_class(chart, "histogram")[0][0].get("d") or "").split("z")[:-1]
    assert [float(bar.split("v-")[1].split("h")[0]) for bar in bars] == pytest.approx([20, 20 / 3], abs=0.06)
    assert histogram([3.0, 3.0], 'a"<') == histogram([3.0, 3.0], 'a"<')
    assert "nan" not in histogram([3.0, 3.0], "t")
