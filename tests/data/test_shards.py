"""Shards of images: found in a folder or given alone, read in place, with the classes that lie beside the images."""

import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from corpus import encoded
from PIL import Image

from equipoise.data import tars
from equipoise.data.decode import BrokenImage
from equipoise.data.listing import SourceImages
from equipoise.data.pool import prepare
from equipoise.data.sources import open_source
from equipoise.errors import UserError
from equipoise.recipe import Data


def png(shade: int = 0) -> bytes:
    return encoded(Image.new("L", (8, 8), shade))


def shard(path: Path, files: Mapping[str, bytes], form: int = tarfile.USTAR_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def loaded(source: Path) -> SourceImages:
    return open_source(str(source)).load()


def pixels(images: SourceImages) -> list[int]:
    return [
        int(np.asarray(Image.open(io.BytesIO(bytes(images.read(place)))))[0, 0]) for place in range(len(images.names))
    ]


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize(
    "name", ["1.png", "a/" * 40 + "b" * 90 + ".png", "Bär/" + "ö" * 60 + ".png", "c" * 99 + ".png"]
)
def test_names_of_every_length_and_script_come_back_from_every_format(tmp_path: Path, form: int, name: str) -> None:
    if form == tarfile.USTAR_FORMAT and len(name.encode()) > 100:
        name = "long/" * 20 + "d" * 90 + ".png"  # parted over two fields
    path = shard(tmp_path / "a.tar", {"first.png": png(1), name: png(2), "last.png": png(3)}, form)
    images = loaded(path)
    assert list(images.names) == ["first.png", name, "last.png"]
    assert pixels(images) == [1, 2, 3]


def test_a_folder_of_shards_is_one_set_in_the_order_of_shards_and_members(tmp_path: Path) -> None:
    shard(tmp_path / "b.tar", {"2.png": png(3)})
    shard(tmp_path / "a.tar", {"9.png": png(1), "1.png": png(2)})
    (tmp_path / "README.md").write_text("about")
    images = loaded(tmp_path)
    assert list(images.names) == ["a.tar/9.png", "a.tar/1.png", "b.tar/2.png"]
    assert pixels(images) == [1, 2, 3]
    assert images.skipped == {".md": 1}
    assert images.labels is None


def test_classes_lie_beside_the_images_as_cls_or_json(tmp_path: Path) -> None:
    shard(tmp_path / "0.tar", {"a.png": png(1), "a.cls": b"10\n", "b.cls": b"2", "b.png": png(2)})
    shard(tmp_path / "1.tar", {"a.png": png(3), "a.json": json.dumps({"label": 2, "width": 8}).encode()})
    images = loaded(tmp_path)
    assert images.classes == ("2", "10")
    assert images.labels is not None
    assert images.labels.tolist() == [1, 0, 0]
    assert images.num_skipped == 0


@pytest.mark.parametrize(
    "text", [b"no json", b"[1]", b'{"label": 1.5}', b'{"label": 1, "class": 2}', b'{"label": true}']
)
def test_a_json_that_does_not_plainly_say_a_class_says_none(tmp_path: Path, text: bytes) -> None:
    path = shard(tmp_path / "0.tar", {"a.png": png(1), "a.json": text, "b.png": png(2), "b.json": text})
    assert loaded(path).labels is None


def test_classes_that_most_images_lack_are_not_used_and_that_is_said(tmp_path: Path) -> None:
    files = {f"{place}.png": png(place) for place in range(10)}
    images = loaded(shard(tmp_path / "0.tar", files | {"0.cls": b"1", "1.cls": b"0"}))
    assert images.labels is None
    assert "2 of 10" in images.notes[-1]


def test_without_such_files_the_folders_inside_a_shard_are_the_classes(tmp_path: Path) -> None:
    images = loaded(shard(tmp_path / "0.tar", {"./cat/1.png": png(1), "./dog/1.png": png(2)}))
    assert images.classes == ("cat", "dog")


def test_of_several_pictures_of_one_example_the_plain_one_is_taken(tmp_path: Path) -> None:
    files = {"a.png": png(1), "a.mask.png": png(2), "b.seg.png": png(3), "b.png": png(4), "c.1.png": png(5)}
    images = loaded(shard(tmp_path / "0.tar", files))
    assert pixels(images) == [1, 4, 5]
    assert images.num_skipped == 2


def test_shards_called_like_splits_are_combined_and_that_is_said(tmp_path: Path) -> None:
    shard(tmp_path / "train-0000.tar", {"a.png": png(1)})
    shard(tmp_path / "val-0000.tar", {"a.png": png(2)})
    images = loaded(tmp_path)
    assert len(images.names) == 2
    assert "val-0000" in images.notes[0]


def test_a_few_pictures_beside_shards_do_not_hide_them_and_many_do(tmp_path: Path) -> None:
    shard(tmp_path / "0.tar", {"a.png": png(1)})
    (tmp_path / "thumbnail.png").write_bytes(png(9))
    assert pixels(loaded(tmp_path)) == [1]
    assert loaded(tmp_path).skipped == {".png": 1}
    for place in range(30):
        (tmp_path / f"{place:02d}.png").write_bytes(png(place))
    assert len(loaded(tmp_path).names) == 31


# What comes from anybody


@pytest.mark.parametrize("name", ["../a.png", "/a.png", "a/../../b.png", "C:a.png", "a\\b.png", "a\nb.png", "//a.png"])
def test_names_that_lead_elsewhere_are_ignored(tmp_path: Path, name: str) -> None:
    images = loaded(shard(tmp_path / "0.tar", {name: png(1), "good.png": png(2)}))
    assert list(images.names) == ["good.png"]
    assert images.skipped == {"with an unsafe name": 1}


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_are_no_images(tmp_path: Path, kind: bytes) -> None:
    path = tmp_path / "0.tar"
    with tarfile.open(path, "w") as archive:
        member = tarfile.TarInfo("link.png")
        member.type = kind
        member.linkname = "/etc/passwd"
        archive.addfile(member)
        member = tarfile.TarInfo("good.png")
        member.size = len(png(2))
        archive.addfile(member, io.BytesIO(png(2)))
    images = loaded(path)
    with pytest.raises(BrokenImage):
        images.read(0)
    assert images.read(1) == png(2)


def test_the_second_of_two_equal_names_is_left_out_with_a_reason(tmp_path: Path) -> None:
    path = shard(tmp_path / "0.tar", {"a.png": png(1)})
    again = shard(tmp_path / "1.tar", {"a.png": png(2)})
    path.write_bytes(path.read_bytes()[:1024] + again.read_bytes())
    images = loaded(path)
    assert images.read(0) == png(1)
    with pytest.raises(BrokenImage, match="same name"):
        images.read(1)


def test_a_shard_that_was_cut_anywhere_is_refused(tmp_path: Path) -> None:
    path = shard(tmp_path / "sound" / "0.tar", {"a.png": png(1), "b.png": png(2)})
    whole = path.read_bytes()
    for cut in (1, 550, 600, 1024, 1100, 1600, 2048):
        path.write_bytes(whole[:cut])
        with pytest.raises(UserError) as caught:
            loaded(tmp_path / "sound")
        assert "0.tar" in str(caught.value.subject)


def test_a_flipped_byte_of_a_header_is_refused_wherever_it_is(tmp_path: Path) -> None:
    path = shard(tmp_path / "0.tar", {"a.png": png(1), "b.png": png(2)})
    whole = path.read_bytes()
    refused = 0
    for place in range(tars.RECORD):
        damaged = bytearray(whole)
        damaged[place] ^= 1
        path.write_bytes(damaged)
        try:
            assert pixels(loaded(path)) == [1, 2]
        except UserError:
            refused += 1
    assert refused >= tars.RECORD - 2  # but for what ends the checksum


def test_no_file_of_arbitrary_bytes_is_more_than_one_line(tmp_path: Path) -> None:
    path = tmp_path / "0.tar"
    for seed in range(200):
        path.write_bytes(np.random.default_rng(seed).bytes(3 * tars.RECORD))
        with pytest.raises(UserError) as caught:
            loaded(path)
        assert "\n" not in str(caught.value)


def test_shards_without_images_say_what_they_hold(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        loaded(shard(tmp_path / "0.tar", {"a.txt": b"1", "b.txt": b"2"}))
    assert "2 .txt" in caught.value.problem


def test_a_pool_of_shards_is_that_of_the_same_files_in_a_folder(tmp_path: Path) -> None:
    files = {f"{place:03d}.png": png(place) for place in range(40)}
    for part in range(4):
        some = dict(list(files.items())[10 * part : 10 * part + 10])
        shard(tmp_path / "shards" / f"{part}.tar", some)
    (tmp_path / "folder").mkdir()
    for name, content in files.items():
        (tmp_path / "folder" / name).write_bytes(content)
    pools = [prepare(Data(source=str(tmp_path / kind)), cache=tmp_path / "cache") for kind in ("shards", "folder")]
    assert pools[0].digest == pools[1].digest
    assert (pools[0].images == pools[1].images).all()


def test_a_shard_that_changes_makes_it_another_source(tmp_path: Path) -> None:
    shard(tmp_path / "0.tar", {"a.png": png(1)})
    before = open_source(str(tmp_path))
    first = before.fingerprint
    shard(tmp_path / "1.tar", {"a.png": png(1)})
    after = open_source(str(tmp_path))
    assert after.fingerprint != first
    assert after.stamp != before.stamp
