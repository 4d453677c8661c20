"""The model card: Markdown in which every name means itself, and lines of Python that name what exists."""

import ast
import re
from typing import Any

import msgspec
import pytest
from fake_runs import change_state, data_record

import equipoise
from equipoise.recipe import Custom, SuperResolution, TaskSettings
from equipoise.report.card import model_card
from equipoise.report.facts import python_lines
from equipoise.report.report import rendered, values_of
from equipoise.report.values import read
from equipoise.runs.folder import RunFolder
from equipoise.runs.status import read_status
from equipoise.storage.records import Metric, Selection

EVIL = "<script>|`x`\n[a](b)*_#"
ESCAPED = "\\<script\\>\\|\\`x\\`?\\[a\\](b)\\*\\_\\#"


def card_of(run: RunFolder) -> str:
    return model_card(run, run.read_state())


def table(card: str) -> list[list[str]]:
    return [line.strip("| ").split(" | ") for line in card.splitlines() if line.startswith("|")]


def python_block(card: str) -> str:
    (block,) = re.findall(r"^```python\n(.*?)^```$", card, re.MULTILINE | re.DOTALL)
    return block


def attributes(code: str) -> list[str]:
    """Return the dotted names in a piece of Python."""
    nodes = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Attribute)]
    return sorted(ast.unparse(node) for node in nodes)


def test_the_scores_are_a_table_of_the_run_s_metrics_for_each_split(tmp_path, fake_run):
    run = fake_run(tmp_path / "run", num_steps=5)
    rows = table(card_of(run))
    assert rows[0] == ["split", "KID", "FID", "precision", "recall", "density", "coverage", "C2ST", "C\\_T"]
    assert [row[:2] for row in rows[2:]] == [["validation", "0.0074 ± 0.0009"], ["test", "0.0104 ± 0.0009"]]
    assert len({len(row) for row in rows}) == 1
    assert "0.310 ± 0.004" in card_of(run)  # how it compares with the floor


def test_a_second_score_has_a_row_of_its_own(tmp_path, fake_run):
    run = fake_run(tmp_path / "run", num_steps=5)
    best = run.read_state().best
    again = msgspec.structs.replace(best, loss=0.5)
    candidates = ({"found": best, "rescored": again, "difference": 0.0, "difference_error": 0.0},)
    values: Any = {
        "protocol": {"split": "validation, second half"},
        "num_scores": 40,
        "candidates": candidates,
        "winner": best.samples,
    }
    change_state(run, selection=msgspec.convert(values, Selection))
    assert [row[1] for row in table(card_of(run))[2:]] == ["0.0074 ± 0.0009", "0.0104 ± 0.0009", "0.5000 ± 0.0009"]


def test_every_name_means_itself(tmp_path, fake_run):
    metrics = (Metric(name="a", label=EVIL, decides=True), Metric(name="b", label=EVIL))
    run = fake_run(tmp_path / "run", "name=" + EVIL.replace("\n", ""), num_steps=5)
    run.write_data(data_record(source=EVIL, summary=EVIL, noun="images", digest=EVIL, metrics=metrics))
    change_state(run, best=msgspec.structs.replace(run.read_state().best, protocol={"features": EVIL}))
    card = card_of(run)
    assert card.count(ESCAPED) >= 7
    prose = re.sub(r"^```python\n.*?^```$", "", card, flags=re.MULTILINE | re.DOTALL)
    assert not re.search(r"(?<!\\)<", prose)
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in card.splitlines() if line.startswith("|")}) == 1


def test_the_python_block_is_python_that_names_what_exists(tmp_path, fake_run):
    code = python_block(card_of(fake_run(tmp_path / "run", num_steps=5)))
    imports = [node for node in ast.parse(code).body if isinstance(node, ast.Import)]
    assert [name.asname for node in imports for name in node.names] == ["eq"]
    assert attributes(code) == ["eq.load", "run.best", "run.best", "run.best.generator", "run.best.sample"]
    assert "load" in equipoise.__all__


@pytest.mark.parametrize(
    ("task", "name"), [(SuperResolution(), "run.best.apply"), (Custom(name="rows"), "run.best.sample")]
)
def test_the_python_lines_are_those_of_the_task(tmp_path, fake_run, task: TaskSettings, name: str):
    run = fake_run(tmp_path / "run", num_steps=5)
    run.write_recipe({**run.read_recipe(), "task": msgspec.to_builtins(task)})
    code = python_lines('"path"', read_status(run))
    assert name in attributes(code)
    loads = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call) and node.keywords]
    assert [call.keywords[0].arg for call in loads] == ["task"] * isinstance(task, Custom)


def test_a_run_without_a_best_generator_has_no_card(tmp_path, fake_run):
    run = fake_run(tmp_path / "run", num_steps=5)
    change_state(run, best=None)
    assert card_of(run) == ""


def test_card_and_report_say_where_the_judges_features_flatter_the_generator(tmp_path, fake_run):
    run = fake_run(tmp_path / "run", num_steps=5)
    best = run.read_state().best
    for protocol, is_said in ((best.protocol, False), (best.protocol | {"features_flatter": True}, True)):
        change_state(run, best=msgspec.structs.replace(best, protocol=protocol))
        assert ("flatter" in card_of(run)) is is_said
        assert ("flatter" in rendered(values_of(read(run)))) is is_said


def test_of_few_images_the_card_says_that_all_judge_and_what_that_adds(tmp_path, fake_run):
    run = fake_run(tmp_path / "run", num_steps=5)
    state = run.read_state()
    protocol = state.test.protocol | {"num_real": 42, "folds": 5}
    best = msgspec.structs.replace(state.best, protocol=protocol | {"split": "validation"})
    rivals = msgspec.structs.replace(state.rivals, protocol=protocol)
    test = msgspec.structs.replace(state.test, protocol=protocol, optimism=0.0021)
    change_state(run, best=best, test=test, rivals=rivals)
    card = card_of(run)
    assert [row[0] for row in table(card)[2:]] == ["held out", "cross-fitted"]
    assert "0.0021" in card
    assert "split:" not in card
    assert "test split" not in card
    assert "validation split" not in card
    page = rendered(values_of(read(run)))
    assert "0.0021" in page
    assert "On the test split" not in page
    assert "cross-fitted" in page
