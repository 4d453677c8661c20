"""A run without a best generator: the refusal says why, and what it offers to type does what it says."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from fake_runs import data_record

from equipoise.errors import Command, UserError
from equipoise.recipe import Recipe
from equipoise.runs.folder import RunFolder
from equipoise.runs.missing_best import refuse_without_best
from equipoise.storage.checkpoints import WEIGHTS_FILES, candidate_paths
from equipoise.storage.files import verify, write_json, written_whole
from equipoise.storage.logs import append
from equipoise.storage.records import Metric, RunState, Score, Status

SCORES = [
    Score(samples=samples, seconds=1.0, loss=loss, error=0.001)
    for samples, loss in ((100, 0.05), (200, 0.02), (300, 0.03))
]
BEST = SCORES[1]


def generator(folder: Path, score: Score) -> None:
    with written_whole(folder) as inside:
        (inside / "generator.safetensors").write_bytes(bytes(score.samples))
        write_json(inside / "score.json", score)


def scored(path: Path, status: Status = "stopped") -> RunFolder:
    """Return a run with three scores, the second of which is the best, and its three candidates."""
    run = RunFolder.create(path, Recipe(), data_record())
    for score in SCORES:
        run.log_score(score, is_best=score.loss <= BEST.loss)
        generator(run.candidates / str(score.samples), score)
    run.write_state(RunState(status=status, has_saved=True, samples=300, spent=300, seconds=3.0, best=BEST))
    generator(run.best, BEST)
    return run


def refusal(run: RunFolder) -> UserError:
    with pytest.raises(UserError) as caught:
        refuse_without_best(run)
    assert "\n" not in str(caught.value)
    return caught.value


def copied(error: UserError) -> None:
    """Do what a refusal says to type in a shell."""
    (command,) = re.findall("`(.*)`", str(error.remedies[-1]))
    subprocess.run(["sh", "-c", command], check=True)


def commands(error: UserError) -> list[Command]:
    return [part for part in error.remedies if isinstance(part, Command)]


def saved(run: RunFolder) -> None:
    with written_whole(run.checkpoints / f"{300:012d}") as folder:
        for name in ("tensors.safetensors", "state.json"):
            (folder / name).write_text("{}")


def test_a_damaged_one_is_named_with_a_command_that_puts_an_intact_candidate_in_its_place(tmp_path: Path) -> None:
    run = scored(tmp_path / "my run")
    (run.best / "generator.safetensors").write_bytes(b"")
    error = refusal(run)
    assert error.subject == run.best
    assert "generator.safetensors" in error.problem
    copied(error)
    refuse_without_best(run)
    assert (run.best / "generator.safetensors").read_bytes() == bytes(BEST.samples)


def test_one_that_is_there_is_not_refused_also_where_it_lies_aside(tmp_path: Path) -> None:
    run = scored(tmp_path / "run")
    refuse_without_best(run)
    run.best.rename(run.best.with_name(".best.old"))
    refuse_without_best(run)


def test_before_the_first_score_what_to_type_depends_on_whether_it_trains(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "a run", Recipe())
    error = refusal(run)
    assert (error.subject, commands(error)) == (run.path, [Command("resume", run.path)])
    with run.lock():
        run.write_state(RunState(status="running"))
        assert commands(refusal(run)) == [Command("status", run.path)]


def test_scores_that_all_failed_are_counted_and_where_it_has_ended_a_larger_budget_is_offered(tmp_path: Path) -> None:
    run = RunFolder.create(tmp_path / "run", Recipe())
    append(run.scores, {"samples": 100})
    run.log_event(200, 2.0, "evaluation failed", "out of memory")
    run.log_event(300, 2.0, "baseline failed", "of another kind")
    run.log_event(300, 2.0, "final stage failed", "of the end")
    run.write_state(RunState(status="finished"))
    error = refusal(run)
    assert " 2 " in error.problem
    assert str(run.events) in error.remedies[0]  # type: ignore[operator]
    assert commands(error) == [Command("resume", run.path, budget="20m")]


def test_generators_that_all_miss_a_limit_are_not_called_without_a_score(tmp_path: Path) -> None:
    metrics = (Metric(name="mse", decides=True), Metric(name="drift", label="Drift", guard=1.0))
    run = RunFolder.create(tmp_path / "run", Recipe(), data_record(metrics=metrics))
    for score in SCORES:
        run.log_score(msgspec.structs.replace(score, broken=("drift",)), is_best=False)
    assert "(Drift)" in refusal(run).problem


@pytest.mark.parametrize("status", ["finished", "stopped", "failed", "running"])
def test_a_lost_best_one_can_be_copied_from_the_candidates_as_the_line_says(tmp_path: Path, status: Status) -> None:
    run = scored(tmp_path / "a run", status)
    before = (run.best / "generator.safetensors").read_bytes()
    shutil.rmtree(run.best)
    error = refusal(run)
    assert error.subject == run.best
    assert "200" in error.problem
    assert "candidates/200" in str(error.remedies[0])
    copied(error)
    assert verify(run.best, WEIGHTS_FILES) is None
    assert (run.best / "generator.safetensors").read_bytes() == before
    refuse_without_best(run)


def lose_the_copy(run: RunFolder) -> None:
    shutil.rmtree(run.candidates / "200")


def damage_the_copy(run: RunFolder) -> None:
    (run.candidates / "200" / "generator.safetensors").write_bytes(b"")


@pytest.mark.parametrize("deed", [lose_the_copy, damage_the_copy])
def test_where_its_copy_is_lost_too_the_lowest_other_one_is_named_with_its_score(
    tmp_path: Path, deed: Callable[[RunFolder], None]
) -> None:
    run = scored(tmp_path / "run")
    shutil.rmtree(run.best)
    deed(run)
    error = refusal(run)
    assert "KID 0.0300 ± 0.0010" in str(error.remedies[0])
    assert "candidates/300" in str(error.remedies[0])
    copied(error)
    refuse_without_best(run)


def test_without_candidates_the_checkpoint_brings_it_back_and_without_that_nothing_does(tmp_path: Path) -> None:
    run = scored(tmp_path / "run")
    shutil.rmtree(run.best)
    shutil.rmtree(run.candidates)
    assert not commands(refusal(run))
    saved(run)
    error = refusal(run)
    assert "300" in str(error.remedies[0])
    assert commands(error) == [Command("resume", run.path)]
    run.write_state(msgspec.structs.replace(run.read_state(), status="finished"))
    assert commands(refusal(run)) == [Command("resume", run.path, budget="20m")]


def test_candidates_are_real_folders_with_a_manifest_and_a_whole_number_as_a_program_writes_it(tmp_path: Path) -> None:
    folder = tmp_path / "candidates"
    assert candidate_paths(folder) == []
    for name in ("1000", "0", "200", "007", "²", "٣", "-1", "1.5", "best", ".300.partial"):
        generator(folder / name, SCORES[0])
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
    for score in SCORES:
        shutil.rmtree(run.candidates / str(score.samples))
    generator(run.candidates / name, BEST)
    error = refusal(run)
    assert not commands(error)
    assert str(run.candidates) not in str(error)
