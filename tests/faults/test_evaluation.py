"""Evaluations that crash, run out of memory or take too long: the training is the same without them, and goes on."""

import functools
import itertools
import math
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import killing
import lives
import pytest
import torch
from killing import Case

import equipoise as eq
from equipoise import tasks
from equipoise.evaluation import evaluate, finish, rivals, scoring
from equipoise.game.losses import loss_named
from equipoise.host.deadline import Deadline
from equipoise.metrics import feature_judge
from equipoise.metrics.feature_judge import FeatureJudge, NotFiniteError
from equipoise.randomness import stream_seed
from equipoise.runs.digest import digest
from equipoise.runs.folder import RunFolder
from equipoise.storage import checkpoints, logs
from equipoise.storage.records import Rivals
from equipoise.tasks.images import ImageTask

TRAINED = ("generator", "discriminator", "generator_ema", "update")
CPU = torch.device("cpu")
RunOf = Callable[..., eq.Run]


@pytest.fixture
def run_of_images(run_of: RunOf) -> RunOf:
    """Return a function that trains as the test does which takes a score again."""
    return lambda *given, **options: run_of(*given, "device=cpu", "precision=float32", **options)


class Evaluations:
    """Counts the evaluations, and may give the second one alone little time: on a busy machine others take long."""

    def __init__(self, patch: pytest.MonkeyPatch, *, is_short: bool) -> None:
        self.num = 0
        real = scoring.evaluate

        def counted(task: Any, judge: Any, contender: Any, best: Any, deadline: Deadline) -> Any:
            self.num += 1
            if is_short and self.num == 2:
                deadline = Deadline(0.05)
            return real(task, judge, contender, best, deadline)

        patch.setattr(scoring, "evaluate", counted)


def raising(error: BaseException) -> Callable[..., Any]:
    """Return a function that raises an error, whatever it is given."""

    def fail(*_: Any) -> None:
        raise error

    return fail


def slowly(real: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that takes longer than the short deadline."""

    def slow(*given: Any) -> Any:
        time.sleep(0.1)
        return real(*given)

    return slow


def events(run: eq.Run, kind: str) -> list[dict[str, Any]]:
    """Return a run's events of a kind."""
    return [record for record in logs.records(run.folder.events) if record["kind"] == kind]


ALLOCATOR = "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried 8 GB"
FAILURES = {
    "crash in the features": (feature_judge, "extracted", raising(ZeroDivisionError("no such thing"))),
    "crash in the score": (FeatureJudge, "measure_features", raising(ValueError("odd\nlines"))),
    "crash in the outputs": (ImageTask, "outputs", raising(KeyError("x"))),
    "memory": (FeatureJudge, "measure_features", raising(MemoryError())),
    "memory of the allocator": (feature_judge, "extracted", raising(RuntimeError(ALLOCATOR))),
    "memory of a GPU": (feature_judge, "extracted", raising(torch.OutOfMemoryError("CUDA out of memory"))),
    "outputs of another number": (ImageTask, "outputs", lambda *_: torch.zeros(3, 1, 8, 8)),
    "outputs that are no tensor": (ImageTask, "outputs", lambda *_: None),
    "slow outputs": (ImageTask, "outputs", slowly(ImageTask.outputs)),
    "slow measuring": (FeatureJudge, "measure_features", slowly(FeatureJudge.measure_features)),
}
TOLD = {"memory of the allocator": "DefaultCPUAllocator", "outputs of another number": " 3 "}  # beside the error's type
TYPES = {"slow": "TimeoutError", "outputs": "UserError", "memory": "Error", "crash": "Error"}
whole: dict[str, str] = {}


def expected(run_of_images: RunOf) -> dict[str, str]:
    """Return the parts of a training whose evaluations succeed; it is trained once."""
    if not whole:
        whole.update(digest(run_of_images("healthy").folder).parts)
    return whole


@pytest.mark.faults
@pytest.mark.parametrize("what", FAILURES)
def test_an_evaluation_that_fails_costs_its_score_and_nothing_else(
    run_of_images: RunOf, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """One of five; the ones after it succeed again, and the weights are those of a training without failures."""
    healthy = expected(run_of_images)
    place, name, failing = FAILURES[what]
    real = getattr(place, name)
    threads = set(threading.enumerate())
    with monkeypatch.context() as patch:
        evaluations = Evaluations(patch, is_short="slow" in what)

        def sometimes(*given: Any) -> Any:
            if evaluations.num == 2:
                return failing(*given)
            return real(*given)

        patch.setattr(place, name, sometimes)
        run = run_of_images("run")
    found = digest(run.folder).parts
    assert {part: found[part] for part in TRAINED} == {part: healthy[part] for part in TRAINED}
    (failed,) = events(run, "evaluation failed")
    assert TYPES[what.split()[0]] in failed["message"]
    assert TOLD.get(what, "") in failed["message"]
    assert failed["samples"] == 160
    scored = [record["samples"] for record in logs.records(run.folder.scores)]
    assert scored == [80, 240, 320, 400], "later evaluations must work again"
    assert run.state.status == "finished"
    assert set(threading.enumerate()) <= threads


def test_an_alarm_of_somebody_else_is_heard_in_the_middle_of_an_evaluation(
    run_of_points: RunOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of a training makes use of alarms, so they are its caller's."""
    heard: list[int] = []
    real = scoring.evaluate

    def alarmed(*given: Any) -> Any:
        signal.raise_signal(signal.SIGALRM)
        assert heard
        return real(*given)

    monkeypatch.setattr(scoring, "evaluate", alarmed)
    before = signal.signal(signal.SIGALRM, lambda number, _frame: heard.append(number))
    handler = signal.getsignal(signal.SIGALRM)
    try:
        run = run_of_points("run", budget="160")
        assert signal.getsignal(signal.SIGALRM) is handler
    finally:
        signal.signal(signal.SIGALRM, before)
    assert len(heard) == len(logs.records(run.folder.scores)) == 2


def without_time(patch: pytest.MonkeyPatch, owner: Any, number: int) -> None:
    """Let one of the deadlines that a module sets be over already."""
    count = itertools.count(1)

    def deadline(seconds: float) -> Deadline:
        if next(count) == number:
            return Deadline(-1.0)
        return Deadline(seconds)

    patch.setattr(owner, "Deadline", deadline)


SELECTION, EXHIBITS, TEST = 1, 2, 3  # parts of the end, each with a deadline of its own
AT_THE_END = {
    "the selection crashes": (SELECTION, "select_best", RuntimeError(ALLOCATOR)),
    "the selection takes too long": (SELECTION, "", TimeoutError()),
    "the exhibits crash": (EXHIBITS, "write_exhibits", MemoryError()),
    "the test crashes": (TEST, "measure", NotFiniteError("not finite")),
    "the test takes too long": (TEST, "", TimeoutError()),
}


@pytest.mark.parametrize("what", AT_THE_END)
def test_a_part_of_the_end_that_fails_leaves_a_finished_run_that_says_so(
    run_of_points: RunOf, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Whatever else the end finds is there."""
    part, name, error = AT_THE_END[what]
    with monkeypatch.context() as patch:
        if name:
            patch.setattr(finish, name, raising(error))
        else:
            without_time(patch, finish, part)
        run = run_of_points("run", budget="240")
    assert not events(run, "evaluation failed")
    (failed,) = events(run, "final stage failed")
    assert type(error).__name__ in failed["message"]
    state = run.state
    assert state.status == "finished"
    assert run.best.sample(2).shape == (2, 2)
    assert (state.selection is None) == (part == SELECTION)
    assert (type(error).__name__ in (state.not_selected or "")) == (part == SELECTION)
    assert (state.test is None) == (part == TEST)
    assert (type(error).__name__ in (state.message or "")) == (part == TEST)
    assert bool(run.folder.read_exhibits().exhibits) == (part != EXHIBITS)
    assert run.report.read_text().rstrip().endswith("</html>")


def test_evaluations_that_all_fail_still_hand_over_a_training_that_says_so(
    run_of_images: RunOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was trained is what would have been trained."""
    healthy = expected(run_of_images)
    monkeypatch.setattr(evaluate, "measure", raising(MemoryError("none left")))
    run = run_of_images("run")
    assert (run.state.status, run.state.stop_reason) == ("finished", "evaluation-failed")
    assert "none left" in (run.state.message or "")
    assert run.state.best is None
    assert digest(run.folder).parts["generator"] == healthy["generator"]


# Baselines and exhibits

BROKEN = {"rivals": "baseline failed", "exhibits": "final stage failed", "snapshot": "snapshot failed"}
FAULTS = pytest.mark.faults
BROKEN_IN = [("points", what) for what in BROKEN]
BROKEN_IN += [pytest.param("images", what, marks=FAULTS) for what in BROKEN]
BROKEN_IN += [pytest.param("super-resolution", what, marks=FAULTS) for what in BROKEN]
BROKEN_IN += [pytest.param("own", "rivals", marks=FAULTS)]  # what it shows is tried before the training


@functools.cache
def trained_parts(task: str, case: Case) -> dict[str, str]:
    """Return the digests of what a case trains; it is trained once."""
    found = killing.finished(case, case.cache.with_name(f"healthy-{task}"))
    return {part: found[f"digest of {part}"] for part in TRAINED}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("task", "what"), BROKEN_IN)
def test_a_task_that_fails_at_a_baseline_or_at_what_is_shown_ends_well_and_says_so_also_after_a_kill(
    case_of: Callable[[str], Case], tmp_path: Path, task: str, what: str, seed: int
) -> None:
    """The floor fails on each split, the exhibits at the end, the snapshot at each evaluation."""
    healthy = case_of(task).but("evaluation.every=80", budget=160)
    case = healthy.but(befallen=partial(lives.breaking, what))
    assert killing.kill_at_random(case, tmp_path, 1, seed).num_kills == 1
    run = RunFolder(tmp_path / "whole")
    found = digest(run).parts
    assert {part: found[part] for part in TRAINED} == trained_parts(task, healthy)
    state = run.read_state()
    assert state.status == "finished"
    assert state.test is not None
    failed = [event for event in logs.records(run.events) if lives.BROKEN in event["message"]]
    assert failed
    assert {event["kind"] for event in failed} == {BROKEN[what]}
    if what == "rivals":
        assert state.rivals is not None
        check_floor_alone_failed(run.read_rivals())
        check_floor_alone_failed(state.rivals)
        assert lives.BROKEN in run.report.read_text()


def check_floor_alone_failed(found: Rivals) -> None:
    """See that of the baselines the floor has no score and says why, and that all others have one."""
    for score in found.scores:
        is_broken = score.role == "floor"
        assert (lives.BROKEN in (score.failure or "")) == is_broken
        assert math.isfinite(score.loss) != is_broken
    assert {score.role for score in found.scores} >= {"floor", "ceiling"}


@pytest.mark.slow
@pytest.mark.parametrize("task", ["images", "points", "super-resolution"])
def test_baselines_that_take_too_long_cost_their_scores_alone(
    case_of: Callable[[str], Case], run_of: RunOf, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, task: str
) -> None:
    """They are given up before their next chunk, and the training begins; on the test split there is time."""
    case = case_of(task).but("evaluation.every=80", budget=160)
    with monkeypatch.context() as patch:
        without_time(patch, rivals, 1)
        run = eq.train(
            case.source,
            recipe="modern",
            task=case.task,
            budget=str(case.budget),
            settings=case.settings,
            device="cpu",
            out=tmp_path / "run",
        )
    found = run.folder.read_rivals().scores
    assert found
    assert all("TimeoutError" in (score.failure or "") for score in found)
    assert len(events(run, "baseline failed")) == len(found)
    assert run.state.status == "finished"
    assert run.state.rivals is not None
    assert all(score.failure is None for score in run.state.rivals.scores)


# Scores and checkpoints afterwards


def test_the_score_of_a_kept_checkpoint_taken_offline_is_the_logged_one_exactly(run_of_images: RunOf) -> None:
    """A checkpoint, the recipe and the data are all that a score depends on."""
    run = run_of_images("run", "saving.keep=1")
    kept = sorted(int(path.name) for path in run.folder.checkpoints.iterdir())
    assert kept == [80, 160, 240, 320, 400]
    source = tasks.opened(run.recipe, CPU, lambda *_: None)
    task = source.task(run.recipe, loss_named(run.recipe.game.loss), torch.float32, lambda *_: None)
    judge = task.judge("validation")
    assert judge is not None
    lines = {record["samples"]: record for record in logs.records(run.folder.scores)}
    for samples in kept:
        path = run.folder.checkpoints / f"{samples:012d}"
        generator = task.players().generator
        checkpoints.load_module("generator_ema", generator, checkpoints.load_tensors(path / "tensors.safetensors"))
        generator.requires_grad_(False).eval()
        seed = stream_seed(judge.seed, "judging", samples)
        found = evaluate.measure(task, judge, generator, seed, Deadline(math.inf))
        logged = lines[samples]
        assert (found.loss, found.error) == (logged["loss"], logged["error"]), f"after {samples} samples"
        assert found.values == {name: logged["values"][name] for name in found.values}


@pytest.mark.faults
@pytest.mark.parametrize(("keep", "every"), [(None, None), (2, 160), (3, 240)])
def test_the_last_two_checkpoints_the_best_ones_and_every_nth_are_kept(
    run_of_images: RunOf, keep: int | None, every: int | None
) -> None:
    """And no other."""
    settings = [] if keep is None else [f"saving.keep={keep}"]
    run = run_of_images("run", *settings, budget="560")
    kept = {int(path.name) for path in run.folder.checkpoints.iterdir()}
    best = [record["samples"] for record in logs.records(run.folder.scores) if record["best"]]
    wanted = {480, 560} | {at for at in range(80, 561, 80) if every and at % every == 0}
    assert kept == wanted | {best[-1]}
