"""A game that diverges: back to the last healthy checkpoint with lower rates, and that survives any end, too."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from trainings import (
    CONVOLUTIONS,
    NO_PENALTY,
    Killed,
    Recorder,
    TrainSmall,
    act_at,
    assert_the_same,
    events,
    final_tensors,
    interrupt,
    kill,
    places,
)

import equipoise as eq
from equipoise import loop, repair
from equipoise import state as state_module
from equipoise.game.losses import loss_named
from equipoise.recipe import Recipe
from equipoise.runs.candidates import score_in
from equipoise.state import TrainingState
from equipoise.stopping.verdicts import NUM_STUCK
from equipoise.storage import logs
from equipoise.storage.files import verify

SLOW = pytest.mark.slow


@pytest.mark.parametrize("source", [None, "ring"])
def test_a_game_that_diverges_goes_back_to_the_last_healthy_checkpoint_with_lower_rates(
    train_small: TrainSmall, poison: Callable, source: str | None
) -> None:
    poison(lambda place: place.attempt < 2 and place.samples >= 400)
    run = train_small("healed", "remedies.rate_factor=0.25", source=source, budget="1600")
    assert [(event["samples"], event["attempt"]) for event in events(run, "remedy")] == [(640, 0), (640, 1)]
    assert run.state.stop_reason == "budget"
    assert run.state.spent == 1600, "what was spent stays spent"
    assert run.state.samples == 1600 - 2 * (640 - 320)
    steps = logs.records(run.folder.steps)
    assert [step["samples"] for step in steps] == list(range(80, run.state.samples + 1, 80)), "logs are cut"
    assert [step["attempt"] for step in steps] == [0] * 4 + [2] * (len(steps) - 4)
    rate = run.recipe.game.generator.rate
    assert steps[4]["generator_rate"] <= rate / 16 < steps[3]["generator_rate"]
    assert steps[4]["discriminator_rate"] <= rate / 16 < steps[3]["discriminator_rate"]
    rate_end = run.recipe.game.generator.rate_end
    assert rate_end is not None
    assert steps[-1]["generator_rate"] == pytest.approx(rate_end / 16, rel=0.01), "schedules end as the budget does"
    skipped = events(run, "steps skipped")
    assert len(skipped) == 2, "events of abandoned attempts are never cut"


def test_the_best_generator_of_samples_that_are_given_up_is_set_aside_and_not_lost(
    train_small: TrainSmall, poison: Callable, stage_losses: Callable
) -> None:
    poison(lambda place: place.attempt < 2 and place.samples >= 400)
    stage_losses(lambda samples: 5 - samples / 1600)
    run = train_small("healed", "evaluation.every=80", source="ring", budget="1600")
    assert [(event["samples"], event["attempt"]) for event in events(run, "remedy")] == [(640, 0), (640, 1)]
    kept = {folder.name: score_in(folder) for folder in sorted(run.folder.later.iterdir())}
    assert {name: score.samples for name, score in kept.items() if score} == {"attempt-0": 640, "attempt-1": 640}
    for event, name in zip(events(run, "remedy"), kept, strict=True):
        assert f"later/{name}." in event["message"]
    assert all(verify(run.folder.later / name) is None for name in kept)
    assert run.state.best is not None
    assert run.state.best.samples == run.state.samples


@pytest.mark.parametrize("attempts", [0, 1, 3])
def test_a_game_that_diverges_again_and_again_stops_after_as_many_attempts_as_are_allowed(
    train_small: TrainSmall, poison: Callable, attempts: int
) -> None:
    poison(lambda place: place.samples >= 240)
    run = train_small("diverged", f"remedies.attempts={attempts}", source="ring", budget="100k")
    assert (run.state.status, run.state.stop_reason) == ("finished", "diverged")
    assert len(events(run, "remedy")) == attempts
    assert run.state.samples == 240 + 80 * NUM_STUCK
    assert run.state.spent == 480 + attempts * (480 - 160)
    if attempts > 1:
        assert f" {attempts} times " in (run.state.message or "")
    assert bool(run.best.sample(4).isfinite().all())


def test_rates_that_are_too_high_are_halved_until_the_game_holds(train_small: TrainSmall) -> None:
    """Least squares by plain gradient descent: unstable beyond a rate, as any quadratic is."""
    player = ("rate=2", "rate_end=none", "optimizer=sgd")
    players = [f"game.{role}.{setting}" for role in ("generator", "discriminator") for setting in player]
    run = train_small("too-high", *players, NO_PENALTY, "game.loss=least-squares", source="ring", budget="2400")
    assert run.state.stop_reason == "budget"
    assert 1 <= len(events(run, "remedy")) <= 3
    assert run.state.samples < run.state.spent == 2400


def test_weights_that_are_not_finite_are_never_saved_and_are_a_divergence(
    train_small: TrainSmall, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = loop.set_rates

    def spoil(state: TrainingState, recipe: Recipe, progress: float) -> None:
        real(state, recipe, progress)
        if state.samples == 400 and state.attempt == 0:  # as a processor with a fault may do
            next(state.players.generator.parameters()).data[0] = math.nan

    monkeypatch.setattr(loop, "set_rates", spoil)
    run = train_small("spoilt", source="ring")
    refused = events(run, "not saved")
    assert len(refused) == len(events(run, "remedy")) == 1
    assert run.state.stop_reason == "budget"
    assert all(bool(tensor.isfinite().all()) for tensor in final_tensors(run).values())


def test_a_remedy_is_told_to_the_observer(train_small: TrainSmall, poison: Callable) -> None:
    poison(lambda place: place.attempt < 1 and place.samples >= 240)
    observer = Recorder()
    train_small("told", observer=observer, source="ring")
    assert sum("160" in message for message in observer.messages) == 1
    shown = [progress.samples for progress in observer.shown]
    assert shown == [*range(80, 481, 80), *range(240, 800 - (480 - 160) + 1, 80)]
    assert [progress.share for progress in observer.shown][-1] == 1.0


@pytest.mark.parametrize("role", ["generator", "discriminator"])
def test_a_loss_of_your_own_that_is_never_finite_is_told_as_the_player_whose_it_is(
    train_small: TrainSmall, role: str
) -> None:
    named = loss_named("hinge")
    broken: dict[str, Any] = {role: lambda real, fake: fake * torch.nan}
    settings = ["remedies.attempts=1", "saving.every=400"]
    run = train_small("nan", *settings, source="ring", loss=replace(named, **broken), budget="2000")
    assert run.state.stop_reason == "diverged"
    assert role in (run.state.message or "")
    assert (run.state.samples, run.state.spent) == (80 * NUM_STUCK, 2 * 80 * NUM_STUCK)


# Ended around it


def diverging(poison: Callable, begin: int = 400) -> None:
    """Let the first attempt diverge from some samples on."""
    poison(lambda place: place.attempt < 1 and place.samples >= begin)


@pytest.mark.parametrize("act", [interrupt, kill])
@pytest.mark.parametrize(
    ("attempt", "samples"),
    [
        pytest.param(0, 200, marks=SLOW),
        (0, 376),
        pytest.param(0, 392, marks=SLOW),
        pytest.param(0, 440, marks=SLOW),
        (0, 600),
        pytest.param(0, 632, marks=SLOW),
        pytest.param(1, 320, marks=SLOW),
        (1, 328),
        pytest.param(1, 472, marks=SLOW),
    ],
)
def test_a_run_that_ends_around_a_remedy_is_continued_as_the_one_that_did_not(
    train_small: TrainSmall,
    train_once: TrainSmall,
    poison: Callable,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    act: Callable[[], None],
    attempt: int,
    samples: int,
) -> None:
    """It diverges at 400, goes back at 640, and what an interrupt saved in between is no place to go back to."""
    diverging(poison)
    whole = train_once("from-400", source="ring", budget="1280")
    with monkeypatch.context() as patch:
        act_at(patch, attempt, samples, act)
        if act is kill:
            with pytest.raises(Killed):
                train_small("cut", source="ring", budget="1280")
        else:
            assert train_small("cut", source="ring", budget="1280").state.status == "stopped"
    resumed = eq.resume(tmp_path / "cut")
    assert_the_same(whole, resumed)
    assert places(whole) == places(resumed), "an event that is met again is not written twice"
    assert (whole.state.samples, whole.state.spent) == (resumed.state.samples, resumed.state.spent)


@pytest.mark.slow
@pytest.mark.parametrize(("attempt", "samples"), [(0, 376), (0, 600), (1, 328)])
def test_a_run_of_images_that_ends_around_a_remedy_is_continued_as_the_one_that_did_not(
    train_small: TrainSmall,
    train_once: TrainSmall,
    poison: Callable,
    monkeypatch: pytest.MonkeyPatch,
    attempt: int,
    samples: int,
) -> None:
    diverging(poison)
    whole = train_once("whole", *CONVOLUTIONS, budget="1280")
    with monkeypatch.context() as patch:
        act_at(patch, attempt, samples, interrupt)
        stopped = train_small("cut", *CONVOLUTIONS, budget="1280")
    resumed = eq.resume(stopped.path)
    assert_the_same(whole, resumed)
    assert places(whole) == places(resumed)


@pytest.mark.parametrize("begin", [0, 400])
@pytest.mark.parametrize("where", ["roll_back", "discard", "_match_files"])
def test_a_kill_within_a_remedy_loses_nothing(
    train_small: TrainSmall,
    train_once: TrainSmall,
    poison: Callable,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    where: str,
    begin: int,
) -> None:
    """Where it diverges from its start, no checkpoint is healthy, and all of them go."""
    diverging(poison, begin)
    whole = train_once(f"from-{begin}", source="ring", budget="1280")
    owner: Any = repair if where == "roll_back" else state_module
    real = getattr(owner, where)

    def killing(first: Any, *given: Any) -> Any:
        if where != "_match_files" or first.attempt:
            raise Killed
        return real(first, *given)

    with monkeypatch.context() as patch:
        patch.setattr(owner, where, killing)
        with pytest.raises(Killed):
            train_small("cut", source="ring", budget="1280")
    resumed = eq.resume(tmp_path / "cut")
    assert_the_same(whole, resumed)
    assert places(whole) == places(resumed)
