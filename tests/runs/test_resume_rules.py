"""Continuing a run: what would change nothing is refused in one line that says what to type instead."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_runs import change_state

from equipoise.budgets import parsed_budget
from equipoise.errors import Command, Near, Option, Setting, UserError
from equipoise.recipe import Budget, to_dict
from equipoise.runs.folder import CUSTOM_LOOP, RunFolder
from equipoise.runs.resume_rules import adopt, in_words, recipe_to_resume, times_as_much
from equipoise.runs.status import read_status
from equipoise.storage.logs import records
from equipoise.storage.records import Score

REASON = "No better generator since 160 samples"


@pytest.fixture
def run(fake_run: Callable[..., RunFolder], tmp_path: Path) -> RunFolder:
    """Return a run that has finished after 2.4M samples, its budget."""
    return fake_run(tmp_path / "run", "budget.seconds=none", "budget.samples=2400000")


def stop(run: RunFolder, budget: int = 9_600_000, **state: Any) -> None:
    """Let a run have been stopped by its policy, before a budget was spent."""
    ended = {"stop_reason": "evidence", "message": f"{REASON}. Statistical test: a long story."}
    change_state(run, **ended | state)
    run.write_recipe(dataclasses.replace(run.recipe(), budget=Budget(samples=budget, seconds=None)))


def refused(run: RunFolder, **options: Any) -> UserError:
    """Return the refusal of a resume, one line; it must change no file."""
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    with pytest.raises(UserError) as caught:
        recipe_to_resume(run, **options)
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before
    assert len(str(caught.value).splitlines()) == 1
    return caught.value


def again(run: RunFolder, **options: Any) -> Command:
    return Command("resume", run.path, **options)


def test_the_refusal_of_a_run_that_its_policy_stopped_says_what_to_type(run: RunFolder) -> None:
    stop(run)
    for options in ({}, {"budget": "90M"}, {"policy": "evidence"}):
        error = refused(run, **options)
        kept = {name: value for name, value in options.items() if name == "budget"}
        assert (error.subject, error.remedies[-1]) == (run.path, again(run, policy="budget", **kept))
        assert REASON in error.problem
        assert "story" not in error.problem, "only the first sentence"
    assert refused(run, budget="90M").problem != refused(run).problem, "it says that the budget does not change that"
    begun = run.recipe()
    recipe = recipe_to_resume(run, policy="budget")
    assert (recipe.stopping.policy, recipe.budget.samples) == ("budget", 9_600_000)
    recipe = recipe_to_resume(run, "10M", "budget")
    assert (recipe.stopping.policy, recipe.budget.samples) == ("budget", 10_000_000)
    assert run.recipe() == begun, "asking changes nothing"


def test_a_recipe_that_somebody_has_spoilt_is_named_by_its_file(run: RunFolder) -> None:
    recipe = run.read_recipe()
    run.write_recipe(recipe | {"game": recipe["game"] | {"batch": "many"}})
    error = refused(run)
    assert error.subject == run.path / "recipe.json"
    assert "game.batch" in error.problem


def test_mistaken_policies_are_refused_in_one_line(run: RunFolder) -> None:
    stop(run)
    assert refused(run, policy="patiense").remedies == (Near("patience"),)
    assert refused(run, policy="").remedies == (Option("policy", "budget"),)
    error = refused(run, policy="discriminator-threshold")
    assert error.remedies == (Setting("stopping.policy", "patience"),)
    assert "relativistic" in error.problem


def test_a_policy_that_would_stop_the_run_at_once_is_refused(run: RunFolder) -> None:
    stop(run)

    def log(*samples: int, loss: float) -> None:
        for at in samples:
            score = Score(samples=at, seconds=1.0, loss=loss, protocol={"features": "another"})
            run.log_score(score, is_best=False)

    log(2_410_000, 2_420_000, loss=9.0)
    assert recipe_to_resume(run, policy="patience").stopping.policy == "patience"
    log(*range(2_430_000, 2_530_000, 10_000), loss=9.5)
    error = refused(run, policy="patience")
    assert (error.subject, error.remedies[-1]) == (Option("policy", "patience"), again(run, policy="budget"))
    assert " 11 " in error.problem
    assert refused(run, policy="patience", budget="90M").remedies[-1] == again(run, policy="budget", budget="90M")


def test_a_spent_budget_is_reported_whatever_the_policy(run: RunFolder) -> None:
    assert refused(run).remedies[-1] == again(run, budget="5M")
    error = refused(run, budget="300")
    assert (error.subject, error.remedies[-1]) == (Option("budget", "300"), again(run, budget="5M"))
    assert "2,400,000" in error.problem
    assert recipe_to_resume(run, budget="4M").budget.samples == 4_000_000
    assert refused(run, policy="budget").remedies[-1] == again(run, policy="budget", budget="5M")
    assert refused(run, policy="budget", budget="300").remedies[-1] == again(run, policy="budget", budget="5M")
    stop(run, budget=2_400_000)
    assert refused(run, policy="budget").remedies[-1] == again(run, policy="budget", budget="5M")


def test_what_is_advised_keeps_the_place_of_the_data_and_every_other_option(run: RunFolder) -> None:
    assert refused(run, source="there").remedies[-1] == again(run, budget="5M", source="there")
    kept = again(run, policy="budget", budget="5M", source="there")
    assert refused(run, source="there", policy="budget", budget="300").remedies[-1] == kept
    stop(run)
    assert refused(run, source="there").remedies[-1] == again(run, policy="budget", source="there")
    assert refused(run, budget="300").remedies[-1] == again(run, policy="budget", budget="5M"), "300 are spent"


def test_twice_the_budget_is_suggested_where_its_last_step_went_over_it(run: RunFolder) -> None:
    run.write_recipe(dataclasses.replace(run.recipe(), budget=Budget(samples=None, seconds=300.0)))
    for seconds, expected in ((300.0, "10m"), (304.2, "10m"), (420.0, "14m")):
        change_state(run, seconds=seconds)
        assert refused(run).remedies[-1] == again(run, budget=expected)


def test_samples_of_abandoned_attempts_are_spent_too(run: RunFolder) -> None:
    change_state(run, spent=3_000_000)
    assert "3,000,000" in refused(run, budget="2500000").problem
    assert recipe_to_resume(run, budget="3500000").budget.samples == 3_500_000


@pytest.mark.parametrize("reason", ["diverged", "evaluation-failed"])
def test_a_training_that_failed_in_itself_is_not_promised_anything(run: RunFolder, reason: str) -> None:
    stop(run, stop_reason=reason, message="It has diverged.")
    for options in ({}, {"policy": "budget"}, {"budget": "90M"}):
        assert refused(run, **options).remedies[-1] == Command("train", "mnist")


def test_a_run_that_has_not_finished_takes_its_own_policy_or_another(run: RunFolder) -> None:
    stop(run, status="stopped", stop_reason="interrupted")
    assert recipe_to_resume(run, policy="evidence").stopping.policy == "evidence"
    assert recipe_to_resume(run, policy="patience").stopping.policy == "patience"


def test_a_custom_loop_is_continued_by_its_script(run: RunFolder) -> None:
    run.write_recipe(run.read_recipe() | {"name": CUSTOM_LOOP})
    assert refused(run, policy="budget").remedies[-1] == Command("Watch", run.path, resume=True)


def test_what_is_adopted_is_written_and_another_policy_and_a_test_are_events(run: RunFolder) -> None:
    begun = len(records(run.events))
    assert adopt(run, run.recipe()) == []
    assert len(records(run.events)) == begun
    recipe = recipe_to_resume(run, "4M", "patience")
    before = run.recipe().budget
    told = adopt(run, recipe)
    assert to_dict(run.recipe()) == to_dict(recipe)
    kinds = ["policy changed", "budget changed", "test set used before"]
    assert [event["kind"] for event in records(run.events)[begun:]] == kinds
    assert len(told) == 2
    assert in_words(before) in told[0]
    assert "4M samples" in told[0]
    assert " %" in told[0]
    assert (run.read_state().status, run.read_state().best) == ("running", None)


def test_until_a_larger_budget_is_trained_with_the_run_stands_at_its_share_of_that_one(run: RunFolder) -> None:
    """The judge is made first, which may take a minute: meanwhile the earlier budget's intervals said 100 %."""
    adopt(run, recipe_to_resume(run, "4800k"))
    with run.lock():
        now = read_status(run)
    assert (now.state, now.horizon, now.share) == ("running", 4_800_000, 0.5)
    assert now.seconds_left > 60


@pytest.mark.parametrize(
    ("spent", "times", "counted", "expected"),
    [
        (0.0, 2.0, False, "1s"),
        (7.3, 2.0, False, "15s"),
        (50.3, 2.0, False, "110s"),
        (59.9, 2.0, False, "2m"),
        (59.9, 20.0, False, "20m"),
        (600.4, 2.0, False, "21m"),
        (903, 2.0, False, "31m"),
        (3_000, 20.0, False, "17h"),
        (3_600, 2.0, False, "2h"),
        (3_605, 1.25, False, "76m"),
        (400_000, 2.0, False, "230h"),
        (800, 2.0, True, "1600"),
        (950, 20.0, True, "19k"),
        (66_176, 2.0, True, "140k"),
        (1_000_000, 1.25, True, "1300k"),
        (2_400_000, 2.0, True, "5M"),
    ],
)
def test_a_larger_budget_is_suggested_as_one_would_type_it_is_enough_and_hardly_more(spent, times, counted, expected):
    found = times_as_much(spent, times, counted=counted)
    assert found == expected
    budget = parsed_budget(found)
    amount = budget.samples if counted else budget.seconds
    assert amount is not None
    assert amount >= times * spent
    assert amount <= max(1, 1.1 * times * spent)
