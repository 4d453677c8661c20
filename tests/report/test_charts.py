import math
import xml.etree.ElementTree as ElementTree

import pytest

from equipoise.report.charts import Axis, line_chart, line_of, log_ticks, ticks, wants_log

SVG = "{http://www.w3.org/2000/svg}"


def parsed(chart: str) -> ElementTree.Element:
    return ElementTree.fromstring(chart.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))


def numbers(chart: str, kind: str) -> list[tuple[float, float]]:
    element = next(e for e in parsed(chart).iter() if (e.get("class") or "").startswith(kind))
    return [tuple(map(float, pair.split(","))) for pair in (element.get("points") or "").split()]  # type: ignore[misc]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 1, [0, 0.5, 1]), (0, 2_400_000, [0, 1e6, 2e6]), (-0.3, 0.3, [-0.2, 0, 0.2]), (3, 7, [3, 4, 5, 6, 7])],
)
def test_ticks_are_round_and_within_the_range(low, high, expected):
    assert ticks(low, high) == pytest.approx(expected)


@pytest.mark.parametrize("scale", [1e-7, 1e-3, 1.0, 37.0, 1e9])
def test_there_are_always_a_few_ticks(scale):
    assert 2 <= len(ticks(0.13 * scale, 1.91 * scale)) <= 6


def test_log_ticks_are_powers_of_ten_with_2_and_5_between_near_ones():
    assert log_ticks(0.009, 0.6) == pytest.approx([0.01, 0.02, 0.05, 0.1, 0.2, 0.5])
    assert log_ticks(1e-4, 10.0) == pytest.approx([1e-4, 1e-3, 1e-2, 0.1, 1, 10])
    assert len(log_ticks(1e-30, 1e30)) <= 7


def test_a_log_axis_is_for_positive_values_far_apart():
    assert wants_log([0.5, 0.01, math.nan])
    assert not wants_log([0.5, -0.01])
    assert not wants_log([0.5, 0.1])
    assert not wants_log([])


def test_an_axis_maps_its_ends_and_its_geometric_middle():
    linear, log = Axis(0, 10, 100, 200), Axis(0.01, 1, 100, 200, log=True)
    assert [linear.at(value) for value in (0, 5, 10)] == [100, 150, 200]
    assert [log.at(value) for value in (0.01, 0.1, 1)] == pytest.approx([100, 150, 200])
    assert log.at(-3) == 100


def test_the_band_lies_one_error_above_and_below_the_line():
    line = line_of("KID", [0, 100, 200], [0.5, 0.4, 0.3], [0.1, 0.05, math.nan])
    assert [point.low for point in line.points] == pytest.approx([0.4, 0.35, 0.3])
    assert [point.high for point in line.points] == pytest.approx([0.6, 0.45, 0.3])
    chart = line_chart([line], title="KID", width=400, height=200, bounds=(0.0, 1.0))
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
    assert line_chart([line_of("loss", [1, 2], [1.0, math.nan])], title="t", width=400, height=200) == ""
    assert line_chart([], title="t", width=400, height=200) == ""


@pytest.mark.parametrize(
    "ys", [[1.0] * 5, [0.0] * 5, [1e-9, 1.0, 1e9], [-1.0, 0.0, 1.0], [1e300, 1e301], [0.5, -0.5] * 300]
)
def test_every_chart_is_well_formed_and_its_line_within_reach(ys):
    mark = (1.0, ys[1], "best <1>")
    line = line_of("a < b & c", list(range(len(ys))), ys)
    chart = line_chart([line], title='t"<', width=400, height=200, log=wants_log(ys), mark=mark, reference=0.5)
    assert "nan" not in chart.replace("Nan", "")
    assert "inf" not in chart
    for x, y in numbers(chart, "line"):
        assert 0 <= x <= 400
        assert math.isfinite(y)
    assert any(element.text == "best <1>" for element in parsed(chart).iter(f"{SVG}text"))


def test_rare_extremes_do_not_flatten_everything_else():
    ys = [1.0 + 0.1 * math.sin(index) for index in range(200)]
    ys[3] = 1000.0
    chart = line_chart([line_of("loss", list(range(200)), ys)], title="t", width=400, height=200)
    levels = sorted(y for _, y in numbers(chart, "line"))[1:]
    assert levels[-1] - levels[0] > 80


def test_labels_at_the_ends_of_near_lines_do_not_touch():
    lines = [line_of("real", [0, 1], [0.5, 0.5]), line_of("fake", [0, 1], [0.5, 0.501], tone="ink")]
    chart = line_chart(lines, title="t", width=400, height=200, bounds=(0.0, 1.0))
    labels = [float(e.get("y") or 0) for e in parsed(chart).iter(f"{SVG}text") if "label" in (e.get("class") or "")]
    assert abs(labels[0] - labels[1]) >= 15


def test_a_range_around_zero_has_more_ticks_than_zero_alone():
    assert ticks(-0.0049, 0.0049) == pytest.approx([-0.004, -0.002, 0, 0.002, 0.004])
