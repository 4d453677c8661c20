"""Budgets as a person writes them: times, samples, and what is neither."""

import pytest

from equipoise.budgets import parsed_budget, refuse_short_budget
from equipoise.errors import Option, Setting, UserError
from equipoise.recipe import Budget, Game, Recipe


@pytest.mark.parametrize(
    ("text", "samples", "seconds"),
    [
        ("90s", None, 90.0),
        ("10m", None, 600.0),
        ("2h", None, 7200.0),
        ("1.5h", None, 5400.0),
        ("60k", 60_000, None),
        ("2M", 2_000_000, None),
        ("5000", 5000, None),
        ("2.5k", 2500, None),
        ("5min", None, 300.0),
        ("90sec", None, 90.0),
        ("6m30s", None, 390.0),
        ("1h30m", None, 5400.0),
        ("1h 30 min", None, 5400.0),
        ("1h5s", None, 3605.0),
        ("2 hours", None, 7200.0),
        ("1 hour", None, 3600.0),
        ("3 mins", None, 180.0),
        ("10 minutes", None, 600.0),
        ("1hr", None, 3600.0),
        ("45 seconds", None, 45.0),
    ],
)
def test_budgets_are_times_or_samples(text: str, samples: int | None, seconds: float | None) -> None:
    assert parsed_budget(text) == Budget(samples=samples, seconds=seconds)


def refused_budget(text: str) -> UserError:
    """Return the mistake that a budget is refused with."""
    with pytest.raises(UserError) as caught:
        parsed_budget(text)
    examples = [part for part in caught.value.remedies if isinstance(part, Option)]
    assert [part.name for part in examples] == ["budget"] * len(examples)
    assert examples
    for example in examples:
        parsed_budget(example.value)
    return caught.value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "0",
        "-5m",
        "ten minutes",
        "10d",
        "m",
        "nan",
        "inf",
        "0.1",
        "0s",
        "1e3",
        "1h30",
        "30m1h",
        "5m5m",
        "10M30s",
        "1h 20k",
        "0h0m",
        "5 mi",
        "2 hoursx",
        "1:30",
    ],
)
def test_other_budgets_are_refused_with_an_example(text: str) -> None:
    assert refused_budget(text).subject == Option("budget", text)


@pytest.mark.parametrize("unit", ["", "k", "M", "s", "m", "h"])
@pytest.mark.parametrize("digits", ["9" * 400, "1" + "0" * 16])
def test_budgets_beyond_what_can_be_counted_are_refused_and_do_not_overflow(digits: str, unit: str) -> None:
    assert len(str(refused_budget(digits + unit))) < 120


def test_the_largest_budget_is_read_exactly() -> None:
    assert parsed_budget(str(2**53)) == Budget(samples=2**53, seconds=None)


def test_a_budget_below_one_batch_is_refused_and_minutes_are_what_was_meant() -> None:
    with pytest.raises(UserError) as error:
        refuse_short_budget(Recipe(budget=Budget(samples=5)))
    assert Option("budget", "5m") in error.value.remedies
    refuse_short_budget(Recipe(budget=Budget(samples=Recipe().game.batch)))
    refuse_short_budget(Recipe(budget=Budget(seconds=1.0)))


def test_the_remedy_for_a_budget_below_a_huge_batch_is_another_batch():
    with pytest.raises(UserError) as caught:
        refuse_short_budget(Recipe(game=Game(batch=10**9), budget=Budget(samples=500)))
    assert caught.value.remedies == (Setting("game.batch", 64),)
