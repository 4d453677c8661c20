"""The best of somebody's own loop on the disk: a module, tensors, a Keras model, or whatever a function writes.

The folder appears whole or not at all, with its score and a manifest of SHA-256; torch is not needed for it.
"""

import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from equipoise.errors import UserError
from equipoise.storage.files import MANIFEST, write_json, written_whole
from equipoise.watch.meter import is_tensor

WEIGHTS = "generator.safetensors"
KERAS_WEIGHTS = "generator.weights.h5"
SCORE = "score.json"


def keep(final: Path, what: Any, score: Mapping[str, Any]) -> None:
    """Put what is to be kept in place of the folder `final`; raises UserError if it is nothing that can be written.

    A torch module or a dict of tensors or arrays becomes `generator.safetensors`, a Keras model
    `generator.weights.h5`, and a function is called with the folder to write into.
    """
    fill = filler(what)
    with written_whole(final) as folder:
        fill(folder)
        write_json(folder / SCORE, dict(score))


def copying(source: Path) -> Callable[[Path], Any]:
    """Return what to keep where the same is to lie in another folder, or with another score."""
    without = shutil.ignore_patterns(SCORE, MANIFEST)  # in its first folder: what is below belongs to the weights
    return lambda folder: shutil.copytree(
        source,
        folder,
        dirs_exist_ok=True,
        ignore=lambda inside, names: without(inside, names) if Path(inside) == source else set(),
    )


def is_module(what: Any) -> bool:
    """Return whether something is a torch module, without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(what, torch.nn.Module)


def is_keras(what: Any) -> bool:
    """Return whether something is a Keras model, without importing Keras."""
    keras = sys.modules.get("keras")
    return keras is not None and isinstance(what, keras.Model)


def filler(what: Any) -> Callable[[Path], Any]:
    """Return what writes it into a folder; raises UserError if it is nothing that can be written."""
    if is_keras(what):  # first: under the torch backend it is a torch module, too
        return lambda folder: what.save_weights(folder / KERAS_WEIGHTS)
    if is_module(what):
        return lambda folder: _write_tensors(folder, what.state_dict())
    if isinstance(what, Mapping):
        return lambda folder: _write_tensors(folder, what)
    if callable(what):
        return what
    raise UserError(
        f"keep={type(what).__name__}: give a torch module, a dict of tensors or arrays, a Keras model, or a function "
        "that writes into the folder it is given"
    )


def _write_tensors(folder: Path, tensors: Mapping[str, Any]) -> None:
    """Write named tensors or arrays as one safetensors file."""
    if tensors and all(map(is_tensor, tensors.values())):
        import safetensors.torch

        # Clones, because tensors that share memory (tied weights) are refused.
        plain = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
        (folder / WEIGHTS).write_bytes(safetensors.torch.save(plain))
        return
    import safetensors.numpy

    arrays = {name: _array(name, value) for name, value in tensors.items()}
    (folder / WEIGHTS).write_bytes(safetensors.numpy.save(arrays))


def _array(name: str, value: Any) -> Any:
    import numpy as np

    array = np.ascontiguousarray(value.detach().cpu().numpy() if is_tensor(value) else value)
    if array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:
        raise UserError(f'keep: "{name}" is {type(value).__name__} of {array.dtype}; give tensors or arrays of numbers')
    return array
