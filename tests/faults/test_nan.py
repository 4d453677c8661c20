"""Numbers that are not finite: no weight takes them in, no checkpoint and no best one holds them, and the run says so.

A pool cannot hold any: images are bytes, and an .npz of floats is refused (tests/data/test_sources.py). What a loss
alone does is in tests/test_loop.py.
"""

import math
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import equipoise as eq
from equipoise import loop
from equipoise.errors import UserError
from equipoise.storage import checkpoints, logs
from equipoise.storage.files import verify
from equipoise.tasks.images import ImageProblem, Terms

PLAYERS = ["discriminator", "generator"]
FROM, UNTIL = 240, 320  # samples between which it goes wrong


@pytest.fixture
def run_of(run_of: Callable[..., eq.Run]) -> Callable[..., eq.Run]:
    """Return a function that trains on for a while after it went wrong."""
    return partial(run_of, budget="480")


def kinds(run: eq.Run) -> list[str]:
    return [record["kind"] for record in logs.records(run.folder.events)]


def check_nothing_poisoned(run: eq.Run) -> None:
    """Every checkpoint, candidate and best generator is whole and finite."""
    folders = [run.folder.best, *run.folder.checkpoints.iterdir(), *run.folder.candidates.iterdir()]
    for folder in folders:
        assert verify(folder) is None
        for path in folder.glob("*.safetensors"):
            for name, tensor in load_file(path).items():
                assert name.startswith("meter.") or tensor.isfinite().all(), f"{path}: {name}"


def poisoned_gradient(monkeypatch: pytest.MonkeyPatch, player: str, value: float, *, whole: bool, until: int) -> None:
    """Let one number of one gradient, or all of them, be `value` from some samples on."""
    real, optimizers = loop.gradient_norm, {"discriminator": 0, "generator": 1}
    calls = [0]

    def norm(parameters: list[torch.nn.Parameter], clip: float | None = None) -> torch.Tensor:
        step, which = divmod(calls[0], 2)
        calls[0] += 1
        if which == optimizers[player] and FROM <= 8 * step < until:
            for parameter in parameters if whole else parameters[:1]:
                assert parameter.grad is not None
                parameter.grad.view(-1)[: None if whole else 1] = value
        return real(parameters, clip)

    monkeypatch.setattr(loop, "gradient_norm", norm)


@pytest.mark.faults
@pytest.mark.parametrize("player", PLAYERS)
@pytest.mark.parametrize(
    ("value", "whole"), [(math.nan, False), (-math.inf, False), (3e38, True)], ids=["nan", "inf", "norm overflows"]
)
def test_a_gradient_that_is_not_finite_is_not_applied_and_told_once_a_stretch(
    run_of: Callable[..., eq.Run], monkeypatch: pytest.MonkeyPatch, player: str, value: float, whole: bool
) -> None:
    poisoned_gradient(monkeypatch, player, value, whole=whole, until=UNTIL)
    run = run_of("run")
    refused = [record["skipped_steps"] for record in logs.records(run.folder.steps)]
    assert sum(refused) == (UNTIL - FROM) // 8
    assert kinds(run).count("refused steps") == 1
    assert "not saved" not in kinds(run)
    assert (run.state["status"], run.state["policy"]) == ("finished", "budget")
    check_nothing_poisoned(run)


@pytest.mark.parametrize("player", PLAYERS)
def test_three_stuck_intervals_stop_the_run_and_a_resume_says_why_instead_of_beginning_it_again(
    run_of: Callable[..., eq.Run], monkeypatch: pytest.MonkeyPatch, player: str
) -> None:
    poisoned_gradient(monkeypatch, player, math.nan, whole=False, until=100_000)
    run = run_of("run", budget="4k")
    assert (run.state["policy"], run.state["samples"]) == ("diverged", FROM + 3 * 40)
    assert f"The {player}'s loss or gradient has not been finite" in run.state["reason"]
    assert "--set game.generator.rate" in run.state["reason"]
    assert kinds(run).count("refused steps") == 1
    check_nothing_poisoned(run)
    for budget in (None, "9k"):
        with pytest.raises(UserError, match="not been finite"):
            eq.resume(run.path, budget=budget)
    with pytest.raises(UserError, match="not been finite"):
        eq.resume(run.path, policy="budget")


@pytest.mark.faults
@pytest.mark.parametrize("player", PLAYERS)
@pytest.mark.parametrize("what", ["weight", "moment", "average"])
def test_what_is_poisoned_all_the_same_is_never_the_last_checkpoint_or_the_best_and_a_resume_is_of_a_good_one(
    run_of: Callable[..., eq.Run], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, player: str, what: str
) -> None:
    """A finite gradient whose update or whose square overflows is set by hand here, at one step."""
    healthy, real = run_of("healthy"), loop.take_generator_step

    def step(problem: Any, state: loop.State, *rest: Any) -> Any:
        numbers = real(problem, state, *rest)
        if state.samples == FROM + 8:
            optimizer = getattr(state, f"{player}_optimizer")
            network = state.average if what == "average" else getattr(state.players, player)
            weight = next(network.parameters())
            with torch.no_grad():
                found = optimizer.state[weight]["exp_avg_sq"] if what == "moment" else weight
                found.view(-1)[0] = math.inf
        return numbers

    with monkeypatch.context() as patch:
        patch.setattr(loop, "take_generator_step", step)
        run = run_of("run")
    assert "not saved" in kinds(run)
    check_nothing_poisoned(run)
    last = checkpoints.latest(run.folder.checkpoints)
    assert last is not None
    assert last.values["samples"] == FROM
    best = run.state["best"]
    assert best is not None
    assert best["samples"] <= FROM or (what == "moment" and best["samples"] == UNTIL)
    assert run.state["policy"] == "diverged"
    assert run.state["samples"] <= UNTIL + 120, "nothing trained after that could be kept"
    # A kill instead of that end: the run goes on from the last good checkpoint, healthy this time.
    shutil.copytree(run.path, tmp_path / "killed")
    (tmp_path / "killed" / "state.json").write_text('{"status": "running"}')
    from equipoise.runs.digest import digest

    resumed = eq.resume(tmp_path / "killed")
    assert digest(resumed.folder).parts["generator"] == digest(healthy.folder).parts["generator"]
    assert digest(resumed.folder).sha256 == digest(healthy.folder).sha256


@pytest.mark.faults
@pytest.mark.parametrize("player", PLAYERS)
def test_a_rate_at_which_every_update_overflows_ends_as_diverged_with_nothing_poisoned(
    run_of: Callable[..., eq.Run], player: str
) -> None:
    run = run_of("run", f"game.{player}.rate=1e38", budget="4k")
    assert run.state["policy"] == "diverged"
    assert run.state["samples"] < 4_000
    for folder in (*run.folder.checkpoints.iterdir(), *run.folder.candidates.glob("[0-9]*")):
        assert verify(folder) is None
        assert all(
            tensor.isfinite().all() or name.startswith("meter.")
            for path in folder.glob("*.safetensors")
            for name, tensor in load_file(path).items()
        )


def test_generated_images_that_are_not_finite_cost_a_look_and_are_no_candidate(
    run_of: Callable[..., eq.Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = ImageProblem.generate, [0]

    def generate(self: ImageProblem, *given: Any) -> torch.Tensor:
        calls[0] += 1
        images = real(self, *given)
        return images * math.nan if calls[0] <= 2 else images

    monkeypatch.setattr(ImageProblem, "generate", generate)
    run = run_of("run")
    failed = [record for record in logs.records(run.folder.events) if record["kind"] == "judging failed"]
    assert failed
    assert "NaN or infinity" in failed[0]["message"]
    scored = [record["samples"] for record in logs.records(run.folder.scores)]
    assert scored
    assert failed[0]["samples"] not in scored
    check_nothing_poisoned(run)


@pytest.mark.faults
@pytest.mark.parametrize("player", PLAYERS)
def test_one_sample_of_a_users_own_loss_that_is_not_finite_refuses_the_step(
    run_of: Callable[..., eq.Run], monkeypatch: pytest.MonkeyPatch, player: str
) -> None:
    real = getattr(ImageProblem, f"{player}_terms")

    def terms(self: ImageProblem, players: Any, batch: Any, moment: Any) -> Terms:
        found = real(self, players, batch, moment)
        if moment.randomness.samples == FROM:
            loss = next(iter(found.losses))
            spoiled = found.losses[loss].clone()
            spoiled[0] = math.inf
            return Terms(found.losses | {loss: spoiled}, found.signals)
        return found

    monkeypatch.setattr(ImageProblem, f"{player}_terms", terms)
    run = run_of("run")
    assert sum(record["skipped_steps"] for record in logs.records(run.folder.steps)) == 1
    assert "refused steps" in kinds(run)
    check_nothing_poisoned(run)
