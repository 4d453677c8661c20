import io

import numpy as np
import torch
from PIL import Image

from equipoise.explore.pictures import animated, as_tiles, drawable, labelled_grid, rows_of


def opened(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)))


def test_tiles_lie_in_rows_with_words_outside_of_them() -> None:
    shades = torch.linspace(-1, 1, 6).view(6, 1, 1, 1).expand(6, 1, 64, 64)
    plain = opened(labelled_grid(shades, ["", ""]))
    assert plain.shape == (2 * 66 + 2, 3 * 66 + 2)
    assert plain[2 + 32 :: 66, 2 + 32 :: 66].tolist() == [[0, 51, 102], [153, 204, 255]]
    worded = opened(labelled_grid(shades, ["one", "two"], ["a", "b", "c"]))
    above, left = worded.shape[0] - plain.shape[0], worded.shape[1] - plain.shape[1]
    assert np.array_equal(worded[above:, left:], plain)
    assert (worded[:above] < 255).any()
    assert (worded[:, :left] < 255).any()


def test_pictures_of_any_channels_and_size_become_tiles() -> None:
    assert as_tiles(torch.zeros(2, 4, 8, 8)).shape == (2, 64, 64, 3)
    assert as_tiles(torch.zeros(2, 3, 256, 128)).shape == (2, 128, 64, 3)
    assert as_tiles(torch.zeros(1, 5, 64, 64)).shape == (1, 64, 64, 3)


def test_an_animation_has_every_frame_and_every_loop() -> None:
    frames = torch.linspace(-1, 1, 5).view(5, 1, 1, 1, 1).expand(5, 6, 1, 64, 64)
    content, suffix = animated(frames)
    picture = Image.open(io.BytesIO(content))
    assert picture.format is not None
    assert picture.format.lower() == suffix
    assert getattr(picture, "n_frames", 1) == 5
    assert picture.size == (4 * 66, 2 * 66)


def test_words_that_the_font_lacks_become_numbers() -> None:
    assert drawable(["cat", "犬", "größe"]) == ["cat", "#2", "größe"]


def test_columns_become_rows() -> None:
    one, two = torch.zeros(2, 1, 1, 1), torch.ones(2, 1, 1, 1)
    assert rows_of(one, two).flatten().tolist() == [0, 1, 0, 1]
