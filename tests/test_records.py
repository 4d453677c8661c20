"""Every number that README and docs quote is what the records of the measurements say."""

import importlib.util
import re
from pathlib import Path

import pytest

from equipoise.recipes import ABOUT, SETTING

ROOT = Path(__file__).parent.parent
TEXTS = ("README.md", "README.zh-CN.md", "docs/stopping.md")
ON_STOPPING = ("frontier", "forecast", "stopping")  # the page quotes all of them, the READMEs these few
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


def numbers() -> dict[str, str]:
    specification = importlib.util.spec_from_file_location("quoted", ROOT / "bench" / "quoted.py")
    assert specification
    assert specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module.numbers()


def words_of(text: str) -> list[str]:
    return [word.strip(".") for word in re.split(r"[\s|()（）,;:，；：。`]+", text) if word.strip(".")]


@pytest.mark.parametrize("text", TEXTS)
def test_a_page_quotes_the_records(text: str) -> None:
    words = words_of((ROOT / text).read_text())
    for name, number in numbers().items():
        on_stopping = name.split(".")[0] in ON_STOPPING
        due = on_stopping if text == "docs/stopping.md" else not on_stopping or name in IN_BOTH
        if due and (text != "README.zh-CN.md" or name not in LANGUAGE_BOUND):
            quoted = words_of(number)
            places = [place for place in range(len(words)) if words[place : place + len(quoted)] == quoted]
            assert places, f"{text} does not quote {name} = {number}"


def test_no_text_has_a_number_left_open() -> None:
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        assert "{{" not in path.read_text(), f"{path.name} has a marker without its number"


def test_the_recipes_command_quotes_the_records() -> None:
    found = numbers()
    for name, about in ABOUT.items():
        assert about.result == found[f"recipes.{name}"], f"{name}: {about.result}"
    assert found["recipes.setting"] == SETTING
