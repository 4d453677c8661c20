"""Classes out of folders: names of splits, wrappers, shards and copies are none, and whatever is inferred is said."""

import json
import tracemalloc
from typing import Any

import pytest

from equipoise.data.labels import labels_of


def found_in(names: list[str], dataset: str | None = None) -> tuple[list[int] | None, tuple[str, ...]]:
    found = labels_of(names, dataset)
    return (found.labels.tolist() if found.labels is not None else None), found.classes


def test_labels_are_found_in_memory_for_one_level_of_folders():
    names = ["folder/" * 60 + f"{index % 2}/{index}.png" for index in range(2_000)]
    tracemalloc.start()
    try:
        labels, classes = found_in(names)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
    assert labels == [0, 1] * 1_000
    assert classes == ("0", "1")


SPLITS = [f"{split}/{name}/images/{index}" for index in range(9) for split in ("train", "val") for name in "ab"]
SHARDS = [f"{index // 1000:05}/img{index:08}.png" for index in range(2_500)]


@pytest.mark.parametrize(
    ("names", "labels", "classes"),
    [
        (["cat/1", "dog/2", "cat/sub/3"], [0, 1, 0], ("cat", "dog")),
        (["1", "2"], None, ()),
        (["cat/1", "2"], None, ()),
        (["cat/1", "cat/2"], None, ()),
        (["all/cat/1", "all/dog/2"], [0, 1], ("cat", "dog")),
        (["train/dog/1", "test/cat/2"], [1, 0], ("cat", "dog")),
        (["train/1", "test/2"], None, ()),
        (["seg_train/seg_train/sea/1", "seg_test/seg_test/ice/2"], [1, 0], ("ice", "sea")),
        (["train/cat/1", "Validation_set/dog/2"], [0, 1], ("cat", "dog")),
        (["Training set/cat/1", "Test-Images/dog/2"], [0, 1], ("cat", "dog")),
        (["trainA/1", "trainB/2", "testA/3", "testB/4"], [0, 1, 0, 1], ("A", "B")),
        (["cat/1", "dog/2", "set/cat/1", "set/dog/2"], [0, 1, 0, 1], ("cat", "dog")),
        (["train/cat/1", "train/dog/2", "test/cat/3", "test/dog/4"], [0, 1, 0, 1], ("cat", "dog")),
        (["bus/1", "train/2", "car/3"], [0, 2, 1], ("bus", "car", "train")),
        (["train/dog/1", "train/cat/2"], [1, 0], ("cat", "dog")),
        (["trainset/dog/1", "TestImages/cat/2"], [1, 0], ("cat", "dog")),
        (["training-images/dog/1", "holdout/cat/2"], [1, 0], ("cat", "dog")),
        (["fold1/dog/1", "fold_2/cat/2"], [1, 0], ("cat", "dog")),
        (["训练集/dog/1", "测试集/cat/2"], [1, 0], ("cat", "dog")),
        (["tr/dog/1", "te/cat/2"], [1, 0], ("cat", "dog")),
        (["trn/dog/1", "tst/cat/2"], [1, 0], ("cat", "dog")),
        (["TRAIN/dog/1", "va/cat/2", "TS/cat/3"], [1, 0, 0], ("cat", "dog")),
        (["training/dog/1", "testing/cat/2"], [1, 0], ("cat", "dog")),
        (["train/dog/1", "validate/cat/2"], [1, 0], ("cat", "dog")),
        (["train/dog/1", "eval/cat/2", "holdout/cat/3", "dev/dog/4"], [1, 0, 0, 1], ("cat", "dog")),
        (["trainval/dog/1", "test/cat/2"], [1, 0], ("cat", "dog")),
        (["train_val/dog/1", "test/cat/2"], [1, 0], ("cat", "dog")),
        (["asl_alphabet_train/dog/1", "asl_alphabet_test/cat/2"], [1, 0], ("cat", "dog")),
        (["train_64x64/dog/1", "valid_64x64/cat/2"], [1, 0], ("cat", "dog")),
        (["treino/dog/1", "teste/cat/2"], [1, 0], ("cat", "dog")),
        (["tr/1", "te/2", "ta/3"], [2, 1, 0], ("ta", "te", "tr")),
        (["te/1", "ts/2"], [0, 1], ("te", "ts")),
        (["dev/1", "design/2"], [1, 0], ("design", "dev")),
        (["dev/dog/1", "dev/cat/2"], [1, 0], ("cat", "dog")),
        (["train/dog/1", "test/cat/2", "sample/cat/3"], None, ()),
        (["train_A/1", "train_B/2", "test_A/3"], [0, 1, 0], ("A", "B")),
        (["TrainA/1", "TrainB/2"], [0, 1], ("A", "B")),
        (["horse_train/1", "zebra_train/2", "horse_test/3", "zebra_test/4"], [0, 1, 0, 1], ("horse", "zebra")),
        (["DIV2K_train_HR/1", "DIV2K_valid_HR/2", "DIV2K_train_LR_x2/3"], [0, 0, 1], ("DIV2K_HR", "DIV2K_LR_x2")),
        (["test tubes/1", "train tracks/2", "cats/3"], [1, 2, 0], ("test tubes", "train tracks", "cats")),
        (["Train/Cat/1", "test/cat/2", "test/dog/3"], [0, 0, 1], ("cat", "dog")),
        (["Train/Cat/1", "Train/cat/2", "test/dog/3"], [0, 1, 2], ("Cat", "cat", "dog")),
        (["学習/dog/1", "テスト/cat/2"], [1, 0], ("cat", "dog")),
        (["훈련/dog/1", "테스트/cat/2"], [1, 0], ("cat", "dog")),
        (
            [f"{part}{split}/{name}/1" for part in ("", "all/") for split in ("train", "test") for name in "ab"]
            + ["val/a/1", "val/b/1"],
            [0, 1] * 5,
            ("a", "b"),
        ),
        (["train_masks/1", "train_labels/1", "test_masks/2", "test_labels/2"], None, ()),
        ([f"{index}/photo" for index in range(30)], None, ()),
        ([f"{index}/photo" for index in range(3)], [0, 1, 2], ("0", "1", "2")),
        (["images/1", "masks/1"], None, ()),
        (["images/train/1", "annotations/1"], None, ()),
        (["train/1", "test/2", "unlabeled/3"], None, ()),
        (["test tubes/1", "train tracks/2"], [0, 1], ("test tubes", "train tracks")),
        (SHARDS, None, ()),
        ([name for name in SHARDS if not name.endswith("42.png")], None, ()),
        ([f"{index // 1000:02}000/{index}" for index in range(2_500)], None, ()),
        ([*SPLITS, *(f"test/images/{index}" for index in range(4))], None, ()),
        ([*(f"train/{index}" for index in range(30)), *(f"train_masks/{index}" for index in range(30))], None, ()),
        (
            ["cover", *(f"{part}{'AB'[index % 2]}/{index}" for index in range(40) for part in ("train", "test"))],
            [-1, 0, 0, 1, 1],
            ("A", "B"),
        ),
    ],
)
def test_labels_come_from_first_level_folders(names: list[str], labels: list[int] | None, classes: tuple[str, ...]):
    found, found_classes = found_in(names)
    assert (found if labels is None or found is None else [found[i] for i in range(len(labels))]) == labels
    assert sorted(found_classes) == sorted(classes)


def test_images_of_classes_that_are_called_like_numbers_are_no_shards():
    labels, classes = found_in([f"{index % 3:05}/{index}.png" for index in range(30)])
    assert classes == ("00000", "00001", "00002")
    assert labels == [0, 1, 2] * 10


def test_a_few_images_beside_the_class_folders_are_marked_and_more_of_them_mean_no_classes():
    many = [f"{'cat' if index % 2 else 'dog'}/{index}" for index in range(200)]
    found = labels_of(["a", "b", *many])
    assert found.labels is not None
    assert (found.labels < 0).nonzero()[0].tolist() == [0, 1]
    assert found.classes == ("cat", "dog")
    assert found.notes[-1].split()[0] == "2"
    none = labels_of(["a", "b", "c", "d", *many])
    assert none.labels is None
    assert none.notes[0].split()[0] == "4"


def test_a_dataset_json_decides_over_folders():
    names = SHARDS[:40]
    pairs = [[name, index % 2 + 5] for index, name in enumerate(names)]
    assert found_in(names, json.dumps({"labels": pairs})) == ([0, 1] * 20, ("5", "6"))
    labels, classes = found_in(["a/1", "b/2"], json.dumps({"labels": None}))
    assert (labels, classes) == (None, ())


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        ([["a/1", [0, 1]], ["./b/2", [1.0, 0]]], ("0", "1")),
        ([["a\\1", 3.0], ["b\\2", 2.0]], ("2", "3")),
        ({"a/1": "sea", "b/2": "ice"}, ("ice", "sea")),
        ([["a/1", True], ["b/2", False]], ("0", "1")),
        ({"sea": ["b/2"], "zoo": ["a/1"]}, ("sea", "zoo")),
    ],
)
def test_labels_of_a_dataset_json_are_read_in_every_plain_form(labels: Any, classes: tuple[str, ...]):
    assert found_in(["a/1", "b/2"], json.dumps({"labels": labels})) == ([1, 0], classes)


def test_an_image_with_a_null_label_is_left_out_where_others_have_one():
    names = [f"{index}.png" for index in range(30)]
    pairs = [[name, None if index == 3 else index % 2] for index, name in enumerate(names)]
    labels, _ = found_in(names, json.dumps({"labels": pairs}))
    assert labels is not None
    assert (labels[3], labels.count(-1)) == (-1, 1)


@pytest.mark.parametrize("text", ["", "[]", "{}", "[" * 100_000])
def test_a_dataset_json_of_another_kind_is_passed_over(text: str):
    assert found_in(["a/1", "b/2"], text) == ([0, 1], ("a", "b"))


@pytest.mark.parametrize(
    ("labels", "note"),
    [
        ([["a/1", [0, 0.5]], ["b/2", [1, 0]]], "whole"),
        ([["a/1", 0.5], ["b/2", 1.5]], "whole"),
        ([["a/1", "cat"], ["b/2", 1]], "both"),
        ([["a/1", [[1]]], ["b/2", [1]]], "whole"),
        ([["a/1", 3]], "1 of 2"),
        ([["a.png", 3], ["b.png", 4]], "it names a.png, and an image here is a/1"),
        ([["a/1", 3], ["b/2", 4], ["a/1", 4]], "two labels for a/1"),
        ([{"file": "a/1", "label": 3}, {"file": "b/2", "label": 4}], "whole"),
        (3, "whole"),
    ],
)
def test_a_dataset_json_that_cannot_be_used_says_why_and_no_folder_takes_its_place(labels: Any, note: str):
    found = labels_of(["a/1", "b/2"], json.dumps({"labels": labels}))
    assert found.labels is None
    assert note in found.notes[0]


def test_a_label_for_each_image_is_no_class():
    pairs = [[f"{index}.png", index] for index in range(30)]
    found = labels_of([name for name, _ in pairs], json.dumps({"labels": pairs}))
    assert found.labels is None
    assert "30 different" in found.notes[0]


@pytest.mark.parametrize(
    ("names", "note"),
    [
        ([f"{index}/photo" for index in range(30)], "one image each"),
        (["Train/Cat/1", "test/cat/2", "test/dog/3"], "Cat, cat"),
        (["train/dog/1", "test/cat/2"], "splits"),
        (["cat/1", "dog/2"], "cat, dog"),
        (SHARDS, "00000, 00001, 00002"),
        (["trainA/1", "trainB/2"], "domains"),
        (["cat/1", "dog/2", "x/cat/1", "x/dog/2"], '"x"'),
    ],
)
def test_whatever_is_inferred_is_said(names: list[str], note: str):
    assert any(note in text for text in labels_of(names).notes)
