import json
import math
import subprocess
import sys
from typing import Any

import msgspec
import pytest
from fake_runs import HORIZON, change_state, data_record

from equipoise.errors import UserError
from equipoise.recipe import Recipe
from equipoise.runs.folder import RunFolder
from equipoise.runs.status import best_of, nearby, read_status, shown_path, status_values
from equipoise.storage.logs import append
from equipoise.storage.records import CandidateScore, Metric, Score, Selection, StageRecord


@pytest.mark.parametrize(
    ("module", "attribute"),
    [("equipoise.runs.status", "read_status"), ("equipoise.runs.compare", "compare"),
     ("equipoise.runs.replay", "replay"), ("equipoise.runs.digest", "digest"),
     ("equipoise.cli.status_text", "status_text"), ("equipoise.cli.compare_text", "compare_text"),
     ("equipoise.report.report", "write_report"), ("equipoise.stopping.monitor", "Monitor")],
)  # fmt: skip
def test_reading_runs_needs_neither_torch_nor_numpy(module, attribute):
    code = (
        f"import sys, {module}; {module}.{attribute}; print([n for n in ('torch', 'numpy', 'PIL') if n in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def score(samples: int, loss: float, **changes: Any) -> Score:
    return Score(samples=samples, seconds=1.0, loss=loss, error=0.01, **changes)


def test_a_finished_run_is_known_in_full(tmp_path, fake_run):
    now = read_status(fake_run(tmp_path / "run"))
    assert (now.name, now.state, now.holder, now.stop_reason) == ("run", "finished", None, "budget")
    assert (now.samples, now.spent, now.horizon, now.share) == (2_400_000, 2_400_000, 2_400_000, 1.0)
    assert (now.metric.shown, now.noun) == ("KID", "images")
    assert now.best is not None
    assert now.test is not None
    assert (round(now.best.loss, 4), round(now.best.error, 4), now.test.loss) == (0.0066, 0.0008, 0.0104)
    assert [rival.role for rival in now.rivals.scores if rival.best] == ["floor"]
    assert math.isnan(now.seconds_left)


def test_a_new_run_has_nothing_yet(tmp_path):
    now = read_status(RunFolder.create(tmp_path / "run", Recipe()))
    assert (now.state, now.samples, now.share, now.last, now.best, now.test) == ("new", 0, 0.0, None, None, None)
    assert (now.metric.name, now.noun, now.stopping_status, now.rivals.scores) == ("loss", "examples", "", ())


@pytest.mark.parametrize(
    ("budget", "left", "share"),
    [("budget.seconds=600", 200.0, 2 / 3), ("budget.samples=2400000", 300.0, 0.5)],
    ids=["a time", "samples"],
)
def test_a_running_one_is_known_by_its_lock_with_the_last_minutes_rate_and_the_time_left(
    tmp_path, fake_run, budget, left, share
):
    """Slow at first, fast in the last minute, with an evaluation in it: the time left is what the budget leaves."""
    run = fake_run(tmp_path / "run", "budget.seconds=none", budget, status="running", num_steps=0, num_scores=0)
    change_state(run, samples=0, spent=0, seconds=0.0)
    for seconds, samples in ((100, 200_000), (200, 400_000), (300, 600_000), (340, 960_000), (400, 1_200_000)):
        append(run.steps, {"samples": samples, "seconds": float(seconds), "samples_per_second": 1.0})
    assert read_status(run).state == "interrupted"
    with run.lock():
        now = read_status(run)
    assert now.holder is not None
    assert (now.state, now.samples, now.samples_per_second) == ("running", 1_200_000, 4000.0)
    assert (now.seconds_left, now.share) == (left, share)


def test_before_the_first_log_line_the_speed_is_the_measured_one(tmp_path, fake_run):
    run = fake_run(tmp_path / "run", status="running", num_steps=0, num_scores=0)
    with run.lock():
        assert read_status(run).samples_per_second == 4010.0


def test_samples_of_abandoned_attempts_are_spent_and_count_against_the_budget(tmp_path, fake_run):
    run = fake_run(tmp_path / "run", "budget.seconds=none", "budget.samples=4800000", status="stopped")
    change_state(run, spent=3_600_000, stop_reason="interrupted")
    run.write_intervals(msgspec.structs.replace(run.read_intervals(), horizon=4_800_000))
    now = read_status(run)
    assert (now.samples, now.spent, now.share) == (2_400_000, 3_600_000, 0.75)


@pytest.mark.parametrize(
    ("budget", "spent", "reason", "expected"),
    [
        ("samples=2400000", 2_400_048, "budget", 2_400_048),
        ("samples=2400000", 2_400_048, "interrupted", 2_400_048),
        ("samples=2400000", 2_200_000, "evidence", HORIZON),
        ("seconds=600", 2_000_000, "budget", 2_000_000),
        ("seconds=600", 2_600_000, "evidence", 2_600_000),
    ],
)
def test_a_budget_pays_for_no_fewer_samples_than_are_spent_and_a_spent_one_for_no_more(
    tmp_path, fake_run, budget, spent, reason, expected
):
    """The last round goes over a budget of samples, and of a time the samples are an estimate."""
    run = fake_run(tmp_path / "run", "budget.seconds=none", f"budget.{budget}", num_steps=0, num_scores=0)
    change_state(run, samples=spent, spent=spent, stop_reason=reason)
    values = status_values(read_status(run))
    assert (values["spent"], values["horizon"]) == (spent, expected)
    assert values["share"] <= 1


@pytest.mark.parametrize(
    ("written", "state"), [("running", "interrupted"), ("stopped", "stopped"), ("failed", "failed")]
)
def test_what_ended_without_finishing_says_so(tmp_path, fake_run, written, state):
    assert read_status(fake_run(tmp_path / "run", status=written)).state == state


def test_how_close_the_stop_is_is_known_before_it_comes_where_there_is_a_policy_and_two_scores(tmp_path, fake_run):
    values = json.loads(msgspec.json.encode(status_values(read_status(fake_run(tmp_path / "run", status="running")))))
    found = values["certificate"]
    assert found["num_since"] == 7
    assert "7 of" in values["stopping_status"]
    assert 0 < found["forecast"] < found["min_gain"] == 0.02
    for name, settings, num in (("budget", ["stopping.policy=budget"], 40), ("early", [], 1)):
        other = read_status(fake_run(tmp_path / name, *settings, status="running", num_scores=num))
        assert other.certificate is None
        assert bool(other.stopping_status) == (name == "early")


def test_a_running_runs_best_is_the_one_that_was_promoted_not_the_lowest_that_chance_explains(tmp_path):
    run = RunFolder.create(tmp_path / "run", Recipe())
    first = score(100, 0.05)
    for one in (first, score(200, 0.045, compared_with=100, difference=-0.005, difference_error=0.01)):
        run.log_score(one, is_best=one is first)
    assert read_status(run).best == first


def test_a_record_that_does_not_say_after_how_many_samples_is_not_a_score(tmp_path, fake_run):
    run = fake_run(tmp_path / "run", num_scores=5)
    before = status_values(read_status(run))
    for record in ({}, {"loss": 0.001}, {"samples": None, "loss": 0.001}):
        append(run.scores, record)
    assert repr(status_values(read_status(run))) == repr(before)


def paired(run: RunFolder, *scores: tuple[float, float]) -> None:
    """Log scores that are each compared with the first one: (loss, difference)."""
    for index, (loss, difference) in enumerate(scores, 1):
        compared = {"compared_with": 100 if index > 1 else 0, "difference": difference, "difference_error": 0.01}
        run.log_score(score(100 * index, loss, **compared), is_best=index == 1)


def test_a_lower_last_score_comes_with_why_it_is_not_the_best(tmp_path):
    for name, last, has_note in (
        ("chance", (0.045, -0.005), True),
        ("higher", (0.055, 0.005), False),
        ("better", (0.01, -0.04), False),
    ):
        run = RunFolder.create(tmp_path / name, Recipe())
        paired(run, (0.05, math.nan), last)
        assert bool(read_status(run).best_note) == has_note


def test_a_lower_score_than_that_of_the_one_that_was_selected_comes_with_that(tmp_path, fake_run):
    run = fake_run(tmp_path / "run", num_scores=3)
    best = run.read_state().best
    assert best is not None
    high = msgspec.structs.replace(best, loss=1.0, samples=7)
    one = CandidateScore(found=high, rescored=score(7, 0.1), difference=0.0, difference_error=0.0)
    two = CandidateScore(found=best, rescored=score(best.samples, 0.2), difference=0.1, difference_error=0.01)
    selection = Selection(protocol={}, num_scores=3, candidates=(one, two), winner=7)
    change_state(run, best=high, selection=selection)
    assert " 2 " in read_status(run).best_note
    change_state(run, selection=msgspec.structs.replace(selection, candidates=(one,)))
    assert read_status(run).best_note == ""


def test_a_training_that_writes_its_own_report_at_the_end_does_not_count_as_running(tmp_path, fake_run):
    run = fake_run(tmp_path / "run")
    with run.lock():
        assert read_status(run).state == "finished"
        change_state(run, status="running")  # what a resume writes first
        assert read_status(run).state == "running"


@pytest.mark.parametrize("status", ["new", "stopped", "finished", "failed"])
def test_a_run_that_is_being_prepared_is_running_whatever_it_goes_on_from(tmp_path, fake_run, status):
    run = fake_run(tmp_path / "run", status=status)
    change_state(run, stage=StageRecord(what="the encoder", share=0.4))
    with run.lock():
        assert read_status(run).state == "running"
    assert read_status(run).state != "running"


def test_the_values_are_strict_json(tmp_path, fake_run):
    run = fake_run(tmp_path / "run")
    values = json.loads(msgspec.json.encode(status_values(read_status(run))))
    assert values["best"]["protocol"]["features"] == "encoder"
    assert values["metric"] == "kid"
    assert values["seconds_left"] is None
    assert values["state"] == "finished"


def test_a_torn_log_and_a_missing_state_do_not_hide_the_rest(tmp_path, fake_run):
    run = fake_run(tmp_path / "run")
    (run.path / "state.json").unlink()
    with run.steps.open("ab") as file:
        file.write(b'{"samples": 99')
    now = read_status(run)
    assert now.samples == 2_400_000
    assert now.state == "interrupted", "and not one that never began"
    assert now.best is not None
    assert now.best.samples == 1_980_000


def test_a_run_of_another_kind_is_known_by_its_own_metric_and_words(tmp_path):
    metrics = (Metric(name="coverage"), Metric(name="mse", label="MSE", decides=True))
    data = data_record(noun="points", metrics=metrics)
    now = read_status(RunFolder.create(tmp_path / "run", Recipe(), data))
    assert (now.metric.shown, now.noun, now.metrics) == ("MSE", "points", metrics)


def test_runs_nearby_are_listed_with_one_that_cannot_be_read(tmp_path, fake_run):
    fake_run(tmp_path / "runs" / "one", num_steps=5, num_scores=1)
    broken = RunFolder.create(tmp_path / "runs" / "two", Recipe())
    (broken.path / "state.json").write_text("{")
    (tmp_path / "runs" / "other").mkdir()
    found = {path.name: now for path, now in nearby(tmp_path / "runs")}
    assert set(found) == {"one", "two"}
    assert isinstance(found["two"], UserError)
    assert not isinstance(found["one"], UserError)
    assert found["one"].state == "finished"


def test_the_best_is_finite_and_the_earliest_of_equals():
    scores = [score(index, loss) for index, loss in enumerate([math.nan, 0.2, 0.1, 0.1])]
    assert best_of(scores) == scores[2]
    assert best_of(scores[:1]) is None


def test_a_path_to_show_holds_no_more_of_the_machine_than_needed(tmp_path, monkeypatch):
    (tmp_path / "runs" / "a").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert shown_path(tmp_path / "runs" / "a") == "runs/a"
    monkeypatch.chdir(tmp_path / "runs" / "a")
    assert shown_path(tmp_path / "runs") == f"{tmp_path.name}/runs"
