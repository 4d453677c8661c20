"""The charts of the scores: what decides in large, levels for baselines and limits, the other metrics in small."""

import re

import msgspec
import pytest
from fake_runs import PROTOCOL, change_state, data_record, rivals

from equipoise.report.scores import BEST
from equipoise.storage.logs import records
from equipoise.storage.records import Metric, Rivals, RivalScore, Score, lenient

LOSS = Metric(name="distance", label="Distance", meaning="to the truth", decides=True)
EVIL = "<script>alert(1)</script>"


def rescore(run, **changes):
    """Write the scores of a run again, each with what a function makes of its place and its loss."""
    found = [(lenient(Score, record), record.get("best") is True) for record in records(run.scores)]
    run.scores.unlink()
    for index, (score, is_best) in enumerate(found):
        values = {name: make(index, score) for name, make in changes.items()}
        run.log_score(msgspec.structs.replace(score, **values), is_best=is_best)


def with_metrics(run, *metrics, **values):
    """Let a run measure other metrics: each a function of the place of the score."""
    run.write_data(data_record(metrics=(LOSS, *metrics)))
    rescore(run, values=lambda index, score: {name: make(index) for name, make in values.items()})


def baseline(role, loss, name="", **more):
    return RivalScore(**{"name": name or f"a {role}", "role": role, "loss": loss, "error": 0.001, "num": 2000, **more})


def charts(found):
    return [figure.attributes["data-chart"] for figure in found.one("section", id="scores").all("figure")]


def levels(figure):
    """Return the labels of the levels that are drawn, and the pixels of their lines."""
    chart = figure.all("svg", class_="chart")[0]
    labels = [text.text for text in chart.all("text", class_="label ink halo")]
    heights = [float(re.findall(r"[\d.]+", path.attributes["d"])[1]) for path in chart.all("path", class_="level")]
    return labels, heights


def test_what_decides_is_large_with_its_band_and_the_others_are_small(tmp_path, fake_run, page):
    found = page(fake_run(tmp_path / "run", num_steps=5))
    assert charts(found) == ["kid", "fid", "precision", "coverage"]
    kid, fid = (found.one("figure", data_chart=name) for name in ("kid", "fid"))
    assert [len(figure.all("svg")) for figure in (kid, fid)] == [2, 1]
    assert kid.all("polygon")
    assert not fid.all("polygon")
    assert [len(kid.all("circle", class_="best")), len(kid.all("circle", class_="ring"))] == [2, 2]


def test_shares_that_belong_together_share_a_chart_where_both_are_there(tmp_path, fake_run, page):
    run = fake_run(tmp_path / "run", num_steps=5)
    recall, precision = Metric(name="recall", better="higher"), Metric(name="precision", better="higher")
    for metrics, expected in (([recall, precision], [2]), ([recall], [1])):
        with_metrics(run, *metrics, **{metric.name: lambda index: index / 40 for metric in metrics})
        figures = page(run).one("section", id="scores").all("figure")[1:]
        assert [len(figure.all("polyline")) for figure in figures] == expected


def test_a_metric_of_any_task_is_drawn_with_its_meaning_and_what_is_better(tmp_path, fake_run, page):
    run = fake_run(tmp_path / "run", num_steps=5)
    psnr = Metric(name="psnr", label="PSNR", meaning="fidelity to the input", unit="dB", better="higher")
    with_metrics(run, psnr, psnr=lambda index: 27 + index / 10)
    found = page(run)
    assert charts(found) == ["distance", "psnr"]
    figure = found.one("figure", data_chart="psnr")
    assert psnr.unit in figure.one("h3").text
    caption = figure.one("figcaption").text
    assert psnr.meaning[1:] in caption
    assert psnr.better in caption
    assert figure.one("svg").all("text")[-1].text == "PSNR"


def test_values_that_no_metric_describes_are_drawn_without_a_meaning(tmp_path, fake_run, page):
    run = fake_run(tmp_path / "run", num_steps=5)
    with_metrics(run, distance=lambda index: 1.0, discriminator_gap=lambda index: 0.1, own=lambda index: 2.0)
    found = page(run)
    assert charts(found) == ["distance", "discriminator_gap", "own"]
    captions = [found.one("figure", data_chart=name).one("figcaption").text for name in charts(found)[1:]]
    assert [bool(caption) for caption in captions] == [True, False]


@pytest.mark.parametrize(("guard", "is_drawn"), [(28.0, True), (300.0, False)])
def test_a_guard_is_a_level_with_its_limit_unless_it_would_flatten_the_line(tmp_path, fake_run, page, guard, is_drawn):
    run = fake_run(tmp_path / "run", num_steps=5)
    with_metrics(run, Metric(name="psnr", better="higher", guard=guard), psnr=lambda index: 27 + index / 10)
    figure = page(run).one("figure", data_chart="psnr")
    assert levels(figure)[0] == [f"limit {guard:g}"] * is_drawn
    assert figure.one("figcaption").text.count(f"{guard:g}") == (1 if is_drawn else 2)


def test_guards_stand_in_the_head_before_other_metrics(tmp_path, fake_run, page):
    run = fake_run(tmp_path / "run", num_steps=5)
    guarded = [Metric(name="a", guard=2.0, unit="dB"), Metric(name="b", guard=1.0), Metric(name="c", guard=1.0)]
    with_metrics(run, Metric(name="x"), Metric(name="y"), *guarded)
    best = run.read_state().best
    values = {"x": 1.0, "y": 2.0, "a": 1.5, "b": 0.25}
    change_state(run, best=msgspec.structs.replace(best, values=values))
    numbers = {one.attributes["data-number"]: one.one("dd").text for one in page(run).all("div", data_number="*")}
    assert list(numbers) == ["best", "test", "a", "b", "x", "samples", "time", "speed"]
    assert (numbers["a"], numbers["b"]) == ("1.50 dB", "0.250")


def test_baselines_within_reach_are_levels_at_their_height_and_others_are_named_below(tmp_path, fake_run, page):
    run = fake_run(tmp_path / "run", num_steps=5, num_scores=10)
    rescore(run, loss=lambda index, score: 1.0 - index / 20, error=lambda index, score: 0.0)
    change_state(run, best=None)
    scores = (baseline("floor", 6.83), baseline("rival", 0.775), baseline("ceiling", 0.5))
    run.write_rivals(Rivals(protocol=PROTOCOL, scores=scores))
    figure = page(run).one("figure", data_chart="kid")
    labels, heights = levels(figure)
    assert [label.split(" (")[0] for label in labels] == ["rival 0.7750", "ceiling 0.5000"]
    ys = [float(pair.split(",")[1]) for pair in figure.all("polyline")[0].attributes["points"].split()]
    assert heights[0] == pytest.approx((ys[4] + ys[5]) / 2, abs=0.2)
    assert heights[1] > ys[-1]
    assert "6.8300" in figure.one("figcaption").text


def test_baselines_of_another_protocol_are_not_drawn_beside_the_scores(tmp_path, fake_run, page):
    run = fake_run(tmp_path / "run", num_steps=5)
    assert levels(page(run).one("figure", data_chart="kid"))[0]
    run.write_rivals(rivals(PROTOCOL | {"seed": 7}, best=False))
    change_state(run, rivals=None)
    found = page(run)
    assert levels(found.one("figure", data_chart="kid")) == ([], [])
    assert not found.all("section", id="baselines")
    assert not found.all("p", data_scale="*")


def test_the_table_of_baselines_goes_from_the_worst_to_the_best_on_both_splits(tmp_path, fake_run, page):
    run = fake_run(tmp_path / "run", num_steps=5)
    failed = baseline("rival", float("nan"), "broken", failure=f"ValueError: {EVIL}")
    run.write_rivals(Rivals(protocol=PROTOCOL, scores=(*rivals(PROTOCOL, best=False).scores, failed)))
    found = page(run)
    rows = found.one("section", id="baselines").one("table").cells()
    floor, ceiling = (score.name for score in rivals(PROTOCOL, best=False).scores)
    assert rows[1:4] == [
        ["floor", floor, "0.320 ± 0.004", "0.320 ± 0.004", "-0.310 ± 0.004"],
        ["", BEST, "0.0074 ± 0.0009", "0.0104 ± 0.0009", "–"],
        ["ceiling", ceiling, "0.0002 ± 0.0003", "0.0002 ± 0.0003", "–"],
    ]
    assert rows[4][:2] == ["rival", "broken"]
    assert failed.failure in rows[4][2]
    assert found.one("tr", data_role="best").attributes["class"] == "winner"
    assert "0.310" in found.one("p", data_scale="*").text
    change_state(run, rivals=None, test=None)
    rows = page(run).one("section", id="baselines").one("table").cells()
    assert {len(row) for row in rows} == {3}


def test_differences_are_drawn_with_bars_and_the_best_ones_are_ringed(tmp_path, fake_run, page):
    run = fake_run(tmp_path / "run", num_steps=5, num_scores=6)
    assert "difference" not in charts(page(run))
    differences = [float("nan"), -0.5, -0.02, 0.001, 0.002, -0.001]
    rescore(run, difference=lambda index, score: differences[index], difference_error=lambda index, score: 0.004)
    figure = page(run).one("figure", data_chart="difference")
    bars = [path for path in figure.all("path") if path.attributes["class"].startswith("bars")]
    assert [path.attributes["d"].count("M") for path in bars] == [5, 5]
    assert figure.one("figcaption").text.endswith(": 2.")


def test_points_below_the_best_one_come_with_why_they_are_not_the_best(tmp_path, fake_run, page):
    run = fake_run(tmp_path / "run", num_steps=5, num_scores=6)

    def caption():
        return page(run).one("section", id="scores").all("figcaption")[0].text

    plain = caption()
    change_state(run, best=lenient(Score, records(run.scores)[2]))
    assert caption() == plain  # nobody knows why
    rescore(run, difference=lambda index, score: -0.0001, difference_error=lambda index, score: 0.004)
    assert "significantly" in caption()
    run.write_data(data_record(metrics=(LOSS, Metric(name="psnr", guard=1.0))))
    rescore(run, broken=lambda index, score: ("psnr",) if index > 2 else ())
    assert "limit" in caption()


def test_scores_of_another_protocol_are_not_drawn_beside_the_last_one(tmp_path, fake_run, page):
    run = fake_run(tmp_path / "run", num_steps=5, num_scores=3)
    line = lenient(Score, records(run.scores)[-1])
    for samples in (9_000_000, 9_100_000, 9_200_000, 9_300_000):
        run.log_score(msgspec.structs.replace(line, samples=samples, protocol={"features": "another"}), is_best=False)
    points = page(run).one("figure", data_chart="kid").all("polyline")[0].attributes["points"]
    assert len(points.split()) == 4


def test_texts_of_metrics_and_baselines_are_inert(tmp_path, fake_run, page):
    run = fake_run(tmp_path / "run", num_steps=5)
    decides = Metric(name="a", label=EVIL, meaning=EVIL, unit=EVIL, decides=True)
    guards = msgspec.structs.replace(decides, name=EVIL, guard=1.0, decides=False)
    run.write_data(data_record(metrics=(decides, guards)))
    rescore(run, values=lambda index, score: {EVIL: 1.0 + index})
    run.write_rivals(Rivals(protocol=PROTOCOL, scores=(baseline("floor", 0.3, EVIL),)))
    found = page(run)
    assert EVIL in levels(found.one("figure", data_chart="a"))[0][0]
    assert EVIL in found.one("figure", data_chart=EVIL).one("figcaption").text
