"""Evaluating while a training goes on: what is scored, kept and logged, and that a failure costs a score alone."""

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import torch
from safetensors.torch import load_file

from equipoise.evaluation.scoring import adopt_protocol, take_score
from equipoise.game.terms import Adjustments
from equipoise.game.updates import make_update
from equipoise.host.deadline import Abandoned, Deadline
from equipoise.host.writer import run_now
from equipoise.recipe import Game
from equipoise.runs.candidates import place, score_in
from equipoise.stopping.verdicts import NUM_FAILED, Continue, Stop
from equipoise.storage.files import verify
from equipoise.storage.logs import records
from equipoise.storage.records import EventKind

FAILED: EventKind = "evaluation failed"
BROKEN: EventKind = "guard broken"
UNCHECKED: EventKind = "overfitting check failed"
CHANGED: EventKind = "evaluation protocol changed"
LONG = Deadline(math.inf)
Make = Callable[..., Any]


def take(stage: Any, deadline: Deadline = LONG, write: Any = run_now, **options: Any) -> Any:
    return take_score(stage.task, stage.state, stage.judge, stage.monitor, stage.run, deadline, write, **options)


def shift_in(folder: Path) -> float:
    return round(load_file(folder / "generator.safetensors")["generator.shift"].item(), 5)


def kinds(stage: Any) -> list[str]:
    return [event["kind"] for event in records(stage.run.events)]


def files(stage: Any) -> dict[str, bytes]:
    """Return every file of a run with its content."""
    paths = (path for path in stage.run.path.rglob("*") if path.is_file())
    return {str(path.relative_to(stage.run.path)): path.read_bytes() for path in paths}


def test_the_first_score_is_the_best_and_the_generator_is_kept_with_it(stage: Any) -> None:
    stage.at(100, 0.5)
    score = take(stage)
    assert score.samples == stage.state.evaluated == 100
    (line,) = records(stage.run.scores)
    assert line["best"] is True
    assert line["loss"] == score.loss
    assert stage.monitor.best == score
    assert stage.state.is_unsaved, "a resume must find it"
    for folder in (stage.run.best, place(stage.run, 100)):
        assert verify(folder) is None
        assert shift_in(folder) == 0.5
        kept = score_in(folder)
        assert kept is not None
        assert kept.loss == score.loss


def test_the_next_is_compared_with_a_copy_of_the_best_on_the_same_inputs(stage: Any) -> None:
    stage.at(100, 0.5)
    take(stage)
    stage.state.generator_ema.shift.fill_(9.0)  # the training goes on with the averaged weights
    stage.at(200, 0.2)
    score = take(stage)
    new, old = stage.judge.given[-2:]
    torch.testing.assert_close(new - 0.2, old - 0.5)
    assert score.compared_with == 100
    assert score.difference + 3 * score.difference_error < 0
    assert [line["best"] for line in records(stage.run.scores)] == [True, True]
    assert (shift_in(stage.run.best), shift_in(place(stage.run, 100))) == (0.2, 0.5)


def test_one_that_is_no_better_is_a_candidate_while_its_score_is_low(stage: Any) -> None:
    for samples, shift in ((100, 0.2), (200, 0.5), (300, 0.4), (400, 2.5)):
        stage.at(samples, shift)
        take(stage)
    assert [line["best"] for line in records(stage.run.scores)] == [True, False, False, False]
    assert {path.name for path in stage.run.candidates.iterdir()} == {"100", "200", "300"}
    assert shift_in(stage.run.best) == 0.2


def test_what_is_written_later_is_what_the_weights_were(stage: Any) -> None:
    jobs: list[Callable[[], None]] = []
    stage.at(100, 0.5)
    take(stage, write=jobs.append)
    assert not stage.run.best.exists()
    stage.state.generator_ema.shift.fill_(9.0)
    for job in jobs:
        job()
    assert shift_in(stage.run.best) == shift_in(place(stage.run, 100)) == 0.5


def test_snapshots_are_written_as_they_grow_apart(stage: Any) -> None:
    for samples in range(100, 1100, 100):
        stage.at(samples, 0.5)
        take(stage)
    assert [samples for samples, _ in stage.run.snapshots()] == [100, 200, 300, 400, 500, 600, 800, 1000]


def test_the_discriminators_gap_is_a_value_of_the_score(stage: Any) -> None:
    stage.at(100, 0.0)
    found = take(stage).value("discriminator_gap")
    assert found == pytest.approx((4 - 2) / (4 - 0), abs=0.1)  # logits of train, validation and generated points
    stage.at(200, 0.0)
    assert "discriminator_gap" not in take(stage, with_more=False).values


def test_the_raw_generator_is_measured_at_every_fourth_evaluation_on_the_same_inputs(stage: Any) -> None:
    """The averaged one is at 0.5 and the raw one at 0, so the average is surely worse."""
    found = []
    for samples in range(100, 1_300, 100):
        if samples == 900:
            stage.state.players.generator.shift.data.fill_(0.9)
        stage.at(samples, 0.5)
        found.append(take(stage).value("averaging"))
    assert [place for place, value in enumerate(found, 1) if math.isfinite(value)] == [4, 8, 12]
    assert found[3] > 3
    assert found[11] < -3


def test_a_game_without_an_average_has_no_raw_generator_to_compare(stage: Any) -> None:
    stage.state.update = make_update(Game(ema_half_life=0), stage.state.players)
    for samples in range(100, 900, 100):
        stage.at(samples, 0.5)
        assert "averaging" not in take(stage).values


def test_a_leak_of_augmentation_is_asked_of_the_averaged_generator_where_a_task_augments(stage: Any) -> None:
    for samples in range(100, 500, 100):
        stage.at(samples, 0.5)
        assert "augmentation_leak" not in take(stage).values
    seen = []

    def leak(generator: Any, randomness: Any, more: float) -> float:
        seen.append((generator, more))
        return -4.0

    stage.task.augmentation_leak = leak
    stage.state.adjustments = Adjustments(augment=0.3)
    found = []
    for samples in range(500, 900, 100):
        stage.at(samples, 0.5)
        found.append(take(stage).value("augmentation_leak"))
    assert [value for value in found if math.isfinite(value)] == [-4.0]
    assert seen == [(stage.state.generator_ema, 0.3)]


# Guards


def test_a_generator_that_breaks_a_guard_is_scored_and_said_and_not_kept(stage: Any) -> None:
    stage.at(100, 3.5)
    score = take(stage)
    assert score.broken == ("level",)
    (line,) = records(stage.run.scores)
    assert (line["best"], line["broken"]) == (False, ["level"])
    (event,) = records(stage.run.events)
    assert event["kind"] == BROKEN
    assert all(part in event["message"] for part in ("level", "3"))
    assert stage.monitor.candidates == ()
    assert stage.state.best_generator is None
    assert not stage.run.best.exists()
    assert not list(stage.run.candidates.glob("*"))
    stage.at(200, 2.0)
    score = take(stage)
    assert (score.compared_with, stage.monitor.best) == (0, score), "no best to compare with"
    assert kinds(stage) == [BROKEN]


# Failures


def test_an_abandoned_evaluation_leaves_no_trace(stage: Any) -> None:
    stage.at(100, 0.5)
    take(stage)
    stage.at(200, 0.2)
    stage.state.is_unsaved = False
    before, monitor, best = files(stage), stage.monitor.state_dict(), stage.state.best_generator
    heard = [False]

    def soon() -> bool:  # in the middle of it
        return len(stage.judge.given) >= 2 or heard[0]

    for is_abandoned in (lambda: True, soon):
        with pytest.raises(Abandoned):
            take(stage, Deadline(60.0, is_abandoned))
        assert files(stage) == before
        assert stage.monitor.state_dict() == monitor
        assert (stage.state.evaluated, stage.state.is_unsaved) == (100, False)
        assert stage.state.best_generator is best
    score = take(stage)
    assert score is not None
    assert score.compared_with == 100


@pytest.mark.parametrize("is_signal", [True, False])
def test_a_score_is_not_taken_in_where_its_last_part_took_too_long_or_a_signal_came_in_it(
    stage: Any, monkeypatch: pytest.MonkeyPatch, is_signal: bool
) -> None:
    asked: list[int] = []
    real = stage.task.logits

    def logits(*given: Any) -> Any:
        asked.append(1)
        return real(*given)

    stage.task.logits = logits
    monkeypatch.setattr("time.monotonic", lambda: 1000.0 if asked else 0.0)
    stage.at(100, 0.5)
    if is_signal:
        with pytest.raises(Abandoned):
            take(stage, Deadline(math.inf, lambda: bool(asked)))
        assert records(stage.run.events) == []
    else:
        assert take(stage, Deadline(60.0)) is None
        assert kinds(stage) == [FAILED]
    assert records(stage.run.scores) == []
    assert stage.monitor.best is None


def negated(judge: Any, *, signed: bool) -> Any:
    """Return a judge whose losses are below zero."""

    class Negated(type(judge)):
        def measure(self, outputs: Any) -> Any:
            found = super().measure(outputs)
            return dataclasses.replace(found, loss=-found.loss)

    square, *others = judge.metrics
    return Negated(metrics=(msgspec.structs.replace(square, signed=signed), *others))


def test_a_loss_below_zero_is_a_failed_evaluation_unless_it_is_an_estimate(stage: Any) -> None:
    judge = stage.judge
    stage.task.judges["validation"] = negated(judge, signed=False)
    stage.at(100, 0.5)
    assert take(stage) is None
    assert kinds(stage) == [FAILED]
    assert records(stage.run.scores) == []
    stage.task.judges["validation"] = negated(judge, signed=True)
    score = take(stage)
    assert score.loss < 0
    assert stage.monitor.best == score


def test_an_evaluation_that_fails_is_an_event_and_ends_no_training(stage: Any) -> None:
    stage.at(100, 0.5)
    take(stage)
    stage.at(200, math.nan)
    assert take(stage) is None
    (event,) = records(stage.run.events)
    assert (event["kind"], event["samples"]) == (FAILED, 200)
    assert "NotFiniteError" in event["message"]
    assert stage.state.evaluated == 200
    assert len(records(stage.run.scores)) == 1
    assert stage.monitor.best.samples == 100
    stage.at(300, 0.2)
    assert take(stage).compared_with == 100


def test_time_that_runs_out_is_a_failure_and_no_abandonment(stage: Any) -> None:
    stage.at(100, 0.5)
    assert take(stage, Deadline(-1.0)) is None
    (event,) = records(stage.run.events)
    assert "TimeoutError" in event["message"]


@pytest.mark.parametrize("error", [MemoryError("none"), KeyError("x"), OSError(28, "full")], ids=repr)
def test_a_judge_that_fails_five_times_before_any_success_stops_the_run(stage: Any, error: Exception) -> None:
    def measure(outputs: Any) -> Any:
        raise error

    object.__setattr__(stage.judge, "measure", measure)
    for index in range(1, NUM_FAILED + 1):
        assert stage.monitor.verdict(1, 1.0) == Continue()
        stage.at(100 * index, 0.5)
        assert take(stage) is None
    verdict = stage.monitor.verdict(1, 1.0)
    assert isinstance(verdict, Stop)
    assert verdict.reason == "evaluation-failed"
    assert type(error).__name__ in verdict.message
    assert kinds(stage) == [FAILED] * NUM_FAILED


def test_an_overfitting_check_that_fails_is_an_event_and_costs_no_score(stage: Any) -> None:
    stage.task.fails = ZeroDivisionError("nothing")
    stage.at(100, 0.5)
    score = take(stage)
    assert math.isnan(score.value("discriminator_gap"))
    assert math.isfinite(score.loss)
    (event,) = records(stage.run.events)
    assert event["kind"] == UNCHECKED
    assert "ZeroDivisionError" in event["message"]


def test_a_kill_signal_in_the_middle_of_it_is_not_taken_for_a_failure(stage: Any) -> None:
    stage.task.fails = KeyboardInterrupt()
    stage.at(100, 0.5)
    with pytest.raises(KeyboardInterrupt):
        take(stage)
    assert records(stage.run.events) == []


# Another protocol


def adopt(stage: Any) -> None:
    adopt_protocol(stage.task, stage.state, stage.judge, stage.monitor, stage.run)


def scored(stage: Any, *shifts: float) -> None:
    for index, shift in enumerate(shifts, 1):
        stage.at(100 * index, shift)
        take(stage)


def test_the_same_protocol_is_nothing_to_adopt(stage: Any) -> None:
    adopt(stage)
    scored(stage, 0.5, 0.4)
    before = files(stage)
    adopt(stage)
    assert files(stage) == before
    assert len(stage.judge.given) == 3


def test_under_another_protocol_every_candidate_is_scored_again_and_the_best_is_one_of_them(
    stage: Any, squares: Make
) -> None:
    scored(stage, 0.5, 0.2, 0.3)
    stage.task.judges["validation"] = squares(name="another")
    adopt(stage)
    again = records(stage.run.scores)[3:]
    assert [line["samples"] for line in again] == [100, 200, 300]
    assert {json.dumps(line["protocol"]) for line in again} == {json.dumps(stage.judge.protocol)}
    assert [line["compared_with"] for line in again] == [0, 100, 200]
    assert stage.monitor.best.samples == 200
    assert stage.monitor.best.protocol == stage.judge.protocol
    assert round(stage.state.best_generator.shift.item(), 5) == 0.2
    assert stage.state.samples == 300, "where the training is"
    assert kinds(stage) == [CHANGED]
    assert [int(path.name) for path in stage.run.checkpoints.iterdir()] == [300], "it is saved at once"
    kept = score_in(place(stage.run, 300))
    assert kept is not None
    assert kept.protocol == stage.judge.protocol


def test_a_change_of_protocol_that_was_killed_is_taken_again_from_its_beginning(stage: Any, squares: Make) -> None:
    scored(stage, 0.5, 0.2)
    monitor = stage.monitor.state_dict()
    stage.task.judges["validation"] = squares(name="another")
    adopt(stage)
    expected = [line | {"seconds": None} for line in records(stage.run.scores)]
    stage.monitor.load_state_dict(monitor)
    adopt(stage)
    assert [line | {"seconds": None} for line in records(stage.run.scores)] == expected


def test_candidates_of_which_nothing_whole_is_left_are_left_out_and_the_checkpoints_best_is_not(
    stage: Any, squares: Make
) -> None:
    scored(stage, 0.5, 0.2, 0.3)
    for samples in (200, 300):
        (place(stage.run, samples) / "generator.safetensors").write_bytes(b"torn")
    (stage.run.best / "generator.safetensors").write_bytes(b"torn")
    stage.task.judges["validation"] = squares(name="another")
    adopt(stage)
    assert [line["samples"] for line in records(stage.run.scores)[3:]] == [100, 200]
    assert stage.monitor.best.samples == 200
    assert shift_in(stage.run.best) == 0.2
