"""The page on a condition through the command line: its curves as text and as values, and names that are none."""

import json
from collections.abc import Callable

import pytest

from equipoise.health.curves import curves_of
from equipoise.health.pages import SUBJECTS, Subject
from equipoise.storage.records import Condition

Command = Callable[..., str]


@pytest.mark.parametrize("subject", SUBJECTS)
def test_the_values_of_a_page_hold_each_curve_that_its_text_draws(output: Command, subject: Subject) -> None:
    text = output("explain", subject)
    assert max(map(len, text.splitlines())) <= 80
    values = json.loads(output("explain", subject, "--json"))
    assert [curve["name"] for curve in values["curves"]] == list(curves_of(subject))
    assert bool(values["games"]) == bool(values["curves"])
    for curve in values["curves"]:
        assert f"  {curve['label']} (" in text
        for game in ("sick", "healthy"):
            samples = curve[game]["samples"]
            assert len(samples) == len(curve[game]["values"]) > 1
            assert samples == sorted(set(samples))
            assert samples[0] > 0


def test_a_curve_has_the_samples_at_which_its_values_were_taken(output: Command) -> None:
    condition: Condition = "mode-collapse"
    curves = {curve["name"]: curve for curve in json.loads(output("explain", condition, "--json"))["curves"]}
    assert curves["spread"]["healthy"]["samples"] == list(range(1_600, 96_001, 1_600)), "log lines"
    assert curves["score"]["healthy"]["samples"] == list(range(8_000, 96_001, 8_000)), "evaluations"


def test_the_list_has_all_conditions_as_text_and_as_values(output: Command) -> None:
    assert [page["condition"] for page in json.loads(output("explain", "--json"))] == list(SUBJECTS)
    assert all(f"{subject}\n" in output("explain") for subject in SUBJECTS)


def test_a_name_that_is_no_condition_is_one_line_with_the_nearest_one(refused: Command) -> None:
    assert "mode-collapse" in refused("explain", "mode-colapse")
    assert "mode-collapse" in refused("explain", "mode", "colapse")
