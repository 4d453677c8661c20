"""Evaluating while a training goes on: the averaged generator, kept if it may be the best one."""

import copy
import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from equipoise.evaluation.evaluate import Contender, discriminator_gap, evaluate, measure
from equipoise.evaluation.selection import candidates_to_score_again
from equipoise.health.conditions import AVERAGING_EVERY
from equipoise.host.deadline import Abandoned, Deadline
from equipoise.host.writer import run_now
from equipoise.metrics.units import Measured, difference
from equipoise.randomness import Randomness, stream_seed
from equipoise.runs.candidates import keep, keep_candidate, tensors
from equipoise.runs.folder import RunFolder
from equipoise.state import TrainingState, Write, save
from equipoise.stopping.monitor import Monitor, guard_text
from equipoise.storage.checkpoints import copied, load_weights, module_tensors
from equipoise.storage.records import EventKind, Score
from equipoise.tasks.base import Augmented, Evaluated, Judge, Task, split_logits
from equipoise.tasks.contract import refuse_negative

AVERAGING = "averaging"
NUM_CHUNKS_ASKED = 2  # chunks of each kind on which the discriminator is asked whether it overfits

Event = Callable[[EventKind, str], None]


def take_score(
    task: Task,
    state: TrainingState,
    judge: Judge,
    monitor: Monitor,
    run: RunFolder,
    deadline: Deadline,
    write: Write,
    *,
    with_more: bool = True,
) -> Score | None:
    """Score the averaged generator beside the best one, log it, and keep it if it may be the best.

    Returns None where the evaluation failed, which is an event and never ends a training. Until all is known nothing
    changes: raises Abandoned for a signal, as if it had never begun.
    """
    event = _event_of(state, run)
    best = None
    if state.best_generator is not None and monitor.best is not None:
        best = Contender(state.best_generator, monitor.best.samples)
    try:
        found = evaluate(task, judge, Contender(state.generator_ema, state.samples), best, deadline)
        score = found.score
        refuse_negative(judge.metrics, score.loss, score.error)
        if with_more:
            score = with_discriminator_gap(task, state, judge, score, event)
        if with_more and is_averaging_due(monitor.scores):
            score = with_averaging(task, state, judge, score, found.measured, deadline)
            score = with_leak(task, state, judge, score)
        deadline.check()
    except Abandoned:
        raise
    except Exception as error:
        failure = f"{type(error).__name__}: {error}"
        event("evaluation failed", failure)
        note_evaluated(state)
        monitor.score(None, failure)
        return None
    note_evaluated(state)
    is_best = monitor.score(score)
    run.log_score(score, is_best=is_best)
    for metric in judge.metrics:
        if metric.name in score.broken:
            event("guard broken", f"not a candidate: {guard_text(metric, score)}")
    if score in monitor.candidates:
        keep_generator(state, run, score, write, is_best=is_best)
    write_snapshot(task, state.generator_ema, run, state.samples, event)
    return score


def note_evaluated(state: TrainingState) -> None:
    """Note that this position was evaluated; a checkpoint that a signal left here before that is not the last word."""
    state.evaluated = state.samples
    state.saved = min(state.saved, state.samples - 1)


def write_snapshot(task: Evaluated, generator: Any, run: RunFolder, samples: int, event: Event) -> None:
    """Write how the outputs look now if that is due; what fails at it costs a picture, not the training."""
    if not run.is_snapshot_due(samples):
        return
    try:
        content = task.snapshot(generator).content
    except Exception as error:
        event("snapshot failed", f"{type(error).__name__}: {error}")
    else:
        run.write_snapshot(samples, content)


def keep_generator(state: TrainingState, run: RunFolder, score: Score, write: Write, *, is_best: bool) -> None:
    """Keep the averaged generator as a candidate, and as the best one, beside the training."""
    state.is_unsaved = True  # or its files would outlive what the run knows of
    fill = tensors(copied(module_tensors("generator", state.generator_ema)))

    def job() -> None:
        keep_candidate(run, score, fill)

    write(job)
    if is_best:
        state.best_generator = copy.deepcopy(state.generator_ema)
        write(lambda: keep(run.best, fill, score))


def with_discriminator_gap(task: Task, state: TrainingState, judge: Judge, score: Score, event: Event) -> Score:
    """Add by how much the discriminator knows its training samples better than others; NaN where that fails.

    It is only one warning among others, so its failure is an event and costs no score.
    """
    seed = stream_seed(judge.seed, "judging", state.samples)
    try:
        gap = discriminator_gap(split_logits(task, state.players, seed, NUM_CHUNKS_ASKED * task.chunk))
    except Exception as error:
        gap = math.nan
        event("overfitting check failed", f"{type(error).__name__}: {error}")
    return msgspec.structs.replace(score, values=score.values | {"discriminator_gap": gap})


def is_averaging_due(scores: Sequence[Score]) -> bool:
    """Return whether the raw generator is to be measured, too, after these scores: at every fourth evaluation."""
    lately = scores[-(AVERAGING_EVERY - 1) :]
    return len(lately) == AVERAGING_EVERY - 1 and not any(AVERAGING in score.values for score in lately)


def with_averaging(
    task: Task, state: TrainingState, judge: Judge, score: Score, averaged: Measured, deadline: Deadline
) -> Score:
    """Add what the raw generator scores on the same inputs, and by how many standard errors the average is worse.

    Below 0 it is better. Nothing is added where the two are one.
    """
    if not state.update.game.ema_half_life:
        return score
    generator = copy.deepcopy(state.players.generator).eval()
    raw = measure(task, judge, generator, stream_seed(judge.seed, "judging", state.samples), deadline)
    found = difference(raw, averaged)
    share = found.value / found.standard_error if found.standard_error > 0 else math.nan
    return msgspec.structs.replace(score, values=score.values | {AVERAGING: share, "raw": raw.loss})


def with_leak(task: Task, state: TrainingState, judge: Judge, score: Score) -> Score:
    """Add whether generated samples look augmented, where the task augments; see `Augmented`."""
    if not isinstance(task, Augmented):
        return score
    randomness = Randomness(stream_seed(judge.seed, "leak", state.samples), 0)
    leak = task.augmentation_leak(state.generator_ema, randomness, state.adjustments.augment)
    return msgspec.structs.replace(score, values=score.values | {"augmentation_leak": leak})


def adopt_protocol(task: Task, state: TrainingState, judge: Judge, monitor: Monitor, run: RunFolder) -> None:
    """Score the candidates again if this judge's protocol is not the one they were found under."""
    best = monitor.best
    kept = candidates_to_score_again(run, monitor, judge, _event_of(state, run))
    if not kept:
        return
    found = dataclasses.replace(state, generator_ema=copy.deepcopy(state.generator_ema), best_generator=None)
    for score, folder in kept:
        if score == best and state.best_generator is not None:  # the checkpoint holds it, whatever became of its folder
            found.generator_ema.load_state_dict(state.best_generator.state_dict())
        elif folder is not None:
            load_weights(folder, found.generator_ema)
        else:
            continue
        found.samples = score.samples
        take_score(task, found, judge, monitor, run, Deadline(math.inf), run_now, with_more=False)
    state.best_generator = found.best_generator
    save(state, monitor, run, run_now)


def _event_of(state: TrainingState, run: RunFolder) -> Event:
    """Return what logs an event at the present position of a training."""

    def event(kind: EventKind, text: str) -> None:
        run.log_event(state.samples, state.seconds, kind, text, state.attempt)

    return event
