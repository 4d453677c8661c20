"""Exhibits: every image in its place and in its own colours, sounds and animations that can be played again."""

import io
import json
import math
import wave

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from equipoise.report.exhibits import Content, Media, Rows, content_of
from equipoise.report.values import Chart
from equipoise.tasks import exhibits
from equipoise.tasks.base import Exhibit
from equipoise.tasks.exhibits import GAP, grid, picture


def constant(values: list[float], channels: int, size: int = 8) -> Tensor:
    """Return images of one value each."""
    return torch.tensor(values).reshape(-1, 1, 1, 1).expand(-1, channels, size, size)


def pixels_of(png: bytes) -> np.ndarray:
    """Return the pixels of a PNG file in colour."""
    with Image.open(io.BytesIO(png)) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def on_the_page(exhibit: Exhibit) -> Content:
    """Return an exhibit as the report shows it."""
    found = content_of(exhibit.kind, exhibit.title, exhibit.content)
    assert found is not None
    return found


@pytest.mark.parametrize("num", [1, 2, 5, 9])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_grid_holds_every_image_in_reading_order(num: int, channels: int) -> None:
    values = [-1 + 2 * index / num for index in range(num)]
    pixels = pixels_of(grid(constant(values, channels), scale=2))
    columns = math.ceil(math.sqrt(num))
    tile = 8 * 2 + GAP
    assert pixels.shape[:2] == (math.ceil(num / columns) * tile + GAP, columns * tile + GAP)
    for index, value in enumerate(values):
        row, column = divmod(index, columns)
        inside = pixels[row * tile + GAP : (row + 1) * tile, column * tile + GAP : (column + 1) * tile]
        assert (inside == round((value + 1) * 127.5)).all()
    assert (pixels[:GAP] == 255).all()


def test_a_grid_keeps_the_columns_it_is_given_and_the_shape_of_its_tiles() -> None:
    images = torch.zeros(6, 3, 10, 20)
    assert pixels_of(grid(images, columns=2, scale=1)).shape == (3 * 12 + 2, 2 * 22 + 2, 3)
    assert pixels_of(grid(images[:1], scale=1)).shape == (14, 24, 3)


def test_small_images_are_enlarged_and_large_ones_are_not() -> None:
    for size, side in ((8, 64), (28, 56), (64, 64), (128, 128)):
        assert pixels_of(grid(constant([0.0], 1, size))).shape[:2] == (side + 2 * GAP, side + 2 * GAP)


def test_a_picture_is_shown_in_its_size() -> None:
    found = on_the_page(picture("best", "Samples", grid(torch.zeros(1, 3, 10, 20), scale=1), "caption"))
    assert isinstance(found, Media)
    assert (found.width, found.height) == (24, 14)


def test_a_sound_can_be_played_again_at_its_rate() -> None:
    samples = torch.tensor([0.0, 0.5, -0.5, 1.0, -1.0, 2.0])
    exhibit = exhibits.sound("one", "Sounds", samples, 8_000)
    with wave.open(io.BytesIO(exhibit.content)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (8_000, 1, 2)
        pcm = np.frombuffer(file.readframes(file.getnframes()), "<i2")
    assert pcm / 32767 == pytest.approx(samples.clamp(-1, 1).numpy(), abs=1 / 32767)
    found = on_the_page(exhibit)
    assert isinstance(found, Media)
    assert found.wave


@pytest.mark.parametrize("channels", [1, 3])
def test_an_animation_has_its_frames_and_their_time(channels: int) -> None:
    values = [-1.0, 0.0, 1.0]
    exhibit = exhibits.animation("walk", "Samples", constant(values, channels), milliseconds=250)
    with Image.open(io.BytesIO(exhibit.content)) as image:
        assert image.format == "GIF"
        assert getattr(image, "n_frames", 1) == 3
        for index, value in enumerate(values):
            image.seek(index)
            assert image.info["duration"] == 250
            assert np.abs(np.asarray(image.convert("L")).astype(int) - (value + 1) * 127.5).max() < 8
    found = on_the_page(exhibit)
    assert isinstance(found, Media)
    assert (found.width, found.height) == (8, 8)


def test_numbers_rows_and_lines_come_back_as_they_were_given() -> None:
    series = exhibits.series("wave", "Samples", {"one": [0, 0.5, math.nan], "other": torch.ones(2).tolist()})
    assert json.loads(series.content) == {"one": [0.0, 0.5, None], "other": [1.0, 1.0]}
    assert isinstance(on_the_page(series), Chart)
    rows = exhibits.rows("modes", "Modes", ["mode", "share"], [["a", 0.5], ["b", None]])
    shown = on_the_page(rows)
    assert isinstance(shown, Rows)
    assert [column.head for column in shown.columns] == ["mode", "share"]
    assert shown.rows == (("a", "0.5"), ("b", "None"))
    lines = exhibits.lines("poem", "Samples", ["one", "two <b>"])
    assert on_the_page(lines) == ["one", "two <b>"]


def test_every_exhibit_says_what_it_is_called() -> None:
    made = [
        picture("a", "T", b"", "C", "I"),
        exhibits.sound("a", "T", torch.zeros(2), 8_000, "C", "I"),
        exhibits.series("a", "T", {}, "C", "I"),
        exhibits.rows("a", "T", [], [], "C", "I"),
        exhibits.lines("a", "T", [], "C", "I"),
    ]
    kinds = [exhibit.kind for exhibit in made]
    assert kinds == ["picture", "sound", "series", "rows", "lines"]
    assert {(one.name, one.title, one.caption, one.intro) for one in made} == {("a", "T", "C", "I")}
    animation = exhibits.animation("a", "T", torch.zeros(1, 1, 2, 2), caption="C")
    assert (animation.kind, animation.name, animation.title, animation.caption) == ("animation", "a", "T", "C")
