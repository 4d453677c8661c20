"""Going on with a run: what would change nothing is refused in one line that says what to type instead."""

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from equipoise.errors import UserError
from equipoise.health.stats import ScoreLine
from equipoise.runs.folder import RunFolder
from equipoise.runs.resume_rules import recipe_to_go_on

STOPPED = {"policy": "evidence", "reason": "No better generator since 160 samples. Certified: a long story."}


@pytest.fixture
def run(fake_run: Callable[..., RunFolder], tmp_path: Path) -> RunFolder:
    """Return a run that has finished after 2.4M samples, its budget."""
    return fake_run(tmp_path / "run", "budget.seconds=none", "budget.samples=2400000")


def stop(run: RunFolder, budget: int = 9_600_000, **state: Any) -> None:
    """Let a run have been stopped by its policy, before a budget was spent."""
    run.write_state(run.read_state() | STOPPED | state)
    recipe = run.read_recipe()
    run.write_recipe(recipe | {"budget": {"samples": budget, "seconds": None}})


def refused(run: RunFolder, **options: Any) -> str:
    """Return the one line with which going on is refused; it must change no file."""
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    with pytest.raises(UserError) as error:
        recipe_to_go_on(run, **options)
    assert {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()} == before
    assert len(str(error.value).splitlines()) == 1
    return str(error.value)


def test_the_refusal_of_a_run_that_its_policy_stopped_says_what_to_type(run: RunFolder) -> None:
    stop(run)
    remedy = f"To train on all the same: equipoise resume {run.path} --policy budget"
    assert refused(run) == f"{run.path}: this run has finished (No better generator since 160 samples.) {remedy}"
    assert f"A larger budget does not change that. {remedy}" in refused(run, budget="90M")
    assert f"It was --policy evidence that stopped it. {remedy}" in refused(run, policy="evidence")
    begun = run.read_recipe()
    recipe = recipe_to_go_on(run, policy="budget")
    assert (recipe.stopping.policy, recipe.budget.samples) == ("budget", 9_600_000)
    recipe = recipe_to_go_on(run, "10M", "budget")
    assert (recipe.stopping.policy, recipe.budget.samples) == ("budget", 10_000_000)
    assert run.read_recipe() == begun, "asking changes nothing"


def test_a_recipe_that_somebody_has_spoilt_is_told_with_its_file(run: RunFolder) -> None:
    recipe = run.read_recipe()
    run.write_recipe(recipe | {"game": recipe["game"] | {"batch": "many"}})
    assert refused(run).startswith(f"{run.path / 'recipe.json'}: ")


def test_mistaken_policies_are_refused_in_one_line(run: RunFolder) -> None:
    stop(run)
    assert 'Did you mean "patience"?' in refused(run, policy="patiense")
    assert "Try: --policy budget" in refused(run, policy="")
    line = refused(run, policy="discriminator-threshold")
    assert "relativistic, are no probability" in line
    assert line.endswith("Try: --policy patience")


def test_a_policy_that_would_stop_the_run_at_once_is_refused(run: RunFolder) -> None:
    stop(run)
    for samples in (2_410_000, 2_420_000):
        run.log_score(asdict(ScoreLine(samples=samples, seconds=1.0, kid=9.0, protocol={"features": "another"})))
    assert recipe_to_go_on(run, policy="patience").stopping.policy == "patience"
    for samples in range(2_430_000, 2_530_000, 10_000):
        run.log_score(asdict(ScoreLine(samples=samples, seconds=1.0, kid=9.5, protocol={"features": "another"})))
    line = refused(run, policy="patience")
    assert line.startswith(
        "--policy patience: would stop this run at once (KID has not improved for 11 scores in a row"
    )
    assert line.endswith(f"To train on all the same: equipoise resume {run.path} --policy budget")
    assert refused(run, policy="patience", budget="90M").endswith("--policy budget --budget 90M")


def test_a_spent_budget_is_told_whatever_the_policy(run: RunFolder) -> None:
    resume = f"equipoise resume {run.path}"
    assert refused(run).endswith(f"To train longer, give it a larger budget: {resume} --budget 20m")
    assert refused(run, budget="300").endswith(f"2,400,000 samples are spent. Try: {resume} --budget 4800000")
    assert recipe_to_go_on(run, budget="4M").budget.samples == 4_000_000
    resume += " --policy budget"
    assert refused(run, policy="budget").endswith(f"give it a larger budget: {resume} --budget 20m")
    assert refused(run, policy="budget", budget="300").endswith(f"Try: {resume} --budget 4800000")
    stop(run, budget=2_400_000)
    assert refused(run, policy="budget").endswith(f"give it a larger budget: {resume} --budget 20m")


def test_a_training_that_diverged_is_not_promised_anything(run: RunFolder) -> None:
    stop(run, policy="diverged", reason="It has diverged.")
    for options in ({}, {"policy": "budget"}, {"budget": "90M"}):
        assert "Start a new run" in refused(run, **options)


def test_a_run_that_has_not_finished_takes_its_own_policy_or_another(run: RunFolder) -> None:
    stop(run, status="stopped", policy="interrupted")
    assert recipe_to_go_on(run, policy="evidence").stopping.policy == "evidence"
    assert recipe_to_go_on(run, policy="patience").stopping.policy == "patience"


def test_a_loop_of_its_own_goes_on_by_itself(run: RunFolder) -> None:
    run.write_recipe(run.read_recipe() | {"name": "own loop"})
    assert "resume=True" in refused(run, policy="budget")
