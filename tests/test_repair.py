"""Remedies of a run for conditions that its numbers show: what is done and told, and that it survives any end."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from trainings import (
    NO_PENALTY,
    Killed,
    TrainSmall,
    act_at,
    assert_the_same,
    events,
    interrupt,
    kill,
    places,
    points_recipe,
)

import equipoise as eq
from equipoise import repair
from equipoise.health.remedies import RemedyHistory
from equipoise.recipe import Augment
from equipoise.stopping import monitor as monitor_module
from equipoise.storage import checkpoints, logs
from equipoise.storage.records import Condition, Diagnosis, Score, StepStats

ACT = ("remedies.policy=act", NO_PENALTY)
SWINGING = (*ACT, "game.generator.beta1=0.9", "game.discriminator.beta1=0.9")
Staged = Callable[[Condition, int, int], None]


@pytest.fixture
def diagnose(monkeypatch: pytest.MonkeyPatch) -> Staged:
    """Let every log line between some samples show one condition, and rests be short."""
    monkeypatch.setattr("equipoise.health.remedies.REST", 3)
    monkeypatch.setattr(repair, "improves", lambda _: False)

    def staged(condition: Condition, begin: int, end: int) -> None:
        def examine(history: tuple[StepStats, ...], *_: object) -> tuple[Diagnosis, ...]:
            if not begin <= history[-1].spent < end:
                return ()
            return (Diagnosis(condition=condition, since=begin, confidence="likely", evidence="It was staged."),)

        monkeypatch.setattr(monitor_module, "examine", examine)

    return staged


def saved_values(run: eq.Run) -> dict[str, Any]:
    found = checkpoints.latest(run.folder.checkpoints)
    assert found is not None
    return found.values


def remedy_history(run: eq.Run) -> dict[str, object]:
    return saved_values(run)["remedy_history"]


def treated_once(train_small: TrainSmall, *given: str) -> tuple[eq.Run, dict[str, Any], dict[str, Any]]:
    """Return a run in which one remedy was done, its event, and what its last checkpoint holds."""
    run = train_small("treated", *given, source="ring", budget="1280")
    (event,) = events(run, "remedy")
    return run, event, saved_values(run)


@pytest.mark.parametrize("condition", ["cycling", "divergence"])
def test_nothing_is_done_unless_remedies_act_but_about_a_divergence(
    train_small: TrainSmall, diagnose: Staged, condition: Condition
) -> None:
    diagnose(condition, 400, 10_000)
    for policy in ("off", "suggest"):
        run = train_small(policy, f"remedies.policy={policy}", source="ring", budget="800")
        assert bool(events(run, "remedy")) == (policy == "suggest" and condition == "divergence")
        assert not events(run, "no remedy")
        assert run.state.status == "finished"


def test_momentum_that_is_taken_away_is_gone_from_the_optimizers_and_stays_so_in_the_checkpoint(
    train_small: TrainSmall, diagnose: Staged
) -> None:
    diagnose("cycling", 400, 480)
    run, event, values = treated_once(train_small, *SWINGING)
    assert "β1" in event["message"]
    groups = [values["update"][role]["groups"] for role in ("generator", "discriminator")]
    assert [group["betas"] for (group,) in groups] == [[0.0, 0.9], [0.0, 0.9]]
    assert eq.resume(run.folder.path, budget="1440").state.samples == 1440


def test_with_off_a_game_that_is_not_finite_ends_at_once(train_small: TrainSmall, poison: Callable) -> None:
    poison(lambda place: place.samples >= 240)
    run = train_small("off", "remedies.policy=off", source="ring", budget="100k")
    assert run.state.stop_reason == "diverged"
    assert not events(run, "remedy")


def test_a_treatment_in_place_changes_the_game_once_and_is_told_and_kept(
    train_small: TrainSmall, diagnose: Staged
) -> None:
    diagnose("cycling", 400, 480)
    run, event, values = treated_once(train_small, *ACT)
    assert event["samples"] == 400
    assert "none → γ = 0.1" in event["message"]
    assert run.state.samples == run.state.spent == 1280, "nothing was given up"
    assert values["adjustments"]["penalty"] == 0.1
    assert remedy_history(run)["tried"] == {"cycling": 1}


def test_it_is_done_twice_with_a_rest_between_and_then_told_once_that_nothing_is_left(
    train_small: TrainSmall, diagnose: Staged
) -> None:
    diagnose("cycling", 400, 10_000)
    run = train_small("cycling", *ACT, source="ring", budget="1600")
    assert [event["samples"] for event in events(run, "remedy")] == [400, 400 + 3 * 80]
    assert [event["samples"] for event in events(run, "no remedy")] == [400 + 6 * 80]
    assert run.state.stop_reason == "budget"


def test_a_collapse_that_no_remedy_ends_ends_the_run_with_its_reason(train_small: TrainSmall, diagnose: Staged) -> None:
    diagnose("mode-collapse", 800, 100_000)
    run = train_small("collapsed", *ACT, source="ring", budget="100k")
    assert run.state.stop_reason == "not-repaired"
    assert len(events(run, "remedy")) == 2
    assert [event["attempt"] for event in events(run, "remedy")] == [0, 1], "it went back"
    first, second = (event["remedy"] for event in events(run, "remedy"))
    assert [first["condition"], second["condition"]] == ["mode-collapse"] * 2
    assert first["changed"] in events(run, "remedy")[0]["message"]
    assert (first["back_to"], second["back_to"]) == (640, 800)
    abandoned = {"condition": "mode-collapse", "begin": 800, "end": 800, "is_sure": True}
    assert first["abandoned"] == [abandoned], "its log lines are cut off"
    assert "not be repaired" in (run.state.message or "")
    assert bool(run.best.sample(4).isfinite().all())


def test_nothing_is_done_about_cycles_while_the_score_still_falls(
    train_small: TrainSmall, diagnose: Staged, monkeypatch: pytest.MonkeyPatch
) -> None:
    diagnose("cycling", 400, 10_000)
    monkeypatch.setattr(repair, "improves", lambda _: True)
    assert not events(train_small("falling", *ACT, source="ring", budget="800"), "remedy")


def test_a_penalty_that_comes_in_is_one(train_small: TrainSmall, diagnose: Staged) -> None:
    diagnose("discriminator-overpowering", 400, 480)
    run = train_small("strong", *ACT, source="ring", budget="1280")
    penalties = {step["samples"]: step["penalty"] for step in logs.records(run.folder.steps)}
    assert penalties[400] == 0 < penalties[480]


def test_a_penalty_that_comes_in_takes_the_place_of_weight_clipping_also_after_a_resume(
    train_small: TrainSmall, diagnose: Staged
) -> None:
    diagnose("discriminator-overpowering", 400, 480)
    run = train_small("clipped", *ACT, "game.weight_clip=0.001", source="ring", budget="1280")

    def largest() -> float:
        found = checkpoints.latest(run.folder.checkpoints)
        assert found is not None
        weights = [tensor for name, tensor in found.tensors.items() if name.startswith("discriminator.")]
        return max(float(weight.abs().max()) for weight in weights)

    assert largest() > 0.0011, "the limit is gone"
    eq.resume(run.folder.path, budget="1600")
    assert largest() > 0.0011, "and does not come back"


def test_a_fresh_discriminator_has_other_weights_and_no_past_and_is_the_same_each_time(
    train_small: TrainSmall, diagnose: Staged, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[torch.Tensor, torch.Tensor, dict]] = []
    real = repair.renew_discriminator

    def renew(state: Any, task: Any, recipe: Any) -> None:
        before = torch.cat([weight.detach().flatten().clone() for weight in state.players.discriminator.parameters()])
        generator = torch.get_rng_state()
        real(state, task, recipe)
        assert torch.equal(generator, torch.get_rng_state())
        after = torch.cat([weight.detach().flatten().clone() for weight in state.players.discriminator.parameters()])
        seen.append((before, after, dict(state.update.optimizers["discriminator"].state)))

    monkeypatch.setattr(repair, "renew_discriminator", renew)
    monkeypatch.setattr("equipoise.health.remedies.changes_for", lambda *_, **__: ())
    diagnose("mode-dropping", 400, 800)
    for name in ("one", "two"):
        train_small(name, *ACT, source="ring", budget="640")
    assert len(seen) == 2
    for before, after, moments in seen:
        assert not torch.equal(before, after)
        assert not moments
    assert torch.equal(seen[0][1], seen[1][1])


@pytest.mark.parametrize("act", [interrupt, kill])
@pytest.mark.parametrize(
    ("condition", "given", "change"),
    [
        ("cycling", ACT, "γ"),
        ("cycling", SWINGING, "β1"),
        ("mode-dropping", SWINGING, "β1"),
        ("mode-dropping", ACT, "anew"),
        ("discriminator-overpowering", ACT, "γ"),
        ("discriminator-overpowering", (*ACT, "game.weight_clip=0.01"), "clipping"),
    ],
)
def test_a_run_that_ends_around_treatments_again_and_again_is_continued_as_the_one_that_did_not(
    train_small: TrainSmall,
    train_once: TrainSmall,
    diagnose: Staged,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    act: Callable[[], None],
    condition: Condition,
    given: tuple[str, ...],
    change: str,
) -> None:
    """Before, in and after the first treatment, and the second; what it has done by then is as in the other one."""
    diagnose(condition, 400, 10_000)
    if change == "anew":
        monkeypatch.setattr("equipoise.health.remedies.changes_for", lambda *_, **__: ())
    whole = train_once(f"whole-{condition}-{change}", *given, source="ring", budget="1040")
    assert any(change in event["message"] for event in events(whole, "remedy"))
    cut = tmp_path / "cut"
    for samples in (384, 400, 416, 640, 648):
        with monkeypatch.context() as patch:
            act_at(patch, 0, samples, act)
            try:
                eq.resume(cut) if cut.exists() else train_small("cut", *given, source="ring", budget="1040")
            except Killed:
                assert act is kill, samples
        run = eq.load(cut)
        assert run.state.status == ("running" if act is kill else "stopped"), samples
        found = places(run)
        assert found == places(whole)[: len(found)], f"a remedy that is met again is not written twice: {samples}"
    resumed = eq.resume(cut)
    assert_the_same(whole, resumed)
    assert places(whole) == places(resumed)
    assert remedy_history(whole) == remedy_history(resumed)


@pytest.mark.parametrize(("attempt", "samples"), [(0, 392), (0, 416), (1, 320), (1, 400)])
@pytest.mark.parametrize(("later", "back_to"), [(0, 0), (400, 640)])
def test_a_run_that_ends_around_a_going_back_is_continued_as_the_one_that_did_not(
    train_small: TrainSmall,
    train_once: TrainSmall,
    diagnose: Staged,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    attempt: int,
    samples: int,
    later: int,
    back_to: int,
) -> None:
    """To its beginning, as it was ill from there on, and to a checkpoint from before it began."""
    diagnose("mode-collapse", 400 + later, 560 + later)
    budget = str(1280 + later)
    whole = train_once(f"whole-{later}", *ACT, source="ring", budget=budget)
    (event,) = events(whole, "remedy")
    assert (event["samples"], event["remedy"]["back_to"]) == (400 + later, back_to)
    with monkeypatch.context() as patch:
        act_at(patch, attempt, samples + later, kill)
        try:
            train_small("cut", *ACT, source="ring", budget=budget)
        except Killed:
            eq.resume(tmp_path / "cut")
    resumed = eq.load(tmp_path / "cut")
    assert_the_same(whole, resumed)
    assert remedy_history(whole) == remedy_history(resumed)


def test_augmentation_moves_with_each_evaluation_once_a_remedy_has_begun_it(monkeypatch: pytest.MonkeyPatch) -> None:
    made = replace(points_recipe(), augment=Augment(kinds=("translation",), probability=0.2))

    class Intervals:
        horizon = 4_000

    class State:
        adjustments = repair.Situation(made).adjustments
        remedy_history = RemedyHistory({"discriminator-overfitting": 1})
        intervals = Intervals()
        samples, seconds, attempt = 100, 1.0, 0

    told: list[str] = []

    class Run:
        def log_event(self, *given: object) -> None:
            told.append(str(given[3]))

    state = State()
    for gap, expected in ((0.9, 0.3), (math.nan, 0.3), (0.9, 0.4), (0.1, 0.3)):
        score = Score(samples=100, seconds=1.0, loss=1.0, values={"discriminator_gap": gap})
        repair.adapt_augmentation(state, made, score, 100, Run())  # type: ignore[arg-type]
        assert 0.2 + state.adjustments.augment == pytest.approx(expected)
    assert len(told) >= 2
