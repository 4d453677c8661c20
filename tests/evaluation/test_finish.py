"""The end of a run: candidates are evaluated again, the selected one is tested once beside its rivals, and shown."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from small import SMALL
from torch import nn

import equipoise as eq
from equipoise.data import splits
from equipoise.evaluation.finish import LONG, Ending, Findings, attempt, conclude, write_exhibits
from equipoise.evaluation.selection import INTERRUPTED, no_candidates
from equipoise.randomness import Randomness
from equipoise.runs.candidates import keep, keep_candidate, score_in, weights
from equipoise.storage.records import EventKind, Score
from equipoise.tasks.base import MIN_HALF, Exhibit, Rival, halves

FAILED: EventKind = "final stage failed"
RIVAL_FAILED: EventKind = "baseline failed"
Make = Callable[..., Any]


class Ended:
    """A run whose training has just ended."""

    def __init__(self, stage: Any, shifted: Make) -> None:
        self.stage, self.shifted = stage, shifted
        self.events: list[tuple[str, str]] = []
        self.stages: list[str] = []
        self.timeout = 60.0

    def add(self, samples: int, loss: float, shift: float) -> None:
        """Let the training have found a generator."""
        score = Score(samples=samples, seconds=0.1, loss=loss, error=0.01, protocol=self.stage.judge.protocol)
        is_best = self.stage.monitor.score(score)
        self.stage.run.log_score(score, is_best=is_best)
        keep_candidate(self.stage.run, score, weights(self.shifted(shift)))
        if is_best:
            keep(self.stage.run.best, weights(self.shifted(shift)), score)

    def load(self, folder: Path) -> nn.Module:
        return self.shifted(load_file(folder / "generator.safetensors")["generator.shift"].item())

    def best(self) -> tuple[nn.Module, Score] | None:
        score = score_in(self.stage.run.best)
        return None if score is None else (self.load(self.stage.run.best), score)

    @property
    def ending(self) -> Ending:
        stage = self.stage
        return Ending(
            stage.run,
            stage.task,
            stage.monitor,
            self.load,
            self.timeout,
            lambda kind, text: self.events.append((kind, text)),
            lambda text, share: self.stages.append(text),
        )

    def conclude(self, *, is_final: bool = True) -> Findings:
        return conclude(self.ending, self.best, is_final=is_final)

    @property
    def best_samples(self) -> int:
        score = score_in(self.stage.run.best)
        assert score is not None
        return score.samples


@pytest.fixture
def ended(stage: Any, shifted: Make) -> Ended:
    """Return a run whose second candidate is the better one on new examples."""
    found = Ended(stage, shifted)
    found.add(100, 0.020, 0.9)
    found.add(200, 0.021, 0.3)
    return found


def test_the_selected_generator_is_tested_and_shown(ended: Ended) -> None:
    found = ended.conclude()
    assert found.selection is not None
    assert found.test is not None
    assert found.selection.winner == found.test.samples == ended.best_samples == 200
    judge = ended.stage.task.judges["test"]
    assert found.test.protocol == judge.protocol
    assert found.test.loss == pytest.approx(judge.given[0].square().mean().item(), rel=1e-6)
    assert found.test.values["square"] == pytest.approx(found.test.loss)
    assert (found.not_selected, found.failures, ended.events) == (None, [], [])
    names = [(exhibit.kind, exhibit.file, exhibit.caption) for exhibit in ended.stage.run.read_exhibits().exhibits]
    assert names == [("picture", "best.png", "Generated."), ("lines", "lines.json", "")]
    assert (ended.stage.run.samples / "best.png").read_bytes() == b"best"
    assert len(set(ended.stages)) == len(ended.stages) >= 3


def test_the_test_split_is_used_once_and_only_after_the_choice(ended: Ended) -> None:
    real = ended.stage.task.judge
    chosen: list[int] = []

    def judge(split: Any) -> Any:
        if split == "test":
            chosen.append(ended.best_samples)
        return real(split)

    ended.stage.task.judge = judge
    ended.conclude()
    assert chosen == [200]
    assert len(ended.stage.task.judges["test"].given) == 1, "the selected one alone"
    assert len(ended.stage.task.judges["validation"].given) == 0


def test_an_interrupted_run_selects_and_tests_nothing_yet_and_shows_its_best(ended: Ended) -> None:
    found = ended.conclude(is_final=False)
    assert found.selection is found.test is found.rivals is None
    assert found.not_selected == INTERRUPTED
    assert ended.best_samples == 100
    assert ended.stage.task.asked == []
    assert ended.stage.run.read_exhibits().exhibits


def test_a_run_without_any_score_concludes(stage: Any, shifted: Make) -> None:
    ended = Ended(stage, shifted)
    found = ended.conclude()
    assert found.selection is found.test is None
    assert found.not_selected == no_candidates(stage.run)
    assert ended.events == []
    assert "test" not in stage.task.asked


def test_a_run_whose_generators_all_missed_a_limit_is_not_called_without_a_score(stage: Any, shifted: Make) -> None:
    ended = Ended(stage, shifted)
    score = Score(samples=100, seconds=0.1, loss=0.02, broken=("level",), protocol=stage.judge.protocol)
    stage.run.log_score(score, is_best=stage.monitor.score(score))
    found = ended.conclude()
    assert found.selection is None
    assert "(level)" in (found.not_selected or "")


def test_a_validation_split_too_small_for_halves_selects_the_lowest_on_all_of_it(ended: Ended) -> None:
    """Else what is handed over is the last that a test of so few examples could tell to be better."""
    halves = ended.conclude().selection
    ended.stage.task.judges["validation, second half"] = None
    found = ended.conclude()
    assert found.not_selected is None
    assert found.selection is not None
    assert halves is not None
    assert found.selection.protocol["split"] == "validation"
    assert len(found.selection.candidates) == len(halves.candidates)
    lowest = min(found.selection.candidates, key=lambda one: one.rescored.loss)
    assert found.selection.winner == lowest.rescored.samples


def test_without_any_validation_examples_nothing_is_selected(ended: Ended) -> None:
    for split in ("validation", "validation, second half"):
        ended.stage.task.judges[split] = None
    found = ended.conclude()
    assert found.selection is None
    assert "validation" in (found.not_selected or "")


def test_a_test_split_too_small_leaves_the_run_untested(ended: Ended) -> None:
    ended.stage.task.judges["test"] = None
    found = ended.conclude()
    assert found.test is found.rivals is None
    assert found.failures == []
    assert found.selection is not None


@pytest.mark.parametrize("num", range(2 * MIN_HALF - 2, 2 * MIN_HALF + 4))
def test_halves_lose_nothing_and_a_small_split_stays_whole(num: int) -> None:
    cut = halves(num)
    assert (cut, num - cut) == ((num, 0) if num < 2 * MIN_HALF else (num // 2, num - num // 2))


def test_rivals_are_tested_beside_the_selected_one(ended: Ended) -> None:
    def near(split: str, begin: int, size: int) -> Any:
        seed = ended.stage.task.judges["test"].seed
        return ended.stage.task.outputs(ended.shifted(0.5), Randomness(seed), split, begin, size)

    ended.stage.task.some_rivals = (Rival("near", "rival", near), Rival("broken", "floor", lambda *_: None))
    found = ended.conclude()
    assert found.rivals is not None
    assert found.test is not None
    assert found.rivals.protocol == found.test.protocol
    good, bad = found.rivals.scores
    assert good.best is not None
    assert good.best.difference == pytest.approx(found.test.loss - good.loss, rel=1e-6)
    assert good.best.difference < -2 * good.best.error
    assert bad.failure is not None
    ((kind, text),) = ended.events
    assert kind == RIVAL_FAILED
    assert "broken" in text
    assert found.failures == [], "the run is tested"


# What fails

OUT = RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory")


@pytest.mark.parametrize("error", [OUT, MemoryError(), TimeoutError("slow"), ValueError("odd\nlines.")], ids=repr)
def test_a_selection_that_fails_leaves_the_best_of_the_training_and_says_why(ended: Ended, error: Exception) -> None:
    ended.stage.task.judges["validation, second half"] = error
    found = ended.conclude()
    assert found.selection is None
    assert found.not_selected is not None
    assert type(error).__name__ in found.not_selected
    assert found.test is not None
    assert found.test.samples == ended.best_samples == 100
    ((kind, text),) = ended.events
    assert kind == FAILED
    assert text == found.not_selected


@pytest.mark.parametrize("error", [OUT, MemoryError(), ZeroDivisionError("nothing")], ids=repr)
def test_a_test_that_fails_leaves_the_selected_one_and_is_among_the_failures(ended: Ended, error: Exception) -> None:
    ended.stage.task.judges["test"] = error
    found = ended.conclude()
    assert found.test is found.rivals is None
    (failure,) = found.failures
    assert type(error).__name__ in failure
    assert found.selection is not None
    assert ended.best_samples == 200
    assert [kind for kind, _ in ended.events] == [FAILED]


def test_exhibits_that_fail_cost_neither_selection_nor_test(ended: Ended) -> None:
    def exhibits(generator: Any) -> Any:
        raise KeyError("picture")

    ended.stage.task.exhibits = exhibits
    found = ended.conclude()
    assert found.selection is not None
    assert found.test is not None
    assert [kind for kind, _ in ended.events] == [FAILED]


@pytest.mark.parametrize("split", ["validation, second half", "test"])
def test_a_failing_disk_ends_the_run_so_that_it_can_be_resumed(ended: Ended, split: str) -> None:
    ended.stage.task.judges[split] = OSError(28, "No space left on device")
    with pytest.raises(OSError, match="28"):
        ended.conclude()
    assert ended.events == []


def test_a_ctrl_c_is_no_failure_of_a_part(ended: Ended) -> None:
    def interrupted(_: Any) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attempt(ended.ending, "Something", interrupted, 1.0)
    assert ended.events == []


def test_each_part_has_its_own_time_and_the_choice_has_several_evaluations_worth(ended: Ended) -> None:
    assert "TimeoutError" in (attempt(ended.ending, "Something", lambda deadline: deadline.check(), -1.0) or "")
    assert attempt(ended.ending, "Something", lambda deadline: deadline.check(), 60.0) is None
    ended.timeout = -1.0
    found = ended.conclude()
    assert found.selection is found.test is None
    assert [kind for kind, _ in ended.events] == [FAILED] * 3
    assert ended.stage.run.read_exhibits().exhibits, "what is shown needs no judge"
    assert LONG > 1


# Exhibits


def test_exhibits_are_files_by_their_kind_and_a_record_in_their_order(stage: Any) -> None:
    kinds = ("picture", "sound", "animation", "series", "rows", "lines")
    given = [Exhibit(kind, f"e{index}", "Title", bytes([index]), "c", "i") for index, kind in enumerate(kinds)]
    write_exhibits(stage.run, given)
    written = stage.run.read_exhibits().exhibits
    assert [(one.kind, one.title, one.caption, one.intro) for one in written] == [(k, "Title", "c", "i") for k in kinds]
    suffixes = [Path(one.file).suffix for one in written]
    assert suffixes == [".png", ".wav", ".gif", ".json", ".json", ".json"]
    assert [(stage.run.samples / one.file).read_bytes() for one in written] == [bytes([index]) for index in range(6)]


# A real training


@pytest.mark.slow
def test_a_training_is_judged_by_the_first_half_and_selected_by_the_second(
    quick: None, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(splits, "FEW_HELD_OUT", 0)
    run = eq.train(source=shapes, budget="400", out=tmp_path / "run", settings=[*SMALL, "data.validation=0.4"])
    data, state = run.folder.read_data(), run.folder.read_state()
    assert data is not None
    assert state.best is not None
    assert state.selection is not None
    assert state.test is not None
    found, again = state.best.protocol, state.selection.protocol
    assert (found["split"], found["num_real"]) == ("validation", data.num_validation // 2)
    assert again["split"].startswith("validation, ")
    assert found["num_real"] + again["num_real"] == data.num_validation
    assert again["num_generated"] == 5_000
    assert len({found["seed"], again["seed"], state.test.protocol["seed"]}) == 3
    kept = score_in(run.folder.best)
    assert kept is not None
    assert kept.samples == state.selection.winner == state.test.samples
    assert json.loads((run.folder.path / "state.json").read_text())["selection"]["winner"] == kept.samples
    assert math.isfinite(state.test.loss)
