"""Runs of each task with damaged, hostile or newer files: nothing of them is lost, and what can be made again is."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import killing
import numpy as np
import pytest
from harm import FORMS, READERS, awaited, change_json, done_or_refused, refused, seal
from made_runs import files_in

import equipoise as eq
from equipoise.errors import UserError
from equipoise.runs.candidates import find
from equipoise.runs.digest import digest
from equipoise.runs.folder import RunFolder
from equipoise.runs.status import read_status
from equipoise.storage import checkpoints
from equipoise.storage.files import MANIFEST
from equipoise.storage.logs import records
from equipoise.storage.records import FORMAT, RunState

RunOf = Callable[..., eq.Run]
TASKS = ("images", "points", "super-resolution")
NOT_OF_PHOTOS = ("networks.", "evaluation.num_samples")
OF_PHOTOS = ("task.scale=2", "task.patch=32", "task.faithful=0.3", "networks.width=4")
OF_PHOTOS += ("evaluation.every=80", "saving.every=80", "saving.log_every=40")
DERIVED = ("rivals.json", "exhibits.json", "intervals.json")  # what a training makes again from what it knows
NEEDED = ("recipe.json", "state.json", "data.json", "environment.json")  # and what nothing can take the place of
DAMAGES = {
    "cut short": lambda whole: whole[: len(whole) // 2],
    "empty": lambda whole: b"",
    "a list": lambda whole: b"[]",
    "deep": lambda whole: b"[" * 100_000,
    "of other types": lambda whole: re.sub(rb': (\[|"|[-0-9.e]+|null)', rb': 7, "more": \1', whole),
    "all values a list": lambda whole: json.dumps({name: [] for name in json.loads(whole)}).encode(),
}
MORE = "640"  # samples of the larger budget
trained_runs: dict[str, tuple[Path, Path]] = {}


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    """Return the path of the file that must never appear, and look for it at the end."""
    yield from awaited(tmp_path)


@pytest.fixture
def trained(run_of: RunOf, shapes: Path, photos: Path, tmp_path: Path) -> Callable[[str], tuple[Path, Path]]:
    """Return a function from a task to its run whose budget is spent, and the same after a larger one; trained once."""
    sources = {"images": shapes, "points": "ring", "super-resolution": photos}

    def begun(task: str) -> eq.Run:
        if task != "super-resolution":
            return run_of("whole", source=sources[task])
        kept = [setting for setting in killing.SETTLED if not setting.startswith(NOT_OF_PHOTOS)]
        out = tmp_path / "whole"
        return eq.train(photos, task=task, budget="400", out=out, settings=[*kept, *OF_PHOTOS], device="cpu")

    def trained(task: str) -> tuple[Path, Path]:
        if task not in trained_runs:
            whole = begun(task).path
            further = shutil.copytree(whole, tmp_path / "further")
            eq.resume(further, budget=MORE)
            trained_runs[task] = (whole, further)
        return trained_runs[task]

    return trained


def check_same(run: Path, expected: Path) -> None:
    """See that two runs have come to the same end, best generator and all that the report shows included."""
    assert digest(RunFolder(run)).parts == digest(RunFolder(expected)).parts
    for name in (*DERIVED, "best/generator.safetensors"):
        assert (run / name).read_bytes() == (expected / name).read_bytes(), name


@pytest.mark.parametrize("task", TASKS)
def test_readers_and_an_evaluation_of_a_run_with_a_damaged_record_change_nothing_of_it(
    trained: Callable[[str], tuple[Path, Path]], tmp_path: Path, task: str
) -> None:
    """Each record damaged in each way is shown or refused; a generator is scored without the derived ones."""
    run = shutil.copytree(trained(task)[0], tmp_path / "run")
    source = json.loads((run / "recipe.json").read_bytes())["data"]["source"]
    expected = eq.evaluate(run, source, device="cpu").measured.loss
    for name in (*DERIVED, *NEEDED):
        whole = (run / name).read_bytes()
        for damage in DAMAGES.values():
            (run / name).write_bytes(damage(whole))
            before = files_in(run)
            for read in READERS:
                done_or_refused(partial(read, RunFolder(run)))
            assert files_in(run) == before
        if name in DERIVED:
            assert eq.evaluate(run, source, device="cpu").measured.loss == expected
        (run / name).write_bytes(whole)


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("task", TASKS)
def test_a_resume_makes_damaged_derived_records_again_and_loses_nothing(
    trained: Callable[[str], tuple[Path, Path]], tmp_path: Path, task: str, damage: str
) -> None:
    """Baselines, exhibits and intervals: the run comes to the end that it would have come to."""
    whole, further = trained(task)
    run = shutil.copytree(whole, tmp_path / "run")
    for name in DERIVED:
        (run / name).write_bytes(DAMAGES[damage]((run / name).read_bytes()))
    eq.resume(run, budget=MORE)
    check_same(run, further)


@pytest.mark.parametrize("name", NEEDED)
@pytest.mark.parametrize("task", TASKS)
def test_a_resume_without_a_record_that_it_needs_is_refused_and_touches_nothing(
    trained: Callable[[str], tuple[Path, Path]], tmp_path: Path, task: str, name: str
) -> None:
    """So that the record can be put back from a copy."""
    run = shutil.copytree(trained(task)[0], tmp_path / "run")
    whole = (run / name).read_bytes()
    for damage in ("cut short", "empty", "a list", "deep"):
        (run / name).write_bytes(DAMAGES[damage](whole))
        before = files_in(run)
        assert str(run / name) in refused(lambda: eq.resume(run, budget=MORE))
        assert files_in(run) == before


@FORMS
@pytest.mark.parametrize("task", TASKS)
def test_a_run_goes_on_past_files_with_code_to_the_same_end(
    trained: Callable[[str], tuple[Path, Path]], tmp_path: Path, canary: Path, form: Any, task: str
) -> None:
    """In its newest checkpoint, though the manifest agrees, in its best generator, and in what is derived."""
    whole, _ = trained(task)
    run = shutil.copytree(whole, tmp_path / "run")
    RunFolder(run).write_state(RunState(status="running", has_saved=True))  # as where it was killed
    newest = checkpoints.named(run / "checkpoints")[0]
    for path in (newest / "tensors.safetensors", run / "best" / "generator.safetensors", *map(run.joinpath, DERIVED)):
        path.write_bytes(form(canary))
    seal(newest)
    refused(lambda: eq.load(run).best)
    seal(run / "best", checkpoints.WEIGHTS_FILES)
    refused(lambda: eq.load(run).best)
    (run / "best" / MANIFEST).write_bytes(form(canary))
    eq.resume(run)
    check_same(run, whole)


@pytest.mark.parametrize("name", ["recipe.json", "state.json"])
@pytest.mark.parametrize("task", TASKS)
def test_a_run_of_a_newer_version_is_refused_with_that_version_and_nothing_of_it_is_touched(
    trained: Callable[[str], tuple[Path, Path]], tmp_path: Path, task: str, name: str
) -> None:
    """By every reader, and by a resume."""
    run = shutil.copytree(trained(task)[0], tmp_path / "run")
    change_json(run / name, format=FORMAT + 41, something={"new": [1]})
    before = files_in(run)
    acts: list[Callable[[], object]] = [partial(read, RunFolder(run)) for read in READERS if name == "recipe.json"]
    acts += [lambda: read_status(RunFolder(run)), lambda: eq.resume(run, budget=MORE)]
    for act in acts:
        with pytest.raises(UserError) as caught:
            act()
        assert caught.value.subject == run / name
        assert str(FORMAT + 41) in caught.value.problem
        assert caught.value.remedies
    assert files_in(run) == before


@pytest.mark.parametrize(
    "changes", [{"format": FORMAT + 41}, {"attempt": None}, {"adjustments": {"new": 1}}, {"samples": 10**400}]
)
def test_a_checkpoint_of_another_version_is_refused_and_no_other_is_taken_in_its_place(
    trained: Callable[[str], tuple[Path, Path]], tmp_path: Path, changes: dict[str, Any]
) -> None:
    """To go on from the one before would give up what the other version has trained."""
    run = shutil.copytree(trained("points")[0], tmp_path / "run")
    newest = checkpoints.named(run / "checkpoints")[0]
    change_json(newest / "state.json", **changes)
    seal(newest)
    before = files_in(run)
    with pytest.raises(UserError) as caught:
        eq.resume(run, budget=MORE)
    assert caught.value.subject == newest
    assert caught.value.remedies
    after = files_in(run)
    written = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    kept = {name for name in written if name.startswith("selected/")}  # a copy of what the end before has selected
    assert not kept & before.keys()
    assert written - kept <= {"recipe.json", "state.json", "intervals.json", "log/events.jsonl"}, "of the new budget"


# Runs of a custom loop


@pytest.mark.parametrize("name", ["recipe.json", "state.json"])
def test_a_watch_does_not_go_on_with_a_run_of_a_newer_version(tmp_path: Path, name: str) -> None:
    """It would write over what it does not know."""
    run = tmp_path / "run"
    with eq.Watch(run, metric="fid", say=None) as watch:
        watch.step(64, generator_loss=1.0, discriminator_loss=1.0)
        watch.score(fid=1.0, keep={"w": np.ones(2)})
    change_json(run / name, format=FORMAT + 41, something={"new": [1]})
    before = files_in(run)
    with pytest.raises(UserError, match=str(FORMAT + 41)) as caught:
        eq.Watch(run, metric="fid", say=None, resume=True)
    assert caught.value.subject == run / name
    assert files_in(run) == before


@pytest.mark.parametrize("name", ["rivals.json", "exhibits.json", "intervals.json"])
def test_a_damaged_derived_record_costs_a_watch_no_more_than_its_report(tmp_path: Path, name: str) -> None:
    """Which an event tells of when all else is written, and which is written once the record is gone."""

    def watched(samples: int, resume: bool) -> None:
        with eq.Watch(tmp_path / "run", metric="fid", say=None, resume=resume) as watch:
            watch.step(64, generator_loss=1.0, discriminator_loss=1.0)
            watch.score(fid=1 / samples, keep={"w": np.full(2, samples)})

    run = RunFolder(tmp_path / "run")
    watched(64, resume=False)
    (run.path / name).write_bytes(b"[]")
    watched(128, resume=True)
    told = [event["message"] for event in records(run.events) if str(run.path / name) in event["message"]]
    assert len(told) == 1
    state = run.read_state()
    assert state.status == "finished"
    assert state.best is not None
    assert state.best.samples == 128
    assert find(run, state.best) is not None
    (run.path / name).unlink()
    run.report.unlink()
    watched(192, resume=True)
    assert run.report.exists()
