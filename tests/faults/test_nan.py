"""Numbers that are not finite: no weight takes them in, no checkpoint and no best one holds them, and the run says so.

A pool cannot hold any: images are bytes, and an .npz of floats is refused (tests/data/test_sources.py). What a loss
alone does is in tests/test_loop.py, and how a run goes back to a healthy checkpoint in test_remedy.py.
"""

import math
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import equipoise as eq
from equipoise import loop
from equipoise.errors import UserError
from equipoise.game import steps
from equipoise.game.terms import StepContext
from equipoise.game.updates import Players, Role, Terms
from equipoise.recipe import Recipe
from equipoise.runs.digest import digest
from equipoise.runs.folder import RunFolder
from equipoise.state import TrainingState
from equipoise.storage import checkpoints, logs
from equipoise.storage.files import verify
from equipoise.storage.records import RunState
from equipoise.tasks.images import ImageTask

RunOf = Callable[..., eq.Run]
PLAYERS: tuple[Role, Role] = ("discriminator", "generator")
BATCH = 8
FROM = 240  # samples from which it goes wrong
UNTIL = 320  # and those until which it does
STUCK = 3 * 40  # samples of three logging intervals
AT_ONCE = "remedies.attempts=0"  # a game that diverges is not tried again


@pytest.fixture
def run_of(run_of: RunOf) -> RunOf:
    """Return a function that trains on for a while after it went wrong."""
    return partial(run_of, budget="480")


def kinds(run: eq.Run) -> list[str]:
    """Return the kinds of a run's events."""
    return [record["kind"] for record in logs.records(run.folder.events)]


def num_skipped(run: eq.Run) -> int:
    """Return how many steps were skipped, by the log."""
    return sum(record["skipped_steps"] for record in logs.records(run.folder.steps))


def kept(run: eq.Run) -> Iterator[Path]:
    """Yield the folders of all checkpoints, candidates and the best generator."""
    for folder in (run.folder.checkpoints, run.folder.candidates):
        if folder.exists():
            yield from folder.iterdir()
    if run.folder.best.exists():
        yield run.folder.best


def check_nothing_poisoned(run: eq.Run) -> None:
    """See that every checkpoint, candidate and best generator is whole and finite."""
    for folder in kept(run):
        assert verify(folder) is None
        for path in folder.glob("*.safetensors"):
            for name, tensor in load_file(path).items():
                assert tensor.isfinite().all(), f"{path}: {name}"


def poison_gradient(monkeypatch: pytest.MonkeyPatch, player: Role, value: float, *, whole: bool, until: int) -> None:
    """Let one number of one gradient, or all of them, be `value` from some samples on."""
    real = steps.gradient_norm
    calls = iter(range(10**6))  # the discriminator's of a round, then the generator's

    def norm(parameters: Iterator[torch.nn.Parameter], clip: float | None = None) -> torch.Tensor:
        every = list(parameters)
        step, which = divmod(next(calls), 2)
        if PLAYERS[which] == player and FROM <= BATCH * step < until:
            spoil(every, value, whole=whole)
        return real(every, clip)

    monkeypatch.setattr(steps, "gradient_norm", norm)


def spoil(parameters: list[torch.nn.Parameter], value: float, *, whole: bool) -> None:
    """Put a value in place of the first number of the first gradient, or of all numbers of all."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if not whole:
        gradients[0].view(-1)[0] = value
        return
    for gradient in gradients:
        gradient.fill_(value)


@pytest.mark.faults
@pytest.mark.parametrize("player", PLAYERS)
@pytest.mark.parametrize(
    ("value", "whole"), [(math.nan, False), (-math.inf, False), (3e38, True)], ids=["nan", "inf", "norm overflows"]
)
def test_a_gradient_that_is_not_finite_is_not_applied_and_told_once_a_stretch(
    run_of: RunOf, monkeypatch: pytest.MonkeyPatch, player: Role, value: float, whole: bool
) -> None:
    """Ten steps are skipped, and the training goes on to its end."""
    poison_gradient(monkeypatch, player, value, whole=whole, until=UNTIL)
    run = run_of("run")
    assert num_skipped(run) == (UNTIL - FROM) // BATCH
    assert kinds(run).count("steps skipped") == 1
    assert "not saved" not in kinds(run)
    assert "remedy" not in kinds(run), "two intervals alone are no divergence"
    assert run.state.status == "finished"
    assert run.state.stop_reason == "budget"
    check_nothing_poisoned(run)


@pytest.mark.parametrize("player", PLAYERS)
def test_three_stuck_intervals_stop_the_run_and_a_resume_says_why_instead_of_beginning_it_again(
    run_of: RunOf, monkeypatch: pytest.MonkeyPatch, player: Role
) -> None:
    """Neither a larger budget nor another policy leads on from there."""
    poison_gradient(monkeypatch, player, math.nan, whole=False, until=100_000)
    run = run_of("run", AT_ONCE, budget="4k")
    state = run.state
    assert state.stop_reason == "diverged"
    assert state.samples == FROM + STUCK
    assert state.message is not None
    assert player in state.message
    assert "game.generator.rate=" in state.message
    assert kinds(run).count("steps skipped") == 1
    check_nothing_poisoned(run)
    before = digest(run.folder).sha256
    others: list[dict[str, Any]] = [{}, {"budget": "9k"}, {"policy": "budget"}]
    for given in others:
        with pytest.raises(UserError, match="not finite") as refused:
            eq.resume(run.path, **given)
        assert refused.value.subject == run.path
    assert digest(run.folder).sha256 == before


def poison_state(monkeypatch: pytest.MonkeyPatch, player: Role, what: str) -> None:
    """Put infinity into a weight, a moment or the average before one round of the first attempt.

    A finite gradient whose update or whose square overflows does the same.
    """
    real = loop.set_rates

    def set_rates(state: TrainingState, recipe: Recipe, progress: float) -> None:
        real(state, recipe, progress)
        if state.samples == FROM + 2 * BATCH and state.attempt == 0:
            with torch.no_grad():
                numbers_of(state, player, what).view(-1)[0] = math.inf

    monkeypatch.setattr(loop, "set_rates", set_rates)


def numbers_of(state: TrainingState, player: Role, what: str) -> torch.Tensor:
    """Return a tensor of a state."""
    if what == "average":
        return next(state.generator_ema.parameters())
    weight = next(state.players.of(player).parameters())
    if what == "moment":
        return state.update.optimizers[player].state[weight]["exp_avg_sq"]
    return weight


POISONED = [("discriminator", "weight"), ("discriminator", "moment")]
POISONED += [("generator", "weight"), ("generator", "moment"), ("generator", "average")]


@pytest.mark.faults
@pytest.mark.parametrize(("player", "what"), POISONED)
def test_what_is_poisoned_all_the_same_is_never_the_last_checkpoint_or_the_best_and_a_resume_is_of_a_good_one(
    run_of: RunOf, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, player: Role, what: str
) -> None:
    """The run ends as diverged; a kill instead of that end goes on from the last good checkpoint."""
    healthy = run_of("healthy", AT_ONCE)
    with monkeypatch.context() as patch:
        poison_state(patch, player, what)
        run = run_of("run", AT_ONCE)
    assert "not saved" in kinds(run)
    check_nothing_poisoned(run)
    last = checkpoints.latest(run.folder.checkpoints)
    assert last is not None
    assert last.values["samples"] == FROM
    best = run.state.best
    assert best is not None
    assert best.samples <= FROM or (what == "moment" and best.samples == UNTIL)
    assert run.state.stop_reason == "diverged"
    assert run.state.samples <= UNTIL + STUCK, "nothing trained after that could be kept"
    killed = shutil.copytree(run.path, tmp_path / "killed")
    RunFolder(killed).write_state(RunState(status="running"))
    resumed = eq.resume(killed)
    assert digest(resumed.folder).parts["generator"] == digest(healthy.folder).parts["generator"]
    assert digest(resumed.folder).sha256 == digest(healthy.folder).sha256


@pytest.mark.parametrize(("player", "what"), POISONED)
def test_a_poisoned_state_is_rewound_to_the_last_good_checkpoint_and_nothing_of_it_is_kept(
    run_of: RunOf, monkeypatch: pytest.MonkeyPatch, player: Role, what: str
) -> None:
    """With lower rates, and the run reaches its end."""
    poison_state(monkeypatch, player, what)
    run = run_of("run")
    events = logs.records(run.folder.events)
    assert [event["attempt"] for event in events if event["kind"] == "remedy"] == [0]
    check_nothing_poisoned(run)
    assert run.state.stop_reason == "budget"
    last = checkpoints.latest(run.folder.checkpoints)
    assert last is not None
    assert last.values["attempt"] == 1
    assert last.values["adjustments"]["generator_rate"] == Recipe().remedies.rate_factor
    assert last.values["samples"] < last.values["spent"]


@pytest.mark.faults
@pytest.mark.parametrize("player", PLAYERS)
def test_a_rate_at_which_every_update_overflows_ends_as_diverged_with_nothing_poisoned(
    run_of: RunOf, player: Role
) -> None:
    """Half of such a rate is no remedy, nor is an eighth."""
    run = run_of("run", f"game.{player}.rate=1e38", budget="4k")
    assert run.state.stop_reason == "diverged"
    assert run.state.samples < 4_000
    assert kinds(run).count("remedy") == Recipe().remedies.attempts
    check_nothing_poisoned(run)


def test_generated_images_that_are_not_finite_cost_an_evaluation_and_are_no_candidate(
    run_of: RunOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The evaluations after that count again."""
    real = ImageTask.outputs
    calls = iter(range(10**6))

    def outputs(self: ImageTask, *given: Any) -> torch.Tensor:
        images = real(self, *given)
        if next(calls) < 2:
            return images * math.nan
        return images

    monkeypatch.setattr(ImageTask, "outputs", outputs)
    run = run_of("run")
    failed = [record for record in logs.records(run.folder.events) if record["kind"] == "evaluation failed"]
    assert failed
    assert "NotFiniteError" in failed[0]["message"]
    scored = [record["samples"] for record in logs.records(run.folder.scores)]
    assert scored
    assert failed[0]["samples"] not in scored
    check_nothing_poisoned(run)


@pytest.mark.faults
@pytest.mark.parametrize("player", PLAYERS)
def test_one_sample_of_a_users_own_loss_that_is_not_finite_refuses_the_step(
    run_of: RunOf, monkeypatch: pytest.MonkeyPatch, player: Role
) -> None:
    """A mean over the batch would be infinite too, and the step is skipped."""
    real = getattr(ImageTask, f"{player}_terms")

    def terms(self: ImageTask, players: Players, batch: Any, step: StepContext) -> Terms:
        found = real(self, players, batch, step)
        if step.randomness.samples != FROM:
            return found
        name = next(iter(found.losses))
        spoiled = found.losses[name].clone()
        spoiled[0] = math.inf
        return Terms(found.losses | {name: spoiled}, found.stats)

    monkeypatch.setattr(ImageTask, f"{player}_terms", terms)
    run = run_of("run")
    assert num_skipped(run) == 1
    assert kinds(run).count("steps skipped") == 1
    check_nothing_poisoned(run)
