"""What Python gives in place of a path is answered with what was received, and with lines that make a source of it."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import equipoise as eq
from equipoise.api import check_data
from equipoise.data.given import refuse_no_place
from equipoise.data.sources import open_source
from equipoise.errors import Option, UserError

IMAGES = np.random.default_rng(0).integers(0, 256, (30, 3, 8, 8), np.uint8)
LABELS = torch.arange(30) % 3


class Pairs(Dataset):
    """Images with whole numbers."""

    def __len__(self) -> int:
        return 30

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        if index >= 30:
            raise IndexError
        return torch.from_numpy(IMAGES[index]) / 255, index % 3


class Named(Pairs):
    """The same, by name."""

    def __getitem__(self, index: int) -> Any:
        image, label = super().__getitem__(index)
        return {"id": index, "pixels": image, "label": label}


class Stream(IterableDataset):
    """Images without places."""

    def __iter__(self) -> Any:
        return iter(torch.from_numpy(IMAGES))


PILLOW = [Image.fromarray(image.transpose(1, 2, 0)) for image in IMAGES]


def refusal(given: Any) -> UserError:
    with pytest.raises(UserError) as refused:
        refuse_no_place(given)
    return refused.value


@pytest.mark.parametrize(
    ("name", "given", "received"),
    [
        ("images", torch.from_numpy(IMAGES), ("Tensor", "[30, 3, 8, 8]", "uint8")),
        ("images", torch.from_numpy(IMAGES / 255).bfloat16().requires_grad_(), ("Tensor", "bfloat16")),
        ("images", IMAGES, ("ndarray", "[30, 3, 8, 8]")),
        ("images", list(torch.from_numpy(IMAGES)), ("list", "30", "[3, 8, 8]")),
        ("images", PILLOW, ("list", "30", "Image")),
        ("dataset", Pairs(), ("Pairs", "30", "[3, 8, 8]", "int")),
        ("dataset", Named(), ("Named", "30", "[3, 8, 8]")),
        ("dataset", TensorDataset(torch.from_numpy(IMAGES), LABELS), ("TensorDataset", "30")),
        ("loader", DataLoader(Pairs(), batch_size=4), ("DataLoader", "Pairs", "30")),
    ],
)
def test_the_line_that_is_advised_makes_a_source_of_the_same_images(
    name: str, given: Any, received: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "images.npz").write_bytes(b"mine")
    refused = refusal(given)
    assert refused.subject == Option("source")
    assert all(word in refused.problem for word in received)
    assert len(str(refused)) < 500
    line = re.search(r"np\.savez\(.*\)(?=, then)", str(refused.remedies[0]))
    assert line is not None
    exec(line[0], {"np": np, name: given})  # noqa: S102
    assert (tmp_path / "images.npz").read_bytes() == b"mine"
    found = open_source("images-2.npz").load()
    assert found.array is not None
    values = found.array if found.array.dtype == np.uint8 else np.rint(found.array * 255)
    if "bfloat16" not in received:
        assert np.array_equal(values, IMAGES.transpose(0, 2, 3, 1))
    has_labels = name != "images" and not isinstance(given, Named)
    assert (found.labels is not None) == has_labels


def test_points_are_advised_a_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    points = torch.randn(200, 2)
    line = re.search(r"np\.savetxt\(.*\)(?=, then)", str(refusal(points).remedies[0]))
    assert line is not None
    exec(line[0], {"np": np, "points": points})  # noqa: S102
    assert np.allclose(np.loadtxt("points.csv", delimiter=","), points, atol=1e-6)


@pytest.mark.parametrize(
    "given",
    [
        Stream(),
        DataLoader(Stream()),
        ["a.png", "b.png"],
        [IMAGES[0], IMAGES[1][:, :4]],
        [],
        {"images": IMAGES},
        b"photos",
        3,
        PILLOW[0],
        object(),
        torch.ones(5),
    ],
)
def test_anything_else_is_refused_in_one_short_message_with_a_remedy(given: Any) -> None:
    refused = refusal(given)
    assert refused.remedies
    assert len(str(refused)) < 400


def test_a_data_set_of_a_folder_is_answered_with_the_folder(tmp_path: Path) -> None:
    class ImageFolder(Pairs):
        root = str(tmp_path)
        samples = ()

    assert str(tmp_path) in str(refusal(ImageFolder()).remedies[0])


def test_every_function_that_takes_a_source_refuses_what_is_none(tmp_path: Path) -> None:
    for call, name in (
        (lambda: eq.train(IMAGES), "source"),  # pyright: ignore[reportArgumentType]
        (lambda: check_data(Pairs()), "source"),  # pyright: ignore[reportArgumentType]
        (lambda: eq.resume(tmp_path, source=IMAGES), "source"),  # pyright: ignore[reportArgumentType]
        (lambda: eq.evaluate(IMAGES, tmp_path), "target"),  # pyright: ignore[reportArgumentType]
        (lambda: eq.evaluate(tmp_path, DataLoader(Pairs())), "against"),  # pyright: ignore[reportArgumentType]
    ):
        with pytest.raises(UserError) as refused:
            call()
        assert refused.value.subject == Option(name)
