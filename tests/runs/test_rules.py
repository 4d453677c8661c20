"""Where a run may be written: each failure is one line about the right place, of the right kind, with what to type."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from equipoise.errors import Command, Option, RunBusyError, StorageError, UserError
from equipoise.recipe import Recipe
from equipoise.runs import rules
from equipoise.runs.folder import CUSTOM_LOOP, RunFolder
from equipoise.runs.resume_rules import recipe_to_resume
from equipoise.storage.locks import UNKNOWN, Holder
from equipoise.storage.records import FORMAT

OF_DISK = [errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO]
OF_USER = [errno.EACCES, errno.EROFS, errno.ENAMETOOLONG, errno.ENOTDIR]


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """Return a run that has not been trained."""
    return RunFolder.create(tmp_path / "run", Recipe())


@pytest.mark.parametrize("number", [*OF_DISK, *OF_USER])
@pytest.mark.parametrize("guard", [rules.writing_to, rules.writing_into])
def test_what_the_system_refuses_is_a_failure_of_the_disk_or_a_mistake(guard: Any, number: int) -> None:
    with pytest.raises(UserError) as caught, guard(Path("run")):
        raise OSError(number, os.strerror(number))
    assert isinstance(caught.value, StorageError) == (number in OF_DISK)
    assert caught.value.subject == Path("run")
    assert os.strerror(number) in caught.value.problem


@pytest.mark.parametrize("version", [FORMAT, FORMAT - 1])
def test_a_run_of_this_version_or_an_older_one_is_read(version: int) -> None:
    rules.refuse_other_format(Path("recipe.json"), version)


@pytest.mark.parametrize("version", [FORMAT + 1, 99, "1", 1.5, [1], "x" * 1000])
def test_a_run_of_any_other_version_is_refused_with_both_versions(version: object) -> None:
    with pytest.raises(UserError) as caught:
        rules.refuse_other_format(Path("recipe.json"), version)
    assert caught.value.subject == Path("recipe.json")
    assert str(version)[:20] in caught.value.problem
    assert f"format {FORMAT}" in caught.value.problem
    assert len(caught.value.problem) < 120
    assert caught.value.remedies


@pytest.mark.parametrize("name", [".", *rules.SUBFOLDERS])
def test_a_run_that_can_be_read_and_not_written_is_refused_by_the_folder(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    rules.refuse_unwritable(run)
    closed = run.path / name
    real = os.access

    def access(path: Any, *given: Any, **options: Any) -> bool:  # for root nothing is closed
        return Path(path) != closed and real(path, *given, **options)

    monkeypatch.setattr(os, "access", access)
    with pytest.raises(UserError) as caught:
        rules.refuse_unwritable(run)
    assert caught.value.subject == closed


@pytest.mark.parametrize(
    ("path", "free"),
    [
        (Path("runs") / "one", Path("runs") / "one-2"),
        (Path("/"), "runs/new"),
        (Path("a b.c"), Path("a b.c-2")),
    ],
)
def test_a_place_that_is_taken_is_refused_with_another_that_is_not(path: Path, free: Any) -> None:
    assert rules.elsewhere(path) == Option("out", free)
    assert rules.taken(path).remedies == (Command("resume", path), Option("out", free))


def test_whoever_trains_is_named_as_far_as_that_is_known() -> None:
    known = rules.busy(Path("run"), Holder("machine", 77))
    assert isinstance(known, RunBusyError)
    assert {"77", "machine"} <= set(known.problem.split())
    for holder in (None, UNKNOWN):
        unknown = rules.busy(Path("run"), holder)
        assert not any(letter.isdigit() for letter in unknown.problem)


def test_another_folder_is_advised_only_where_a_run_is_to_begin(tmp_path: Path) -> None:
    with RunFolder.begin(tmp_path / "run", Recipe()) as run:
        for continues in (lambda: recipe_to_resume(run), lambda: rules.refuse_busy(run)):
            with pytest.raises(RunBusyError) as refused:
                continues()
            assert not [part for part in refused.value.remedies if isinstance(part, Option)]
        with pytest.raises(RunBusyError) as refused, run.lock():
            pass
        assert not [part for part in refused.value.remedies if isinstance(part, Option)]
        with pytest.raises(RunBusyError) as refused:
            rules.refuse_taken(run.path)
        assert Option("out", tmp_path / "run-2") in refused.value.remedies


def test_nothing_is_written_where_a_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    for path in (tmp_path, tmp_path / "thesis.txt", tmp_path / "thesis.txt" / "below"):
        with pytest.raises(UserError):
            rules.refuse_taken(path)
    rules.refuse_taken(tmp_path / "new" / "deep")
    assert os.listdir(tmp_path) == ["thesis.txt"]


def test_a_custom_loop_is_refused_with_the_script_that_knows_it(run: RunFolder) -> None:
    rules.refuse_custom_loop(run)
    run.write_recipe({"name": CUSTOM_LOOP})
    with pytest.raises(UserError) as caught:
        rules.refuse_custom_loop(run)
    assert caught.value.subject == run.path
    assert caught.value.remedies[-1] == Command("Watch", run.path, resume=True)
    assert str(run.best) in caught.value.problem
