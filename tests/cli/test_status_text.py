"""A run on one screen: what is known of it, each under its label, in 24 lines of 80 columns."""

import math
import os
from pathlib import Path

import pytest
from fake_runs import change_state, data_record

from equipoise.cli.status_text import list_text, status_text
from equipoise.recipe import Budget, Recipe
from equipoise.runs.folder import CUSTOM_LOOP, RunFolder
from equipoise.runs.status import nearby, read_status, status_values
from equipoise.storage.logs import append
from equipoise.storage.records import Metric, RemedyRecord, RunState, Score, StageRecord, StartRecord


def on_screen(run: RunFolder) -> str:
    """Return the text of a run, which fits a screen; only a path or a command may be longer than a line."""
    text = status_text(read_status(run))
    assert len(text.splitlines()) <= 24
    assert max(len(line) for line in text.splitlines() if "/" not in line) <= 80
    assert "nan" not in text
    return text


def rows(text: str) -> dict[str, str]:
    """Return what stands beside each label, on one line; hyphens stand for the spaces of a label."""
    found: dict[str, str] = {}
    label = ""
    for line in text.splitlines():
        label = line[:12].strip().replace(" ", "-") or label
        found[label] = f"{found.get(label, '')} {line[12:]}".strip()
    return found


def test_a_finished_run_on_one_screen(tmp_path, fake_run):
    found = rows(on_screen(fake_run(tmp_path / "run")))
    assert found["state"] == "finished"
    assert found["progress"] == "██████████  2.4M samples · 100 %"
    assert found["best-score"] == "KID 0.0066 ± 0.0008, coverage 0.906, at 1.98M samples"
    assert found["on-test"].startswith("KID 0.0104")
    assert "0.310 ± 0.004" in found["scale"]
    assert "10 min" in found["stopped-by"]
    assert "62 %" in found["game"]
    assert "/s ·" not in found["progress"]  # no rate and no time left for what has ended
    assert "stopping" not in found
    assert "report" not in found


def test_the_speed_is_told_once_the_present_one_of_a_running_run_and_the_average_of_another(tmp_path, fake_run):
    run = fake_run(tmp_path / "run", status="stopped")
    found = rows(on_screen(run))
    assert "/s" in found["trained"]
    assert "/s" not in found["progress"]
    change_state(run, status="running")
    with run.lock():
        found = rows(on_screen(run))
    assert "/s" in found["progress"]
    assert "/s" not in found["trained"]


def test_the_test_of_an_earlier_end_is_shown_until_there_is_another(tmp_path, fake_run):
    run = fake_run(tmp_path / "run")
    test = run.read_state().test
    change_state(run, status="running", test=None, tested_before=test)
    found = rows(on_screen(run))
    assert found["on-test"].startswith("KID 0.0104")
    assert found["on-test"].endswith("on")
    assert status_values(read_status(run))["test"] is None
    assert status_values(read_status(run))["tested_before"] == test


def test_a_new_run_without_anything(tmp_path):
    found = rows(on_screen(RunFolder.create(tmp_path / "run", Recipe())))
    assert set(found) == {"run", "recipe", "source", "state", "progress", "trained", "best-score"}


def test_a_running_one_shows_its_process_its_rate_and_the_time_left(tmp_path, fake_run):
    run = fake_run(tmp_path / "run", status="running", num_steps=0, num_scores=0)
    change_state(run, samples=0, seconds=0.0)
    for index in range(1, 6):
        append(run.steps, {"samples": 240_000 * index, "seconds": 60.0 * index, "samples_per_second": 4000.0})
    with run.lock():
        found = rows(on_screen(run))
    assert found["state"].startswith("running, process ")
    assert "1.2M samples · 4,000/s · 5:00 left" in found["progress"]


@pytest.mark.parametrize("status", ["running", "stopped", "failed"])
def test_a_run_that_can_be_continued_says_how(tmp_path, fake_run, status):
    run = fake_run(tmp_path / "a run", status=status)
    assert rows(on_screen(run))["state"].endswith(f"equipoise resume '{run.path}'")
    run.write_recipe(run.read_recipe() | {"name": CUSTOM_LOOP})
    found = rows(on_screen(run))
    assert found["state"].endswith(f"Watch('{run.path}', resume=True)")
    assert "seed" not in found["recipe"]


def test_a_run_whose_data_seem_to_have_changed_is_not_promised_that_it_goes_on(tmp_path, fake_run):
    images = tmp_path / "images"
    images.mkdir()
    run = fake_run(tmp_path / "run", status="stopped")
    run.write_data(data_record(path=str(images)))
    before = rows(on_screen(run))["state"]
    (images / "new.png").touch()
    os.utime(images, (2e9, 2e9))
    after = rows(on_screen(run))["state"]
    assert after != before
    assert "changed" in after
    assert after.endswith(f"equipoise resume {run.path}")
    change_state(run, status="finished")
    assert rows(on_screen(run))["state"] == "finished"


def test_a_screen_is_enough_however_much_there_is_to_say_and_what_is_asked_for_most_stays(tmp_path, fake_run):
    run = fake_run(tmp_path / "run", status="stopped")
    start = StartRecord(path="/home/somebody/runs/modern-photographs-of-faces-003", samples=1234, seen=1234, digest="d")
    run.write_data(data_record(start=start, summary="28 × 28 colour images of faces, ten classes of them"))
    run.report.write_text("a report")
    reason = "The training has diverged. " * 20
    change_state(run, message=reason, test=None, tested_before=run.read_state().test)
    shown = rows(on_screen(run))
    assert {"state", "progress", "best-score", "on-test", "quality", "stopped-by", "report"} <= shown.keys()
    assert "scale" not in shown
    stage = StageRecord(what="training the evaluation encoder, which measures the images, " * 2, share=0.3)
    change_state(run, status="running", stop_reason=None, message=None, stage=stage)
    with run.lock():
        assert {"preparing", "quality", "report"} <= rows(on_screen(run)).keys()


def test_a_run_of_a_task_that_only_python_knows_names_no_command_that_would_refuse_it(tmp_path, fake_run):
    run = fake_run(tmp_path / "run", status="stopped")
    run.write_recipe(run.read_recipe() | {"task": {"kind": "custom", "name": "Waves"}})
    assert f"equipoise.resume('{run.path}', task=…)" in rows(on_screen(run))["state"]


def test_samples_of_abandoned_attempts_are_named(tmp_path, fake_run):
    run = fake_run(tmp_path / "run", "budget.seconds=none", "budget.samples=2400000", status="stopped")
    change_state(run, spent=3_000_000, stop_reason="interrupted")
    assert "600k" in rows(on_screen(run))["progress"]


BACK = RemedyRecord(condition="mode-collapse", changed="learning rates × 1 → × 0.5", back_to=16_000)


def test_each_remedy_has_a_line_with_when_and_what_and_so_has_the_reason_for_none(tmp_path, fake_run):
    run = fake_run(tmp_path / "run")
    assert "remedies" not in rows(on_screen(run))
    in_place = RemedyRecord(condition="cycling", changed="added instance noise 0 → 0.1")
    run.log_event(12_000, 1.0, "remedy", "long " * 100, 0, in_place)
    run.log_event(40_000, 2.0, "remedy", "long " * 100, 0, BACK)
    run.log_event(30_000, 3.0, "no remedy", f"Nothing is done about saturation: {'no change is known ' * 9}.", 1)
    lines = on_screen(run).splitlines()
    (first,) = (index for index, line in enumerate(lines) if line.startswith("remedies"))
    one, two, three = (line[12:] for line in lines[first : first + 3])
    assert one == "12k, cycling: added instance noise 0 → 0.1"
    assert two == "40k, mode collapse: back to 16k, rates × 1 → × 0.5"
    assert three.startswith("30k, ")
    assert "saturation: no change is known" in three
    assert three.endswith("…"), "one line, cut off with a mark"


def test_of_many_remedies_the_last_ones_are_shown_and_the_others_counted(tmp_path, fake_run):
    run = fake_run(tmp_path / "run")
    for index in range(1, 10):
        run.log_event(1000 * index, 1.0, "remedy", "x", index, BACK)
    shown = rows(on_screen(run))["remedies"]
    assert shown.startswith("6 earlier")
    assert [f" {index}k," in shown for index in range(1, 10)] == [False] * 6 + [True] * 3
    assert [event.samples for event in status_values(read_status(run))["remedies"]] == list(range(1000, 10_000, 1000))


def test_how_close_the_stop_is_is_shown_until_it_has_come(tmp_path, fake_run):
    run = fake_run(tmp_path / "run", status="running")
    assert "7 of" in rows(on_screen(run))["stopping"]
    change_state(run, status="finished")
    assert "stopping" not in rows(on_screen(run))


def test_a_lower_last_score_comes_with_why_it_is_not_the_best(tmp_path):
    run = RunFolder.create(tmp_path / "run", Recipe(), data_record())
    for samples, loss, compared in ((100, 0.05, {}), (200, 0.045, {"compared_with": 100, "difference": -0.005})):
        run.log_score(
            Score(samples=samples, seconds=1.0, loss=loss, error=0.01, difference_error=0.01, **compared), is_best=False
        )
    note = read_status(run).best_note
    assert rows(on_screen(run))["best-score"] == f"KID 0.050 ± 0.010, at 100 samples; {note}"


def test_a_lower_last_score_that_misses_a_limit_is_not_said_to_be_chance(tmp_path):
    run = RunFolder.create(tmp_path / "run", Recipe(), data_record())
    paired = {"compared_with": 100, "difference": -0.04, "difference_error": 0.001}
    for samples, loss, more in ((100, 0.05, {}), (200, 0.01, {"broken": ("psnr",), **paired})):
        run.log_score(Score(samples=samples, seconds=1.0, loss=loss, error=0.01, **more), is_best=samples == 100)
    shown = rows(on_screen(run))["best-score"]
    assert "psnr" in shown
    assert "significant" not in shown


def test_a_long_reason_is_shown_in_full_where_there_is_room_and_else_says_where_the_rest_is(tmp_path, fake_run):
    reason = " ".join(f"Sentence {index} of the reason says one more thing about it." for index in range(6))
    run = fake_run(tmp_path / "run")
    run.report.write_text("a report")
    change_state(run, message=reason, stop_reason="evidence")
    assert rows(on_screen(run))["stopped-by"] == reason
    change_state(run, message=reason * 3)
    found = rows(on_screen(run))
    assert found["stopped-by"].startswith(reason[:60])
    assert "…" in found["stopped-by"]
    assert found["report"] == str(run.report)


def test_a_run_without_a_score_and_with_odd_letters_fits_too(tmp_path, fake_run):
    run = fake_run(tmp_path / ("very long " * 20 + "\x1b[31m"), "data.source=" + "x" * 500, num_scores=0)
    text = on_screen(run)
    assert "\x1b" not in text
    assert "…" in rows(text)["source"]
    assert "KID" not in rows(text)["best-score"]


def test_metrics_are_those_of_the_run_and_nothing_is_said_of_images(tmp_path):
    metrics = (Metric(name="mse", label="MSE", decides=True), Metric(name="coverage"))
    data = data_record(noun="points", summary="points in the plane", metrics=metrics)
    run = RunFolder.create(tmp_path / "run", Recipe(), data)
    values = {"mse": 0.5, "coverage": math.nan}
    run.log_score(Score(samples=100, seconds=1.0, loss=0.5, error=0.1, values=values), is_best=True)
    found = rows(on_screen(run))
    assert found["best-score"] == "MSE 0.50 ± 0.10, at 100 samples"
    assert "image" not in " ".join(value for label, value in found.items() if label != "run")


def test_the_list_of_runs_shows_path_state_samples_and_best_score(tmp_path, fake_run):
    fake_run(tmp_path / "one")
    RunFolder.create(tmp_path / "two", Recipe())
    damaged = RunFolder.create(tmp_path / "\x1b[31m", Recipe())
    (damaged.path / "state.json").write_text("[]")
    found = {Path(line.split()[0]).name: line.split()[1:] for line in list_text(nearby(tmp_path)).splitlines()[2:]}
    assert found["one"] == ["finished", "2.4M", "KID", "0.0066", "±", "0.0008"]
    assert found["two"] == ["new", "0", "–"]
    assert found["?[31m"][-2:] == ["–", "–"]


def test_what_comes_before_a_training_stands_there_with_what_follows_or_with_what_was_kept(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", Recipe(budget=Budget(samples=None, seconds=900)))
    run.write_state(RunState(stage=StageRecord(what="the encoder", share=0.4, seconds_left=65)))
    with run.lock():
        text = status_text(read_status(run))
        listed = list_text([(run.path, read_status(run))])
    assert "preparing" in listed
    assert "1:05" in text
    assert "15:00" in text
    assert "16:05" in text
    text = status_text(read_status(run))
    assert "40 %" in text
    assert "kept" in text
    assert "1:05" not in text
    assert f"resume {run.path}" in " ".join(text.split())
    assert "interrupted" in list_text([(run.path, read_status(run))])
    run.write_state(RunState(status="running", seconds=840, stage=StageRecord(what="the encoder", share=0.4)))
    with run.lock():
        assert "1:00" in rows(status_text(read_status(run)))["preparing"], "what is left of the budget"
    run.write_state(RunState(status="running", stage=StageRecord(what="testing", share=0.4, is_after=True)))
    assert "kept" not in status_text(read_status(run)), "only the encoder keeps what it has learned"


def test_what_comes_after_a_training_stands_there_in_place_of_a_time_left(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", Recipe(budget=Budget(samples=None, seconds=300)))
    for index in range(1, 6):
        append(run.steps, {"samples": 7_688 * index, "seconds": 59.6 * index, "samples_per_second": 129.0})
    run.write_state(RunState(status="running"))
    with run.lock():
        before = read_status(run)
        assert before.seconds_left == pytest.approx(2)
        run.write_state(RunState(status="running", stage=StageRecord(what="testing", share=0.5, is_after=True)))
        now = read_status(run)
        found = rows(status_text(now))
        run.write_state(RunState(status="running", stage=StageRecord(what="testing")))
        first = rows(status_text(read_status(run)))
    assert "129/s" in rows(status_text(before))["progress"]
    assert "testing: 50 %" in found["finishing"]
    assert "38.4k" in found["progress"]
    assert not {"left", "129/s"} & set(found["progress"].split())
    assert math.isnan(now.seconds_left)
    values = status_values(now)["stage"]
    assert (values.what, values.share, values.is_after) == ("testing", 0.5, True)
    assert "testing" in first["preparing"]
    assert "%" not in first["preparing"]
    left = rows(status_text(read_status(run)))
    assert "resume" in left["preparing"]
