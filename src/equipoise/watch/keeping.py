"""What is kept of a custom loop's generators: by what it is, and when. Needs no torch.

A torch module or a dict of tensors or arrays becomes `generator.safetensors`, a Keras model
`generator.weights.h5`, and a function is called with the folder to write into.
"""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from equipoise.errors import Option, UserError
from equipoise.health.stats import is_tensor
from equipoise.runs.candidates import GENERATOR, Fill, keep_candidate, promote, tensors
from equipoise.runs.folder import RunFolder
from equipoise.stopping.monitor import Monitor
from equipoise.storage.records import EventKind, Score

KERAS_WEIGHTS = "generator.weights.h5"

Event = Callable[[EventKind, str], None]


def take(run: RunFolder, monitor: Monitor, score: Score, fill: Fill | None, event: Event, *, keeps_all: bool) -> bool:
    """Take a score in, keep what belongs to it, log it, and return whether it is the best; nothing is half-done.

    With `keeps_all`, what may be selected at the end is kept, too, else the best alone.
    """
    before = monitor.state_dict()
    is_best = monitor.score(score)
    try:
        _keep(run, monitor, score, fill, event, is_best=is_best, keeps_all=keeps_all)
        run.log_score(score, is_best=is_best)
    except BaseException:  # a full disk, or an error in a function of the loop's
        monitor.load_state_dict(before)
        raise
    return is_best


def _keep(
    run: RunFolder, monitor: Monitor, score: Score, fill: Fill | None, event: Event, *, is_best: bool, keeps_all: bool
) -> None:
    if fill is None:
        if is_best and run.best.exists():
            event("not kept", "a new best score came without keep=, so best/ holds an earlier generator")
        return
    of_these_samples = [other for other in monitor.candidates if other.samples == score.samples]
    is_first = bool(of_these_samples) and of_these_samples[0] is score  # else their folder is the better one's
    if is_first and (is_best or keeps_all):
        folder = keep_candidate(run, score, fill)
        if is_best:
            promote(run, folder)


def filler(what: Any) -> Fill:
    """Return what writes something into a folder; raises UserError if it is nothing that can be written."""
    if is_keras(what):  # first: under the torch backend it is a torch module, too
        return lambda folder: what.save_weights(folder / KERAS_WEIGHTS)
    if is_module(what):
        return lambda folder: _write(folder, what.state_dict())
    if isinstance(what, Mapping):
        return lambda folder: _write(folder, what)
    if callable(what):
        return what
    problem = "give a torch module, a dict of tensors or arrays, a Keras model, or a function that writes into a folder"
    raise UserError(Option("keep", type(what).__name__), problem)


def is_module(what: Any) -> bool:
    """Return whether something is a torch module, without importing torch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(what, torch.nn.Module)


def is_keras(what: Any) -> bool:
    """Return whether something is a Keras model, without importing Keras."""
    keras = sys.modules.get("keras")
    return keras is not None and isinstance(what, keras.Model)


def _write(folder: Path, values: Mapping[str, Any]) -> None:
    """Write named tensors or arrays as one safetensors file."""
    if values and all(map(is_tensor, values.values())):
        from equipoise.storage.checkpoints import copied

        tensors(copied(dict(values)))(folder)  # copies, because tensors that share memory are refused
        return
    import safetensors.numpy

    arrays = {name: _array(name, value) for name, value in values.items()}
    (folder / GENERATOR).write_bytes(safetensors.numpy.save(arrays))


def _array(name: str, value: Any) -> Any:
    import numpy as np

    if is_tensor(value):
        value = value.detach().cpu().numpy()
    array = np.ascontiguousarray(value)
    if array.dtype.kind not in "fiub" or array.dtype.itemsize > 8:
        problem = f'"{name}" is {type(value).__name__} of {array.dtype}; give tensors or arrays of numbers'
        raise UserError(Option("keep"), problem)
    return array
