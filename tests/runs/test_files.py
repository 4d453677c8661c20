import math
import os

import pytest

from equipoise.errors import UserError
from equipoise.runs.files import read_json, readable, verify, write_bytes, write_json, written_whole


@pytest.mark.parametrize("function", ["replace", "fsync"])
def test_an_interrupted_write_leaves_the_old_file_and_nothing_beside_it(tmp_path, monkeypatch, function):
    path = tmp_path / "state.json"
    write_json(path, {"samples": 1})

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, function, fail)
    with pytest.raises(OSError, match="No space left"):
        write_json(path, {"samples": 2})
    assert read_json(path) == {"samples": 1}
    assert os.listdir(tmp_path) == ["state.json"]


def test_the_content_is_on_the_disk_before_the_name_is(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (calls.append("fsync"), fsync(file))[1])
    monkeypatch.setattr(os, "replace", lambda old, new: (calls.append("replace"), replace(old, new))[1])
    write_bytes(tmp_path / "a", b"1")
    assert calls == ["fsync", "replace", "fsync"]


def test_json_is_strict_and_readable_by_others(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"kid": math.nan, "list": [math.inf]})
    assert read_json(path) == {"kid": None, "list": [None]}
    assert path.stat().st_mode & 0o777 == 0o644


def test_damaged_json_is_one_line_that_names_the_file(tmp_path):
    assert read_json(tmp_path / "none.json") is None
    for text in (b'{"a": 1', b"\xff\xfe", b"", b"[1]"):
        (tmp_path / "a.json").write_bytes(text)
        with pytest.raises(UserError, match=r"a\.json: damaged") as caught:
            read_json(tmp_path / "a.json")
        assert "\n" not in str(caught.value)


def test_a_folder_that_cannot_be_filled_leaves_the_old_one_and_nothing_beside_it(tmp_path):
    with written_whole(tmp_path / "best") as folder:
        (folder / "a").write_text("1")

    def fill():
        with written_whole(tmp_path / "best") as folder:
            (folder / "a").write_text("2")
            raise OSError("the disk is full")

    with pytest.raises(OSError, match="full"):
        fill()
    assert os.listdir(tmp_path) == ["best"]
    assert (tmp_path / "best" / "a").read_text() == "1"
    assert verify(tmp_path / "best") is None


def test_a_manifest_speaks_of_sub_folders_too(tmp_path):
    with written_whole(tmp_path / "best") as folder:
        (folder / "deep").mkdir()
        (folder / "deep" / "a").write_text("1")
    assert verify(tmp_path / "best") is None
    (tmp_path / "best" / "deep" / "a").write_text("2")
    assert verify(tmp_path / "best") == "deep/a does not match its SHA-256"
    (tmp_path / "best" / "deep" / "a").unlink()
    assert verify(tmp_path / "best") == "deep/a is missing"


def test_between_two_renames_the_old_folder_is_the_readable_one(tmp_path):
    (tmp_path / ".best.old").mkdir()
    assert readable(tmp_path / "best") == tmp_path / ".best.old"
    (tmp_path / "best").mkdir()
    assert readable(tmp_path / "best") == tmp_path / "best"


def test_only_the_files_asked_for_may_stand_in_a_manifest_and_none_is_a_link(tmp_path):
    with written_whole(tmp_path / "best") as folder:
        (folder / "a").write_text("1")
        (folder / "b").write_text("2")
    best = tmp_path / "best"
    assert verify(best, ["a", "b"]) is None
    assert verify(best, ["a"]) == "manifest.json speaks of a file that does not belong here: 'b'"
    assert verify(best, ["a", "b", "c"]) == "manifest.json does not speak of c"
    (best / "a").rename(tmp_path / "elsewhere")
    (best / "a").symlink_to(tmp_path / "elsewhere")
    assert verify(best) is None, "a loop of one's own may keep links"
    assert verify(best, ["a", "b"]) == "a is a link"


def test_json_of_endless_depth_or_size_or_from_a_pipe_is_one_line(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    path.write_text('{"a":' * 100_000)
    with pytest.raises(UserError, match="damaged"):
        read_json(path)
    path.write_text('{"a": 1}')
    monkeypatch.setattr("equipoise.runs.files.MAX_JSON_BYTES", 7)
    with pytest.raises(UserError, match="more than 7 bytes"):
        read_json(path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UserError, match="no regular file"):
        read_json(path)
