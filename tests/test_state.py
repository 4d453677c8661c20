"""All that training changes: it begins by the seed alone, survives a checkpoint whole, and can be rewound."""

import copy
import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from numbers_by_hand import HEALTHY
from small import by_update
from torch import Tensor, nn
from trainings import nothing, same_tensors, task_of

from equipoise import loop
from equipoise.errors import UserError
from equipoise.game.signals import SKETCH
from equipoise.game.terms import Adjustments
from equipoise.host.intervals import measured_intervals
from equipoise.host.writer import run_now
from equipoise.recipe import Budget, Points, Recipe, UpdateName, with_settings
from equipoise.recipes import for_points
from equipoise.runs.candidates import keep, keep_candidate, score_in, weights
from equipoise.runs.folder import RunFolder
from equipoise.setup import monitor_of
from equipoise.state import (
    TrainingState,
    Values,
    adjust,
    first_nonfinite,
    live_tensors,
    plain_values,
    restore,
    roll_back,
    save,
    start,
    take_back,
)
from equipoise.stopping.monitor import Monitor
from equipoise.stopping.verdicts import Remedy
from equipoise.storage import checkpoints, logs
from equipoise.storage.records import Score, StepStats
from equipoise.tasks.base import Task

SETTINGS = ("data.source=ring", "networks.width=8", "networks.generator_norm=batch", "game.batch=8")
SKIPPING: dict[str, Any] = HEALTHY | {"skipped_steps": 1}
EVERY = ("evaluation.every=80", "saving.every=80", "saving.log_every=40", "budget.seconds=none", "budget.samples=4000")
UPDATES: tuple[UpdateName, ...] = get_args(UpdateName)
REMEDY = Remedy("a reason.")


@dataclass(frozen=True)
class Made:
    """A training that nobody has begun: its task, recipe, run and monitor."""

    task: Task
    recipe: Recipe
    run: RunFolder
    monitor: Monitor

    def start(self) -> TrainingState:
        """Return a fresh state."""
        return start(self.task, self.recipe)

    def save(self, state: TrainingState, samples: int) -> None:
        """Save a state as if it stood at some samples."""
        state.spent += samples - state.samples
        state.samples = samples
        save(state, self.monitor, self.run, run_now)

    def saved(self) -> list[int]:
        """Return the samples of the checkpoints, in order."""
        return sorted(int(path.name) for path in checkpoints.named(self.run.checkpoints))

    def roll_back(self, state: TrainingState) -> TrainingState:
        """Return the rewound state."""
        return roll_back(REMEDY, state, self.task, self.recipe, self.monitor, self.run)


@pytest.fixture
def make(small: None, tmp_path: Path) -> Callable[..., Made]:
    """Return a function that makes a small training on points."""

    def make(*settings: str) -> Made:
        recipe = with_settings(for_points(Recipe(), Points()), [*SETTINGS, *EVERY, *settings])
        task = task_of(recipe)
        judge = task.judge("validation")
        assert judge is not None
        run = RunFolder.create(tmp_path / "run", recipe, task.describe())
        return Made(task, recipe, run, monitor_of(recipe, judge))

    return make


def play(made: Made, state: TrainingState, rounds: int) -> None:
    """Play some rounds, and count them as the loop does."""
    for _ in range(rounds):
        terms = partial(loop.terms_of, made.task, state, made.recipe, 0.0)
        for numbers in state.update.round(terms):
            state.meter.add(numbers)
        state.samples += loop.step_of(state, made.recipe)
        state.spent += loop.step_of(state, made.recipe)


def copied(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return copies of tensors."""
    return {name: tensor.clone() for name, tensor in tensors.items()}


def score(samples: int, loss: float) -> Score:
    """Return a score without an error."""
    return Score(samples=samples, seconds=0.0, loss=loss, error=0.0, protocol={"seed": 0})


# The beginning


def test_the_seed_alone_decides_the_first_weights_and_the_callers_stream_is_untouched(
    make: Callable[..., Made],
) -> None:
    made = make()
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    one = made.start()
    assert torch.rand(1) == expected
    torch.manual_seed(99)
    assert same_tensors(live_tensors(one), live_tensors(made.start()))
    of_another_seed = start(made.task, replace(made.recipe, seed=1))
    assert not same_tensors(live_tensors(one), live_tensors(of_another_seed))
    of_another_attempt = start(made.task, made.recipe, attempt=1)
    assert not same_tensors(live_tensors(one), live_tensors(of_another_attempt))


def test_the_average_begins_as_the_generator_and_is_never_trained(make: Callable[..., Made]) -> None:
    state = make().start()
    assert same_tensors(dict(state.generator_ema.state_dict()), dict(state.players.generator.state_dict()))
    assert not any(part.training for part in state.generator_ema.modules())
    assert not any(parameter.requires_grad for parameter in state.generator_ema.parameters())
    assert state.players.generator.training


# What is not finite


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize(
    "place",
    ["generator", "discriminator", "generator_ema", "best_generator", "update.generator", "update.discriminator"],
)
def test_a_number_that_is_not_finite_is_found_wherever_it_is(
    make: Callable[..., Made], place: str, value: float
) -> None:
    made = make()
    state = made.start()
    play(made, state, 2)
    state.best_generator = copy.deepcopy(state.generator_ema)
    assert first_nonfinite(state) is None
    floats = {name: tensor for name, tensor in live_tensors(state).items() if tensor.is_floating_point()}
    name = [name for name in floats if name.startswith(f"{place}.") and floats[name].dim()][-1]
    with torch.no_grad():
        floats[name].view(-1)[-1] = value
    assert first_nonfinite(state) == name


# The journey through a checkpoint


def test_every_part_of_the_state_is_in_a_checkpoint() -> None:
    """A field that somebody adds must be saved, or be named here as one that need not be."""
    as_tensors = {"update", "generator_ema", "best_generator"}
    not_saved = {"saved", "is_unsaved", "named", "recorded", "begun"}
    fields = {field.name for field in dataclasses.fields(TrainingState)}
    saved = set(Values.__struct_fields__)
    assert fields - as_tensors - not_saved <= saved
    assert saved - fields == {"has_best", "monitor"}


@pytest.mark.parametrize("update", UPDATES)
def test_a_state_that_is_taken_back_is_the_one_that_was_saved(make: Callable[..., Made], update: str) -> None:
    made = make(*by_update(update))
    state = made.start()
    play(made, state, 3)
    state.evaluated = state.healthy = 8
    state.seconds = 12.5
    state.attempt = 1
    state.spent += 800
    adjust(state, Adjustments(0.5, 0.25, 0.0, 2.0, 0.1, 0.2, 3))
    state.best_generator = copy.deepcopy(state.players.generator)
    state.sketch = torch.linspace(-1, 1, SKETCH)
    made.monitor.score(score(8, 3.0))
    made.monitor.observe(StepStats(samples=8, **HEALTHY))
    save(state, made.monitor, made.run, run_now)
    tensors = copied(live_tensors(state))
    values = plain_values(state, made.monitor)

    found = checkpoints.latest(made.run.checkpoints)
    assert found is not None
    fresh = made.start()
    monitor = Monitor(made.recipe.stopping, made.recipe.budget)
    take_back(fresh, found, made.recipe, monitor)
    assert same_tensors(tensors, live_tensors(fresh))
    assert plain_values(fresh, monitor) == values
    assert fresh.named == {8}
    play(made, state, 2)
    play(made, fresh, 2)
    assert same_tensors(live_tensors(state), live_tensors(fresh))


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_a_sketch_that_ran_over_costs_no_resume(make: Callable[..., Made], value: float) -> None:
    """JSON has no such number: the checkpoint would be refused."""
    made = make()
    state = made.start()
    state.sketch = torch.full((SKETCH,), value)
    made.save(state, 80)
    found = checkpoints.latest(made.run.checkpoints)
    assert found is not None
    fresh = made.start()
    take_back(fresh, found, made.recipe, made.monitor)
    assert (fresh.samples, fresh.sketch) == (80, None)


def test_a_settled_run_that_moves_to_a_time_budget_stands_at_its_seconds(make: Callable[..., Made]) -> None:
    """Half of the old budget is spent, and a quarter of the new one."""
    made = make()
    state = made.start()
    state.seconds = 25.0
    made.save(state, 2000)
    found = checkpoints.latest(made.run.checkpoints)
    assert found is not None
    assert found.values["intervals"] is None, "nothing of this machine is in the digest of a settled run"
    assert found.values["schedule_seconds"] is None
    recipe = replace(made.recipe, budget=Budget(samples=None, seconds=100.0))
    fresh = start(made.task, recipe)
    take_back(fresh, found, recipe, made.monitor)
    assert loop.share_of_budget(fresh, recipe) == 0.25
    assert fresh.intervals.is_known


@pytest.mark.parametrize("setting", ["networks.width=16", "networks.generator_norm=none", "game.update=simultaneous"])
def test_a_checkpoint_of_other_networks_or_another_optimizer_is_refused_by_its_path(
    make: Callable[..., Made], tmp_path: Path, setting: str
) -> None:
    made = make("game.generator.optimizer=sgd")
    state = made.start()
    play(made, state, 1)
    made.save(state, 80)
    made.run.path.rename(tmp_path / "before")
    other = make(setting)  # by Adam
    found = checkpoints.latest(tmp_path / "before" / "checkpoints")
    assert found is not None
    with pytest.raises(UserError) as caught:
        take_back(other.start(), found, other.recipe, other.monitor)
    assert caught.value.subject == found.path


@pytest.mark.parametrize(
    "change",
    [
        {"samples": 8},
        {"samples": -1},
        {"spent": "many"},
        {"healthy": 0.5},
        {"seconds": -1.0},
        {"adjustments": {"luck": 2.0}},
        {"adjustments": {"generator_rate": "high"}},
        {"intervals": [0.0, 1.0]},
        {"meter": {"accuracy": [1.0]}},
        {"update": {}},
        {"monitor": {}},
        {"of a newer version": 1},
    ],
    ids=str,
)
def test_values_of_a_checkpoint_that_no_training_writes_are_refused(
    make: Callable[..., Made], change: dict[str, Any]
) -> None:
    made = make()
    made.save(made.start(), 80)
    found = checkpoints.latest(made.run.checkpoints)
    assert found is not None
    take_back(made.start(), found, made.recipe, made.monitor)
    with pytest.raises(UserError):
        take_back(made.start(), replace(found, values=found.values | change), made.recipe, made.monitor)


@pytest.mark.parametrize("name", ["update.memory.generator.direction.999", "update.generator.999.exp_avg"])
def test_a_tensor_of_a_weight_that_is_not_there_is_refused(make: Callable[..., Made], name: str) -> None:
    made = make()
    made.save(made.start(), 80)
    found = checkpoints.latest(made.run.checkpoints)
    assert found is not None
    changed = replace(found, tensors=found.tensors | {name: torch.zeros(1)})
    with pytest.raises(UserError):
        take_back(made.start(), changed, made.recipe, made.monitor)


def test_the_checkpoints_that_stay_are_the_last_two_the_best_the_healthy_and_every_nth(
    make: Callable[..., Made],
) -> None:
    made = make("saving.keep=4")
    state = made.start()
    made.monitor.score(score(80, 1.0))
    for samples in range(80, 801, 80):
        if samples == 320:
            made.monitor.observe(StepStats(samples=300, **SKIPPING))
        made.save(state, samples)
    assert state.healthy == 240, "from 320 on, steps were skipped"
    assert made.saved() == [80, 240, 320, 640, 720, 800]


def test_a_place_to_go_back_to_is_one_where_an_uninterrupted_run_saves_too(make: Callable[..., Made]) -> None:
    made = make()
    state = made.start()
    made.save(state, 80)
    made.save(state, 120)  # an interrupt
    assert state.healthy == 80
    state.is_unsaved = True  # a new best
    made.save(state, 136)
    assert state.healthy == 136
    assert not state.is_unsaved


def test_damaged_checkpoints_are_told_and_the_last_good_one_is_restored(make: Callable[..., Made]) -> None:
    made = make("saving.keep=1")
    state = made.start()
    for samples in (80, 160, 240):
        made.save(state, samples)
    for name in ("000000000160", "000000000240"):
        (made.run.checkpoints / name / "tensors.safetensors").write_bytes(b"")
    messages: list[str] = []
    restored = restore(made.task, made.recipe, made.monitor, made.run, messages.append)
    assert restored.samples == restored.saved == 80
    assert len(messages) == 3
    events = logs.records(made.run.events)
    assert [event["samples"] for event in events] == [80, 80]


def test_a_run_without_checkpoints_is_restored_as_it_begins(make: Callable[..., Made]) -> None:
    made = make()
    restored = restore(made.task, made.recipe, made.monitor, made.run, nothing)
    assert (restored.samples, restored.spent, restored.attempt) == (0, 0, 0)
    assert same_tensors(live_tensors(restored), live_tensors(made.start()))


# A remedy


def diverged(made: Made) -> TrainingState:
    """Return a state of 240 samples, whose last checkpoints are of 80, 160 (healthy) and 200."""
    state = made.start()
    made.save(state, 80)
    play(made, state, 2)
    state.best_generator = copy.deepcopy(state.generator_ema)
    made.monitor.score(score(80, 3.0))
    keep(made.run.best, weights(state.generator_ema), score(80, 3.0))
    keep_candidate(made.run, score(80, 3.0), weights(state.generator_ema))
    made.save(state, 160)
    play(made, state, 2)
    made.monitor.score(score(200, 1.0))
    keep(made.run.best, weights(state.generator_ema), score(200, 1.0))
    keep_candidate(made.run, score(200, 1.0), weights(state.generator_ema))
    made.monitor.observe(StepStats(samples=200, **SKIPPING))
    made.save(state, 200)
    state.samples = state.spent = 240
    state.seconds = 30.0
    return state


def test_a_remedy_goes_back_to_the_last_healthy_checkpoint_and_lowers_both_rates(make: Callable[..., Made]) -> None:
    made = make("remedies.rate_factor=0.1")
    state = diverged(made)
    found = checkpoints.latest(made.run.checkpoints, until=160)
    assert found is not None
    rewound = made.roll_back(state)
    assert rewound.samples == 160
    assert same_tensors(live_tensors(rewound), found.tensors)
    assert (rewound.adjustments.generator_rate, rewound.adjustments.discriminator_rate) == (0.1, 0.1)
    assert (rewound.attempt, rewound.spent, rewound.seconds) == (1, 240, 30.0)
    assert made.monitor.best is not None
    assert made.monitor.best.samples == 80
    again = made.roll_back(replace(rewound, samples=300, spent=380))
    assert again.adjustments.generator_rate == pytest.approx(0.01), "each remedy lowers what the one before left"
    assert (again.attempt, again.spent, again.samples) == (2, 380, 160)


@pytest.mark.parametrize("attempt", [0, 1])
def test_tests_of_an_abandoned_attempt_have_spent_their_share_of_alpha(make: Callable[..., Made], attempt: int) -> None:
    made = make()
    state = diverged(made)
    if attempt:
        state.healthy = None  # back to the beginning, where a monitor begins anew
    made.monitor.num_paired = 7
    made.roll_back(state)
    assert made.monitor.num_paired == 7


def test_a_remedy_leaves_nothing_of_the_abandoned_attempt_but_its_events(make: Callable[..., Made]) -> None:
    made = make("saving.keep=1")
    state = diverged(made)
    for samples in (40, 160, 200):
        made.run.log_step(StepStats(samples=samples, **HEALTHY))
        made.run.log_score(score(samples, 1.0), is_best=False)
        made.run.log_event(samples, 1.0, "guard broken", "a message")
        made.run.write_snapshot(samples, b"")
    made.roll_back(state)
    assert made.saved() == [80, 160]
    assert [record["samples"] for record in logs.records(made.run.steps)] == [40, 160]
    assert [samples for samples, _ in made.run.snapshots()] == [40, 160]
    assert [path.name for path in made.run.candidates.iterdir()] == ["80"]
    best = score_in(made.run.best)
    assert best is not None
    assert best.samples == 80
    events = logs.records(made.run.events)
    assert [event["samples"] for event in events] == [40, 160, 200, 240]
    assert (events[-1]["kind"], events[-1]["attempt"]) == ("remedy", 0)
    assert all(number in events[-1]["message"] for number in ("240", "160", "0.5"))


def test_a_remedy_without_a_healthy_checkpoint_begins_again_with_other_weights(make: Callable[..., Made]) -> None:
    made = make()
    made.monitor.observe(StepStats(samples=40, **SKIPPING))
    state = made.start()
    made.save(state, 80)
    state.samples = state.spent = 120
    rewound = made.roll_back(state)
    assert (rewound.samples, rewound.spent, rewound.attempt) == (0, 120, 1)
    assert not same_tensors(live_tensors(rewound), live_tensors(made.start())), "the same weights would diverge again"
    assert same_tensors(live_tensors(rewound), live_tensors(start(made.task, made.recipe, attempt=1)))
    assert made.saved() == []
    assert not made.run.has_saved, "or a resume would take them for lost"
    assert made.monitor.state_dict() == Monitor(made.recipe.stopping, made.recipe.budget).state_dict()
    assert made.run.read_state().status == "running"


def test_a_remedy_skips_a_healthy_checkpoint_that_is_damaged(make: Callable[..., Made]) -> None:
    made = make("saving.keep=1")
    state = diverged(made)
    (made.run.checkpoints / "000000000160" / "tensors.safetensors").write_bytes(b"")
    assert made.roll_back(state).samples == 80
    assert made.saved() == [80]


def test_a_remedy_keeps_the_intervals_that_were_measured_once(make: Callable[..., Made]) -> None:
    made = make("saving.every=none")
    state = made.start()
    assert not state.intervals.is_known
    state.is_unsaved = True
    made.save(state, 80)  # an interrupt, before they are known
    state.intervals = measured_intervals(1000.0, 0.1, made.recipe, step=8)
    state.samples = state.spent = 240
    assert made.roll_back(state).intervals == state.intervals


def test_a_network_in_training_mode_is_rewound_into_training_mode(make: Callable[..., Made]) -> None:
    made = make()
    rewound = made.roll_back(diverged(made))
    norms = [part for part in rewound.players.generator.modules() if isinstance(part, nn.BatchNorm1d)]
    assert norms
    assert all(part.training for part in norms)
    assert not any(part.training for part in rewound.generator_ema.modules())
