import json
import math
import re

import msgspec
import pytest

from equipoise.recipe import Recipe, with_settings
from equipoise.runs.compare import compare, compare_values, differences, flattened, protocol_differences, table
from equipoise.runs.folder import RunFolder


def test_nested_values_become_dotted_paths():
    assert flattened({"a": {"b": 1, "c": {"d": [2]}}, "e": {}}) == {"a.b": 1, "a.c.d": [2], "e": {}}


def test_only_fields_that_differ_are_listed_with_every_value():
    recipes = [Recipe(), with_settings(Recipe(), ["game.ema_half_life=500"]), with_settings(Recipe(), ["seed=3"])]
    assert differences(recipes) == {"seed": [0, 0, 3], "game.ema_half_life": [10_000.0, 500.0, 10_000.0]}
    assert differences([Recipe(), Recipe()]) == {}
    assert protocol_differences([{"split": "test", "num": 1}, {"split": "test", "num": 2, "k": 5}]) == ["num", "k"]


def test_runs_of_one_protocol_share_a_table_with_the_lowest_marked(tmp_path, fake_run):
    first = fake_run(tmp_path / "first")
    second = fake_run(tmp_path / "second", "game.ema_half_life=500", num_scores=3)
    text = compare([first, second])
    assert "game.ema_half_life" in text
    assert "protocols" not in text
    assert text.index("Best scores, on the validation split") < text.index("Final scores, on the test split")
    best = text.split("Final scores")[0]
    assert "first *" in best
    assert "second *" not in best
    assert "KID" in best
    assert "0.0066 ± 0.0008" in best


def change_protocol(run: RunFolder, **values):
    state = run.read_state()
    state["best"]["protocol"] |= values
    run.write_state(state | {"test": None})


def test_scores_of_two_protocols_are_kept_apart_with_the_reason(tmp_path, fake_run):
    first, second = fake_run(tmp_path / "first"), fake_run(tmp_path / "second", num_scores=3)
    change_protocol(first)
    change_protocol(second, features="inception", num_real=1000)
    text = compare([first, second])
    assert "2 protocols, which differ in features, num_real" in text
    assert "Protocol A (features: encoder, num_real: 5000)" in text
    assert "Protocol B (features: inception, num_real: 1000)" in text
    assert "first *" not in text
    assert "second *" not in text
    groups = compare_values([first, second])["groups"]
    assert [list(group["scores"]) for group in groups] == [["first"], ["second"]]


def test_scores_on_other_data_are_not_compared_even_where_the_protocol_says_nothing_of_it(tmp_path, fake_run):
    first, second = fake_run(tmp_path / "first"), fake_run(tmp_path / "second")
    change_protocol(first)
    change_protocol(second)
    second.write_data(second.read_data() | {"digest": "other"})
    assert "2 protocols, which differ in data digest" in compare([first, second])


def test_digests_are_shortened_and_whole_in_the_values(tmp_path, fake_run):
    first, second = fake_run(tmp_path / "first"), fake_run(tmp_path / "second")
    change_protocol(first, features_digest="01" * 32, data_digest="ab" * 32)
    change_protocol(second, features_digest="02" * 32, data_digest="cd" * 32)
    second.write_data(second.read_data() | {"digest": "cd" * 32})
    text = compare([first, second])
    assert "Protocol A (features_digest: 010101010101…, data_digest: abababababab…)" in text
    assert "Protocol B (features_digest: 020202020202…, data_digest: cdcdcdcdcdcd…)" in text
    assert not re.search("[0-9a-f]{13}", text)
    assert "data digest" not in text, "the same thing once more"
    assert max(len(line) for line in text.splitlines() if "rotocol" in line) <= 80
    groups = compare_values([first, second])["groups"]
    assert [group["protocol"]["features_digest"] for group in groups] == ["01" * 32, "02" * 32]


def test_where_no_score_can_be_compared_no_mark_is_explained(tmp_path, fake_run):
    first, second = fake_run(tmp_path / "first"), fake_run(tmp_path / "second")
    assert "* lowest of its table" in compare([first, second])
    change_protocol(second, features="inception")
    change_protocol(first)
    assert "*" not in compare([first, second])


def test_a_name_or_setting_that_could_steer_the_terminal_is_shown_without_that(tmp_path, fake_run):
    text = compare([fake_run(tmp_path / "a\x1b[2J"), fake_run(tmp_path / "b", "data.source=\x1b]0;x")])
    assert all(letter.isprintable() for line in text.split("\n") for letter in line)
    assert "a?[2J" in text


def test_runs_without_scores_and_of_the_same_name_are_told_apart(tmp_path, fake_run):
    first, second = fake_run(tmp_path / "a" / "run", num_scores=0), fake_run(tmp_path / "b" / "run", num_scores=0)
    text = compare([first, second])
    assert "The recipes are the same." in text
    assert "No scores yet." in text
    assert f"Without a score: {first.path}, {second.path}." in text


def test_the_values_are_strict_json(tmp_path, fake_run):
    values = compare_values([fake_run(tmp_path / "a"), fake_run(tmp_path / "b", "seed=1")])
    values = json.loads(msgspec.json.encode(values))
    assert values["differences"] == {"seed": {"a": 0, "b": 1}}
    assert values["groups"][0]["split"] == "validation"
    assert math.isclose(values["groups"][0]["scores"]["a"]["kid"], 0.0066, abs_tol=1e-4)


@pytest.mark.parametrize("cell", ["", "longer than its heading"])
def test_a_table_keeps_its_columns_in_line(cell):
    lines = table(["", "head"], [["name", cell], ["n", "x"]])
    assert len({len(line) for line in lines}) == 1
