"""Images and labels out of `.npz` files, as uint8 [N, H, W, C] and int64 [N]."""

import math
import zipfile
from pathlib import Path
from typing import IO

import numpy as np

from equipoise.data import archives
from equipoise.errors import UserError, listed

IMAGE_KEYS = ("images", "x", "x_train", "arr_0")
LABEL_KEYS = ("labels", "y", "y_train")
MAX_BYTES = 2**36  # 64 GiB unpacked
MAX_ARRAYS = 10_000
_BLOCK = 2**20


def read_images(path: Path, what: str) -> np.ndarray:
    """Return all images of an archive as uint8 [N, H, W, C]; `x_test` is joined to `x_train`; raises UserError."""
    key = _first_key(path, what, IMAGE_KEYS)
    if key is None:
        raise UserError(
            f"{what}: no array of images among {listed(_keys(path, what)) if _keys(path, what) else 'no arrays'}; "
            f"name it {listed(IMAGE_KEYS)}. Try: np.savez_compressed({path.name!r}, images=images)"
        )
    images = _as_uint8_images(_read(path, key, what), f'{what}, array "{key}"')
    if key == "x_train" and "x_test" in _keys(path, what):
        rest = _as_uint8_images(_read(path, "x_test", what), f'{what}, array "x_test"')
        if rest.shape[1:] != images.shape[1:]:
            raise UserError(f"{what}: x_train and x_test differ in shape: {images.shape[1:]} and {rest.shape[1:]}")
        images = np.concatenate([images, rest])
    if not len(images):
        raise UserError(f'{what}: array "{key}" holds no images')
    return images


def read_labels(path: Path, what: str, num_images: int) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Return labels int64 [N] and the names of the classes, or None where the archive has none; raises UserError."""
    key = _first_key(path, what, LABEL_KEYS)
    if key is None:
        return None, ()
    parts = [_one_each(_read(path, key, what), f'{what}: array "{key}"')]
    if key == "y_train" and "y_test" in _keys(path, what):
        parts.append(_one_each(_read(path, "y_test", what), f'{what}: array "y_test"'))
    values = np.concatenate(parts)
    if len(values) != num_images:
        raise UserError(f'{what}: array "{key}" has shape {values.shape}; expected one label for each of {num_images}')
    names, labels = np.unique(values, return_inverse=True)
    try:
        classes = tuple(str(name).encode(errors="replace").decode() for name in names)
    except (ValueError, SystemError):  # NumPy's text may hold numbers that stand for no letter
        raise UserError(f'{what}: array "{key}" holds text that is none; allowed are whole numbers or text') from None
    return labels.astype(np.int64), classes


def _one_each(values: np.ndarray, what: str) -> np.ndarray:
    """Return labels as [N] of whole numbers or text; raises UserError."""
    if not values.ndim or values.size != len(values):
        raise UserError(f"{what} has shape {values.shape}; expected one label for each image")
    values = values.reshape(len(values))
    if values.dtype.kind not in "biufSU":
        raise UserError(f"{what} holds {str(values.dtype)[:40]}; allowed are whole numbers or text")
    if values.dtype.kind != "f":
        return values
    if not ((values == np.rint(values)) & (np.abs(values) <= 2**53)).all():  # false for NaN as well
        raise UserError(f"{what} holds fractions; allowed are whole numbers or text")
    return values.astype(np.int64)


def _keys(path: Path, what: str) -> list[str]:
    with archives.opened(path, what, "an .npz file", MAX_ARRAYS) as archive:
        members = archive.infolist()
    unpacked = sum(member.file_size for member in members)
    if unpacked > MAX_BYTES:
        raise UserError(f"{what}: unpacks to more than {MAX_BYTES >> 30} GiB; split it, or give a folder")
    if archives.is_bomb(unpacked, path.stat().st_size):  # the whole file's size: what a member says of itself may lie
        raise UserError(
            f"{what}: unpacks to more than {archives.MAX_RATIO} times its size. "
            "Try: np.savez instead of np.savez_compressed"
        )
    keys = [member.filename.removesuffix(".npy") for member in members]
    if len(set(keys)) < len(keys):
        twice = next(key for index, key in enumerate(keys) if key in keys[:index])
        raise UserError(f'{what}: holds two arrays named "{twice[:80]}". Save it again, with each of them once')
    return keys


def _first_key(path: Path, what: str, wanted: tuple[str, ...]) -> str | None:
    keys = _keys(path, what)
    return next((key for key in wanted if key in keys), None)


def _read(path: Path, key: str, what: str) -> np.ndarray:
    try:
        with zipfile.ZipFile(path) as archive:
            name = next(name for name in archive.namelist() if name.removesuffix(".npy") == key)
            member = archive.getinfo(name)
            if reason := archives.flaw(member, MAX_BYTES):
                raise ValueError(reason)
            with archive.open(member) as file:
                return read_array(file, member.file_size)
    except ValueError as error:
        raise UserError(f'{what}: array "{key}" cannot be read: {str(error)[:200]}') from None
    except Exception as error:  # a damaged archive fails in zipfile, zlib or numpy
        raise UserError(f'{what}: array "{key}" is damaged ({type(error).__name__})') from None


def read_array(file: IO[bytes], num_bytes: int) -> np.ndarray:
    """Read an array in NumPy's format that fills `num_bytes` of a file; raises ValueError where it does not.

    No Python object is ever made, and no memory taken that the file has no bytes for, as NumPy's own reader would.
    """
    shape, is_fortran, dtype = _header(file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are never loaded")
    promised, there = math.prod(shape) * dtype.itemsize, num_bytes - file.tell()
    if promised != there or not dtype.itemsize or min(shape, default=0) < 0:
        raise ValueError(f"its header promises {promised:,} bytes, and {there:,} are there")
    values = np.empty(math.prod(shape), dtype)
    view, filled = values.view(np.uint8).data, 0
    while filled < promised:
        num = file.readinto(view[filled : filled + _BLOCK])  # pyright: ignore[reportAttributeAccessIssue]
        if not num:
            raise ValueError("it ends too early")
        filled += num
    return values.reshape(shape, order="F" if is_fortran else "C")


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Read shape, order and type, which NumPy parses as Python's literals; raises ValueError, or OSError."""
    try:
        match np.lib.format.read_magic(file):
            case (1, 0):
                return np.lib.format.read_array_header_1_0(file)
            case (2, 0):
                return np.lib.format.read_array_header_2_0(file)
            case version:
                raise ValueError(f"version {version} of NumPy's format is not read")
    except (ValueError, OSError):
        raise
    except Exception as error:  # one flipped bit can be an error of the tokenizer, of the syntax or of a type
        raise ValueError(f"its header is damaged ({type(error).__name__})") from None


def _as_uint8_images(values: np.ndarray, what: str) -> np.ndarray:
    if values.ndim == 3:
        values = values[..., None]
    allowed = (1, 2, 3, 4)
    if values.ndim == 4 and values.shape[3] not in allowed and values.shape[1] in allowed:
        values = values.transpose(0, 2, 3, 1)
    if values.ndim != 4 or values.shape[3] not in allowed or 0 in values.shape[1:]:
        raise UserError(f"{what}: shape {values.shape}; allowed are [N, H, W], [N, H, W, C] and [N, C, H, W]")
    return np.ascontiguousarray(_as_uint8(values, what))


def _as_uint8(values: np.ndarray, what: str) -> np.ndarray:
    kind = values.dtype.kind
    if values.dtype == np.uint8 or not values.size:
        return values.astype(np.uint8)
    if kind == "b":
        return values.astype(np.uint8) * np.uint8(255)
    if kind not in "iuf":
        raise UserError(f"{what}: type {values.dtype}; allowed are uint8, or floats in [0, 1] or [-1, 1]")
    low, high = values.min(), values.max()
    if kind in "iu" and low >= 0 and high <= 255:
        return values.astype(np.uint8)
    if values.dtype == np.uint16:
        return ((values.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)
    if kind == "f" and low >= -1 and high <= 1:  # false for NaN as well
        offset, scale = (0.0, 255.0) if low >= 0 else (1.0, 127.5)
        return np.rint((values.astype(np.float32) + offset) * scale).astype(np.uint8)
    raise UserError(
        f"{what}: {values.dtype} from {low} to {high}; allowed are uint8, or floats in [0, 1] or [-1, 1]. "
        "Try: images.astype(np.uint8) on values of 0 to 255"
    )
