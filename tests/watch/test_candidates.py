"""Candidates on the disk: found again only whole, promoted in one step, set aside without overwriting."""

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from equipoise.recipe import Budget, Recipe, Stopping
from equipoise.runs.candidates import find, keep_candidate, place, promote, prune, set_later_aside
from equipoise.runs.folder import CUSTOM_LOOP, RunFolder
from equipoise.stopping.monitor import Monitor
from equipoise.storage.files import verify
from equipoise.storage.records import Score
from equipoise.watch.keeping import filler


def score(samples: int, loss: float = 1.0, judge: str = "one") -> Score:
    return Score(samples=samples, seconds=0.0, loss=loss, protocol={"judge": judge})


def kept(run: RunFolder, samples: int, loss: float = 1.0) -> Path:
    return keep_candidate(run, score(samples, loss), filler({"weight": np.array([loss])}))


def knowing(*scores: Score) -> Monitor:
    """Return a monitor whose candidates are these scores."""
    monitor = Monitor(Stopping(), Budget())
    for one in scores:
        monitor.score(one)
    return monitor


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """Return the folder of a custom loop."""
    return RunFolder.create(tmp_path / "run", Recipe(name=CUSTOM_LOOP))


def test_only_an_undamaged_folder_of_that_score_is_found(run: RunFolder) -> None:
    folder = kept(run, 320)
    assert folder.name == "320"
    assert find(run, score(320)) == folder
    assert find(run, score(320, loss=2.0)) is None  # another generator of as many samples
    assert find(run, score(320, loss=2.0, judge="other")) == folder  # the same one, scored by another judge
    assert find(run, score(640)) is None
    (folder / "generator.safetensors").write_bytes(b"torn")
    assert find(run, score(320)) is None
    (folder / "score.json").write_text("{")
    assert find(run, score(320)) is None
    promote(run, kept(run, 640))
    prune(run, {320}.__contains__)
    assert find(run, score(640)) == run.best  # the best itself serves, too


def test_promoting_copies_and_leaves_the_candidate(run: RunFolder) -> None:
    assert promote(run, kept(run, 10, 3.0)).samples == 10
    (run.best / "note.txt").write_text("mine")
    promote(run, place(run, 10))
    assert (run.best / "note.txt").exists()  # what is there already is not written again
    promote(run, kept(run, 20, 2.0))
    assert load_file(run.best / "generator.safetensors")["weight"] == [2.0]
    assert verify(run.best) is verify(place(run, 20)) is verify(place(run, 10)) is None


def test_setting_aside_overwrites_nothing_and_claims_no_move_that_was_none(run: RunFolder) -> None:
    assert set_later_aside(run, knowing()) is None
    for number, loss in enumerate((4.0, 3.0, 2.0)):
        promote(run, kept(run, 20, loss))
        free = run.path / "later" / ("20" if number == 0 else f"20-{number + 1}")
        assert set_later_aside(run, knowing(score(10))) == (20, free)
        assert load_file(free / "generator.safetensors")["weight"] == [loss]
        assert not run.best.exists()
        assert set_later_aside(run, knowing(score(10))) is None
    promote(run, kept(run, 20, 2.0))
    assert set_later_aside(run, knowing(score(10), score(20, 2.0))) is None  # a runner-up that was selected
    assert set_later_aside(run, knowing(score(30))) is None  # an earlier one, where the best came without weights
    assert run.best.exists()


def test_pruning_keeps_what_is_named_and_whatever_is_the_users(run: RunFolder) -> None:
    prune(run, lambda samples: False)
    for samples in (10, 20, 30):
        kept(run, samples)
    (run.candidates / "mine").mkdir()
    (run.candidates / "99").write_text("a file of theirs")
    prune(run, {20}.__contains__)
    assert sorted(path.name for path in run.candidates.iterdir()) == ["20", "99", "mine"]


def test_a_candidate_that_a_kill_left_half_replaced_is_found(run: RunFolder) -> None:
    folder = kept(run, 20)
    folder.rename(folder.with_name(".20.old"))
    assert find(run, score(20)) == folder.with_name(".20.old")
