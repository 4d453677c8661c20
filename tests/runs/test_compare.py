import json
import math
from typing import Any

import msgspec
from fake_runs import change_state, data_record

from equipoise.recipe import Recipe, with_settings
from equipoise.runs.compare import (
    Entry,
    clearly_lowest,
    compare,
    compare_values,
    differences,
    flattened,
    headings,
    known_metrics,
    protocol_differences,
    score_cells,
)
from equipoise.runs.folder import RunFolder
from equipoise.storage.records import Metric, Score


def test_nested_values_become_dotted_paths():
    assert flattened({"a": {"b": 1, "c": {"d": [2]}}, "e": {}}) == {"a.b": 1, "a.c.d": [2], "e": {}}


def test_only_fields_that_differ_are_listed_with_every_value():
    recipes = [Recipe(), with_settings(Recipe(), ["game.ema_half_life=500"]), with_settings(Recipe(), ["seed=3"])]
    assert differences(recipes) == {"seed": [0, 0, 3], "game.ema_half_life": [10_000.0, 500.0, 10_000.0]}
    assert differences([Recipe(), Recipe()]) == {}
    assert protocol_differences([{"split": "test", "num": 1}, {"split": "test", "num": 2, "k": 5}]) == ["num", "k"]


def test_runs_of_one_protocol_share_a_group(tmp_path, fake_run):
    first = fake_run(tmp_path / "first")
    second = fake_run(tmp_path / "second", "game.ema_half_life=500", num_scores=3)
    found = compare([first, second])
    assert found.differences == {"game.ema_half_life": [10_000.0, 500.0]}
    assert [(group[0].split, [entry.run for entry in group]) for group in found.groups] == [
        ("validation", ["first", "second"]),
        ("test", ["first", "second"]),
    ]
    assert found.without_score == ()


def entries(*losses: tuple[float, float]) -> list[Entry]:
    scores = [Score(samples=1, seconds=1.0, loss=loss, error=error) for loss, error in losses]
    return [Entry(f"run {index}", "test", score, (), {}) for index, score in enumerate(scores)]


def lowest(*losses: tuple[float, float]) -> str | None:
    found = clearly_lowest(entries(*losses))
    return found.run if found else None


def test_only_a_score_below_all_others_by_more_than_twice_the_standard_error_counts_as_lowest():
    assert lowest((0.5, 0.01), (0.4, 0.01)) == "run 1"
    assert lowest((0.5, 0.1), (0.4, 0.1)) is None
    assert lowest((0.4, 0.03), (0.5, 0.04)) is None  # exactly twice
    assert lowest((0.4, 0.03), (0.5, 0.039)) == "run 0"
    assert lowest((0.4, 0.01), (0.5, 0.01), (0.405, 0.01)) is None
    assert lowest((0.4, 0.01), (math.nan, 0.01)) is None
    assert lowest((0.4, 0.01), (0.5, 0.01), (math.nan, 0.01)) == "run 0"


def test_equal_scores_are_never_lowest_and_without_an_error_nobody_knows():
    """What is marked is lower "by more than twice the standard error"."""
    assert lowest((0.4, 0.01), (0.4, 0.01)) is None
    for error in (0.0, math.nan):
        assert lowest((0.4, error), (0.39, error)) is None
    assert lowest((0.4, 0.01), (0.9, math.nan)) is None
    assert lowest((0.4, 0.01)) is None, "of one there is nothing to compare"


def change_protocol(run: RunFolder, **values: Any) -> None:
    best = run.read_state().best
    assert best is not None
    change_state(run, best=msgspec.structs.replace(best, protocol={**best.protocol, **values}), test=None)


def test_scores_of_two_protocols_are_kept_apart(tmp_path, fake_run):
    first, second = fake_run(tmp_path / "first"), fake_run(tmp_path / "second", num_scores=3)
    change_protocol(first)
    change_protocol(second, features="inception", num_real=1000)
    found = compare([first, second])
    assert [[entry.run for entry in group] for group in found.groups] == [["first"], ["second"]]
    assert protocol_differences([group[0].protocol for group in found.groups]) == ["features", "num_real"]
    groups = compare_values(found)["groups"]
    assert [list(group["scores"]) for group in groups] == [["first"], ["second"]]


def test_scores_on_other_data_are_not_compared_even_where_the_protocol_says_nothing_of_it(tmp_path, fake_run):
    first, second = fake_run(tmp_path / "first"), fake_run(tmp_path / "second")
    change_protocol(first)
    change_protocol(second)
    second.write_data(data_record(digest="other"))
    found = compare([first, second])
    assert protocol_differences([group[0].protocol for group in found.groups]) == ["data digest"]
    change_protocol(first, data_digest="5d")
    change_protocol(second, data_digest="0f")
    found = compare([first, second])
    fields = protocol_differences([group[0].protocol for group in found.groups])
    assert fields == ["data_digest"], "and not the same thing once more"


def test_scores_of_other_metrics_are_not_compared_even_where_the_protocol_is_the_same(tmp_path, fake_run):
    first, second = fake_run(tmp_path / "first"), fake_run(tmp_path / "second")
    second.write_data(data_record(metrics=(Metric(name="mse", label="MSE", decides=True),)))
    found = compare([first, second])
    assert len(found.groups) == 4
    assert protocol_differences([group[0].protocol for group in found.groups[::2]]) == ["measures"]


def test_cells_of_a_score_begin_with_what_decides_and_its_error():
    metrics = (Metric(name="recall"), Metric(name="kid", label="KID", decides=True), Metric(name="fid", label="FID"))
    score = Score(samples=1200, seconds=1.0, loss=0.034, error=0.002, values={"kid": 0.034, "fid": 12.34})
    assert headings(metrics) == ["KID", "recall", "FID", "at samples"]
    assert score_cells(score, metrics) == ["0.034 ± 0.002", "–", "12.3", "1.2k"]


def test_what_decides_has_a_column_even_where_no_score_has_a_value_of_it():
    metrics = (Metric(name="recall"), Metric(name="kid", label="KID", decides=True), Metric(name="fid"))
    score = Score(samples=1, seconds=1.0, loss=0.1, values={"fid": 1.0})
    assert [metric.name for metric in known_metrics([Entry("a", "test", score, metrics, {})])] == ["kid", "fid"]


def test_runs_without_scores_and_of_the_same_name_are_told_apart(tmp_path, fake_run):
    first, second = fake_run(tmp_path / "a" / "run", num_scores=0), fake_run(tmp_path / "b" / "run", num_scores=0)
    found = compare([first, second])
    assert (found.differences, found.groups) == ({}, ())
    assert found.without_score == (str(first.path), str(second.path))


def test_the_test_of_an_earlier_end_is_known_as_long_as_there_is_no_other(tmp_path, fake_run):
    first, second = fake_run(tmp_path / "a"), fake_run(tmp_path / "b", "seed=1")
    test = second.read_state().test
    assert test is not None
    change_state(second, tested_before=test)
    assert compare_values(compare([first, second]))["tested_before"] == {}
    change_state(second, test=None)
    found = compare([first, second])
    assert compare_values(found)["tested_before"] == {"b": test}
    assert [[entry.run for entry in group] for group in found.groups if group[0].split == "test"] == [["a"]]


def test_the_values_are_strict_json(tmp_path, fake_run):
    first, second = fake_run(tmp_path / "a"), fake_run(tmp_path / "b", "seed=1")
    change_state(second, best=msgspec.structs.replace(second.read_state().best, loss=0.5))
    values = json.loads(msgspec.json.encode(compare_values(compare([first, second]))))
    assert values["differences"] == {"seed": {"a": 0, "b": 1}}
    assert [(group["split"], group["lowest"]) for group in values["groups"]] == [("validation", "a"), ("test", None)]
    assert math.isclose(values["groups"][0]["scores"]["a"]["loss"], 0.0066, abs_tol=1e-4)
