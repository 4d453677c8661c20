"""Several labels a picture: read out of tables, JSON and arrays, joined into combinations; refused with a reason."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from equipoise.data import several, store
from equipoise.data.label_tables import labels_by_tables
from equipoise.data.labels import Labels, labels_of
from equipoise.data.pool import prepare
from equipoise.data.several import Combined, called, combined, counts_of, never_seen, parted, places_of, renumbered
from equipoise.data.sources import SourceImages, open_source
from equipoise.errors import UserError
from equipoise.recipe import Data

NAMES = [f"{index:03}.png" for index in range(30)]
WORDS = [("hat", "smile"), (), ("smile",)]  # of images in turn
FOUND = [frozenset(WORDS[index % 3]) for index in range(30)]


def words_of(found: Labels | SourceImages) -> list[frozenset[str] | None]:
    """Return the labels of each image in words."""
    assert found.labels is not None
    sets = found.sets or tuple((index,) for index in range(len(found.classes)))
    return [None if place < 0 else frozenset(found.classes[index] for index in sets[place]) for place in found.labels]


def written(head: list[str], rows: list[list[str]], between: str = ",") -> str:
    file = io.StringIO()
    csv.writer(file, delimiter=between, lineterminator="\n").writerows([head, *rows])
    return file.getvalue()


def in_columns(on: str = "1", off: str = "0", more: list[str] | None = None) -> str:
    rows = [
        [name, *(on if word in words else off for word in ("hat", "smile")), *([] if more is None else more)]
        for name, words in zip(NAMES, FOUND, strict=True)
    ]
    return written(["image_id", "hat", "smile", *([] if more is None else ["beard"])], rows)


def in_cells(between: str, delimiter: str = ",") -> str:
    rows = [[name, between.join(sorted(words))] for name, words in zip(NAMES, FOUND, strict=True)]
    return written(["file", "labels"], rows, delimiter)


def as_lists(write: Callable[[list[str]], str]) -> str:
    return written(["file", "tags"], [[name, write(sorted(words))] for name, words in zip(NAMES, FOUND, strict=True)])


def of_table(text: str, path: str = "labels.csv") -> Labels:
    found = labels_by_tables(NAMES, {path: text})
    assert found is not None
    return found


# Tables


@pytest.mark.parametrize(
    "text",
    [
        in_columns(),
        in_columns("1", "-1"),
        in_columns("1.0", "0.0"),
        in_columns("True", "False"),
        in_columns("Yes", "No"),
        in_columns("1", ""),
        in_columns("x", ""),
        in_cells(";"),
        in_cells("|"),
        in_cells(","),
        in_cells(", ", "\t"),
        written(
            ["file", "tags"], [[name, json.dumps(sorted(words))] for name, words in zip(NAMES, FOUND, strict=True)]
        ),
        written(["file", "tags"], [[name, str(sorted(words))] for name, words in zip(NAMES, FOUND, strict=True)]),
    ],
)
def test_several_labels_are_read_from_columns_of_0_and_1_and_from_lists_in_cells(text: str) -> None:
    found = of_table(text)
    assert words_of(found) == FOUND
    assert found.classes == ("hat", "smile")
    assert found.sets == ((), (0, 1), (1,))
    assert found.used == ("labels.csv",)
    note = " ".join(found.notes)
    for told in ("labels.csv", "2 labels", "3 combinations", "10 images"):
        assert told in note


def test_a_line_for_each_label_of_an_image_is_read_and_a_slip_is_not() -> None:
    pairs = [[name, word] for name, words in zip(NAMES, FOUND, strict=True) for word in (*sorted(words), "all")]
    found = of_table(written(["file", "label"], pairs))
    assert words_of(found) == [words | {"all"} for words in FOUND]
    slip = [[name, "ab"[index % 2]] for index, name in enumerate(NAMES)] + [[NAMES[0], "b"]]
    assert of_table(written(["file", "label"], slip)).labels is None


@pytest.mark.parametrize("nothing", ["NaN", "nan", "<NA>", "NULL", ""])
def test_a_cell_that_says_that_it_holds_nothing_is_no_label(nothing: str) -> None:
    text = written(["file", "labels"], [[n, ";".join(sorted(w)) or nothing] for n, w in zip(NAMES, FOUND, strict=True)])
    assert words_of(of_table(text)) == FOUND


def test_a_table_of_a_spreadsheet_is_read_with_its_mark_its_line_ends_and_a_comma_too_many() -> None:
    text = in_columns(more=["0"]).replace("beard", "a; b").replace("\n", ",\r\n")
    assert words_of(of_table("\ufeff" + text)) == FOUND


def test_the_lists_of_an_image_folders_metadata_are_read() -> None:
    lines = [json.dumps({"file_name": name, "tags": sorted(words)}) for name, words in zip(NAMES, FOUND, strict=True)]
    assert words_of(of_table("\n".join(lines), "metadata.jsonl")) == FOUND


def test_rows_of_one_label_each_are_classes_as_without_several() -> None:
    kinds = ["1,-1,-1", "-1,1,-1", "-1,-1,1"]
    found = of_table("image,cat,dog,eel\n" + "\n".join(f"{n},{kinds[i % 3]}" for i, n in enumerate(NAMES)))
    assert (found.classes, found.sets) == (("cat", "dog", "eel"), ())
    assert found.labels is not None
    assert found.labels.tolist() == [0, 1, 2] * 10


@pytest.mark.parametrize(
    "cells",
    [
        ["tench, Tinca tinca", "goldfish, Carassius auratus", "cock"],
        ["Terrier, Bull", "Terrier, Fox", "Pug"],
        ["cat", "dog"],
        ["0.5", "[wild]"],
    ],
)
def test_a_class_with_a_comma_in_its_name_stays_one(cells: list[str]) -> None:
    assert parted(cells * 5) is None


def in_lines(write: Callable[[int], Any], head: str = "label") -> str:
    return written(["file", head], [[name, write(index)] for index, name in enumerate(NAMES)])


def as_metadata(name: str, write: Callable[[int], Any]) -> Labels:
    lines = [json.dumps({"file_name": file, name: write(index)}) for index, file in enumerate(NAMES)]
    return of_table("\n".join(lines), "metadata.jsonl")


@pytest.mark.parametrize("between", [";", "|", ", "])
def test_a_number_for_each_label_in_a_cell_is_a_label_where_it_is_1(between: str) -> None:
    found = of_table(in_lines(lambda index: between.join(str(index >> bit & 1) for bit in range(3))))
    assert words_of(found) == [frozenset(str(bit) for bit in range(3) if index >> bit & 1) for index in range(30)]
    assert words_of(as_metadata("label", lambda index: [index & 1, index >> 1 & 1])) == [
        frozenset(str(bit) for bit in range(2) if index >> bit & 1) for index in range(30)
    ]


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (of_table(in_lines(lambda index: f"{index % 5},{index % 4}")), '"0,0"'),
        (of_table(in_lines(lambda index: f"{index % 5},{index % 4}" if index % 3 else "7")), ";"),
        (of_table(in_lines(lambda index: f"{index % 5},{index % 4},9,3")), ",9,3"),
        (of_table(in_lines(lambda index: f"{index % 5}.5;{index % 4}.5")), ".5"),
        (of_table(in_lines(lambda index: f"{index % 5};{index % 4};9", "bbox")), '"labels"'),
        (as_metadata("bbox", lambda index: [index % 5, index % 4, 9, 3]), '"labels"'),
    ],
)
def test_boxes_points_and_decimal_commas_are_never_read_as_labels(found: Labels, told: str) -> None:
    assert found.labels is None
    assert told in found.notes[0]


def test_numbers_of_labels_are_read_where_the_column_says_that_they_are_such() -> None:
    found = as_metadata("labels", lambda index: [index % 3, 3 + index % 2])
    assert words_of(found) == [frozenset((str(index % 3), str(3 + index % 2))) for index in range(30)]
    found = of_table(in_lines(lambda index: ["01;2", "1.0;2", "2"][index % 3]))
    assert words_of(found) == [frozenset(("12", "12", "2")[index % 3]) for index in range(30)]


def test_one_label_each_written_as_a_list_is_a_class_without_brackets_and_signs() -> None:
    for found in (
        as_metadata("label", lambda index: ["ab"[index % 2]]),
        of_table(in_lines(lambda index: str(["ab"[index % 2]]))),
        of_table(in_lines(lambda index: "ab"[index % 2] + ";")),
    ):
        assert (found.classes, found.sets) == (("a", "b"), ())


def test_a_column_of_the_split_is_no_label() -> None:
    rows = [[name, index % 2, *(int(word in words) for word in ("hat", "smile"))]
            for index, (name, words) in enumerate(zip(NAMES, FOUND, strict=True))]  # fmt: skip
    assert words_of(of_table(written(["file", "is_train", "hat", "smile"], rows))) == FOUND
    assert of_table(in_lines(lambda index: ["train", "test"][index % 2], "split")).labels is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (in_columns(more=["0"]), "beard"),
        (in_columns(more=[""]), "empty"),
        (in_columns("1", "", [""]), "is empty, where the others hold a mark or nothing"),
        (in_columns("1", "", ["7"]).replace(",7\n", ",0\n", 3), 'holds "7", where the others hold a mark or nothing'),
        (in_columns(more=["2"]), '"2"'),
        (in_columns("1", "0", ["-1"]), "-1"),
        (written(["f", "hat", "smile"], [[name, "0", "0"] for name in NAMES]), "no image has a label"),
        (written(["f", "hat", "smile"], [[name, "1", "1"] for name in NAMES]), "same labels"),
        (written(["f", "", "smile"], [[name, "1", "0"] for name in NAMES]), "name"),
        (in_columns().replace("\n003.png", "\nx").replace("\n004.png", "\ny"), "28 of 30"),
        (written(["f", "labels"], [[n, f"{i};{i + 1};{(i * 7) % 300 + 300}"] for i, n in enumerate(NAMES)]), "labels"),
    ],
)
def test_what_cannot_be_used_or_is_left_out_is_told_with_the_value_and_the_column(text: str, told: str) -> None:
    assert told in " ".join(of_table(text).notes)


def test_more_labels_than_networks_are_told_are_refused_with_the_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(several, "MOST_LABELS", 1)
    found = of_table(in_columns())
    assert found.labels is None
    assert "2 different labels" in " ".join(found.notes)
    assert "at most 1 " in " ".join(found.notes)


# dataset.json


@pytest.mark.parametrize(
    "labels",
    [
        [[name, [index % 2, 1]] for index, name in enumerate(NAMES, 1)],
        [[name, [1 if index % 2 else -1, 1]] for index, name in enumerate(NAMES, 1)],
        [[name, words] for name, words in zip(NAMES, [["0", "1"], ["1"]] * 15, strict=True)],
        [[name, words] for name, words in zip(NAMES, [["0", "1"], "1"] * 15, strict=True)],
        [[name, words] for name, words in zip(NAMES, [["0 ", " 1", ""], ["1"]] * 15, strict=True)],
        dict(zip(NAMES, [["0", "1"], ["1"]] * 15, strict=True)),
    ],
)
def test_lists_of_a_dataset_json_are_several_labels(labels: Any) -> None:
    found = labels_of(NAMES, json.dumps({"labels": labels}))
    assert words_of(found) == [frozenset("01"), frozenset("1")] * 15
    assert "dataset.json" in found.notes[0]


@pytest.mark.parametrize("label", [[0.25, 0.5], [0, 1, 0], [0, -1], [[1], [0]], ["a", 1], {"a": 1}])
def test_other_lists_of_a_dataset_json_are_refused_with_a_reason(label: Any) -> None:
    found = labels_of(NAMES, json.dumps({"labels": [[name, [1, 1]] for name in NAMES[1:]] + [[NAMES[0], label]]}))
    assert found.labels is None
    assert "0 and 1" in found.notes[0] or label == ["a", 1]
    assert found.notes[0].startswith("dataset.json")


def test_lists_of_one_word_each_are_classes_and_a_word_of_its_own_for_each_image_is_none() -> None:
    found = labels_of(NAMES, json.dumps({"labels": [[name, ["ab"[i % 2]]] for i, name in enumerate(NAMES)]}))
    assert (found.classes, found.sets) == (("a", "b"), ())
    found = labels_of(NAMES, json.dumps({"labels": [[name, [name]] for name in NAMES]}))
    assert found.labels is None
    assert "30" in found.notes[0]


# Arrays


def saved(path: Path, **arrays: Any) -> Path:
    num = len(next(iter(arrays.values())))
    images = np.random.default_rng(0).integers(0, 255, (num, 8, 8), dtype=np.uint8)
    np.savez(path, images=images, **arrays)
    return path


def hot(num: int = 240) -> np.ndarray:
    return (np.arange(num)[:, None] >> np.arange(3)) % 2  # every combination of three labels in turn


@pytest.mark.parametrize("rows", [hot(), hot() * 2 - 1, hot().astype(bool), hot().astype(float)])
def test_rows_of_an_npz_are_several_labels(tmp_path: Path, rows: np.ndarray) -> None:
    names = np.array(["hat", "smile", "beard"])
    found = open_source(str(saved(tmp_path / "a.npz", labels=rows, label_names=names))).load()
    assert words_of(found) == [frozenset(names[row > 0].tolist()) for row in rows]
    assert found.classes == tuple(names.tolist())
    assert not any("not read" in note for note in found.notes)
    plain = open_source(str(saved(tmp_path / "b.npz", labels=rows))).load()
    assert plain.classes == ("0", "1", "2")


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (hot() * 3, "3"),
        (hot() * 0.5, "0.5"),
        (np.where(hot() == 1, 1, np.where(np.arange(3) == 1, -1, 0)), "-1"),
        (np.zeros((240, 3)), "no image"),
        (np.eye(300)[:240] + np.eye(300)[60:], "256"),
    ],
)
def test_rows_of_an_npz_that_are_no_labels_are_refused_in_words(tmp_path: Path, rows: np.ndarray, told: str) -> None:
    with pytest.raises(UserError) as refused:
        open_source(str(saved(tmp_path / "a.npz", labels=rows))).load()
    assert told in refused.value.problem


@pytest.mark.parametrize("names", [["a", "b"], ["a", "b", "a"], ["a", "b", " "]])
def test_names_of_another_number_than_the_labels_are_refused(tmp_path: Path, names: list[str]) -> None:
    with pytest.raises(UserError) as refused:
        open_source(str(saved(tmp_path / "a.npz", labels=hot(), label_names=np.array(names)))).load()
    assert "3" in refused.value.problem


# Combinations


def test_labels_are_counted_over_combinations_and_numbers_are_in_their_order() -> None:
    found = combined([frozenset(["10", "2"]), frozenset(["2"]), frozenset(), frozenset(["10", "2"])])
    assert found.classes == ("2", "10")
    assert found.sets == ((), (0,), (0, 1))
    assert found.labels.tolist() == [2, 1, 0, 2]
    assert counts_of(found.labels, found.classes, found.sets) == (3, 2)
    assert counts_of(np.array([0, 1, 1]), ("a", "b", "c"), ()) == (1, 2, 0)


def test_what_no_usable_image_has_is_dropped_and_the_rest_is_renumbered() -> None:
    every = Combined(np.array([3, 1, 3, 1]), ("a", "b", "c"), ((), (0, 2), (1,), (2,)))
    left = renumbered(every)
    assert (left.labels.tolist(), left.classes, left.sets) == ([1, 0, 1, 0], ("a", "c"), ((0, 1), (1,)))
    single = renumbered(Combined(np.array([3, 2, 3]), ("a", "b", "c"), ((), (0, 2), (1,), (2,))))
    assert (single.labels.tolist(), single.classes, single.sets) == ([1, 0, 1], ("b", "c"), ())


def test_labels_are_asked_for_with_commas_and_a_combination_that_no_picture_has_is_told_with_the_nearest() -> None:
    classes = ("a", "b, c", "d")
    assert places_of("d, a", classes) == places_of("a|d", classes) == (0, 2)
    assert places_of("b, c", classes) == (1,)
    assert places_of("b, c; a", classes) == places_of("a, b, c,", classes) == (0, 1)
    assert places_of("", classes) == places_of("no label", classes) == ()
    assert places_of("no label", ("no label", "e;f")) == (0,)
    assert places_of("e;f", ("no label", "e;f")) == (1,)
    assert places_of(called((0, 1), classes), classes) == (0, 1)
    with pytest.raises(UserError):
        places_of("a, e", classes)
    sets = ((), (0,), (0, 1), (2,))
    assert never_seen((0, 1), classes, sets, (5, 4, 3, 2)) == ""
    text = never_seen((0, 2), classes, sets, (5, 4, 0, 2))
    assert text.endswith("a (4); d (2); no label (5)")
    assert never_seen((0, 1), classes, sets, (5, 4, 0, 2)) != "", "of held-out pictures alone"


def test_a_table_of_several_labels_that_names_other_images_is_not_passed_over_in_silence() -> None:
    others = in_columns().replace(".png", "-gone.png")
    found = of_table(others)
    assert found.labels is None
    assert "labels.csv" in found.notes[0]
    assert "image_id" in found.notes[0]
    assert labels_by_tables(NAMES, {"prices.csv": "id,price,weight\n900,3,7\n901,4,8\n"}) is None


def test_names_of_no_image_are_told_where_images_seem_to_have_no_labels() -> None:
    misspelt = in_columns().replace("003.png", "3a.png").replace("004.png", "4a.png")
    (note,) = of_table(misspelt).notes
    assert "28 of 30" in note
    assert "2 names" in note
    assert "3a.png" in note


def test_names_beside_one_label_for_each_image_are_told_to_be_unread(tmp_path: Path) -> None:
    images = np.zeros((30, 8, 8), np.uint8)
    for labels in (np.arange(30) % 3, np.eye(3, dtype=int)[np.arange(30) % 3]):
        np.savez(tmp_path / "a.npz", images=images, labels=labels, class_names=np.array(["a", "b", "c"]))
        found = open_source(str(tmp_path / "a.npz")).load()
        assert (found.classes, found.sets) == (("0", "1", "2"), ())
        assert "class_names" in " ".join(found.notes)


def test_a_pool_keeps_the_combinations_and_other_labels_make_another_pool(tmp_path: Path) -> None:
    for index, name in enumerate(NAMES):
        Image.fromarray(np.random.default_rng(index).integers(0, 255, (8, 8), dtype=np.uint8)).save(tmp_path / name)
    table = tmp_path / "attributes.csv"
    digests = set()
    for text in (in_columns(), in_columns(more=["0"]).replace("000.png,1,1,0", "000.png,1,1,1")):
        table.write_text(text, encoding="utf-8")
        first, again = (prepare(Data(source=str(tmp_path)), cache=tmp_path / "cache") for _ in range(2))
        assert (first.sets, first.classes, first.digest) == (again.sets, again.classes, again.digest)
        assert first.labels is not None
        assert [len(first.sets[label]) for label in first.labels[:3]] == [2 if len(first.classes) == 2 else 3, 0, 1]
        digests.add(first.digest)
    assert len(digests) == 2


def test_a_damaged_list_of_combinations_is_no_pool(tmp_path: Path) -> None:
    images = np.zeros((4, 1, 8, 8), np.uint8)
    sets = ((), (0,), (0, 1))
    content = store.write(tmp_path, [(np.arange(4), images)], np.array([0, 1, 2, 2]), ("a", "b"), sets)
    store.note(tmp_path, "k", store.Listing(content, [], 0))
    found = store.find(tmp_path, "k")
    assert found is not None
    assert found[0].sets == sets
    meta = tmp_path / "pools" / content / "pool.json"
    meta.write_text(meta.read_text().replace("[0, 1]", "[0, 7]"))
    assert store.find(tmp_path, "k") is None
