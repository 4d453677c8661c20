"""What is seen of a source before it is fitted: headers of all, and some images in their own size."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from equipoise.data.glance import NUM_LOOKED_AT, glance


def saved(folder: Path, pixels: np.ndarray, name: str) -> None:
    folder.mkdir(exist_ok=True)
    Image.fromarray(pixels).save(folder / name)


def test_headers_of_all_files_and_colours_of_some(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for index in range(12):
        saved(tmp_path / "a", generator.integers(0, 256, (20, 30, 3)).astype(np.uint8), f"{index}.png")
    for index in range(4):
        saved(tmp_path / "a", generator.integers(0, 256, (40, 40)).astype(np.uint8), f"grey {index}.png")
    (tmp_path / "a" / "broken.png").write_bytes(b"no picture")
    found = glance(str(tmp_path / "a"))
    sizes = {(header.width, header.height, header.mode): num for header, num in found.headers.items()}
    assert sizes == {(30, 20, "RGB"): 12, (40, 40, "grey"): 4}
    assert found.side == 20
    assert found.share_coloured == 12 / 16
    assert [look.sheet for look in found.looks] == [None] * 16


def test_grey_pictures_saved_in_colour_are_grey(tmp_path: Path) -> None:
    for index in range(3):
        grey = np.random.default_rng(index).integers(0, 256, (16, 16, 1)).astype(np.uint8)
        saved(tmp_path / "a", grey.repeat(3, 2), f"{index}.png")
    assert glance(str(tmp_path / "a")).share_coloured == 0


def test_one_much_larger_file_is_looked_at_among_many(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for index in range(3 * NUM_LOOKED_AT):
        saved(tmp_path / "a", generator.integers(0, 256, (8, 8, 3)).astype(np.uint8), f"{index:04d}.png")
    saved(tmp_path / "a", generator.integers(0, 256, (80, 80, 3)).astype(np.uint8), "0001 large.png")
    looks = glance(str(tmp_path / "a")).looks
    assert looks[0].name == "0001 large.png"
    assert len(looks) == NUM_LOOKED_AT + 1


def test_an_array_is_looked_at_as_files_are(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (200, 10, 12, 3)).astype(np.uint8)
    np.savez(tmp_path / "a.npz", images=images)
    found = glance(str(tmp_path / "a.npz"))
    assert sum(found.headers.values()) == 200
    assert [(header.width, header.height) for header in found.headers] == [(12, 10)]
    assert found.share_coloured == 1


@pytest.mark.parametrize("values", [np.float32(1 / 255), np.float64(1), np.uint16(257)])
def test_an_array_of_other_numbers_than_bytes_is_looked_at_as_its_bytes_are(tmp_path: Path, values: np.number) -> None:
    images = np.random.default_rng(0).integers(0, 256, (20, 10, 12, 3)).astype(np.uint8)
    np.savez(tmp_path / "a.npz", images=images * values)
    np.savez(tmp_path / "b.npz", images=images)
    found = glance(str(tmp_path / "a.npz"))
    assert found.headers == glance(str(tmp_path / "b.npz")).headers
    assert found.share_coloured == 1
