import math
import os

import pytest

from equipoise.errors import UserError
from equipoise.runs.files import read_json, write_bytes, write_json


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
