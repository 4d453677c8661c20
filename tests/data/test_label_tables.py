"""Classes out of a CSV beside the images: read where they are unambiguous; else it is said why not, and what to do."""

from pathlib import Path

import pytest
from PIL import Image

from equipoise.data.label_tables import labels_by_tables, text_of, with_tables
from equipoise.data.labels import labels_of
from equipoise.data.sources import open_source

NAMES = [f"{index:03}.png" for index in range(30)]
KINDS = ["cat", "dog", "eel"]


def table(head: str, names: list[str], separator: str = ",", kinds: list[str] = KINDS) -> str:
    lines = [f"{name}{separator}{kinds[index % len(kinds)]}" for index, name in enumerate(names)]
    return "\n".join([head, *lines] if head else lines) + "\n"


def found_in(names: list[str], tables: dict[str, str]) -> tuple[list[int] | None, tuple[str, ...], str]:
    found = labels_by_tables(names, tables)
    if found is None:
        return None, (), ""
    return None if found.labels is None else found.labels.tolist(), found.classes, " ".join(found.notes)


@pytest.mark.parametrize(
    ("head", "kinds"),
    [
        ("file,x,y", ["1,7", "5,3", "9,9"]),
        ("file,patient_id", ["P001", "P002", "P003"]),
        ("file,Subject ID", ["a1", "b2", "c3"]),
        ("file,caption", ["a dog", "a cat", "a dog in the sun"]),
        ("file,taken", ["2020-01-05", "2020-02-05", "2020-03-05 10:00"]),
        ("file,taken", ["5.1.2020", "6.1.2020", "7.1.2020"]),
    ],
)
def test_points_ids_captions_and_dates_are_no_classes(head: str, kinds: list[str]) -> None:
    labels, _, note = found_in(NAMES, {"labels.csv": table(head, NAMES, kinds=kinds)})
    assert labels is None
    assert head.rpartition(",")[2] in note
    labels, _, _ = found_in(NAMES, {"labels.csv": table(f"{head.rpartition(',')[0]},label", NAMES, kinds=kinds)})
    assert labels is not None, "called a label, it is one"


def test_a_point_beside_a_class_does_not_make_it_ambiguous() -> None:
    found = found_in(NAMES, {"labels.csv": table("file,x,y,label", NAMES, kinds=["1,7,cat", "5,3,dog", "9,9,eel"])})
    assert found[:2] == ([0, 1, 2] * 10, ("cat", "dog", "eel"))


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("labels.csv", table("filename,label", NAMES)),
        ("train.csv", table("image,class", NAMES)),
        ("train.csv", table("id,label", [name[:3] for name in NAMES])),
        ("labels.csv", table("Image_Name;Class Name", NAMES, ";")),
        ("labels.tsv", table("file\tcategory", NAMES, "\t")),
        ("labels.csv", table("", NAMES)),
        ("labels.csv", "\ufeff" + table("filename,label", NAMES).replace("\n", "\r\n")),
        ("labels.csv", table("filename,label", [f"./{name}" for name in NAMES])),
        ("labels.csv", table("path,label", [f"/data/set/images/{name}" for name in NAMES])),
        ("labels.csv", table("path,animal", NAMES)),
        ("labels.csv", table("file,label", [name.replace(".png", ".jpg") for name in NAMES])),
        ("train.csv", table("id,label", [str(int(name[:3])) for name in NAMES])),
        ("labels.csv", table(",filename,label", [f"{index},{name}" for index, name in enumerate(NAMES)])),
        ("labels.csv", table("filename,width,label", [f"{name},{index}" for index, name in enumerate(NAMES)])),
        ("labels.csv", table("filename,target,breed", [f"{name},{index % 3}" for index, name in enumerate(NAMES)])),
        ("labels.csv", table("image,cat,dog,eel", NAMES, kinds=["1,0,0", "0,1,0", "0.0,0.0,1.0"])),
    ],
)
def test_a_table_of_names_and_classes_is_read_in_every_plain_form(path: str, text: str) -> None:
    labels, classes, note = found_in(NAMES, {path: text})
    assert labels == [0, 1, 2] * 10
    assert classes == ("cat", "dog", "eel")
    assert path in note


def test_images_in_folders_are_found_by_path_from_the_table_or_by_a_name_that_one_alone_has() -> None:
    names = [f"set/img/{name}" for name in NAMES]
    for text in (table("filename,label", [f"img/{name}" for name in NAMES]), table("filename,label", NAMES)):
        assert found_in(names, {"set/labels.csv": text})[0] == [0, 1, 2] * 10
    twice = [f"{part}/{name}" for part in ("a", "b") for name in NAMES]
    assert found_in(twice, {"labels.csv": table("filename,label", NAMES)})[0] is None
    assert found_in(twice, {"labels.csv": table("filename,label", twice)})[0] == [0, 1, 2] * 20


OF_PARTS = [f"{part}/{name}" for part in ("train", "test") for name in NAMES]


@pytest.mark.parametrize("path", ["{}.csv", "{}/labels.csv"])
def test_a_table_is_of_the_images_around_it_where_others_are_called_alike(path: str) -> None:
    tables = {path.format(part): table("id,label", [name[:3] for name in NAMES]) for part in ("train", "test")}
    labels, _, note = found_in(OF_PARTS, tables)
    assert labels == [0, 1, 2] * 20
    assert all(path in note for path in tables)


def test_a_table_called_like_a_folder_may_be_of_all_folders() -> None:
    labels, _, _ = found_in(OF_PARTS, {"train.csv": table("path,label", OF_PARTS)})
    assert labels == [0, 1, 2] * 20


def test_names_that_several_images_have_are_told() -> None:
    _, _, note = found_in(OF_PARTS, {"labels.csv": table("filename,label", NAMES)})
    assert "several" in note


def test_the_metadata_of_an_image_folder_are_a_table(tmp_path: Path) -> None:
    lines = [
        f'{{"file_name": "{name}", "label": "{KINDS[index % 3]}", "box": [1, 2]}}' for index, name in enumerate(NAMES)
    ]
    for index, name in enumerate(NAMES):
        Image.new("L", (8, 8), index).save(tmp_path / name)
    (tmp_path / "metadata.jsonl").write_text("\n".join(lines))
    found = open_source(str(tmp_path)).load()
    assert found.classes == tuple(KINDS)
    assert found.num_skipped == 0
    (tmp_path / "metadata.jsonl").write_text("{")
    assert open_source(str(tmp_path)).load().classes == ()


def test_numbers_are_classes_in_their_order_and_tables_of_parts_are_joined() -> None:
    kinds = ["10", "2", "1.0"]
    parts = {"train.csv": NAMES[:21], "test.csv": NAMES[21:]}
    tables = {path: table("filename,label", names, kinds=kinds) for path, names in parts.items()}
    labels, classes, note = found_in(NAMES, tables)
    assert classes == ("1", "2", "10")
    assert labels == [2, 1, 0] * 10
    assert all(path in note for path in parts)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (table("filename,label", NAMES[:12]), "12 of 30"),
        (table("filename,label", NAMES) + "000.png,eel\n", "once"),
        (table("filename,label", [name.replace("0", "x") for name in NAMES]), "filename"),
        (table("filename,label", NAMES, kinds=["cat"]), "one"),
        (table("filename,label", NAMES, kinds=[str(number) for number in range(30)]), "30"),
        (table("filename,label", NAMES, kinds=["0.5", "0.25"]), "0.5"),
        (table("filename,label,category", NAMES, kinds=["a,x", "a,y", "b,x"]), "label, category"),
        (table("filename,width,height", NAMES, kinds=["3,5", "4,5"]), "width, height"),
        (table("filename,age", NAMES, kinds=["31", "32"]), "age"),
        (table("filename,label", NAMES) + "odd\n", "1"),
        ("filename\n" + "\n".join(NAMES), "column"),
    ],
)
def test_a_table_that_is_not_unambiguous_is_named_with_the_reason(text: str, told: str) -> None:
    labels, _, note = found_in(NAMES, {"labels.csv": text})
    assert labels is None
    assert note.startswith("labels.csv")
    assert told in note


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("log.csv", "step,lr\n" + "".join(f"{index:03},0.1\n" for index in range(30))),
        ("points.csv", "x,y\n0.1,0.2\n0.3,0.4\n"),
        ("sample_submission.csv", table("filename,label", NAMES, kinds=["0"])),
        ("empty.csv", ""),
        ("odd.csv", "\0\1,\2\n\3"),
    ],
)
def test_a_table_of_something_else_is_passed_over(path: str, text: str) -> None:
    assert labels_by_tables([*NAMES, "0.1.png"], {path: text}) is None


def test_letters_of_another_encoding_make_no_other_classes() -> None:
    text = table("filename,label", NAMES, kinds=["ä", "ö"])
    assert found_in(NAMES, {"a.csv": text_of(text.encode("utf-16"))})[1] == ("ä", "ö")
    labels, _, note = found_in(NAMES, {"a.csv": text_of(text.encode("latin-1"))})
    assert labels is None
    assert "UTF-8" in note


def test_where_only_one_folder_has_classes_that_folder_is_advised() -> None:
    names = [f"train/{name}" for name in NAMES] + [f"test/x{name}" for name in NAMES]
    _, _, note = found_in(names, {"train.csv": table("id,label", NAMES)})
    assert "30 of 60" in note
    assert "train/" in note


def test_folders_of_classes_count_before_a_table() -> None:
    names = [f"{'ab'[index % 2]}/{name}" for index, name in enumerate(NAMES)]
    folders = labels_of(names)
    found = with_tables(folders, names, {"labels.csv": table("filename,label", NAMES)})
    assert found.classes == ("a", "b")
    assert "labels.csv" in found.notes[-1]
    same = with_tables(folders, names, {"labels.csv": table("filename,label", NAMES, kinds=["x", "y"])})
    assert same.notes == folders.notes


def test_a_table_in_a_folder_gives_the_classes_and_one_that_changes_makes_it_another_source(tmp_path: Path) -> None:
    for index, part in enumerate(["train", "test"] * 15):
        (tmp_path / part).mkdir(exist_ok=True)
        Image.new("L", (8, 8), index).save(tmp_path / part / f"{index}.png")
    kinds = [KINDS[index % 3] for index in range(30)]
    (tmp_path / "labels.csv").write_text(table("id,label", [str(index) for index in range(30)]), encoding="utf-8")
    (tmp_path / "notes.csv").write_text("a,b\n1,2\n", encoding="utf-8")
    source = open_source(str(tmp_path))
    images = source.load()
    assert images.labels is not None
    found = {Path(name).stem: images.classes[label] for name, label in zip(images.names, images.labels, strict=True)}
    assert [found[str(index)] for index in range(30)] == kinds
    assert images.skipped == {".csv": 1}
    assert any("splits" in note for note in images.notes)
    (tmp_path / "labels.csv").write_text(table("id,label", [str(index) for index in range(15)]), encoding="utf-8")
    assert open_source(str(tmp_path)).fingerprint != source.fingerprint
