"""Folders of many files: what is remembered of them, and which changes are seen without a look at each."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from equipoise.data import folders
from equipoise.data.cache import default_cache


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EQUIPOISE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder that is taken for one of many files, of which each is asked."""
    monkeypatch.setattr(folders, "MANY", 4)
    monkeypatch.setattr(folders, "SETTLED", 0)
    for index in range(6):
        path = tmp_path / "files" / str(index % 2) / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{index}")
    return tmp_path / "files"


def count_walks(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    walked: list[Path] = []
    real = folders.walk

    def walk(path: Path, *inner: Any) -> Iterator[folders.Folder]:
        if not inner:
            walked.append(path)
        return real(path, *inner)

    monkeypatch.setattr(folders, "walk", walk)
    return walked


def test_many_files_that_have_not_changed_are_not_looked_at_again(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    walked = count_walks(monkeypatch)
    stamps = {folders.stamp_of(many) for _ in range(3)}
    assert len(stamps) == 1
    assert walked == [many]


CHANGES: dict[str, Callable[[Path], object]] = {
    "added": lambda path: (path / "1" / "new.png").write_text("new"),
    "removed": lambda path: (path / "0" / "2.png").unlink(),
    "renamed": lambda path: (path / "0" / "2.png").rename(path / "0" / "9.png"),
    "replaced": lambda path: os.replace(path / "0" / "2.png", path / "1" / "3.png"),
    "moved": lambda path: (path / "0").rename(path / "2"),
    "written over": lambda path: (path / "0" / "2.png").write_text("longer"),
    "a new folder": lambda path: (path / "1" / "inner").mkdir(),
    "linked elsewhere": lambda path: (path / "link").symlink_to(path / "0"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_among_many_files_is_seen(many: Path, name: str) -> None:
    before = folders.stamp_of(many)
    time.sleep(0.02)  # the times of a file system are coarse
    CHANGES[name](many)
    after = folders.stamp_of(many)
    assert after != before or name == "a new folder"  # in which nothing lies
    seen = folders.Seen()
    for folder in folders.walk(many):
        seen.add(folder)
    assert after == seen.stamp(many)


def test_a_folder_that_was_just_changed_is_not_remembered(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "SETTLED", 10**12)
    walked = count_walks(monkeypatch)
    folders.stamp_of(many)
    folders.stamp_of(many)
    assert len(walked) == 2


def test_few_files_are_asked_each_time(many: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "MANY", 7)
    walked = count_walks(monkeypatch)
    folders.stamp_of(many)
    folders.stamp_of(many)
    assert len(walked) == 2
    assert not default_cache().exists()


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"stamp": "x", "folders": [1], "files": []}', '{"stamp": 1}'])
def test_damage_of_what_is_remembered_costs_a_look(many: Path, content: str) -> None:
    before = folders.stamp_of(many)
    (note,) = (default_cache() / "folders").iterdir()
    note.write_text(content)
    assert folders.stamp_of(many) == before


def test_files_that_are_asked_are_spread_over_all_and_as_many_as_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "NUM_ASKED", 10)
    seen = folders.Seen()
    for place in range(50):
        seen.add(folders.Folder(f"{place:02d}/", "1 2 3", [(f"{index}.png", "1 2 3") for index in range(7)]))
    numbers = [int(name[:2]) * 7 + int(name[3]) for name, _ in seen.files]
    assert 10 <= len(numbers) <= 20
    assert numbers == list(range(0, 350, seen.every))
