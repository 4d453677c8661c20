"""Every number that README and docs quote is what the records of the measurements say."""

import importlib.util
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from equipoise.recipes import NAMES, SETTING, named

ROOT = Path(__file__).parent.parent
TEXTS = ("README.md", "README.zh-CN.md", "docs/stopping.md", "docs/promises.md", "docs/collapse.md")
ON_STOPPING = ("frontier", "forecast", "stopping")  # the page quotes all of them, the READMEs these few
ON_PROMISES = ("soak", "saving")
ON_COLLAPSE = ("cures",)
IN_BOTH = tuple(
    f"frontier.{name}"
    for name in (
        "default_saved",
        "default_within",
        "left_out_saved",
        "left_out_within",
        "patience_left_out",
        "oracle_saved",
    )
)
LANGUAGE_BOUND = {"recipes.setting"}  # worded anew in Chinese


def bench(name: str) -> Any:
    specification = importlib.util.spec_from_file_location(name, ROOT / "bench" / f"{name}.py")
    assert specification
    assert specification.loader
    module = importlib.util.module_from_spec(specification)
    sys.modules[name] = module  # dataclasses look their module up
    specification.loader.exec_module(module)
    return module


def numbers() -> dict[str, str]:
    return bench("quoted").numbers()


def is_due(name: str, text: str) -> bool:
    kind = name.split(".")[0]
    match text:
        case "docs/stopping.md":
            return kind in ON_STOPPING
        case "docs/promises.md":
            return kind in ON_PROMISES
        case "docs/collapse.md":
            return kind in ON_COLLAPSE
        case _:
            return kind not in (*ON_STOPPING, *ON_PROMISES, *ON_COLLAPSE) or name in IN_BOTH


def words_of(text: str) -> list[str]:
    return [word.strip(".") for word in re.split(r"[\s|()（）,;:，；：。`]+", text) if word.strip(".")]


@pytest.mark.parametrize("text", TEXTS)
def test_a_page_quotes_the_records(text: str) -> None:
    words = words_of((ROOT / text).read_text())
    for name, number in numbers().items():
        if is_due(name, text) and (text != "README.zh-CN.md" or name not in LANGUAGE_BOUND):
            quoted = words_of(number)
            places = [place for place in range(len(words)) if words[place : place + len(quoted)] == quoted]
            assert places, f"{text} does not quote {name} = {number}"


def test_the_table_of_promises_is_that_of_the_record_failures_and_all() -> None:
    promises = bench("promises")
    assert promises.table() in (ROOT / "docs" / "promises.md").read_text()
    for promise in promises.PROMISES:
        assert all((ROOT / file).exists() for file in promise.files)
        assert all(file in promises.recorded() for file in promise.files)
    named = {file for promise in promises.PROMISES for file in promise.files}
    assert {f"tests/faults/{path.name}" for path in ROOT.glob("tests/faults/test_*.py")} <= named


def test_the_page_of_the_doctor_is_written_from_its_pages_and_records() -> None:
    text = (ROOT / "docs" / "doctor.md").read_text()
    assert bench("doctor_docs").written(text) == text, "run: python bench/doctor_docs.py"


def test_no_text_has_a_number_left_open() -> None:
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        assert "{{" not in path.read_text(), f"{path.name} has a marker without its number"


def test_the_recipes_command_quotes_the_records() -> None:
    rows = {row["recipe"]: row for row in json.loads((ROOT / "bench" / "records" / "zoo.json").read_text())["rows"]}
    assert {name for name in NAMES if named(name).about.samples is not None} == rows.keys()
    result_of = bench("quoted").result_of
    for name, row in rows.items():
        about = named(name).about
        assert (about.result, about.samples) == (result_of(row), row["time"]["samples"]), name
    assert numbers()["recipes.setting"] == SETTING


def test_the_page_of_the_zoo_has_the_table_that_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "bench")
    record = json.loads((ROOT / "bench" / "records" / "zoo.json").read_text())
    page = (ROOT / "docs" / "zoo.md").read_text("utf-8")
    assert bench("zoo").table_of(record["rows"], record["real"]) in page
    by_name = {row["recipe"]: row["time"] for row in record["rows"]}
    assert max(by_name, key=lambda name: by_name[name]["samples"]) == "mlp-classic"
    most = by_name["mlp-classic"]
    assert f"`mlp-classic` saw the most, {round(most['samples'], -3):,}, and has {most['median']:.0f}" in page


def test_a_table_of_all_recipes_is_not_made_of_two_budgets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "bench")
    zoo = bench("zoo")
    line = {"recipe": "dcgan", "seed": 0, "samples": 1, "seconds": 1.0, "class_shares": [0.1], "frechet_distance": 2.0}
    lines = [line | {"kind": "time", "budget": budget, "hardware": {"processor": ""}} for budget in ("60s", "90s")]
    (tmp_path / "zoo.jsonl").write_text("".join(json.dumps(one) + "\n" for one in lines))
    with pytest.raises(SystemExit, match="equal time of 60s and of 90s"):
        zoo.record([tmp_path / "zoo.jsonl"])


def test_the_page_of_pictures_has_the_table_that_was_measured() -> None:
    page = (ROOT / "docs" / "pictures.md").read_text("utf-8")
    assert bench("quoted").table_of_pictures() in page


def test_the_page_of_explore_has_the_numbers_that_were_measured() -> None:
    page = (ROOT / "docs" / "explore.md").read_text("utf-8")
    quoted = bench("quoted")
    assert quoted.table_of_truncation() in page
    for words in quoted.numbers_of_explore():
        assert words in page, words
