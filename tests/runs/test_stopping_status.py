"""Where the stopping stands: the sentence says what the policy would do next, and the log alone is enough to say it."""

import dataclasses
import math
import random
from dataclasses import asdict

import pytest

from equipoise.health.stats import ScoreLine, StepStats
from equipoise.recipe import Budget, PolicyName, Recipe, Stopping, with_settings
from equipoise.runs.folder import RunFolder
from equipoise.runs.stopping_status import forecasts, outlook_values, referee_of
from equipoise.stopping import evidence
from equipoise.stopping.monitor import Referee
from equipoise.stopping.policies import Stop


def line(samples: int, kid: float, **changes: object) -> ScoreLine:
    return ScoreLine(samples=samples, seconds=1.0, kid=kid, kid_se=0.01 * abs(kid), **changes)  # type: ignore[arg-type]


def followed(stopping: Stopping, kids: list[float]) -> Referee:
    referee = Referee(stopping, Budget(samples=10**9, seconds=None), "kid")
    for index, kid in enumerate(kids, 1):
        referee.score(line(1000 * index, kid))
    return referee


def plateau(num: int, seed: int = 0) -> list[float]:
    """Return a curve that falls to its best after ten scores and then rises slowly, with a little noise."""
    noise = random.Random(seed)
    return [(1 / index + 0.01 * max(0, index - 10)) * math.exp(noise.gauss(0, 0.02)) for index in range(1, num + 1)]


def test_before_there_is_anything_to_say_it_says_so() -> None:
    for kids in ([], [1.0], [math.nan, math.nan]):
        assert followed(Stopping(), kids).outlook() == "Too few scores so far."
        assert followed(Stopping(), kids).findings() is None


def test_a_last_score_that_is_the_best_is_not_called_unbeaten() -> None:
    text = followed(Stopping(), [1.0, 0.8, 0.5]).outlook()
    assert text.startswith("The last score is the lowest so far; a quarter more training is forecast to bring ")
    assert text.endswith(" (price 2.0 %).")


@pytest.mark.parametrize("seed", range(5))
def test_the_scores_that_are_missing_are_the_ones_that_are_waited_for(seed: int) -> None:
    """Where time is all that is missing, the run stops exactly when the count is full, and never before."""
    referee = Referee(Stopping(price=1.0, delta=5.0), Budget(samples=10**9, seconds=None), "kid")
    stops = []
    for index, kid in enumerate(plateau(60, seed), 1):
        referee.score(line(1000 * index, kid))
        text, found = referee.outlook(), referee.findings()
        is_full = " of " not in text.partition(";")[0] and text.startswith("Unbeaten")
        stops.append(isinstance(referee.verdict(1000 * index, 0.0), Stop))
        assert stops[-1] == is_full, text
        if found and found.num_since and not is_full:
            since, needed = (int(word) for word in text.removeprefix("Unbeaten for ").split(" scores")[0].split(" of "))
            assert since == found.num_since < needed
    assert any(stops)


def test_a_stop_comes_when_all_three_parts_of_the_sentence_allow_it() -> None:
    kids = plateau(60)
    referee, stopped = followed(Stopping(), []), False
    for index, kid in enumerate(kids, 1):
        referee.score(line(1000 * index, kid))
        found, text = referee.findings(), referee.outlook()
        stopped = isinstance(referee.verdict(1000 * index, 0.0), Stop)
        if found is not None and text.startswith("Unbeaten"):
            waited = " of " not in text.partition(";")[0]
            assert stopped == (waited and found.forecast < 0.02 and "no mean gain since (certified)" in text), text
        if stopped:
            break
    assert stopped


@pytest.mark.parametrize(
    ("policy", "text"),
    [
        ("patience", "3 of 10 scores without a better one."),
        ("budget", ""),
        ("discriminator-threshold", "No D(G(z)) so far."),
    ],
)
def test_the_other_policies_say_how_near_they_are_and_have_no_numbers(policy: PolicyName, text: str) -> None:
    referee = followed(Stopping(policy=policy), [1.0, 0.5, 0.6, math.nan, 0.7])
    assert referee.outlook() == text
    assert referee.findings() is None
    assert outlook_values(referee) is None


def test_the_threshold_says_its_mean_and_how_much_it_has_seen(tmp_path, fake_run) -> None:
    run = fake_run(tmp_path / "run", "game.loss=non-saturating", "stopping.policy=discriminator-threshold")
    recipe = with_settings(
        Recipe(), ["game.loss=non-saturating", "stopping.policy=discriminator-threshold", "stopping.threshold=0.7"]
    )
    text = referee_of(run, recipe).outlook()
    assert text.startswith("D(G(z)) averages 0.4")
    assert text.endswith("over the last 10 intervals; 0.7 stops it.")
    few = Referee(recipe.stopping, recipe.budget)
    values = {field.name: 0.4 for field in dataclasses.fields(StepStats) if field.name != "terms"}
    few.observe(StepStats(**values | {"samples": 100}))  # type: ignore[arg-type]
    assert few.outlook() == "D(G(z)) averages 0.40 over the last 1 intervals (1 of at least 20); 0.7 stops it."


def test_the_log_gives_the_referee_that_the_training_had_failed_scores_too(tmp_path) -> None:
    recipe = with_settings(Recipe(), ["stopping.policy=patience", "stopping.patience=30"])
    run = RunFolder.create(tmp_path / "run", recipe)
    referee = Referee(recipe.stopping, recipe.budget, "kid")
    for index, kid in enumerate(plateau(20), 1):
        if index in (3, 15, 16):
            run.log_event(1000 * index, 1.0, "judging failed", "out of memory")
            referee.score(None)
        else:
            record = line(1000 * index, kid, protocol={"features": "encoder"})
            run.log_score(asdict(record) | {"best": referee.score(record)})
    again = referee_of(run, recipe)
    assert again.outlook() == referee.outlook()
    assert "of 30 scores" in again.outlook()
    evidence = with_settings(recipe, ["stopping.policy=evidence"])
    assert referee_of(run, evidence).best == referee.best


def test_scores_of_an_earlier_judge_are_forgotten_even_when_it_comes_back(tmp_path) -> None:
    run = RunFolder.create(tmp_path / "run", Recipe())
    judges = ["one"] * 6 + ["two"] * 3 + ["one"] * 4
    for index, judge in enumerate(judges, 1):
        run.log_score(asdict(line(1000 * index, 0.1 + 0.01 * index, protocol={"features": judge})))
    found = referee_of(run, Recipe()).findings()
    assert found is not None
    assert found.num_looks == 4
    assert referee_of(run, Recipe()).best == line(10_000, 0.2, protocol={"features": "one"})


def test_forecasts_are_those_of_the_moment_and_need_five_scores_and_the_evidence_policy(tmp_path) -> None:
    recipe, kids = Recipe(), plateau(30)
    run = RunFolder.create(tmp_path / "run", recipe)
    found = []
    for index, kid in enumerate(kids, 1):
        run.log_score(asdict(line(1000 * index, kid)))
        found = forecasts(run, recipe)
        assert bool(found) == (index >= 5)
        now = followed(recipe.stopping, kids[:index]).findings()
        if found:
            assert now is not None
            assert found[-1].samples == 1000 * index
            assert found[-1].gain == now.forecast
    assert [one.samples for one in found] == [1000 * index for index in range(2, 31)]
    assert forecasts(run, with_settings(recipe, ["stopping.policy=patience"])) == []


def test_the_numbers_are_the_findings_with_the_limits_they_are_held_against() -> None:
    referee = followed(Stopping(price=0.03), plateau(25))
    found, values = referee.findings(), outlook_values(referee)
    assert found is not None
    assert values is not None
    assert (values["forecast"], values["bound"], values["num_since"]) == (found.forecast, found.bound, found.num_since)
    assert (values["price"], values["delta"], values["share"], values["alpha"]) == (0.03, 0.02, 0.5, 0.05)


def test_a_log_that_is_only_shown_asks_for_no_verdict_after_each_score(tmp_path, monkeypatch) -> None:
    """A verdict looks at all scores so far: one after each of 8,000 took a minute."""
    run, asked = RunFolder.create(tmp_path / "run", Recipe()), []
    for index, kid in enumerate(plateau(60), 1):
        run.log_score(asdict(line(1000 * index, kid)))
    before = followed(Stopping(), plateau(60)).verdict(60_000, 0.0)
    verdict = evidence.evidence_verdict
    monkeypatch.setattr(
        "equipoise.stopping.monitor.evidence_verdict", lambda *given: (asked.append(given), verdict(*given))[1]
    )
    referee = referee_of(run, Recipe())
    forecasts(run, Recipe())
    assert referee.outlook()
    assert not asked
    assert [referee.verdict(60_000, 0.0) for _ in range(3)] == [before] * 3
    assert len(asked) == 1  # of the steps between two scores, the first one pays


def test_of_very_many_scores_the_forecasts_are_thinned_and_end_at_the_last_one(tmp_path, monkeypatch) -> None:
    run = RunFolder.create(tmp_path / "run", Recipe())
    for index, kid in enumerate(plateau(31), 1):
        run.log_score(asdict(line(1000 * index, kid)))
    every = {one.samples: one for one in forecasts(run, Recipe())}
    monkeypatch.setattr("equipoise.runs.stopping_status.MOST_FORECASTS", 10)
    found = forecasts(run, Recipe())
    assert [one.samples for one in found] == [3000, 7000, 11_000, 15_000, 19_000, 23_000, 27_000, 31_000]
    assert found == [every[one.samples] for one in found]


def test_records_that_are_no_scores_and_those_before_the_last_scores_count_for_nothing(tmp_path, monkeypatch) -> None:
    recipe = with_settings(Recipe(), ["stopping.policy=patience"])
    run = RunFolder.create(tmp_path / "run", recipe)
    run.log_event(500, 1.0, "judging failed", "out of memory")
    for index in range(1, 8):
        run.log_score(asdict(line(1000 * index, float(index))))
        run.log_score({})
    assert referee_of(run, recipe).outlook() == "6 of 10 scores without a better one."
    for module in ("storage.logs", "runs.stopping_status"):
        monkeypatch.setattr(f"equipoise.{module}.MOST_SCORES", 4)
    referee = referee_of(run, recipe)
    assert referee.outlook() == "3 of 10 scores without a better one."
    assert referee.best == line(4000, 4.0)
