"""Floor, rivals and ceiling: one that fails costs nothing else, and differences are paired where they can be."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from equipoise.evaluation.evaluate import measure
from equipoise.evaluation.rivals import compared_with, judge_rivals, rivals_once
from equipoise.host.deadline import Abandoned, Deadline
from equipoise.metrics.units import Measured, difference
from equipoise.randomness import Randomness
from equipoise.runs.scale import scale_sentence
from equipoise.storage.records import deciding
from equipoise.tasks.base import CHUNK, Rival

LONG = Deadline(math.inf)
Make = Callable[..., Any]


def at_shift(shift: float, seed: int = 1) -> Callable[[str, int, int], Tensor]:
    """Return outputs that a generator of this shift would give for the test's inputs."""
    return lambda split, begin, size: Randomness(seed, begin).normal("latents", size, 2) + shift


def fails(*_: Any) -> Tensor:
    raise ValueError("no such method")


FLOOR, CEILING = Rival("noise", "floor", at_shift(1.0)), Rival("the best there is", "ceiling", at_shift(0.0))


def test_each_rival_is_judged_as_if_it_were_a_generator(squares: Make) -> None:
    judge, told = squares(), list[str]()
    found = judge_rivals((FLOOR, CEILING), judge, LONG, told.append)
    assert told == []
    assert found.rivals.protocol == judge.protocol
    assert [(score.name, score.role, score.num) for score in found.rivals.scores] == [
        (FLOOR.name, "floor", judge.num),
        (CEILING.name, "ceiling", judge.num),
    ]
    for score, points in zip(found.rivals.scores, judge.given, strict=True):
        assert len(points) == judge.num
        assert score.loss == pytest.approx(points.square().mean().item(), rel=1e-6)
        assert score.values["square"] == pytest.approx(score.loss, rel=1e-6)
        assert score.error > 0
        assert score.failure is None
    assert found.rivals.scores[1].loss < found.rivals.scores[0].loss


def too_few(split: str, begin: int, size: int) -> Tensor:
    return torch.zeros(size - 1, 2)


def not_finite(split: str, begin: int, size: int) -> Tensor:
    return torch.full((size, 2), math.nan)


@pytest.mark.parametrize(
    ("outputs", "reason"),
    [(fails, "ValueError"), (too_few, "UserError"), (not_finite, "NotFiniteError"), (lambda *_: None, "UserError")],
)
def test_one_that_fails_is_reported_and_costs_nothing_else(
    squares: Make, outputs: Callable[..., Any], reason: str
) -> None:
    told: list[str] = []
    rivals = (FLOOR, Rival("broken", "rival", outputs), CEILING)
    found = judge_rivals(rivals, squares(), LONG, told.append)
    alone = judge_rivals((FLOOR, CEILING), squares(), LONG, told.append)
    (line,) = told
    assert line.startswith("broken: ")
    assert reason in line
    first, failed, last = found.rivals.scores
    assert (failed.name, failed.role) == ("broken", "rival")
    assert reason in (failed.failure or "")
    assert math.isnan(failed.loss)
    assert [first, last] == list(alone.rivals.scores)
    compared = compared_with(found, found.measured[FLOOR.name])
    assert compared.scores[1].best is None
    assert compared.scores[0].best is not None


def test_a_signal_gives_them_all_up(squares: Make) -> None:
    told: list[str] = []
    with pytest.raises(Abandoned):
        judge_rivals((FLOOR,), squares(), Deadline(60.0, lambda: True), told.append)
    assert told == []


def test_time_that_runs_out_is_a_failure_of_those_that_are_left(squares: Make) -> None:
    told: list[str] = []
    found = judge_rivals((FLOOR, CEILING), squares(), Deadline(-1.0), told.append)
    assert len(told) == 2
    assert all("TimeoutError" in (score.failure or "") for score in found.rivals.scores)


def test_a_ceiling_may_have_fewer_outputs_and_then_only_its_loss_compares(squares: Make) -> None:
    judge = squares()
    seen: list[int] = []

    def few(split: str, begin: int, size: int) -> Tensor:
        seen.append(begin + size)
        return at_shift(0.0)(split, begin, size)

    (score,) = judge_rivals((Rival("few", "ceiling", few, num=CHUNK + 10),), judge, LONG, pytest.fail).rivals.scores
    assert max(seen) == score.num == CHUNK + 10
    assert math.isfinite(score.loss)
    assert score.values == {}
    more = Rival("more", "ceiling", at_shift(0.0), num=10 * judge.num)
    (score,) = judge_rivals((more,), judge, LONG, pytest.fail).rivals.scores
    assert score.num == judge.num
    assert score.values


@pytest.mark.parametrize("split", ["validation", "validation, second half", "test"])
def test_rivals_are_asked_for_the_split_that_is_judged(squares: Make, split: str) -> None:
    seen: list[str] = []

    def outputs(split: str, begin: int, size: int) -> Tensor:
        seen.append(split)
        return torch.zeros(size, 2)

    judge_rivals((Rival("zero", "floor", outputs),), squares(split), LONG, pytest.fail)
    assert set(seen) == {split}


# Beside the best generator


def test_the_best_is_compared_in_pairs_and_beyond_chance_where_an_unpaired_comparison_could_not(
    plane: Make, shifted: Make
) -> None:
    task = plane()
    judge = task.judges["test"]
    best = measure(task, judge, shifted(0.3), judge.seed, LONG)
    judged = judge_rivals((Rival("near", "rival", at_shift(0.4)), CEILING), judge, LONG, pytest.fail)
    near, ceiling = compared_with(judged, best).scores
    expected = difference(judged.measured["near"], best)
    assert near.best is not None
    assert ceiling.best is not None
    assert (near.best.difference, near.best.error) == (expected.value, expected.standard_error)
    assert near.best.difference < -2 * near.best.error
    assert ceiling.best.difference > 2 * ceiling.best.error
    assert near.best.error < 0.2 * math.hypot(best.error, near.error)
    sentence = scale_sentence(compared_with(judged, best), deciding(judge.metrics))
    assert "lower than near by " in sentence
    assert sentence.index(CEILING.name[1:]) > sentence.index("near")


def test_a_best_that_beats_nothing_is_said_to_beat_nothing(plane: Make, shifted: Make) -> None:
    task = plane()
    judge = task.judges["test"]
    best = measure(task, judge, shifted(2.0), judge.seed, LONG)
    judged = judge_rivals((FLOOR,), judge, LONG, pytest.fail)
    assert "not beat noise" in scale_sentence(compared_with(judged, best), deciding(judge.metrics))


def test_measurements_of_other_numbers_compare_as_if_they_were_independent(squares: Make) -> None:
    judge = squares()
    judged = judge_rivals((Rival("few", "rival", at_shift(0.5), num=100),), judge, LONG, pytest.fail)
    best = Measured(1.0, 0.03, {}, (torch.zeros(600),), 600)
    (score,) = compared_with(judged, best).scores
    assert score.best is not None
    assert score.best.difference == pytest.approx(1.0 - score.loss)
    assert score.best.error == pytest.approx(math.hypot(0.03, score.error))


# At the start of a training


def test_rivals_are_judged_once_a_protocol_and_written_down(stage: Any, squares: Make) -> None:
    stage.task.some_rivals = (FLOOR, Rival("broken", "rival", fails))
    told: list[str] = []
    for _ in range(2):
        rivals_once(stage.run, stage.task, stage.judge, 60.0, told.append)
    assert len(told) == 1
    assert len(stage.judge.given) == 1
    written = stage.run.read_rivals()
    assert written.protocol == stage.judge.protocol
    assert [score.name for score in written.scores] == ["noise", "broken"]
    other = squares(name="another")
    rivals_once(stage.run, stage.task, other, 60.0, told.append)
    assert stage.run.read_rivals().protocol == other.protocol


def test_a_task_without_rivals_writes_none(stage: Any) -> None:
    rivals_once(stage.run, stage.task, stage.judge, 60.0, pytest.fail)
    assert stage.run.read_rivals().scores == ()
    assert not (stage.run.path / "rivals.json").exists()
