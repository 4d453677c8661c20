"""Whether data seem to have changed since a run last began with them: by the times of files and folders."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_runs import data_record

from equipoise.runs import source_times
from equipoise.runs.folder import RunFolder
from equipoise.runs.source_times import seems_changed

BEGUN = 2_000.0


def set_time(path: Path, seconds: float) -> None:
    os.utime(path, (seconds, seconds))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Return a folder of files in two folders, all of before a run began."""
    folder = tmp_path / "photos"
    for name in ("a/1.png", "b/2.png"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).touch()
    for path in (folder, folder / "a", folder / "b"):
        set_time(path, BEGUN - 1)
    return folder


@pytest.fixture
def run(tmp_path: Path, fake_run: Callable[..., RunFolder]) -> RunFolder:
    """Return a run that began later."""
    found = fake_run(tmp_path / "run", num_steps=3, num_scores=3)
    set_time(found.path / "environment.json", BEGUN)
    return found


def is_seen(run: RunFolder, path: Path) -> bool:
    return seems_changed(run, data_record(path=str(path)))


@pytest.mark.parametrize("changed", [".", "b"])
def test_a_folder_that_was_written_to_is_seen_wherever_it_lies(run: RunFolder, photos: Path, changed: str) -> None:
    assert not is_seen(run, photos)
    set_time(photos / changed, BEGUN + 1)
    assert is_seen(run, photos)
    set_time(run.path / "environment.json", BEGUN + 2)
    assert not is_seen(run, photos), "a training has begun with it since"


def test_a_file_is_known_by_its_own_time(run: RunFolder, photos: Path) -> None:
    file = photos / "a" / "1.png"
    set_time(file, BEGUN - 1)
    assert not is_seen(run, file)
    set_time(file, BEGUN + 1)
    assert is_seen(run, file)


def test_hidden_folders_links_and_the_run_itself_are_no_data(run: RunFolder, photos: Path, tmp_path: Path) -> None:
    (photos / ".thumbnails").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (photos / "link").symlink_to(tmp_path / "elsewhere")
    inside = RunFolder(photos / "run")
    run.path.rename(inside.path)
    set_time(photos, BEGUN - 1)
    assert not is_seen(inside, photos)


def test_nothing_is_said_of_what_is_not_there_or_too_large_to_look_through(
    run: RunFolder, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not is_seen(run, photos / "gone")
    assert not seems_changed(run, data_record(path=None))
    set_time(photos / "b", BEGUN + 1)
    with monkeypatch.context() as patch:
        patch.setattr(source_times, "MOST_ENTRIES", 1)
        assert not is_seen(run, photos)
    (run.path / "environment.json").unlink()
    assert not is_seen(run, photos), "when it was read is not known"
