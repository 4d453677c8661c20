"""The loop: what is due is done, only verdicts end or rewind a training, and nothing that only looks changes it."""

import contextlib
import itertools
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from safetensors.torch import load_file
from small import by_update
from torch import Tensor
from trainings import (
    CONVOLUTIONS,
    NO_PENALTY,
    Recorder,
    TrainSmall,
    events,
    final_tensors,
    nothing,
    points_recipe,
    raising,
    same_tensors,
    scores,
    task_of,
    trained_tensors,
)

import equipoise as eq
from equipoise import loop
from equipoise.data import splits
from equipoise.evaluation import evaluate, scoring
from equipoise.game.terms import Adjustments
from equipoise.game.updates import Terms
from equipoise.recipe import Recipe, UpdateName
from equipoise.report.game import game_charts
from equipoise.runs.digest import digest
from equipoise.state import TrainingState, start
from equipoise.stopping.verdicts import NUM_FAILED
from equipoise.storage import logs
from equipoise.storage.records import StepStats, lenient
from equipoise.tasks.images import ImageTask
from equipoise.tasks.points import PointTask

UPDATES: tuple[UpdateName, ...] = get_args(UpdateName)
CAUSE = "no memory left"


# One round


@pytest.mark.parametrize("update", UPDATES)
def test_a_generator_whose_loss_is_never_finite_stays_as_it_began_and_so_does_the_average(
    train_small: TrainSmall, poison: Callable, update: str
) -> None:
    poison(lambda _: True)
    settings = [*CONVOLUTIONS, "networks.spectral_norm=true", *by_update(update), NO_PENALTY]
    run = train_small("poisoned", *settings, budget="160")
    with torch.random.fork_rng():
        begun = start(task_of(run.recipe), run.recipe)
    found = final_tensors(run)
    for name, module in (("generator", begun.players.generator), ("generator_ema", begun.generator_ema)):
        values = dict(module.named_parameters())
        if update != "alternating":  # there the discriminator's own steps pass through it
            values |= dict(module.named_buffers())
        assert all(torch.equal(found[f"{name}.{key}"], value) for key, value in values.items())
    of_discriminator = begun.players.discriminator.state_dict().items()
    has_moved = any(not torch.equal(found[f"discriminator.{key}"], value) for key, value in of_discriminator)
    assert has_moved == (update == "alternating"), "where both step together, both are refused together"
    steps = logs.records(run.folder.steps)
    in_a_round = 1 if update == "alternating" else 2
    of_batches = 16 if update == "extragradient" else 8
    assert [step["skipped_steps"] for step in steps] == [80 // of_batches * in_a_round] * 2
    skipped = events(run, "steps skipped")
    assert len(skipped) == 1, "it is told once, until there is an interval without"


@pytest.mark.parametrize("role", ["discriminator", "generator"])
def test_terms_are_a_function_of_the_position_the_draw_and_the_attempt(small: None, role: Any) -> None:
    recipe = points_recipe("networks.dropout=0.5", NO_PENALTY)
    task = task_of(recipe)
    state = start(task, recipe)

    def terms(samples: int, draw: int, attempt: int = 0) -> float:
        state.samples = samples
        state.attempt = attempt
        torch.rand(3)  # wherever the global stream stands
        found = loop.terms_of(task, state, recipe, 0.0, role, draw)
        return found.losses["adversarial"].mean().item()

    with torch.random.fork_rng():
        torch.manual_seed(0)
        assert terms(160, 0) == terms(160, 0), "dropout draws by position, too"
        assert terms(160, 1) == terms(176, 0), "the second draw of a round is that of the next batch"
        places = [terms(160, 0), terms(160, 1), terms(176, 1), terms(160, 0, attempt=1), terms(160, 0, attempt=2)]
    assert len(set(places)) == len(places)


def test_rates_follow_their_schedules_times_what_remedies_have_made_of_them(small: None) -> None:
    settings = ["generator.rate=0.4", "generator.rate_end=0.2", "generator.schedule=linear", "discriminator.rate=0.1"]
    recipe = points_recipe(*(f"game.{setting}" for setting in settings), "game.discriminator.rate_end=none")
    state = start(task_of(recipe), recipe)
    state.adjustments = Adjustments(generator_rate=0.5, discriminator_rate=0.25)
    loop.set_rates(state, recipe, 0.5)
    assert state.update.rate("generator") == pytest.approx(0.15)
    assert state.update.rate("discriminator") == pytest.approx(0.025)


def test_the_second_beta_of_adam_follows_its_schedule_and_comes_back_from_a_checkpoint(small: None) -> None:
    settings = ["game.generator.beta2=0.9", "game.generator.beta2_end=0.99", "game.discriminator.beta2=0.8"]
    recipe = points_recipe(*settings)
    task = task_of(recipe)
    state = start(task, recipe)
    for progress, smoothing in ((0.0, 0.9), (0.5, 0.945), (1.0, 0.99)):
        loop.set_rates(state, recipe, progress)
        betas = {role: one.param_groups[0]["betas"] for role, one in state.update.optimizers.items()}
        assert betas["generator"] == pytest.approx((recipe.game.generator.beta1, smoothing))
        assert betas["discriminator"][1] == 0.8
    other = start(task, recipe)
    other.update.load(state.update.tensors(), state.update.values())
    assert other.update.optimizers["generator"].param_groups[0]["betas"][1] == pytest.approx(0.99)


@pytest.mark.parametrize(("update", "step"), [("alternating", 24), ("simultaneous", 8), ("extragradient", 16)])
def test_samples_are_those_that_the_discriminator_was_shown(
    train_small: TrainSmall, monkeypatch: pytest.MonkeyPatch, update: str, step: int
) -> None:
    shown = []
    real = loop.terms_of

    def counted(task: Any, state: TrainingState, recipe: Recipe, progress: float, role: str, draw: int) -> Any:
        if role == "discriminator":
            shown.append(recipe.game.batch)
        return real(task, state, recipe, progress, role, draw)  # type: ignore[arg-type]

    monkeypatch.setattr(loop, "terms_of", counted)
    steps = ["game.discriminator_steps=3"] if update == "alternating" else []
    run = train_small("counted", f"game.update={update}", *steps, source="ring", budget="100")
    assert run.state.samples == run.state.spent == sum(shown) == math.ceil(100 / step) * step


TERMS = ("adversarial_loss", "l1_loss", "rate", "skipped", "a_gradient")


def test_every_loss_term_is_logged_and_drawn_whatever_it_is_called(
    train_small: TrainSmall, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also under the names of numbers that the update makes itself."""
    real = PointTask.generator_terms

    def generator_terms(*given: Any) -> Terms:
        (adversarial,) = real(*given).losses.values()
        return Terms({name: adversarial / len(TERMS) for name in TERMS})

    monkeypatch.setattr(PointTask, "generator_terms", generator_terms)
    run = train_small("named", NO_PENALTY, source="ring", budget="160")
    steps = [lenient(StepStats, record) for record in logs.records(run.folder.steps)]
    assert set(steps[-1].terms) == {"discriminator_adversarial", *(f"generator_{name}" for name in TERMS)}
    assert sum(steps[-1].terms[f"generator_{name}"] for name in TERMS) == pytest.approx(steps[-1].generator_loss)
    assert steps[-1].skipped_steps == 0
    assert "generator-terms" in [chart.name for chart in game_charts(steps)]


# Evaluations


def test_every_log_line_has_the_signals_of_its_last_round(train_small: TrainSmall) -> None:
    run = train_small("run")
    lines = logs.records(run.folder.steps)
    assert len(lines) == 10
    for line in lines:
        found = line["signals"]
        assert {"step/generator", "step/discriminator", "spread", "nearest", "rotation"} <= found.keys()
        assert 0 < found["step/generator"] < 0.1
        assert -1 <= found["rotation"] <= 1
        assert any(name.startswith("gradient/discriminator/") for name in found)
    charts = [chart.name for chart in game_charts([lenient(StepStats, line) for line in lines])]
    assert {"steps", "variety"} <= set(charts)
    assert not {"steps", "variety"} & {
        chart.name for chart in game_charts([lenient(StepStats, lines[0] | {"signals": {}})])
    }


def test_looking_closely_changes_nothing_in_the_training(
    train_small: TrainSmall, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = train_small("looked", "networks.dropout=0.3", "saving.log_every=8")
    with monkeypatch.context() as patch:
        patch.setattr(loop, "looked_at", lambda *_: contextlib.nullcontext())
        plain = train_small("plain", "networks.dropout=0.3", "saving.log_every=8")
    assert same_tensors(trained_tensors(looked), trained_tensors(plain))


def test_no_position_is_evaluated_twice(train_small: TrainSmall) -> None:
    run = train_small("often", "evaluation.every=8", budget="80", source="ring")
    assert [score["samples"] for score in scores(run)] == list(range(8, 81, 8))


def test_no_position_is_evaluated_twice_where_the_intervals_are_not_known_yet(small: None) -> None:
    recipe = points_recipe("budget.samples=none", "budget.seconds=0.001")
    state = start(task_of(recipe), recipe)
    state.samples = state.spent = 160
    state.seconds = 1.0
    with loop.hosted(state, recipe) as host:
        state.evaluated = 80
        assert loop.is_evaluation_due(state, recipe, host)
        state.evaluated = 160
        assert not loop.is_evaluation_due(state, recipe, host)


def test_what_is_returned_was_evaluated_where_no_evaluation_was_due(train_small: TrainSmall) -> None:
    run = train_small("odd", budget="200", source="ring")
    assert [score["samples"] for score in scores(run)] == [160, 200]


def test_best_holds_the_best_generator_by_validation_not_the_last(
    train_small: TrainSmall, stage_losses: Callable
) -> None:
    losses = dict(zip(range(160, 801, 160), [5.0, 1.0, 3.0, 4.0, 6.0], strict=True))
    stage_losses(losses.__getitem__)
    run = train_small("staged")
    assert [score["best"] for score in scores(run)] == [True, True, False, False, False]
    kept = {int(path.name) for path in run.folder.candidates.iterdir()}
    assert kept == {320, 480, 640}, "the best and the two runners-up"
    best = load_file(run.folder.candidates / "320" / "generator.safetensors")
    last = final_tensors(run)
    assert all(torch.equal(tensor, last[f"best_{name}"]) for name, tensor in best.items())
    averaged = {name: last[name.replace("generator", "generator_ema", 1)] for name in best}
    assert any(not torch.equal(tensor, averaged[name]) for name, tensor in best.items())


def test_a_lower_score_that_chance_explains_does_not_replace_the_best(
    train_small: TrainSmall, stage_losses: Callable
) -> None:
    stage_losses(lambda samples: 5 - samples / 1600, error=0.5)
    run = train_small("noisy", source="ring")
    assert [score["best"] for score in scores(run)] == [True, False, False, False, False]
    assert [score["compared_with"] for score in scores(run)] == [0, 160, 160, 160, 160]


def test_the_best_and_its_challenger_are_drawn_from_the_same_fresh_latents(
    train_small: TrainSmall, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[Any, int]] = []
    real = evaluate.measure

    def measure(task: Any, judge: Any, generator: Any, seed: int, deadline: Any) -> Any:
        drawn.append((generator, seed))
        return real(task, judge, generator, seed, deadline)

    monkeypatch.setattr(evaluate, "measure", measure)
    train_small("paired", source="ring")
    later = drawn[1:]  # the first has nobody to be compared with
    pairs = list(zip(later[::2], later[1::2], strict=True))
    assert len(pairs) == 4
    assert all(one[1] == other[1] and one[0] is not other[0] for one, other in pairs)
    assert len({seed for _, seed in drawn}) == 5


def test_an_evaluation_that_fails_changes_nothing_in_the_training_and_is_an_event(
    train_small: TrainSmall, train_once: TrainSmall, monkeypatch: pytest.MonkeyPatch
) -> None:
    networks = [*CONVOLUTIONS, "networks.dropout=0.3"]
    healthy = train_once("healthy", *networks, budget="640")

    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "measure", raising(MemoryError(CAUSE)))
        crashed = train_small("crashed", *networks, budget="640")
    assert same_tensors(trained_tensors(healthy), trained_tensors(crashed))
    told = events(crashed, "evaluation failed")
    assert [event["samples"] for event in told] == [160, 320, 480, 640]
    assert all(CAUSE in event["message"] for event in told)
    assert (crashed.state.status, crashed.state.best) == ("finished", None)


def test_an_evaluation_that_runs_out_of_time_leaves_the_networks_as_they_were_in_training(
    train_small: TrainSmall, train_once: TrainSmall, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time is over after the first chunk of outputs, and while the discriminator is asked."""
    networks = [*CONVOLUTIONS, "networks.dropout=0.3"]
    healthy = train_once("healthy", *networks, budget="640")
    real = ImageTask.logits
    moments = itertools.count()

    def late(*given: Any) -> Tensor:
        if next(moments) % 2:
            raise TimeoutError
        return real(*given)

    monkeypatch.setattr(ImageTask, "logits", late)
    slow = train_small("slow", *networks, "evaluation.timeout=1e-9", budget="640")
    timed_out = [event["samples"] for event in events(slow, "evaluation failed")]
    assert timed_out == [160, 320, 480, 640]
    asked = train_small("asked", *networks, budget="640")
    failed = events(asked, "overfitting check failed")
    assert [event["samples"] for event in failed] == [160, 320, 480, 640]
    for run in (slow, asked):
        assert same_tensors(trained_tensors(healthy), trained_tensors(run))


def test_evaluations_that_all_fail_end_the_training_and_say_why(
    train_small: TrainSmall, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, "measure", raising(MemoryError(CAUSE)))
    run = train_small("hopeless", budget="100k", source="ring")
    assert (run.state.status, run.state.stop_reason) == ("finished", "evaluation-failed")
    assert run.state.samples == NUM_FAILED * 160
    assert CAUSE in (run.state.message or "")
    failed = events(run, "evaluation failed")
    assert len(failed) == NUM_FAILED
    assert all(CAUSE in event["message"] for event in failed)
    with pytest.raises(eq.UserError):
        _ = run.best


def test_a_single_evaluation_that_succeeds_keeps_a_training_going(
    train_small: TrainSmall, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = evaluate.measure
    calls = itertools.count()

    def mostly_crash(*given: Any) -> Any:
        if next(calls):
            raise MemoryError(CAUSE)
        return real(*given)

    monkeypatch.setattr(evaluate, "measure", mostly_crash)
    run = train_small("unlucky", budget="1600", source="ring")
    assert run.state.stop_reason == "budget"
    failed = events(run, "evaluation failed")
    assert len(failed) >= NUM_FAILED


def test_evaluating_more_often_changes_nothing_in_the_training(train_small: TrainSmall) -> None:
    seldom = train_small("seldom", "networks.dropout=0.3")
    often = train_small("often", "networks.dropout=0.3", "evaluation.every=80")
    assert same_tensors(trained_tensors(seldom), trained_tensors(often))


def test_an_overfitting_check_that_fails_costs_no_score(
    train_small: TrainSmall, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "split_logits", raising(MemoryError(CAUSE)))
    run = train_small("unasked", source="ring")
    assert run.state.best is not None
    assert all(score["values"]["discriminator_gap"] is None for score in scores(run))
    failed = events(run, "overfitting check failed")
    assert len(failed) == len(scores(run))


def test_the_judge_of_a_training_is_not_the_one_of_its_test(
    train_small: TrainSmall, shapes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(splits, "FEW_HELD_OUT", 0)  # else all held-out images judge both
    run = train_small("judged", "networks.conditional=true")
    assert run.state.best is not None
    assert run.state.test is not None
    assert run.state.best.protocol["split"] == "validation"
    found = eq.evaluate(run.path, shapes)
    assert found.protocol.items() >= run.state.test.protocol.items()
    assert found.protocol["split"] == "test"
    assert found.measured.loss == pytest.approx(run.state.test.loss, rel=1e-5)


# How a training ends


def test_patience_stops_and_says_why(train_small: TrainSmall, stage_losses: Callable) -> None:
    stage_losses(lambda _: 2.0)
    settings = ["stopping.policy=patience", "stopping.patience.evaluations=2"]
    run = train_small("patient", *settings, budget="100k", source="ring")
    assert run.state.stop_reason == "patience"
    assert " 2 " in (run.state.message or "")
    assert run.state.samples == 480
    stops = events(run, "stop")
    assert [event["message"] for event in stops] == [run.state.message]


def test_a_time_budget_ends_in_time(train_small: TrainSmall) -> None:
    run = train_small("timed", "saving.every=none", "saving.log_every=none", budget="2s", source="ring")
    assert run.state.stop_reason == "budget"
    assert run.state.seconds >= 2.0
    record = json.loads((run.path / "intervals.json").read_text())
    assert record["samples_per_second"] > 0


# What only looks


@pytest.mark.parametrize(("source", "label"), [(None, "KID"), ("ring", "MMD")])
def test_an_observer_is_shown_where_the_training_stands_and_neither_it_nor_the_report_changes_anything(
    train_small: TrainSmall, monkeypatch: pytest.MonkeyPatch, source: str | None, label: str
) -> None:
    observer = Recorder()
    watched = train_small("watched", "stopping.policy=patience", source=source, observer=observer)
    shown = observer.shown
    assert [progress.samples for progress in shown] == list(range(80, 801, 80))
    assert all(progress.spent == progress.samples for progress in shown)
    assert [progress.share for progress in shown] == pytest.approx([0.1 * index for index in range(1, 11)])
    assert all(progress.sentence and progress.stopping_status for progress in shown)
    assert all(progress.horizon == 800 for progress in shown)
    assert shown[0].last is None
    assert shown[-1].best is not None
    assert shown[-1].label == label
    assert all(0 <= share <= 1 for _, share in observer.stages)

    monkeypatch.setattr("equipoise.setup.write_report", nothing)
    for task in (ImageTask, PointTask):
        monkeypatch.setattr(task, "exhibits", lambda *_: [])
    silent = train_small("silent", "stopping.policy=patience", source=source)
    assert digest(silent.folder) == digest(watched.folder)


@pytest.mark.parametrize("source", [None, "ring"])
def test_the_same_recipe_gives_the_same_digest_whatever_the_global_stream(
    train_small: TrainSmall, source: str | None
) -> None:
    torch.manual_seed(1)
    first = digest(train_small("first", "networks.dropout=0.3", source=source, budget="320").folder)
    torch.manual_seed(2)
    expected = torch.rand(3)
    torch.manual_seed(2)
    second = digest(train_small("second", "networks.dropout=0.3", source=source, budget="320").folder)
    assert first == second
    assert torch.equal(torch.rand(3), expected), "a training must not move the caller's stream"
    other = digest(train_small("other", "networks.dropout=0.3", "seed=1", source=source, budget="320").folder)
    assert other.parts["generator"] != first.parts["generator"]
