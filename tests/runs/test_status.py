import json
import math
import subprocess
import sys
from dataclasses import asdict

import msgspec
import pytest

from equipoise.health.stats import ScoreLine
from equipoise.recipe import Recipe
from equipoise.runs.folder import RunFolder
from equipoise.runs.status import best_of, read_status, shown_path, status, status_values


@pytest.mark.parametrize(
    ("module", "attribute"),
    [("equipoise.runs.status", "status"), ("equipoise.runs.compare", "compare"),
     ("equipoise.report.report", "write_report"), ("equipoise.stopping.monitor", "Referee")],
)  # fmt: skip
def test_reading_runs_needs_neither_torch_nor_numpy(module, attribute):
    code = (
        f"import sys, {module}; {module}.{attribute}; print([n for n in ('torch', 'numpy', 'PIL') if n in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def assert_fits_a_screen(text):
    assert len(text.splitlines()) <= 24
    assert max(map(len, text.splitlines())) <= 80
    assert "nan" not in text


def test_a_finished_run_on_one_screen(tmp_path, fake_run):
    text = status(fake_run(tmp_path / "run"))
    assert_fits_a_screen(text)
    assert "state       finished" in text
    assert "██████████  2.4M samples · 100 %" in text
    assert "best score  KID 0.0066 ± 0.0008" in text
    assert "on test     KID 0.0104" in text
    assert "The budget of 10 min of training is spent." in text
    assert "The discriminator tells real from fake" in text
    assert "/s ·" not in text  # no rate and no time left for what has ended


def test_a_new_run_without_anything(tmp_path):
    text = status(RunFolder.create(tmp_path / "run", Recipe()))
    assert_fits_a_screen(text)
    assert "not started" in text
    assert "none yet" in text


def test_a_running_one_is_told_by_its_lock_with_rate_and_time_left(tmp_path, fake_run):
    run = fake_run(tmp_path / "run", status="running", num_steps=0, num_scores=0)
    for index in range(1, 6):
        run.log_step({"samples": 240_000 * index, "seconds": 60.0 * index, "samples_per_second": 4000.0,
                      "accuracy": 0.7, "discriminator_loss": 0.5, "generator_loss": 0.9})  # fmt: skip
    with run.lock():
        text, values = status(run), status_values(run)
    assert_fits_a_screen(text)
    assert "running, process" in text
    assert "1.2M samples · 4,000/s · 5:00 left" in text
    assert values["state"] == "running"
    assert values["seconds_left"] == 300.0


@pytest.mark.parametrize(
    ("written", "shown"), [("running", "interrupted"), ("stopped", "stopped"), ("failed", "failed")]
)
def test_a_run_that_can_go_on_says_how(tmp_path, fake_run, written, shown):
    run = fake_run(tmp_path / "run", status=written)
    text = status(run)
    assert_fits_a_screen(text)
    assert f"state       {shown}; go on with: equipoise resume" in text.replace("\n            ", " ")
    assert status_values(run)["state"] == shown


def test_where_the_stopping_stands_is_told_on_two_lines_until_it_has_stopped(tmp_path, fake_run):
    run = fake_run(tmp_path / "run", status="running")
    text = status(run)
    assert_fits_a_screen(text)
    told = text.split("\nstopping    ")[1].splitlines()
    assert told[0].startswith("Unbeaten for 7 of ")
    assert told[1].endswith(("no mean gain since (certified).", "a gain since is not ruled out."))
    values = json.loads(msgspec.json.encode(status_values(run)))["outlook"]
    assert values["num_since"] == 7
    assert 0 < values["forecast"] < values["price"] == 0.02
    run.write_state(run.read_state() | {"status": "finished"})
    assert "\nstopping  " not in status(run)
    for name, settings, num in (("budget", ["stopping.policy=budget"], 40), ("early", [], 1)):
        other = fake_run(tmp_path / name, *settings, status="running", num_scores=num)
        assert status_values(other)["outlook"] is None
        assert ("\nstopping  " in status(other)) == (name == "early")


def test_a_running_runs_best_is_the_one_that_is_handed_over_not_the_lowest_that_chance_explains(tmp_path):
    run = RunFolder.create(tmp_path / "run", Recipe())
    first = ScoreLine(samples=100, seconds=1.0, kid=0.05, kid_se=0.01)
    second = ScoreLine(
        samples=200, seconds=1.0, kid=0.045, kid_se=0.01, champion=100, difference=-0.005, difference_se=0.01
    )
    for line in (first, second):
        run.log_score(asdict(line))
    assert read_status(run).best == first


def test_a_record_that_does_not_say_after_how_many_samples_is_no_score(tmp_path, fake_run):
    run = fake_run(tmp_path / "run", num_scores=5)
    before = status(run)
    for record in ({}, {"kid": 0.001}, {"samples": None, "kid": 0.001}):
        run.log_score(record)
    assert status(run) == before


def paired(run, *lines):
    """Log scores that are each compared with the first one: (KID, difference)."""
    for index, (kid, difference) in enumerate(lines, 1):
        compared = {"champion": 100 if index > 1 else 0, "difference": difference, "difference_se": 0.01}
        run.log_score(asdict(ScoreLine(samples=100 * index, seconds=1.0, kid=kid, kid_se=0.01, **compared)))


def test_a_lower_last_score_comes_with_why_it_is_not_the_best(tmp_path):
    run = RunFolder.create(tmp_path / "run", Recipe())
    paired(run, (0.05, math.nan), (0.045, -0.005))
    text = status(run)
    assert_fits_a_screen(text)
    best = " ".join(text.split("\nbest score  ")[1].split("\ngame")[0].split())
    assert best.startswith("KID 0.050 ± 0.010, at 100 samples; the last one is lower, but not certified as better")
    for name, last in (("higher", (0.055, 0.005)), ("better", (0.01, -0.04))):
        other = RunFolder.create(tmp_path / name, Recipe())
        paired(other, (0.05, math.nan), last)
        assert "not certified" not in status(other)


def test_a_lower_score_than_that_of_the_one_that_won_when_judged_again_comes_with_that(tmp_path, fake_run):
    run = fake_run(tmp_path / "run", num_scores=3)
    state = run.read_state()
    best = state["best"]
    high = best | {"kid": 1.0, "samples": 7}
    one = {"found": high, "rescored": high | {"kid": 0.1}, "difference": 0.0, "difference_se": 0.0}
    two = {"found": best, "rescored": best | {"kid": 0.2}, "difference": 0.1, "difference_se": 0.01}
    again = {"protocol": {}, "num_scores": 3, "candidates": [one, two], "winner": 7}
    run.write_state(state | {"best": high, "rescored": again})
    text = status(run)
    assert_fits_a_screen(text)
    assert "the lowest of the 2 that were judged again" in " ".join(text.split())
    run.write_state(state | {"best": high, "rescored": again | {"candidates": [one]}})
    assert "judged again" not in status(run)


def test_a_long_reason_is_whole_where_there_is_room_and_else_says_where_the_rest_is(tmp_path, fake_run):
    reason = " ".join(f"Sentence {index} of the reason says one more thing about it." for index in range(12))
    run = fake_run(tmp_path / "run")
    run.report.write_text("a report")
    run.write_state(run.read_state() | {"reason": reason, "policy": "evidence"})
    text = status(run)
    assert_fits_a_screen(text)
    assert reason in " ".join(text.split())
    run.write_state(run.read_state() | {"reason": reason * 3})
    text = status(run)
    assert_fits_a_screen(text)
    assert "stopped by  Sentence 0 of the reason" in text
    assert "(in full in the report)" in text
    assert "\nreport  " in text.split("(in full in the report)")[1]


def test_a_training_that_writes_its_own_report_at_the_end_does_not_count_as_running(tmp_path, fake_run):
    run = fake_run(tmp_path / "run")
    with run.lock():
        assert read_status(run).state == "finished"
        run.write_state({"status": "running"})  # what a resume writes first
        assert read_status(run).state == "running"


def test_a_run_without_a_score_and_with_odd_letters_fits_too(tmp_path, fake_run):
    run = fake_run(tmp_path / ("very long " * 20 + "\x1b[31m"), "data.source=" + "x" * 500, num_scores=0)
    text = status(run)
    assert_fits_a_screen(text)
    assert "\x1b" not in text
    assert "none yet" in text


def test_the_values_are_strict_json(tmp_path, fake_run):
    run = fake_run(tmp_path / "run")
    values = json.loads(msgspec.json.encode(status_values(run)))
    assert values["best"]["protocol"]["features"] == "encoder"
    assert values["seconds_left"] is None
    assert values["state"] == "finished"


def test_a_torn_log_and_a_missing_state_do_not_hide_the_rest(tmp_path, fake_run):
    run = fake_run(tmp_path / "run")
    (run.path / "state.json").unlink()
    with run.steps.open("ab") as file:
        file.write(b'{"samples": 99')
    now = read_status(run)
    assert now.samples == 2_400_000
    assert now.best is not None
    assert now.best.samples == 1_980_000


def test_a_run_whose_state_was_removed_is_not_told_as_one_that_never_began(tmp_path, fake_run):
    run = fake_run(tmp_path / "run")
    (run.path / "state.json").unlink()
    text = status(run)
    assert "not started" not in text
    assert "go on with: equipoise resume" in text


def test_the_best_is_finite_and_the_earliest_of_equals():
    lines = [ScoreLine(samples=index, seconds=1.0, kid=kid) for index, kid in enumerate([math.nan, 0.2, 0.1, 0.1])]
    best = best_of(lines, "kid")
    assert best is not None
    assert best.samples == 2
    assert best_of(lines[:1], "kid") is None
    assert asdict(best)["kid"] == 0.1


def test_a_path_to_show_holds_no_more_of_the_machine_than_needed(tmp_path, monkeypatch):
    (tmp_path / "runs" / "a").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert shown_path(tmp_path / "runs" / "a") == "runs/a"
    monkeypatch.chdir(tmp_path / "runs" / "a")
    assert shown_path(tmp_path / "runs") == f"{tmp_path.name}/runs"
