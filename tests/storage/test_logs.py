import errno
import json
import math
import os
import tracemalloc
from dataclasses import dataclass

import pytest

from equipoise.storage.logs import MAX_LINE, append, cut, drop_last, last_records, last_scores, records


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


def test_only_the_last_records_of_a_kind_are_dropped_and_a_log_without_them_stays_as_it_is(tmp_path):
    path = tmp_path / "log.jsonl"
    drop_last(path, lambda record: True)
    assert not path.exists()
    for number in (1, 2, 1, 1):
        append(path, {"number": number})
    before = path.stat()
    drop_last(path, lambda record: record["number"] == 2)
    assert path.stat() == before
    drop_last(path, lambda record: record["number"] == 1)
    assert [record["number"] for record in records(path)] == [1, 2]


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


@pytest.mark.parametrize("read", [records, lambda path: last_records(path, 9)])
def test_a_log_torn_at_any_byte_is_read_and_cut_without_that_record(tmp_path, read):
    path = tmp_path / "log.jsonl"
    whole = b'{"samples":1}\n{"samples":2,"name":"gr\xc3\xb6\xc3\x9fer"}\n'
    for size in range(14, len(whole)):
        for rest in (b"", b"\0" * 100):
            path.write_bytes(whole[:size] + rest)
            assert read(path) == [{"samples": 1}]
            assert cut(path, 0) == 1
            assert read(path) == []


@pytest.mark.parametrize(
    "line",
    [b"\0" * 4096, b"[" * 100_000 + b"]" * 100_000, b'{"a":' * 100_000, b"\xff\xfe", b"7", b'{"a":1e999}', b"NaN"],
)
def test_a_line_of_any_other_kind_is_left_out_by_every_reader(tmp_path, line):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"samples":1}\n' + line + b'\n{"samples":2}\n')
    assert records(path) == last_records(path, 5) == [{"samples": 1}, {"samples": 2}]
    assert cut(path, 1) == 1
    assert records(path) == [{"samples": 1}]


@pytest.mark.parametrize("is_torn", [False, True])
def test_a_line_of_100_mb_takes_no_such_memory(tmp_path, is_torn):
    path = tmp_path / "log.jsonl"
    with path.open("wb") as file:
        file.write(b'{"samples":1}\n')
        file.truncate(100_000_000)
        file.seek(100_000_000)
        file.write(b"" if is_torn else b'\n{"samples":2}\n')
    tracemalloc.start()
    try:
        assert last_records(path, 1) == ([] if is_torn else [{"samples": 2}])
        assert records(path) == [{"samples": 1}] if is_torn else [{"samples": 1}, {"samples": 2}]
        assert cut(path, 1) == (not is_torn)
        assert tracemalloc.get_traced_memory()[1] < 5 * MAX_LINE
    finally:
        tracemalloc.stop()


def test_cut_keeps_what_does_not_say_where_it_belongs_and_every_byte_of_what_stays(tmp_path):
    path = tmp_path / "log.jsonl"
    odd = [b'{"samples":%s}\n' % value for value in (b"true", b'"300"', b"null", b"[]", b"-5", b"1.5", b"{}")]
    odd += [b'{"other" : 1.50, "number": 123456789012345678901234567890}\n']
    path.write_bytes(
        b"".join(odd) + b'{"samples":201}\n{"samples":200.5}\n{"samples":1e300}\n{"samples":%d}\n' % 10**30
    )
    assert cut(path, 200) == 4
    assert path.read_bytes() == b"".join(odd)


def test_a_log_that_is_a_link_or_a_pipe_is_refused_and_what_it_leads_to_stays(tmp_path):
    (tmp_path / "precious.txt").write_bytes(b"one line\nand a half")
    path = tmp_path / "log.jsonl"
    path.symlink_to("precious.txt")
    with pytest.raises(OSError) as caught:  # noqa: PT011
        append(path, {"samples": 1})
    assert (caught.value.errno, caught.value.filename) == (errno.ELOOP, str(path))
    assert (tmp_path / "precious.txt").read_bytes() == b"one line\nand a half"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(OSError) as caught:  # noqa: PT011
        append(path, {"samples": 1})
    assert caught.value.errno == errno.ENOTSUP


def test_scores_are_the_records_that_say_after_how_many_samples_and_only_the_last_of_them_are_read(
    tmp_path, monkeypatch
):
    path = tmp_path / "log.jsonl"
    others = [b'{"samples":%s}\n' % value for value in (b"true", b'"300"', b"null", b"[]", b"-5", b"1.5")]
    path.write_bytes(b'{"samples":1}\n{}\n' + b"".join(others) + b'{"kid":0.5}\n{"samples":0}\n{"samples":7}\n')
    assert last_scores(path) == [{"samples": 1}, {"samples": 0}, {"samples": 7}]
    monkeypatch.setattr("equipoise.storage.logs.MOST_SCORES", 2)
    assert last_scores(path) == [{"samples": 0}, {"samples": 7}]
    assert last_scores(tmp_path / "none.jsonl") == []


@pytest.mark.parametrize("line", [b"{}\n", b'{"samples":2}\n'])
def test_a_log_of_very_many_records_takes_no_more_memory_than_those_that_are_kept(tmp_path, line):
    path = tmp_path / "log.jsonl"
    path.write_bytes(b'{"samples":1}\n' + line * 100_000)
    tracemalloc.start()
    try:
        assert len(last_scores(path)) == (1 if line == b"{}\n" else 10_000)
        assert len(last_records(path, 3)) == 3
        assert tracemalloc.get_traced_memory()[1] < 100_000 * 64  # an empty record takes as much
    finally:
        tracemalloc.stop()
