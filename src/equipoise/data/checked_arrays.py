"""Arrays in a file with a checksum: a damaged one must not be believed."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import safetensors.numpy

from equipoise.storage.safe_open import read_bytes

MAX_BYTES = 2**30
_CHECKSUM = "sha256"


def packed(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Return arrays as the bytes of their file."""
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    return safetensors.numpy.save({**arrays, _CHECKSUM: _checksum(arrays)})


def read(path: Path) -> dict[str, np.ndarray] | None:
    """Return the arrays of a file, None where there is none or it is damaged."""
    try:
        arrays = safetensors.numpy.load(read_bytes(path, MAX_BYTES))
        found = arrays.pop(_CHECKSUM)
        is_whole = np.array_equal(found, _checksum(arrays))
    except Exception:  # a header can be wrong in many ways, and each raises another type
        return None
    return arrays if is_whole else None


def _checksum(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the SHA-256 of names, shapes and numbers as uint8 [32]."""
    digest = hashlib.sha256()
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape}\n".encode())
        digest.update(array.tobytes())
    return np.frombuffer(digest.digest(), np.uint8)
