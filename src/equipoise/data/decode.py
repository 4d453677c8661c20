"""One encoded image of any mode to uint8 [C, H, W] of one size, or a plain reason why not."""

import contextlib
import io
import logging
import math
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, assert_never

import numpy as np
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    ImageColor,
    JpegImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from equipoise.data.channels import OPACITY, is_measured
from equipoise.data.values import Scale, some_of
from equipoise.errors import Setting, UserError, shortened, suggested
from equipoise.sizes import Size

MAX_PIXELS = 2**27  # 134 megapixels, 400 MB as RGB: above it a file is more likely a bomb than a photo
LARGE_PIXELS = 2**24  # images of more are decoded one at a time: several at once could fill the memory
MAX_PIXELS_PER_BYTE = 2_000  # of large ones: two colours can take 40,000 bytes of memory for one of file
MOST_DESCRIBED = 2**16  # pixels of a transparent image that are looked at
# The plugins are called by name: an allow-list, and our own cap on pixels with the size in its message.
_PLUGINS: dict[str, Callable[[io.BytesIO], Image.Image]] = {
    "PNG": PngImagePlugin.PngImageFile,
    "JPEG": JpegImagePlugin.JpegImageFile,
    "WebP": WebPImagePlugin.WebPImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "PPM": PpmImagePlugin.PpmImageFile,
}
FORMATS = tuple(_PLUGINS)

_one_at_a_time = threading.Lock()
logging.getLogger("PIL").addHandler(logging.NullHandler())  # its remarks do not name the file, ours do

_ORIENTATION = 0x0112
_PHOTOMETRIC = 0x0106  # of a TIFF
_WHITE_IS_ZERO = 0
_SAMPLE_FORMAT = 0x0153  # of a TIFF
_UNSIGNED = 1
_SIGNED = 2
_TRANSPOSED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SAID_OF_UNSUPPORTED = ("unknown pixel mode", "unknown raw mode", "unsupported", "not supported")  # by Pillow
_SAID_OF_TRUNCATED = ("truncat", "end of file", "eof")
_OTHER_KINDS = (
    (b"%PDF", "PDF"),
    (b"PK\x03\x04", "zip"),
    (b"<svg", "SVG"),
    (b"<!DOCTYPE", "web page"),
    (b"<!doctype", "web page"),
    (b"<html", "web page"),
    (b"<?xml", "XML"),
    (b"8BPS", "Photoshop"),
    (b"\x1f\x8b", "gzip"),
)


class BrokenImage(Exception):
    """One image that cannot be used; the message is the reason in plain words."""


@dataclass(frozen=True)
class Target:
    """What every image of a pool becomes."""

    size: Size
    channels: int  # 1 grey, 3 in colour, 4 in premultiplied colour with opacity, others measured
    fit: Literal["crop", "pad", "stretch"]
    background: tuple[int, int, int]
    scale: Scale | None = None  # of deep images; None: each on its own


@dataclass(frozen=True)
class Header:
    """What a file says of its image; width and height are those of the upright image."""

    format: str  # one of FORMATS, or array
    mode: str  # in plain words
    width: int
    height: int
    is_turned: bool  # by EXIF
    is_animated: bool  # or of several pages


@dataclass(frozen=True, eq=False)
class Described:
    """A decoded image [C, H, W], what its file said of it, and where it has transparent pixels, some of all."""

    pixels: np.ndarray
    header: Header
    transparent: np.ndarray | None  # uint8 [H, W, 4]


def parse_background(color: str) -> tuple[int, int, int]:
    """Return a Pillow colour name or hex code as red, green, blue in 0..255; raises UserError."""
    try:
        red, green, blue = ImageColor.getrgb(color)[:3]
    except ValueError:
        near = suggested(color, ImageColor.colormap)
        remedy = Setting("task.background", "white")
        problem = "not a colour; allowed are names (white, black, gray) and hex codes (#ff8800)"
        raise UserError(Setting("task.background", shortened(color)), problem, *near, remedy) from None
    return red, green, blue


def format_of(head: bytes) -> str | None:
    """Return which of FORMATS a file's first bytes announce, or None."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if head.startswith(b"BM"):
        return "BMP"
    if head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "TIFF"
    if len(head) > 2 and head[:1] == b"P" and head[1:2] in b"123456" and head[2:3].isspace():
        return "PPM"
    return None


def open_image(raw: bytes | np.ndarray) -> Image.Image:
    """Read the header of an encoded file, or wrap an array [H, W, C]; raises BrokenImage.

    Of measured channels the first three are wrapped; numbers that are not bytes are wrapped as they look by themselves.
    """
    if isinstance(raw, np.ndarray):
        raw = _as_bytes(raw if raw.shape[2] <= OPACITY else raw[:, :, :3], None)
        is_grey = raw.shape[2] == 1
        pixels = raw[:, :, 0] if is_grey else raw
        return Image.fromarray(pixels)
    if not raw:
        raise BrokenImage("0 bytes")
    kind = format_of(raw[:16])
    if kind is None:
        raise BrokenImage(_not_an_image(raw[:64]))
    try:
        image = _PLUGINS[kind](io.BytesIO(raw))
    except Exception as error:  # Pillow raises many types on damaged headers
        raise BrokenImage(_damage(kind, error)) from None
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise BrokenImage(f"too large: {width}x{height} pixels")
    if width * height > max(LARGE_PIXELS, MAX_PIXELS_PER_BYTE * len(raw)):
        raise BrokenImage(f"too large: {width}x{height} pixels in a file of {len(raw):,} bytes")
    return image


def smaller_side(raw: bytes | np.ndarray) -> int:
    """Return the smaller side in pixels, from the header alone; raises BrokenImage."""
    return min(open_image(raw).size)


def num_frames(raw: bytes | np.ndarray) -> int:
    """Return how many frames or pages a file holds, 1 where that cannot be said; raises BrokenImage."""
    image = open_image(raw)
    try:
        return int(getattr(image, "n_frames", 1))
    except Exception:  # a damaged second frame does not matter
        return 1


def has_color(raw: bytes | np.ndarray, background: tuple[int, int, int]) -> bool:
    """Return whether any pixel, seen on the background, is not grey; raises BrokenImage."""
    image = open_image(raw)
    if _is_grey_mode(image):
        return False
    pixels = np.asarray(_guarded(image, lambda: _flat(image, background)))
    return pixels.ndim == 3 and bool((pixels != pixels[:, :, :1]).any())


def deep_values(raw: bytes | np.ndarray) -> np.ndarray | None:
    """Return some of the values of an image of more than 8 bits or floats, None of any other; raises BrokenImage."""
    if isinstance(raw, np.ndarray):
        return None if raw.dtype == np.uint8 else some_of(raw)
    image = open_image(raw)
    if not _is_deep(image):
        return None
    found: list[np.ndarray] = []

    def load() -> Image.Image:
        image.load()
        found.append(some_of(_values(image)))
        return image

    _guarded(image, load)
    return found[0]


def stack_values(raw: bytes | np.ndarray, num: int) -> np.ndarray | None:
    """Return some of the values of so many measured channels, None where they are bytes; raises BrokenImage."""
    values = pages_of(raw, num)
    return None if values.dtype == np.uint8 else some_of(values)


def byte_values(raw: bytes | np.ndarray) -> np.ndarray:
    """Return some of the values 0..255 that an image is shown in, on white; raises BrokenImage."""
    image = open_image(raw)
    return some_of(np.asarray(_guarded(image, lambda: _flat(image, (255, 255, 255)))))


def decode(raw: bytes | np.ndarray, target: Target) -> np.ndarray:
    """Return an image as uint8 [C, H, W]: upright, fitted to a size, opaque but for 4 channels; raises BrokenImage."""
    if is_measured(target.channels):
        return _stacked(pages_of(raw, target.channels), target)
    return _decoded(_opened(raw, target), target)


def _opened(raw: bytes | np.ndarray, target: Target) -> Image.Image:
    if not isinstance(raw, np.ndarray):
        return open_image(raw)
    if raw.shape[2] > OPACITY:
        raise BrokenImage(f"{raw.shape[2]} channels, and task.channels={target.channels}")
    return open_image(_as_bytes(raw, target.scale))


def header_of(raw: bytes | np.ndarray) -> Header:
    """Return what a file says of its image, without decoding it; raises BrokenImage."""
    image = open_image(raw)
    kind = "array" if isinstance(raw, np.ndarray) else format_of(raw[:16]) or ""
    mode = f"{num} channels" if (num := num_stored(raw)) > OPACITY else _mode_in_words(image, kind)
    return _header(image, kind, mode, image.size)


def decode_described(raw: bytes | np.ndarray, target: Target) -> Described:
    """Return what `decode` does, and what the file said of its image; raises BrokenImage."""
    if is_measured(target.channels):
        header = replace(header_of(raw), mode=f"{target.channels} channels", is_turned=False, is_animated=False)
        return Described(decode(raw, target), header, None)
    image = _opened(raw, target)
    kind = "array" if isinstance(raw, np.ndarray) else format_of(raw[:16]) or ""
    mode = _mode_in_words(image, kind)
    size = image.size  # before decoding, which changes the size of a JPEG that is decoded smaller
    pixels = _decoded(image, target)
    return Described(pixels, _header(image, kind, mode, size), _transparent(image))


def num_stored(raw: bytes | np.ndarray) -> int:
    """Return the channels of an array, 0 of an encoded file."""
    return raw.shape[2] if isinstance(raw, np.ndarray) else 0


def pages_of(raw: bytes | np.ndarray, num: int) -> np.ndarray:
    """Return measured channels [H, W, C] in their own numbers, of an array or the pages of a TIFF; raises BrokenImage.

    They are as they lie in the file: what EXIF says of turning is for photographs.
    """
    if isinstance(raw, np.ndarray):
        if raw.shape[2] != num:
            raise BrokenImage(f"{raw.shape[2]} channels, and task.channels={num}")
        return raw
    image = open_image(raw)
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        raise BrokenImage(f"no array and no TIFF, and task.channels={num} asks for measured channels")
    if (found := num_frames(raw)) != num:
        raise BrokenImage(f"{found:,} {'page' if found == 1 else 'pages'}, and task.channels={num}")
    pages: list[np.ndarray] = []

    def load() -> Image.Image:
        for place in range(num):
            image.seek(place)
            image.load()
            values = np.asarray(_values(image) if _is_deep(image) else image.convert("L"))
            if pages and values.shape != pages[0].shape:
                raise BrokenImage("pages of several sizes")
            pages.append(values)
        return image

    _guarded(image, load)
    return np.stack(pages, axis=2)


def _stacked(values: np.ndarray, target: Target) -> np.ndarray:
    """Return measured channels [H, W, C] as uint8 [C, H, W] on the set's scale, fitted one by one; bars are 0."""
    pixels = _as_bytes(values, target.scale)
    alone = replace(target, channels=1, background=(0, 0, 0))
    fitted = [np.asarray(_fitted(Image.fromarray(channel), alone)) for channel in np.moveaxis(pixels, 2, 0)]
    return np.stack(fitted)


def _as_bytes(values: np.ndarray, scale: Scale | None) -> np.ndarray:
    """Return numbers as uint8 on a scale; without one bytes are 0 to 255 as they are, others by their own range."""
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values)
    if scale is None:
        most = float(np.nan_to_num(values.astype(np.float64)).max(initial=0))
        scale = Scale(0.0, next((bound for bound in (1.0, 255.0, 65535.0) if most <= bound), most))
    return _deep_to_uint8(values, scale)


def _header(image: Image.Image, kind: str, mode: str, size: tuple[int, int]) -> Header:
    width, height = size
    orientation = _orientation(image)
    if orientation >= 5:
        width, height = height, width
    return Header(kind, mode, width, height, orientation != 1, _is_animated(image))


def upright(image: Image.Image, background: tuple[int, int, int]) -> Image.Image:
    """Return the first frame in mode L or RGB in its own size, upright and opaque; raises BrokenImage."""
    return _guarded(image, lambda: _upright(image, _flat(image, background)))


def _decoded(image: Image.Image, target: Target) -> np.ndarray:
    if image.format == "JPEG":  # decode large photos at 1/2, 1/4 or 1/8, but never below twice the target
        side = 2 * max(target.size)
        image.draft(None, (side, side))
    pixels = np.asarray(_guarded(image, lambda: _prepared(image, target)))
    if target.channels == OPACITY:  # resizing overshoots at edges
        pixels = np.minimum(pixels, pixels[:, :, 3:])
    return pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _prepared(image: Image.Image, target: Target) -> Image.Image:
    if target.channels == OPACITY and _has_alpha(image) and not _is_deep(image):
        image.load()
        clear = image.convert("RGBA").convert("RGBa")  # premultiplied, so that resizing mixes what is seen
        return _fitted(_upright(image, clear), target)
    return _fitted(_upright(image, _flat(image, target.background, target.scale)), target)


def _transparent(image: Image.Image) -> np.ndarray | None:
    """Return some of the pixels of a loaded image that has transparent ones, uint8 [H, W, 4], evenly spread."""
    if _is_deep(image) or not _has_alpha(image):
        return None
    rgba = np.asarray(_guarded(image, lambda: image.convert("RGBA")))
    if rgba[..., 3].min() == 255:
        return None
    step = math.ceil(math.sqrt(rgba.shape[0] * rgba.shape[1] / MOST_DESCRIBED))
    return rgba[::step, ::step]


def _not_an_image(head: bytes) -> str:
    start = head.lstrip()
    for magic, name in _OTHER_KINDS:
        if start.startswith(magic):
            return f"not an image ({name}?)"
    if head[4:8] == b"ftyp":
        return f"not an image in an allowed format ({head[8:12].decode('ascii', 'replace').strip().upper()}?)"
    if all(byte in b"\t\r\n" or 32 <= byte < 127 for byte in head):
        return "not an image (text?)"
    return "not an image"


def _damage(kind: str, error: Exception) -> str:
    text = str(error).lower()
    if isinstance(error, MemoryError):
        return "too large for this machine's memory"
    if any(word in text for word in _SAID_OF_UNSUPPORTED):
        return f"this kind of {kind} is not supported"
    if isinstance(error, EOFError | struct.error) or any(word in text for word in _SAID_OF_TRUNCATED):
        return f"truncated {kind}"
    return f"damaged {kind}"


def _guarded(image: Image.Image, decoding: Callable[[], Image.Image]) -> Image.Image:
    width, height = image.size
    try:
        with contextlib.ExitStack() as held:
            if width * height > LARGE_PIXELS:
                held.enter_context(_one_at_a_time)
            return decoding()
    except BrokenImage:
        raise
    except Exception as error:  # hostile bytes reach C decoders: whatever they raise is this file's fault
        raise BrokenImage(_damage(image.format or "image", error)) from None


def _is_grey_mode(image: Image.Image) -> bool:
    grey = image.mode in ("1", "L", "I", "F") or image.mode.startswith("I;16")
    return grey and "transparency" not in image.info


def _is_deep(image: Image.Image) -> bool:
    return image.mode in ("I", "F") or image.mode.startswith("I;16") or _is_signed_byte(image)


def _values(image: Image.Image) -> np.ndarray:
    """Return the numbers of a loaded deep image; Pillow gives those of some TIFFs with the wrong sign."""
    values = np.asarray(image)
    if _is_signed_byte(image):
        return values.view(np.int8)
    if image.mode == "I" and _tag(image, _SAMPLE_FORMAT, _SIGNED) == _UNSIGNED:
        return values.view(np.uint32)
    return values


def _is_signed_byte(image: Image.Image) -> bool:
    return image.mode == "L" and _tag(image, _SAMPLE_FORMAT, _UNSIGNED) == _SIGNED


def _is_white_zero(image: Image.Image) -> bool:
    """Return whether 0 is white in a deep image; of 8 bits or fewer, Pillow turns such round itself."""
    return _tag(image, _PHOTOMETRIC, 1) == _WHITE_IS_ZERO


def _tag(image: Image.Image, number: int, otherwise: int) -> int:
    """Return a whole number that a TIFF says of itself; the other one where it does not, and of other formats."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return otherwise
    found = image.tag_v2.get(number, otherwise)
    return found[0] if isinstance(found, tuple) else found


def _has_alpha(image: Image.Image) -> bool:
    return "transparency" in image.info or image.mode in ("RGBA", "LA", "PA", "RGBa", "La")


def _flat(image: Image.Image, background: tuple[int, int, int], scale: Scale | None = None) -> Image.Image:
    """Return the first frame in mode L or RGB, composited on the background."""
    image.load()
    if _is_deep(image):
        shown = _deep_to_uint8(_values(image), scale or _scale_alone(image))
        return Image.fromarray(255 - shown if _is_white_zero(image) else shown)
    if image.mode in ("1", "L") and "transparency" not in image.info:
        return _in_mode(image, "L")
    if _has_alpha(image):
        canvas = Image.new("RGBA", image.size, (*background, 255))
        canvas.alpha_composite(image.convert("RGBA"))
        return canvas.convert("RGB")
    if image.mode not in ("P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV"):
        raise BrokenImage(f"colour mode {image.mode} is not supported")
    return _in_mode(image, "RGB")


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    return image if image.mode == mode else image.convert(mode)


def _scale_alone(image: Image.Image) -> Scale:
    """Return the full range of a deep image's type: of one alone nobody knows whether it is dark."""
    if _is_signed_byte(image):
        return Scale(-128.0, 127.0)
    highest = float(np.nan_to_num(_values(image)).max())
    bounds = (1.0, 255.0, 65535.0) if image.mode == "F" else (65535.0, 2.0**31 - 1)
    return Scale(0.0, next((bound for bound in bounds if highest <= bound), max(highest, 1.0)))


def _deep_to_uint8(values: np.ndarray, scale: Scale) -> np.ndarray:
    """Return 16-bit, 32-bit and float grey values as 0..255 on a scale."""
    if not np.isfinite(values).all():
        raise BrokenImage("pixels that are not finite numbers")
    return scale.to_uint8(values)


def _upright(image: Image.Image, flat: Image.Image) -> Image.Image:
    orientation = _orientation(image)
    if orientation not in _TRANSPOSED:
        return flat
    return flat.transpose(_TRANSPOSED[orientation])


def _orientation(image: Image.Image) -> int:
    """Return 1 for upright, or how EXIF says to turn: 2 to 8; the image is loaded."""
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged metadata does not make the pixels unusable
        return 1
    return orientation if orientation in _TRANSPOSED else 1


def _is_animated(image: Image.Image) -> bool:
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # a damaged second frame does not matter
        return False


def _mode_in_words(image: Image.Image, kind: str) -> str:
    words = {"1": "black and white", "L": "grey", "La": "grey", "LA": "grey", "P": "palette", "PA": "palette"}
    words |= {"RGBA": "RGB", "RGBa": "RGB", "RGBX": "RGB", "F": "grey in floats"}
    name = words.get(image.mode, image.mode)
    if image.mode.startswith("I"):
        name = "32-bit grey"
        if image.mode != "I" or kind in ("PNG", "PPM"):
            name = "16-bit grey"
    if image.mode in ("RGBA", "RGBa", "LA", "La", "PA") or "transparency" in image.info:
        name += " with transparency"
    return name


def _fitted(image: Image.Image, target: Target) -> Image.Image:
    """Return an image of the target's size and channels; one that is so already keeps its pixels."""
    image = _in_target_mode(image, target.channels)
    size = target.size
    whole = Size(*image.size)
    match target.fit:
        case "stretch":
            return _resized(image, size, (0, 0, whole.width, whole.height))
        case "crop":
            part = fitted_into(whole, size)
            left = (whole.width - part.width) // 2
            top = (whole.height - part.height) // 2
            return _resized(image, size, (left, top, left + part.width, top + part.height))
        case "pad":
            inner = fitted_into(size, whole)
            canvas = Image.new(image.mode, size)  # all channels are 0: with opacity, nothing is seen there
            if target.channels != OPACITY:
                canvas = Image.new("RGB", size, target.background).convert(image.mode)
            left = (size.width - inner.width) // 2
            top = (size.height - inner.height) // 2
            canvas.paste(_resized(image, inner, (0, 0, whole.width, whole.height)), (left, top))
            return canvas
        case _:
            assert_never(target.fit)


def _in_target_mode(image: Image.Image, channels: int) -> Image.Image:
    if channels == 1:
        return _in_mode(image, "L")
    if channels == OPACITY and image.mode != "RGBa":
        return _in_mode(image, "RGB").convert("RGBA").convert("RGBa")  # Pillow knows no shorter way
    return image if channels == OPACITY else _in_mode(image, "RGB")


def fitted_into(whole: Size, shape: Size) -> Size:
    """Return the largest size within the whole that has the ratio of a shape, to a pixel."""
    if whole.width * shape.height >= whole.height * shape.width:
        return Size(max(1, round(whole.height * shape.width / shape.height)), whole.height)
    return Size(whole.width, max(1, round(whole.width * shape.height / shape.width)))


def _resized(image: Image.Image, size: Size, box: tuple[int, int, int, int]) -> Image.Image:
    if (box[2] - box[0], box[3] - box[1]) == size:
        return image if image.size == size else image.crop(box)
    # Box-reduced to three times the target first: as sharp, and several times faster on photos.
    return image.resize(size, Image.Resampling.LANCZOS, box=box, reducing_gap=3.0)
