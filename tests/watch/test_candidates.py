"""Candidates on the disk: found again only whole, handed over in one step, set aside without overwriting."""

from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from equipoise.health.stats import ScoreLine
from equipoise.recipe import Recipe
from equipoise.runs.folder import RunFolder
from equipoise.storage.files import verify
from equipoise.watch.candidates import found, hand_over, keep_candidate, place, prune, set_later_aside


def line(samples: int, fid: float = 1.0, judge: str = "one") -> ScoreLine:
    return ScoreLine(samples=samples, seconds=0.0, fid=fid, protocol={"judge": judge})


def kept(run: RunFolder, samples: int, fid: float = 1.0) -> Path:
    return keep_candidate(run, line(samples, fid), {"weight": np.array([fid])})


def test_only_an_undamaged_folder_of_that_score_is_found(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", Recipe())
    folder = kept(run, 320)
    assert folder.name == "320"
    assert found(run, line(320)) == folder
    assert found(run, line(320, fid=2.0)) is None, "another generator of as many samples"
    assert found(run, line(320, fid=2.0, judge="other")) == folder, "the same one, scored by another judge"
    assert found(run, line(640)) is None
    (folder / "generator.safetensors").write_bytes(b"torn")
    assert found(run, line(320)) is None
    (folder / "score.json").write_text("{")
    assert found(run, line(320)) is None
    hand_over(run, kept(run, 640))
    prune(run, {320})
    assert found(run, line(640)) == run.best, "the best itself serves, too"


def test_handing_over_copies_and_leaves_the_candidate(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", Recipe())
    assert hand_over(run, kept(run, 10, 3.0)).samples == 10
    (run.best / "note.txt").write_text("mine")
    hand_over(run, place(run, 10))
    assert (run.best / "note.txt").exists(), "what is there already is not written again"
    hand_over(run, kept(run, 20, 2.0))
    assert load_file(run.best / "generator.safetensors")["weight"] == [2.0]
    assert verify(run.best) is verify(place(run, 20)) is verify(place(run, 10)) is None


def test_setting_aside_overwrites_nothing_and_claims_no_move_that_was_none(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", Recipe())
    assert set_later_aside(run, None, ()) is None
    for number, fid in enumerate((4.0, 3.0, 2.0)):
        hand_over(run, kept(run, 20, fid))
        free = run.path / "later" / ("20" if number == 0 else f"20-{number + 1}")
        assert set_later_aside(run, line(10), (line(10),)) == (20, free)
        assert load_file(free / "generator.safetensors")["weight"] == [fid]
        assert not run.best.exists()
        assert set_later_aside(run, line(10), (line(10),)) is None
    hand_over(run, kept(run, 20, 2.0))
    assert set_later_aside(run, line(10), (line(10), line(20, 2.0))) is None, "a runner-up that was handed over"
    assert set_later_aside(run, line(30), (line(30),)) is None, "an earlier one, where the best came without weights"
    assert run.best.exists()


def test_pruning_keeps_what_is_named_and_removes_what_a_kill_left(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", Recipe())
    prune(run, ())
    for samples in (10, 20, 30):
        kept(run, samples)
    for name in (".40.partial", ".30.old", ".20.old", "mine"):
        (run.candidates / name).mkdir()
    (run.candidates / "99").write_text("a file of theirs")
    prune(run, {20})
    assert sorted(path.name for path in run.candidates.iterdir()) == [".20.old", "20", "99", "mine"]


def test_a_candidate_that_a_kill_left_half_replaced_is_found(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", Recipe())
    folder = kept(run, 20)
    folder.rename(folder.with_name(".20.old"))
    assert found(run, line(20)) == folder.with_name(".20.old")
