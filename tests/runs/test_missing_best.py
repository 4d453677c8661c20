"""A run without a best generator: the refusal says why, and what it offers to type does what it says."""

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from equipoise.errors import UserError
from equipoise.health.stats import ScoreLine
from equipoise.recipe import Recipe
from equipoise.runs.folder import RunFolder
from equipoise.runs.missing_best import refuse_without_best
from equipoise.storage.checkpoints import WEIGHTS_FILES, candidate_paths
from equipoise.storage.files import verify, write_json, written_whole

LINES = [
    ScoreLine(samples=samples, seconds=1.0, kid=kid, kid_se=0.001)
    for samples, kid in ((100, 0.05), (200, 0.02), (300, 0.03))
]


def generator(folder: Path, line: ScoreLine) -> None:
    with written_whole(folder) as inside:
        (inside / "generator.safetensors").write_bytes(bytes(line.samples))
        write_json(inside / "score.json", line)


def scored(path: Path, status: str = "stopped") -> RunFolder:
    """Return a run with three scores, the second of which is the best, and its three candidates."""
    run = RunFolder.create(path, Recipe())
    for line in LINES:
        run.log_score(asdict(line))
        generator(run.candidates / str(line.samples), line)
    run.write_state({"status": status, "has_saved": True, "samples": 300, "seconds": 3.0, "best": asdict(LINES[1])})
    generator(run.best, LINES[1])
    return run


def refusal(run: RunFolder) -> str:
    with pytest.raises(UserError) as caught:
        refuse_without_best(run)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def saved(run: RunFolder) -> None:
    with written_whole(run.checkpoints / f"{300:012d}") as folder:
        for name in ("tensors.safetensors", "state.json"):
            (folder / name).write_text("{}")


def test_a_damaged_one_is_told_with_a_command_that_puts_a_whole_candidate_in_its_place(tmp_path: Path) -> None:
    run = scored(tmp_path / "my run")
    (run.best / "generator.safetensors").write_bytes(b"")
    text = refusal(run)
    assert "generator.safetensors does not match its SHA-256" in text
    subprocess.run(["sh", "-c", text.partition("in its place: ")[2]], check=True)
    refuse_without_best(run)
    assert (run.best / "generator.safetensors").read_bytes() == bytes(LINES[1].samples)


def test_one_that_has_it_goes_through_also_where_it_lies_aside(tmp_path: Path) -> None:
    run = scored(tmp_path / "run")
    refuse_without_best(run)
    run.best.rename(run.best.with_name(".best.old"))
    refuse_without_best(run)


def test_before_the_first_score_it_is_said_that_nothing_was_scored(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "a run", Recipe())
    assert refusal(run).endswith(
        "no generator has been scored yet, so there is no best one. "
        f"To train until there is one: equipoise resume '{run.path}'"
    )
    with run.lock():
        run.write_state({"status": "running"})
        assert f"It is training: wait for the first score, which this shows: equipoise status '{run.path}'" in (
            refusal(run)
        )


def test_scores_that_all_failed_are_counted_and_no_resume_is_offered_where_it_has_ended(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", Recipe())
    run.log_score({"samples": 100})
    run.log_event(200, 2.0, "judging failed", "out of memory")
    run.write_state({"status": "finished"})
    line = refusal(run)
    assert "none of 2 scores is a finite number" in line
    assert "events.jsonl" in line
    assert "equipoise resume" not in line


@pytest.mark.parametrize("status", ["finished", "stopped", "failed", "running"])
def test_a_lost_best_one_can_be_copied_from_the_candidates_as_the_line_says(tmp_path: Path, status: str) -> None:
    run = scored(tmp_path / "a run", status)
    before = (run.best / "generator.safetensors").read_bytes()
    shutil.rmtree(run.best)
    line = refusal(run)
    assert "no generator has been scored" not in line
    assert "is gone, with the best generator, that of 200 samples. A copy of it is in candidates/200." in line
    subprocess.run(line.split("To put that in its place: ")[1], shell=True, check=True)
    assert verify(run.best, WEIGHTS_FILES) is None
    assert (run.best / "generator.safetensors").read_bytes() == before
    refuse_without_best(run)


def lose_the_copy(run: RunFolder) -> None:
    shutil.rmtree(run.candidates / "200")


def damage_the_copy(run: RunFolder) -> None:
    (run.candidates / "200" / "generator.safetensors").write_bytes(b"")


@pytest.mark.parametrize("deed", [lose_the_copy, damage_the_copy])
def test_where_its_copy_is_lost_too_the_lowest_other_one_is_named_as_another(
    tmp_path: Path, deed: Callable[[RunFolder], None]
) -> None:
    run = scored(tmp_path / "run")
    shutil.rmtree(run.best)
    deed(run)
    line = refusal(run)
    assert "Another one, of 300 samples with KID 0.0300 ± 0.0010, is in candidates/300." in line
    subprocess.run(line.split("To put that in its place: ")[1], shell=True, check=True)
    refuse_without_best(run)


def test_without_candidates_the_checkpoint_brings_it_back_and_without_that_nothing_does(tmp_path: Path) -> None:
    run = scored(tmp_path / "run")
    shutil.rmtree(run.best)
    shutil.rmtree(run.candidates)
    assert refusal(run).endswith("No candidate and no good checkpoint is left either. Put it back from a copy")
    saved(run)
    assert refusal(run).endswith(
        "To get it back from the checkpoint of 300 samples, go on with the training: "
        f"equipoise resume {run.path}"
    )  # fmt: skip
    run.write_state(run.read_state() | {"status": "finished"})
    assert refusal(run).endswith(f"equipoise resume {run.path} --budget B, with a larger one than before")


def test_candidates_are_real_folders_with_a_manifest_and_a_whole_number_as_a_program_writes_it(tmp_path: Path) -> None:
    folder = tmp_path / "candidates"
    assert candidate_paths(folder) == []
    for name in ("1000", "0", "200", "007", "²", "٣", "-1", "1.5", "best", ".300.partial"):
        generator(folder / name, LINES[0])
    (folder / "5").mkdir()  # without a manifest: something of the user's
    (folder / "6").write_text("a file")
    (folder / "7").symlink_to("200")
    assert candidate_paths(folder) == [folder / "0", folder / "200", folder / "1000"]
    (tmp_path / "link").symlink_to("candidates")
    assert candidate_paths(tmp_path / "link") == []
    assert candidate_paths(folder / "6") == []


@pytest.mark.parametrize("name", ["007", "²"])
def test_a_copy_that_somebody_put_among_the_candidates_is_not_offered(tmp_path: Path, name: str) -> None:
    run = scored(tmp_path / "run")
    shutil.rmtree(run.best)
    for line in LINES:
        shutil.rmtree(run.candidates / str(line.samples))
    generator(run.candidates / name, LINES[1])
    assert "No candidate and no good checkpoint is left either." in refusal(run)
