"""Choosing among the candidates on examples that had no part in the training: the lowest that keeps the guards."""

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from equipoise.evaluation.selection import Candidate, candidates_to_score_again, lowest, select_best
from equipoise.host.deadline import Deadline
from equipoise.randomness import Randomness
from equipoise.runs import candidates
from equipoise.runs.candidates import keep, keep_candidate, place, score_in, weights
from equipoise.storage.files import readable, verify
from equipoise.storage.logs import records
from equipoise.storage.records import EventKind, Score

CHANGED: EventKind = "evaluation protocol changed"
LONG = Deadline(math.inf)
Make = Callable[..., Any]


def found_score(samples: int, loss: float, protocol: dict[str, Any], **changes: Any) -> Score:
    return Score(samples=samples, seconds=0.1, loss=loss, error=0.01, protocol=protocol, **changes)


def add(stage: Any, generator: nn.Module, samples: int, loss: float) -> None:
    """Let the training have found a generator."""
    score = found_score(samples, loss, stage.judge.protocol)
    is_best = stage.monitor.score(score)
    stage.run.log_score(score, is_best=is_best)
    keep_candidate(stage.run, score, weights(generator))
    if is_best:
        keep(stage.run.best, weights(generator), score)


@pytest.fixture
def load(shifted: Make) -> Callable[[Path], nn.Module]:
    """Return what loads a kept generator."""

    def load(folder: Path) -> nn.Module:
        return shifted(load_file(folder / "generator.safetensors")["generator.shift"].item())

    return load


def select(stage: Any, load: Callable[[Path], Any], deadline: Deadline = LONG) -> Any:
    judge = stage.task.judges["validation, second half"]
    return select_best(stage.run, stage.task, judge, stage.monitor, load, deadline)


def best_samples(stage: Any) -> int:
    score = score_in(stage.run.best)
    assert score is not None
    return score.samples


# The rule


def candidate(name: str, loss: float, *broken: str) -> Candidate:
    return Candidate(Path(name), found_score(1, 0.1, {}), found_score(1, loss, {}, broken=broken), None)


def winner(*losses: float) -> str:
    return lowest([candidate(str(index), loss) for index, loss in enumerate(losses)]).path.name


def test_the_first_stays_where_none_is_lower_or_no_score_is_finite() -> None:
    assert winner(0.2, 0.2, 0.2) == "0"
    assert winner(0.2, 0.1) == "1"
    assert winner(math.nan, math.inf) == "0"
    assert winner(math.nan, 0.3) == "1"


def test_one_that_breaks_a_guard_now_is_chosen_only_where_all_do() -> None:
    low, high = candidate("low", 0.1, "psnr"), candidate("high", 0.2)
    assert lowest([low, high]).path.name == "high"
    assert lowest([low, candidate("higher", 0.3, "psnr")]).path.name == "low"
    assert lowest([low, candidate("none", math.nan)]).path.name == "low"


# With generators


def test_one_that_was_second_in_training_wins_where_it_is_better_on_new_examples(
    stage: Any, shifted: Make, load: Any
) -> None:
    add(stage, shifted(0.9), 100, 0.020)
    add(stage, shifted(0.3), 200, 0.021)
    assert best_samples(stage) == 100
    selection = select(stage, load)
    assert selection.winner == best_samples(stage) == 200
    assert selection.best.found.loss == 0.021
    kept = score_in(stage.run.best)
    assert kept is not None
    assert kept.loss == 0.021, "best/ keeps the score of the training"
    content = (place(stage.run, 200) / "generator.safetensors").read_bytes()
    assert (stage.run.best / "generator.safetensors").read_bytes() == content
    assert {path.name for path in stage.run.candidates.iterdir()} == {"100", "200"}, "a resume goes on from these"
    first, second = selection.candidates
    assert (first.found.samples, second.found.samples) == (100, 200)
    assert first.difference == pytest.approx(first.rescored.loss - second.rescored.loss, rel=1e-6)
    assert 0 < first.difference_error < first.difference / 2
    assert (second.difference, second.difference_error) == (0.0, 0.0)
    assert selection.num_scores == 2
    assert stage.monitor.best.samples == 100, "a resume begins with the best of the training"


def test_what_an_earlier_end_has_selected_is_compared_again_when_the_training_went_on(
    stage: Any, shifted: Make, load: Any
) -> None:
    """Three that scored lower in the training displace it among the candidates; on new examples it is the best."""
    add(stage, shifted(0.9), 100, 0.020)
    add(stage, shifted(0.1), 200, 0.021)
    assert select(stage, load).winner == 200
    candidates.keep_selected(stage.run)
    for samples in (300, 400, 500):
        add(stage, shifted(0.9), samples, 0.019 - samples / 1e6)
    candidates.prune(stage.run, {score.samples for score in stage.monitor.candidates}.__contains__)
    assert best_samples(stage) == 500
    assert 200 not in {score.samples for score in stage.monitor.candidates}
    assert select(stage, load).winner == best_samples(stage) == 200
    candidates.keep_selected(stage.run)
    assert [path.name for path in stage.run.selected.iterdir()] == ["200"]
    stage.run.selected.joinpath("200", "generator.safetensors").write_bytes(b"damaged")
    assert select(stage, load).winner != 200


def test_all_are_judged_under_one_protocol_with_the_same_inputs_that_the_training_never_had(
    stage: Any, shifted: Make, load: Any
) -> None:
    add(stage, shifted(0.9), 100, 0.020)
    add(stage, shifted(0.3), 200, 0.021)
    selection = select(stage, load)
    judge = stage.task.judges["validation, second half"]
    assert selection.protocol == judge.protocol
    assert [one.rescored.protocol for one in selection.candidates] == [judge.protocol] * 2
    first, second = judge.given
    torch.testing.assert_close(first - 0.9, second - 0.3)
    torch.testing.assert_close(first[:250] - 0.9, Randomness(judge.seed).normal("latents", 250, 2))


def test_guards_are_looked_at_again_and_prefer_those_that_keep_them(
    stage: Any, shifted: Make, load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(stage, shifted(-5.0), 100, 0.020)
    add(stage, shifted(3.5), 200, 0.021)  # above the limit of the level, and nearer to zero
    selection = select(stage, load)
    assert selection.winner == 100
    assert [one.rescored.broken for one in selection.candidates] == [(), ("level",)]
    assert selection.candidates[1].difference < 0


def test_one_whose_outputs_are_not_finite_never_wins(stage: Any, shifted: Make, load: Any) -> None:
    add(stage, shifted(math.nan), 100, 0.020)
    add(stage, shifted(0.9), 200, 0.021)
    selection = select(stage, load)
    assert selection.winner == best_samples(stage) == 200
    lost = selection.candidates[0]
    assert math.isnan(lost.rescored.loss)
    assert math.isnan(lost.difference)
    assert selection.candidates[1].difference == 0.0


def test_damaged_ones_and_ones_that_cannot_be_loaded_are_left_out(stage: Any, shifted: Make, load: Any) -> None:
    for samples, shift, loss in ((90, 0.1, 0.03), (100, 0.2, 0.02), (200, 0.3, 0.04)):
        add(stage, shifted(shift), samples, loss)
    for folder in (place(stage.run, 100), stage.run.best):
        (folder / "generator.safetensors").write_bytes(b"torn")
    selection = select(stage, lambda folder: None if folder.name == "200" else load(folder))
    assert [one.found.samples for one in selection.candidates] == [90]
    assert selection.winner == best_samples(stage) == 90
    assert select(stage, lambda folder: None) is None


def test_a_run_whose_candidates_are_gone_judges_its_best_one_again(stage: Any, shifted: Make, load: Any) -> None:
    add(stage, shifted(0.2), 100, 0.020)
    candidates.prune(stage.run, lambda samples: False)
    selection = select(stage, load)
    assert [one.found.samples for one in selection.candidates] == [100]
    assert selection.winner == 100


def test_only_scores_of_one_protocol_count_among_those_that_it_was_chosen_from(
    stage: Any, shifted: Make, load: Any
) -> None:
    stage.run.log_score(found_score(50, 0.001, {"judge": "old"}), is_best=True)
    add(stage, shifted(0.2), 100, 0.020)
    stage.run.log_score(found_score(150, math.nan, stage.judge.protocol), is_best=False)
    assert select(stage, load).num_scores == 1


def test_what_lies_in_best_already_is_not_written_again(
    stage: Any, shifted: Make, load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(stage, shifted(0.2), 100, 0.020)
    monkeypatch.setattr(candidates, "keep", lambda *_: pytest.fail("written again"))
    assert select(stage, load).winner == 100


def test_a_kill_while_the_winner_is_put_in_place_leaves_a_whole_best_and_the_same_choice(
    stage: Any, shifted: Make, load: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(stage, shifted(0.9), 100, 0.020)
    add(stage, shifted(0.3), 200, 0.021)
    real = os.rename
    for allowed in range(3):
        left = [allowed]

        def rename(*paths: Any, left: list[int] = left) -> None:
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            real(*paths)

        with monkeypatch.context() as patch:
            patch.setattr("os.rename", rename)
            if allowed < 2:
                with pytest.raises(KeyboardInterrupt):
                    select(stage, load)
                folder = readable(stage.run.best)
                assert verify(folder) is None
                score = score_in(folder)
                assert score is not None
                assert score.samples == 100
            else:
                select(stage, load)
    assert best_samples(stage) == 200


def test_time_that_runs_out_selects_nothing_and_changes_nothing(stage: Any, shifted: Make, load: Any) -> None:
    add(stage, shifted(0.9), 100, 0.020)
    add(stage, shifted(0.3), 200, 0.021)
    with pytest.raises(TimeoutError):
        select(stage, load, Deadline(-1.0))
    assert best_samples(stage) == 100


# Another protocol


def to_score_again(stage: Any, judge: Any) -> tuple[list[tuple[int, str | None]], list[str]]:
    told: list[str] = []
    found = candidates_to_score_again(stage.run, stage.monitor, judge, lambda kind, text: told.append(kind))
    return [(score.samples, folder.name if folder else None) for score, folder in found], told


def test_nothing_is_scored_again_under_the_same_protocol_or_without_a_best(stage: Any, shifted: Make, squares: Make):
    assert to_score_again(stage, squares(name="another")) == ([], [])
    add(stage, shifted(0.2), 100, 0.020)
    assert to_score_again(stage, stage.judge) == ([], [])
    assert stage.monitor.best.samples == 100


def test_under_another_protocol_all_candidates_are_scored_again_the_earliest_first(
    stage: Any, shifted: Make, squares: Make
) -> None:
    for samples, loss in ((100, 0.03), (200, 0.02), (300, 0.04)):
        add(stage, shifted(0.1), samples, loss)
    (place(stage.run, 100) / "generator.safetensors").write_bytes(b"torn")
    stage.run.log_score(found_score(100, 0.5, squares(name="another").protocol), is_best=True)  # of a killed change
    found, told = to_score_again(stage, squares(name="another"))
    assert found == [(100, None), (200, "200"), (300, "300")]
    assert told == [CHANGED]
    assert stage.monitor.best is None
    assert stage.monitor.candidates == ()
    assert [line["samples"] for line in records(stage.run.scores)] == [100, 200, 300]
