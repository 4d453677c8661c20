"""Around the loop: what ended a training is in its folder, baselines are judged once, and the end hands all over."""

import contextlib
import errno
import hashlib
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec import structs
from trainings import NO_PENALTY, Recorder, TrainSmall, events, final_tensors, raising, task_of

import equipoise as eq
from equipoise import loop
from equipoise.api import SILENT
from equipoise.errors import Command, RunInterrupted, Setting, StorageError, UserError
from equipoise.game.losses import Loss, loss_named
from equipoise.recipe import Game, Recipe
from equipoise.runs.candidates import score_in
from equipoise.runs.folder import RunFolder
from equipoise.runs.status import read_status
from equipoise.runs.stopping_status import monitor_of
from equipoise.setup import Training, loss_of, note_environment, run_training
from equipoise.storage.files import readable
from equipoise.storage.logs import records
from equipoise.storage.records import EncoderRecord, RunState
from equipoise.tasks.base import Rival
from equipoise.tasks.points import PointTask

CAUSE = "the device is gone"
BROKEN = "a broken one"


# The evaluation encoder


def encoder_of(run: eq.Run) -> EncoderRecord:
    """Return what a run says of its encoder, whose weights are beside it."""
    data = run.folder.read_data()
    assert data is not None
    assert data.encoder is not None
    assert hashlib.sha256(run.folder.encoder.read_bytes()).hexdigest() == data.encoder.digest
    return data.encoder


def test_a_run_on_nearly_the_same_images_is_judged_by_the_same_encoder_and_keeps_it(
    train_small: TrainSmall, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setenv("EQUIPOISE_CACHE", str(cache))
    told = Recorder()
    first = train_small("first", budget="160")
    fewer = Path(shutil.copytree(shapes, tmp_path / "fewer"))
    for index in range(0, 240, 30):
        next(fewer.glob(f"*/{index}.png")).unlink()
    again = train_small("again", source=fewer, budget="160", observer=told)
    record = encoder_of(again)
    assert record.digest == encoder_of(first).digest
    assert 0 < record.num_taught - record.num_shared <= 8
    assert record.num_shared == record.num_train
    assert any(f"{record.num_shared} of these {record.num_train} " in line for line in told.messages)
    scores = [line["protocol"] for line in records(again.folder.scores)]
    others = record.num_taught - record.num_shared
    counts = [record.num_shared, record.num_train, others]
    assert all(list(map(int, re.findall("[0-9]+", one["features_taught"]))) == counts for one in scores)
    shutil.rmtree(cache)
    resumed = eq.resume(again.path, budget="320")
    assert encoder_of(resumed) == record
    assert not events(resumed, "evaluation protocol changed")
    assert resumed.best.score.protocol["features_digest"] == record.digest
    shutil.rmtree(cache)
    assert eq.evaluate(again.path, fewer, num=50).protocol["features_digest"] == record.digest


def test_an_encoder_that_neither_the_run_nor_the_cache_has_is_trained_again_and_the_scores_are_taken_anew(
    train_small: TrainSmall, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the run's own images alone, so it is another one."""
    monkeypatch.setenv("EQUIPOISE_CACHE", str(tmp_path / "cache"))
    train_small("first", budget="160")
    fewer = Path(shutil.copytree(shapes, tmp_path / "fewer"))
    for index in range(0, 240, 30):
        next(fewer.glob(f"*/{index}.png")).unlink()
    again = train_small("again", source=fewer, budget="160")
    before = encoder_of(again)
    shutil.rmtree(tmp_path / "cache")
    again.folder.encoder.write_bytes(b"damaged")
    resumed = eq.resume(again.path, budget="320")
    now = encoder_of(resumed)
    assert now.digest != before.digest
    assert not now.is_reused
    assert events(resumed, "evaluation protocol changed")
    assert resumed.best.score.protocol["features_digest"] == now.digest


# The loss


def test_a_loss_is_the_one_that_was_given_or_the_one_of_the_recipe() -> None:
    given = loss_named("minimax")
    assert loss_of(Recipe(), given) is given
    assert loss_of(Recipe(game=Game(loss="hinge")), None) == loss_named("hinge")
    with pytest.raises(UserError) as caught:
        loss_of(Recipe(game=Game(loss="custom")), None)
    assert caught.value.subject == Setting("game.loss", "custom")


def test_a_loss_of_your_own_is_the_one_that_is_trained_by(train_small: TrainSmall) -> None:
    """Twice the least-squares loss, by plain gradient descent at half the rate: the same weights."""
    plain = ["game.generator.optimizer=sgd", "game.discriminator.optimizer=sgd", NO_PENALTY]
    named = loss_named("least-squares")

    def rates(rate: float) -> list[str]:
        return [f"game.generator.rate={rate}", f"game.discriminator.rate={rate}"]

    twice = Loss(
        lambda real, fake: 2 * named.discriminator(real, fake), lambda real, fake: 2 * named.generator(real, fake)
    )
    constant = ["game.generator.rate_end=none", "game.discriminator.rate_end=none"]
    settings = [*plain, *constant, "game.loss=least-squares"]
    one = train_small("one", *settings, *rates(0.015625), source="ring", budget="320")
    other = train_small("other", *settings, *rates(0.0078125), source="ring", budget="320", loss=twice)
    assert other.recipe.game.loss == "custom"
    found = final_tensors(other)
    for name, tensor in final_tensors(one).items():
        if name.startswith(("generator.", "discriminator.")):
            torch.testing.assert_close(tensor, found[name])


# What ends a training


def test_a_training_that_fails_says_so_in_its_folder(
    train_small: TrainSmall, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "train", raising(RuntimeError(CAUSE)))
    with pytest.raises(RuntimeError, match="device"):
        train_small("broken", source="ring")
    run = eq.load(tmp_path / "broken")
    assert run.state.status == "failed"
    assert CAUSE in (run.state.message or "")
    assert [event["kind"] for event in events(run)] == ["failed"]
    assert run.report.is_file()


def test_a_run_that_failed_is_continued_from_its_last_checkpoint(
    train_small: TrainSmall, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train_small("whole", source="ring")
    real = loop.log

    def fail_late(state: Any, *given: Any) -> Any:
        if state.samples == 400:
            raise RuntimeError(CAUSE)
        return real(state, *given)

    with monkeypatch.context() as patch:
        patch.setattr(loop, "log", fail_late)
        with pytest.raises(RuntimeError, match="device"):
            train_small("broken", source="ring")
    assert eq.load(tmp_path / "broken").state.has_saved
    resumed = eq.resume(tmp_path / "broken")
    assert torch.equal(resumed.best.sample(8), whole.best.sample(8))
    assert resumed.state.status == "finished"


def test_a_disk_that_ends_a_training_is_told_in_its_folder_too(
    train_small: TrainSmall, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = OSError(errno.EFBIG, os.strerror(errno.EFBIG), "steps.jsonl")
    monkeypatch.setattr(loop, "train", raising(error))
    with pytest.raises(StorageError) as caught:
        train_small("broken", source="ring")
    assert caught.value.subject == "steps.jsonl"
    assert caught.value.remedies[-1] == Command("resume", tmp_path / "broken")
    run = eq.load(tmp_path / "broken")
    assert run.state.status == "failed"
    assert (run.state.message or "").startswith("steps.jsonl:")
    assert caught.value.problem in (run.state.message or "")
    assert [event["kind"] for event in events(run)] == ["failed"]
    assert run.report.is_file()


def test_a_disk_that_takes_not_even_the_failure_hides_nothing(
    train_small: TrainSmall, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr(loop, "train", raising(RuntimeError(CAUSE)))
    monkeypatch.setattr(RunFolder, "log_event", raising(full))
    with pytest.raises(RuntimeError, match="device"):
        train_small("broken", source="ring")


def test_a_task_without_a_judge_ends_the_training_in_words(
    train_small: TrainSmall, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PointTask, "judge", lambda *_: None)
    with pytest.raises(UserError) as caught:
        train_small("unjudged", source="ring")
    assert caught.value.subject == "ring"
    assert eq.load(tmp_path / "unjudged").state.status == "failed"


# Baselines


def test_baselines_are_judged_once_for_a_protocol(train_small: TrainSmall, monkeypatch: pytest.MonkeyPatch) -> None:
    run = train_small("first", source="ring", budget="160")
    rivals = run.folder.read_rivals()
    assert [score.role for score in rivals.scores] == ["floor", "rival", "ceiling"]
    losses = [score.loss for score in rivals.scores]
    assert losses[0] > losses[1] > losses[2], "one Gaussian, a density, real points"
    assert run.state.best is not None
    assert rivals.protocol == run.state.best.protocol

    calls: list[int] = []
    real = PointTask.rivals
    monkeypatch.setattr(PointTask, "rivals", lambda self: (calls.append(1), real(self))[1])
    eq.resume(run.path, budget="320")
    assert len(calls) == 1, "at the test alone"
    run.folder.write_rivals(structs.replace(rivals, protocol={"seed": 99}))
    eq.resume(run.path, budget="480")
    assert len(calls) == 3
    assert run.folder.read_rivals() == rivals


def test_a_baseline_that_fails_costs_neither_the_training_nor_the_others(
    train_small: TrainSmall, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = PointTask.rivals
    broken = Rival(BROKEN, "rival", raising(MemoryError(CAUSE)))
    monkeypatch.setattr(PointTask, "rivals", lambda self: (broken, *real(self)))
    run = train_small("unlucky", source="ring", budget="160")
    scores = run.folder.read_rivals().scores
    assert [score.failure is None for score in scores] == [False, True, True, True]
    assert CAUSE in (scores[0].failure or "")
    told = [event["message"] for event in events(run, "baseline failed")]
    assert len(told) == 2, "in the training, and at the test"
    assert all(BROKEN in message for message in told)
    assert run.state.status == "finished"


# The end


def test_the_end_writes_all_that_a_reader_needs(train_small: TrainSmall) -> None:
    run = train_small("run", "data.validation=0.3")
    state = run.state
    assert (state.status, state.stop_reason) == ("finished", "budget")
    assert (state.samples, state.spent) == (800, 800)
    assert state.has_saved
    assert state.seconds > 0
    assert state.message is not None
    assert state.selection is not None
    assert state.best is not None
    assert state.test is not None
    assert state.rivals is not None
    assert state.selection.winner == state.best.samples == state.test.samples
    ceiling = next(score for score in state.rivals.scores if score.role == "ceiling")
    assert ceiling.best is not None
    assert ceiling.best.difference == pytest.approx(state.test.loss - ceiling.loss)
    assert (readable(run.folder.best) / "README.md").read_text().strip()
    assert {exhibit.file for exhibit in run.folder.read_exhibits().exhibits} <= set(os.listdir(run.folder.samples))
    environment = run.folder.read_environment()
    assert environment["torch"] == torch.__version__
    assert environment["device"] == "cpu"


@pytest.mark.parametrize("method", ["exhibits", "rivals"])
def test_a_part_of_the_end_that_fails_costs_no_other(
    train_small: TrainSmall, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    real: Any = getattr(PointTask, method)
    calls: list[int] = []

    def fail_at_the_end(self: PointTask, *given: Any) -> Any:
        calls.append(1)
        if method == "rivals" and len(calls) == 1:  # of the training
            return real(self, *given)
        raise MemoryError(CAUSE)

    monkeypatch.setattr(PointTask, method, fail_at_the_end)
    run = train_small("unlucky", "data.validation=0.3", source="ring", budget="160")
    assert run.state.status == "finished"
    assert run.state.test is not None
    assert run.state.selection is not None
    told = events(run, "final stage failed")
    assert len(told) == 1
    assert CAUSE in told[0]["message"]


def test_a_model_card_that_is_a_link_is_replaced_and_what_it_leads_to_stays(
    train_small: TrainSmall, tmp_path: Path
) -> None:
    run = train_small("first", source="ring", budget="400")
    card = run.folder.best / "README.md"
    precious = tmp_path / "precious.txt"
    precious.write_text("mine")
    card.unlink()
    card.symlink_to(precious)
    eq.resume(run.path, budget="480")
    assert precious.read_text() == "mine"
    assert not card.is_symlink()


def test_a_generator_is_loaded_on_its_own_without_moving_the_callers_stream(train_small: TrainSmall) -> None:
    run = train_small("run", source="ring", budget="160")
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    generator = run.best.generator
    assert torch.equal(torch.rand(2), expected)
    assert not generator.training
    assert not any(parameter.requires_grad for parameter in generator.parameters())


def test_a_precision_that_the_task_does_not_compute_in_is_not_recorded(
    train_small: TrainSmall,
) -> None:
    """Hardware that multiplies bfloat16 is no news to a task of points, or to one of somebody's own."""
    run = train_small("run", source="ring", budget="160")
    cpu = torch.device("cpu")
    points = task_of(run.recipe)
    for precision in (torch.bfloat16, torch.float32):
        note_environment(Training(run.folder, run.recipe, points, cpu, precision, SILENT))
        assert "precision" not in run.folder.read_environment()
    assert not events(run, "environment changed")


def test_a_training_takes_a_folder_that_the_caller_holds(train_small: TrainSmall) -> None:
    """What `begun` and `resume` do after their questions, with a task that was made by hand."""
    run = train_small("run", source="ring", budget="160")
    recipe = replace(run.recipe, budget=replace(run.recipe.budget, samples=320))
    task = task_of(recipe)
    with run.folder.lock():
        run_training(Training(run.folder, recipe, task, torch.device("cpu"), torch.float32, SILENT))
    assert run.state.samples == 320


# What is written of the stages around a training


def test_the_state_names_the_stage_before_and_after_the_training_and_neither_in_it_nor_at_the_end(
    train_small: TrainSmall, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[RunState] = []
    write = RunFolder.write_state

    def recorded(folder: RunFolder, state: RunState) -> None:
        written.append(state)
        write(folder, state)

    monkeypatch.setattr(RunFolder, "write_state", recorded)
    run = train_small("run", budget="160")
    stages = [state.stage for state in written]
    named = [stage for stage in stages if stage is not None]
    assert [stage.is_after for stage in named] == sorted(stage.is_after for stage in named)
    before = [index for index, stage in enumerate(stages) if stage is not None and not stage.is_after]
    after = [index for index, stage in enumerate(stages) if stage is not None and stage.is_after]
    assert "baselines" in named[len(before) - 1].what
    assert stages[before[-1] + 1] is None, "the training has begun"
    assert len({stage.what for stage in named if stage.is_after}) >= 4, "selection, samples, test and its baselines"
    assert any(state.samples == 0 and state.has_saved for state in written[after[0] :])
    assert run.state.stage is None
    assert run.state.status == "finished"


def test_a_resume_keeps_what_the_end_before_it_has_selected(train_small: TrainSmall) -> None:
    run = train_small("run", "data.validation=0.3", budget="160", source="ring")
    assert run.state.selection is not None
    first = run.state.selection.winner
    resumed = eq.resume(run.path, budget="1600")
    assert [path.name for path in run.folder.selected.iterdir()] == [str(first)]
    assert resumed.state.selection is not None
    assert first in {candidate.found.samples for candidate in resumed.state.selection.candidates}


def test_a_training_that_goes_on_after_an_end_is_told_of_by_the_generator_that_lies_in_best(
    train_small: TrainSmall, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the end had selected, until a better one takes its place: in the panel, `status`, `sample` and the card."""
    monkeypatch.setattr("equipoise.evaluation.selection.lowest", lambda candidates: candidates[-1])
    run = train_small("run", "data.validation=0.3", budget="800", source="ring")
    first = run.state.best
    assert first is not None
    shown: list[int] = []

    def shows(progress: Any) -> None:
        shown.append(progress.best.samples)
        if progress.samples == 960:
            raise KeyboardInterrupt

    observer = Recorder()
    observer.progress = shows  # type: ignore[method-assign]
    monkeypatch.setattr("equipoise.evaluation.scoring.keep", lambda *_: None)  # nothing better comes
    with contextlib.suppress(KeyboardInterrupt):
        eq.resume(run.path, budget="1600", observer=observer)
    best = monitor_of(run.folder, run.recipe).best
    assert best is not None
    assert best.samples != first.samples, "the training compares with its own best as if there had been no end"
    now = read_status(run.folder).best
    assert now is not None
    assert score_in(run.folder.best) == now
    assert {now.samples, *shown} == {first.samples}


def test_a_resume_remembers_the_test_of_before_until_it_has_tested_again(
    train_small: TrainSmall, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train_small("run", budget="160", source="ring")
    first = run.state.test
    assert first is not None
    with monkeypatch.context() as patch:
        patch.setattr(loop, "log", raising(RuntimeError(CAUSE)))
        with pytest.raises(RuntimeError, match="device"):
            eq.resume(run.path, budget="320")
    for _ in range(2):
        assert (run.state.test, run.state.tested_before) == (None, first)
        with monkeypatch.context() as patch:
            patch.setattr(loop, "log", raising(KeyboardInterrupt()))
            with contextlib.suppress(KeyboardInterrupt):
                eq.resume(run.path)
    with monkeypatch.context() as patch:
        patch.setattr("equipoise.evaluation.finish.measure", raising(RuntimeError(CAUSE)))
        resumed = eq.resume(run.path)
    assert (resumed.state.status, resumed.state.test) == ("finished", None)
    assert resumed.state.tested_before == first, "a test that failed takes no other's place"
    resumed = eq.resume(run.path, budget="480")
    assert resumed.state.test is not None
    assert resumed.state.tested_before is None


@pytest.mark.parametrize(
    "place", ["equipoise.evaluation.rivals.checked_outputs", "equipoise.evaluation.finish.measure"]
)
def test_an_interruption_before_or_after_the_training_names_the_run_and_the_stage(
    train_small: TrainSmall, tmp_path: Path, place: str
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(place, raising(KeyboardInterrupt()))
        with pytest.raises(RunInterrupted) as caught:
            train_small("run", budget="160")
    folder = RunFolder(caught.value.path)
    stage = folder.read_state().stage
    assert stage is not None
    assert stage.what == caught.value.during
    assert stage.is_after == place.endswith("measure")
    assert eq.resume(folder.path).state.stage is None
