"""A resume is a position: whatever ended a training, it ends in the same digest as the one that nothing ended."""

import errno
import math
import os
import shlex
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from small import SETTLED, as_options
from trainings import (
    CONVOLUTIONS,
    NO_PENALTY,
    Killed,
    TrainSmall,
    act_at,
    assert_the_same,
    copy_at_first_checkpoint,
    events,
    final_tensors,
    interrupt,
    kill,
    nothing,
    places,
    raising,
    same_tensors,
    scores,
    write_at_once,
)

import equipoise as eq
from equipoise import loop, tasks
from equipoise import state as state_module
from equipoise.cli import main
from equipoise.data import splits
from equipoise.errors import Command, Option, Setting, StorageError, UserError
from equipoise.evaluation import evaluate, scoring
from equipoise.game.losses import Loss, loss_named
from equipoise.game.schedules import scheduled
from equipoise.game.signals import SKETCH
from equipoise.recipe import Points, Recipe, with_settings
from equipoise.recipes import for_points
from equipoise.runs.digest import digest
from equipoise.runs.folder import RunFolder
from equipoise.runs.replay_read import read_run
from equipoise.runs.status import read_status
from equipoise.stopping.monitor import Monitor
from equipoise.storage import checkpoints, files, logs
from equipoise.storage.records import FORMAT
from equipoise.tasks import images
from equipoise.tasks.base import Model

MEASURED = ["saving.every=none", "saving.log_every=none"]
SLOW = pytest.mark.slow


# From a checkpoint, with any networks and any game

OF_IMAGES = [
    pytest.param(CONVOLUTIONS, id="dcgan-batch-norm", marks=SLOW),
    pytest.param(
        ["networks.family=modern", "networks.width=4", "networks.generator_norm=none"], id="modern", marks=SLOW
    ),
    pytest.param(
        [*CONVOLUTIONS, "networks.family=resnet", "networks.spectral_norm=true", "networks.conditional=true"],
        id="resnet-spectral-norm-labels",
        marks=SLOW,
    ),
    pytest.param([], id="relativistic-r1-r2", marks=SLOW),
    pytest.param(["networks.dropout=0.3", "game.loss=hinge", NO_PENALTY], id="dropout"),
    pytest.param(
        ["augment.kinds=flip,translation,color,cutout", "augment.probability=0.6"], id="augmented", marks=SLOW
    ),
    pytest.param([*CONVOLUTIONS, "game.packing=2", "networks.minibatch_deviation=true"], id="packs-deviation"),
    pytest.param(
        [
            *CONVOLUTIONS,
            "networks.conditional=true",
            "networks.pretrained=true",
            "networks.minibatch_deviation=true",
            "game.variety=2",
        ],
        id="pretrained-pairs",
        marks=SLOW,
    ),
    pytest.param(
        [
            *CONVOLUTIONS,
            *("networks.family=resnet", "networks.attention=4", "networks.latent_skips=true"),
            *("networks.generator_spectral_norm=true", "networks.conditional=true", "game.generator.beta2_end=0.9"),
        ],
        id="attention-latent-skips-second-beta",
    ),
    pytest.param(["networks.family=style", "networks.width=4", "networks.generator_norm=none"], id="style", marks=SLOW),
    pytest.param(
        [
            *CONVOLUTIONS,
            *("networks.conditional=true", "networks.condition=naming", "game.auxiliary=1", "networks.label_scale=0.1"),
            *("networks.categorical_codes=2", "networks.continuous_codes=1", "game.information=1"),
            "networks.discriminators=2",
        ],
        id="naming-codes-ensemble",
    ),
    pytest.param(
        [*CONVOLUTIONS, *("networks.conditional=true", "networks.condition=concatenation")],
        id="concatenation",
        marks=SLOW,
    ),
    pytest.param([*CONVOLUTIONS, "task.size=16", "networks.scales=2"], id="scales", marks=SLOW),
    pytest.param(
        [
            *CONVOLUTIONS,
            *("networks.autoencoder=true", "game.loss=energy", "game.margin=0.5", "game.pulling_away=0.1"),
        ],
        id="autoencoder",
        marks=SLOW,
    ),
    pytest.param([*CONVOLUTIONS, "game.update=simultaneous"], id="simultaneous"),
    pytest.param([*CONVOLUTIONS, "game.update=extragradient"], id="extragradient"),
]
OF_ANYTHING = [
    pytest.param([], id="relativistic-r1-r2"),
    pytest.param(
        ["game.loss=wasserstein", "game.penalty.kind=wgan-gp", "game.discriminator_steps=2"], id="two-d-steps"
    ),
    pytest.param(["game.instance_noise=0.2", "game.penalty.every=3"], id="instance-noise-lazy"),
    pytest.param(["game.update=simultaneous", "game.loss=hinge", NO_PENALTY], id="simultaneous"),
    pytest.param(["game.update=extragradient", "game.weight_clip=0.1"], id="extragradient"),
    pytest.param(["networks.spectral_norm=true", "networks.generator_norm=batch"], id="norms"),
    pytest.param(["game.packing=2", "networks.minibatch_deviation=true"], id="packs-deviation"),
    *(
        pytest.param([f"game.generator.optimizer={name}", f"game.discriminator.optimizer={name}"], id=name, marks=SLOW)
        for name in ("adamw", "rmsprop", "adagrad", "sgd")
    ),
]


def resumed_as_a_whole(train_small: TrainSmall, tmp_path: Path, settings: list[str], source: str | None) -> None:
    """Assert that a run that goes on from its first checkpoint is the run that never stopped."""
    with pytest.MonkeyPatch.context() as patch:
        copy_at_first_checkpoint(patch, "cut")
        whole = train_small("whole", *settings, source=source)
    assert eq.load(tmp_path / "cut").state.status == "running"
    resumed = eq.resume(tmp_path / "cut")
    assert_the_same(whole, resumed)
    assert places(whole) == places(resumed)


@pytest.mark.parametrize("settings", OF_IMAGES)
def test_a_run_of_images_resumed_from_a_checkpoint_is_the_run_that_never_stopped(
    train_small: TrainSmall, tmp_path: Path, settings: list[str]
) -> None:
    resumed_as_a_whole(train_small, tmp_path, settings, None)


@pytest.mark.parametrize("settings", OF_ANYTHING)
def test_a_run_of_points_resumed_from_a_checkpoint_is_the_run_that_never_stopped(
    train_small: TrainSmall, tmp_path: Path, settings: list[str]
) -> None:
    resumed_as_a_whole(train_small, tmp_path, settings, "ring")


# Wherever it was ended


@pytest.mark.parametrize("update", ["alternating", "simultaneous", "extragradient"])
@pytest.mark.parametrize("samples", [0, pytest.param(160, marks=SLOW), 208, pytest.param(368, marks=SLOW)])
def test_a_run_that_is_interrupted_and_continued_is_the_run_that_was_not(
    train_small: TrainSmall, train_once: TrainSmall, monkeypatch: pytest.MonkeyPatch, update: str, samples: int
) -> None:
    settings = [f"game.update={update}", "game.generator.rate=0.002", "game.generator.rate_end=0.0001"]
    whole = train_once("whole", *settings, source="ring")
    with monkeypatch.context() as patch:
        act_at(patch, 0, samples, interrupt)
        stopped = train_small("cut", *settings, source="ring")
    assert (stopped.state.status, stopped.state.stop_reason) == ("stopped", "interrupted")
    assert stopped.state.selection is None
    assert stopped.state.test is None
    assert_the_same(whole, eq.resume(stopped.path))


@pytest.mark.parametrize(("update", "samples"), [("alternating", 224), ("extragradient", 208)])
def test_a_run_that_is_interrupted_between_two_rounds_that_are_compared_is_the_run_that_was_not(
    train_small: TrainSmall, train_once: TrainSmall, monkeypatch: pytest.MonkeyPatch, update: str, samples: int
) -> None:
    whole = train_once("whole", f"game.update={update}", source="ring")
    with monkeypatch.context() as patch:
        act_at(patch, 0, samples, interrupt)
        stopped = train_small("cut", f"game.update={update}", source="ring")
    found = checkpoints.latest(stopped.folder.checkpoints)
    assert found is not None
    assert len(found.values["sketch"]) == SKETCH
    assert_the_same(whole, eq.resume(stopped.path))


@pytest.mark.parametrize(
    ("samples", "update"),
    [
        pytest.param(160, "alternating", marks=SLOW),
        (208, "alternating"),
        pytest.param(208, "simultaneous", marks=SLOW),
        pytest.param(208, "extragradient", marks=SLOW),
    ],
)
def test_a_run_of_images_that_is_interrupted_and_continued_is_the_run_that_was_not(
    train_small: TrainSmall, train_once: TrainSmall, monkeypatch: pytest.MonkeyPatch, samples: int, update: str
) -> None:
    settings = [*CONVOLUTIONS, "networks.dropout=0.3", f"game.update={update}"]
    whole = train_once("whole", *settings)
    with monkeypatch.context() as patch:
        act_at(patch, 0, samples, interrupt)
        stopped = train_small("cut", *settings)
    assert_the_same(whole, eq.resume(stopped.path))


def test_a_run_that_is_interrupted_again_and_again_is_the_run_that_was_not(
    train_small: TrainSmall, train_once: TrainSmall, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = train_once("whole", source="ring")
    with monkeypatch.context() as patch:
        act_at(patch, 0, 8, interrupt)
        train_small("cut", source="ring")
    for samples in (16, 152, 472, 480, 792):
        with monkeypatch.context() as patch:
            act_at(patch, 0, samples, interrupt)
            assert eq.resume(tmp_path / "cut").state.samples == samples + 8
    assert_the_same(whole, eq.resume(tmp_path / "cut"))


def test_an_evaluation_that_a_signal_interrupts_leaves_no_trace_and_is_taken_again(
    train_small: TrainSmall, train_once: TrainSmall, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train_once("whole", source="ring")
    real = scoring.evaluate

    def interrupted(task: Any, judge: Any, contender: Any, *rest: Any) -> Any:
        found = real(task, judge, contender, *rest)
        if contender.samples == 320:
            interrupt()
        return found

    with monkeypatch.context() as patch:
        patch.setattr(scoring, "evaluate", interrupted)
        stopped = train_small("cut", source="ring")
    assert stopped.state.samples == 320
    assert [score["samples"] for score in scores(stopped)] == [160]
    resumed = eq.resume(stopped.path)
    assert_the_same(whole, resumed)
    assert [score["samples"] for score in scores(resumed)] == [160, 320, 480, 640, 800]


def test_a_run_killed_before_its_first_checkpoint_begins_again_and_ends_the_same(
    train_small: TrainSmall, train_once: TrainSmall, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train_once("whole", source="ring")
    with monkeypatch.context() as patch:
        patch.setattr(loop, "save", kill)
        with pytest.raises(Killed):
            train_small("killed", source="ring")
    assert_the_same(whole, eq.resume(tmp_path / "killed"))


def test_an_interrupt_before_the_intervals_are_known_records_none_and_continues_exactly(
    train_small: TrainSmall, train_once: TrainSmall, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train_once("whole", *MEASURED, source="ring")
    with monkeypatch.context() as patch:
        patch.setattr(loop.Clock, "is_warm", lambda *_: False)
        act_at(patch, 0, 8, interrupt)
        early = train_small("early", *MEASURED, source="ring")
    assert early.state.status == "stopped"
    assert early.folder.read_intervals().log_every is None
    assert not scores(early)
    resumed = eq.resume(early.path)
    for name in ("generator", "discriminator", "update"):  # when it was evaluated and logged, each machine measures
        assert digest(whole.folder).parts[name] == digest(resumed.folder).parts[name]


def test_measured_intervals_are_kept_for_good(train_small: TrainSmall, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        act_at(patch, 0, 400, interrupt)
        stopped = train_small("measured", *MEASURED, source="ring")
    measured = stopped.folder.read_intervals()
    assert measured.samples_per_second > 0
    monkeypatch.setattr(loop.Clock, "speed", lambda *_: 1.0)  # on a machine that is a thousand times slower
    monkeypatch.setattr(Monitor, "evaluation_seconds", lambda _: None)  # and a price that jumped would be followed
    assert eq.resume(stopped.path).folder.read_intervals() == measured


def test_intervals_are_kept_even_where_the_evaluation_that_measured_them_failed(
    train_small: TrainSmall, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(evaluate, "measure", raising(MemoryError("none left")))
        act_at(patch, 0, 56, kill)  # it is evaluated at 40
        with pytest.raises(Killed):
            train_small("cut", *MEASURED, source="ring")
    measured = eq.load(tmp_path / "cut").folder.read_intervals()
    assert measured.samples_per_second > 0
    monkeypatch.setattr(loop.Clock, "speed", lambda *_: 1.0)
    monkeypatch.setattr(loop.Clock, "present_speed", lambda *_: None)  # the machine may be busy
    monkeypatch.setattr(Monitor, "evaluation_seconds", lambda _: 0.05)
    found = eq.resume(tmp_path / "cut").folder.read_intervals()
    assert found.samples_per_second == measured.samples_per_second
    assert measured.evaluation_seconds == 1.0
    assert found.evaluation_seconds == 0.05, "the price is measured once they succeed"


def test_a_settled_run_that_moves_to_a_time_budget_goes_on_with_its_schedules_and_scores_no_position_twice(
    train_small: TrainSmall, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop.Clock, "is_warm", lambda *_: True)
    run = train_small("first", "game.generator.rate=0.001", "game.generator.rate_end=0.00001", source="ring")
    seconds = run.state.seconds
    budget = math.ceil(seconds + 1)
    resumed = eq.resume(run.path, budget=f"{budget}s")
    assert resumed.state.spent > 800
    positions = [score["samples"] for score in scores(resumed)]
    assert len(set(positions)) == len(positions)
    read_run(resumed.path)  # for a replay, which refuses a position that is there twice
    after = next(step for step in logs.records(resumed.folder.steps) if step["samples"] > 800)
    assert after["generator_rate"] <= 1.01 * scheduled(0.001, 0.00001, seconds / budget, "cosine")


@pytest.mark.parametrize("where", [pytest.param("save", marks=SLOW), "prune"])
@pytest.mark.parametrize("place", [1, 3, -1])
def test_a_kill_around_any_save_leaves_the_same_candidates_and_the_same_selection(
    train_small: TrainSmall, stage_losses: Callable, monkeypatch: pytest.MonkeyPatch, where: str, place: int
) -> None:
    """Cut just before a checkpoint is written, or just before the candidates are pruned."""
    losses = [9.0, 8.0, 7.0, 6.0, 6.5, 5.0, 6.0, 4.0, 5.5, 4.5]
    stage_losses(lambda samples: losses[samples // 80 - 1])
    cuts: list[Path] = []
    owner: Any = {"save": checkpoints, "prune": state_module}[where]
    real = getattr(owner, where)

    def copying(first: Any, *given: Any) -> Any:
        folder = first.path if isinstance(first, RunFolder) else first.parent
        if folder.name == "whole":
            cuts.append(folder.with_name(f"cut-{len(cuts)}"))
            shutil.copytree(folder, cuts[-1])
        return real(first, *given)

    with monkeypatch.context() as patch:
        write_at_once(patch)
        patch.setattr(owner, where, copying)
        whole = train_small("whole", "evaluation.every=80", "data.validation=0.3", source="ring")
    resumed = eq.resume(cuts[place])
    assert_the_same(whole, resumed)
    kept = [{path.name for path in run.folder.candidates.iterdir()} for run in (whole, resumed)]
    assert kept[0] == kept[1]
    selections = [run.state.selection for run in (whole, resumed)]
    assert selections[0] is not None
    assert selections[1] is not None
    assert selections[0].winner == selections[1].winner
    found = [[candidate.found.samples for candidate in one.candidates] for one in selections if one is not None]
    assert found[0] == found[1]


# Under another judge, another policy, on another machine


def judged_by_another(patch: pytest.MonkeyPatch) -> None:
    """Let the evaluation encoder have other weights, as another machine may have trained it to."""
    real = images.features_of
    patch.setattr(images, "features_of", lambda *given: replace(real(*given), digest="another"))


MANY = ["evaluation.every=40", "data.validation=0.3"]


@pytest.mark.slow
def test_a_resume_under_another_judge_scores_the_best_anew_instead_of_mixing_protocols(
    train_small: TrainSmall, stage_losses: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage_losses(lambda samples: 10 - samples / 400)
    run = train_small("first", *MANY, budget="400")
    assert run.state.selection is not None
    before = sorted(int(path.name) for path in run.folder.candidates.iterdir())
    assert before == [320, 360, 400]
    (run.folder.candidates / "400" / "generator.safetensors").write_bytes(b"")  # the best is in the checkpoint besides
    judged_by_another(monkeypatch)
    resumed = eq.resume(run.path, budget="800")
    changes = events(resumed, "evaluation protocol changed")
    assert [event["samples"] for event in changes] == [400]
    anew = [line["samples"] for line in scores(resumed) if line["protocol"]["features_digest"] == "another"]
    assert anew[: len(before)] == before, "every candidate is scored anew, in order"
    assert list(resumed.folder.candidates.iterdir())
    assert read_run(resumed.path).scores[0].samples == before[0]
    assert resumed.best.score.protocol["features_digest"] == "another"
    assert resumed.state.status == "finished"


@pytest.mark.slow
def test_a_change_of_the_judge_that_is_killed_leaves_no_score_twice(
    train_small: TrainSmall, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train_small("first", *MANY, budget="400")
    shutil.copytree(run.path, tmp_path / "whole")
    judged_by_another(monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(scoring, "save", kill)  # the candidates have been scored anew, and no checkpoint knows
        with pytest.raises(Killed):
            eq.resume(run.path, budget="480")
    found = [eq.resume(path, budget="480") for path in (run.path, tmp_path / "whole")]
    lines = [[line | {"seconds": 0} for line in scores(one)] for one in found]
    assert lines[0] == lines[1]


def test_a_run_that_its_policy_stopped_continues_as_the_one_with_the_budget_policy_from_the_start(
    train_small: TrainSmall,
    stage_losses: Callable,
    shapes: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One good score, and from then on nothing better: the command that is shown after the stop is the one to type."""
    stage_losses(lambda samples: {160: 5.0, 320: 1.0}.get(samples, 3 + samples / 16_000), error=0.001)
    more = ["data.validation=0.3"]
    whole = train_small("whole", *more, budget="1600")
    path = tmp_path / "run"
    command = ["train", os.fspath(shapes), "--budget", "1600", "--out", os.fspath(path)]
    assert main([*command, *as_options([*SETTLED, *more, "stopping.policy=evidence"])]) == 0
    stopped = eq.load(path).state
    assert stopped.stop_reason == "evidence"
    assert 320 < stopped.samples < 1600

    again = Command("resume", path, policy="budget")
    typed = f"equipoise resume {shlex.quote(os.fspath(path))} --policy budget"
    assert typed in " ".join(capsys.readouterr().out.split())
    with pytest.raises(UserError) as caught:
        eq.resume(path)
    assert caught.value.remedies[-1] == again

    assert main(shlex.split(typed)[1:]) == 0
    continued = eq.load(path)
    assert continued.recipe == whole.recipe
    assert continued.state.message == whole.state.message
    changes = events(continued, "policy changed")
    assert [event["samples"] for event in changes] == [stopped.samples]
    found = [final_tensors(run) for run in (whole, continued)]
    assert same_tensors(found[0], found[1])
    assert any(name.startswith("best_generator.") for name in found[0])
    lines = [[line | {"seconds": 0} for line in scores(run)] for run in (whole, continued)]
    assert lines[0] == lines[1]
    winners = [run.state.selection.winner for run in (whole, continued) if run.state.selection is not None]
    assert len(winners) == 2
    assert winners[0] == winners[1]


def test_another_environment_is_told_once(train_small: TrainSmall, monkeypatch: pytest.MonkeyPatch) -> None:
    run = train_small("first", source="ring", budget="160")
    environment = run.folder.read_environment()
    run.folder.write_environment(environment | {"torch": "1.0.0", "threads": 1})
    for budget in ("320", "480"):
        eq.resume(run.path, budget=budget)
    told = events(run, "environment changed")
    assert len(told) == 1
    assert "1.0.0" in told[0]["message"]


# Damage


def test_a_best_generator_that_does_not_say_where_it_is_from_is_put_right_by_a_resume(train_small: TrainSmall) -> None:
    run = train_small("first", source="ring", budget="400")
    tensors = checkpoints.load_tensors(run.folder.best / "generator.safetensors")
    checkpoints.write_folder(run.folder.best, {"generator.safetensors": tensors}, {"score.json": {"samples": "x"}})
    assert eq.resume(run.path, budget="480").best.score.samples in range(160, 481)


def test_a_run_whose_state_was_damaged_goes_on_without_it_as_the_message_says(
    train_small: TrainSmall, tmp_path: Path
) -> None:
    run = train_small("first", source="ring", budget="400")
    shutil.copytree(run.path, tmp_path / "whole")
    (run.path / "state.json").write_text("{")
    with pytest.raises(UserError) as caught:
        eq.resume(run.path, budget="480")
    assert caught.value.subject == run.path / "state.json"
    (run.path / "state.json").unlink()
    resumed = [eq.resume(path, budget="480") for path in (run.path, tmp_path / "whole")]
    assert digest(resumed[0].folder) == digest(resumed[1].folder)


def test_a_damaged_checkpoint_is_an_event_and_the_one_before_it_is_used(
    train_small: TrainSmall, train_once: TrainSmall, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train_once("whole", source="ring")
    with monkeypatch.context() as patch:
        act_at(patch, 0, 400, interrupt)
        stopped = train_small("cut", source="ring")
    newest = checkpoints.named(stopped.folder.checkpoints)[0]
    (newest / "tensors.safetensors").write_bytes(b"")
    resumed = eq.resume(stopped.path)
    damages = events(resumed, "damaged checkpoint")
    assert [event["samples"] for event in damages] == [320]
    assert_the_same(whole, resumed)


@pytest.mark.parametrize("change", ["format", "samples", "attempt", "adjustments", "monitor"])
def test_a_checkpoint_that_this_version_cannot_take_back_is_refused_and_left_as_it_is(
    train_small: TrainSmall, change: str
) -> None:
    run = train_small("first", source="ring", budget="160")
    path = checkpoints.named(run.folder.checkpoints)[0]
    found = checkpoints.latest(run.folder.checkpoints)
    assert found is not None
    others = {"format": FORMAT + 1, "samples": 8, "attempt": -1, "adjustments": {"luck": 1}, "monitor": {}}
    values = found.values | {change: others[change]}
    checkpoints.write_folder(path, {"tensors.safetensors": found.tensors}, {"state.json": values})
    before = (path / "state.json").read_bytes()
    with pytest.raises(UserError) as caught:
        eq.resume(run.path, budget="320")
    assert caught.value.subject in (path, "checkpoint")
    assert (path / "state.json").read_bytes() == before


@pytest.mark.parametrize("name", ["recipe.json", "state.json"])
def test_a_run_of_a_newer_version_is_refused_before_anything_is_read(train_small: TrainSmall, name: str) -> None:
    run = train_small("first", source="ring", budget="160")
    values = files.read_json(run.path / name)
    assert values is not None
    files.write_json(run.path / name, values | {"format": FORMAT + 1})
    with pytest.raises(UserError) as caught:
        eq.resume(run.path, budget="320")
    assert caught.value.subject == run.path / name
    assert str(FORMAT + 1) in caught.value.problem


def test_a_resume_that_finds_the_disk_full_says_what_is_intact(
    train_small: TrainSmall, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = train_small("first", source="ring", budget="400")
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "write_recipe", raising(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))))
        with pytest.raises(StorageError) as caught:
            eq.resume(run.path, budget="480")
    assert any("400" in str(part) for part in caught.value.remedies)
    assert caught.value.remedies[-1] == Command("resume", run.path)
    assert eq.resume(run.path, budget="480").state.samples == 480


# What only Python knows

SATURATING = loss_named("minimax")
OWN_LOSS = Loss(SATURATING.discriminator, SATURATING.generator)


def test_a_loss_of_your_own_is_needed_again_and_continues_exactly(
    train_small: TrainSmall, train_once: TrainSmall, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train_once("whole", source="ring", loss=OWN_LOSS)
    assert whole.recipe.game.loss == "custom"
    with monkeypatch.context() as patch:
        act_at(patch, 0, 400, interrupt)
        stopped = train_small("cut", source="ring", loss=OWN_LOSS)
    with pytest.raises(UserError) as caught:
        eq.resume(stopped.path)
    assert caught.value.subject == Setting("game.loss", "custom")
    assert_the_same(whole, eq.resume(stopped.path, loss=OWN_LOSS))
    assert eq.load(whole.path).best.sample(3).shape == (3, 2), "without it, the best generator can be used"


def test_a_loss_of_your_own_is_not_taken_by_a_run_with_another(train_small: TrainSmall) -> None:
    run = train_small("named", source="ring", budget="160")
    with pytest.raises(UserError) as caught:
        eq.resume(run.path, budget="320", loss=OWN_LOSS)
    assert caught.value.subject == Option("loss")


@dataclass(frozen=True)
class OwnTask:
    """A task of somebody's own: all that a task of points does, under another name."""

    inner: Any

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def model(self) -> Model:
        """Return what can be done with the generator."""
        return self.inner.model()


@pytest.fixture
def own_task(small: None) -> Any:
    """Return a task that is defined in Python."""
    recipe = with_settings(for_points(Recipe(), Points()), ["data.source=ring", *SETTLED])
    source = tasks.opened(recipe, torch.device("cpu"), nothing)
    return OwnTask(source.task(recipe, loss_named("relativistic"), torch.float32, nothing))


def test_a_task_of_your_own_is_needed_again_and_continues_exactly(
    own_task: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(name: str) -> eq.Run:
        return eq.train(task=own_task, budget="800", out=tmp_path / name, settings=SETTLED)

    whole = train("whole")
    with monkeypatch.context() as patch:
        act_at(patch, 0, 400, interrupt)
        stopped = train("cut")
    for needing in (eq.resume, lambda path: eq.load(path).best):
        with pytest.raises(UserError) as caught:
            needing(stopped.path)
        assert "OwnTask" in str(caught.value.subject)
    resumed = eq.resume(stopped.path, task=own_task)
    assert_the_same(whole, resumed)
    assert torch.equal(eq.load(whole.path, task=own_task).best.sample(3), resumed.best.sample(3))


def test_a_task_of_your_own_on_other_data_is_refused(own_task: Any, tmp_path: Path) -> None:
    run = eq.train(task=own_task, budget="160", out=tmp_path / "run", settings=SETTLED)
    source = replace(own_task.inner.source, points=own_task.inner.source.points + 1)
    other: Any = OwnTask(replace(own_task.inner, source=source))
    with pytest.raises(UserError) as caught:
        eq.resume(run.path, budget="320", task=other)
    assert "start_from" in str(caught.value.remedies[-1])


def test_a_task_of_your_own_is_not_taken_by_a_run_of_another(own_task: Any, train_small: TrainSmall) -> None:
    run = train_small("named", source="ring", budget="160")
    for taking in (lambda: eq.resume(run.path, budget="320", task=own_task), lambda: eq.load(run.path, task=own_task)):
        with pytest.raises(UserError) as caught:
            taking()
        assert caught.value.subject == Option("task")


# Data that were moved


def test_a_run_whose_images_were_moved_says_what_to_type_and_goes_on_from_their_new_place(
    train_small: TrainSmall, train_once: TrainSmall, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train_once("whole")
    before, now = tmp_path / "before", tmp_path / "now"
    shutil.copytree(shapes, before)
    with monkeypatch.context() as patch:
        act_at(patch, 0, 400, interrupt)
        stopped = train_small("run", source=before)
    before.rename(now)
    where = Command("resume", stopped.path, source="PATH")
    with pytest.raises(UserError) as gone:
        eq.resume(stopped.path)
    assert (gone.value.subject, gone.value.remedies[-1]) == (str(before), where)
    with pytest.raises(UserError) as gone:
        eq.resume(stopped.path, budget="2k", policy="patience")
    (advised,) = [part for part in gone.value.remedies if isinstance(part, Command)]
    assert dict(advised.options) == {"source": "PATH", "budget": "2k", "policy": "patience"}

    resumed = eq.resume(stopped.path, source=now)
    assert_the_same(whole, resumed)
    assert resumed.recipe.data.source == str(now)
    data = resumed.folder.read_data()
    assert data is not None
    assert (data.source, data.path) == (str(now), str(now))
    assert eq.resume(resumed.path, budget="880").state.samples >= 880, "and from then on without a word"


def test_another_source_than_that_of_the_run_is_refused_as_such(
    train_small: TrainSmall, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        act_at(patch, 0, 400, interrupt)
        stopped = train_small("run")
    other = tmp_path / "other"
    other.mkdir()
    for place in range(30):
        Image.new("L", (16, 16), 8 * place).save(other / f"{place}.png")
    with pytest.raises(UserError, match="other"):
        eq.resume(stopped.path, source=other)
    assert stopped.recipe == eq.load(stopped.path).recipe, "nothing was written"
    code = main(["train", str(other), "--out", str(stopped.path), "--resume"])
    assert code == 2
    assert f"equipoise resume {stopped.path} --source {other}" in capsys.readouterr().err


# While the data and the evaluation encoder are prepared


def test_an_interrupted_preparation_leaves_a_run_that_is_shown_and_resumed_to_the_same_end(
    train_small: TrainSmall, train_once: TrainSmall, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train_once("whole")
    with monkeypatch.context() as patch:
        patch.setattr(images.ImageSource, "task", kill)
        with pytest.raises(Killed):
            train_small("cut")
    now = read_status(RunFolder.open(tmp_path / "cut"))
    assert (now.state, now.samples) == ("new", 0)
    assert_the_same(whole, eq.resume(tmp_path / "cut"))


def test_a_mistake_that_shows_only_in_the_preparation_leaves_no_folder(
    train_small: TrainSmall, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images.ImageSource, "task", raising(UserError("features", "unobtainable", "Try others")))
    for name in ("cut", "above/cut"):
        with pytest.raises(UserError, match="unobtainable"):
            train_small(name)
        assert not (tmp_path / name).exists()
    kept = tmp_path / "kept"
    kept.mkdir()
    with pytest.raises(UserError):
        train_small("kept")
    assert not RunFolder.is_run(kept)


def test_a_run_begun_before_all_few_images_judged_goes_on_under_the_new_protocol(
    train_small: TrainSmall, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its scores are of other images than the new ones, so its candidates are scored again before they are compared."""
    with monkeypatch.context() as before:
        before.setattr(splits, "FEW_HELD_OUT", 0)
        run = train_small("run", budget="480")
        tested = run.state.test
        assert tested is not None
        assert math.isnan(tested.optimism)
    resumed = eq.resume(run.path, budget="800")
    assert len(events(resumed, "evaluation protocol changed")) == 1
    assert "folds" not in scores(run)[0]["protocol"]
    later = [score for score in scores(resumed) if "folds" in score["protocol"]]
    assert {score["samples"] for score in later} >= {tested.samples, 640, 800}
    assert all(len(score["folds"]) == 5 for score in later)
    test = resumed.state.test
    assert test is not None
    assert test.protocol["num_real"] == later[0]["protocol"]["num_real"] > tested.protocol["num_real"]
    assert test.optimism >= 0


def test_the_final_score_of_few_images_is_corrected_by_the_folds_of_all_scores(train_small: TrainSmall) -> None:
    run = train_small("run")
    found = [score["folds"] for score in scores(run)]
    test, num = run.state.test, 44
    assert test is not None
    assert test.protocol["num_real"] == num
    shares = [9 / num] * 4 + [8 / num]
    whole = [sum(share * loss for share, loss in zip(shares, row, strict=True)) for row in found]
    best = min(range(len(found)), key=whole.__getitem__)
    flattered = 0.0
    for fold, share in enumerate(shares):
        without = [total - share * row[fold] for total, row in zip(whole, found, strict=True)]
        chosen = min(range(len(found)), key=without.__getitem__)
        flattered += share * (found[chosen][fold] - found[best][fold])
    assert test.optimism == pytest.approx(flattered)
    assert test.loss == test.values["kid"]
    assert run.state.rivals is not None
    for rival in run.state.rivals.scores:
        assert rival.best is not None
        assert rival.best.difference == pytest.approx(test.loss - rival.loss, rel=1e-5)
