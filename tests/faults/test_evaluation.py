"""Looks that crash, run out of memory or hang: the training is the same without them, and later looks work again."""

import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lives
import pytest
import torch

import equipoise as eq
from equipoise import api
from equipoise.data.pool import prepare
from equipoise.evaluation import evaluate, evaluator, finish
from equipoise.host.signals import Interruption
from equipoise.randomness import stream_seed
from equipoise.runs.digest import digest
from equipoise.storage import checkpoints, logs
from equipoise.tasks.images import ImageProblem

TRAINED = ("generator", "discriminator", "average", "generator_optimizer", "discriminator_optimizer")


@pytest.fixture
def run_of(run_of: Callable[..., eq.Run]) -> Callable[..., eq.Run]:
    """Return a function that trains as the test does which takes a score again."""
    return lambda *given, **options: run_of(*given, "device=cpu", "precision=float32", **options)


class Looks:
    """Counts the looks, and gives one of them alone a short limit: on a busy machine others may take long."""

    def __init__(self, patch: pytest.MonkeyPatch, short: int) -> None:
        self.num, real = 0, Interruption.look

        def look(interruption: Interruption, timeout: float) -> Any:
            self.num += 1
            return real(interruption, 0.5 if self.num == short else timeout)

        patch.setattr(Interruption, "look", look)


def raising(error: BaseException) -> Callable[..., Any]:
    def fail(*_: Any) -> None:
        raise error

    return fail


def loop_for_ever(*_: Any) -> None:
    while True:
        pass


def sleep_for_ever(*_: Any) -> None:
    time.sleep(100.0)


def read_for_ever(*_: Any) -> None:
    read, write = os.pipe()
    try:
        os.read(read, 1)
    finally:
        os.close(read)
        os.close(write)


ALLOCATOR = "[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried 8 GB"
FAILURES = {
    "crash in the features": ("extracted", raising(ZeroDivisionError("no such thing")), "ZeroDivisionError"),
    "crash in the score": ("score_features", raising(ValueError("odd\nlines")), "ValueError"),
    "crash in the images": ("generated", raising(KeyError("x")), "KeyError"),
    "memory": ("score_features", raising(MemoryError()), "MemoryError"),
    "memory of the allocator": ("extracted", raising(RuntimeError(ALLOCATOR)), "DefaultCPUAllocator"),
    "memory of a GPU": ("extracted", raising(torch.OutOfMemoryError("CUDA out of memory")), "out of memory"),
    "hang in a loop": ("score_features", loop_for_ever, "no score within 0.5 s"),
    "hang in a sleep": ("extracted", sleep_for_ever, "no score within 0.5 s"),
    "hang in a read": ("generated", read_for_ever, "no score within 0.5 s"),
}
whole: dict[str, str] = {}


def expected(run_of: Callable[..., eq.Run]) -> dict[str, str]:
    if not whole:
        whole.update(digest(run_of("healthy").folder).parts)
    return whole


@pytest.mark.faults
@pytest.mark.parametrize("what", FAILURES)
def test_a_look_that_fails_costs_its_score_and_nothing_else(
    run_of: Callable[..., eq.Run], monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    healthy, (name, failing, told) = expected(run_of), FAILURES[what]
    real = getattr(evaluate, name)
    handler, threads = signal.getsignal(signal.SIGALRM), set(threading.enumerate())
    with monkeypatch.context() as patch:
        looks = Looks(patch, short=2 if "hang" in what else 0)
        patch.setattr(evaluate, name, lambda *given: failing(*given) if looks.num == 2 else real(*given))
        run = run_of("run")
    found = digest(run.folder).parts
    assert {part: found[part] for part in TRAINED} == {part: healthy[part] for part in TRAINED}
    (failed,) = [record for record in logs.records(run.folder.events) if record["kind"] == "judging failed"]
    assert told in failed["message"]
    scored = [record["samples"] for record in logs.records(run.folder.scores)]
    assert failed["samples"] == 160
    assert scored == [80, 240, 320, 400], "later looks must work again"
    assert run.state["status"] == "finished"
    assert signal.getsignal(signal.SIGALRM) is handler
    lives.until(  # a timer that was cancelled needs an instant to end
        lambda: not any(isinstance(thread, threading.Timer) for thread in set(threading.enumerate()) - threads)
    )


def test_an_alarm_of_somebody_else_is_heard_after_a_look_that_hung(
    run_of: Callable[..., eq.Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, _frame: heard.append(number))
    real, looks = evaluate.score_features, Looks(monkeypatch, short=1)

    def score(*given: Any) -> Any:
        if looks.num == 1:
            sleep_for_ever()
        return real(*given)

    def shown(*_: Any) -> None:  # in the training, after the look that hung
        if looks.num >= 2:
            signal.raise_signal(signal.SIGALRM)

    monkeypatch.setattr(evaluate, "score_features", score)
    monkeypatch.setattr(ImageProblem, "show", shown)
    try:
        run = run_of("run")
    finally:
        signal.signal(signal.SIGALRM, before)
    assert "judging failed" in [record["kind"] for record in logs.records(run.folder.events)]
    assert heard


AT_THE_END = {
    "judging again crashes": ("judged_again", raising(RuntimeError(ALLOCATOR)), "Judging the best generators again"),
    "judging again hangs": ("judged_again", sleep_for_ever, "Judging the best generators again"),
    "the neighbours crash": ("with_nearest", raising(MemoryError()), "Finding the nearest training images"),
    "the test crashes": ("score", raising(evaluator.NotFiniteError("not finite")), "Testing the best generator"),
    "the test hangs": ("score", loop_for_ever, "Testing the best generator"),
}


@pytest.mark.parametrize("what", AT_THE_END)
def test_a_last_choice_or_a_test_that_fails_leaves_a_finished_run_that_says_so(
    run_of: Callable[..., eq.Run], monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    name, failing, told = AT_THE_END[what]
    with monkeypatch.context() as patch:
        Looks(patch, short={"judging again hangs": 4, "the test hangs": 6}.get(what, 0))  # after three in the training
        patch.setattr(finish, name, failing)
        run = run_of("run", budget="240")
    (failed,) = [record for record in logs.records(run.folder.events) if record["kind"] == "judging failed"]
    assert failed["message"].startswith(f"{told} failed (")
    state = run.state
    assert state["status"] == "finished"
    assert run.best.sample(2).shape[0] == 2
    assert (state["rescored"] is None) == (name == "judged_again")
    assert (state["test"] is None) == (name == "score")
    assert (told in state["reason"]) == (name == "score")
    assert (told in (state["not_rescored"] or "")) == (name == "judged_again")
    assert run.report.exists()


def test_all_looks_failing_still_hands_over_a_training_that_says_so(
    run_of: Callable[..., eq.Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, "score_features", raising(MemoryError("none left")))
    run = run_of("run")
    assert run.state["status"] == "finished"
    assert run.state["best"] is None
    assert digest(run.folder).parts["generator"] == expected(run_of)["generator"]


def test_the_score_of_a_kept_checkpoint_taken_offline_is_the_logged_one_exactly(
    run_of: Callable[..., eq.Run], shapes: Path
) -> None:
    run = run_of("run", "saving.keep=1")
    kept = sorted(int(path.name) for path in run.folder.checkpoints.iterdir())
    assert kept == [80, 160, 240, 320, 400]
    recipe = run.recipe
    pool = prepare(recipe.data)
    features = api.features_of(pool, recipe.judging.features, torch.device("cpu"))
    judge = api.judge_of(pool, features, "validation", recipe.judging.num_samples)
    problem = ImageProblem(recipe, pool, torch.device("cpu"), torch.float32)
    lines = {record["samples"]: record for record in logs.records(run.folder.scores)}
    for samples in kept:
        path = run.folder.checkpoints / f"{samples:012d}"
        generator = problem.networks().generator
        tensors = checkpoints.load_tensors(path / "tensors.safetensors")
        checkpoints.load_module("average", generator, tensors)
        generator.requires_grad_(False).eval()
        seed = stream_seed(judge.protocol.seed, "judging", samples)
        images = evaluate.generated(problem, generator, judge.protocol.num_generated, seed)
        found = evaluator.to_dict(evaluator.score(judge, images))
        logged = lines[samples]
        for name in ("kid", "kid_se", "fid", "precision", "recall", "density", "coverage"):
            assert found[name] == logged[name], f"{name} after {samples} samples"


@pytest.mark.faults
@pytest.mark.parametrize(("keep", "every"), [(None, None), (2, 160), (3, 240)])
def test_the_last_two_checkpoints_the_best_ones_and_every_nth_are_kept(
    run_of: Callable[..., eq.Run], keep: int | None, every: int | None
) -> None:
    run = run_of("run", *([f"saving.keep={keep}"] if keep else []), budget="560")
    kept = {int(path.name) for path in run.folder.checkpoints.iterdir()}
    champions = [record["samples"] for record in logs.records(run.folder.scores) if record["best"]]
    wanted = {480, 560} | {at for at in range(80, 561, 80) if every and at % every == 0}
    assert kept == wanted | {champions[-1]}
