"""Datasets of the hub, streamed once: with a stand-in for the library, and with the library where it is there."""

import io
import json
import os
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from corpus import encoded
from PIL import Image

from equipoise.data.cache import default_cache
from equipoise.data.decode import BrokenImage
from equipoise.data.listing import SourceImages
from equipoise.data.pool import prepare
from equipoise.data.sources import open_source
from equipoise.errors import UserError
from equipoise.recipe import Data


def png(shade: int) -> bytes:
    return encoded(Image.new("L", (8, 8), shade))


class FakeImage:
    def __init__(self, decode: bool = True) -> None:
        self.decode = decode


class FakeClassLabel:
    names = ("cat", "dog")


class FakeRows:
    """A dataset that can only be walked through, once at a time, as one that is streamed."""

    walks = 0

    def __init__(self, rows: list[dict[str, Any]], features: dict[str, Any] | None) -> None:
        self.rows, self.features = rows, features

    def cast_column(self, column: str, feature: FakeImage) -> "FakeRows":
        assert not feature.decode
        return self

    def __iter__(self) -> Iterator[dict[str, Any]]:
        FakeRows.walks += 1
        yield from self.rows


class FakeBuilder:
    def __init__(self, rows: list[dict[str, Any]], features: dict[str, Any] | None, version: str) -> None:
        self.rows, self.features, self.hash = rows, features, version

    def as_streaming_dataset(self) -> dict[str, FakeRows]:
        return {"test": FakeRows([], self.features), "train": FakeRows(self.rows, self.features)}


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EQUIPOISE_CACHE", str(tmp_path / "cache"))


def fake_hub(
    monkeypatch: pytest.MonkeyPatch,
    labels: list[int],
    features: dict[str, Any] | None = None,
    version: str = "1",
    images: list[Any] | None = None,
) -> None:
    pictures = images or [{"bytes": png(index), "path": None} for index in range(len(labels))]
    rows = [{"picture": picture, "kind": label} for picture, label in zip(pictures, labels, strict=True)]
    features = {"kind": FakeClassLabel(), "picture": FakeImage()} if features is None else features

    def load_dataset_builder(name: str) -> FakeBuilder:
        if name != "pets":
            raise FileNotFoundError(f"{name} is not on the hub\nwith a second line")
        return FakeBuilder(rows, features, version)

    module: Any = types.ModuleType("datasets")
    module.Image, module.ClassLabel, module.load_dataset_builder = FakeImage, FakeClassLabel, load_dataset_builder
    monkeypatch.setitem(sys.modules, "datasets", module)


def loaded(source: str) -> SourceImages:
    return open_source(source).load()


def refused(source: str, *parts: str) -> UserError:
    with pytest.raises(UserError) as caught:
        loaded(source)
    for part in parts:
        assert part in str(caught.value)
    return caught.value


def test_hub_datasets_give_encoded_images_and_class_labels(monkeypatch: pytest.MonkeyPatch):
    fake_hub(monkeypatch, [0, 1, 1])
    images = loaded("hub:pets")
    assert [images.read(index) for index in (2, 0, 1)] == [png(2), png(0), png(1)]
    assert list(images.names) == ["row 0", "row 1", "row 2"]
    assert images.labels is not None
    assert images.labels.tolist() == [0, 1, 1]
    assert images.classes == ("cat", "dog")


@pytest.mark.parametrize("label", [-1, None])
def test_hub_datasets_with_hidden_labels_have_none(monkeypatch: pytest.MonkeyPatch, label: Any):
    fake_hub(monkeypatch, [0, label])
    assert loaded("hub:pets").labels is None


def test_hub_mistakes_are_told_in_one_line(monkeypatch: pytest.MonkeyPatch):
    fake_hub(monkeypatch, [0], features={"kind": FakeClassLabel()})
    refused("hub:pets", "kind")
    assert "second line" not in str(refused("hub:cars", "cars is not on the hub"))
    refused("hub:", "name")
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert 'pip install "equipoise[datasets]"' in str(refused("hub:pets").remedies)


def test_a_dataset_is_walked_through_once_and_leaves_nothing_but_the_prepared_images(
    monkeypatch: pytest.MonkeyPatch,
):
    fake_hub(monkeypatch, [index % 2 for index in range(40)])
    monkeypatch.setattr(FakeRows, "walks", 0)
    pool = prepare(Data(source="hub:pets"))
    assert FakeRows.walks == 1
    assert sorted(int(image[0, 0, 0]) for image in pool.images) == list(range(40))
    assert {path.name for path in default_cache().iterdir()} == {"hub", "names", "pools", "sources"}
    assert prepare(Data(source="hub:pets")).digest == pool.digest
    assert FakeRows.walks == 1


def test_another_version_of_a_dataset_is_another_source(monkeypatch: pytest.MonkeyPatch):
    fake_hub(monkeypatch, [0])
    first = open_source("hub:pets").fingerprint
    assert open_source("hub:pets").fingerprint == first
    fake_hub(monkeypatch, [0], version="2")
    assert open_source("hub:pets").fingerprint != first


def test_without_the_hub_what_was_prepared_is_found_and_what_was_not_is_refused(monkeypatch: pytest.MonkeyPatch):
    fake_hub(monkeypatch, [index % 2 for index in range(40)])
    pool = prepare(Data(source="hub:pets"))

    def unreachable(name: str) -> None:
        raise ConnectionError("no network")

    monkeypatch.setattr(sys.modules["datasets"], "load_dataset_builder", unreachable)
    assert prepare(Data(source="hub:pets")).digest == pool.digest
    with pytest.raises(UserError, match="no network"):
        prepare(Data(source="hub:others"))
    for path in default_cache().rglob("sources/*"):
        path.unlink()
    with pytest.raises(UserError, match="no network"):
        prepare(Data(source="hub:pets"))


def test_rows_without_an_image_are_left_out_with_a_reason_and_files_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "a.png").write_bytes(png(7))
    pictures = [None, {"bytes": None, "path": str(tmp_path / "a.png")}, {"bytes": None, "path": "/no/such"}, png(8)]
    fake_hub(monkeypatch, [0, 0, 1, 1], images=pictures)
    images = loaded("hub:pets")
    assert (images.read(1), images.read(3)) == (png(7), png(8))
    for place in (0, 2):
        with pytest.raises(BrokenImage):
            images.read(place)


def test_a_hub_that_fails_on_the_way_is_one_line(monkeypatch: pytest.MonkeyPatch):
    def broken(self: FakeRows) -> Iterator[dict[str, Any]]:
        yield self.rows[0]
        raise ConnectionError("broke off\nsecond line")

    fake_hub(monkeypatch, [0, 1])
    monkeypatch.setattr(FakeRows, "__iter__", broken)
    assert "second line" not in str(refused("hub:pets", "broke off"))


# With the library itself, and no network


def test_the_library_streams_parquet_and_folders_of_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("datasets")
    import pyarrow  # pyright: ignore[reportMissingImports]
    import pyarrow.parquet  # pyright: ignore[reportMissingImports]

    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    folder = tmp_path / "folder"
    for index in range(40):
        path = folder / ("cat" if index % 2 else "dog") / f"{index:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(index))
    features = {"image": {"_type": "Image"}, "label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    kind = pyarrow.struct([("bytes", pyarrow.binary()), ("path", pyarrow.string())])
    rows = [{"bytes": png(index), "path": None} for index in range(40)]
    table = pyarrow.table({"image": pyarrow.array(rows, kind), "label": [(index + 1) % 2 for index in range(40)]})
    (tmp_path / "set" / "data").mkdir(parents=True)
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pyarrow.parquet.write_table(table, tmp_path / "set" / "data" / "train-00000-of-00001.parquet")
    for place in (tmp_path / "set", folder):
        images = loaded(f"hub:{place}")
        assert len(images.names) == 40
        assert images.classes == ("cat", "dog")
        assert images.labels is not None
        shades = [np.asarray(Image.open(io.BytesIO(bytes(images.read(row)))))[0, 0] for row in range(40)]
        assert sorted(map(int, shades)) == list(range(40))
        assert images.labels.tolist() == [(int(shade) + 1) % 2 for shade in shades]
    assert not any(name.endswith(".arrow") for _, _, names in os.walk(tmp_path) for name in names)
