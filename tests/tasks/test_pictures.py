"""Pictures: every image in its place, in its own colours, and files whole or absent."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from equipoise.tasks import pictures
from equipoise.tasks.pictures import GAP, save_each, save_grid


def constant(values: list[float], channels: int, size: int = 8) -> torch.Tensor:
    return torch.tensor(values).reshape(-1, 1, 1, 1).expand(-1, channels, size, size)


@pytest.mark.parametrize("num", [1, 2, 5, 9])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_grid_holds_every_image_in_reading_order(tmp_path: Path, num: int, channels: int) -> None:
    values = [-1 + 2 * index / num for index in range(num)]
    with Image.open(save_grid(constant(values, channels), tmp_path / "new" / "grid.png", scale=2)) as image:
        pixels = np.asarray(image.convert("RGB"))
    columns = math.ceil(math.sqrt(num))
    tile = 8 * 2 + GAP
    assert pixels.shape[:2] == (math.ceil(num / columns) * tile + GAP, columns * tile + GAP)
    for index, value in enumerate(values):
        row, column = divmod(index, columns)
        inside = pixels[row * tile + GAP : (row + 1) * tile, column * tile + GAP : (column + 1) * tile]
        assert (inside == round((value + 1) * 127.5)).all()
    assert (pixels[:GAP] == 255).all()


def test_small_images_are_enlarged_and_large_ones_are_not(tmp_path: Path) -> None:
    for size, side in ((8, 64), (28, 56), (64, 64), (128, 128)):
        with Image.open(save_grid(constant([0.0], 1, size), tmp_path / "grid.png")) as image:
            assert image.size == (side + 2 * GAP, side + 2 * GAP)


def test_each_image_is_written_exactly_across_batches(tmp_path: Path) -> None:
    images = torch.randint(0, 256, (5, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    batches = (images.float() / 127.5 - 1).split(2)
    assert save_each(batches, tmp_path / "new" / "folder") == 5
    files = sorted((tmp_path / "new" / "folder").iterdir())
    assert [file.name for file in files] == [f"{index:06d}.png" for index in range(5)]
    for file, image in zip(files, images, strict=True):
        assert (np.asarray(Image.open(file)) == image.permute(1, 2, 0).numpy()).all()


def test_a_grid_that_cannot_be_written_leaves_the_old_one_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_grid(constant([0.0], 1), tmp_path / "grid.png")
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pictures, "write_bytes", full)
    with pytest.raises(OSError, match="No space"):
        save_grid(constant([1.0], 1), path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["grid.png"]
