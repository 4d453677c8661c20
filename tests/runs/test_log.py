import json
import math
import os
from dataclasses import dataclass

import pytest

from equipoise.runs.log import append, cut, last_records, records


def test_a_log_torn_at_any_byte_of_its_last_record_loses_that_record_only(tmp_path):
    path = tmp_path / "log.jsonl"
    append(path, {"samples": 1, "name": "größer"})
    whole = path.read_bytes()
    append(path, {"samples": 2, "name": "größer"})
    both = path.read_bytes()
    for size in range(len(whole), len(both)):
        path.write_bytes(both[:size])
        assert [record["samples"] for record in records(path)] == [1]
        assert [record["samples"] for record in last_records(path, 5)] == [1]
        append(path, {"samples": 3})  # what was torn must not swallow the next record
        assert [record["samples"] for record in records(path)] == [1, 3]
    path.write_bytes(both)
    assert len(records(path)) == 2


def test_a_first_record_that_was_torn_is_removed_whatever_its_length(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"message": "' + b"x" * 200_000)
    append(path, {"samples": 1})
    assert records(path) == [{"samples": 1}]


def test_numbers_that_json_does_not_know_become_null(tmp_path):
    @dataclass
    class Numbers:
        samples: int = 1
        loss: float = math.nan

    path = tmp_path / "log.jsonl"
    append(path, Numbers())
    append(path, {"loss": -math.inf})

    def refuse(word):
        raise AssertionError(word)

    lines = [json.loads(line, parse_constant=refuse) for line in path.read_text().splitlines()]
    assert lines == [{"samples": 1, "loss": None}, {"loss": None}]


def test_each_record_is_one_write(tmp_path, monkeypatch):
    writes = []
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, data: (writes.append(data), write(file, data))[1])
    append(tmp_path / "log.jsonl", {"samples": 1})
    assert writes == [b'{"samples":1}\n']


def test_a_full_disk_leaves_no_half_line(tmp_path, monkeypatch):
    path = tmp_path / "log.jsonl"
    append(path, {"samples": 1})
    before = path.read_bytes()
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda file, data: write(file, data[:5]))
        with pytest.raises(OSError, match="No space left"):
            append(path, {"samples": 2})
    assert path.read_bytes() == before


def test_cut_drops_what_lies_beyond_a_checkpoint(tmp_path):
    path = tmp_path / "log.jsonl"
    for samples in (100, 200, 200, 300):
        append(path, {"samples": samples, "loss": math.nan})
    with path.open("ab") as file:
        file.write(b'{"samples": 40')
    assert cut(path, 200) == 1
    assert [record["samples"] for record in records(path)] == [100, 200, 200]
    before = path.stat().st_mtime_ns
    assert cut(path, 200) == 0
    assert path.stat().st_mtime_ns == before
    assert cut(path, 0) == 3
    assert records(path) == []
    assert cut(tmp_path / "none.jsonl", 0) == 0


@pytest.mark.parametrize("num", [1, 7, 5000, 10_000])
def test_the_last_records_are_those_of_the_whole_log(tmp_path, num):
    path = tmp_path / "log.jsonl"
    lines = b"".join(
        json.dumps({"samples": index, "text": "x" * (index % 90)}).encode() + b"\n" for index in range(6000)
    )
    path.write_bytes(lines)
    assert last_records(path, num) == records(path)[-num:]


def test_an_unreadable_line_within_a_log_is_left_out(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"samples": 1}\n\0\0\0\0\n[1]\n{"samples": 2}\n')
    assert records(path) == [{"samples": 1}, {"samples": 2}]
    assert records(tmp_path / "none.jsonl") == last_records(tmp_path / "none.jsonl", 3) == []
