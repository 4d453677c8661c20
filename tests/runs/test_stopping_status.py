"""How close the stopping is: the sentence says what the policy would do next, and the log alone is enough to say it."""

import dataclasses
import math
import random
import re
from typing import Any

import pytest
from fake_runs import data_record
from numbers_by_hand import HEALTHY

from equipoise.recipe import Budget, EvidenceSettings, PolicyName, Recipe, Stopping, with_settings
from equipoise.runs.folder import RunFolder
from equipoise.runs.stopping_status import certificate_values, evaluations, forecasts, monitor_of
from equipoise.stopping import evidence
from equipoise.stopping.monitor import Monitor
from equipoise.stopping.verdicts import Continue, Stop
from equipoise.storage.logs import append
from equipoise.storage.records import Metric, Score, StepStats

METRICS = (Metric(name="kid", label="KID", decides=True, signed=True),)
BUDGET = Budget(samples=10**9, seconds=None)


def score(samples: int, loss: float, **changes: Any) -> Score:
    return Score(samples=samples, seconds=1.0, loss=loss, error=0.01 * abs(loss), **changes)


def followed(stopping: Stopping, losses: list[float]) -> Monitor:
    monitor = Monitor(stopping, BUDGET, METRICS)
    for index, loss in enumerate(losses, 1):
        monitor.score(score(1000 * index, loss))
    return monitor


def logged(path: Any, recipe: Recipe, losses: list[float]) -> RunFolder:
    run = RunFolder.create(path, recipe, data_record())
    for index, loss in enumerate(losses, 1):
        run.log_score(score(1000 * index, loss), is_best=False)
    return run


def plateau(num: int, seed: int = 0) -> list[float]:
    """Return a curve that falls to its best after ten scores and then rises slowly, with a little noise."""
    noise = random.Random(seed)
    return [(1 / index + 0.01 * max(0, index - 10)) * math.exp(noise.gauss(0, 0.02)) for index in range(1, num + 1)]


def waited(text: str) -> tuple[int, int] | None:
    """Return how many evaluations have passed of how many that are required, None where no more are."""
    found = re.search(r"(\d+) of the (\d+)", text)
    return (int(found[1]), int(found[2])) if found else None


def test_before_there_is_anything_to_say_it_says_so_without_a_number() -> None:
    for losses in ([], [1.0], [math.nan, math.nan]):
        monitor = followed(Stopping(), losses)
        assert monitor.stopping_status()
        assert not re.search(r"\d", monitor.stopping_status())
        assert monitor.certificate() is None


def test_a_last_score_that_is_the_best_is_not_counted_as_waiting() -> None:
    text = followed(Stopping(), [1.0, 0.8, 0.5]).stopping_status()
    assert waited(text) is None
    assert text.endswith("2.0 %).")
    assert "evaluations" not in text


@pytest.mark.parametrize("seed", range(5))
def test_the_evaluations_that_are_missing_are_the_ones_that_are_waited_for(seed: int) -> None:
    """Where time is all that is missing, the run stops exactly when the count is full, and never before."""
    stopping = Stopping(evidence=EvidenceSettings(min_gain=1.0, delta=5.0))
    monitor = Monitor(stopping, BUDGET, METRICS)
    stops = []
    for index, loss in enumerate(plateau(60, seed), 1):
        monitor.score(score(1000 * index, loss))
        text, found = monitor.stopping_status(), monitor.certificate()
        missing = waited(text)
        is_full = found is not None and found.num_since > 0 and missing is None
        stops.append(isinstance(monitor.verdict(1000 * index, 0.0), Stop))
        assert stops[-1] == is_full, text
        if missing is not None:
            assert found is not None
            assert missing[0] == found.num_since < missing[1]
    assert any(stops)


def test_a_stop_comes_when_all_three_parts_of_the_sentence_allow_it() -> None:
    monitor, stopped = followed(Stopping(), []), False
    for index, loss in enumerate(plateau(60), 1):
        monitor.score(score(1000 * index, loss))
        found, text = monitor.certificate(), monitor.stopping_status()
        stopped = isinstance(monitor.verdict(1000 * index, 0.0), Stop)
        if found is not None and found.num_since:
            is_ruled_out = " not ruled out" not in text
            assert stopped == (waited(text) is None and found.forecast < 0.02 and is_ruled_out), text
        if stopped:
            break
    assert stopped


@pytest.mark.parametrize(
    ("policy", "numbers"), [("patience", ["3", "10"]), ("budget", []), ("discriminator-threshold", [])]
)
def test_the_other_policies_say_how_close_they_are_and_have_no_certificate(policy: PolicyName, numbers: list) -> None:
    monitor = followed(Stopping(policy=policy), [1.0, 0.5, 0.6, math.nan, 0.7])
    assert re.findall(r"\d+", monitor.stopping_status()) == numbers
    assert bool(monitor.stopping_status()) == (policy != "budget")
    assert monitor.certificate() is None
    assert certificate_values(monitor) is None


def test_the_threshold_says_its_mean_and_how_much_it_has_seen(tmp_path, fake_run) -> None:
    settings = ["game.loss=non-saturating", "stopping.policy=discriminator-threshold", "stopping.threshold.level=0.7"]
    run = fake_run(tmp_path / "run", *settings)
    recipe = with_settings(Recipe(), settings)
    assert re.findall(r"\d[.]\d+|\d+", monitor_of(run, recipe).stopping_status())[1:] == ["10", "0.7"]
    few = Monitor(recipe.stopping, recipe.budget)
    few.observe(StepStats(samples=100, **HEALTHY))
    assert re.findall(r"\d[.]\d+|\d+", few.stopping_status()) == ["0.40", "1", "1", "20", "0.7"]


def test_the_log_gives_the_monitor_that_the_training_had_failed_scores_too(tmp_path) -> None:
    recipe = with_settings(Recipe(), ["stopping.policy=patience", "stopping.patience.evaluations=30"])
    run = RunFolder.create(tmp_path / "run", recipe, data_record())
    monitor = Monitor(recipe.stopping, recipe.budget, METRICS)
    for index, loss in enumerate(plateau(20), 1):
        if index in (3, 15, 16):
            run.log_event(1000 * index, 1.0, "evaluation failed", "out of memory")
            monitor.score(None)
        else:
            one = score(1000 * index, loss, protocol={"features": "encoder"})
            run.log_score(one, is_best=monitor.score(one))
    again = monitor_of(run, recipe)
    assert again.stopping_status() == monitor.stopping_status()
    assert " 30 " in again.stopping_status()
    evidence = with_settings(recipe, ["stopping.policy=evidence"])
    assert monitor_of(run, evidence).best == monitor.best


def test_what_was_no_evaluation_of_this_training_uses_up_no_patience(tmp_path) -> None:
    """The end's parts are none, an abandoned attempt is another training, and what was scored later did not fail."""
    recipe = with_settings(Recipe(), ["stopping.policy=patience", "stopping.patience.evaluations=5"])
    run = logged(tmp_path / "run", recipe, [0.5, 0.4, 0.6, 0.6])
    run.log_step(StepStats(samples=4000, attempt=1, **HEALTHY))
    for index in range(10):
        run.log_event(4500 + index, 1.0, "evaluation failed", "out of memory", 0)
        run.log_event(5000, 1.0, "final stage failed", "out of memory", 1)
    run.log_event(4000, 1.0, "evaluation failed", "out of memory", 1)
    for _ in range(2):
        run.log_event(5000, 1.0, "evaluation failed", "out of memory", 1)
    found = evaluations(run)
    assert [one.samples for one in found] == [1000, 2000, 3000, 4000, 5000]
    assert [one.is_finite for one in found] == [True] * 4 + [False]
    monitor = monitor_of(run, recipe)
    assert re.findall(r"\d+", monitor.stopping_status()) == ["3", "5"]
    assert monitor.verdict(0, 0.0) == Continue()


def test_scores_of_an_earlier_protocol_are_forgotten_even_when_it_comes_back(tmp_path) -> None:
    run = RunFolder.create(tmp_path / "run", Recipe(), data_record())
    for index, name in enumerate(["one"] * 6 + ["two"] * 3 + ["one"] * 4, 1):
        run.log_score(score(1000 * index, 0.1 + 0.01 * index, protocol={"features": name}), is_best=False)
    monitor = monitor_of(run, Recipe())
    found = monitor.certificate()
    assert found is not None
    assert found.num_evaluations == 4
    assert monitor.best is not None
    assert (monitor.best.samples, monitor.best.loss) == (10_000, 0.2)


def test_forecasts_are_those_of_the_moment_and_need_five_scores_and_the_evidence_policy(tmp_path) -> None:
    recipe, losses = Recipe(), plateau(30)
    run = RunFolder.create(tmp_path / "run", recipe, data_record())
    found = []
    for index, loss in enumerate(losses, 1):
        run.log_score(score(1000 * index, loss), is_best=False)
        found = forecasts(run, recipe)
        assert bool(found) == (index >= 5)
        now = followed(recipe.stopping, losses[:index]).certificate()
        if found:
            assert now is not None
            assert found[-1].samples == 1000 * index
            assert found[-1].gain == now.forecast
    assert [one.samples for one in found] == [1000 * index for index in range(2, 31)]
    assert forecasts(run, with_settings(recipe, ["stopping.policy=patience"])) == []


def test_the_numbers_are_those_of_the_certificate_with_the_limits_they_are_held_against() -> None:
    monitor = followed(Stopping(evidence=EvidenceSettings(min_gain=0.03)), plateau(25))
    found, values = monitor.certificate(), certificate_values(monitor)
    assert found is not None
    assert values is not None
    assert (values["forecast"], values["bound"], values["num_since"]) == (found.forecast, found.bound, found.num_since)
    assert [values[name] for name in ("min_gain", "delta", "min_wait", "alpha")] == [0.03, 0.02, 0.5, 0.05]
    assert dataclasses.asdict(found).keys() <= values.keys()


def test_a_log_that_is_only_shown_asks_for_no_verdict_after_each_score(tmp_path, monkeypatch) -> None:
    """A verdict goes through all scores so far: one after each of 8,000 took a minute."""
    asked = []
    run = logged(tmp_path / "run", Recipe(), plateau(60))
    before = followed(Stopping(), plateau(60)).verdict(60_000, 0.0)
    verdict = evidence.verdict
    monkeypatch.setattr(evidence, "verdict", lambda *given: (asked.append(given), verdict(*given))[1])
    monitor = monitor_of(run, Recipe())
    forecasts(run, Recipe())
    assert monitor.stopping_status()
    assert not asked
    assert [monitor.verdict(60_000, 0.0) for _ in range(3)] == [before] * 3
    assert len(asked) == 1  # of the steps between two scores, the first one pays


def test_of_very_many_scores_the_forecasts_are_thinned_and_end_at_the_last_one(tmp_path, monkeypatch) -> None:
    run = logged(tmp_path / "run", Recipe(), plateau(31))
    every = {one.samples: one for one in forecasts(run, Recipe())}
    monkeypatch.setattr("equipoise.runs.stopping_status.MOST_FORECASTS", 10)
    found = forecasts(run, Recipe())
    assert [one.samples for one in found] == [3000, 7000, 11_000, 15_000, 19_000, 23_000, 27_000, 31_000]
    assert found == [every[one.samples] for one in found]


def test_records_that_are_not_scores_and_those_before_the_last_scores_count_for_nothing(tmp_path, monkeypatch) -> None:
    recipe = with_settings(Recipe(), ["stopping.policy=patience"])
    run = RunFolder.create(tmp_path / "run", recipe)
    run.log_event(500, 1.0, "evaluation failed", "out of memory")
    for index in range(1, 8):
        run.log_score(score(1000 * index, float(index)), is_best=index == 1)
        append(run.scores, {})
    assert re.findall(r"\d+", monitor_of(run, recipe).stopping_status()) == ["6", "10"]
    for module in ("storage.logs", "runs.stopping_status"):
        monkeypatch.setattr(f"equipoise.{module}.MOST_SCORES", 4)
    monitor = monitor_of(run, recipe)
    assert re.findall(r"\d+", monitor.stopping_status()) == ["3", "10"]
    assert monitor.best is not None
    assert (monitor.best.samples, monitor.best.loss) == (4000, 4.0)
