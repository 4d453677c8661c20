"""Runs side by side as text: a table a protocol, a star where it means something, digests by their beginnings."""

import json
import re
from typing import Any

import msgspec
import pytest
from fake_runs import change_state, data_record

from equipoise.cli.compare_text import compare_text
from equipoise.cli.text import table
from equipoise.runs.compare import compare
from equipoise.runs.folder import RunFolder


def text_of(*runs: RunFolder) -> str:
    return compare_text(compare(runs))


def change_best(run: RunFolder, protocol: dict[str, Any] | None = None, **values: Any) -> None:
    best = run.read_state().best
    assert best is not None
    protocol = {**best.protocol, **(protocol or {})}
    change_state(run, best=msgspec.structs.replace(best, protocol=protocol, **values), test=None)


def rows(text: str) -> list[list[str]]:
    """Return the cells of all tables."""
    return [re.split(" {2,}", line.strip()) for line in text.splitlines() if line.startswith("  ")]


def test_runs_of_one_protocol_share_a_table_and_the_lowest_is_marked(tmp_path, fake_run):
    first = fake_run(tmp_path / "first")
    second = fake_run(tmp_path / "second", "game.ema_half_life=500", num_scores=3)
    change_best(second, loss=0.5)
    change_best(first)
    text = text_of(first, second)
    cells = {row[0]: row[1:] for row in rows(text)}
    assert cells["game.ema_half_life"] == ["10000", "500"]
    assert cells["first *"][:2] == ["0.0066 ± 0.0008", "2.74"]
    assert cells["second"][0].startswith("0.5")
    assert "protocol" not in text.lower()
    assert text.count("*") == 2, "the mark and what it means"


def test_scores_that_are_level_are_not_marked(tmp_path, fake_run):
    first, second = fake_run(tmp_path / "first"), fake_run(tmp_path / "second")
    assert "*" not in text_of(first, second), "they are equal"
    change_best(first)
    change_best(second)
    best = first.read_state().best
    assert best is not None
    change_best(second, loss=best.loss + best.error)
    assert "*" not in text_of(first, second)


def test_a_mark_in_one_of_several_tables_is_explained(tmp_path, fake_run):
    runs = [fake_run(tmp_path / name) for name in "abcd"]
    for run, loss, features in zip(runs, (0.1, 0.5, 0.3, 0.3), ("encoder", "encoder", "dinov2", "dinov2"), strict=True):
        change_best(run, {"features": features}, loss=loss)
    text = text_of(*runs)
    assert "a *" in text
    assert text.count("*") == 2, "the mark and what it means, although no other table has one"


def test_scores_of_two_protocols_are_kept_apart_with_the_reason(tmp_path, fake_run):
    first, second = fake_run(tmp_path / "first"), fake_run(tmp_path / "second", num_scores=3)
    change_best(first)
    change_best(second, {"features": "inception", "num_real": 1000})
    text = text_of(first, second)
    assert "(features: encoder, num_real: 5000)" in text
    assert "(features: inception, num_real: 1000)" in text
    assert "*" not in text


def test_digests_are_shortened(tmp_path, fake_run):
    first, second = fake_run(tmp_path / "first"), fake_run(tmp_path / "second")
    change_best(first, {"features_digest": "01" * 32, "data_digest": "ab" * 32})
    change_best(second, {"features_digest": "02" * 32, "data_digest": "cd" * 32})
    second.write_data(data_record(digest="cd" * 32))
    text = text_of(first, second)
    assert "(features_digest: 010101010101…, data_digest: abababababab…)" in text
    assert "(features_digest: 020202020202…, data_digest: cdcdcdcdcdcd…)" in text
    assert not re.search("[0-9a-f]{13}", text)
    assert max(len(line) for line in text.splitlines() if "rotocol" in line) <= 80


def test_a_metric_that_no_run_of_a_table_has_takes_no_column(tmp_path, fake_run):
    text = text_of(fake_run(tmp_path / "first"), fake_run(tmp_path / "second"))
    heads = [row for row in rows(text) if row[0] == "KID"]
    assert heads == [["KID", "FID", "precision", "recall", "density", "coverage", "at samples"]] * 2


def test_a_name_or_setting_that_could_steer_the_terminal_is_shown_without_that(tmp_path, fake_run):
    text = text_of(fake_run(tmp_path / "a\x1b[2J"), fake_run(tmp_path / "b", "data.source=\x1b]0;x"))
    assert all(letter.isprintable() for line in text.split("\n") for letter in line)
    assert "a?[2J" in text


def test_runs_without_scores_are_named_and_no_table_is_empty(tmp_path, fake_run):
    first, second = fake_run(tmp_path / "a" / "run", num_scores=0), fake_run(tmp_path / "b" / "run", num_scores=0)
    text = text_of(first, second)
    assert f"{first.path}, {second.path}" in text
    assert "─" not in text


@pytest.mark.parametrize("cell", ["", "longer than its heading"])
def test_a_table_keeps_its_columns_in_line(cell):
    lines = table(["", "head"], [["name", cell], ["n", "x"]])
    assert len({len(line) for line in lines}) == 1


def test_a_run_is_not_compared_with_itself_by_whatever_path(tmp_path, fake_run, refused):
    first, second = fake_run(tmp_path / "first"), fake_run(tmp_path / "second")
    (tmp_path / "link").symlink_to(first.path)
    for again in (first.path, tmp_path / "link", tmp_path / "second" / ".." / "first"):
        assert f"{again}: " in refused("compare", first.path, again)
        line = refused("compare", first.path, second.path, again)
        assert line.strip().endswith(f"equipoise compare {first.path} {second.path}")


def test_the_sentence_is_in_the_text_and_in_json_and_a_page_is_written_once(tmp_path, fake_run, output, refused):
    first, second = fake_run(tmp_path / "first"), fake_run(tmp_path / "second", "game.batch=32")
    change_state(second, test=msgspec.structs.replace(second.read_state().test, loss=0.5))
    page = tmp_path / "new" / "page.html"
    text = output("compare", first.path, second.path, "--html", page)
    assert "first is better" in text
    assert str(page) in text
    assert page.read_text("utf-8").startswith("<!doctype html>")
    values = json.loads(output("compare", first.path, second.path, "--json"))
    assert values["verdicts"][0]["best"] == "first"
    before = page.read_bytes()
    page.write_bytes(b"mine")
    assert "--force" in refused("compare", first.path, second.path, "--html", page)
    assert page.read_bytes() == b"mine"
    output("compare", first.path, second.path, "--html", page, "--force")
    assert page.read_bytes() == before
    assert ".html" in refused("compare", first.path, second.path, "--html", tmp_path / "page.pdf")
    assert ".html" in refused("compare", first.path, second.path, "--html", tmp_path)
