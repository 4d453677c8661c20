"""The choice among the candidates of an own loop: taken up after a resume, judged again at the end, one handed over."""

import math
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from equipoise.evaluation.evaluator import Judge, NotFiniteError
from equipoise.evaluation.finish import INTERRUPTED, TOO_FEW, Candidate, lowest, with_difference
from equipoise.health.stats import ScoreLine, comparable, metric_value, record_of, score_from
from equipoise.runs.folder import RunFolder
from equipoise.stopping.monitor import Referee
from equipoise.storage.files import readable
from equipoise.storage.logs import is_score, records
from equipoise.watch.candidates import SELF_SCORED, found, hand_over, keep_candidate
from equipoise.watch.judge import ImageJudge
from equipoise.watch.keep import SCORE, copying

NOT_JUDGED = "call judge(generator) once after a resume, so that the best can be loaded"
FUNCTION = "only its score is left of a function, which cannot be copied; give judge a torch module or a Keras model"
LOST = "the weights that belong to it are missing, damaged, or of another network than the one judged last"


def take_up(run: RunFolder, referee: Referee, judge: ImageJudge, event: Callable[[str, str], None]) -> None:
    """Load the best generator as the champion; where the judge is another one, score the candidates anew.

    Scores of two judges say nothing about each other.
    """
    best = referee.best
    if best is None:
        return
    if best.protocol != judge.protocol:
        event("another judge", "scores so far were taken by another judge: they are left, the candidates scored anew")
        _score_anew(run, referee, judge, event)
    elif judge.champion is None or judge.champion.samples != best.samples:
        folder = found(run, best) if judge.like is not None else None
        judge.champion = judge.load(folder, best.samples) if folder else None


def concluded(
    run: RunFolder,
    referee: Referee,
    judge: ImageJudge,
    before: dict[str, Any],
    is_final: bool,
    event: Callable[[str, str], None],
) -> dict[str, Any]:
    """Return the state's fields at the end: the winner among the candidates, tested once if the end is final.

    The pictures for the report are made, too. The run is safe: where something fails, its state says what is missing.
    `before` is the state in which this session found the run: an end to which nothing was added stays as it was.
    """
    best = referee.best
    if is_final and best is not None and not judge.has_judged and before.get("test") and _is_of(before, referee):
        folder = found(run, score_from(before["best"]))
        if folder is not None:
            hand_over(run, folder)
            return {name: before.get(name) for name in ("best", "test", "rescored", "not_rescored")}
    if best is not None and not judge.has_judged and "numbers" in best.protocol:
        return {"not_rescored": SELF_SCORED}
    ended: dict[str, Any] = {"not_rescored": INTERRUPTED}
    try:
        if judge.has_judged:
            take_up(run, referee, judge, event)
        if is_final:
            ended["rescored"], ended["not_rescored"] = chosen(run, referee, judge)
    except Exception as error:
        ended["not_rescored"] = f"Judging the best generators again failed: {type(error).__name__}: {error}"
        event("judging failed", ended["not_rescored"])
    if ended.get("rescored"):
        best = score_from(run.read_json(readable(run.best) / SCORE))
        ended["best"] = asdict(best)
    why = None
    try:
        judge.pictures(run)
        if is_final and best is not None:
            ended["test"] = judge.test(best.samples)
            why = why_not(judge) if ended["test"] is None else None
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
    if why is not None:
        event("not tested", why)
        ended["not_tested"] = f"not tested: {why}"
    return ended


def chosen(run: RunFolder, referee: Referee, judge: ImageJudge) -> tuple[dict[str, Any] | None, str | None]:
    """Judge the candidates again and hand over the lowest of them; return what was found, or why nothing was.

    All have the same latents and the same real images, and the winner is the judge's champion then.
    """
    if referee.best is None:
        return None, "No generator was scored, so none could be judged again."
    if judge.like is None:
        return None, f"The best generators were not judged again: {why_not(judge)}."
    by = judge.rescoring()
    if by is None:
        return None, TOO_FEW
    candidates = [one for line in referee.candidates if (one := _judged_again(run, judge, by, line)) is not None]
    if not candidates:
        return None, f"The best generators were not judged again: {why_not(judge)}."
    winner = lowest(candidates, referee.metric)
    judge.champion = judge.load(winner.path, winner.found.samples)
    hand_over(run, winner.path)
    scores = comparable([score_from(record) for record in filter(is_score, records(run.scores))])
    return {
        "protocol": asdict(by.protocol),
        "num_scores": sum(math.isfinite(metric_value(line, referee.metric)) for line in scores),
        "candidates": [with_difference(one, winner, by.real) for one in candidates],
        "winner": winner.found.samples,
    }, None


def why_not(judge: ImageJudge) -> str:
    """Say why the best generator could not be loaded."""
    if not judge.has_judged:
        return NOT_JUDGED
    return FUNCTION if judge.like is None else LOST


def _is_of(state: dict[str, Any], referee: Referee) -> bool:
    """Return whether a state's best generator is a candidate still, and the champion has not changed since."""
    samples = [line.samples for line in referee.candidates]
    judged = [one.get("samples") for one in (state.get("rescored") or {}).get("candidates", [])] or samples[:1]
    return bool(samples) and samples[0] == judged[0] and state["best"]["samples"] in samples


def _score_anew(run: RunFolder, referee: Referee, judge: ImageJudge, event: Callable[[str, str], None]) -> None:
    folders = [(line.samples, found(run, line)) for line in sorted(referee.candidates, key=lambda line: line.samples)]
    referee.forget_scores()
    judge.champion = None
    for samples, folder in folders:
        kept = judge.load(folder, samples) if folder else None
        if folder is None or kept is None:
            continue
        try:
            line = judge.score_kept(kept)
        except Exception as error:  # as in judging, nothing may end the training
            event("judging failed", f"the generator of {samples:,} samples: {type(error).__name__}: {error}")
            continue
        is_best = referee.score(line)
        run.log_score(record_of(line) | {"best": is_best})
        place = keep_candidate(run, line, copying(folder))
        if is_best:
            judge.champion = kept
            hand_over(run, place)


def _judged_again(run: RunFolder, judge: ImageJudge, by: Judge, line: ScoreLine) -> Candidate | None:
    """Score one candidate, NaN where its images are not finite; None if it cannot be loaded."""
    folder = found(run, line)
    kept = judge.load(folder, line.samples) if folder else None
    if folder is None or kept is None:
        return None
    try:
        rescored, features = judge.judged_again(kept, by)
    except NotFiniteError:
        nothing = ScoreLine(samples=line.samples, seconds=0.0, protocol=asdict(by.protocol))
        return Candidate(folder, line, nothing, None)
    return Candidate(folder, line, rescored, features)
