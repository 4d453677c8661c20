"""Trying a task that somebody defined in Python, once and on a few samples, before hours of training depend on it."""

import copy
import dataclasses
import inspect
import math
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import numpy as np
import torch
from torch import Tensor, nn

from equipoise.errors import UserError, listed
from equipoise.game.terms import StepContext
from equipoise.game.updates import ROLES, Players, Role, Terms, refuse_unknown_stats
from equipoise.metrics.units import Measured
from equipoise.randomness import Randomness
from equipoise.recipe import Recipe
from equipoise.storage.files import as_read
from equipoise.storage.records import SNAPSHOT_NAME, DataRecord, ExhibitKind, Metric, deciding
from equipoise.storage.records import Role as RivalRole
from equipoise.tasks.base import Examples, Exhibit, Judge, JudgedSplit, Rival, Split, Task, evaluating, num_outputs
from equipoise.tasks.exhibits import file_of

NUM = 16  # outputs and examples asked for, at most
CLOSE = 1e-3  # share of the largest number by which two computations of the same numbers may differ, on a GPU
WITH_DEFAULT = ("rivals",)  # methods that a class inherits where it has `Task` as its base
OUTPUTS = "a tensor [size, …], a tuple of such tensors, or a list of outputs"
BY_POSITION = 'the same for the same arguments, as draws from randomness.generator("a name") are'

Result = TypeVar("Result")


def refuse_broken(task: Task, recipe: Recipe) -> None:
    """Raise UserError that names the method, and what it must return, where a task breaks its contract."""
    with torch.random.fork_rng():
        data = _data_of(task)
        _refuse_chunk(task)
        players = _players_of(task)
        _refuse_batch(task, recipe.game.batch)
        for role in ROLES:
            for progress in (0.0, 1.0):  # some terms come in later
                step = StepContext(Randomness(0), progress)
                _refuse_terms(task, players, role, recipe.game.batch, step)
        players.generator.requires_grad_(False)
        judges = _judges_of(task)
        judge = judges["validation"]
        with evaluating(players.generator), evaluating(players.discriminator), torch.no_grad():
            outputs = _outputs_of(task, players.generator, judge)
            for split, other in judges.items():
                _refuse_split(task, players.generator, split, min(NUM, other.num))
            _refuse_examples(task, players, "train", data.num_train)
            _refuse_examples(task, players, "validation", data.num_validation)
            _refuse_examples(task, players, "test", data.num_test)
            _refuse_measured(judge, outputs)
            _refuse_rivals(task)
            _refuse_exhibits(task, players.generator)
            _refuse_model(task, players.generator)


def refuse_negative(metrics: Sequence[Metric], loss: float, error: float) -> None:
    """Raise UserError for a deciding loss below zero, unless it is an estimate that its own error can carry there.

    The rules for stopping compare losses by ratios: to them, all losses below zero are one.
    """
    if loss < 0 and not (deciding(metrics).signed and math.isfinite(error)):
        allowed = "one non-negative deciding loss, lower is better; only an estimate may fall below zero by chance, "
        allowed += "with a Metric of signed=True and a finite error"
        raise _wrong("judge().measure", f"a loss of {loss:.3g}", allowed)


# The data and the networks


def _data_of(task: Task) -> DataRecord:
    data = _returned(task, "describe", DataRecord)
    try:
        is_plain = as_read(data.facts) == data.facts
    except (TypeError, ValueError) as error:
        raise _wrong("describe", f"facts that JSON cannot hold ({error})", "plain values in facts") from None
    if not is_plain:
        raise _wrong("describe", "facts that JSON does not give back", "plain values in facts: text, numbers, lists")
    if _returned(task, "describe", DataRecord).digest != data.digest:
        raise _wrong("describe", "another digest at the second call", "a digest of the data alone")
    return data


def _refuse_chunk(task: Task) -> None:
    remedy = "Set it to how many outputs are drawn at once, such as 250"
    try:
        found: Any = task.chunk
    except Exception as error:
        raise UserError("task.chunk", f"raised {type(error).__name__}: {error}", remedy) from error
    if not isinstance(found, int) or found < 1:
        raise UserError("task.chunk", f"is {found!r}; it must be a whole number of at least 1", remedy)


def _players_of(task: Task) -> Players:
    found = [_returned(task, "players", Players) for _ in range(2)]
    for role in ROLES:
        one, other = (players.of(role) for players in found)
        if not isinstance(one, nn.Module):
            raise _wrong("players", f"a {role} of type {_type(one)}", "torch modules")
        if any(map(torch.nn.parameter.is_lazy, one.parameters())):
            raise _wrong("players", f"a {role} whose weights have no shape yet", "networks without lazy modules")
        if not any(parameter.requires_grad for parameter in one.parameters()):
            raise _wrong("players", f"a {role} without weights to train", "modules with parameters")
        if {map(id, one.parameters())} & {map(id, other.parameters())} or one is other:
            raise _wrong("players", f"the same {role} twice", "new networks at each call")
        if not _is_same(one.state_dict(), other.state_dict()):
            allowed = "weights that torch's global generator draws, which is seeded before the call"
            raise _wrong("players", f"another {role} at the second call", allowed)
    return found[0]


# The game


def _refuse_batch(task: Task, num: int) -> None:
    batch = _called(task, "batch", Randomness(0), num)
    found = num_outputs(batch)
    if found is not None and found != num:
        raise _wrong("batch", f"{found} samples for num={num}", f"{num} of them")
    if not _is_same(batch, _called(task, "batch", Randomness(0), num, seed=1)):
        raise _wrong("batch", "other samples at the second call", BY_POSITION)


def _refuse_terms(task: Task, players: Players, role: Role, num: int, step: StepContext) -> None:
    method = f"{role}_terms"
    for other in ROLES:
        players.of(other).requires_grad_(other == role)  # as in the update

    kept = {other: copy.deepcopy(players.of(other).state_dict()) for other in ROLES}
    found = []
    for _ in range(2):
        batch = _called(task, "batch", Randomness(0), num)
        terms = _returned(task, method, Terms, players, batch, step)
        _refuse_values(terms, method)
        refuse_unknown_stats(terms, role)
        if terms.losses:
            _refuse_gradients(terms, players.of(role), method)
        found.append(terms.losses)
        for other in ROLES:  # running statistics have moved
            players.of(other).load_state_dict(kept[other])
    if not _is_same(*found):
        raise _wrong(method, "other losses at the second call", BY_POSITION.replace("randomness", "step.randomness"))


def _refuse_values(terms: Terms, method: str) -> None:
    for name, values in terms.losses.items():
        if not isinstance(values, Tensor) or values.dim() != 1 or not values.is_floating_point() or not len(values):
            raise _wrong(method, f'for "{name}" {_shape(values)}', "losses per sample, float tensors [N]")
        if not values.isfinite().all():
            raise _wrong(method, f'for "{name}" numbers that are not finite', "finite losses at the first weights")
    for name, value in terms.stats.items():
        if not isinstance(value, Tensor):
            raise _wrong(method, f'for the stat "{name}" {_shape(value)}', "tensors of one number")


def _refuse_gradients(terms: Terms, network: nn.Module, method: str) -> None:
    total = torch.stack([values.mean() for values in terms.losses.values()]).sum()
    weights = [parameter for parameter in network.parameters() if parameter.requires_grad]
    gradients: list[Tensor] = []
    if total.requires_grad:
        try:
            found = torch.autograd.grad(total, weights, allow_unused=True)
        except RuntimeError as error:
            raise UserError(f"task.{method}()", f"its losses cannot be differentiated: {error}") from error
        gradients = [gradient for gradient in found if gradient is not None]
    if not gradients:
        allowed = "losses that depend on the weights of the player whose step it is, and no other's"
        raise _wrong(method, "losses without a gradient", allowed)
    if not all(gradient.isfinite().all() for gradient in gradients):
        raise _wrong(method, "losses with gradients that are not finite", "finite gradients at the first weights")


# Outputs and examples


def _outputs_of(task: Task, generator: nn.Module, judge: Judge) -> Any:
    """Return outputs on the validation split, as many as the judge takes, up to 16."""
    size = min(NUM, judge.num)
    outputs = _called(task, "outputs", generator, Randomness(0), "validation", 0, size)
    _refuse_outputs(outputs, size, "outputs")
    if not _is_same(outputs, _called(task, "outputs", generator, Randomness(0), "validation", 0, size, seed=1)):
        raise _wrong("outputs", "others at the second call", BY_POSITION)
    is_constant = _is_same(_part(outputs, 1, size), _part(outputs, 0, size - 1))
    if judge.num >= 2 * size and not is_constant:
        others = _called(task, "outputs", generator, Randomness(0, size), "validation", size, size)
        if _is_same(outputs, others):
            allowed = "those of other positions: draw from `randomness`, or take inputs at `begin`"
            raise _wrong("outputs", f"the same for begin=0 and begin={size}", allowed)
    return outputs


def _refuse_examples(task: Task, players: Players, split: Split, num: int) -> None:
    size = min(NUM, num)
    if not size:
        return
    inputs, targets = _examples_of(task, split, 0, size)
    if not _is_same((inputs, targets), _examples_of(task, split, 0, size, seed=1)):
        raise _wrong("examples", f'others of "{split}" at the second call', "the same ones each time")
    if size > 1 and not _is_same(_part(targets, 1, size), _examples_of(task, split, 1, size - 1).targets):
        raise _wrong("examples", "for begin=1 others than from the second on for begin=0", "those at these positions")
    _refuse_logits(task, players.discriminator, inputs, targets, size)
    outputs = _called(task, "outputs", players.generator, Randomness(0), split, 0, size)
    _refuse_outputs(outputs, size, "outputs")
    if isinstance(outputs, Tensor) and isinstance(targets, Tensor) and outputs.shape != targets.shape:
        raise _wrong("outputs", _shape(outputs), f"what stands beside the examples: {_shape(targets)}")
    _refuse_logits(task, players.discriminator, inputs, outputs, size)


def _examples_of(task: Task, split: Split, begin: int, size: int, seed: int = 0) -> Examples:
    found = _called(task, "examples", split, begin, size, seed=seed)
    if not isinstance(found, tuple) or len(found) != 2:
        raise _wrong("examples", _type(found), "Examples(inputs, targets)")
    _refuse_outputs(found[1], size, "examples")
    if num_outputs(found[0]) not in (None, size):
        raise _wrong("examples", f"{num_outputs(found[0])} inputs for size={size}", f"{size} of them")
    return Examples(*found)


def _refuse_outputs(outputs: Any, size: int, method: str) -> None:
    num = num_outputs(outputs)
    if num is None:
        raise _wrong(method, _type(outputs), OUTPUTS)
    if num != size:
        raise _wrong(method, f"{num} for size={size}", f"{size} of them")
    parts = list(outputs)  # of a tensor, its rows
    if not all(part.isfinite().all() for part in parts if isinstance(part, Tensor)):
        raise _wrong(method, "numbers that are not finite", "finite ones")


def _refuse_logits(task: Task, discriminator: nn.Module, inputs: Any, outputs: Any, size: int) -> None:
    logits = _called(task, "logits", discriminator, inputs, outputs)
    if not isinstance(logits, Tensor) or logits.shape != (size,) or not logits.is_floating_point():
        raise _wrong("logits", _shape(logits), f"logits [N], here [{size}]")


# The judge


def _refuse_split(task: Task, generator: nn.Module, split: JudgedSplit, size: int) -> None:
    _refuse_outputs(_called(task, "outputs", generator, Randomness(0), split, 0, size), size, "outputs")


def _judges_of(task: Task) -> dict[JudgedSplit, Judge]:
    """Return the judges that there are; one by the validation split is needed."""
    found: dict[JudgedSplit, Any] = {split: _called(task, "judge", split) for split in get_args(JudgedSplit)}
    if found["validation"] is None:
        raise _wrong("judge", "None for the validation split", "a judge; None only for a split that is too small")
    judges: dict[JudgedSplit, Judge] = {split: judge for split, judge in found.items() if judge is not None}
    for split, judge in judges.items():
        _refuse_judge(judge, split)
    return judges


def _refuse_judge(judge: Judge, split: str) -> None:
    for name in ("metrics", "protocol", "split", "num", "seed", "sized", "measure"):
        if not hasattr(judge, name):
            raise _wrong("judge", f"{_type(judge)} without {name}", "a judge as in equipoise.tasks.base.Judge")
    is_metrics = isinstance(judge.metrics, tuple) and all(isinstance(metric, Metric) for metric in judge.metrics)
    if not is_metrics or sum(metric.decides for metric in judge.metrics) != 1:
        raise _wrong("judge", "metrics of which not exactly one decides", "a tuple, with one Metric of decides=True")
    if not isinstance(judge.num, int) or judge.num < 1:
        raise _wrong("judge", f"a judge of {judge.num} outputs", "one that takes at least one")
    if judge.split != split:
        raise _wrong("judge", f'a judge of "{judge.split}" for "{split}"', "one whose split is what was asked for")
    try:
        is_plain = as_read(judge.protocol) == judge.protocol
    except (TypeError, ValueError) as error:
        raise _wrong("judge", f"a protocol that JSON cannot hold ({error})", "plain values in protocol") from None
    if not is_plain:
        raise _wrong("judge", "a protocol that JSON does not give back", "plain values: text, numbers, lists")


def _refuse_measured(judge: Judge, outputs: Any) -> None:
    method = "judge().measure"
    try:
        found: Any = judge.sized(num_outputs(outputs) or NUM).measure([outputs])
    except UserError:
        return  # of so few outputs it need not be able to say anything
    except Exception as error:
        raise _raised(method, error) from error
    if not isinstance(found, Measured):
        raise _wrong(method, _type(found), "equipoise.metrics.units.Measured")
    for name, value in {"loss": found.loss, "error": found.error, **found.values}.items():
        if not isinstance(value, int | float):
            raise _wrong(method, f'for "{name}" {_shape(value)}', "Python numbers")
    if not np.isfinite(found.loss):
        raise _wrong(method, f"a loss of {found.loss}", "a finite one at the first weights")
    refuse_negative(judge.metrics, found.loss, found.error)
    missing = [metric.name for metric in judge.metrics if metric.name not in found.values]
    if missing:
        raise _wrong(method, f"values without {listed(missing)}", "a value for each of its metrics")


# What is shown, and what is left of it without the data


def _refuse_rivals(task: Task) -> None:
    rivals = _listed(task, "rivals", Rival)
    for rival in rivals:
        if rival.role not in get_args(RivalRole):
            raise _wrong("rivals", f'the role "{rival.role}"', listed(get_args(RivalRole)))
    names = [rival.name for rival in rivals]
    if len(set(names)) < len(names):
        raise _wrong("rivals", f"the names {', '.join(names)}", "a name of its own for each")


def _refuse_exhibits(task: Task, generator: nn.Module) -> None:
    if _returned(task, "snapshot", Exhibit, generator).kind != "picture":
        raise _wrong("snapshot", "what is no picture", "equipoise.tasks.exhibits.picture(…)")
    exhibits = _listed(task, "exhibits", Exhibit, generator)
    for exhibit in exhibits:
        if exhibit.kind not in get_args(ExhibitKind):
            raise _wrong("exhibits", f'the kind "{exhibit.kind}"', listed(get_args(ExhibitKind)))
        if not isinstance(exhibit.content, bytes):
            raise _wrong("exhibits", f'for "{exhibit.name}" {_type(exhibit.content)}', "content in bytes")
        if Path(exhibit.name).name != exhibit.name:
            raise _wrong("exhibits", f'the name "{exhibit.name}"', "names of files, without their folders")
        if re.fullmatch(SNAPSHOT_NAME, exhibit.name):
            raise _wrong("exhibits", f'the name "{exhibit.name}"', "names that a snapshot cannot have")
    files = [file_of(exhibit) for exhibit in exhibits]
    if len(set(files)) < len(files):
        raise _wrong("exhibits", f"the files {', '.join(files)}", "a file of its own for each")


def _refuse_model(task: Task, generator: nn.Module) -> None:
    model = _called(task, "model")
    for name in ("network", "samples", "applied"):
        if not callable(getattr(model, name, None)):
            raise _wrong("model", f"{_type(model)} without {name}()", "a model as in equipoise.tasks.base.Model")
    try:
        network: Any = model.network()
    except Exception as error:
        raise _raised("model().network", error) from error
    if not isinstance(network, nn.Module) or _shapes(network) != _shapes(generator):
        raise _wrong("model().network", "another network than players() does", "the generator, to read its weights")
    try:
        samples = [list(model.samples(generator, NUM, 0, None)) for _ in range(2)]
    except UserError:
        return  # it needs inputs
    except Exception as error:
        raise _raised("model().samples", error) from error
    num = sum(num_outputs(batch) or 0 for batch in samples[0])
    if num != NUM:
        raise _wrong("model().samples", f"{num} for num={NUM}", f"{NUM} of them, in batches")
    if not _is_same(*samples):
        raise _wrong("model().samples", "others for the same seed", "the same")


# Calling, comparing, telling


def _returned(task: Task, method: str, kind: type[Result], *given: Any) -> Result:
    found = _called(task, method, *given)
    if not isinstance(found, kind):
        raise _wrong(method, _type(found), kind.__name__)
    return found


def _listed(task: Task, method: str, kind: type[Result], *given: Any) -> list[Result]:
    found = _called(task, method, *given)
    if not isinstance(found, list | tuple):
        raise _wrong(method, _type(found), f"a list of {kind.__name__}")
    for one in found:
        if not isinstance(one, kind):
            raise _wrong(method, _type(one), f"a list of {kind.__name__}")
    return list(found)


def _called(task: Task, method: str, *given: Any, seed: int = 0) -> Any:
    """Call a method with torch's global generator at a seed; raises UserError where it is missing or raises."""
    function: Callable[..., Any] | None = getattr(task, method, None)
    is_inherited = getattr(type(task), method, None) is getattr(Task, method) and method not in WITH_DEFAULT
    if not callable(function) or is_inherited:
        told = inspect.getdoc(getattr(Task, method)) or ""
        problem = f"{_type(task)} has no such method. What it must do: {told.splitlines()[0]}"
        raise UserError(f"task.{method}()", problem, "See equipoise.tasks.base.Task")
    torch.manual_seed(seed)
    try:
        return function(*given)
    except UserError:
        raise
    except Exception as error:
        raise _raised(method, error) from error


def _is_same(one: Any, other: Any) -> bool:
    """Return whether two values hold the same numbers, as far as they can be compared."""
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.shape == other.shape and _is_close(one.detach(), other.detach())
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return one.shape == other.shape and bool(((one == other) | (one != one)).all())
    if dataclasses.is_dataclass(one) and type(one) is type(other):
        names = [field.name for field in dataclasses.fields(one)]
        return all(_is_same(getattr(one, name), getattr(other, name)) for name in names)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_is_same(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_is_same, one, other))
    if isinstance(one, str | int | float) and isinstance(other, str | int | float):
        return one == other or one != one
    return True


def _is_close(one: Tensor, other: Tensor) -> bool:
    if not one.is_floating_point() or not other.is_floating_point() or not one.numel():
        return torch.equal(one, other)
    largest = one.nan_to_num().abs().max().double()
    return bool((one.nan_to_num() - other.nan_to_num()).abs().max().double() <= CLOSE * largest)


def _part(outputs: Any, begin: int, end: int) -> Any:
    """Return the outputs from one position to another, of a tensor, a tuple of tensors, or a list."""
    if isinstance(outputs, tuple):
        return tuple(part[begin:end] for part in outputs)
    return outputs[begin:end]


def _shapes(network: nn.Module) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in network.state_dict().items()}


def _wrong(method: str, received: str, allowed: str) -> UserError:
    return UserError(f"task.{method}()", f"returned {received}; it must return {allowed}")


def _raised(method: str, error: Exception) -> UserError:
    return UserError(f"task.{method}()", f"raised {type(error).__name__}: {error}", "Correct it")


def _type(value: Any) -> str:
    return type(value).__name__


def _shape(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of {str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    return _type(value)
