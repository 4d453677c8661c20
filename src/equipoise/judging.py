"""Judging while training: the averaged generator against the real images, and against the best one so far.

Every look draws fresh latents, the same ones for both generators, so that a champion's luck with one draw does not
decide the next comparison. Nothing here touches the game.
"""

import copy
import dataclasses
import math
import time
from collections.abc import Iterator
from dataclasses import asdict

from safetensors.torch import load_file
from torch import Tensor, nn

from equipoise import checkpoint
from equipoise.judge.paired import kid_difference
from equipoise.judge.protocol import Judge, extracted, score_features, to_dict
from equipoise.problem import Problem
from equipoise.randomness import Randomness, stream_seed
from equipoise.runs.folder import RunFolder
from equipoise.sampling import chunks
from equipoise.state import State
from equipoise.watch.referee import Referee
from equipoise.watch.signals import ScoreLine, record_of

NUM_SNAPSHOT = 64  # samples of fixed latents in a picture
NUM_OPINIONS = 500  # samples of each kind on which the discriminator is asked
LEAST_SCALE = 5.0  # standard errors by which it must tell its training samples from generated ones


def judge_now(problem: Problem, state: State, judge: Judge, referee: Referee, run: RunFolder) -> ScoreLine | None:
    """Score the averaged generator on the validation split and beside the best one; keep it if it may be the best."""
    begin = time.monotonic()
    seed, num = stream_seed(judge.protocol.seed, "judging", state.samples), judge.protocol.num_generated
    try:
        fake = extracted(judge.features, generated(problem, state.average, num, seed))
        values = to_dict(score_features(judge, fake))
        if state.champion is not None and referee.best is not None:
            champion = extracted(judge.features, generated(problem, state.champion, num, seed))
            found = kid_difference(judge.real, champion, fake)
            values |= {
                "champion": referee.best.samples,
                "difference": found.value,
                "difference_se": found.standard_error,
            }
        values["discriminator_gap"] = discriminator_gap(problem, state, seed)
    except Exception as error:  # judging must never end a training: the event says what went wrong
        run.log_event(state.samples, state.seconds, "judging failed", f"{type(error).__name__}: {error}")
        referee.score(None)
        return None
    line = ScoreLine.from_score(state.samples, values | {"seconds": time.monotonic() - begin})
    is_best = referee.score(line)
    record = record_of(line)
    run.log_score(record | {"best": is_best})
    tensors = {"generator.safetensors": checkpoint.module_tensors("generator", state.average)}
    if line in referee.candidates:
        checkpoint.write_folder(run.candidates / str(state.samples), tensors, {"score.json": record})
    if is_best:
        state.champion = copy.deepcopy(state.average)
        checkpoint.write_folder(run.best, tensors, {"score.json": record})
    if run.is_snapshot_due(state.samples):
        samples = problem.generate(state.average, Randomness(0), NUM_SNAPSHOT)
        problem.show(samples.cpu(), run.snapshot_path(state.samples))
    return line


def discriminator_gap(problem: Problem, state: State, seed: int) -> float:
    """Return (D(train) − D(validation)) / (D(train) − D(generated)), after arXiv:2006.06676, Eq. 1.

    Near 0 the discriminator knows its training samples no better than others, near 1 by heart; NaN where it hardly
    tells them from generated ones, so that there is no scale to measure on.
    """
    found = problem.opinions(state.players, Randomness(seed), NUM_OPINIONS)
    scale = float(found.train.mean() - found.generated.mean())
    error = math.sqrt(float(found.train.var() / len(found.train) + found.generated.var() / len(found.generated)))
    return float(found.train.mean() - found.validation.mean()) / scale if scale > LEAST_SCALE * error else math.nan


def adopt_judge(problem: Problem, state: State, judge: Judge, referee: Referee, run: RunFolder) -> None:
    """Score the best generator anew if this judge's protocol is not the one it was found under.

    Another machine, thread count or version may have taught the encoder other weights: old scores say nothing then.
    """
    if referee.best is None or referee.best.protocol == asdict(judge.protocol):
        return
    message = "the judge is not the one this run began with: its scores are not comparable, the best is scored anew"
    run.log_event(state.samples, state.seconds, "another judge", message)
    best, folder = referee.best, run.candidates / str(referee.best.samples)  # best/ may hold what rescoring chose
    referee.forget_scores()
    state.champion = None
    if checkpoint.verify(folder) is not None:
        return
    found = dataclasses.replace(state, average=copy.deepcopy(state.average), samples=best.samples, champion=None)
    checkpoint.load_module("generator", found.average, load_file(folder / "generator.safetensors"))
    judge_now(problem, found, judge, referee, run)
    state.champion = found.champion


def generated(problem: Problem, generator: nn.Module, num: int, seed: int) -> Iterator[Tensor]:
    """Yield `num` generated samples in chunks; the same seed gives the same latents to every generator."""
    for begin, size in chunks(num):
        yield problem.generate(generator, Randomness(seed, begin), size)
