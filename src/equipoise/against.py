"""What `evaluate` does once it is known what is scored against what: a run, or samples, against real examples."""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from torch import nn

from equipoise import tasks
from equipoise.changed import is_as_begun
from equipoise.errors import Option, UserError
from equipoise.evaluation.choosing import (
    HELD_OUT,
    Chosen,
    SplitName,
    Trained,
    baselines,
    choose,
    chosen_by,
    few_cautions,
    of_own,
    refuse_few,
)
from equipoise.evaluation.evaluate import measure
from equipoise.evaluation.rivals import compared_with, judge_rivals
from equipoise.host.deadline import Deadline
from equipoise.loop import Observer
from equipoise.metrics.crossfit import corrected
from equipoise.metrics.feature_judge import NEIGHBOURS
from equipoise.metrics.units import Measured
from equipoise.randomness import Randomness
from equipoise.recipe import Recipe
from equipoise.runs.folder import RunFolder
from equipoise.runs.held_out import num_together
from equipoise.setup import from_its_place, loss_of, with_source
from equipoise.starting import are_seen, seen_by
from equipoise.storage.records import DataRecord, Metric, RivalScore, deciding
from equipoise.tasks.base import Judge, JudgedSplit, SourceTask, Split, Task, indices_of
from equipoise.tasks.sides import Caution, Side, num_same

NEVER = Deadline(float("inf"))
NUM_SHOWN = 64  # drawn from a run to see whether they are all alike


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found: the metrics by name, their protocol with both sides, baselines, and what is doubtful.

    `str(warning)` of each of the `warnings` says what was found and what to do.
    """

    measured: Measured
    protocol: dict[str, Any]
    metrics: tuple[Metric, ...]
    rivals: tuple[RivalScore, ...] = ()
    real: Side | None = None  # what was found on both sides; a task from Python has none
    generated: Side | None = None
    warnings: tuple[Caution, ...] = ()
    is_own: bool = False  # whether the real ones are held out of the run's own data


def evaluated_run(
    folder: RunFolder,
    recipe: Recipe,
    generator: nn.Module,
    split: SplitName | None,
    num: int | None,
    device: torch.device,
    observer: Observer,
) -> Evaluation:
    """Score a run's best generator against the source of a recipe, which is else the run's."""
    against = recipe.data.source
    data = folder.data()
    opened = tasks.opened(recipe, device, observer.stage)
    if opened.digest != data.digest and is_as_begun(folder, recipe, data, opened):
        opened = opened.as_begun(data)
    if opened.digest != data.digest:
        opened = opened.on_own_scale(recipe)
    trained = trained_on(folder, data, opened, device, observer)
    with reading_facts(folder):
        opened = opened.judged_like(data, folder.encoder).grouped_like(data, folder.groups)
    real = choose(opened, split, trained, data.noun)
    takes_inputs = tasks.formats_of(recipe.task).takes_inputs
    least = 1 if takes_inputs else NEIGHBOURS + 1
    refuse_few(real, num or least, least, folder.path, against, data.noun, [opened.hint()])
    made = opened.task(recipe, loss_of(Recipe(), None), torch.float32, observer.stage)
    judge = judge_of(made.judging(real.indices), "test", against)
    judge = judge if num is None else sized(judge, num)
    generator = generator.to(device_of(made))
    drawn = None if takes_inputs else made.outputs(generator, Randomness(judge.seed, 0), "test", 0, NUM_SHOWN)
    observer.stage("scoring", 0.0)
    measured = measure(made.judging(real.indices), judge, generator, judge.seed, NEVER)
    if real.split == HELD_OUT and math.isfinite(amount := optimism_under(folder, judge)):
        metric = deciding(judge.metrics)
        measured = corrected(measured, amount, metric.name)
        real = replace(real, cautions=chosen_by(metric, amount, data.noun))
    cautions = opened.cautions(real.indices, None, drawn)
    if real.is_own:  # what they are like, the training has seen
        cautions = [caution for caution in cautions if caution.kind not in ("sizes", "colours", "sheets")]
    sizes = {} if drawn is None or drawn.ndim != 4 else {(drawn.shape[3], drawn.shape[2]): measured.num}
    num_drawn = measured.num
    generated = Side(
        source=str(folder.path), num_found=num_drawn, num_used=num_drawn, num_compared=num_drawn, sizes=sizes
    )
    return concluded(made, judge, measured, opened, real, generated, cautions, observer, is_of_run=True)


def optimism_under(folder: RunFolder, judge: Judge) -> float:
    """Return what a run's end has added to its score as all held-out examples chose; NaN under another judge."""
    test = folder.read_state().test
    others = ("folds", "num_generated", "neighbour_samples")  # in which the two may differ
    if test is None or any(
        test.protocol.get(name) != judge.protocol.get(name)
        for name in test.protocol.keys() | judge.protocol.keys()
        if name not in others
    ):
        return math.nan
    return test.optimism


def trained_on(
    folder: RunFolder, data: DataRecord, opened: tasks.Source, device: torch.device, observer: Observer
) -> Trained:
    """Return what is known of the data of a run: from its list of examples, or from where they lie."""
    place = str(Path(opened.name).expanduser().resolve())
    is_same_place = data.path == place or (data.path is None and data.source == opened.name)
    best = folder.read_state().best
    chose_by_all = best is not None and num_together(best.protocol) > 0
    if opened.digest == data.digest:
        return Trained(data.digest, None, is_same_place, chose_by_all)
    recipe = folder.recipe()
    parts: tuple[Split, ...] = ("train", "validation", "test") if chose_by_all else ("train", "validation")
    seen = seen_by(folder, recipe, *parts)
    hashes = None if seen is None else opened.hashes[are_seen(opened, seen)]
    if hashes is None and data.start is None:  # else its data are not all that trained its weights
        with contextlib.suppress(UserError):
            own = tasks.opened(from_its_place(folder, recipe, data, None), device, observer.stage)
            if own.digest == data.digest:
                hashes = own.hashes[np.concatenate([indices_of(own.splits, part) for part in parts])]
    return Trained(data.digest, hashes, is_same_place, chose_by_all)


def evaluated_samples(
    target: str | Path, recipe: Recipe, split: SplitName | None, device: torch.device, observer: Observer
) -> Evaluation:
    """Score the samples of one source against those of a recipe's."""
    against = recipe.data.source
    opened, samples = opened_both(recipe, target, device, observer)
    noun = opened.describe(recipe).noun
    real = choose(opened, split, None, noun)
    num = len(samples.hashes)
    hints = [samples.hint(), opened.hint()]
    refuse_few(real, num, NEIGHBOURS + 1, Path(target), against, noun, hints)
    recipe = opened.fitted(recipe)
    observer.stage("comparing the pictures", 0.0)
    cautions = opened.cautions(real.indices, samples, None)
    for caution in cautions:  # now: an encoder may be trained for minutes
        observer.message(f"Warning: {caution.problem}.")
    made = opened.task(recipe, loss_of(recipe, None), torch.float32, observer.stage)
    judge = judge_of(made.judging(real.indices), "test", against).sized(num)
    observer.stage("scoring", 0.0)
    measured = judge.measure(told(samples.everything(), num, observer))
    generated = replace(
        samples.side(np.arange(num), None, 0), num_same=num_same(opened.hashes[real.indices], samples.hashes)
    )
    return concluded(made, judge, measured, opened, real, generated, cautions, observer, is_of_run=False)


def opened_both(
    recipe: Recipe, target: str | Path, device: torch.device, observer: Observer
) -> tuple[tasks.Source, tasks.Source]:
    """Read the real examples and the samples, fitted as they are; a UserError names what is wrong with both."""
    try:
        opened = tasks.opened(recipe, device, observer.stage)
    except UserError as error:
        try:
            tasks.opened(with_source(recipe, target), device, observer.stage)
        except UserError as other:
            problem = f"{error.problem.rstrip('.')}. And {other.subject}: {other.problem}"
            raise UserError(error.subject, problem, *dict.fromkeys([*error.remedies, *other.remedies])) from None
        raise
    fitted = with_source(opened.fitted(recipe), target)
    return opened, tasks.opened(fitted, device, observer.stage).on_own_scale(fitted)


def told(batches: Iterator[Any], num: int, observer: Observer) -> Iterator[Any]:
    """Pass batches on, and tell how many of all have been."""
    done = 0
    for batch in batches:
        yield batch
        done += len(batch)
        observer.stage("scoring", done / num)


def evaluated_own(
    made: Task, generator: nn.Module, against: str | Path, split: SplitName | None, num: int | None, observer: Observer
) -> Evaluation:
    """Score a generator of a task from Python, which knows its own splits."""
    if split == "train":
        problem = "a task from Python is judged by its own test or validation split"
        raise UserError(Option("split", split), problem, Option("split", "test"))
    judge = judge_of(made, split or "test", against)
    judge = judge if num is None else sized(judge, num)
    observer.stage("scoring", 0.0)
    measured = measure(made, judge, generator.to(device_of(made)), judge.seed, NEVER)
    observer.stage("scoring the baselines", 0.0)
    rivals = compared_with(judge_rivals(made.rivals(), judge, NEVER, observer.message, made.chunk), measured)
    warnings = of_own(split or "test", made.describe().noun, chose_by_all=False)
    return Evaluation(measured, dict(judge.protocol), judge.metrics, rivals.scores, warnings=warnings)


def concluded(
    made: SourceTask,
    judge: Judge,
    measured: Measured,
    opened: tasks.Source,
    real: Chosen,
    generated: Side,
    cautions: list[Caution],
    observer: Observer,
    *,
    is_of_run: bool,
) -> Evaluation:
    """Return an evaluation with its baselines, both sides and what is doubtful."""
    observer.stage("scoring the baselines", 0.0)
    rivals = baselines(made, judge, measured, real, observer.message)
    side = opened.side(real.indices, real.split, real.num_seen)
    protocol = {
        **judge.protocol,
        "data_digest": opened.digest,
        "split": real.split,
        **opened.fitting(),
        "generated": generated.values(),
        "real": side.values(),
    }
    dimension = getattr(getattr(judge, "features", None), "dimension", 0)
    num_left = 0 if is_of_run else len(opened.hashes) - len(real.indices)  # a run may have seen the others
    few = few_cautions(measured, judge.metrics, judge.protocol, dimension, opened.noun, num_left, is_own=real.is_own)
    warnings = (*cautions, *real.cautions, *few)
    return Evaluation(measured, protocol, judge.metrics, rivals, side, generated, warnings, real.is_own)


def sized(judge: Judge, num: int) -> Judge:
    """Return a judge for another number of outputs; raises UserError where it takes one to each real example."""
    found = judge.sized(num)
    if found.num != num:
        raise UserError(Option("num", num), f"all {found.num} examples of the test split are scored", "Leave it out")
    return found


def judge_of(task: Task, split: JudgedSplit, against: str | Path) -> Judge:
    """Return a task's judge by a split; raises UserError where that is too small."""
    judge = task.judge(split)
    if judge is None:
        raise UserError(Option("against", against), f"its {split} split is too small to score by", "Give more examples")
    return judge


def device_of(task: Task) -> torch.device:
    """Return the device on which a task made in Python computes: that of its generator's weights."""
    with torch.random.fork_rng():
        weights = list(task.players().generator.parameters())
    return weights[0].device


@contextlib.contextmanager
def reading_facts(folder: RunFolder) -> Iterator[None]:
    """Report that what a run wrote down of its data lacks what the task needs of it."""
    try:
        yield
    except msgspec.ValidationError as error:
        raise UserError(folder.path / "data.json", f"damaged ({error})", "Restore it from a copy") from None
