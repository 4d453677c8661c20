"""Scoring a generator beside the best: the same inputs for both, fresh ones each time, and nothing else moves."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from small import SMALL
from torch import nn

from equipoise.data.pool import Pool
from equipoise.errors import UserError
from equipoise.evaluation.evaluate import (
    Contender,
    broken_guards,
    checked_outputs,
    discriminator_gap,
    evaluate,
    measure,
)
from equipoise.game.losses import loss_named
from equipoise.host.deadline import Deadline
from equipoise.metrics.features.load import Features
from equipoise.metrics.units import difference
from equipoise.randomness import stream_seed
from equipoise.recipe import Recipe, with_settings
from equipoise.storage.records import Metric
from equipoise.tasks.base import SplitLogits, split_logits
from equipoise.tasks.images import ImageTask

LONG = Deadline(math.inf)
Make = Callable[..., Any]


def test_a_score_is_what_the_judge_found_under_its_protocol(plane: Make, shifted: Make) -> None:
    task, judge = plane(), plane().judges["validation"]
    found = evaluate(task, judge, Contender(shifted(0.5), 640), None, LONG)
    points = judge.given[0]
    score = found.score
    assert (score.samples, score.compared_with) == (640, 0)
    assert score.loss == pytest.approx(points.square().mean().item(), rel=1e-6)
    assert score.error == pytest.approx((points.square().mean(1).var() / len(points)).sqrt().item(), rel=1e-5)
    assert score.values == found.measured.values
    assert score.protocol == judge.protocol
    assert math.isnan(score.difference)
    assert math.isnan(score.difference_error)


def test_the_best_is_measured_on_the_very_same_inputs(plane: Make, shifted: Make) -> None:
    task, judge = plane(), plane().judges["validation"]
    found = evaluate(task, judge, Contender(shifted(0.5), 640), Contender(shifted(0.4), 320), LONG)
    new, old = judge.given
    torch.testing.assert_close(new - 0.5, old - 0.4)
    changes = new.square().mean(1) - old.square().mean(1)
    assert found.score.compared_with == 320
    assert found.score.difference == pytest.approx(changes.mean().item(), rel=1e-4)
    expected = (changes.double().var() / len(changes)).sqrt().item()
    assert found.score.difference_error == pytest.approx(expected, rel=1e-4)
    assert found.score.difference_error < 0.2 * found.score.error, "what both share cancels"


def test_each_position_and_each_judges_seed_has_inputs_of_its_own(plane: Make, shifted: Make, squares: Make) -> None:
    task = plane()

    def drawn(samples: int, seed: int) -> torch.Tensor:
        judge = squares(seed=seed)
        evaluate(task, judge, Contender(shifted(0.0), samples), None, LONG)
        return judge.given[0]

    first = drawn(640, 0)
    assert torch.equal(first, drawn(640, 0))
    for other in (drawn(704, 0), drawn(640, 1)):
        assert abs(np.corrcoef(first.flatten(), other.flatten())[0, 1]) < 0.15
    assert len(first.unique(dim=0)) == len(first), "chunks do not repeat one another"


def test_one_that_does_not_compare_is_compared_with_nothing(plane: Make, shifted: Make, squares: Make) -> None:
    class Alone(squares):  # type: ignore[misc, valid-type]
        def measure(self, outputs: Any) -> Any:
            return dataclasses.replace(super().measure(outputs), units=())

    found = evaluate(plane(), Alone(), Contender(shifted(0.5), 640), Contender(shifted(0.4), 320), LONG)
    assert found.score.compared_with == 0
    assert math.isnan(found.score.difference)


def test_seconds_are_those_of_both_measurements(plane: Make, shifted: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(100, 10_000))
    monkeypatch.setattr("time.monotonic", lambda: float(next(clock)))
    deadline = Deadline(math.inf)
    alone = evaluate(plane(), plane().judges["validation"], Contender(shifted(0.5), 640), None, deadline)
    best = Contender(shifted(0.4), 320)
    both = evaluate(plane(), plane().judges["validation"], Contender(shifted(0.5), 640), best, deadline)
    assert 0 < alone.score.seconds < both.score.seconds


@pytest.mark.parametrize("split", ["validation", "validation, second half", "test"])
def test_inputs_are_those_of_the_split_that_is_judged(plane: Make, shifted: Make, split: str) -> None:
    task, seen = plane(), set[str]()
    real = task.outputs

    def outputs(generator: Any, randomness: Any, split: str, begin: int, size: int) -> Any:
        seen.add(split)
        return real(generator, randomness, split, begin, size)

    task.outputs = outputs
    measure(task, task.judges[split], shifted(0.0), 1, LONG)
    assert seen == {split}


# Outputs


@pytest.mark.parametrize(
    "outputs",
    [torch.zeros(5, 2), (torch.zeros(5, 2), torch.zeros(5)), [torch.zeros(2)] * 5, ([1, 2, 3, 4, 5], None)],
    ids=["tensor", "tuple", "list", "tuple of lists"],
)
def test_outputs_are_counted_whatever_they_lie_in(outputs: Any) -> None:
    assert checked_outputs(outputs, 5) is outputs
    with pytest.raises(UserError, match=r"5\D+6") as refused:
        checked_outputs(outputs, 6)
    assert refused.value.subject == "task.outputs()"


@pytest.mark.parametrize("outputs", [None, 5, "abcde", {"a": 1}, np.zeros(5), ()], ids=repr)
def test_what_holds_no_outputs_is_refused_by_the_name_of_the_method(outputs: Any) -> None:
    with pytest.raises(UserError, match=type(outputs).__name__) as refused:
        checked_outputs(outputs, 5, "mine")
    assert refused.value.subject == "task.mine()"


def test_a_task_that_returns_too_few_is_refused_before_anything_is_judged(plane: Make, shifted: Make) -> None:
    task = plane()
    task.outputs = lambda *given: torch.zeros(given[-1] - 1, 2)
    with pytest.raises(UserError):
        measure(task, task.judges["validation"], shifted(0.0), 1, LONG)
    assert task.judges["validation"].given == []


# Guards


def test_broken_guards_are_named_and_a_value_that_is_missing_keeps_none() -> None:
    metrics = (
        Metric(name="low", guard=1.0),
        Metric(name="high", guard=1.0, better="higher"),
        Metric(name="free"),
        Metric(name="missing", guard=0.0),
    )
    assert broken_guards(metrics, {"low": 1.0, "high": 1.0, "free": 9.9, "missing": 0.0}) == ()
    assert broken_guards(metrics, {"low": 1.1, "high": 0.9, "free": 9.9}) == ("low", "high", "missing")


@pytest.mark.parametrize(("shift", "broken"), [(0.5, ()), (4.0, ("level",))])
def test_a_score_says_which_guards_its_generator_breaks(
    plane: Make, shifted: Make, shift: float, broken: tuple[str, ...]
) -> None:
    task = plane()
    assert evaluate(task, task.judges["validation"], Contender(shifted(shift), 1), None, LONG).score.broken == broken


# The discriminator


def gap_of(train: float, validation: float, generated: float, spread: float) -> float:
    around = spread * torch.tensor([-1.0, 1.0] * 250)
    return discriminator_gap(SplitLogits(train + around, validation + around, generated + around))


def test_the_gap_is_the_share_of_the_way_from_train_to_generated() -> None:
    assert gap_of(2.0, 1.0, -2.0, spread=0.1) == pytest.approx(0.25)
    assert gap_of(2.0, 2.0, -2.0, spread=0.1) == pytest.approx(0.0)
    assert gap_of(2.0, -2.0, -2.0, spread=0.1) == pytest.approx(1.0)


def test_there_is_no_gap_where_the_discriminator_hardly_tells_real_from_generated() -> None:
    assert math.isnan(gap_of(0.1, 0.0, 0.0, spread=1.0))  # 0.1 is 1.6 standard errors
    assert math.isnan(gap_of(-1.0, 0.0, 1.0, spread=0.1))


# With real networks


def image_task(pool: Pool, *settings: str) -> ImageTask:
    features = Features("encoder", "f" * 64, 64, lambda images: images.flatten(1).float())
    recipe = with_settings(Recipe(), [*SMALL, "networks.family=dcgan", "networks.width=8", *settings])
    return ImageTask(recipe, pool, features, loss_named("relativistic"), torch.device("cpu"), torch.float32)


@pytest.mark.parametrize("settings", [[], ["networks.conditional=true"]])
def test_asking_the_discriminator_changes_neither_player(pool: Pool, settings: list[str]) -> None:
    norms = ["networks.generator_norm=batch", "networks.discriminator_norm=batch", "networks.dropout=0.5"]
    task = image_task(pool, *norms, *settings)
    players = task.players()
    both = (players.generator, players.discriminator)
    before = [{name: tensor.clone() for name, tensor in player.state_dict().items()} for player in both]
    drawn = torch.get_rng_state()
    found = split_logits(task, players, 1, 50)
    again = split_logits(task, players, 1, 50)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(player.training for player in both)
    for player, kept in zip(both, before, strict=True):
        assert all(torch.equal(tensor, kept[name]) for name, tensor in player.state_dict().items())
    assert len(found.train) == 50
    assert len(found.validation) == min(50, len(pool.splits.validation))
    assert torch.equal(found.generated, again.generated), "dropout must be off, and latents those of the position"


def test_a_measurement_of_images_is_the_same_again_and_of_other_inputs_another(pool: Pool) -> None:
    task = image_task(pool)
    judge, generator = task.judge("validation"), task.players().generator.eval()
    assert judge is not None
    before: nn.Module = task.players().generator.eval()
    first, again, other = (measure(task, judge, generator, stream_seed(0, "judging", at), LONG) for at in (1, 1, 2))
    assert first.loss == again.loss != other.loss
    assert difference(first, again).value == difference(first, again).standard_error == 0.0
    assert difference(measure(task, judge, before, stream_seed(0, "judging", 1), LONG), first).standard_error > 0
