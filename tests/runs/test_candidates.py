"""Candidates on the disk: found again only whole, promoted in one step, set aside without overwriting, put back."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import nn

from equipoise.recipe import Budget, Recipe, Stopping
from equipoise.runs import candidates
from equipoise.runs.candidates import (
    copying,
    find,
    intact_candidates,
    is_intact,
    keep,
    keep_candidate,
    place,
    promote,
    prune,
    put_back_best,
    score_in,
    set_attempt_aside,
    set_later_aside,
    tensors,
    weights,
)
from equipoise.runs.folder import CUSTOM_LOOP, RunFolder
from equipoise.stopping.monitor import Monitor
from equipoise.storage.files import verify
from equipoise.storage.records import Score


def a_score(samples: int, loss: float = 1.0, judge: str = "one", **changes: Any) -> Score:
    return Score(samples=samples, seconds=0.0, loss=loss, protocol={"judge": judge}, **changes)


def kept(run: RunFolder, samples: int, loss: float = 1.0) -> Path:
    return keep_candidate(run, a_score(samples, loss), tensors({"weight": torch.tensor([loss])}))


def weight_in(folder: Path) -> float:
    return load_file(folder / "generator.safetensors")["weight"].item()


def monitor_of(*scores: Score) -> Monitor:
    """Return a monitor that has taken these scores in; the lowest is the best."""
    monitor = Monitor(Stopping(policy="budget"), Budget())
    for score in scores:
        monitor.score(score)
    return monitor


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    return RunFolder.create(tmp_path / "run", Recipe())


# Found again


def test_only_an_undamaged_folder_of_that_score_is_found(run: RunFolder) -> None:
    folder = kept(run, 320)
    assert folder == place(run, 320)
    assert find(run, a_score(320)) == folder
    assert find(run, a_score(320, loss=2.0)) is None, "another generator of as many samples"
    assert find(run, a_score(320, loss=2.0, judge="other")) == folder, "the same one, scored by another judge"
    assert find(run, a_score(640)) is None
    (folder / "generator.safetensors").write_bytes(b"torn")
    assert find(run, a_score(320)) is None
    (folder / "score.json").write_text("{")
    assert find(run, a_score(320)) is None
    promote(run, kept(run, 640))
    prune(run, lambda samples: samples == 320)
    assert find(run, a_score(640)) == run.best, "the best itself serves, too"


def test_a_score_is_found_again_with_all_that_it_says(run: RunFolder) -> None:
    score = a_score(320, error=0.1, values={"kid": 1.0, "psnr": float("nan")}, broken=("psnr",), compared_with=160)
    folder = keep_candidate(run, score, tensors({"weight": torch.ones(1)}))
    found = score_in(folder)
    assert found is not None
    assert (found.samples, found.error, found.broken, found.compared_with) == (320, 0.1, ("psnr",), 160)
    assert np.isnan(found.value("psnr"))
    assert find(run, score) == folder
    assert score_in(run.best) is None


def test_a_candidate_that_a_kill_left_half_replaced_is_found(run: RunFolder) -> None:
    folder = kept(run, 20)
    folder.rename(folder.with_name(".20.old"))
    assert find(run, a_score(20)) == folder.with_name(".20.old")


def test_candidates_come_with_their_folders_the_best_first_and_damaged_ones_are_left_out(run: RunFolder) -> None:
    for samples, loss in ((90, 0.3), (100, 0.1), (200, 0.2)):
        kept(run, samples, loss)
    monitor = monitor_of(a_score(90, 0.3), a_score(100, 0.1), a_score(200, 0.2))
    assert [score.samples for score, _ in intact_candidates(run, monitor)] == [100, 200, 90]
    (place(run, 100) / "generator.safetensors").write_bytes(b"torn")
    found = intact_candidates(run, monitor)
    assert [(score.samples, folder) for score, folder in found] == [(200, place(run, 200)), (90, place(run, 90))]


def test_a_run_of_a_custom_loop_may_keep_files_that_only_its_script_knows(tmp_path: Path, run: RunFolder) -> None:
    custom = RunFolder.create(tmp_path / "custom", {"name": CUSTOM_LOOP})

    def fill(folder: Path) -> None:
        (folder / "weights").mkdir()
        (folder / "weights" / "part.bin").write_bytes(b"mine")

    for folder, is_good in ((custom, True), (run, False)):
        candidate = keep_candidate(folder, a_score(10), fill)
        assert is_intact(folder, candidate) == is_good
        assert (find(folder, a_score(10)) == candidate) == is_good


# Kept and promoted


def test_promoting_copies_and_leaves_the_candidate(run: RunFolder) -> None:
    assert promote(run, kept(run, 10, 3.0)).samples == 10
    (run.best / "note.txt").write_text("mine")
    promote(run, place(run, 10))
    assert (run.best / "note.txt").exists(), "what is there already is not written again"
    assert promote(run, kept(run, 20, 2.0)).loss == 2.0
    assert weight_in(run.best) == 2.0
    assert verify(run.best) is verify(place(run, 20)) is verify(place(run, 10)) is None


def test_the_best_is_promoted_to_itself_without_a_write(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    promote(run, kept(run, 10))
    monkeypatch.setattr(candidates, "keep", lambda *_: pytest.fail("written again"))
    assert promote(run, run.best).samples == 10
    assert promote(run, place(run, 10)).samples == 10


def test_a_damaged_best_is_written_again(run: RunFolder) -> None:
    promote(run, kept(run, 10, 3.0))
    (run.best / "generator.safetensors").write_bytes(b"torn")
    promote(run, place(run, 10))
    assert weight_in(run.best) == 3.0


def test_a_copy_takes_all_that_lies_in_a_folder_and_no_score_or_manifest_of_its_own(tmp_path: Path) -> None:
    source = tmp_path / "source"
    keep(source, tensors({"weight": torch.ones(1)}), a_score(10))
    (source / "deep").mkdir()
    for path in (source / "more.bin", source / "deep" / "score.json", source / "deep" / "manifest.json"):
        path.write_bytes(b"theirs")
    target = tmp_path / "target"
    keep(target, copying(source), a_score(20, 5.0))
    found = score_in(target)
    assert found is not None
    assert (found.samples, found.loss) == (20, 5.0)
    names = {path.relative_to(target).as_posix() for path in target.rglob("*") if path.is_file()}
    assert names == {
        *("generator.safetensors", "score.json", "manifest.json", "more.bin"),
        *("deep/score.json", "deep/manifest.json"),
    }
    assert verify(target) is None


def test_weights_are_those_of_now_and_not_of_when_they_are_written(run: RunFolder) -> None:
    """The training goes on while the disk is waited for."""
    module = nn.Linear(2, 1, bias=False)
    before = module.weight.detach().clone()
    fill = weights(module)
    with torch.no_grad():
        module.weight.zero_()
    folder = keep_candidate(run, a_score(10), fill)
    assert np.array_equal(load_file(folder / "generator.safetensors")["generator.weight"], before.numpy())


@pytest.mark.parametrize("error", [OSError(28, "full"), ValueError("own"), KeyboardInterrupt()], ids=repr)
def test_what_fails_while_it_is_kept_leaves_nothing_half_done(run: RunFolder, error: BaseException) -> None:
    folder = kept(run, 10, 3.0)
    before = sorted(path.name for path in run.candidates.rglob("*"))

    def fill(folder: Path) -> None:
        (folder / "half").write_bytes(b"half")
        raise error

    for samples in (10, 20):
        with pytest.raises(type(error)):
            keep_candidate(run, a_score(samples), fill)
    assert sorted(path.name for path in run.candidates.rglob("*")) == before
    assert weight_in(folder) == 3.0


# Removed, set aside, put back


def test_pruning_keeps_what_is_named_and_what_is_no_candidate(run: RunFolder) -> None:
    prune(run, lambda samples: False)
    for samples in (10, 20, 30):
        kept(run, samples)
    for name in (".40.partial", ".30.old", ".20.old", "mine", "007"):
        (run.candidates / name).mkdir()
    (run.candidates / "99").write_text("a file of theirs")
    (run.candidates / "50").mkdir()  # without a manifest: not one that was kept
    prune(run, {20}.__contains__)
    found = {path.name for path in run.candidates.iterdir()}
    assert found == {"20", "50", "99", "mine", "007", ".40.partial", ".30.old", ".20.old"}
    run.tidy()
    assert not {name for name in (path.name for path in run.candidates.iterdir()) if name == ".40.partial"}


def test_setting_aside_overwrites_nothing_and_claims_no_move_that_was_none(run: RunFolder) -> None:
    early = monitor_of(a_score(10))
    assert set_later_aside(run, monitor_of()) is None
    for number, loss in enumerate((4.0, 3.0, 2.0)):
        promote(run, kept(run, 20, loss))
        free = run.path / "later" / ("20" if number == 0 else f"20-{number + 1}")
        assert set_later_aside(run, early) == (20, free)
        assert weight_in(free) == loss
        assert not run.best.exists()
        assert set_later_aside(run, early) is None
    promote(run, kept(run, 20, 2.0))
    assert set_later_aside(run, monitor_of(a_score(10), a_score(20, 2.0))) is None, "a runner-up that was promoted"
    assert set_later_aside(run, monitor_of(a_score(30))) is None, "an earlier one, where the best came without weights"
    assert run.best.exists()


def test_the_best_of_an_abandoned_attempt_is_set_aside_in_place_of_its_own_from_before_a_kill(run: RunFolder) -> None:
    early = monitor_of(a_score(10))
    assert set_attempt_aside(run, early, 0) == ""
    for loss in (4.0, 3.0):
        promote(run, kept(run, 20, loss))
        assert set_attempt_aside(run, early, 0) == "later/attempt-0"
        assert weight_in(run.path / "later" / "attempt-0") == loss
        assert not run.best.exists()
    promote(run, kept(run, 20, 2.0))
    assert set_attempt_aside(run, monitor_of(a_score(20, 2.0)), 1) == "", "known to the state gone back to"
    (run.best / "score.json").write_text("{")
    assert set_attempt_aside(run, early, 1) == "", "damaged"
    assert [path.name for path in run.later.iterdir()] == ["attempt-0"]


def module_of(value: float) -> nn.Module:
    module = nn.Linear(1, 1, bias=False)
    nn.init.constant_(module.weight, value)
    return module


def best_weight(run: RunFolder) -> float:
    return load_file(run.best / "generator.safetensors")["generator.weight"].item()


def test_a_damaged_best_and_one_of_an_evaluation_that_is_taken_again_become_what_the_monitor_knows(
    run: RunFolder,
) -> None:
    known = monitor_of(a_score(10))
    keep(run.best, weights(module_of(7.0)), a_score(20, 0.5))  # of an evaluation after the checkpoint
    put_back_best(run, known, module_of(3.0))
    assert best_weight(run) == 3.0
    found = score_in(run.best)
    assert found is not None
    assert found.samples == 10
    (run.best / "generator.safetensors").write_bytes(b"torn")
    put_back_best(run, known, module_of(4.0))
    assert best_weight(run) == 4.0
    put_back_best(run, known, module_of(5.0))
    assert best_weight(run) == 4.0, "what is whole is not written again"


def test_a_candidate_that_was_selected_at_the_end_stays_in_its_place(run: RunFolder) -> None:
    known = monitor_of(a_score(10, 0.1), a_score(20, 0.2))
    keep(run.best, weights(module_of(7.0)), a_score(20, 0.2))
    put_back_best(run, known, module_of(3.0))
    assert best_weight(run) == 7.0


def test_a_best_that_nothing_is_known_of_goes(run: RunFolder) -> None:
    put_back_best(run, monitor_of(), None)
    assert not run.best.exists()
    keep(run.best, weights(module_of(7.0)), a_score(20))
    put_back_best(run, monitor_of(), None)
    assert not run.best.exists()
    put_back_best(run, monitor_of(a_score(10)), module_of(3.0))
    assert best_weight(run) == 3.0, "it was lost altogether"
