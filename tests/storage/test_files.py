import errno
import math
import os

import pytest

from equipoise.errors import StorageError, UserError
from equipoise.storage.files import read_json, readable, replaced, tidy, verify, write_bytes, write_json, written_whole


def test_a_file_that_cannot_be_filled_leaves_the_old_one_and_nothing_beside_it(tmp_path):
    path = tmp_path / "weights"
    path.write_bytes(b"old")

    def fill():
        with replaced(path) as file:
            file.write(b"half of the new")
            raise OSError("the connection is gone")

    with pytest.raises(OSError, match="gone"):
        fill()
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["weights"]


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


def test_every_file_of_a_folder_is_on_the_disk_before_its_name_is(tmp_path, monkeypatch):
    calls = []
    fsync, rename = os.fsync, os.rename
    monkeypatch.setattr(os, "fsync", lambda file: (calls.append(os.readlink(f"/proc/self/fd/{file}")), fsync(file))[1])
    monkeypatch.setattr(os, "rename", lambda old, new: (calls.append("rename"), rename(old, new))[1])
    with written_whole(tmp_path / "best") as folder:
        (folder / "deep").mkdir()
        (folder / "deep" / "a").write_text("1")
    *content, last, parent = calls
    assert {os.path.basename(path) for path in content} == {"a", "deep", "manifest.json", ".best.partial"}
    assert (last, parent) == ("rename", str(tmp_path))


def test_json_is_strict_and_readable_by_others(tmp_path):
    path = tmp_path / "a.json"
    write_json(path, {"kid": math.nan, "list": [math.inf]})
    assert read_json(path) == {"kid": None, "list": [None]}
    assert path.stat().st_mode & 0o777 == 0o644


def test_damaged_json_is_one_line_that_names_the_file(tmp_path):
    assert read_json(tmp_path / "none.json") is None
    for text in (b'{"a": 1', b"\xff\xfe", b"", b"[1]"):
        (tmp_path / "a.json").write_bytes(text)
        with pytest.raises(UserError) as caught:
            read_json(tmp_path / "a.json", "Write it again")
        assert caught.value.subject == tmp_path / "a.json"
        assert "damaged" in caught.value.problem
        assert caught.value.remedies == ("Write it again",)
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
    assert verify(best, ["a"]) == "manifest.json lists a file that does not belong here: 'b'"
    assert verify(best, ["a", "b", "c"]) == "manifest.json does not list c"
    (best / "a").rename(tmp_path / "elsewhere")
    (best / "a").symlink_to(tmp_path / "elsewhere")
    assert verify(best) is None, "a loop of one's own may keep links"
    assert verify(best, ["a", "b"]) == "a is a link"


@pytest.mark.parametrize(("number", "kind", "what"), [(errno.EIO, 4, "disk"), (errno.EACCES, 2, "permissions")])
def test_json_on_a_failing_disk_is_told_as_the_disks_fault(tmp_path, monkeypatch, number, kind, what):
    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("equipoise.storage.files.read_bytes", fail)
    with pytest.raises(UserError) as caught:
        read_json(tmp_path / "a.json")
    assert caught.value.subject == tmp_path / "a.json"
    assert os.strerror(number) in caught.value.problem
    (remedy,) = caught.value.remedies
    assert what in str(remedy)
    assert isinstance(caught.value, StorageError) == (kind == 4)


def test_json_of_endless_depth_or_size_or_from_a_pipe_is_one_line(tmp_path, monkeypatch):
    path = tmp_path / "a.json"

    def problem() -> str:
        with pytest.raises(UserError) as caught:
            read_json(path)
        assert caught.value.subject == path
        assert "\n" not in str(caught.value)
        return caught.value.problem

    path.write_text('{"a":' * 100_000)
    assert "damaged" in problem()
    path.write_text('{"a": 1}')
    monkeypatch.setattr("equipoise.storage.files.MAX_JSON_BYTES", 7)
    assert "more than 7 bytes" in problem()
    path.unlink()
    os.mkfifo(path)
    assert "not a regular file" in problem()


KEPT_FOLDERS = (".notes.old", ".notes.partial", ".old", ".best", ".best.bak", ".-1.gone", ".1x.partial", ".aside-x")
KEPT_FOLDERS += (".aside-12-0123abcd", ".²².gone")


def test_what_a_kill_left_is_cleared_up_and_what_the_user_left_is_not(tmp_path):
    for name in ("best", "64", ".best.partial", ".64.gone", ".000000000128.partial", ".64.old", *KEPT_FOLDERS):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    for name in (".aside-7-0123abcd", ".aside-mine", ".aside-7-0123abcd.txt", ".256.partial"):
        (tmp_path / name).write_text(name)
    tidy(tmp_path)
    kept = {"best", "64", *KEPT_FOLDERS, ".aside-mine", ".aside-7-0123abcd.txt", ".256.partial"}
    assert set(os.listdir(tmp_path)) == kept
    assert all((tmp_path / name / "file").read_text() == name for name in KEPT_FOLDERS)


def test_a_replacement_cut_short_is_undone_and_no_link_is_followed(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").touch()
    run = tmp_path / "run"
    run.mkdir()
    (run / ".64.old").mkdir()
    (run / "128").symlink_to(tmp_path / "nowhere")
    (run / ".128.old").mkdir()
    for name in (".best.partial", ".best.old", ".32.gone", ".aside-7-0123abcd"):
        (run / name).symlink_to(tmp_path / "mine")
    tidy(run)
    assert (run / "64").is_dir()
    assert not (run / ".64.old").exists()
    assert (run / "128").is_symlink()
    assert (run / ".128.old").is_dir(), "nobody knows what the link was to lead to"
    assert (tmp_path / "mine" / "file").exists()
    assert not (run / "best").exists()


def test_what_is_written_aside_is_what_tidy_clears_up(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", lambda *_: os._exit(0) if os.getpid() != parent else None)
        parent, child = os.getpid(), os.fork()
        if child == 0:
            write_bytes(tmp_path / "state.json", b"1")
    os.waitpid(child, 0)
    assert len(os.listdir(tmp_path)) == 1
    tidy(tmp_path)
    assert os.listdir(tmp_path) == []
