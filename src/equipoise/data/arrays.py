"""Images and labels out of `.npz` files, as uint8 [N, H, W, C] and int64 [N]."""

import zipfile
from pathlib import Path

import numpy as np

from equipoise.errors import UserError, listed

IMAGE_KEYS = ("images", "x", "x_train", "arr_0")
LABEL_KEYS = ("labels", "y", "y_train")
MAX_BYTES = 2**36  # 64 GiB unpacked
MAX_RATIO = 200  # what unpacks to more than RATIO_FLOOR bytes and to more than so many times its size is a bomb
RATIO_FLOOR = 2**24


def is_bomb(unpacked: int, packed: int) -> bool:
    """Return whether compressed bytes promise more than an honest file holds."""
    return unpacked > RATIO_FLOOR and unpacked > MAX_RATIO * packed


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
    values = _read(path, key, what)
    if key == "y_train" and "y_test" in _keys(path, what):
        values = np.concatenate([values.reshape(len(values)), _read(path, "y_test", what).ravel()])
    if values.size != num_images or values.shape[:1] != (num_images,):
        raise UserError(f'{what}: array "{key}" has shape {values.shape}; expected one label for each of {num_images}')
    if values.dtype.kind == "f" and not (values == np.rint(values)).all():
        raise UserError(f'{what}: array "{key}" holds fractions; allowed are whole numbers or text')
    if values.dtype.kind == "f":
        values = values.astype(np.int64)
    names, labels = np.unique(values.reshape(num_images), return_inverse=True)
    return labels.reshape(num_images).astype(np.int64), tuple(str(name) for name in names)


def _keys(path: Path, what: str) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
            if unpacked > MAX_BYTES:
                raise UserError(f"{what}: unpacks to more than {MAX_BYTES >> 30} GiB; split it, or give a folder")
            if is_bomb(unpacked, path.stat().st_size):  # the whole file's size: what a member says of itself may lie
                raise UserError(
                    f"{what}: unpacks to more than {MAX_RATIO} times its size. "
                    "Try: np.savez instead of np.savez_compressed"
                )
            return [name.removesuffix(".npy") for name in archive.namelist()]
    except (OSError, zipfile.BadZipFile) as error:
        raise UserError(f"{what}: cannot be read as an .npz file ({error})") from None


def _first_key(path: Path, what: str, wanted: tuple[str, ...]) -> str | None:
    keys = _keys(path, what)
    return next((key for key in wanted if key in keys), None)


def _read(path: Path, key: str, what: str) -> np.ndarray:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return archive[key]
    except ValueError as error:
        reason = "it holds Python objects, which are never loaded" if "pickle" in str(error) else str(error)
        raise UserError(f'{what}: array "{key}" cannot be read: {reason}') from None
    except Exception as error:  # a damaged archive fails in zipfile, zlib or numpy
        raise UserError(f'{what}: array "{key}" is damaged ({type(error).__name__})') from None


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
