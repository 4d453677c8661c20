"""Photographs in their own sizes: upright, in colour, cut to a multiple of a scale, split by content."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from equipoise.data import photos
from equipoise.data.decode import BrokenImage
from equipoise.data.photos import read_photo, read_photos
from equipoise.errors import UserError

DRAW = np.random.default_rng(0)


def pixels(height: int, width: int, *channels: int) -> np.ndarray:
    """Return random pixels."""
    return DRAW.integers(0, 256, (height, width, *channels)).astype(np.uint8)


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """Return an image as the bytes of a file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def folder_of(path: Path, sizes: list[tuple[int, int]]) -> Path:
    """Write photographs of these heights and widths."""
    path.mkdir(exist_ok=True)
    for index, size in enumerate(sizes):
        Image.fromarray(pixels(*size, 3)).save(path / f"{index:02d}.png")
    return path


# One photograph


def test_colour_is_kept_to_the_pixel() -> None:
    image = pixels(9, 7, 3)
    assert np.array_equal(read_photo(encoded(Image.fromarray(image))), image)
    assert np.array_equal(read_photo(image), image)


def test_grey_palette_and_deep_images_become_colour() -> None:
    grey = pixels(9, 7)
    expected = np.repeat(grey[:, :, None], 3, 2)
    deep = Image.fromarray(grey.astype(np.uint16) * 257)
    for raw in (encoded(Image.fromarray(grey)), encoded(deep), grey[:, :, None]):
        assert np.array_equal(read_photo(raw), expected)
    palette = Image.fromarray(pixels(9, 7, 3)).quantize(8)
    assert np.array_equal(read_photo(encoded(palette)), np.asarray(palette.convert("RGB")))


def test_what_is_transparent_is_white() -> None:
    image = pixels(4, 4, 4)
    image[:, :2, 3] = 0
    image[:, 2:, 3] = 255
    found = read_photo(encoded(Image.fromarray(image)))
    assert (found[:, :2] == 255).all()
    assert np.array_equal(found[:, 2:], image[:, 2:, :3])


def test_print_colours_become_screen_colours() -> None:
    image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    found = read_photo(encoded(image, "JPEG", quality=95))
    assert np.abs(found.astype(int) - [255, 0, 0]).max() < 12


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_are_turned_as_their_camera_says(orientation: int) -> None:
    image = pixels(6, 4, 3)
    seen = {
        1: image,
        2: image[:, ::-1],
        3: image[::-1, ::-1],
        4: image[::-1],
        5: image.transpose(1, 0, 2),
        6: np.rot90(image, -1),
        7: image[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(image, 1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = read_photo(encoded(Image.fromarray(image), exif=exif))
    assert np.array_equal(found, seen[orientation])


def test_one_pixel_is_a_photograph_and_large_ones_are_reduced_where_asked() -> None:
    assert read_photo(encoded(Image.fromarray(pixels(1, 1, 3)))).shape == (1, 1, 3)
    wide = encoded(Image.fromarray(pixels(3, 300, 3)))
    assert read_photo(wide).shape == (3, 300, 3)
    assert read_photo(wide, 100).shape == (1, 100, 3)
    assert read_photo(encoded(Image.fromarray(pixels(1, 300, 3))), 100).shape == (1, 100, 3)
    assert read_photo(wide, 300).shape == (3, 300, 3)


def test_what_is_no_image_says_so() -> None:
    for raw in (b"", b"RIFF\0\0\0\0WAVE", encoded(Image.fromarray(pixels(40, 40, 3)))[:100]):
        with pytest.raises(BrokenImage):
            read_photo(raw)


# All photographs of a source


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_photographs_are_cut_to_a_multiple_of_the_scale(tmp_path: Path, scale: int) -> None:
    folder = folder_of(tmp_path / "photos", [(24, 36), (25, 37), (31, 29)])
    found = read_photos(str(folder), scale, 12)
    for image, name in zip(found.images, found.names, strict=True):
        original = np.asarray(Image.open(folder / name)).transpose(2, 0, 1)
        height, width = (side // scale * scale for side in original.shape[1:])
        assert np.array_equal(image, original[:, :height, :width])
        assert image.flags["C_CONTIGUOUS"]


def test_a_photograph_that_is_too_small_after_the_cut_is_rejected(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "photos", [(33, 40), (32, 40), (40, 32), *[(40, 40)] * 5])
    found = read_photos(str(folder), 4, 32)
    assert len(found.images) == 8
    assert not found.rejected
    found = read_photos(str(folder), 4, 36)
    assert [rejected.name for rejected in found.rejected] == ["00.png", "01.png", "02.png"]
    assert "40x33" in found.rejected[0].reason
    assert "36" in found.rejected[0].reason
    assert found.names == tuple(f"{index:02d}.png" for index in range(3, 8))


def test_a_few_broken_files_are_told_and_many_end_the_reading(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "photos", [(40, 40)] * 5)
    for index in range(3):
        (folder / f"broken{index}.png").write_bytes(b"no image")
    found = read_photos(str(folder), 2, 32)
    assert (len(found.images), len(found.rejected)) == (5, 3)
    (folder / "broken3.png").write_bytes(b"no image")
    with pytest.raises(UserError) as error:
        read_photos(str(folder), 2, 32)
    assert "5 of 9" in error.value.problem
    assert str(folder) in str(error.value.subject)


def test_nothing_that_can_be_used_is_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "photos", [(10, 10)])
    with pytest.raises(UserError) as error:
        read_photos(str(folder), 2, 32)
    assert "0 of 1" in error.value.problem


def test_photographs_beyond_the_memory_are_left_out_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folder_of(tmp_path / "photos", [(40, 40)] * 5)
    monkeypatch.setattr(photos, "MAX_BYTES", 3 * 40 * 40 * 3 + 10)
    found = read_photos(str(folder), 2, 32)
    assert (len(found.images), found.num_left_out, found.rejected) == (3, 2, ())


def test_large_photographs_are_reduced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photos, "MAX_SIDE", 64)
    folder = folder_of(tmp_path / "photos", [(128, 80), (40, 40)])
    assert [image.shape for image in read_photos(str(folder), 2, 32).images] == [(3, 64, 40), (3, 40, 40)]


def test_the_digest_and_hashes_are_of_what_is_seen_in_its_size(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "photos", [(40, 60), (60, 40), (40, 60)])
    first = Image.open(folder / "00.png")
    first.save(folder / "03.bmp")  # the same pixels in another file
    turned = Image.fromarray(np.asarray(first).reshape(60, 40, 3))
    turned.save(folder / "04.png")  # the same bytes in another size
    found = read_photos(str(folder), 2, 32)
    assert found.hashes[0] == found.hashes[3]
    assert len(set(found.hashes.tolist())) == 4
    again = read_photos(str(folder), 2, 32)
    assert again.digest == found.digest
    (folder / "02.png").unlink()
    assert read_photos(str(folder), 2, 32).digest != found.digest


def test_a_zip_is_read_as_a_folder_is(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "photos", [(40, 60), (60, 40)])
    path = tmp_path / "photos.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, f"train/{file.name}")
    found = read_photos(str(path), 2, 32)
    assert found.digest == read_photos(str(folder), 2, 32).digest
    assert found.names == ("train/00.png", "train/01.png")


def test_progress_counts_every_file(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "photos", [(40, 40)] * 4)
    told: list[tuple[int, int]] = []
    read_photos(str(folder), 2, 32, lambda done, total: told.append((done, total)))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
