"""Images in parquet files, as Hugging Face writes them; with pyarrow where it is there."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from corpus import encoded
from PIL import Image

from equipoise.data.decode import BrokenImage
from equipoise.data.listing import SourceImages
from equipoise.data.pool import prepare
from equipoise.data.sources import open_source
from equipoise.errors import UserError
from equipoise.recipe import Data

FEATURES = {"image": {"_type": "Image"}, "label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}


def png(shade: int = 0) -> bytes:
    return encoded(Image.new("L", (8, 8), shade))


def written(path: Path, columns: dict[str, list[Any]], features: dict[str, Any] | None = None, rows: int = 7) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table(columns)
    if features is not None:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(table, path, row_group_size=rows)
    return path


def rows_of(first: int, num: int) -> list[dict[str, Any]]:
    return [{"bytes": png(shade), "path": f"{shade}.png"} for shade in range(first, first + num)]


def loaded(source: Path) -> SourceImages:
    return open_source(str(source)).load()


def refused(source: Path) -> UserError:
    with pytest.raises(UserError) as caught:
        loaded(source)
    assert "\n" not in str(caught.value)
    return caught.value


def test_files_of_a_folder_are_one_set_with_the_classes_that_they_name(tmp_path: Path) -> None:
    for part in range(2):
        columns = {"image": rows_of(20 * part, 20), "label": [place % 2 for place in range(20)]}
        written(tmp_path / "data" / f"train-{part:05d}-of-00002.parquet", columns, FEATURES)
    (tmp_path / "README.md").write_text("about")
    images = loaded(tmp_path)
    assert [images.read(row) for row in range(40)] == [png(shade) for shade in range(40)]
    assert images.read(13) == png(13), "in any order"
    assert images.labels is not None
    assert images.labels.tolist() == [0, 1] * 20
    assert images.classes == ("cat", "dog")
    assert images.skipped == {".md": 1}
    assert len(prepare(Data(source=str(tmp_path)), cache=tmp_path / "cache").images) == 40


def test_without_notes_of_hugging_face_bytes_are_images_and_a_plain_column_the_classes(tmp_path: Path) -> None:
    columns = {"id": [1, 2, 3], "picture": [png(1), png(2), png(3)], "label": ["b", "a", "b"]}
    images = loaded(written(tmp_path / "a.parquet", columns))
    assert images.read(2) == png(3)
    assert images.classes == ("a", "b")
    assert images.labels is not None
    assert images.labels.tolist() == [1, 0, 1]


@pytest.mark.parametrize("label", [None, -1])
def test_images_without_a_class_leave_the_set_without_classes(tmp_path: Path, label: int | None) -> None:
    path = written(tmp_path / "a.parquet", {"image": rows_of(0, 3), "label": [0, label, 1]}, FEATURES)
    assert loaded(path).labels is None


def test_rows_without_bytes_are_left_out_and_no_path_is_followed(tmp_path: Path) -> None:
    (tmp_path / "b.png").write_bytes(png(9))
    rows = [{"bytes": png(1), "path": None}, {"bytes": None, "path": str(tmp_path / "b.png")}, None]
    images = loaded(written(tmp_path / "a.parquet", {"image": rows}))
    assert images.read(0) == png(1)
    for row in (1, 2):
        with pytest.raises(BrokenImage):
            images.read(row)


def test_wrong_files_are_one_line_that_names_them(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    written(tmp_path / "set" / "a.parquet", {"image": rows_of(0, 3)})
    written(tmp_path / "set" / "b.parquet", {"photo": rows_of(0, 3)})
    assert "b.parquet" in str(refused(tmp_path / "set"))
    assert "number" in refused(written(tmp_path / "c.parquet", {"number": [1]})).problem
    assert refused(written(tmp_path / "d.parquet", {"image": rows_of(0, 0)})).problem
    whole = (tmp_path / "set" / "a.parquet").read_bytes()
    for place in (0, 10, len(whole) // 2, len(whole) - 5):
        (tmp_path / "e.parquet").write_bytes(whole[:place])
        refused(tmp_path / "e.parquet")


def test_without_pyarrow_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    assert "pip install" in str(refused(tmp_path / "a.parquet").remedies)
