import contextlib
import gzip
import json
import os
import types
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpus import encoded
from PIL import Image

from equipoise.data import archives, arrays, sources
from equipoise.data.decode import FORMATS, BrokenImage
from equipoise.data.sources import SourceImages, labelled, open_source
from equipoise.errors import Near, Option, UserError


def png(shade: int = 0, side: int = 8) -> bytes:
    return encoded(Image.new("L", (side, side), shade))


def fill(folder: Path, *names: str) -> Path:
    for index, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(index) if path.suffix in (".png", "") else b"some text")
    return folder


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def loaded(source: Path | str) -> SourceImages:
    return open_source(str(source)).load()


def refused(source: Path | str, *parts: str) -> UserError:
    """Return the one line that refuses a source, and see that its problem holds these parts."""
    with pytest.raises(UserError) as caught:
        loaded(source)
    assert str(caught.value.subject).startswith(f'source "{source}"')
    assert "\n" not in str(caught.value)
    for part in parts:
        assert part in caught.value.problem
    return caught.value


def test_the_embedded_digits_are_all_there_with_their_labels():
    images = loaded("mnist")
    assert images.array is not None
    assert images.labels is not None
    assert images.array.shape == (70_000, 28, 28, 1)
    assert images.classes == tuple("0123456789")
    assert np.bincount(images.labels).tolist() == [6903, 7877, 6990, 7141, 6824, 6313, 6876, 7293, 6825, 6958]
    assert Path(sources.__file__).with_name("mnist.npz").stat().st_size <= 12e6


@pytest.mark.skipif("EQUIPOISE_DATA" not in os.environ, reason="EQUIPOISE_DATA names no folder of real data")
def test_the_embedded_digits_are_those_of_the_original():
    original = np.load(Path(os.environ["EQUIPOISE_DATA"]) / "mnist.npz")
    images = loaded("mnist")
    assert images.array is not None
    assert (images.array[:60_000, :, :, 0] == original["x_train"]).all()
    assert (images.array[60_000:, :, :, 0] == original["x_test"]).all()
    assert images.labels is not None
    assert (images.labels == np.concatenate([original["y_train"], original["y_test"]])).all()


def test_a_folder_called_mnist_is_read_only_when_written_as_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    fill(tmp_path / "mnist", "a.png")
    monkeypatch.chdir(tmp_path)
    assert len(loaded("./mnist").names) == 1
    assert len(loaded("mnist").names) == 70_000


def test_a_folder_is_read_deep_and_in_order_and_what_is_no_image_is_counted(tmp_path: Path):
    fill(tmp_path, "b/deep/2.png", "a/1.png", "a/notes.txt", ".hidden.png", "__MACOSX/1.png", "table.csv")
    images = loaded(tmp_path)
    assert list(images.names) == ["a/1.png", "b/deep/2.png"]
    assert images.read(1) == png(0)
    assert images.num_skipped == 3  # below __MACOSX nothing is looked at


def test_the_grids_of_runs_below_a_source_are_not_trained_on(tmp_path: Path):
    fill(tmp_path, "a.png", "dishes/recipe.json", "dishes/b.png")
    before = open_source(str(tmp_path)).fingerprint
    fill(tmp_path, "runs/one/recipe.json", "runs/one/lock.png", "runs/one/samples/best.png", "runs/one/log/steps.jsonl")
    fill(tmp_path, "other/recipe.json", "other/checkpoints/0064/state.json", "other/samples/0064.png")
    images = loaded(tmp_path)
    assert list(images.names) == ["a.png", "dishes/b.png"]
    assert images.num_skipped == 1 + 4 + 3
    assert open_source(str(tmp_path)).fingerprint == before
    refused(tmp_path / "runs" / "one", "4 files", "4 of runs")
    assert list(loaded(tmp_path / "runs" / "one" / "samples").names) == ["best.png"]  # asked for by name


def test_files_without_a_suffix_are_images_if_they_begin_like_one(tmp_path: Path):
    fill(tmp_path, "5f3a")
    (tmp_path / "README").write_text("words")
    assert list(loaded(tmp_path).names) == ["5f3a"]


def test_a_link_in_a_circle_does_not_loop(tmp_path: Path):
    fill(tmp_path, "a/1.png")
    (tmp_path / "a" / "again").symlink_to(tmp_path, target_is_directory=True)
    assert list(loaded(tmp_path).names) == ["a/1.png"]


def test_folders_in_one_another_are_looked_into_down_to_a_depth(tmp_path: Path):
    fill(tmp_path, "a.png", "d/" * sources.MAX_DEPTH + "b.png", "d/" * 200 + "c.png")
    images = loaded(tmp_path)
    assert list(images.names) == ["a.png", "d/" * 64 + "b.png"]
    assert images.skipped == {"more than 64 folders deep": 1}
    refused(str(tmp_path / ("d/" * 65)), "1 file ", "1 more than 64 folders deep")


def test_one_image_beside_class_folders_is_left_out_where_classes_count(tmp_path: Path):
    fill(tmp_path, "cover.png", *(f"{'cat' if index % 2 else 'dog'}/{index}.png" for index in range(30)))
    images = loaded(tmp_path)
    assert len(images.names) == 31, "who has no use of classes takes all of them"
    assert any(note.startswith("1 ") for note in images.notes)
    found = labelled(images)
    assert (len(found.names), found.classes) == (30, ("cat", "dog"))
    assert "cover.png" not in found.names
    assert found.labels is not None
    assert found.labels.min() == 0
    assert [found.read(index) for index in range(30)] == [images.read(images.names.index(name)) for name in found.names]
    assert found.skipped == {"without a class": 1}


def test_a_dataset_json_that_changes_makes_it_another_source(tmp_path: Path):
    fill(tmp_path, "00000/a.png", "00000/b.png")
    before = open_source(str(tmp_path)).fingerprint
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": [["00000/a.png", 0], ["00000/b.png", 1]]}))
    assert open_source(str(tmp_path)).fingerprint != before


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_the_labels_of_a_dataset_json_count_and_not_its_numbered_folders(tmp_path: Path, kind: str):
    names = [f"{index // 10:05}/img{index:08}.png" for index in range(20)]
    fill(tmp_path / "set" / "inner", *names)
    text = json.dumps({"labels": [[name, 7 if index % 2 else 3] for index, name in enumerate(names)]})
    (tmp_path / "set" / "inner" / "dataset.json").write_text(text)
    source = tmp_path / "set"
    if kind == "zip":
        files = {str(path.relative_to(source)): path.read_bytes() for path in source.rglob("*.*")}
        source = zipped(tmp_path / "set.zip", files)
    images = loaded(source)
    assert images.classes == ("3", "7")
    assert images.labels is not None
    assert images.labels.tolist() == [0, 1] * 10


def test_a_zip_gives_the_same_images_and_labels_as_the_folder_it_was_made_from(tmp_path: Path):
    fill(tmp_path / "photos", "cat/1.png", "dog/2.png", "notes.txt")
    members = {f"photos/{name}": (tmp_path / "photos" / name).read_bytes() for name in ("cat/1.png", "dog/2.png")}
    path = zipped(tmp_path / "photos.zip", members | {"photos/notes.txt": b"words", "__MACOSX/photos/cat/1.png": b""})
    folder, archive = loaded(tmp_path / "photos"), loaded(path)
    assert [archive.read(index) for index in range(2)] == [folder.read(index) for index in range(2)]
    assert archive.labels is not None
    assert archive.labels.tolist() == [0, 1]
    assert archive.classes == folder.classes == ("cat", "dog")
    assert archive.num_skipped == 2


def test_hostile_names_in_a_zip_are_ignored_and_nothing_is_unpacked(tmp_path: Path):
    names = ["../up.png", "/root.png", "C:/drive.png", "a\\b.png", "x/../../up.png", "bell\x07.png", "good.png"]
    path = zipped(tmp_path / "hostile.zip", {name: png() for name in names})
    images = loaded(path)
    assert list(images.names) == ["good.png"]
    assert images.num_skipped == 6
    assert sorted(os.listdir(tmp_path)) == ["hostile.zip"]
    refused(zipped(tmp_path / "all.zip", {"../up.png": png()}), '"../up.png"')


def test_a_bomb_in_a_zip_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.png", b"\0" * (archives.RATIO_FLOOR + 1))
        archive.writestr("large.png", bytes(range(256)) * 8)
    images = loaded(path)
    with pytest.raises(BrokenImage, match="200:1"):
        images.read(0)
    monkeypatch.setattr(sources, "MAX_FILE_BYTES", 2_000)
    with pytest.raises(BrokenImage, match="large"):
        images.read(1)
    monkeypatch.setattr(sources, "MAX_MEMBERS", 1)
    refused(path, "2 files; at most 1 ")


def test_a_bomb_in_an_npz_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    images = np.zeros((1025, 128, 128), np.uint8)
    np.savez_compressed(tmp_path / "bomb.npz", images=images)
    assert (tmp_path / "bomb.npz").stat().st_size < images.nbytes / 200
    np.savez(tmp_path / "plain.npz", images=images)
    assert len(loaded(tmp_path / "plain.npz").names) == 1025
    monkeypatch.setattr(arrays, "_read", lambda *_: pytest.fail("unpacked"))
    assert "np.savez " in str(refused(tmp_path / "bomb.npz", "200 times").remedies)


def test_a_damaged_member_is_one_broken_image(tmp_path: Path):
    path = zipped(tmp_path / "a.zip", {"1.png": png(7), "2.png": png(9)})
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"IDAT") + 6] ^= 255
    path.write_bytes(raw)
    images = loaded(path)
    with pytest.raises(BrokenImage, match="damaged"):
        images.read(0)
    assert images.read(1) == png(9)


def saved(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("key", ["images", "x", "arr_0"])
@pytest.mark.parametrize("shape", [(5, 8, 6), (5, 8, 6, 3), (5, 3, 8, 6), (5, 1, 8, 8), (5, 8, 8, 1)])
def test_npz_arrays_of_every_shape_become_channels_last(tmp_path: Path, key: str, shape: tuple[int, ...]):
    values = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    array = loaded(saved(tmp_path / "a.npz", **{key: values})).array
    assert array is not None
    last = values[..., None] if values.ndim == 3 else values
    assert (array == (last.transpose(0, 2, 3, 1) if shape[1:2] in ((1,), (3,)) else last)).all()


def test_npz_training_and_test_parts_are_joined_with_their_labels(tmp_path: Path):
    parts = {"x_train": np.zeros((3, 8, 8), np.uint8), "x_test": np.ones((2, 8, 8), np.uint8)}
    labels = {"y_train": np.array([[7], [9], [7]]), "y_test": np.array([9, 9])}
    images = loaded(saved(tmp_path / "a.npz", **parts, **labels))
    assert images.array is not None
    assert images.array[:, 0, 0, 0].tolist() == [0, 0, 0, 1, 1]
    assert images.labels is not None
    assert images.labels.tolist() == [0, 1, 0, 1, 1]
    assert images.classes == ("7", "9")


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        ("{}_images", "{}_labels"),  # as MedMNIST has them
        ("X_{}", "Y_{}"),
        ("images_{}", "labels_{}"),
        ("x_{}", "y_{}"),
    ],
)
def test_no_part_of_an_npz_is_left_out_whatever_the_names_are_like(tmp_path: Path, images: str, labels: str):
    arrays = {}
    for number, part in enumerate(("test", "train", "val")):
        arrays[images.format(part)] = np.full((2, 8, 8), number, np.uint8)
        arrays[labels.format(part)] = np.full((2, 1), number)
    found = loaded(saved(tmp_path / "a.npz", **arrays))
    assert found.array is not None
    assert found.array[:, 0, 0, 0].tolist() == [1, 1, 2, 2, 0, 0]
    assert found.labels is not None
    assert found.labels.tolist() == [1, 1, 2, 2, 0, 0]
    assert images.format("val") in found.notes[0]


def test_rows_of_pixels_in_an_npz_become_square_images_and_one_hot_rows_become_labels(tmp_path: Path):
    values = np.arange(3 * 784).reshape(3, 784).astype(np.uint8)
    found = loaded(saved(tmp_path / "a.npz", X=values, y=np.eye(4)[[2, 0, 2]]))
    assert found.array is not None
    assert (found.array[..., 0] == values.reshape(3, 28, 28)).all()
    assert found.labels is not None
    assert [found.classes[label] for label in found.labels] == ["2", "0", "2"]
    assert "28" in found.notes[0]


@pytest.mark.parametrize("key", ["images", "data"])
def test_rows_of_colours_in_an_npz_are_refused_as_their_order_is_unknown_with_a_line_that_works(
    tmp_path: Path, key: str
):
    images = np.random.default_rng(0).integers(0, 256, (30, 3, 32, 32), np.uint8)
    path = saved(tmp_path / "a.npz", **{key: images.reshape(30, 3072)}, labels=np.arange(30) % 3)
    error = refused(path, "" if key == "data" else "3072")
    line, other = map(str, error.remedies)
    assert "reshape(-1, 32, 32, 3)" in other
    exec(line[line.index("np.savez") :], {"np": np})  # noqa: S102
    found = loaded(tmp_path / "a-images.npz")
    assert found.array is not None
    assert (found.array == images.transpose(0, 2, 3, 1)).all()
    assert found.labels is not None


@pytest.mark.parametrize(
    ("shape", "kept"), [((20, 16, 3, 30), (30, 20, 16, 3)), ((6, 5, 9, 10, 3), (30, 9, 10, 3))], ids=["MATLAB", "video"]
)
def test_arrays_in_another_order_are_answered_with_a_line_that_works(
    tmp_path: Path, shape: tuple[int, ...], kept: tuple[int, ...]
):
    images = np.arange(np.prod(shape)).astype(np.uint8).reshape(shape)
    line = str(refused(saved(tmp_path / "a.npz", images=images), str(shape)).remedies[0])
    exec(line[line.index("np.savez") :], {"np": np})  # noqa: S102
    found = loaded(tmp_path / "a-images.npz").array
    assert found is not None
    assert found.shape == kept


def test_one_image_in_an_npz_is_not_read_as_many_narrow_ones(tmp_path: Path):
    refused(saved(tmp_path / "a.npz", images=np.zeros((200, 200, 3), np.uint8)), "single")


@pytest.mark.parametrize("is_packed", [False, True])
def test_the_files_of_mnist_are_answered_with_a_line_that_works(tmp_path: Path, is_packed: bool):
    images = np.arange(30 * 9 * 10).astype(np.uint8).reshape(30, 9, 10)
    content = b"\0\0\x08\3" + b"".join(length.to_bytes(4, "big") for length in images.shape) + images.tobytes()
    path = tmp_path / f"train-images-idx3-ubyte{'.gz' if is_packed else ''}"
    path.write_bytes(gzip.compress(content) if is_packed else content)
    line = str(refused(path, "MNIST").remedies[0])
    exec(line[line.index("np.savez") :], {"np": np, "gzip": gzip})  # noqa: S102
    (written,) = tmp_path.glob("*.npz")
    found = loaded(written).array
    assert found is not None
    assert (found[..., 0] == images).all()


def test_the_remedy_for_another_name_in_an_npz_keeps_the_labels(tmp_path: Path):
    error = refused(saved(tmp_path / "a.npz", pictures=np.ones((3, 8, 8), np.uint8), labels=np.arange(3)), "pictures")
    remedy = str(error.remedies[0])
    exec(remedy[remedy.index("np.savez") :], {"np": np})  # noqa: S102
    assert loaded(tmp_path / "a-images.npz").labels is not None


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"pictures": np.zeros((2, 8, 8), np.uint8)}, "pictures"),
        ({"images": np.zeros((2, 8), np.uint8)}, "shape (2, 8)"),
        ({"images": np.zeros((0, 8, 8), np.uint8)}, "no images"),
        ({"images": np.full((2, 8, 8), np.nan)}, "2 of 2"),
        ({"images": np.full((2, 8, 8), 1j)}, "complex"),
        ({"images": np.full((2, 8, 8), "a")}, "<U1"),
        ({"images": np.full((2, 8, 8), None)}, "objects"),
        ({"images": np.zeros((2, 8, 8), np.uint8), "labels": np.zeros(3)}, "of 2"),
        ({"images": np.zeros((2, 8, 8), np.uint8), "labels": np.array([0.5, 1])}, "fractions"),
    ],
)
def test_npz_files_that_cannot_be_used_are_refused_in_one_line(tmp_path: Path, arrays: dict[str, Any], message: str):
    error = refused(saved(tmp_path / "a.npz", **arrays), message)
    if "pictures" not in arrays:
        assert error.subject == f'source "{tmp_path / "a.npz"}", array "{list(arrays)[-1]}"'


def test_a_source_that_does_not_exist_is_answered_with_its_neighbour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "photos").mkdir()
    assert refused(tmp_path / "phtos").remedies == (Near(f"{tmp_path}/photos"),)
    monkeypatch.chdir(tmp_path)
    assert refused("phtos/").remedies == (Near("photos"),)
    assert refused("minst").remedies == (Near("mnist"),)
    for odd in ("", "no\0name"):
        assert refused(odd, "hub:NAME").remedies == ()


def test_addresses_and_patterns_are_answered_with_what_to_give(tmp_path: Path):
    fill(tmp_path / "photos", "a.png")
    assert refused("https://example.org/a.zip").remedies
    assert str(tmp_path / "photos") in str(refused(tmp_path / "photos" / "*.png").remedies[0])


def test_a_mistyped_name_lists_only_some_of_its_neighbours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    given = []

    @contextlib.contextmanager
    def scandir(_: Path) -> Iterator[Iterator[Any]]:
        yield (given.append(index) or types.SimpleNamespace(name=f"{index}.png") for index in range(50_000))

    monkeypatch.setattr(os, "scandir", scandir)
    refused(tmp_path / "photos", "no such file or folder")
    assert len(given) == 10_000


def test_folders_without_images_say_what_they_hold(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "empty")
    fill(tmp_path / "words", "a.txt", "b.txt", "c.heic")
    refused(tmp_path / "words", "3 files (2 .txt, 1 .heic)")
    refused(zipped(tmp_path / "words.zip", {"a.txt": b""}), "1 .txt file;")


@pytest.mark.parametrize("is_zip", [False, True])
def test_a_wrong_kind_of_source_is_said_with_its_kind_and_the_formats_of_images(tmp_path: Path, is_zip: bool):
    names = [f"{index}.wav" for index in range(34)]
    if is_zip:
        source = zipped(tmp_path / "clips.zip", dict.fromkeys(names, b"RIFF"))
    else:
        source = fill(tmp_path / "clips", *names)
    error = refused(source)
    assert error.problem == "34 .wav files; images were expected"
    (remedy,) = error.remedies
    for kind in FORMATS:
        assert kind in str(remedy)


def test_a_table_of_points_is_answered_with_its_task(tmp_path: Path):
    (tmp_path / "points.csv").write_text("0,1\n")
    error = refused(tmp_path / "points.csv")
    assert error.problem == "a CSV file; images were expected"
    assert error.remedies == (Option("task", "points"),)


def test_archives_without_images_are_answered_with_a_remedy_that_overwrites_nothing(tmp_path: Path):
    path = saved(tmp_path / "a.npz", labels=np.zeros(3), pictures=np.zeros((30, 8, 8), np.uint8))
    saved(tmp_path / "a-images.npz", other=np.zeros(3))
    (remedy,) = refused(path).remedies
    content = path.read_bytes()
    exec(str(remedy).partition(": ")[2], {"np": np})  # noqa: S102
    assert path.read_bytes() == content
    assert len(loaded(tmp_path / "a-images-2.npz").names) == 30
    assert refused(saved(tmp_path / "b.npz", labels=np.zeros(3))).remedies == ()


def test_statistics_for_fid_are_no_images_and_are_told_so(tmp_path: Path):
    error = refused(saved(tmp_path / "fid.npz", mu=np.zeros(2048), sigma=np.zeros((20, 20))), "FID")
    assert "savez" not in str(error)


def test_arrays_of_an_archive_that_are_not_read_are_named(tmp_path: Path):
    images = np.zeros((3, 8, 8), np.uint8)
    found = loaded(saved(tmp_path / "a.npz", x_train=images, y_train=np.arange(3), x_more=images, y_more=np.arange(3)))
    (note,) = found.notes
    assert "x_more, y_more" in note


def test_parts_of_two_kinds_of_number_have_no_one_scale(tmp_path: Path):
    parts = {"x_train": np.zeros((3, 8, 8), np.uint8), "x_test": np.zeros((3, 8, 8), np.float32)}
    refused(saved(tmp_path / "a.npz", **parts), "uint8", "float32")


def test_a_single_file_is_answered_with_what_can_be_done_with_it(tmp_path: Path):
    np.save(tmp_path / "a.npy", np.arange(30 * 64, dtype=np.uint16).reshape(30, 8, 8))
    (remedy,) = refused(tmp_path / "a.npy").remedies
    exec(str(remedy).partition(": ")[2], {"np": np})  # noqa: S102
    assert len(loaded(tmp_path / "a.npz").names) == 30
    fill(tmp_path, "b.7z", "c.h5", "d.mp4")
    for name, word in (("b.7z", "Unpack"), ("c.h5", "savez"), ("d.mp4", "frames")):
        assert word in str(refused(tmp_path / name).remedies)
    frames = [Image.new("L", (8, 8), index) for index in range(0, 250, 50)]
    frames[0].save(tmp_path / "e.gif", save_all=True, append_images=frames[1:])
    refused(tmp_path / "e.gif", "5 pages")


def test_images_under_names_of_no_image_are_found_by_their_content(tmp_path: Path):
    (tmp_path / "odd").mkdir()
    for index in range(5):
        (tmp_path / "odd" / f"{index}.dat").write_bytes(png(index))
    error = refused(tmp_path / "odd", "PNG", "5 .dat")
    assert ".png" in str(error.remedies[0])


def test_a_folder_around_an_archive_is_answered_with_the_archive(tmp_path: Path):
    path = saved(tmp_path / "set.npz", images=np.zeros((3, 8, 8), np.uint8))
    assert str(path) in str(refused(tmp_path).remedies)


def test_files_that_are_no_source_are_refused(tmp_path: Path):
    fill(tmp_path, "single.png", "words.txt", "nothing")
    assert str(tmp_path) not in str(refused(tmp_path / "single.png", "single").remedies), "one image is no set"
    fill(tmp_path, *(f"{index}.png" for index in range(21)))
    assert str(tmp_path) in str(refused(tmp_path / "single.png", "single").remedies)
    refused(tmp_path / "words.txt", ".txt file")
    refused(tmp_path / "nothing", "suffix")
    for name in ("broken.zip", "broken.npz"):
        (tmp_path / name).write_bytes(b"not what the name says")
        refused(tmp_path / name, "read")


def test_the_fingerprint_follows_the_content_and_not_the_ignored_files(tmp_path: Path):
    def fingerprint() -> str:
        return open_source(str(tmp_path)).fingerprint

    fill(tmp_path, "a.png", "b.png")
    first = fingerprint()
    (tmp_path / "notes.txt").write_text("new")
    assert fingerprint() == first
    (tmp_path / "b.png").write_bytes(png(100, side=9))
    changed = fingerprint()
    assert changed != first
    (tmp_path / "b.png").rename(tmp_path / "c.png")
    assert fingerprint() not in (first, changed)


def test_hidden_folders_and_links_to_folders_read_already_are_counted(tmp_path: Path):
    fill(tmp_path, "a/1.png", "b/2.png", ".x/3.png")
    (tmp_path / "c").symlink_to(tmp_path / "a")
    found = loaded(tmp_path)
    assert len(found.names) == 2
    assert found.skipped["hidden"] == 1
    assert found.num_skipped == 2


@pytest.mark.parametrize(
    ("name", "word"), [(".x/1.png", "dot"), ("1.npy", "savez"), ("1.mp4", "frames"), ("1.tar.gz", "Unpack")]
)
def test_a_folder_of_one_other_kind_is_answered_with_what_can_be_done(tmp_path: Path, name: str, word: str):
    fill(tmp_path, name)
    with pytest.raises(UserError) as caught:
        loaded(tmp_path)
    assert word in str(caught.value.remedies[0])


def test_a_stamp_follows_whatever_lies_in_a_folder_and_an_unread_folder_is_not_looked_into(tmp_path: Path):
    fill(tmp_path, "a/1.png", "b.png", ".hidden/2.png")
    (tmp_path / "again").symlink_to(tmp_path / "a")
    first = open_source(str(tmp_path))
    assert first.stamp == first.found.stamp
    fill(tmp_path, ".hidden/3.png")
    assert open_source(str(tmp_path)).stamp == first.stamp
    stamps = {first.stamp}
    (tmp_path / "notes.txt").write_text("new")
    stamps.add(open_source(str(tmp_path)).stamp)
    (tmp_path / "a" / "1.png").write_bytes(png(100, side=9))
    stamps.add(open_source(str(tmp_path)).stamp)
    (tmp_path / "a" / "1.png").rename(tmp_path / "a" / "2.png")
    stamps.add(open_source(str(tmp_path)).stamp)
    assert len(stamps) == 4


def test_shards_in_a_zip_are_answered_with_the_folder_to_give(tmp_path: Path):
    remedies = refused(zipped(tmp_path / "a.zip", {"0.tar": b"", "1.tar": b""})).remedies
    assert "a.zip" in str(remedies[0])
