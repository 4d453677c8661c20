import re
from pathlib import Path
from typing import get_args

import pytest

from equipoise.health.pages import PAGES, SUBJECTS, Subject, heading
from equipoise.recipe import Recipe, with_settings
from equipoise.storage.records import Condition

DOCS = Path(__file__).parents[2] / "docs" / "doctor.md"
CHINESE = DOCS.parents[1] / "README.zh-CN.md"
SETTINGS = sorted({setting for page in PAGES.values() for one in page.helps for setting in one.settings})


def test_every_condition_has_a_page_and_so_has_a_healthy_game() -> None:
    assert set(PAGES) == {*get_args(Condition), "healthy"}
    assert set(SUBJECTS) == set(PAGES)
    assert len({heading(subject) for subject in SUBJECTS}) == len(SUBJECTS)


@pytest.mark.parametrize("setting", SETTINGS)
def test_what_a_page_tells_to_type_is_a_setting(setting: str) -> None:
    assert with_settings(Recipe(), settings_with(setting)).name == Recipe().name  # else it would be refused


def settings_with(setting: str) -> list[str]:
    """Return a setting with what it needs beside it: no recipe has a penalty of no strength."""
    beside = {
        "game.penalty.kind": ["game.penalty.gamma=1"],
        "game.penalty.gamma": ["game.penalty.kind=r1"],
        "augment.kinds": ["augment.probability=0.4"],
        "augment.probability": ["augment.kinds=flip"],
        "game.loss=relativistic": ["game.loss=hinge"],
    }
    first = next((more for name, more in beside.items() if setting.startswith(name)), [])
    return [*first, setting]


@pytest.mark.parametrize("subject", SUBJECTS)
def test_a_page_says_something_in_every_part_and_names_a_source(subject: Subject) -> None:
    page = PAGES[subject]
    assert all(len(text) > 20 for text in (page.meaning, page.looks, page.numbers, page.causes))
    assert page.helps
    assert re.search(r"arXiv:\d{4}\.\d{4,5}|docs/", page.source)
    assert page.curves


@pytest.mark.parametrize("subject", SUBJECTS)
def test_the_docs_say_of_a_condition_what_its_page_says(subject: Subject) -> None:
    page = PAGES[subject]
    _, _, rest = DOCS.read_text(encoding="utf-8").partition(f"### {heading(subject)}\n")
    section = rest.split("\n### ")[0].split("<!-- end")[0]
    settings = [f"--set {setting}" for one in page.helps for setting in one.settings]
    for text in (page.meaning, page.looks, page.numbers, page.causes, page.source, f"explain {subject}", *settings):
        assert text in section, "run: python bench/doctor_docs.py"
    assert section.count("\n- ") == 3 + len(page.helps)


@pytest.mark.parametrize("condition", get_args(Condition))
def test_the_chinese_readme_has_a_line_on_each_condition_with_settings_of_its_page(condition: Condition) -> None:
    lines = [line for line in CHINESE.read_text(encoding="utf-8").splitlines() if line.startswith(f"| `{condition}` ")]
    (line,) = lines
    _, name, meaning, helps, _ = line.split("|")
    assert all(re.search("[\u4e00-\u9fff]", cell) for cell in (name, meaning, helps))
    told = {setting for one in PAGES[condition].helps for setting in one.settings}
    named = set(re.findall("`([^`]+)`", helps))
    assert named <= told
    assert bool(named) == bool(told)
