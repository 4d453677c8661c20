"""What is kept of a custom loop's generators: by what it is, and when. Needs no torch.

A torch module or a dict of tensors or arrays becomes `generator.safetensors`, a Keras model
`generator.weights.h5`, and a function is called with the folder to write into.
"""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from equipoise.errors import Option, UserError
from equipoise.health.stats import is_tensor
from equipoise.runs.candidates import GENERATOR, Fill, keep_candidate, promote, tensors
from equipoise.runs.folder import RunFolder
from equipoise.stopping.monitor import Monitor
from equipoise.storage.records import EventKind, Score
from equipoise.watch.raised import is_for_the_loop
from equipoise.watch.writing import Writer, why

KERAS_WEIGHTS = "generator.weights.h5"
PREFIXES = ("module.", "_orig_mod.")  # of all names, where a network was wrapped
COUNT = "n_averaged"  # of torch's AveragedModel

Event = Callable[[EventKind, str], None]


@dataclass(frozen=True)
class Content:
    """What belongs to a score: how it is written now, and how the same is written later, where that can be had."""

    fill: Fill
    later: Callable[[], Fill] | None = None


@dataclass(frozen=True)
class Unkept:
    """What the disk did not take, to be written once it does."""

    score: Score
    fill: Fill


class Keeper:
    """Keeps the generators that may be the best one; what cannot be written now is an event, and is tried again."""

    def __init__(self, run: RunFolder, monitor: Monitor, writer: Writer, event: Event) -> None:
        self.run = run
        self.monitor = monitor
        self.writer = writer
        self.event = event
        self._unkept: list[Unkept] = []

    def take(self, score: Score, content: Content | None, *, keeps_all: bool, refuses: bool = False) -> bool:
        """Take a score in, log it, keep what belongs to it, and return whether it is the best.

        With `keeps_all`, what may be selected at the end is kept, too, else the best alone. With `refuses`, a UserError
        of the content is raised, and nothing is half-done; else whatever keeping raises is an event.
        """
        before = self.monitor.state_dict()
        is_best = self.monitor.score(score)
        try:
            self._keep(score, content, is_best=is_best, keeps_all=keeps_all)
        except BaseException as error:
            if is_for_the_loop(error) or (refuses and isinstance(error, UserError)):
                self.monitor.load_state_dict(before)
                raise
            self._note_unkept(score, content, error)
        self.writer.log("scores.jsonl", score.samples, lambda: self.run.log_score(score, is_best=is_best))
        return is_best

    def keep_again(self) -> None:
        """Try again to write what the disk did not take, as long as it may be selected."""
        waiting = [one for one in self._unkept if any(one.score is other for other in self.monitor.candidates)]
        self._unkept = [one for one in waiting if not self.writer.attempt("candidates", partial(self._write, one))]

    def forget(self) -> None:
        """Forget what could not be written: the run goes back to a time before it."""
        self._unkept = []

    def _keep(self, score: Score, content: Content | None, *, is_best: bool, keeps_all: bool) -> None:
        if content is None:
            if is_best and self.run.best.exists():
                self.event("not kept", "a new best score came without keep=, so best/ holds an earlier generator")
            return
        of_these_samples = [other for other in self.monitor.candidates if other.samples == score.samples]
        is_first = bool(of_these_samples) and of_these_samples[0] is score  # else their folder is the better one's
        if is_first and (is_best or keeps_all) and not self.writer.is_lost:
            folder = keep_candidate(self.run, score, content.fill)
            if is_best:
                promote(self.run, folder)

    def _write(self, one: Unkept) -> None:
        folder = keep_candidate(self.run, one.score, one.fill)
        if one.score is self.monitor.best:
            promote(self.run, folder)

    def _note_unkept(self, score: Score, content: Content | None, error: BaseException) -> None:
        then = "best/ stays as it is"
        if content is not None and content.later is not None:
            try:
                self._unkept.append(Unkept(score, content.later()))
                then = "they are in memory, and writing them is tried again"
            except Exception:  # no memory for them either
                then = "there is no memory to hold them, either"
        self.event("not kept", f"the weights of {score.samples:,} samples: {why(error)}; {then}")


def content_of(what: Any) -> Content:
    """Return what writes something into a folder; raises UserError if it is nothing that can be written."""
    if is_keras(what):  # first: under the torch backend it is a torch module, too
        return Content(lambda folder: what.save_weights(folder / KERAS_WEIGHTS))
    if is_module(what):
        from equipoise.watch.modules import plain_state, refuse_sharded, refuse_without_weights

        refuse_sharded(what)
        refuse_without_weights(what)
        return _of_values(lambda: plain_state(what))
    if isinstance(what, Mapping):
        if not what:
            raise UserError(Option("keep"), "an empty dict; give tensors or arrays by their names")
        return _of_values(lambda: _unwrapped(what))
    if callable(what):
        return Content(what)
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


def _unwrapped(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return named values by the names that they have without wrappers around the network.

    DistributedDataParallel puts `module.` before each, what is compiled `_orig_mod.`, and an average counts, too.
    """
    while True:
        own = {name: value for name, value in values.items() if name != COUNT}
        prefix = next((one for one in PREFIXES if own and all(str(name).startswith(one) for name in own)), None)
        if prefix is None:
            return values
        values = {name.removeprefix(prefix): value for name, value in own.items()}


def _of_values(values: Callable[[], Mapping[str, Any]]) -> Content:
    def later() -> Fill:
        copies = _copied(values())
        return lambda folder: _write(folder, copies)

    return Content(lambda folder: _write(folder, values()), later)


def _copied(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return copies of named tensors or arrays, as they are now."""
    if values and all(map(is_tensor, values.values())):
        from equipoise.storage.checkpoints import copied

        return copied(dict(values))
    return {name: _array(name, value).copy() for name, value in values.items()}


def _write(folder: Path, values: Mapping[str, Any]) -> None:
    """Write named tensors or arrays as one safetensors file."""
    if values and all(map(is_tensor, values.values())):
        tensors(_copied(values))(folder)  # copies, because tensors that share memory are refused
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
        if isinstance(value, Mapping) or is_module(value):
            problem = f'"{name}" is {type(value).__name__}; give the tensors or arrays of one network'
            raise UserError(Option("keep"), problem, f'That of this one: keep=checkpoint["{name}"]')
        problem = f'"{name}" is {type(value).__name__} of {array.dtype}; give tensors or arrays of numbers'
        raise UserError(Option("keep"), problem)
    return array
