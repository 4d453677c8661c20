"""What preparations leave in a cache: only whole things, that others may read, and nothing of the living is removed."""

import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from equipoise.data import store

IMAGES = np.random.default_rng(0).integers(0, 256, (4, 1, 8, 8), dtype=np.uint8)


def write(cache: Path, num: int = 4) -> str:
    return store.write(cache, [(np.arange(num), IMAGES[:num])], None, ())


def note(cache: Path) -> None:
    store.note(cache, "key", store.Listing("0" * 64, [("a.png", "damaged")], 1))


def two_days_on(patch: pytest.MonkeyPatch) -> None:
    later = time.time() + 2 * 86_400
    patch.setattr(store.time, "time", lambda: later)


def killed(function: Callable[[], object]) -> None:
    """Call a function, which kills its process, in a process of its own."""
    if not (child := os.fork()):
        try:
            function()
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def dying() -> Iterator[tuple[np.ndarray, np.ndarray]]:
    yield np.arange(2), IMAGES[:2]
    os._exit(7)


def asides(cache: Path) -> list[Path]:
    return list(cache.rglob(".aside-*"))


def test_a_clock_set_forward_removes_no_preparation_that_still_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def batches() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        yield np.arange(4), IMAGES
        two_days_on(monkeypatch)
        write(tmp_path, 2)  # another process begins, as it were

    content = store.write(tmp_path, batches(), None, ())
    assert (tmp_path / "pools" / content / "images.bin").read_bytes() == IMAGES.tobytes()
    assert len(list((tmp_path / "pools").iterdir())) == 2
    assert asides(tmp_path) == []


@pytest.mark.parametrize("stage", ["images", "listing"])
def test_what_a_kill_has_left_is_removed_after_a_day_and_not_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    def die() -> None:
        monkeypatch.setattr(os, "replace", lambda *_: os._exit(7))
        note(tmp_path) if stage == "listing" else store.write(tmp_path, dying(), None, ())

    killed(die)
    assert len(asides(tmp_path)) == 1
    write(tmp_path)
    note(tmp_path)
    assert len(asides(tmp_path)) == 1
    two_days_on(monkeypatch)
    write(tmp_path)
    note(tmp_path)
    assert asides(tmp_path) == []


def test_where_folders_cannot_be_locked_pools_are_written_and_nothing_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr(fcntl, "flock", refuse)
    left = tmp_path / "pools" / ".aside-7-0123abcd"
    left.mkdir(parents=True)
    two_days_on(monkeypatch)
    content = write(tmp_path)
    assert (tmp_path / "pools" / content / "images.bin").read_bytes() == IMAGES.tobytes()
    assert asides(tmp_path) == [left]


def test_a_listing_that_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill_up(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", fill_up)
    with pytest.raises(OSError, match="No space"):
        note(tmp_path)
    assert asides(tmp_path) == []
    assert list((tmp_path / "sources").iterdir()) == []


@pytest.mark.parametrize("umask", [0o022, 0o007])
def test_another_user_may_read_a_cache_as_far_as_the_umask_says(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write(tmp_path / "cache")
        note(tmp_path / "cache")
    finally:
        os.umask(before)
    found = list((tmp_path / "cache").rglob("*"))
    assert len(found) == 7  # pools, a pool, its three files, sources and a listing
    for path in found:
        assert path.stat().st_mode & 0o777 == (0o777 if path.is_dir() else 0o666) & ~umask, path
