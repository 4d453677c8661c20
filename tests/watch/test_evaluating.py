"""A custom loop's generators, evaluated by its real images: beside the best, gone back to, selected, tested once."""

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from shifted import LATENTS, Shifted, opened
from torch import Tensor, nn

from equipoise.data import splits
from equipoise.errors import UserError
from equipoise.runs.folder import RunFolder
from equipoise.storage.logs import records
from equipoise.storage.records import RunState
from equipoise.tasks import image_judging
from equipoise.watch.watch import Watch

pytestmark = pytest.mark.usefixtures("small")


class Moody(Shifted):
    """One whose batch norm and dropout depend on its mode."""

    def __init__(self, mean: float = 0.0) -> None:
        super().__init__(mean)
        self.norm = nn.BatchNorm1d(LATENTS)
        self.dropout = nn.Dropout(0.5)

    def forward(self, latents: Tensor) -> Tensor:
        return super().forward(self.dropout(self.norm(latents)))


def evaluate(watch: Watch, mean: float) -> bool:
    """Train on ten samples more, to images of this mean, and have the generator evaluated."""
    watch.step(10)
    return watch.evaluate(Shifted(mean))


def evaluated(path: Path, real: Any, *means: float) -> Watch:
    """Return a watch that has evaluated a generator of each mean, one after the other."""
    watch = opened(path, real)
    for mean in means:
        evaluate(watch, mean)
    return watch


def mean_in(folder: Path) -> float:
    """Return the weight that was kept in a folder."""
    return round(load_file(folder / "generator.safetensors")["mean"].item(), 6)


def scores(path: Path) -> list[dict[str, Any]]:
    """Return the logged scores without the seconds that they took."""
    return [line | {"seconds": None} for line in records(path / "log" / "scores.jsonl")]


def killed(path: Path) -> Path:
    """Return what a kill would leave of a run now: a copy that nobody holds."""
    number = sum(1 for _ in path.parent.iterdir())
    return Path(shutil.copytree(path, path.parent / f"{path.name}-killed-{number}"))


def state_of(path: Path) -> RunState:
    """Return the state of a run."""
    return RunFolder.open(path).read_state()


def samples_tested(path: Path) -> int | None:
    """Return the samples of the generator that was tested, None where none was."""
    test = state_of(path).test
    return None if test is None else test.samples


def best_of(watch: Watch) -> int:
    """Return the samples of the best generator."""
    assert watch.best is not None
    return watch.best.samples


def events(path: Path) -> list[str]:
    """Return the kinds of what happened."""
    return [event["kind"] for event in records(path / "log" / "events.jsonl")]


def test_a_generator_is_kept_when_it_beats_the_best_on_the_same_latents(tmp_path: Path, real: np.ndarray) -> None:
    watch = opened(tmp_path / "run", real)
    generator = Moody(-0.5).train()
    generator.norm.eval()
    randomness = torch.random.get_rng_state()
    assert watch.evaluate(generator)
    assert torch.equal(randomness, torch.random.get_rng_state())  # it draws from streams of its own
    assert generator.training
    assert not generator.norm.training  # each part's own mode
    assert generator.norm.running_mean is not None
    assert not generator.norm.running_mean.any()
    for mean, is_best in ((0.5, True), (-0.2, False)):
        watch.step(10)
        with torch.no_grad():
            generator.mean.fill_(mean)
        assert watch.evaluate(generator) is is_best
    watch.close()
    first, second, third = records(tmp_path / "run" / "log" / "scores.jsonl")
    assert (first["compared_with"], first["difference"]) == (0, None)
    assert second["difference"] < -2 * second["difference_error"] < 0
    assert (third["compared_with"], third["best"]) == (10, False)
    assert third["difference"] > 2 * third["difference_error"]
    assert mean_in(tmp_path / "run" / "best") == 0.5
    state = state_of(tmp_path / "run")
    assert state.test is not None
    assert state.best is not None
    assert (state.test.protocol["split"], state.best.protocol["split"]) == ("test", "validation")
    for exhibit in RunFolder(tmp_path / "run").read_exhibits().exhibits:
        assert (tmp_path / "run" / "samples" / exhibit.file).exists()
    assert {path.stem for path in (tmp_path / "run" / "samples").iterdir()} >= {"best", "real", "nearest"}
    assert "<img" in (tmp_path / "run" / "report.html").read_text()


def test_floor_and_ceiling_give_the_score_its_scale(tmp_path: Path, real: np.ndarray) -> None:
    watch = evaluated(tmp_path / "run", real, 0.5)
    run = RunFolder(tmp_path / "run")
    rivals = run.read_rivals()
    assert [score.role for score in rivals.scores] == ["floor", "ceiling"]
    assert watch.best is not None
    assert rivals.protocol == watch.best.protocol
    before = (run.path / "rivals.json").stat().st_mtime_ns
    watch.interrupt()
    opened(run.path, real, resume=True).evaluate(Shifted(0.5))
    assert (run.path / "rivals.json").stat().st_mtime_ns == before  # once


def test_rivals_are_compared_with_the_best_on_the_test_split(tmp_path: Path, real: np.ndarray) -> None:
    evaluated(tmp_path / "run", real, 0.5).close()
    state = state_of(tmp_path / "run")
    assert state.rivals is not None
    assert state.test is not None
    assert state.rivals.protocol == state.test.protocol
    for score in state.rivals.scores:
        assert score.best is not None
        assert score.best.difference == pytest.approx(state.test.loss - score.loss)
        assert score.best.error > 0


@pytest.mark.parametrize("is_killed", [False, True])
def test_gone_back_to_the_next_score_is_that_of_an_uninterrupted_run(
    tmp_path: Path, real: np.ndarray, is_killed: bool
) -> None:
    path = tmp_path / "run"
    watch = evaluated(path, real, -0.5)
    state = json.loads(json.dumps(watch.state_dict()))
    assert evaluate(watch, 0.5)  # beyond chance
    expected = scores(path)
    assert expected[-1]["compared_with"] == 10
    if is_killed:
        path = killed(path)
        watch.close()
        watch = opened(path, real, resume=True)
    watch.load_state_dict(state)
    assert (best_of(watch), mean_in(path / "best")) == (10, -0.5)
    assert mean_in(path / "later" / "20") == 0.5  # set aside, not lost
    assert evaluate(watch, 0.5)
    assert scores(path) == expected
    assert mean_in(path / "best") == 0.5
    watch.close()
    best = state_of(path).best
    assert best is not None
    assert best.samples == samples_tested(path) == 20
    assert mean_in(path / "later" / "20") == 0.5


def test_a_kill_between_the_weights_and_the_state_loses_no_best(tmp_path: Path, real: np.ndarray) -> None:
    watch = evaluated(tmp_path / "run", real, -0.5)
    before = (tmp_path / "run" / "watch.json").read_bytes()
    evaluate(watch, 0.5)
    path = killed(tmp_path / "run")
    (path / "watch.json").write_bytes(before)
    watch.close()
    again = opened(path, real, resume=True)
    assert (best_of(again), mean_in(path / "best")) == (10, -0.5)
    assert not evaluate(again, -0.8)
    assert scores(path)[-1]["compared_with"] == 10
    again.close()
    assert samples_tested(path) == best_of(again)


def test_a_generator_of_another_time_is_never_tested_as_the_best(tmp_path: Path, real: np.ndarray) -> None:
    watch = evaluated(tmp_path / "run", real, -0.5)
    state = watch.state_dict()
    evaluate(watch, 0.5)
    watch.load_state_dict(state)
    shutil.rmtree(tmp_path / "run" / "candidates")
    shutil.rmtree(tmp_path / "run" / "best")
    watch.close()
    assert (best_of(watch), samples_tested(tmp_path / "run")) == (10, None)
    assert "damaged" in (state_of(tmp_path / "run").not_tested or "")


def test_a_generator_of_another_time_is_never_compared_with(tmp_path: Path, real: np.ndarray) -> None:
    watch = evaluated(tmp_path / "run", real, -0.9)
    first = watch.state_dict()
    evaluate(watch, -0.5)
    lost = watch.state_dict()
    watch.load_state_dict(first)
    evaluate(watch, 0.3)  # at the same samples, so its folder takes the place of the other's
    watch.load_state_dict(lost)
    assert events(tmp_path / "run")[-1] == "not found"
    evaluate(watch, 0.5)
    assert scores(tmp_path / "run")[-1]["compared_with"] == 0
    watch.close()


def test_a_state_of_which_nothing_is_kept_any_more_says_so(tmp_path: Path, real: np.ndarray) -> None:
    watch = evaluated(tmp_path / "run", real, -0.9)
    oldest = watch.state_dict()
    for mean in (-0.6, -0.4, -0.2, 0.0, 0.2, 0.45):
        evaluate(watch, mean)
        watch.state_dict()
    kept = {path.name for path in (tmp_path / "run" / "candidates").iterdir()}
    assert "10" not in kept
    assert len(kept) <= 3 + 2 * 3
    watch.load_state_dict(oldest)
    assert events(tmp_path / "run")[-2:] == ["set aside", "not found"]
    watch.close()
    assert samples_tested(tmp_path / "run") is None


def test_the_last_two_states_that_were_given_out_can_be_gone_back_to_after_a_kill(
    tmp_path: Path, real: np.ndarray
) -> None:
    watch = opened(tmp_path / "run", real)
    states = []
    for mean in (-0.9, -0.7, -0.5, -0.3, -0.1, 0.1, 0.3):
        evaluate(watch, mean)
        if mean in (-0.9, -0.7):
            states.append(watch.state_dict())
    path = killed(tmp_path / "run")
    watch.close()
    for state in states:
        again = opened(path, real, resume=True)
        again.load_state_dict(state)
        assert mean_in(path / "best") == {10: -0.9, 20: -0.7}[best_of(again)]
        assert "not found" not in events(path)
        again.interrupt()


def test_resumed_and_closed_without_an_evaluation_it_says_that_nothing_was_tested(
    tmp_path: Path, real: np.ndarray
) -> None:
    said: list[str] = []
    watch = evaluated(tmp_path / "run", real, 0.5)
    watch.interrupt()
    assert state_of(tmp_path / "run").not_tested is None  # an interrupted run is tested later
    opened(tmp_path / "run", real, resume=True, say=said.append).close()
    found = state_of(tmp_path / "run")
    assert (found.status, found.test) == ("finished", None)
    assert found.not_tested is not None
    assert "evaluate(generator)" in found.not_tested
    assert found.not_selected == found.not_tested
    assert events(tmp_path / "run") == ["not tested"]
    assert any(found.not_tested in line for line in said)


@pytest.mark.parametrize("num_steps", [0, 1])
def test_an_end_to_which_no_score_is_added_stays_as_it_was(tmp_path: Path, real: np.ndarray, num_steps: int) -> None:
    watch = evaluated(tmp_path / "run", real, -0.5, 0.52, 0.5)
    watch.close()
    before = state_of(tmp_path / "run")
    weights = mean_in(tmp_path / "run" / "best")
    assert before.test is not None
    again = opened(tmp_path / "run", real, resume=True)
    for _ in range(num_steps):
        again.step(10)
    again.close()
    after = state_of(tmp_path / "run")
    for name in ("best", "test", "rivals", "selection", "not_selected", "not_tested"):
        assert repr(getattr(after, name)) == repr(getattr(before, name))  # NaN is not equal to itself
    assert after.samples == before.samples + 10 * num_steps
    assert mean_in(tmp_path / "run" / "best") == weights
    assert again.best is not None
    assert before.best is not None
    assert again.best.samples == before.best.samples


def test_a_kill_after_a_new_score_leaves_no_end_of_before(tmp_path: Path, real: np.ndarray) -> None:
    evaluated(tmp_path / "run", real, 0.5).close()
    watch = opened(tmp_path / "run", real, resume=True)
    evaluate(watch, 0.45)
    path = killed(tmp_path / "run")
    watch.close()
    opened(path, real, resume=True).close()
    assert samples_tested(path) is None
    assert state_of(path).not_tested is not None


def test_the_lowest_evaluated_again_is_selected_and_tested(
    tmp_path: Path, real: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(splits, "FEW_HELD_OUT", 0)  # else all held-out images judge, and there are no halves
    path = tmp_path / "run"
    watch = evaluated(path, real, -0.5, 0.35, 0.42, 0.5)
    cautious = watch.best
    assert cautious is not None
    assert cautious.samples < 40
    watch.close()
    found = state_of(path)
    selection = found.selection
    assert selection is not None
    assert found.best is not None
    assert selection.candidates[0].found.samples == cautious.samples
    assert len(selection.candidates) == 3
    lowest = min(selection.candidates, key=lambda one: one.rescored.loss).found.samples
    assert lowest != cautious.samples  # else this shows nothing
    assert selection.winner == found.best.samples == samples_tested(path) == best_of(watch) == lowest
    assert mean_in(path / "best") == {20: 0.35, 30: 0.42, 40: 0.5}[lowest]
    assert found.not_selected is None
    assert (selection.num_scores, selection.protocol["num_generated"]) == (4, 200)
    data = RunFolder.open(path).read_data()
    assert data is not None
    assert selection.protocol["num_real"] + cautious.protocol["num_real"] == data.num_validation  # halves


def test_going_on_after_an_end_begins_with_the_best_of_before(tmp_path: Path, real: np.ndarray) -> None:
    path = tmp_path / "run"
    watch = evaluated(path, real, -0.5, 0.35, 0.42, 0.5)
    cautious = best_of(watch)
    watch.close()
    again = opened(path, real, resume=True)
    assert best_of(again) == cautious
    evaluate(again, -0.8)
    assert scores(path)[-1]["compared_with"] == cautious
    again.close()
    assert not (path / "later").exists()  # what was selected is a candidate, not a later best
    selection = state_of(path).selection
    assert selection is not None
    assert selection.num_scores == 5  # selected again, and not as before


def test_the_best_comes_back_from_the_disk(tmp_path: Path, real: np.ndarray) -> None:
    watch = evaluated(tmp_path / "run", real, 0.4)
    watch.interrupt()
    assert state_of(tmp_path / "run").test is None  # the test split is for the end
    again = opened(tmp_path / "run", real, resume=True)
    assert not evaluate(again, -0.4)
    line = scores(tmp_path / "run")[-1]
    assert line["compared_with"] == 10
    assert line["difference"] > 0
    again.close()


def test_functions_are_compared_by_their_score_alone(tmp_path: Path, real: np.ndarray) -> None:
    watch = opened(tmp_path / "run", torch.from_numpy(real))
    good, bad = Shifted(0.5).eval(), Shifted(-0.5).eval()
    assert watch.evaluate(lambda latents: bad(latents).numpy(), keep=bad)
    watch.step(10)
    assert watch.evaluate(lambda latents: good(latents), keep=good)
    watch.step(10)
    assert not watch.evaluate(lambda latents: bad(latents).fill_(math.nan))  # a failed evaluation ends nothing
    assert events(tmp_path / "run") == ["evaluation failed"]
    assert [line["compared_with"] for line in scores(tmp_path / "run")] == [0, 0]
    watch.close()
    found = state_of(tmp_path / "run")
    assert found.selection is None
    assert "function" in (found.not_tested or "")
    assert found.not_selected == found.not_tested
    assert mean_in(tmp_path / "run" / "best") == 0.5


def test_evaluations_that_all_fail_end_the_training(tmp_path: Path, real: np.ndarray) -> None:
    class Broken(Shifted):
        def forward(self, latents: Tensor) -> Tensor:
            raise RuntimeError("mine")

    said: list[str] = []
    watch = opened(tmp_path / "run", real, say=said.append)
    for _ in range(5):
        assert watch.verdict is None
        watch.step(10)
        assert not watch.evaluate(Broken())
    assert events(tmp_path / "run") == [*["evaluation failed"] * 5, "stop"]
    assert sum("RuntimeError: mine" in line for line in said) == 6
    assert watch.verdict is not None
    assert watch.verdict.reason == "evaluation-failed"
    watch.close()
    assert state_of(tmp_path / "run").best is None


def test_an_evaluation_without_end_is_given_up(tmp_path: Path, real: np.ndarray) -> None:
    watch = opened(tmp_path / "run", real, settings=["evaluation.num_samples=100", "evaluation.timeout=1e-9"])
    assert not evaluate(watch, 0.5)
    assert "evaluation failed" in events(tmp_path / "run")
    watch.close()


def test_too_few_real_images_for_two_halves_are_evaluated_again_on_all(tmp_path: Path, real: np.ndarray) -> None:
    watch = evaluated(tmp_path / "run", real[:300], 0.5)
    watch.close()
    selection = state_of(tmp_path / "run").selection
    assert selection is not None
    assert selection.protocol["split"] == "validation"
    assert state_of(tmp_path / "run").not_selected is None
    assert samples_tested(tmp_path / "run") == 10


def test_another_protocol_scores_all_candidates_again(tmp_path: Path, real: np.ndarray) -> None:
    path = tmp_path / "run"
    watch = evaluated(path, real, -0.5, 0.5, 0.45)
    before = watch.best
    assert before is not None
    watch.interrupt()
    again = opened(path, real[:300], resume=True)
    evaluate(again, -0.9)
    assert [line["samples"] for line in scores(path)[3:]] == [10, 20, 30, 40]
    assert len({json.dumps(line["protocol"]) for line in scores(path)[3:]}) == 1
    assert best_of(again) in (20, 30)
    assert again.best is not None
    assert again.best.protocol["num_real"] != before.protocol["num_real"]
    assert RunFolder(path).read_rivals().protocol == again.best.protocol
    again.close()
    assert samples_tested(path) == best_of(again)


def test_scoring_again_that_was_killed_is_done_again(tmp_path: Path, real: np.ndarray) -> None:
    path = tmp_path / "run"
    watch = evaluated(path, real, -0.5, 0.5, 0.45)
    best = best_of(watch)
    watch.interrupt()
    again = opened(path, real[:300], resume=True)
    num: list[int] = []

    class Dying(Shifted):
        def forward(self, latents: Tensor) -> Tensor:
            num.append(len(latents))
            if len(num) == 3:  # within the second candidate
                raise KeyboardInterrupt
            return super().forward(latents)

    again.step(10)
    with pytest.raises(KeyboardInterrupt):
        again.evaluate(Dying())
    assert [line["samples"] for line in scores(path)] == [10, 20, 30, 10]
    assert (best_of(again), mean_in(path / "best")) == (best, 0.5)
    left = killed(path)
    again.interrupt()
    for folder in (path, left):
        last = opened(folder, real[:300], resume=True)
        assert best_of(last) == best
        evaluate(last, -0.9)
        assert [line["samples"] for line in scores(folder)][:6] == [10, 20, 30, 10, 20, 30]
        last.close()


def test_the_best_is_drawn_once_beside_each_generator(tmp_path: Path, real: np.ndarray) -> None:
    num: list[int] = []

    def generate(generator: nn.Module, latents: Tensor) -> Tensor:
        num.append(len(latents))
        return generator(latents)

    watch = opened(tmp_path / "run", real, generate=generate)
    evaluate(watch, -0.5)
    del num[:]
    watch.step(1)
    watch.evaluate(Shifted(0.4))
    assert sum(num) - 64 * (len(RunFolder(tmp_path / "run").snapshots()) - 1) == 200
    watch.close()


def test_a_snapshot_that_fails_costs_a_picture_and_not_the_loop(tmp_path: Path, real: np.ndarray) -> None:
    def generate(generator: nn.Module, latents: Tensor) -> Tensor:
        if len(latents) == image_judging.NUM_SHOWN:
            raise MemoryError("as many latents at once as a snapshot shows")
        return generator(latents)

    watch = opened(tmp_path / "run", real, generate=generate)
    assert evaluate(watch, -0.5)
    assert evaluate(watch, 0.5)
    assert events(tmp_path / "run") == ["snapshot failed", "snapshot failed"]
    assert RunFolder(tmp_path / "run").snapshots() == []
    assert best_of(watch) == 20
    assert json.loads((tmp_path / "run" / "watch.json").read_text())["evaluated"] == 20, "and the state is saved"
    watch.interrupt()


def test_evaluations_are_spaced_by_what_two_generators_take(
    tmp_path: Path, real: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])

    def generate(generator: nn.Module, latents: Tensor) -> Tensor:
        now[0] += len(latents) / 100
        return generator(latents)

    watch = opened(tmp_path / "run", real, generate=generate, log_every=None)
    while not watch.is_evaluation_due:
        now[0] += 0.5  # 20 samples a second
        watch.step(10)
    watch.evaluate(Shifted(0.5))
    intervals = RunFolder(tmp_path / "run").read_intervals()
    assert intervals.evaluation_seconds == pytest.approx(2.0)
    assert intervals.evaluate_every == 2.0 / 0.05 * 20
    watch.close()


def fails(folder: Path) -> None:
    """Write a half, as on a full disk."""
    (folder / "half").write_text("half")
    raise OSError("full")


def test_a_first_keep_that_cannot_be_leaves_nothing_half_done(tmp_path: Path, real: np.ndarray) -> None:
    watch = opened(tmp_path / "run", real)
    watch.step(10)
    state = watch.state_dict()
    with pytest.raises(UserError):
        watch.evaluate(Shifted(0.5), keep={"words": np.array(["a"])})
    assert {**watch.state_dict(), "seconds": 0} == {**state, "seconds": 0}
    assert not (tmp_path / "run" / "best").exists()


@pytest.mark.parametrize("keep", [3, fails])
def test_a_later_keep_that_fails_is_an_event_and_its_score_counts(tmp_path: Path, real: np.ndarray, keep: Any) -> None:
    watch = evaluated(tmp_path / "run", real, -0.5)
    watch.step(10)
    assert watch.evaluate(Shifted(0.5), keep=keep)
    assert "not kept" in events(tmp_path / "run")
    assert mean_in(tmp_path / "run" / "best") == -0.5
    watch.step(10)
    assert len(scores(tmp_path / "run")) == 2
    watch.close()
    assert samples_tested(tmp_path / "run") == 10  # the only one that was kept


def test_two_evaluations_at_the_same_samples_keep_the_better_one(tmp_path: Path, real: np.ndarray) -> None:
    watch = evaluated(tmp_path / "run", real, 0.5)
    watch.evaluate(Shifted(-0.5))
    assert mean_in(tmp_path / "run" / "candidates" / "10") == 0.5
    watch.close()
    assert mean_in(tmp_path / "run" / "best") == 0.5


def test_what_cannot_be_copied_is_scored_and_said(tmp_path: Path, real: np.ndarray) -> None:
    class Locked(Shifted):
        def __deepcopy__(self, _: Any) -> "Locked":
            raise TypeError("a lock")

    watch = opened(tmp_path / "run", real)
    watch.step(10)
    watch.evaluate(Locked(0.5))
    watch.close()
    assert (best_of(watch), samples_tested(tmp_path / "run")) == (10, None)
    assert state_of(tmp_path / "run").not_tested is not None
    assert mean_in(tmp_path / "run" / "best") == 0.5


def test_a_failure_at_the_end_leaves_the_best_and_a_report(
    tmp_path: Path, real: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: Any) -> Any:
        raise RuntimeError("mine")

    watch = evaluated(tmp_path / "run", real, 0.5)
    monkeypatch.setattr("equipoise.evaluation.finish.select_best", breaks)
    watch.close()
    assert "mine" in (state_of(tmp_path / "run").not_selected or "")
    assert samples_tested(tmp_path / "run") == 10
    assert (tmp_path / "run" / "report.html").exists()


def test_a_test_that_fails_is_said(tmp_path: Path, real: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: Any) -> Any:
        raise RuntimeError("mine")

    watch = evaluated(tmp_path / "run", real, 0.5)
    monkeypatch.setattr("equipoise.evaluation.finish.measure", breaks)
    watch.close()
    found = state_of(tmp_path / "run")
    assert found.test is None
    assert found.selection is not None
    assert "mine" in (found.not_tested or "")
