"""Each doubtful comparison of two folders is warned of, and none that is plausible."""

import io
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from equipoise.errors import Option
from equipoise.recipe import Images, Recipe
from equipoise.tasks.sides import Caution

Cautions = Callable[..., list[Caution]]


def pictures(seed: int, num: int = 40, side: int = 32) -> np.ndarray:
    """Draw pictures uint8 [num, side, side, 3] with smooth colours."""
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(num):
        small = generator.integers(0, 256, (6, 6, 3)).astype(np.uint8)
        found.append(np.asarray(Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC)))
    return np.stack(found)


def again_as_jpeg(images: np.ndarray) -> np.ndarray:
    found = []
    for image in images:
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=90)
        found.append(np.asarray(Image.open(file)))
    return np.stack(found)


def as_sheets(images: np.ndarray, num: int = 8) -> np.ndarray:
    """Return sheets of 4 rows of 4 with a gap of two pixels."""
    side = images.shape[1]
    step = side + 2
    sheets = np.zeros((num, 4 * step + 2, 4 * step + 2, 3), np.uint8)
    for sheet in range(num):
        for index in range(16):
            top = index // 4 * step + 2
            left = index % 4 * step + 2
            sheets[sheet, top : top + side, left : left + side] = images[(16 * sheet + index) % len(images)]
    return sheets


def noisy(image: np.ndarray, num: int = 20) -> np.ndarray:
    """Return one picture many times, each with the least noise."""
    noise = np.random.default_rng(0).integers(0, 3, (num, *image.shape))
    return (image // 2 + noise).astype(np.uint8)


def grey(images: np.ndarray) -> np.ndarray:
    return images.mean(3, keepdims=True).astype(np.uint8).repeat(3, 3)


@pytest.fixture
def cautions(quick: None, open_source: Callable[..., Any], tmp_path: Path) -> Cautions:
    """Return a function from generated and real images to what is said of comparing them."""

    def found(generated: Iterable[np.ndarray], real: Iterable[np.ndarray], *settings: str) -> list[Caution]:
        for name, images in (("generated", generated), ("real", real)):
            (tmp_path / name).mkdir()
            for index, image in enumerate(images):
                Image.fromarray(image).save(tmp_path / name / f"{index:03d}.png")
        recipe, of_real = open_source("images", tmp_path / "real", *settings)
        fitted = of_real.fitted(recipe)
        of_generated = open_source("images", tmp_path / "generated", *sizes_of(fitted))[1]
        return of_real.cautions(np.arange(len(of_real.hashes)), of_generated, None)

    return found


def sizes_of(recipe: Recipe) -> list[str]:
    assert isinstance(recipe.task, Images)
    return [f"task.size={recipe.task.size}", f"task.channels={recipe.task.channels}"]


REAL = pictures(0)
OTHER = pictures(1)
DOUBTFUL = {
    "the same": ("same", REAL[:30], REAL),
    "saved anew": ("near copies", again_as_jpeg(REAL), REAL),
    "one picture": ("repeated", OTHER[:1].repeat(20, 0), REAL),
    "one real picture": ("repeated", OTHER, REAL[:1].repeat(20, 0)),
    "nearly one picture": ("alike", noisy(OTHER[0]), REAL),
    "black": ("blank", np.broadcast_to(np.arange(20, dtype=np.uint8)[:, None, None, None], (20, 32, 32, 3)), REAL),
    "sheets": ("sheets", as_sheets(OTHER), REAL),
    "real sheets": ("sheets", OTHER, as_sheets(REAL)),
    "enlarged": ("sizes", OTHER[:, ::2, ::2], REAL),
    "reduced": ("sizes", pictures(1, side=64), REAL),
    "grey": ("colours", grey(OTHER), REAL),
    "real grey": ("colours", OTHER, grey(REAL)),
}


@pytest.mark.parametrize("case", DOUBTFUL)
def test_a_doubtful_comparison_is_said_once_with_what_to_do(cautions: Cautions, case: str) -> None:
    kind, generated, real = DOUBTFUL[case]
    (found,) = cautions(generated, real)
    assert found.kind == kind
    assert found.remedies


PLAUSIBLE = {
    "others": (OTHER, REAL),
    "reduced exactly as much": (OTHER[:, ::2, ::2], REAL, "task.size=16"),
    "grey ones saved in colour": (grey(OTHER), grey(REAL)[..., 0]),
    "one of two hundred is real": (
        np.concatenate([pictures(2, 199), REAL[:1]]),
        np.concatenate([REAL, OTHER]),
    ),
    "a few are repeated": (np.concatenate([OTHER, OTHER[:8]]), REAL),
    "not square, with a border": (OTHER, REAL[:, :, 4:28], "task.fit=pad"),  # of 24 × 32: nothing is enlarged
}


@pytest.mark.parametrize("case", PLAUSIBLE)
def test_nothing_is_said_of_a_plausible_comparison(cautions: Cautions, case: str) -> None:
    assert cautions(*PLAUSIBLE[case]) == []


def test_the_remedy_for_other_sizes_is_a_size_that_both_have(cautions: Cautions) -> None:
    (found,) = cautions(OTHER[:, ::2, ::2], REAL)
    assert Option("size", 16) in found.remedies
    assert "--size 16" in found.told(in_shell=True)
    assert "size=16" in str(found)


def test_squares_as_large_as_the_whole_of_what_is_not_square_are_to_be_compared_with_the_whole(
    cautions: Cautions,
) -> None:
    (found,) = cautions(OTHER, REAL[:, :, 4:28])
    assert found.kind == "sizes"
    assert found.remedies[-1] == Option("fit", "pad")


def test_one_sheet_among_single_pictures_is_named(cautions: Cautions) -> None:
    (found,) = cautions([*OTHER, *as_sheets(pictures(2), 1)], REAL)
    assert found.kind == "sheets"
    assert "040.png" in found.problem
