"""Zip and npz files made to do harm: nothing goes onto the disk, memory is bounded, and each says what is wrong."""

import contextlib
import io
import os
import struct
import tracemalloc
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpus import encoded
from PIL import Image

from equipoise.data import archives, arrays, sources
from equipoise.data.decode import BrokenImage
from equipoise.data.sources import SourceImages, open_source
from equipoise.errors import UserError


def png(shade: int = 0) -> bytes:
    return encoded(Image.new("L", (8, 8), shade))


def zipped(path: Path, *members: tuple[Any, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", method) as archive:
        warnings.simplefilter("ignore")  # zipfile's own, of names that are there twice
        for name, content in members:
            archive.writestr(name, content)
    return path


def loaded(path: Path) -> SourceImages:
    """Load a source, and see that nothing is put onto the disk."""
    before = sorted(os.listdir(path.parent))
    images = open_source(str(path)).load()
    assert sorted(os.listdir(path.parent)) == before
    return images


def refused(path: Path, *parts: str, array: str | None = None) -> UserError:
    """Return the one line that refuses a source, or an array of it, and see that its problem holds these parts."""
    with pytest.raises(UserError) as caught:
        loaded(path)
    assert caught.value.subject == f'source "{path}"' + (f', array "{array}"' if array else "")
    assert len(str(caught.value).splitlines()) == 1
    assert len(str(caught.value)) < 1000
    for part in parts:
        assert part in caught.value.problem
    return caught.value


def info(name: str, mode: int = 0o100644, **changes: Any) -> zipfile.ZipInfo:
    member = zipfile.ZipInfo(name)
    member.create_system, member.external_attr = 3, mode << 16
    for key, value in changes.items():
        setattr(member, key, value)
    return member


def patched(path: Path, *changes: tuple[bytes, bytes]) -> Path:
    data = path.read_bytes()
    for old, new in changes:
        assert old in data
        assert len(old) == len(new)
        data = data.replace(old, new)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    "name",
    [
        "../up.png",
        "/root.png",
        "C:/drive.png",
        "c:drive.png",
        "a\\b.png",
        "..\\up.png",
        "x/../../up.png",
        "bell\x07.png",
        "new\nline.png",
        "escape\x1b[31m.png",
        "delete\x7f.png",
        "control\x9b.png",
        "long/" * 300 + "a.png",
    ],
)
def test_names_that_lead_elsewhere_or_cannot_be_shown_are_ignored(tmp_path: Path, name: str) -> None:
    images = loaded(zipped(tmp_path / "a.zip", (name, png()), ("good.png", png())))
    assert list(images.names) == ["good.png"]
    assert images.num_skipped == 1
    shown = " ".join(name[:80].splitlines())
    assert shown in str(refused(zipped(tmp_path / "b.zip", (name, png())), "unsafe"))


def test_a_name_that_goes_on_behind_a_nul_is_ignored(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", ("evil.png#x", png()), ("good.png", png()))
    assert list(loaded(patched(path, (b"evil.png#x", b"evil.png\0x"))).names) == ["good.png"]


def test_ordinary_names_of_other_scripts_are_taken(tmp_path: Path) -> None:
    names = ["größe.png", "写真\u3000一.png", "..hidden/..a.png", "dots...png"]
    members = [(name, png()) for name in names]
    assert set(loaded(zipped(tmp_path / "a.zip", *members)).names) == set(names) - {"..hidden/..a.png"}


def test_names_that_are_no_utf8_are_one_line_or_taken(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", ("größe.png", png()))
    refused(patched(path, ("größe".encode(), b"gr\xff\xfe\xffe\xff")), "a zip file")


@pytest.mark.parametrize("mode", [0o120777, 0o020666, 0o060666, 0o010666, 0o140777, 0o040755])
def test_links_and_devices_are_no_images(tmp_path: Path, mode: int) -> None:
    images = loaded(zipped(tmp_path / "a.zip", (info("a.png", mode), b"/etc/passwd"), ("b.png", png())))
    with pytest.raises(BrokenImage, match="link"):
        images.read(0)
    assert images.read(1) == png()
    assert list(loaded(zipped(tmp_path / "b.zip", (info("a", mode), png()), ("b.png", png()))).names) == ["b.png"]


def test_the_second_of_two_equal_names_is_dropped_with_a_reason(tmp_path: Path) -> None:
    images = loaded(zipped(tmp_path / "a.zip", ("a.png", png(1)), ("b.png", png(3)), ("a.png", png(2))))
    assert list(images.names) == ["a.png", "a.png", "b.png"]
    assert images.read(0) == png(1)
    with pytest.raises(BrokenImage, match="second"):
        images.read(1)
    assert images.read(2) == png(3)


def test_encrypted_files_are_told(tmp_path: Path) -> None:
    path = zipped(tmp_path / "a.zip", ("a.png", png()), ("b", png()), ("c.png", png()))
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        entries = archive.start_dir
    for _ in range(2):
        at = data.index(b"PK\1\2", entries)
        data[at + 8] |= 1
        entries = at + 4
    path.write_bytes(data)
    images = loaded(path)
    assert list(images.names) == ["a.png", "c.png"]
    with pytest.raises(BrokenImage, match="encrypted"):
        images.read(0)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_unpack_without_a_bound_are_refused_whatever_size_they_claim(tmp_path: Path, method: int) -> None:
    bomb = b"\0" * 30_000_000  # 30 MB in 30 bytes or so
    path = zipped(tmp_path / "a.zip", ("a.png", bomb), ("b", bomb), ("c.png", png()), method=method)
    patched(path, (struct.pack("<L", len(bomb)), struct.pack("<L", 100)))
    tracemalloc.start()
    try:
        images = loaded(path)
        with pytest.raises(BrokenImage, match="method"):
            images.read(0)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_a_zip_within_a_zip_is_not_looked_into(tmp_path: Path) -> None:
    inner = zipped(tmp_path / "inner.zip", ("a.png", png())).read_bytes()
    found = zipped(tmp_path / "a.zip", ("inner.zip", inner), ("inner", inner))
    refused(found, "2 files", "1 .zip", "1 without a suffix")


def raw_zip(path: Path, body: bytes, entries: list[tuple[str, int, int, int, int]]) -> Path:
    """Write a zip whose directory says anything: name, place of the local header, packed and unpacked size, CRC."""
    directory = b"".join(
        struct.pack(
            "<4s4B4HL2L5H2L", b"PK\1\2", 20, 3, 20, 0, 0, 8, 0, 0, crc, packed, size, len(name), 0, 0, 0, 0, 0, at
        )
        + name.encode()
        for name, at, packed, size, crc in entries
    )
    num = min(len(entries), 65_535)
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, num, num, len(directory), len(body), 0)
    path.write_bytes(body + directory + end)
    return path


def local(name: str, packed: bytes, size: int, crc: int) -> bytes:
    return (
        struct.pack("<4s5H3L2H", b"PK\3\4", 20, 0, 8, 0, 0, crc, len(packed), size, len(name), 0)
        + name.encode()
        + packed
    )


def test_members_that_overlap_as_in_a_zip_bomb_are_dropped(tmp_path: Path) -> None:
    content = os.urandom(50_000) * 4
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(content) + packer.flush()
    crc = zlib.crc32(content)
    body = local("0.png", packed, len(content), crc)
    entries = [(f"{index}.png", 0, len(packed), len(content), crc) for index in range(1000)]
    images = loaded(raw_zip(tmp_path / "a.zip", body, entries))
    assert len(images.names) == 1000
    assert images.read(0) == content
    for index in range(1, 1000):
        with pytest.raises(BrokenImage, match="overlaps"):
            images.read(index)


def test_a_member_that_lies_about_its_size_gives_no_more_than_it_claims(tmp_path: Path) -> None:
    content = b"\0" * 20_000_000
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(content) + packer.flush()
    body = local("a.png", packed, 1000, 0)
    images = loaded(raw_zip(tmp_path / "a.zip", body, [("a.png", 0, len(packed), 1000, 0)]))
    tracemalloc.start()
    try:
        with pytest.raises(BrokenImage, match="damaged"):
            images.read(0)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()
    images = loaded(raw_zip(tmp_path / "b.zip", body, [("a.png", 0, len(packed), 2**32 - 2, 0)]))
    with pytest.raises(BrokenImage, match="large"):
        images.read(0)


def test_a_million_tiny_members_are_counted_before_they_are_listed(tmp_path: Path, monkeypatch: Any) -> None:
    entries = [("", 0, 0, 0, 0)] * 200_000
    path = raw_zip(tmp_path / "a.zip", b"", entries)
    monkeypatch.setattr(sources, "MAX_MEMBERS", 100_000)
    monkeypatch.setattr(zipfile, "ZipFile", lambda *_: pytest.fail("listed"))
    tracemalloc.start()
    try:
        refused(path, "200000 files", "100000")
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def with_two(path: Path) -> tuple[Path, bytes, int]:
    """Return a zip of two images, its bytes, and how long its list of files is."""
    data = zipped(path, ("a.png", png()), ("b.png", png())).read_bytes()
    return path, data, data.rindex(b"PK\5\6") - data.index(b"PK\1\2")


def zip64(path: Path, length: int, num: int = 1) -> Path:
    """Give a zip a second end, for large files, that says how long its list is."""
    data = path.read_bytes()
    at = data.rindex(b"PK\5\6")
    start = data.index(b"PK\1\2")
    large = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, num, num, length, start)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, at, 1)
    path.write_bytes(data[:at] + large + locator + data[at:])
    return path


def test_an_end_record_for_large_files_is_read_and_its_lies_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _, length = with_two(tmp_path / "a.zip")
    assert len(loaded(zip64(path, length, 2)).names) == 2
    monkeypatch.setattr(sources, "MAX_MEMBERS", 1)
    refused(path, "2 files; at most 1 ")
    monkeypatch.undo()
    for lie in (0, 1, 2**31, 2**40, 2**63 - 1, 2**64 - 1):
        with_two(path)
        refused(zip64(path, lie))


def left_to_large(path: Path) -> Path:
    """Let the end record of a zip leave its numbers to the one for large files, as other writers of zips do."""
    data = path.read_bytes()
    at = data.rindex(b"PK\5\6")
    path.write_bytes(data[:at] + struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, *[2**16 - 1] * 2, *[2**32 - 1] * 2, 0))
    return path


def test_an_end_record_that_leaves_its_numbers_to_the_one_for_large_files_is_read_and_still_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, data, length = with_two(tmp_path / "a.zip")
    assert loaded(left_to_large(zip64(path, length, 2))).read(1) == png()
    monkeypatch.setattr(sources, "MAX_MEMBERS", 1)
    refused(path, "2 files; at most 1 ")
    (tmp_path / "b.zip").write_bytes(b"something before" * 1000 + path.read_bytes())
    refused(tmp_path / "b.zip", "2 files; at most 1 ")
    monkeypatch.undo()
    for lie in (2**31 + 1, 2**32 - 1, 2**40, 2**64 - 1):
        path.write_bytes(data)
        refused(left_to_large(zip64(path, lie)), "2 GiB")
    path.write_bytes(data)
    refused(left_to_large(path), "2 GiB")  # and there is none for large files


def test_a_list_that_only_one_of_two_end_records_tells_of_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zipfile, "ZipFile", lambda *_: pytest.fail("listed"))
    monkeypatch.setattr(sources, "MAX_MEMBERS", 100)
    path = raw_zip(tmp_path / "a.zip", b"", [("", 0, 0, 0, 0)] * 200)
    data = zip64(path, 200 * 46, 200).read_bytes()
    at = data.rindex(b"PK\5\6") + 12
    path.write_bytes(data[:at] + struct.pack("<L", 46) + data[at + 4 :])  # a short list, says the other
    refused(path, "200 files; at most 100 ")


def test_names_in_thousands_of_folders_are_ignored_soon(tmp_path: Path) -> None:
    deep = "a/" * sources.MAX_DEPTH
    images = loaded(zipped(tmp_path / "a.zip", (f"{deep}b.png", png(1)), (f"{deep}b/c.png", png(2))))
    assert list(images.names) == [f"{deep}b.png"]
    assert images.skipped == {"more than 64 folders deep": 1}
    entries = [("a/" * 500 + f"{index}.png", 0, 0, 0, 0) for index in range(5_000)]
    entries.append(("a/" * 500 + "recipe.json", 0, 0, 0, 0))
    refused(raw_zip(tmp_path / "b.zip", b"", entries), "5001 files", "5001 more than 64 folders deep")


def test_wrong_directories_are_one_line(tmp_path: Path) -> None:
    whole = zipped(tmp_path / "a.zip", ("a.png", png())).read_bytes()
    end = whole.rindex(b"PK\5\6")
    for place, length in ((8, 2), (10, 2), (12, 4), (16, 4), (20, 2)):
        for value in (0, 1, 2 ** (8 * length) - 1, 2 ** (8 * length - 1)):
            data = bytearray(whole)
            data[end + place : end + place + length] = value.to_bytes(length, "little")
            (tmp_path / "a.zip").write_bytes(data)
            with contextlib.suppress(UserError, BrokenImage):
                loaded(tmp_path / "a.zip").read(0)


def test_many_recipes_in_a_zip_do_not_take_forever(tmp_path: Path) -> None:
    members = [(f"{index}/recipe.json", b"") for index in range(20_000)]
    refused(zipped(tmp_path / "a.zip", *members), "20000 .json files")


def test_a_pipe_named_like_an_archive_keeps_nobody_waiting(tmp_path: Path) -> None:
    for name in ("a.zip", "a.npz"):
        os.mkfifo(tmp_path / name)
        refused(tmp_path / name, "neither")


# Arrays


def npy(header: str | bytes, body: bytes = b"", version: tuple[int, int] = (1, 0)) -> bytes:
    text = header.encode() if isinstance(header, str) else header
    length = struct.pack("<H" if version == (1, 0) else "<I", len(text))
    return b"\x93NUMPY" + bytes(version) + length + text + body


def headed(dtype: str, shape: str, order: str = "False", body: bytes = b"") -> bytes:
    return npy(f"{{'descr': {dtype}, 'fortran_order': {order}, 'shape': {shape}}}\n", body)


def test_a_header_of_a_million_million_elements_takes_no_memory(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(np, "empty", lambda *_: pytest.fail("memory taken"))
    for shape in ("(1000000000000, 8, 8)", "(2305843009213693952, 8)", "(4, 8, 8)", "(-1, 8, 8)", "(-4, -8, 8)"):
        zipped(tmp_path / "a.npz", ("images.npy", headed("'|u1'", shape, body=b"\0" * 64)))
        refused(tmp_path / "a.npz", "promises", array="images")


HEADERS = {
    "code": npy("__import__('os').system('touch canary')"),
    "code within": headed("__import__('os').system('touch canary')", "(1, 8, 8)"),
    "a lambda": headed("(lambda: 1)()", "(1, 8, 8)"),
    "deep": npy("(" * 5000 + ")" * 5000),
    "deeper": npy("[" * 60_000),
    "a power": headed("'|u1'", "(9**9**9,)"),
    "no dict": npy("[1, 2]"),
    "no text": npy(b"\xff\xfe\0"),
    "no shape": npy("{'descr': '|u1', 'fortran_order': False}"),
    "a shape of text": headed("'|u1'", "('a', 8, 8)"),
    "a shape of fractions": headed("'|u1'", "(1.5, 8, 8)"),
    "objects": headed("'|O'", "(1, 8, 8)", body=b"\0" * 512),
    "objects within": headed("[('a', '|O')]", "(1, 8, 8)", body=b"\0" * 512),
    "a structure": headed("[('a', '|u1'), ('b', '|u1')]", "(1, 8, 8)", body=b"\0" * 128),
    "nothing, very often": headed("'|S0'", "(1000000000000, 8, 8)"),
    "void": headed("'|V1'", "(1, 8, 8)", body=b"\0" * 64),
    "times": headed("'<M8[s]'", "(1, 8, 8)", body=b"\0" * 512),
    "complex": headed("'<c8'", "(1, 8, 8)", body=b"\0" * 512),
    "an unknown type": headed("'<q99'", "(1, 8, 8)"),
    "version 3": npy("{'descr': '|u1', 'fortran_order': False, 'shape': (1, 8, 8)}", b"\0" * 64, (3, 0)),
    "version 9": npy("{'descr': '|u1', 'fortran_order': False, 'shape': (1, 8, 8)}", b"\0" * 64, (9, 9)),
    "a header without an end": npy("{")[:-1],
    "no dimension": headed("'|u1'", "()", body=b"\0"),
    "no width": headed("'|u1'", "(1, 0, 8)"),
    "very many dimensions": headed("'|u1'", "(" + "1," * 64 + ")", body=b"\0"),
    "too many dimensions": headed("'|u1'", "(" + "1," * 1000 + ")", body=b"\0"),
    "empty": b"",
    "words": b"words",
}


@pytest.mark.parametrize("content", HEADERS.values(), ids=HEADERS.keys())
def test_arrays_of_every_wrong_kind_are_one_line(
    tmp_path: Path, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(zipped(tmp_path / "a.npz", ("images.npy", content)), array="images")
    images = headed("'|u1'", "(2, 8, 8)", body=b"\0" * 128)
    refused(zipped(tmp_path / "a.npz", ("images.npy", images), ("labels.npy", content)), array="labels")
    assert os.listdir(tmp_path) == ["a.npz"], "nothing was run"


def test_arrays_in_the_order_of_fortran_are_read_as_they_are(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (5, 8, 6, 3), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", images=np.asfortranarray(values), labels=np.arange(5))
    images = loaded(tmp_path / "a.npz")
    assert images.array is not None
    assert (images.array == values).all()


@pytest.mark.parametrize("dtype", ["<u1", ">u2", "<i8", "<f4", ">f8", "|b1", "<U3", "|S4"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 4), (2, 3, 4)])
def test_every_ordinary_array_comes_back(dtype: str, shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(0).integers(0, 2, shape).astype(dtype)
    file = io.BytesIO()
    np.save(file, values)
    file.seek(0)
    read = arrays.read_array(file, len(file.getvalue()))
    assert read.dtype == values.dtype
    assert read.shape == values.shape
    assert (read == values).all()


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.array(3), "shape ()"),
        (np.array([[1, 2], [3, 4]]), "shape (2, 2)"),
        (np.array([1.0, np.nan]), "fractions"),
        (np.array([1.0, np.inf]), "fractions"),
        (np.array([1.0, 1e300]), "fractions"),
        (np.array([1j, 2j]), "complex"),
        (np.array([1, 2], dtype="M8[s]"), "datetime"),
        (np.frombuffer(b"\xff" * 8, dtype="<U1"), "text"),
    ],
)
def test_labels_of_every_wrong_kind_are_one_line(tmp_path: Path, labels: np.ndarray, words: str) -> None:
    np.savez(tmp_path / "a.npz", images=np.zeros((2, 8, 8), np.uint8), labels=labels)
    refused(tmp_path / "a.npz", words, array="labels")


def test_class_names_can_be_written_whatever_they_are(tmp_path: Path) -> None:
    labels = np.frombuffer("cat\ud800".encode("utf-32-le", "surrogatepass"), dtype="<U4")
    np.savez(tmp_path / "a.npz", images=np.zeros((2, 8, 8), np.uint8), labels=np.array([labels[0], "dog"]))
    images = loaded(tmp_path / "a.npz")
    assert "".join(images.classes).encode() == b"cat?dog"


def test_npz_parts_are_checked_each_for_themselves(tmp_path: Path) -> None:
    parts = {"x_train": np.zeros((3, 8, 8), np.uint8), "y_train": np.arange(3)}
    np.savez(tmp_path / "a.npz", **parts, x_test=np.zeros((2, 8, 8), np.uint8), y_test=np.array(1))
    refused(tmp_path / "a.npz", "shape ()", array="y_test")


def test_two_arrays_of_one_name_and_other_oddities_of_an_npz_are_one_line(tmp_path: Path) -> None:
    image = headed("'|u1'", "(1, 8, 8)", body=b"\0" * 64)
    refused(zipped(tmp_path / "a.npz", ("images.npy", image), ("images.npy", image)), "two", '"images"')
    refused(zipped(tmp_path / "a.npz", ("images.npy", image), ("images", image)), "two", '"images"')
    path = zipped(tmp_path / "b.npz", ("images.npy", image))
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(data)
    refused(path, "encrypted", array="images")
    for method in (zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        refused(zipped(path, ("images.npy", image), method=method), "method", array="images")
    refused(zipped(path, *((f"{index}.npy", b"") for index in range(arrays.MAX_ARRAYS + 1))), "10001", "at most 10000 ")


@pytest.mark.parametrize("read", [lambda path: zipfile.ZipFile(path).infolist()])
def test_at_least_as_many_members_are_counted_as_zipfile_lists(
    tmp_path: Path, read: Callable[[Path], list[Any]]
) -> None:
    path = zipped(tmp_path / "a.zip", *((f"{index}.png", png()) for index in range(500)))
    with path.open("rb") as file:
        assert archives._num_listed(file) == 500 == len(read(path))
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = b"x" * 60_000
    (tmp_path / "b.zip").write_bytes(b"something before" * 1000 + path.read_bytes())
    for name in ("a.zip", "b.zip"):
        with (tmp_path / name).open("rb") as file:
            assert archives._num_listed(file) == 500
