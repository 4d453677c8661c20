"""Judging while training: the averaged generator against the real images, and against the best one so far.

Every look draws fresh latents, the same ones for both generators, so that a champion's luck with one draw does not
decide the next comparison. Nothing here touches the game.
"""

import copy
import dataclasses
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from typing import Any

from torch import Tensor, nn

from equipoise.evaluation.evaluator import Judge, extracted, score_features, to_dict
from equipoise.health.stats import ScoreLine, record_of
from equipoise.host.signals import Abandoned
from equipoise.host.writer import at_once
from equipoise.metrics.paired import kid_difference
from equipoise.randomness import Randomness, stream_seed
from equipoise.runs.folder import RunFolder
from equipoise.state import State
from equipoise.stopping.monitor import Referee
from equipoise.storage import checkpoints, files
from equipoise.tasks.images import Problem
from equipoise.tasks.sampling import chunks

NUM_SNAPSHOT = 64  # samples of fixed latents in a picture
NUM_OPINIONS = 500  # samples of each kind on which the discriminator is asked
LEAST_SCALE = 5.0  # standard errors by which it must tell its training samples from generated ones


def judge_now(
    problem: Problem,
    state: State,
    judge: Judge,
    referee: Referee,
    run: RunFolder,
    write: Callable[[Callable[[], None]], None],
    guard: Callable[[], AbstractContextManager[None]],
    gap: float | None = None,
) -> ScoreLine | None:
    """Score the averaged generator on the validation split and beside the best one; keep it if it may be the best.

    Under `guard` nothing changes, so that it may give the look up: by Abandoned, as if it had never begun, or by any
    Exception, as one that failed; then None is returned. `gap` stands in for the discriminator's, where its opinion is
    not of this generator's time.
    """
    begin = time.monotonic()
    seed = stream_seed(judge.protocol.seed, "judging", state.samples)
    try:
        with guard():
            values = judged(problem, state, judge, referee, seed)
            values["discriminator_gap"], trouble = asked(problem, state, seed) if gap is None else (gap, None)
    except Abandoned:
        return None
    except Exception as error:  # judging must never end a training: the event says what went wrong
        run.log_event(state.samples, state.seconds, "judging failed", f"{type(error).__name__}: {error}")
        state.judged = state.samples
        referee.score(None)
        return None
    if trouble:
        run.log_event(state.samples, state.seconds, "voter failed", f"the discriminator's gap: {trouble}")
    line = ScoreLine.from_score(state.samples, values | {"seconds": time.monotonic() - begin})
    state.judged = state.samples
    is_best = referee.score(line)
    record = record_of(line)
    run.log_score(record | {"best": is_best})
    tensors = {"generator.safetensors": checkpoints.copied(checkpoints.module_tensors("generator", state.average))}
    if line in referee.candidates:
        candidate = run.candidates / str(line.samples)
        write(lambda: checkpoints.write_folder(candidate, tensors, {"score.json": record}))
    if is_best:
        state.champion = copy.deepcopy(state.average)
        write(lambda: checkpoints.write_folder(run.best, tensors, {"score.json": record}))
    if run.is_snapshot_due(state.samples):
        samples = problem.generate(state.average, Randomness(0), NUM_SNAPSHOT)
        problem.show(samples.cpu(), run.snapshot_path(state.samples))
    return line


def judged(problem: Problem, state: State, judge: Judge, referee: Referee, seed: int) -> dict[str, Any]:
    """Return the score of the averaged generator, and its KID's difference to the best one's with the same latents."""
    num = judge.protocol.num_generated
    fake = extracted(judge.features, generated(problem, state.average, num, seed))
    values = to_dict(score_features(judge, fake))
    if referee.metric == "kid" and state.champion is not None and referee.best is not None:
        champion = extracted(judge.features, generated(problem, state.champion, num, seed))
        found = kid_difference(judge.real, champion, fake)
        values |= {"champion": referee.best.samples, "difference": found.value, "difference_se": found.standard_error}
    return values


def asked(problem: Problem, state: State, seed: int) -> tuple[float, str | None]:
    """Return the discriminator's gap, or NaN and what went wrong: it is only a voter."""
    try:
        return discriminator_gap(problem, state, seed), None
    except Exception as error:
        return math.nan, f"{type(error).__name__}: {error}"


def discriminator_gap(problem: Problem, state: State, seed: int) -> float:
    """Return (D(train) − D(validation)) / (D(train) − D(generated)), after arXiv:2006.06676, Eq. 1.

    Near 0 the discriminator knows its training samples no better than others, near 1 by heart; NaN where it hardly
    tells them from generated ones, so that there is no scale to measure on.
    """
    found = problem.opinions(state.players, Randomness(seed), NUM_OPINIONS)
    scale = float(found.train.mean() - found.generated.mean())
    error = math.sqrt(float(found.train.var() / len(found.train) + found.generated.var() / len(found.generated)))
    return float(found.train.mean() - found.validation.mean()) / scale if scale > LEAST_SCALE * error else math.nan


def adopt_judge(problem: Problem, state: State, judge: Judge, referee: Referee, run: RunFolder) -> bool:
    """Score the candidates anew if this judge's protocol is not the one they were found under; return whether it was.

    Another machine, thread count or version may have taught the encoder other weights: old scores say nothing then.
    """
    best = referee.best
    if best is None or best.protocol == asdict(judge.protocol):
        return False
    run.drop_scores_under(asdict(judge.protocol))  # all of it is done again
    message = "the judge is not the one this run began with: scores are not comparable, the candidates are scored anew"
    run.log_event(state.samples, state.seconds, "another judge", message)
    lines = sorted(referee.candidates, key=lambda line: line.samples)
    champion, found = state.champion, dataclasses.replace(state, average=copy.deepcopy(state.average), champion=None)
    referee.forget_scores()
    for line in lines:
        folder = run.candidates / str(line.samples)
        if line == best and champion is not None:  # the checkpoint holds it, whatever became of its folder
            found.average.load_state_dict(champion.state_dict())
        elif files.verify(folder, checkpoints.WEIGHTS_FILES) is None:
            checkpoints.load_weights(folder, found.average)
        else:
            continue
        found.samples = line.samples
        judge_now(problem, found, judge, referee, run, at_once, nullcontext, gap=math.nan)
    state.champion = found.champion
    return True


def generated(problem: Problem, generator: nn.Module, num: int, seed: int) -> Iterator[Tensor]:
    """Yield `num` generated samples in chunks; the same seed gives the same latents to every generator."""
    for begin, size in chunks(num):
        yield problem.generate(generator, Randomness(seed, begin), size)
