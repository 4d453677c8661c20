"""Stops that no policy decides: the budget, a game that diverged, evaluations that all fail."""

import math
import re
from collections.abc import Callable

import pytest

from equipoise.recipe import Budget, Remedies, with_settings
from equipoise.recipes import NAMES, Facts, RecipeName, build
from equipoise.stopping.verdicts import (
    NUM_STUCK,
    Continue,
    Remedy,
    Stop,
    budget_verdict,
    diverged,
    failing_stop,
    nonfinite_cause,
    spoken,
    stuck_cause,
    stuck_player,
)
from equipoise.storage.records import StepStats

Stats = Callable[..., list[StepStats]]


def test_a_budget_stops_at_its_samples_or_its_seconds_and_not_before():
    both = Budget(samples=60_000, seconds=600.0)
    assert budget_verdict(both, 59_999, 599.9) == Continue()
    for spent, seconds, amount in ((60_000, 0.0, "60,000"), (0, 600.0, spoken(600.0))):
        stop = budget_verdict(both, spent, seconds)
        assert isinstance(stop, Stop)
        assert stop.reason == "budget"
        assert amount in stop.message
    assert budget_verdict(Budget(samples=None, seconds=None), 10**12, 1e12) == Continue()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(90, "90 s"), (0.5, "0.5 s"), (600, "10 min"), (605, "10 min 5 s"), (7200, "2 h"), (9000, "2 h 30 min")],
)
def test_times_are_spoken_plainly(seconds: float, text: str):
    assert spoken(seconds) == text


# A game that diverged


@pytest.mark.parametrize("allowed", [0, 1, 3, 10])
def test_a_diverged_game_gets_as_many_remedies_as_are_allowed_and_then_an_honest_stop(allowed: int):
    cause = nonfinite_cause("generator.weight")
    for attempt in range(allowed):
        found = diverged(cause, attempt, Remedies(attempts=allowed))
        assert isinstance(found, Remedy)
        assert found.message == cause
    for attempt in (allowed, allowed + 1):
        stop = diverged(cause, attempt, Remedies(attempts=allowed))
        assert isinstance(stop, Stop)
        assert stop.reason == "diverged"
        assert "generator.weight" in stop.message
        is_told = ("once" if allowed == 1 else str(allowed)) in stop.message.replace(cause, "")
        assert is_told == (allowed > 0), "how often it was tried"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("attempts", "factor"), [(0, 0.5), (1, 0.5), (3, 0.125)])
def test_the_rates_that_are_advised_are_the_recipes_own_as_low_as_any_that_was_tried(
    name: RecipeName, attempts: int, factor: float
):
    """Each stands as a setting that both the command line and Python take."""
    recipe = build(name, Facts(size=28, channels=1, num_train=1000))
    stop = diverged("a cause.", attempts, Remedies(attempts=attempts), recipe.game)
    assert isinstance(stop, Stop)
    advised = with_settings(recipe, re.findall(r"game\.[\w.]+=[^\s,]+", stop.message)).game
    for before, after in (
        (recipe.game.generator, advised.generator),
        (recipe.game.discriminator, advised.discriminator),
    ):
        assert after.rate == pytest.approx(factor * before.rate)
        if before.rate_end is None:
            assert after.rate_end is None
        else:
            assert after.rate_end == pytest.approx(factor * before.rate_end), "a schedule must not raise it again"


@pytest.mark.parametrize("player", ["discriminator", "generator"])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_player_is_stuck_after_three_intervals_without_a_step_and_not_before(stats: Stats, player: str, bad: float):
    before = stats(10)
    poisoned = stats(NUM_STUCK, first=11, skipped_steps=10, **{f"{player}_loss": bad})
    assert stuck_player([*before, *poisoned[:-1]]) is None
    assert stuck_player([*before, *poisoned]) == player
    assert player in stuck_cause(player)
    assert stuck_player([*before, *poisoned, *stats(1, first=14)]) is None


def test_steps_that_are_skipped_now_and_then_are_no_divergence(stats: Stats):
    assert stuck_player(stats(20, skipped_steps=9)) is None
    assert stuck_player([]) is None
    mixed = [*stats(2, generator_loss=math.nan), *stats(2, discriminator_loss=math.nan, first=3)]
    assert stuck_player(mixed) is None


def test_the_stop_for_failing_evaluations_gives_the_last_error():
    stop = failing_stop(5, "MemoryError: none left")
    assert stop.reason == "evaluation-failed"
    assert "MemoryError: none left" in stop.message
    assert "5" in stop.message
