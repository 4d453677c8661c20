"""Images and labels out of `.npz` files, as numbers [N, H, W, C] and int64 [N]."""

import io
import math
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np

from equipoise.data import archives
from equipoise.data.labels import Labels
from equipoise.data.several import combined, doubt, rows_of, told
from equipoise.errors import Part, UserError, listed, shortened
from equipoise.sizes import MAX_CHANNELS

IMAGE_NAMES = ("images", "x", "arr_0")
LABEL_NAMES = ("labels", "y")
NAMES_OF_LABELS = ("label_names", "class_names")  # of rows of labels
PARTS = ("train", "val", "valid", "validation", "test")  # x_train, X_test, train_images, val_labels
MAX_BYTES = 2**36  # 64 GiB unpacked
MAX_PICTURE_BYTES = 2**30  # of the array of one picture
MAX_ARRAYS = 10_000
CHANNELS = (1, 2, 3, 4)
PICTURE_NAMES = (*("image", "x", "arr_0"), "images", "data")  # of the one array of an `.npz` that is a picture
SHAPES_OF_PICTURES = "[H, W], [H, W, C] or [C, H, W] with at most 16 channels"
LEAST_SIDE = 8  # of images that are stored as rows of pixels
_BLOCK = 2**20


def read_images(path: Path, subject: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return all images as [N, H, W, C] in the numbers they are stored as, and in words what else is to be known.

    The parts of a set, such as `x_train`, `x_val` and `x_test`, are joined; raises UserError.
    """
    keys = _keys(path, subject)
    found = _parts(keys, IMAGE_NAMES)
    if not found:
        raise _without_images(path, keys, subject)
    parts = list(found.values())
    images = _images(path, parts[0], subject)
    for key in parts[1:]:
        images = _joined((parts[0], images), (key, _images(path, key, subject)), subject)
    if not len(images):
        raise UserError(_array(subject, parts[0]), "no images")
    notes = []
    if len(_described(path, parts[0])[0]) == 2:
        height, width = images.shape[1:3]
        notes.append(f"the rows of {parts[0]} are read as images of {height} × {width}")
    if len(parts) > 1:
        notes.append(f"the arrays {', '.join(parts)} are combined and split again")
    labels = _labels_for(keys, found)
    read = {*parts, *labels, *(name for name in keys if labels and name.lower() in NAMES_OF_LABELS)}
    if unread := [name for name in keys if name not in read]:
        notes.append(f"arrays that are not read: {shortened(', '.join(unread))}")
    return images, tuple(notes)


def _parts(keys: list[str], names: tuple[str, ...]) -> dict[str, str]:
    """Return the arrays of the first of some names, by part of the set; an array that is whole is the part ""."""
    by_lower = {key.lower(): key for key in reversed(keys)}
    for name in names:
        if name in by_lower:
            return {"": name if name in keys else by_lower[name]}
        forms = {part: (f"{name}_{part}", f"{part}_{name}") for part in PARTS}
        found = {part: by_lower[form] for part, two in forms.items() for form in two if form in by_lower}
        if "train" in found:
            return found
    return {}


def _labels_for(keys: list[str], images: dict[str, str]) -> list[str]:
    """Return the arrays of the labels of these parts of the images."""
    labels = _parts(keys, LABEL_NAMES)
    return [key for part, key in labels.items() if part in images or part == ""]


def _without_images(path: Path, keys: list[str], subject: str) -> UserError:
    """Return the error that says what an archive holds instead of images; no remedy overwrites it."""
    found = shortened(", ".join(keys)) or "no arrays"
    if {"mu", "sigma"} <= set(keys):
        problem = f"it holds {found}: statistics for FID, from which no image can be had back"
        return UserError(
            subject, problem, "Give the images themselves: a folder, a zip, or an .npz with an array images"
        )
    problem = f"it holds {found}; the array of images must be named {listed([*IMAGE_NAMES, 'x_train'])}"
    key = next((key for key in keys if _may_be_images(path, key)), None)
    if key is None:
        return UserError(subject, f"{problem}, and none of these has the shape of images [N, H, W, C] or [N, H, W]")
    return UserError(subject, problem, *_rewritten(path, key, keys))


def _rewritten(path: Path, key: str, keys: list[str]) -> list[str]:
    """Return what to type for a new file with an array of another as its images, and with its labels."""
    another = free_name(path.with_name(f"{path.stem}-images.npz"))
    stored = f'np.load("{path}")'
    shape = _described(path, key)[0]
    named = [name for name in _parts(keys, LABEL_NAMES).values() if _described(path, name)[0][:1] == shape[:1]]
    labels = "".join(f', labels={stored}["{name}"]' for name in named[:1])
    shaped = ""
    more = []
    match reshapes(shape[1]) if len(shape) == 2 else ():
        case (shaped, other):
            more = [f"That is for rows with all red values first, as CIFAR has them; else write {other[1:]} there"]
        case _ if len(shape) == 4 and shape[2] in CHANNELS:  # [H, W, C, N], as MATLAB writes it
            shaped = ".transpose(3, 0, 1, 2)"
        case _ if len(shape) == 5:
            shaped = f".reshape(-1, {', '.join(map(str, shape[2:]))})"
    return [f'Write a new file: np.savez("{another}", images={stored}["{key}"]{shaped}{labels})', *more]


def reshapes(length: int) -> tuple[str, ...]:
    """Return what makes images of rows of so many values: one way for grey squares, two for squares in colour."""
    side = math.isqrt(length)
    if side * side == length and side >= LEAST_SIDE:
        return (f".reshape(-1, {side}, {side})",)
    side = math.isqrt(length // 3)
    if 3 * side * side == length and side >= LEAST_SIDE:
        return f".reshape(-1, 3, {side}, {side})", f".reshape(-1, {side}, {side}, 3)"
    return ()


def _may_be_images(path: Path, key: str) -> bool:
    """Return whether an array has the shape of images, or of rows of pixels, by its header alone."""
    shape, kind = _described(path, key)
    is_flat = len(shape) == 2 and shape[1] >= LEAST_SIDE**2
    return (len(shape) in (3, 4) or is_flat) and min(shape) > 0 and kind in "biuf"


def _described(path: Path, key: str) -> tuple[tuple[int, ...], str]:
    """Return the shape and the kind of number of an array by its header, () and "V" where that is damaged."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open(f"{key}.npy") as file:
            shape, _, dtype = _header(file)
    except Exception:  # a damaged archive fails in zipfile, zlib or numpy
        return (), "V"
    return shape, dtype.kind


def free_name(path: Path) -> Path:
    """Return a path where nothing is yet: this one, or with a number."""
    found = path
    number = 2
    while os.path.lexists(found):
        found = path.with_stem(f"{path.stem}-{number}")
        number += 1
    return found


def read_labels(path: Path, subject: str, num_images: int) -> Labels:
    """Return the labels of the images and the classes, without any where the archive has none; raises UserError."""
    keys = _keys(path, subject)
    found = _labels_for(keys, _parts(keys, IMAGE_NAMES))
    if not found:
        return Labels()
    key = found[0]
    stored = {name: _read(path, name, subject) for name in found}
    if all(_is_table(values) for values in stored.values()) and not all(map(_is_one_hot, stored.values())):
        names = _label_names(path, keys, stored[key].shape[1], subject)
        return _several(stored, names, subject, num_images)
    values = np.concatenate([_one_each(one, _array(subject, name)) for name, one in stored.items()])
    if len(values) != num_images:
        problem = f"shape {values.shape}; expected one label for each of {num_images} images"
        raise UserError(_array(subject, key), problem)
    names, labels = np.unique(values, return_inverse=True)
    try:
        classes = tuple(str(name).encode(errors="replace").decode() for name in names)
    except (ValueError, SystemError):  # NumPy's text may hold numbers that stand for no letter
        raise UserError(_array(subject, key), "not valid text; allowed are whole numbers or text") from None
    # Not used: a run knows its classes by what they are called, and older ones know them by their numbers.
    unread = [name for name in keys if name.lower() in NAMES_OF_LABELS]
    told = f"arrays that are not read, as each image has one label: {shortened(', '.join(unread))}"
    return Labels(labels.astype(np.int64), classes, (told,) if unread else ())


def _several(stored: dict[str, np.ndarray], names: Sequence[str], subject: str, num_images: int) -> Labels:
    """Return the combinations of labels of rows [N, L] of 0 and 1, or of −1 and 1; raises UserError for others."""
    name = _array(subject, next(iter(stored)))
    if len({values.shape[1] for values in stored.values()}) > 1:
        raise UserError(name, f"the arrays {', '.join(stored)} have rows of different lengths")
    values = np.concatenate(list(stored.values()))
    if len(values) != num_images:
        raise UserError(name, f"shape {values.shape}; expected one row of labels for each of {num_images} images")
    try:
        combinations = combined(rows_of(values, names), names)
    except ValueError as error:
        raise UserError(name, f"shape {values.shape}; {error}", "Give one label for each image, or such rows") from None
    if problem := doubt(combinations):
        raise UserError(name, problem)
    notes = []
    if combinations.sets:
        notes = [told(combinations, f"the array {' and '.join(stored)}")]
    if idle := [one for one in names if one not in combinations.classes]:
        notes.append(f"labels that no image has are left out: {shortened(', '.join(idle))}")
    return Labels(combinations.labels, combinations.classes, tuple(notes), combinations.sets)


def _label_names(path: Path, keys: list[str], num: int, subject: str) -> list[str]:
    """Return what the labels of rows [N, L] are called: by an array of names, else by their numbers."""
    key = next((key for key in keys if key.lower() in NAMES_OF_LABELS), None)
    if key is None:
        return [str(index) for index in range(num)]
    values = _read(path, key, subject)
    names = [str(name).encode(errors="replace").decode().strip() for name in values.ravel()[: num + 1]]
    if values.shape != (num,) or values.dtype.kind != "U" or len(set(names) - {""}) < num:
        problem = f"it is to hold {num} different names as text, one for each column of the labels"
        raise UserError(_array(subject, key), problem)
    return names


def _array(subject: str, key: str) -> str:
    return f'{subject}, array "{key}"'


def _one_each(values: np.ndarray, subject: str) -> np.ndarray:
    """Return labels as [N] of whole numbers or text, also of one-hot rows; raises UserError."""
    if _is_one_hot(values):
        return values.argmax(axis=1)
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


def _is_one_hot(values: np.ndarray) -> bool:
    return _is_table(values) and bool(((values == 0) | (values == 1)).all() and (values.sum(axis=1) == 1).all())


def _is_table(values: np.ndarray) -> bool:
    return values.ndim == 2 and values.shape[1] > 1 and values.dtype.kind in "biuf"


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
    if values.ndim == 2:
        values = _unflattened(values, name, path, key)
    if values.ndim == 3 and values.shape[2] in CHANNELS and values.shape[1] > LEAST_SIDE:
        problem = (
            f"shape {values.shape}, as of a single image; many are needed: [N, H, W], [N, H, W, C] or [N, C, H, W]"
        )
        raise UserError(name, problem)
    if values.ndim == 3:
        values = values[..., None]
    allowed = CHANNELS
    if values.ndim == 4 and values.shape[3] not in allowed and values.shape[1] in allowed:
        values = values.transpose(0, 2, 3, 1)
    if values.ndim == 4 and not {*values.shape[1:]} & {*allowed}:
        values = _channels_last(values)
        allowed = range(1, MAX_CHANNELS + 1)
    if values.ndim != 4 or values.shape[3] not in allowed or 0 in values.shape[1:]:
        problem = f"shape {values.shape}; allowed are [N, H, W], [N, H, W, C] and [N, C, H, W]"
        is_known = values.ndim == 5 or (values.ndim == 4 and values.shape[2] in allowed)
        raise UserError(name, problem, *(_rewritten(path, key, _keys(path, subject)) if is_known else ()))
    if values.dtype.kind not in "biuf":
        raise UserError(name, f"type {values.dtype}; allowed are whole numbers, floats and booleans")
    refuse_not_finite(stored, name)
    return np.ascontiguousarray(values)


def _channels_last(values: np.ndarray) -> np.ndarray:
    """Return [..., H, W, C] of values whose channels are the first or the last of three axes: the shorter one."""
    first, _, last = values.shape[-3:]
    return np.moveaxis(values, -3, -1) if first < last else values


def picture_in(content: bytes) -> np.ndarray:
    """Return the picture [H, W, C] of an `.npy` or `.npz` file in the numbers it is stored as; raises ValueError."""
    if content[:6] == np.lib.format.MAGIC_PREFIX:
        values = read_array(io.BytesIO(content), len(content))
    else:
        values = _only_array(content)
    if values.dtype.kind not in "biuf":
        raise ValueError(f"type {str(values.dtype)[:40]}; allowed are whole numbers, floats and booleans")
    if values.ndim == 2:
        values = values[:, :, None]
    if values.ndim == 3:
        values = _channels_last(values)
    if values.ndim != 3 or not 1 <= values.shape[2] <= MAX_CHANNELS or 0 in values.shape:
        raise ValueError(f"shape {values.shape}; a file that is one picture is {SHAPES_OF_PICTURES}")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ValueError("pixels that are not finite numbers")
    return np.ascontiguousarray(values)


def _only_array(content: bytes) -> np.ndarray:
    """Return the array of an `.npz` that holds one, or one with a picture's name; raises ValueError."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()[:MAX_ARRAYS]}
            name = next((name for name in PICTURE_NAMES if name in members), None)
            if name is None and len(members) == 1:
                (name,) = members
            if name is None:
                raise ValueError(f"it holds {shortened(', '.join(members)) or 'no arrays'}; one picture a file is read")
            if reason := archives.flaw(members[name], MAX_PICTURE_BYTES):
                raise ValueError(reason)
            with archive.open(members[name]) as file:
                return read_array(file, members[name].file_size)
    except ValueError:
        raise
    except Exception as error:  # a damaged archive fails in zipfile, zlib or numpy
        raise ValueError(f"damaged ({type(error).__name__})") from None


def _unflattened(values: np.ndarray, subject: str, path: Path, key: str) -> np.ndarray:
    """Return rows of pixels [N, D] as square grey images; raises UserError where they are none, or of colours."""
    orders = reshapes(values.shape[1])
    if len(orders) == 1:
        side = math.isqrt(values.shape[1])
        return values.reshape(len(values), side, side)
    problem = f"shape {values.shape}; allowed are [N, H, W], [N, H, W, C] and [N, C, H, W]"
    if orders:
        raise UserError(
            subject, f"{problem}. Its rows may be colours in two orders", *_rewritten(path, key, _keys(path, subject))
        )
    raise UserError(subject, problem, "Save the images with their height and width: images.reshape(-1, height, width)")


def refuse_not_finite(images: np.ndarray, subject: Part) -> None:
    """Raise UserError where images `[N, …]` hold values that are not finite numbers."""
    if images.dtype.kind != "f":
        return
    bad = [index for index in range(len(images)) if not np.isfinite(images[index]).all()]
    if bad:
        problem = f"{len(bad):,} of {len(images):,} images hold NaN or infinite values, the first is image {bad[0]}"
        axes = tuple(range(1, images.ndim))
        if len(bad) == len(images):
            raise UserError(subject, problem, "Put numbers in their place: np.nan_to_num(images, posinf=0, neginf=0)")
        raise UserError(subject, problem, f"Leave them out: images[np.isfinite(images).all(axis={axes})]")


def _joined(first: tuple[str, np.ndarray], second: tuple[str, np.ndarray], subject: str) -> np.ndarray:
    """Return two named parts as one array; raises UserError where they are of another shape or kind of number."""
    name, images = first
    other, rest = second
    if rest.shape[1:] != images.shape[1:]:
        problem = f"{name} and {other} differ in shape: {images.shape[1:]} and {rest.shape[1:]}"
        raise UserError(subject, problem)
    whole = "iu"
    same = images.dtype.kind == rest.dtype.kind or (images.dtype.kind in whole and rest.dtype.kind in whole)
    if not same:
        problem = f"{name} is {images.dtype} and {other} {rest.dtype}, so no one scale of pixel values fits both"
        raise UserError(subject, problem, "Give both in one type")
    return np.concatenate([images, rest])
