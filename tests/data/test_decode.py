import contextlib
import struct
from typing import Any

import numpy as np
import pytest
from corpus import encoded
from PIL import Image

from equipoise.data import decode as module
from equipoise.data.decode import (
    BrokenImage,
    Target,
    decode,
    deep_values,
    fitted_into,
    has_color,
    open_image,
    parse_background,
    smaller_side,
)
from equipoise.data.values import Scale
from equipoise.errors import Near, Setting, UserError
from equipoise.sizes import size_of

WHITE = (255, 255, 255)


def target(
    size: int | tuple[int, int] = 8, channels: Any = 3, fit: Any = "crop", background: tuple[int, int, int] = WHITE
) -> Target:
    return Target(size_of(size), channels, fit, background)


def noise(height: int, width: int, channels: int = 3) -> np.ndarray:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("kind", ["PNG", "WebP", "BMP", "TIFF", "PPM"])
def test_lossless_rgb_of_the_right_size_keeps_every_pixel(kind: str):
    pixels = noise(8, 8)
    options = {"lossless": True} if kind == "WebP" else {}
    result = decode(encoded(Image.fromarray(pixels), kind, **options), target())
    assert result.dtype == np.uint8
    assert (result == pixels.transpose(2, 0, 1)).all()


def test_grey_keeps_every_pixel_in_one_channel_and_is_repeated_in_three():
    pixels = noise(8, 8, 1)
    raw = encoded(Image.fromarray(pixels))
    assert (decode(raw, target(channels=1)) == pixels[None]).all()
    assert (decode(raw, target(channels=3)) == pixels[None].repeat(3, 0)).all()


def test_bilevel_becomes_black_and_white():
    pixels = noise(8, 8, 1) > 127
    assert (decode(encoded(Image.fromarray(pixels)), target(channels=1)) == pixels[None] * 255).all()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM"])
def test_sixteen_bits_are_scaled_and_not_clipped(kind: str):
    deep = np.linspace(0, 65535, 64).reshape(8, 8).astype(np.uint16)
    result = decode(encoded(Image.fromarray(deep), kind), target(channels=1))
    assert abs(result[0].astype(float) - deep / 257).max() <= 0.5


def test_two_deep_images_alone_are_on_one_scale():
    means = []
    for highest in (1000, 1100):
        ramp = np.linspace(0, highest, 64).reshape(8, 8).astype(np.uint16)
        means.append(float(decode(encoded(Image.fromarray(ramp), "PNG"), target(channels=1)).mean()))
    assert means[0] == pytest.approx(means[1], rel=0.3)


def test_whole_numbers_of_32_bits_are_scaled_to_their_range():
    high = np.full((8, 8), 2**31 - 1, dtype=np.int32)
    high[:4] = 2**30
    result = decode(encoded(Image.fromarray(high), "TIFF"), target(channels=1))
    assert (result[0, :4] == 128).all()
    assert (result[0, 4:] == 255).all()


@pytest.mark.parametrize("highest", [1.0, 255.0])
def test_floats_up_to_1_or_255_are_scaled_to_their_range(highest: float):
    values = np.linspace(0, highest, 64, dtype=np.float32).reshape(8, 8)
    result = decode(encoded(Image.fromarray(values), "TIFF"), target(channels=1))
    assert abs(result[0] - values / highest * 255).max() <= 0.51


def test_floats_that_are_not_numbers_are_refused():
    values = np.full((8, 8), np.nan, dtype=np.float32)
    with pytest.raises(BrokenImage, match="finite"):
        decode(encoded(Image.fromarray(values), "TIFF"), target())


@pytest.mark.parametrize(("background", "expected"), [("white", (255, 127, 127)), ("#0000ff", (128, 0, 127))])
def test_half_transparent_red_is_mixed_with_the_background(background: str, expected: tuple[int, int, int]):
    raw = encoded(Image.new("RGBA", (8, 8), (255, 0, 0, 128)))
    result = decode(raw, target(background=parse_background(background)))
    assert abs(result[:, 0, 0].astype(int) - expected).max() <= 1


def test_the_hidden_colour_of_transparent_pixels_never_shows():
    raw = encoded(Image.new("RGBA", (16, 16), (255, 0, 0, 0)))
    assert (decode(raw, target(background=(0, 255, 0))) == np.array([0, 255, 0])[:, None, None]).all()


def test_grey_with_alpha_is_composited():
    raw = encoded(Image.new("LA", (8, 8), (0, 0)))
    assert (decode(raw, target(channels=1)) == 255).all()


def palette(transparent: bool, kind: str = "PNG") -> bytes:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.paste(0, (0, 0, 4, 8))
    return encoded(image, kind, **({"transparency": 0} if transparent else {}))


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_palettes_give_their_colours_and_transparency_the_background(kind: str):
    plain, clear = decode(palette(False, kind), target()), decode(palette(True, kind), target())
    assert (plain[:, 0, 0] == (255, 0, 0)).all()
    assert (clear[:, 0, 0] == WHITE).all()
    assert (plain[:, 0, 7] == (0, 0, 255)).all()
    assert (clear[:, 0, 7] == (0, 0, 255)).all()


def test_a_transparent_colour_of_an_rgb_png_shows_the_background():
    raw = encoded(Image.new("RGB", (8, 8), (1, 2, 3)), transparency=(1, 2, 3))
    assert (decode(raw, target()) == 255).all()


def test_cmyk_becomes_the_colour_it_prints():
    result = decode(encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=100), target())
    assert abs(result.mean((1, 2)) - (255, 0, 0)).max() < 6


def test_lab_is_refused_in_words():
    with pytest.raises(BrokenImage, match="LAB"):
        decode(encoded(Image.new("LAB", (8, 8)), "TIFF"), target())


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_exif_orientation_is_applied(orientation: int, kind: str):
    upright = noise(8, 8)
    turns = {1: 0, 2: 0, 3: 2, 4: 2, 5: 1, 6: 1, 7: 3, 8: 3}
    stored = np.rot90(upright, turns[orientation])  # what a camera that was turned has stored
    stored = {2: np.fliplr, 4: np.fliplr, 5: np.flipud, 7: np.flipud}.get(orientation, lambda same: same)(stored)
    exif = Image.Exif()
    exif[0x0112] = orientation
    raw = encoded(Image.fromarray(np.ascontiguousarray(stored)), kind, exif=exif)
    assert (decode(raw, target()) == upright.transpose(2, 0, 1)).all()


def test_of_an_animation_the_first_frame_is_taken():
    frames = [Image.new("RGB", (8, 8), color) for color in ("red", "green", "blue")]
    for kind in ("GIF", "WebP"):
        raw = encoded(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True)
        assert abs(decode(raw, target())[:, 0, 0].astype(int) - (255, 0, 0)).max() <= 2


def stripes() -> Image.Image:
    """Return 16 × 8 pixels: red left quarter, blue right quarter, green between."""
    image = Image.new("RGB", (16, 8), (0, 255, 0))
    image.paste((255, 0, 0), (0, 0, 4, 8))
    image.paste((0, 0, 255), (12, 0, 16, 8))
    return image


def test_crop_keeps_the_centre_pixel_for_pixel():
    assert (decode(encoded(stripes()), target(fit="crop")) == np.array([0, 255, 0])[:, None, None]).all()


def test_pad_keeps_the_whole_picture_between_bars_of_background():
    result = decode(encoded(stripes()), target(size=16, fit="pad", background=(7, 8, 9)))
    assert (result[:, 4:12] == np.asarray(stripes()).transpose(2, 0, 1)).all()
    for bar in (result[:, :4], result[:, 12:]):
        assert (bar == np.array([7, 8, 9])[:, None, None]).all()


def test_stretch_keeps_the_whole_picture_without_bars():
    result = decode(encoded(stripes()), target(fit="stretch"))
    assert result[:, 4, 0].argmax() == 0
    assert result[:, 4, 4].argmax() == 1
    assert result[:, 4, 7].argmax() == 2


def test_transparency_is_kept_as_a_fourth_channel_of_premultiplied_colours():
    rgba = np.zeros((8, 8, 4), np.uint8)
    rgba[..., :3] = (200, 100, 50)
    rgba[:, 2:, 3] = 128
    rgba[:, 4:, 3] = 255
    found = decode(encoded(Image.fromarray(rgba)), target(channels=4))
    assert found[:, 0, 0].tolist() == [0, 0, 0, 0], "the hidden colour is gone"
    assert found[:, 0, 2].tolist() == [100, 50, 25, 128]
    assert found[:, 0, 4].tolist() == [200, 100, 50, 255]


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK", "1"])
def test_an_opaque_image_is_opaque_in_its_fourth_channel(mode: str):
    image = Image.fromarray(noise(8, 8)).convert(mode)
    kind = "JPEG" if mode == "CMYK" else "PNG"
    found = decode(encoded(image, kind), target(channels=4))
    assert (found[3] == 255).all()
    assert (found[:3] == decode(encoded(image, kind), target())).all()


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_the_transparency_of_a_palette_is_kept(kind: str):
    found = decode(palette(True, kind), target(channels=4))
    assert set(np.unique(found[3])) == {0, 255}
    assert (found[:3, found[3] == 0] == 0).all()


def test_what_pads_a_transparent_image_is_transparent_and_resizing_mixes_no_hidden_colour():
    rgba = np.zeros((16, 32, 4), np.uint8)
    rgba[..., 1] = 255  # green that nobody sees
    rgba[4:12, 8:24] = (255, 0, 0, 255)
    found = decode(encoded(Image.fromarray(rgba)), target(16, channels=4, fit="pad"))
    assert (found[:, :4] == 0).all()
    assert found[1].max() <= 1, "no green at the edges"
    assert (found[:3] <= found[3]).all()
    assert found[3, 8, 8] == 255


def test_a_rectangle_is_cut_from_the_middle_padded_or_filled():
    image = Image.fromarray(noise(20, 30))
    pixels = np.asarray(image).transpose(2, 0, 1)
    cut = decode(encoded(image), target((16, 20), fit="crop"))
    assert (cut == pixels[:, :, 7:23]).all(), "the middle of the width, pixel for pixel"
    assert (decode(encoded(image), target((30, 20), fit="crop")) == pixels).all()
    padded = decode(encoded(image), target((30, 24), fit="pad", background=(7, 8, 9)))
    assert (padded[:, 2:22] == pixels).all()
    assert (padded[:, :2] == np.array([7, 8, 9])[:, None, None]).all()
    assert decode(encoded(image), target((8, 40), fit="stretch")).shape == (3, 40, 8)
    assert decode(encoded(image, "JPEG"), target((12, 8))).shape == (3, 8, 12)


def test_a_large_turned_photograph_keeps_its_detail_in_a_rectangle():
    checks = (np.indices((2000, 400)).sum(0) // 8 % 2 * 255).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    raw = encoded(Image.fromarray(checks), "JPEG", quality=95, exif=exif)
    assert decode(raw, target((1000, 200), channels=1)).std() > 100


@pytest.mark.parametrize(
    ("whole", "shape", "part"),
    [
        ((481, 321), (240, 160), (481, 321)),
        ((481, 321), (40, 30), (428, 321)),
        ((30, 30), (40, 30), (30, 22)),
        ((5, 500), (40, 30), (5, 4)),
        ((1, 1), (1024, 8), (1, 1)),
    ],
)
def test_the_largest_part_of_a_ratio_is_found_to_a_pixel(
    whole: tuple[int, int], shape: tuple[int, int], part: tuple[int, int]
):
    assert fitted_into(size_of(whole), size_of(shape)) == part


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_downscaling_averages_instead_of_picking_pixels(kind: str):
    checks = np.indices((1024, 1024)).sum(0) % 2 * 255
    result = decode(encoded(Image.fromarray(checks.astype(np.uint8)), kind, quality=100), target(16, channels=1))
    assert abs(result.astype(int) - 127).max() <= 3


def test_the_smaller_side_comes_from_the_header_of_a_file_cut_short():
    assert smaller_side(encoded(Image.fromarray(noise(300, 200)))[:200]) == 200


def test_colour_is_told_from_grey_however_it_is_stored():
    grey = np.repeat(noise(8, 8, 1)[:, :, None], 3, 2)
    assert not has_color(encoded(Image.fromarray(grey)), WHITE)
    assert not has_color(encoded(Image.fromarray(grey), "JPEG"), WHITE)
    assert not has_color(encoded(Image.fromarray(grey[:, :, 0])), WHITE)
    assert not has_color(encoded(Image.new("LA", (8, 8), (9, 9))), WHITE)
    grey[3, 3, 1] ^= 1
    assert has_color(encoded(Image.fromarray(grey)), WHITE)
    assert has_color(palette(False), WHITE)
    assert has_color(encoded(Image.new("LA", (8, 8), (9, 9))), (255, 0, 0))


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "0 bytes"),
        (b"%PDF-1.7 and so on", r"not an image \(PDF\?\)"),
        (b"<!DOCTYPE html><html>", r"not an image \(web page\?\)"),
        (b"Just some words.", r"not an image \(text\?\)"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", r"HEIC\?"),
        (bytes(range(128, 255)), "not an image"),
        (b"\x89PNG\r\n\x1a\n" + b"\1" * 40, "damaged PNG|truncated PNG"),
        (b"\xff\xd8\xff", "truncated JPEG|damaged JPEG"),
    ],
)
def test_what_is_no_image_is_named_in_plain_words(raw: bytes, reason: str):
    with pytest.raises(BrokenImage, match=reason):
        decode(raw, target())


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WebP", "GIF", "BMP", "TIFF", "PPM"])
def test_a_file_cut_in_half_is_truncated_or_damaged_and_never_half_an_image(kind: str):
    raw = encoded(Image.fromarray(noise(64, 64)), kind)
    with pytest.raises(BrokenImage, match=f"(truncated|damaged) {kind}"):
        decode(raw[: len(raw) // 2], target())


def test_a_truncated_jpeg_is_called_that():
    raw = encoded(Image.fromarray(noise(64, 64)), "JPEG")
    with pytest.raises(BrokenImage, match=r"^truncated JPEG$"):
        decode(raw[: len(raw) // 2], target())


def test_a_bomb_is_refused_by_its_header_with_its_size():
    bomb = b"P5 30000 30000 255\n" + b"\0" * 100
    with pytest.raises(BrokenImage, match=r"^too large: 30000x30000 pixels$"):
        open_image(bomb)
    assert module.MAX_PIXELS < 30000 * 30000


def test_random_damage_never_raises_anything_but_broken_image():
    rng = np.random.default_rng(0)
    for kind in ("PNG", "JPEG", "WebP", "GIF", "BMP", "PPM"):
        raw = np.frombuffer(encoded(Image.fromarray(noise(24, 24)), kind), dtype=np.uint8)
        for _ in range(60):
            damaged = raw.copy()
            damaged[rng.integers(0, len(raw), 12)] = rng.integers(0, 256, 12)
            with contextlib.suppress(BrokenImage):
                assert decode(damaged.tobytes(), target()).shape == (3, 8, 8)


def test_backgrounds_are_names_or_hex_and_others_are_refused_with_a_proposal():
    assert parse_background("white") == WHITE
    assert parse_background("#ff8000") == (255, 128, 0)
    with pytest.raises(UserError) as caught:
        parse_background("whit")
    assert caught.value.subject == Setting("task.background", "whit")
    assert caught.value.remedies == (Near("white"), Setting("task.background", "white"))


def raw_tiff(values: np.ndarray, photometric: int, sample_format: int) -> bytes:
    """Return a TIFF of grey values [H, W] that Pillow itself does not write."""
    height, width = values.shape
    bits = 8 * values.itemsize
    short = {256: width, 257: height, 258: bits, 259: 1, 262: photometric, 277: 1, 278: height, 339: sample_format}
    entries = [(tag, struct.pack("<HHIHH", tag, 3, 1, value, 0)) for tag, value in short.items()]
    entries += [(tag, struct.pack("<HHII", tag, 4, 1, value)) for tag, value in ((273, 8), (279, values.nbytes))]
    head = b"II*\0" + struct.pack("<I", 8 + values.nbytes) + values.tobytes()
    return head + struct.pack("<H", len(entries)) + b"".join(entry for _, entry in sorted(entries)) + b"\0" * 4


@pytest.mark.parametrize(
    ("values", "photometric", "sample_format", "scale", "shown"),
    [
        (np.array([[0, 2**31, 2**32 - 1]], "<u4"), 1, 1, Scale(0, 2.0**32 - 1), [0, 128, 255]),  # unsigned
        (np.array([[-100, 0, 100]], "<i4"), 1, 2, Scale(-100, 100), [0, 128, 255]),
        (np.array([[-100, 0, 100]], "i1"), 1, 2, Scale(-100, 100), [0, 128, 255]),  # bytes with a sign
        (np.array([[0, 1000, 4000]], "<u2"), 0, 1, Scale(0, 4000), [255, 191, 0]),  # 0 is white
        (np.array([[0, 51, 255]], "u1"), 0, 1, None, [255, 204, 0]),
    ],
)
def test_the_numbers_of_a_tiff_keep_their_sign_and_which_end_is_white(
    values: np.ndarray, photometric: int, sample_format: int, scale: Scale | None, shown: list[int]
):
    raw = raw_tiff(np.repeat(values, 3, axis=0), photometric, sample_format)
    found = decode(raw, Target(size_of(3), 1, "crop", (255, 255, 255), scale))
    assert found[0, 0].tolist() == shown
    if scale is not None:
        deep = deep_values(raw)
        assert deep is not None
        assert (deep.min(), deep.max()) == (values.min(), values.max())
