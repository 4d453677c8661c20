"""Images and labels out of `.npz` files, as numbers [N, H, W, C] and int64 [N]."""

import math
import os
import zipfile
from pathlib import Path
from typing import IO

import numpy as np

from equipoise.data import archives
from equipoise.errors import Part, UserError, listed, shortened

IMAGE_KEYS = ("images", "x", "x_train", "arr_0")
LABEL_KEYS = ("labels", "y", "y_train")
MAX_BYTES = 2**36  # 64 GiB unpacked
MAX_ARRAYS = 10_000
_BLOCK = 2**20


def read_images(path: Path, subject: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return all images as [N, H, W, C] in the numbers they are stored as, and the names of arrays left unread.

    `x_test` is joined to `x_train`; raises UserError.
    """
    keys = _keys(path, subject)
    key = _first(keys, IMAGE_KEYS)
    if key is None:
        raise _without_images(path, keys, subject)
    images = _images(path, key, subject)
    read = {key, *LABEL_KEYS}
    if key == "x_train" and "x_test" in keys:
        images = _joined(images, _images(path, "x_test", subject), subject)
        read |= {"x_test", "y_test"}
    if not len(images):
        raise UserError(_array(subject, key), "no images")
    return images, tuple(name for name in keys if name not in read)


def _without_images(path: Path, keys: list[str], subject: str) -> UserError:
    """Return the error that says what an archive holds instead of images; no remedy overwrites it."""
    found = shortened(", ".join(keys)) or "no arrays"
    if {"mu", "sigma"} <= set(keys):
        problem = f"it holds {found}: statistics for FID, from which no image can be had back"
        return UserError(
            subject, problem, "Give the images themselves: a folder, a zip, or an .npz with an array images"
        )
    problem = f"it holds {found}; the array of images must be named {listed(IMAGE_KEYS)}"
    key = next((key for key in keys if _may_be_images(path, key)), None)
    if key is None:
        return UserError(subject, f"{problem}, and none of these has the shape of images [N, H, W, C] or [N, H, W]")
    another = free_name(path.with_name(f"{path.stem}-images.npz"))
    remedy = f'Write a new file: np.savez("{another}", images=np.load("{path}")["{key}"])'
    return UserError(subject, problem, remedy)


def _may_be_images(path: Path, key: str) -> bool:
    """Return whether an array has the shape of images, by its header alone."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{key}.npy") as file:
            shape, _, dtype = _header(file)
    except Exception:  # a damaged archive fails in zipfile, zlib or numpy
        return False
    return len(shape) in (3, 4) and min(shape) > 0 and dtype.kind in "biuf"


def free_name(path: Path) -> Path:
    """Return a path where nothing is yet: this one, or with a number."""
    found = path
    number = 2
    while os.path.lexists(found):
        found = path.with_stem(f"{path.stem}-{number}")
        number += 1
    return found


def read_labels(path: Path, subject: str, num_images: int) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """Return labels int64 [N] and the classes, or None where the archive has no labels; raises UserError."""
    keys = _keys(path, subject)
    key = _first(keys, LABEL_KEYS)
    if key is None:
        return None, ()
    parts = [_one_each(_read(path, key, subject), _array(subject, key))]
    if key == "y_train" and "y_test" in keys:
        parts.append(_one_each(_read(path, "y_test", subject), _array(subject, "y_test")))
    values = np.concatenate(parts)
    if len(values) != num_images:
        problem = f"shape {values.shape}; expected one label for each of {num_images} images"
        raise UserError(_array(subject, key), problem)
    names, labels = np.unique(values, return_inverse=True)
    try:
        classes = tuple(str(name).encode(errors="replace").decode() for name in names)
    except (ValueError, SystemError):  # NumPy's text may hold numbers that stand for no letter
        raise UserError(_array(subject, key), "not valid text; allowed are whole numbers or text") from None
    return labels.astype(np.int64), classes


def _array(subject: str, key: str) -> str:
    return f'{subject}, array "{key}"'


def _one_each(values: np.ndarray, subject: str) -> np.ndarray:
    """Return labels as [N] of whole numbers or text; raises UserError."""
    if not values.ndim or values.size != len(values):
        raise UserError(subject, f"shape {values.shape}; expected one label for each image")
    values = values.reshape(len(values))
    if values.dtype.kind not in "biufSU":
        raise UserError(subject, f"type {str(values.dtype)[:40]}; allowed are whole numbers or text")
    if values.dtype.kind != "f":
        return values
    if not ((values == np.rint(values)) & (np.abs(values) <= 2**53)).all():  # false for NaN as well
        raise UserError(subject, "fractions; allowed are whole numbers or text")
    return values.astype(np.int64)


def _keys(path: Path, subject: str) -> list[str]:
    """Return the names of the arrays; raises UserError for an archive that would take too much memory."""
    with archives.opened(path, subject, "an .npz file", MAX_ARRAYS) as archive:
        members = archive.infolist()
    unpacked = sum(member.file_size for member in members)
    if unpacked > MAX_BYTES:
        raise UserError(subject, f"unpacks to more than {MAX_BYTES >> 30} GiB", "Split it, or give a folder")
    if archives.is_bomb(unpacked, path.stat().st_size):  # the file's own size: what a member says may be a lie
        problem = f"unpacks to more than {archives.MAX_RATIO} times its size"
        raise UserError(subject, problem, "Use np.savez instead of np.savez_compressed")
    keys = [member.filename.removesuffix(".npy") for member in members]
    if len(set(keys)) < len(keys):
        twice = next(key for index, key in enumerate(keys) if key in keys[:index])
        problem = f'two arrays are named "{shortened(twice)}"'
        raise UserError(subject, problem, "Save it again, with each array once")
    return keys


def _first(keys: list[str], wanted: tuple[str, ...]) -> str | None:
    return next((key for key in wanted if key in keys), None)


def _read(path: Path, key: str, subject: str) -> np.ndarray:
    try:
        with zipfile.ZipFile(path) as archive:
            name = next(name for name in archive.namelist() if name.removesuffix(".npy") == key)
            member = archive.getinfo(name)
            if reason := archives.flaw(member, MAX_BYTES):
                raise ValueError(reason)
            with archive.open(member) as file:
                return read_array(file, member.file_size)
    except ValueError as error:
        raise UserError(_array(subject, key), f"cannot be read ({str(error)[:200]})") from None
    except Exception as error:  # a damaged archive fails in zipfile, zlib or numpy
        raise UserError(_array(subject, key), f"damaged ({type(error).__name__})") from None


def read_array(file: IO[bytes], num_bytes: int) -> np.ndarray:
    """Read an array in NumPy's format that fills `num_bytes` of a file; raises ValueError where it does not.

    No Python object is ever made, and no memory taken that the file has no bytes for, as NumPy's own reader
    would.
    """
    shape, is_fortran, dtype = _header(file)
    if dtype.hasobject:
        raise ValueError("it holds Python objects, which are never loaded")
    promised = math.prod(shape) * dtype.itemsize
    there = num_bytes - file.tell()
    if promised != there or not dtype.itemsize or min(shape, default=0) < 0:
        raise ValueError(f"its header promises {promised:,} bytes, and {there:,} are there")
    values = np.empty(math.prod(shape), dtype)
    view = values.view(np.uint8).data
    filled = 0
    while filled < promised:
        num = file.readinto(view[filled : filled + _BLOCK])  # pyright: ignore[reportAttributeAccessIssue]
        if not num:
            raise ValueError("it ends too early")
        filled += num
    order = "F" if is_fortran else "C"
    return values.reshape(shape, order=order)


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Read shape, order and type, which NumPy parses as Python's literals; raises ValueError, or OSError."""
    try:
        match np.lib.format.read_magic(file):
            case (1, 0):
                return np.lib.format.read_array_header_1_0(file)
            case (2, 0):
                return np.lib.format.read_array_header_2_0(file)
            case version:
                raise ValueError(f"version {version} of NumPy's format is not supported")
    except (ValueError, OSError):
        raise
    except Exception as error:  # one flipped bit can be an error of the tokenizer, of the syntax or of a type
        raise ValueError(f"its header is damaged ({type(error).__name__})") from None


def _images(path: Path, key: str, subject: str) -> np.ndarray:
    """Read images as [N, H, W, C] in the numbers they are stored as; raises UserError."""
    stored = _read(path, key, subject)
    values = stored
    name = _array(subject, key)
    if values.ndim == 3:
        values = values[..., None]
    allowed = (1, 2, 3, 4)
    if values.ndim == 4 and values.shape[3] not in allowed and values.shape[1] in allowed:
        values = values.transpose(0, 2, 3, 1)
    if values.ndim != 4 or values.shape[3] not in allowed or 0 in values.shape[1:]:
        problem = f"shape {values.shape}; allowed are [N, H, W], [N, H, W, C] and [N, C, H, W]"
        raise UserError(name, problem)
    if values.dtype.kind not in "biuf":
        raise UserError(name, f"type {values.dtype}; allowed are whole numbers, floats and booleans")
    refuse_not_finite(stored, name)
    return np.ascontiguousarray(values)


def refuse_not_finite(images: np.ndarray, subject: Part) -> None:
    """Raise UserError where images `[N, …]` hold values that are not finite numbers."""
    if images.dtype.kind != "f":
        return
    bad = [index for index in range(len(images)) if not np.isfinite(images[index]).all()]
    if bad:
        problem = f"{len(bad):,} of {len(images):,} images hold NaN or infinite values, the first is image {bad[0]}"
        axes = tuple(range(1, images.ndim))
        raise UserError(subject, problem, f"Leave them out: images[np.isfinite(images).all(axis={axes})]")


def _joined(images: np.ndarray, rest: np.ndarray, subject: str) -> np.ndarray:
    """Return x_train and x_test as one array; raises UserError where they are of another shape or kind of number."""
    if rest.shape[1:] != images.shape[1:]:
        problem = f"x_train and x_test differ in shape: {images.shape[1:]} and {rest.shape[1:]}"
        raise UserError(subject, problem)
    whole = "iu"
    same = images.dtype.kind == rest.dtype.kind or (images.dtype.kind in whole and rest.dtype.kind in whole)
    if not same:
        problem = f"x_train is {images.dtype} and x_test {rest.dtype}, so no one scale of pixel values fits both"
        raise UserError(subject, problem, "Give both in one type")
    return np.concatenate([images, rest])
