"""The report as a whole: its sections, its head in every state, and that nothing in it runs or is fetched."""

import ast
import json
import re
import runpy
import shlex
from pathlib import Path

import msgspec
import pytest
from fake_runs import change_state, data_record

import equipoise.report
from equipoise.recipe import Custom, Points, Recipe, SuperResolution
from equipoise.report.report import write_missing_report, write_report
from equipoise.runs.folder import CUSTOM_LOOP, RunFolder
from equipoise.storage.files import written_whole
from equipoise.storage.logs import records
from equipoise.storage.records import Rejected, RemedyRecord, RunState, Score, StepStats, lenient

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&"
SECTIONS = ["scores", "selection", "ending", "game", "data", "recipe", "environment", "use"]


def sections(found):
    return [section.attributes["id"] for section in found.all("section")]


def numbers(found):
    return {one.attributes["data-number"]: one.one("dd").text for one in found.all("div", data_number="*")}


def rewritten(run, **changes):
    """Write the steps of a run again, with some of it changed."""
    steps = [lenient(StepStats, record) for record in records(run.steps)]
    run.steps.unlink()
    for stats in steps:
        run.log_step(msgspec.structs.replace(stats, **changes))


def signals(found):
    return [figure.attributes["data-chart"] for figure in found.one("section", id="game").all("figure")]


def test_a_whole_report_has_every_section_in_order_and_its_numbers(tmp_path, fake_run, page):
    run = fake_run(tmp_path / "run")
    found = page(run)
    assert sections(found) == ["exhibits-1", "exhibits-2", "development", "scores", "baselines", *SECTIONS[1:]]
    assert len(found.all("img")) == 3 + 6
    assert len(found.one("section", id="game").all("svg")) == 7
    assert numbers(found) == {
        "best": "0.0066 ± 0.0008",
        "test": "0.0104 ± 0.0008",
        "fid": "2.74",
        "samples": "2.4M",
        "time": "9:59",
        "speed": "4,009",
    }
    assert found.one("header", data_state="finished").one("h1").text == "run"
    head = found.one("header").one("p", class_="verdict").text
    assert re.findall(r"[\d.]+M|0\.0066", head) == ["1.98M", "2.4M", "0.0066"]
    protocol = found.one("p", class_="protocol").text
    assert re.findall(r"\d,\d+", protocol) == ["2,000", "5,000"]
    assert found.one("section", id="ending").one("p", class_="quote").text == run.read_state().message


def test_names_and_reasons_with_markup_are_inert(tmp_path, fake_run, page):
    run = fake_run(tmp_path / EVIL.replace("/", "_"), "data.source=" + EVIL, "name=" + EVIL)
    rejected = (Rejected(EVIL, EVIL),)
    run.write_data(data_record(source=EVIL, digest=EVIL, summary=EVIL, noun=EVIL, classes=(EVIL,), rejected=rejected))
    run.write_environment({EVIL: EVIL})
    run.log_event(1, 1.0, "remedy", EVIL)
    run.events.open("ab").write(msgspec.json.encode({"samples": 2, "kind": EVIL, "message": EVIL}) + b"\n")
    protocol = {"features": EVIL, "split": EVIL, EVIL: EVIL}
    best = msgspec.structs.replace(run.read_state().best, protocol=protocol)
    change_state(run, best=best, message=EVIL, not_tested=EVIL)
    rewritten(run, terms={f"generator_{EVIL}": 1.0, "generator_b": 2.0})
    found = page(run)
    assert found.text.count(EVIL) >= 15
    assert found.one("p", class_="quote").text == EVIL
    assert EVIL in found.one("section", id="use").text
    change_state(run, status="failed")
    assert page(run).one("p", class_="reason").text == EVIL


def test_escaping_is_a_property_of_the_template():
    folder = Path(equipoise.report.__file__).parent
    templates = [path.read_text() for path in folder.glob("*.j2")]
    assert len(templates) == 4
    for template in templates:
        assert not re.search(r"\bsafe\b\s*[}|)]|autoescape", template)
        assert not re.search(r"(?:=)\s*\{\{", template)  # every attribute is quoted
    for path in folder.glob("*.py"):
        text = path.read_text()
        assert "Markup" not in text
        assert ("autoescape" in text) == (path.name == "report.py")
        assert ("<" + "svg" in text) == (path.name == "charts.py")
        assert not re.search(r"f?\"<(div|p|img|table|h\d)\b", text), path.name


def test_nothing_is_imported_for_a_report_before_it_is_written():
    for path in Path(equipoise.report.__file__).parent.glob("*.py"):
        assert not re.search(r"^(import|from) (jinja2|markupsafe|torch|numpy)", path.read_text(), re.MULTILINE)


def test_the_report_is_the_same_whenever_it_is_written(tmp_path, fake_run):
    run = fake_run(tmp_path / "run")
    assert write_report(run).read_bytes() == write_report(run).read_bytes()


def test_a_run_of_which_nothing_is_known_yet_says_so(tmp_path, page):
    found = page(RunFolder.create(tmp_path / "run", Recipe()))
    assert sections(found) == ["samples", *SECTIONS]
    assert not found.all("svg")
    assert found.one("section", id="use").one("pre").text.split()[:2] == ["equipoise", "resume"]
    assert numbers(found) == {"samples": "0", "time": "0:00"}


@pytest.mark.parametrize(("num_steps", "num_scores"), [(0, 0), (1, 1), (2, 2), (0, 3), (3, 0)])
def test_few_numbers_are_shown_as_far_as_they_go(tmp_path, fake_run, page, num_steps, num_scores):
    found = page(fake_run(tmp_path / "run", num_steps=num_steps, num_scores=num_scores))
    assert "nan" not in found.text
    assert len(found.one("section", id="game").all("figure")) == (7 if num_steps > 1 else 0)
    assert len(found.one("section", id="scores").all("figure")) == (4 if num_scores > 1 else 0)


def test_numbers_that_are_not_finite_and_damaged_pictures_break_nothing(tmp_path, fake_run, page):
    run = fake_run(tmp_path / "run", num_steps=5)
    run.steps.open("ab").write(b'{"samples": 5000000, "skipped_steps": 4}\n')
    run.scores.open("ab").write(b'{"samples": 5000000}\n')
    (run.samples / "best.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (run.samples / "real.png").write_text(EVIL)
    found = page(run)
    assert len(found.one("section", id="exhibits-1").all("img")) == 1
    assert found.one("p", data_skipped="4")


def test_skipped_steps_of_abandoned_attempts_are_not_passed_over_in_silence(tmp_path, fake_run, page):
    run = fake_run(tmp_path / "run", num_steps=5)
    run.steps.open("ab").write(b'{"samples": 5000000, "skipped_steps": 4}\n')
    assert "abandoned" not in page(run).one("p", data_skipped="4").text
    run.log_event(5_000_000, 3.0, "remedy", "why")
    assert "abandoned" in page(run).one("p", data_skipped="4").text


def test_a_record_that_does_not_say_after_how_many_samples_is_no_score(tmp_path, fake_run):
    run = fake_run(tmp_path / "run", num_scores=5)
    before = write_report(run).read_text()
    for record in ({}, {"loss": 0.001}, {"samples": None, "loss": 0.001}):
        run.scores.open("ab").write(msgspec.json.encode(record) + b"\n")
    assert write_report(run).read_text() == before


# The head


def test_a_failed_training_comes_first_with_its_reason_and_how_to_continue(tmp_path, fake_run, page, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = fake_run(tmp_path / "a run", status="failed", num_steps=5)
    state = RunState(status="failed", message="RuntimeError: <b>the size</b>", has_saved=True)
    run.write_state(state)
    failed = page(run).one("header", data_state="failed").one("div", class_="failed")
    assert failed.one("p", class_="reason").text == state.message
    assert "2.4M" in failed.one("p", class_="verdict").text
    assert shlex.split(failed.one("pre").text) == ["equipoise", "resume", run.path.name]
    assert "copy" in failed.one("p", class_="game").text
    with written_whole(run.checkpoints / f"{2_000_000:012d}") as folder:
        for name in ("tensors.safetensors", "state.json"):
            (folder / name).write_text("{}")
    assert "2,000,000" in page(run).one("div", class_="failed").one("p", class_="game").text
    change_state(run, message="x" * 5000)
    found = page(run)
    assert len(found.one("p", class_="reason").text) < 450
    assert found.one("p", class_="quote").text == "x" * 5000


def test_a_training_that_failed_at_once_says_how_to_begin_again(tmp_path, fake_run, page):
    run = fake_run(tmp_path / "run", num_steps=0, num_scores=0)
    run.write_state(RunState(status="failed"))
    failed = page(run).one("div", class_="failed")
    assert "begin" in failed.one("p", class_="game").text
    assert failed.one("pre").text.split()[:2] == ["equipoise", "resume"]
    run.write_recipe({**run.read_recipe(), "name": CUSTOM_LOOP})
    call = ast.parse(page(run).one("div", class_="failed").one("pre").text).body[0]
    assert re.fullmatch(r"Watch\('.*', resume=True\)", ast.unparse(call))


@pytest.mark.parametrize(
    ("state", "word"), [({"stop_reason": "diverged"}, "diverged"), ({"status": "stopped"}, "Stopped")]
)
def test_the_head_says_how_it_stands(tmp_path, fake_run, page, state, word):
    run = fake_run(tmp_path / "run", num_steps=5)
    change_state(run, **state)
    assert word in page(run).one("header").one("p", class_="verdict").text


def test_the_head_says_why_nothing_was_tested(tmp_path, fake_run, page):
    run = fake_run(tmp_path / "run", num_steps=5)
    change_state(run, not_tested="<i>few</i>.")
    assert page(run).one("header").all("p", class_="game")[-1].text.endswith(" <i>few</i>.")


def test_few_real_examples_are_named(tmp_path, fake_run, page):
    run = fake_run(tmp_path / "run", num_steps=5)
    change_state(run, best=msgspec.structs.replace(run.read_state().best, protocol={"num_real": 40, "kernel": "rbf"}))
    text = page(run).one("p", class_="protocol").text
    assert "rbf" in text
    assert "rough" in text


# The end


def test_the_whole_reason_is_given_and_its_numbers_do_not_break(tmp_path, fake_run):
    run = fake_run(tmp_path / "run", num_steps=5)
    change_state(run, message="α = 5 % & 0.1 ± 0.2. Then more. And more.")
    space = "\N{NO-BREAK SPACE}"
    quote = f">α{space}={space}5{space}% &amp; 0.1{space}±{space}0.2. Then more. And more.<"
    assert quote in write_report(run).read_text()


def test_forecasts_are_drawn_with_the_minimum_under_the_evidence_policy_only(tmp_path, fake_run, page):
    run = fake_run(tmp_path / "run", "stopping.evidence.min_gain=0.035")
    chart = page(run).one("section", id="ending").one("figure", data_chart="forecast").all("svg")[0]
    assert {"minimum 3.5 %", "forecast"} <= {text.text for text in chart.all("text")}
    for name, settings, num in (("few", [], 4), ("other", ["stopping.policy=patience"], 40)):
        run = fake_run(tmp_path / name, *settings, num_scores=num)
        assert not page(run).one("section", id="ending").all("figure")


def test_remedies_are_listed_with_their_samples(tmp_path, fake_run, page):
    run = fake_run(tmp_path / "run", num_steps=5)
    assert not page(run).all("section", id="remedies")
    run.log_event(420_000, 1.0, "remedy", "<1>")
    run.log_event(500_000, 2.0, "steps skipped", "Nothing else")
    run.log_event(900_000, 3.0, "remedy", "<2>", 1)
    items = [item.text for item in page(run).one("section", id="remedies").all("li")]
    assert [item.split()[::2] for item in items] == [["420k", "<1>"], ["900k", "<2>"]]


def test_the_first_screen_tells_the_last_remedy_and_the_recipe_is_not_said_to_be_all(tmp_path, fake_run, page):
    run = fake_run(tmp_path / "run", num_steps=5)
    alone = page(run).one("section", id="recipe").one("p").text
    record = RemedyRecord(condition="cycling", changed="learning rates × 1 → × 0.5")
    run.log_event(420_000, 1.0, "remedy", "long", 0, record)
    first = " ".join(line.text for line in page(run).all("p") if line.attributes.get("class") == "game")
    assert "cycling: rates × 1 → × 0.5" in first
    assert page(run).one("section", id="recipe").one("p").text != alone


def test_the_last_events_are_listed(tmp_path, fake_run, page):
    run = fake_run(tmp_path / "run", num_steps=5)
    for index in range(40):
        run.log_event(1000 * index, 1.0, "stop", f"why-{index}")
    cells = page(run).one("section", id="ending").one("table").cells()
    assert len(cells) == 30
    assert (cells[-1][0].split()[0], cells[-1][1]) == ("39k", "stop: why-39")


# The game


def test_logits_are_drawn_where_the_loss_knows_no_probability(tmp_path, fake_run, page):
    run = fake_run(tmp_path / "run", num_steps=5)
    assert signals(page(run))[:3] == ["accuracy", "probabilities", "losses"]
    rewritten(run, real_probability=float("nan"), fake_probability=float("nan"))
    assert signals(page(run))[:3] == ["accuracy", "logits", "losses"]


def test_loss_terms_are_drawn_for_a_player_that_has_more_than_one(tmp_path, fake_run, page):
    run = fake_run(tmp_path / "run", num_steps=5)
    rewritten(run, terms={"generator_adversarial": 1.0, "discriminator_adversarial": 1.0})
    assert not any("terms" in name for name in signals(page(run)))
    rewritten(run, terms={"generator_adversarial": 1.0, "generator_pixel": 0.5, "discriminator_adversarial": 1.0})
    found = page(run)
    assert [name for name in signals(found) if "terms" in name] == ["generator-terms"]
    labels = [text.text for text in found.one("figure", data_chart="generator-terms").all("text")]
    assert {"adversarial", "pixel"} <= set(labels)


def test_what_never_changes_is_not_drawn(tmp_path, fake_run, page):
    run = fake_run(tmp_path / "run", num_steps=5)
    rewritten(run, penalty=0.0, generator_rate=2e-4)
    assert not {"penalty", "rate"} & set(signals(page(run)))


# Data, recipe, use


def test_the_data_are_described_and_long_lists_are_cut(tmp_path, fake_run, page):
    run = fake_run(tmp_path / "run", num_steps=5)
    section = page(run).one("section", id="data")
    data = data_record()
    values = [cells[1] for cells in section.all("table")[0].cells()]
    assert values[:5] == [data.source, data.summary, "48,000", "6,000", "6,000"]
    assert section.one("details").one("table").cells() == [[item.name, item.reason] for item in data.rejected]
    many = tuple(Rejected(f"{index}.png", "broken") for index in range(1_250))
    run.write_data(data_record(rejected=many, classes=tuple(map(str, range(1000)))))
    section = page(run).one("section", id="data")
    assert len(section.one("details").all("tr")) == 100
    assert "1,150" in section.one("details").text
    assert re.search(r"1000: 0, 1, .* 39 …", section.text)


def test_several_labels_a_picture_are_not_called_classes(tmp_path, fake_run, page):
    run = fake_run(tmp_path / "run", num_steps=5)
    run.write_data(data_record(classes=("hat", "smile"), class_counts=(3, 4), sets=((0,), (0, 1)), set_counts=(2, 1)))
    cells = page(run).one("section", id="data").all("table")[0].cells()
    assert ["labels", "2: hat, smile"] in cells
    assert "classes" not in [name for name, _ in cells]


def test_only_what_differs_from_the_default_is_emphasised(tmp_path, fake_run, page):
    run = fake_run(tmp_path / "run", "game.penalty.kind=r1", "game.penalty.gamma=0.5", "task.flip=true")
    section = page(run).one("section", id="recipe")
    changed = [[cell.text for cell in row.every() if cell.tag in ("th", "td")] for row in section.all(class_="changed")]
    assert [[name, value, default.split()[-1]] for name, value, default in changed] == [
        ["task.flip", "yes", "no"],
        ["networks.width", "32", "64"],
        ["game.penalty.kind", "r1", "none"],
        ["game.penalty.gamma", "0.5", "0"],
        ["augment.kinds", "translation", "none"],
        ["augment.probability", "0.5", "0"],
    ]
    assert " 6 " in section.one("summary").text


@pytest.mark.parametrize(
    ("task", "shell", "python"),
    [
        (Points(), "equipoise sample run -n 64 -o points.csv", "run.best.sample(64)"),
        (SuperResolution(), "equipoise apply run photo.png -o large.png", "run.best.apply("),
        (Custom(name="rows"), "", 'eq.load("run", task=task)'),
    ],
)
def test_the_lines_to_type_are_those_of_the_task(tmp_path, fake_run, page, monkeypatch, task, shell, python):
    monkeypatch.chdir(tmp_path)
    run = fake_run(tmp_path / "run", num_steps=5)
    run.write_recipe({**run.read_recipe(), "task": msgspec.to_builtins(task)})
    typed = [code.text for code in page(run).one("section", id="use").all("pre")]
    assert shell in typed[0]
    assert python in typed[-1]
    assert len(typed) == (2 if shell else 1)


def test_the_lines_to_type_name_the_run_whatever_it_is_called(tmp_path, fake_run, page, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = fake_run(tmp_path / 'a "quoted" näme')
    shell, python = page(run).one("section", id="use").all("pre")
    found = re.search(r"eq\.load\((\".*\")\)", python.text)
    assert found is not None
    (tmp_path / "line.py").write_text(f"path = {found[1]}")
    assert runpy.run_path(str(tmp_path / "line.py"))["path"] == run.path.name
    assert shlex.split(shell.text)[:3] == ["equipoise", "sample", run.path.name]


@pytest.mark.parametrize(
    ("kept", "code"),
    [
        ("generator.safetensors", "generator.load_state_dict(load_file({}))"),
        ("generator.weights.h5", "generator.load_weights({})"),
        ("model.onnx", "ls run/best"),
        (None, None),
    ],
)
def test_a_custom_loop_is_told_how_to_use_what_it_kept(tmp_path, fake_run, page, monkeypatch, kept, code):
    monkeypatch.chdir(tmp_path)
    run = fake_run(tmp_path / "run", num_steps=5)
    run.write_recipe({"name": CUSTOM_LOOP, "seed": 3})
    if kept:
        run.best.mkdir()
        (run.best / kept).touch()
    found = page(run)
    assert [row[0] for row in found.one("section", id="recipe").one("table").cells()] == ["name", "seed"]
    typed = [line.text for line in found.one("section", id="use").all("pre")]
    assert len(typed) == bool(kept)
    if code:
        assert code.format(json.dumps(f"run/best/{kept}")) in typed[0]


def test_a_custom_loop_that_takes_its_own_scores_says_nothing_of_data(tmp_path, fake_run, page):
    run = fake_run(tmp_path / "run", num_steps=5)
    run.write_recipe({"name": CUSTOM_LOOP})
    nothing = {"num_train": 0, "num_validation": 0, "num_test": 0}
    before = page(run)
    assert before.one("section", id="data").all("table")
    run.write_data(data_record(source="", digest="", summary="", noun="samples", **nothing))
    found = page(run)
    assert not found.one("section", id="data").all("table")
    assert ":" not in found.one("header").one("p", class_="what").text
    intros = [one.one("section", id="scores").one("p", class_="intro").text for one in (before, found)]
    assert intros[0] != intros[1]


# Snapshots, and the report that a kill has kept from being written


def test_snapshots_are_spread_over_the_run_and_large_ones_left_out(tmp_path, fake_run, page):
    run = fake_run(tmp_path / "run")
    frames = page(run).one("section", id="development").all("figcaption")
    assert [frame.text for frame in frames] == ["4k", "60k", "240k", "1.2M", "1.8M", "2.4M"]
    for _, path in run.snapshots()[1:]:
        content = path.read_bytes()
        path.write_bytes(content[:-12] + b"\0" * 3_000_000 + content[-12:])
    assert not page(run).all("section", id="development")


def test_a_missing_report_of_a_finished_run_is_written(tmp_path, fake_run):
    run = fake_run(tmp_path / "run", status="stopped", num_steps=5)
    write_missing_report(run)
    assert not run.report.exists()
    change_state(run, status="finished")
    write_missing_report(run)
    assert run.report.read_text().rstrip().endswith("</html>")


@pytest.mark.parametrize("status", ["finished", "failed", "running"])
def test_generators_that_all_missed_a_limit_were_evaluated(tmp_path, fake_run, page, status):
    run = fake_run(tmp_path / "run", num_steps=5, num_scores=0, status=status)
    for samples in (100, 200):
        run.log_score(Score(samples=samples, seconds=1.0, loss=0.5, broken=("psnr",)), is_best=False)
    change_state(run, best=None)
    assert "(psnr)" in page(run).one("header").text
