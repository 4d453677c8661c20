"""PSNR and SSIM of luma: by hand, by another formula, and bicubic's published values on Set5 and Set14."""

import io
import math
import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from equipoise.data.photos import read_photo
from equipoise.metrics.distortion import C1, C2, luma, psnr, squared_error, ssim
from equipoise.nets.super_resolution import enlarge, reduce


def _noise(seed: int, *shape: int) -> Tensor:
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(seed)).float()


def test_luma_of_black_white_and_the_primaries_is_that_of_bt_601():
    colours = torch.tensor([[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]]).float()
    expected = [16, 235, round(16 + 65.481), round(16 + 128.553), round(16 + 24.966)]
    assert luma(colours.view(5, 3, 1, 1)).flatten().tolist() == expected


def test_values_are_rounded_and_cut_to_8_bits_before_they_are_compared():
    image = torch.full((1, 3, 4, 4), 100.0)
    assert squared_error(image + 0.4, image, 0).item() == 0.0
    assert squared_error(torch.full((1, 3, 4, 4), 300.0), torch.full((1, 3, 4, 4), 255.0), 0).item() == 0.0


def test_error_is_the_mean_square_within_the_border_by_hand():
    image, original = torch.zeros(1, 3, 6, 6), torch.zeros(1, 3, 6, 6)
    image[..., 0, 0] = 255  # in the border: counts for nothing
    image[..., 2, 3] = 255  # 219 of luma apart
    assert squared_error(image, original, 2).item() == pytest.approx(219**2 / 4)
    assert squared_error(image, original, 0).item() == pytest.approx(2 * 219**2 / 36)


def test_psnr_by_hand():
    assert psnr(255.0**2) == 0.0
    assert psnr(1.0) == pytest.approx(20 * math.log10(255))
    assert psnr(0.0) == math.inf


def test_similarity_of_an_image_with_itself_is_one_and_of_its_negative_below_zero():
    image = _noise(1, 2, 3, 24, 20)
    torch.testing.assert_close(ssim(image, image, 2), torch.ones(2, dtype=torch.float64))
    assert (ssim(255 - image, image, 2) < 0).all()


def test_similarity_is_the_formula_window_by_window():
    a, b = _noise(1, 1, 3, 15, 17), _noise(2, 1, 3, 15, 17)
    x, y = (luma(image)[0, 0, 1:-1, 1:-1].numpy() for image in (a, b))
    places = np.arange(11) - 5
    window = np.exp(-(places[:, None] ** 2 + places**2) / (2 * 1.5**2))
    window /= window.sum()
    values = []
    for row in range(x.shape[0] - 10):
        for column in range(x.shape[1] - 10):
            p, q = (image[row : row + 11, column : column + 11] for image in (x, y))
            mean_p, mean_q = (window * p).sum(), (window * q).sum()
            var_p, var_q = (window * (p - mean_p) ** 2).sum(), (window * (q - mean_q) ** 2).sum()
            both = (window * (p - mean_p) * (q - mean_q)).sum()
            below = (mean_p**2 + mean_q**2 + C1) * (var_p + var_q + C2)
            values.append((2 * mean_p * mean_q + C1) * (2 * both + C2) / below)
    assert ssim(a, b, 1).item() == pytest.approx(np.mean(values), rel=1e-9)


def test_similarity_agrees_with_torchmetrics():
    from torchmetrics.functional.image import structural_similarity_index_measure

    a = _noise(1, 2, 3, 32, 40)
    b = (a + 0.2 * (_noise(2, 2, 3, 32, 40) - 128)).round().clamp(0, 255)
    found = structural_similarity_index_measure(
        luma(a), luma(b), sigma=1.5, kernel_size=11, data_range=255.0, reduction="none", return_full_image=True
    )
    whole = found[1][..., 5:-5, 5:-5]  # without the windows that reach over the edge, which torchmetrics reflects
    torch.testing.assert_close(ssim(a, b, 0), whole.flatten(1).mean(1), rtol=1e-9, atol=0)


# Published values


def photos(name: str, scale: int) -> list[np.ndarray]:
    """Return the photographs of a benchmark, cut to a multiple of the scale, as uint8 [H, W, 3]."""
    folder = os.environ.get("EQUIPOISE_DATA")
    path = Path(folder or ".") / "sr-photos.zip"
    if folder is None or not path.is_file():
        pytest.skip("EQUIPOISE_DATA names no folder with sr-photos.zip")
    with zipfile.ZipFile(path) as file:
        names = sorted(member for member in file.namelist() if member.startswith(f"test-{name}/"))
        found = [np.array(Image.open(io.BytesIO(file.read(member))).convert("RGB")) for member in names]
    return [image[: len(image) // scale * scale, : image.shape[1] // scale * scale] for image in found]


def by_pillow(image: np.ndarray, scale: int) -> Tensor:
    """Return an image [1, 3, H, W] after Pillow's bicubic filter, which also rounds between rows and columns."""
    height, width = image.shape[:2]
    small = Image.fromarray(image).resize((width // scale, height // scale), Image.Resampling.BICUBIC)
    large = np.array(small.resize((width, height), Image.Resampling.BICUBIC))
    return torch.from_numpy(large).permute(2, 0, 1)[None].float()


def by_our_own(image: np.ndarray, scale: int) -> Tensor:
    """Return the same by the functions that trainings use, rounded to 8 bits after both steps."""
    original = torch.from_numpy(image).permute(2, 0, 1)[None].float()
    small = reduce(original, scale).round().clamp(0, 255)
    return enlarge(small, original.shape[-2:]).round().clamp(0, 255)


@pytest.mark.parametrize(("way", "tolerance"), [(by_pillow, 0.02), (by_our_own, 0.01)], ids=["Pillow", "our own"])
@pytest.mark.parametrize(
    ("name", "scale", "decibels", "similarity", "close"),
    [
        ("set5", 4, 28.42, 0.8102, 0.0003),
        ("set5", 2, 33.65, 0.9295, 0.0005),
        ("set14", 4, 26.09, 0.7042, 0.0003),
    ],
)
def test_bicubic_interpolation_has_its_published_values(
    name: str,
    scale: int,
    decibels: float,
    similarity: float,
    close: float,
    way: Callable[[np.ndarray, int], Tensor],
    tolerance: float,
):
    found = []
    for image in photos(name, scale):
        original, again = torch.from_numpy(image).permute(2, 0, 1)[None].float(), way(image, scale)
        found.append((psnr(squared_error(again, original, scale).item()), ssim(again, original, scale).item()))
    mean_psnr, mean_ssim = np.mean(found, axis=0)
    assert mean_psnr == pytest.approx(decibels, abs=tolerance)
    assert mean_ssim == pytest.approx(similarity, abs=close if way is by_our_own else 2 * close)


def test_photographs_are_read_as_they_are_here():
    """The benchmark's own reader gives the pixels that the values above were found with."""
    image = photos("set5", 1)[0]
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    assert np.array_equal(read_photo(buffer.getvalue()), image)
