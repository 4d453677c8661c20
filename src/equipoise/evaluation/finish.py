"""The end of a run: the candidates are judged again, the best one is tested once, and the report is written."""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from equipoise.data.pool import Pool, gather, to_float
from equipoise.evaluation.evaluate import NUM_SNAPSHOT, generated
from equipoise.evaluation.evaluator import Judge, NotFiniteError, extracted, score, score_features, to_dict
from equipoise.health.stats import ScoreLine, comparable, metric_value, score_from
from equipoise.host.signals import given_up_after
from equipoise.loop import Outcome
from equipoise.metrics.features.load import Features
from equipoise.metrics.kid import Estimate
from equipoise.metrics.memorization import nearest
from equipoise.metrics.paired import kid_difference
from equipoise.randomness import Randomness
from equipoise.recipe import MetricName
from equipoise.report.card import model_card
from equipoise.report.report import write_report
from equipoise.runs.folder import RunFolder
from equipoise.storage import checkpoints, files
from equipoise.storage.checkpoints import candidate_paths
from equipoise.storage.files import write_bytes
from equipoise.storage.logs import is_score, records
from equipoise.tasks.images import ImageProblem
from equipoise.tasks.pictures import save_grid

NUM_NEAREST = 10  # generated images shown beside their nearest training images
CHUNK = 1_000

INTERRUPTED = "The training was interrupted; the best generators are judged again when it ends."
TOO_FEW = (
    "The best generators were not judged again: the validation split is too small to be halved, so all of it served "
    "the training, and the lowest of its scores flatters itself a little. Only the test score does not."
)


@dataclass(frozen=True)
class Candidate:
    """A generator that may be the best one: its folder, its score while training, and what judging again found."""

    path: Path
    found: ScoreLine
    rescored: ScoreLine
    features: Tensor | None  # of its images [N, D]; None where they were not finite


def conclude(
    run: RunFolder,
    problem: ImageProblem,
    features: Features,
    outcome: Outcome,
    *,
    make_test: Callable[[], Judge],
    make_rescoring: Callable[[], Judge] | None,
) -> None:
    """Write how the run ended; unless it was interrupted (leave soon then), choose the best generator and test it once.

    `make_test` gives the judge by the test split, which nothing looks at before; `make_rescoring` the one by
    validation images that the training had no use of, None where they are too few for that.
    """
    finished, timeout = outcome.stop.policy != "interrupted", problem.recipe.judging.timeout
    state: dict[str, Any] = {
        "status": "finished" if finished else "stopped",
        "has_saved": run.has_saved,
        "samples": outcome.samples,
        "seconds": outcome.seconds,
        "reason": outcome.stop.reason,
        "policy": outcome.stop.policy,
        "best": None,
        "rescored": None,
        "not_rescored": INTERRUPTED,
        "test": None,
    }

    def choose() -> None:
        state["rescored"], state["not_rescored"] = chosen(run, problem, make_rescoring)

    if finished and (failed := attempted(run, outcome, 4 * timeout, "Judging the best generators again", choose)):
        state["not_rescored"] = failed
    best = files.readable(run.best)
    state["best"] = run.read_json(best / "score.json") or None
    if state["best"] is not None:
        generator = generator_in(best, problem)
        images = problem.generate(generator, Randomness(0), NUM_SNAPSHOT).cpu()
        problem.show(images, run.samples / "best.png")
        problem.show(problem.real("validation", NUM_SNAPSHOT), run.samples / "real.png")

        def test() -> None:
            judge = make_test()
            batches = generated(problem, generator, judge.protocol.num_generated, judge.protocol.seed)
            state["test"] = asdict(ScoreLine.from_score(state["best"]["samples"], to_dict(score(judge, batches))))

        def show_nearest() -> None:
            pairs = with_nearest(images[:NUM_NEAREST], problem.pool, features)
            save_grid(pairs, run.samples / "nearest.png", NUM_NEAREST)

        if finished:
            attempted(run, outcome, timeout, "Finding the nearest training images", show_nearest)
            if failed := attempted(run, outcome, timeout, "Testing the best generator", test):
                state["reason"] = f"{outcome.stop.reason} {failed}"
        write_bytes(best / "README.md", model_card(run, state).encode())
    run.write_state(state)
    write_report(run)


def attempted(run: RunFolder, outcome: Outcome, timeout: float, what: str, do: Callable[[], None]) -> str | None:
    """Do what judges, for some seconds at most; return why it failed, which is an event then, or None.

    The training is over and kept, so only what the disk raises ends the run here: it can be gone on with.
    """
    try:
        with given_up_after(timeout):
            do()
    except Exception as error:
        if isinstance(error, OSError) and not isinstance(error, TimeoutError):
            raise
        reason = str(error).strip().rstrip(".") or "no reason was given"
        failed = f"{what} failed ({type(error).__name__}: {reason})."
        run.log_event(outcome.samples, outcome.seconds, "judging failed", failed)
        return failed
    return None


def chosen(
    run: RunFolder, problem: ImageProblem, make_judge: Callable[[], Judge] | None
) -> tuple[dict[str, Any] | None, str | None]:
    """Judge the candidates again and put the lowest of them into `best/`; return what was found, or why nothing was.

    All have the same latents and the same real images. The training's champion stays where none is lower.
    """
    paths = candidate_folders(run)
    if not paths:
        return None, "No generator was scored, so none could be judged again."
    if make_judge is None:
        return None, TOO_FEW
    judge, metric = make_judge(), problem.recipe.judging.metric
    candidates = [judged_again(run, problem, judge, path) for path in paths]
    winner = lowest(candidates, metric)
    hand_over(run, winner.path)
    scores = comparable([score_from(record) for record in filter(is_score, records(run.scores))])
    return {
        "protocol": asdict(judge.protocol),
        "num_scores": sum(math.isfinite(metric_value(line, metric)) for line in scores),
        "candidates": [with_difference(candidate, winner, judge.real) for candidate in candidates],
        "winner": winner.found.samples,
    }, None


def candidate_folders(run: RunFolder) -> list[Path]:
    """Return the undamaged folders of the candidates, the training's champion first; of a run without, `best/`."""
    promoted = [record.get("samples") for record in records(run.scores) if record.get("best") is True]
    paths = sorted(candidate_paths(run.candidates), key=lambda path: promoted[-1:] != [int(path.name)])
    good = [path for path in paths if is_whole(path)]
    if good:
        return good
    best = files.readable(run.best)
    return [best] if is_whole(best) else []


def is_whole(path: Path) -> bool:
    """Return whether a folder such as `best/` holds a generator with its score, undamaged."""
    return files.verify(path, checkpoints.WEIGHTS_FILES) is None


def judged_again(run: RunFolder, problem: ImageProblem, judge: Judge, path: Path) -> Candidate:
    """Score one candidate; one whose images are not finite gets a score of NaN."""
    found = score_from(run.read_json(path / "score.json"))
    batches = generated(problem, generator_in(path, problem), judge.protocol.num_generated, judge.protocol.seed)
    try:
        features = extracted(judge.features, batches)
    except NotFiniteError:
        nothing = ScoreLine(samples=found.samples, seconds=0.0, protocol=asdict(judge.protocol))
        return Candidate(path, found, nothing, None)
    result = to_dict(score_features(judge, features))
    return Candidate(path, found, ScoreLine.from_score(found.samples, result), features)


def lowest(candidates: Sequence[Candidate], metric: MetricName) -> Candidate:
    """Return the candidate with the lowest finite score judged again, the first of equals, and where none is finite."""
    finite = [one for one in candidates if math.isfinite(metric_value(one.rescored, metric))]
    return min(finite, key=lambda one: metric_value(one.rescored, metric), default=candidates[0])


def hand_over(run: RunFolder, path: Path) -> None:
    """Put a candidate into `best/` in one step, unless it is there; the candidate stays, for a training to go on."""
    best, values = files.readable(run.best), run.read_json(path / "score.json")
    if path == best or (is_whole(best) and run.read_json(best / "score.json") == values):
        return
    tensors = checkpoints.load_tensors(path / "generator.safetensors")
    checkpoints.write_folder(run.best, {"generator.safetensors": tensors}, {"score.json": values})


def generator_in(path: Path, problem: ImageProblem) -> nn.Module:
    """Load the generator of a folder such as `best/` into a fresh network on the problem's device."""
    with torch.random.fork_rng():
        generator = problem.networks().generator
    checkpoints.load_weights(path, generator)
    return generator.requires_grad_(False).eval()


def with_nearest(images: Tensor, pool: Pool, features: Features) -> Tensor:
    """Return generated images `[N, C, H, W]` followed by each one's nearest training image in the judge's features."""
    query = features.extract(images)
    least = torch.full((len(images),), torch.inf)
    found = torch.zeros(len(images), dtype=torch.int64)
    train = torch.from_numpy(pool.splits.train)
    for part in train.split(CHUNK):  # the features of a large set would not fit into memory at once
        distances, places = nearest(query, features.extract(to_float(gather(pool, part))), 1)
        closer = distances[:, 0] < least
        least = torch.where(closer, distances[:, 0].to(least), least)
        found = torch.where(closer, part[places[:, 0]], found)
    return torch.cat([images, to_float(gather(pool, found))])


def with_difference(candidate: Candidate, winner: Candidate, real: Tensor) -> dict[str, Any]:
    """Return a candidate as plain values, with its KID minus the winner's."""
    difference = Estimate(math.nan, math.nan)
    if candidate is winner:
        difference = Estimate(0.0, 0.0)
    elif candidate.features is not None and winner.features is not None:
        difference = kid_difference(real, champion=winner.features, challenger=candidate.features)
    return {
        "samples": candidate.found.samples,
        "found": asdict(candidate.found),
        "rescored": asdict(candidate.rescored),
        "difference": difference.value,
        "difference_se": difference.standard_error,
    }
