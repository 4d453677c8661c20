"""All that training changes, how it begins, how it goes into a checkpoint and comes back, and how it is rewound."""

import copy
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import msgspec
import torch
from torch import Tensor, nn

from equipoise.errors import Command, UserError
from equipoise.game.adjustments import Adjustments
from equipoise.game.signals import SKETCH
from equipoise.game.updates import Update, make_update, samples_per_round
from equipoise.health.remedies import RemedyHistory, Situation, for_non_finite, in_words
from equipoise.health.stats import Meter
from equipoise.health.timeline import spans_beyond
from equipoise.host.intervals import Intervals, measured_intervals, settled_intervals
from equipoise.randomness import stream_seed
from equipoise.recipe import Recipe
from equipoise.runs.candidates import prune, put_back_best, set_attempt_aside
from equipoise.runs.folder import RESTORE, RunFolder
from equipoise.stopping.monitor import Monitor
from equipoise.stopping.verdicts import Remedy
from equipoise.storage import checkpoints
from equipoise.storage.checkpoints import START_FILES, Checkpoint
from equipoise.storage.files import discard, verify
from equipoise.storage.logs import records
from equipoise.storage.records import Condition, Pace, RemedyRecord, RunState, StepStats, lenient
from equipoise.tasks.base import Players, Task

Count = Annotated[int, msgspec.Meta(ge=0)]
Positive = Annotated[float, msgspec.Meta(gt=0)]
Write = Callable[[Callable[[], None]], None]


@dataclass
class TrainingState:
    """All that training changes; everything in here goes into a checkpoint, unless it says otherwise."""

    update: Update  # the players and their optimizers
    generator_ema: nn.Module  # the moving average of the generator: what is evaluated and saved
    intervals: Intervals  # as the recipe asks, or measured once and kept
    samples: int = 0  # the position: real samples shown to D, along this attempt
    spent: int = 0  # the same, those of abandoned attempts included: what the budget counts
    attempt: int = 0  # how often it went back
    remedy_history: RemedyHistory = field(default_factory=RemedyHistory)  # what remedies were tried
    adjustments: Adjustments = field(default_factory=Adjustments)
    evaluated: int = 0  # samples at the last evaluation, also at one that failed
    healthy: int | None = None  # samples of the last checkpoint that a remedy may go back to
    seconds: float = 0.0  # spent in training and evaluating, over all sessions
    schedule_seconds: float | None = None  # the same at the last log line, where schedules of a time budget stand
    threads: int | None = None  # to compute with, where they are chosen by their speed
    meter: Meter = field(default_factory=Meter)
    sketch: Tensor | None = None  # of the last round's joint update, where the next one is compared with it
    best_generator: nn.Module | None = None  # the best so far, which the next one is compared with
    named: set[int] = field(default_factory=set)  # samples of the candidates that the last checkpoint speaks of
    kept: set[int] = field(default_factory=set)  # samples of the checkpoints that stay for good, as the recipe asks
    saved: int = 0  # samples of the last checkpoint, also of one that was refused; not in it
    is_unsaved: bool = False  # something happened that a resume must find; not in it
    begun: int = 0  # samples that the weights had seen before, where they are another run's; not in it, and fixed
    recorded: dict[int, Pace] = field(default_factory=dict)  # what an earlier session measured, by `spent`; not in it

    @property
    def players(self) -> Players:
        """The two networks."""
        return self.update.players


class Values(msgspec.Struct, forbid_unknown_fields=True):
    """What a checkpoint holds besides tensors, as it must be to be taken back."""

    samples: Count
    spent: Count
    attempt: Count
    adjustments: Adjustments
    evaluated: Count
    healthy: Count | None
    seconds: Annotated[float, msgspec.Meta(ge=0)]
    meter: dict[str, Any]
    intervals: tuple[Positive, Positive] | None  # samples a second, seconds of an evaluation
    has_best: bool
    monitor: dict[str, Any]
    update: dict[str, Any]
    schedule_seconds: Annotated[float, msgspec.Meta(ge=0)] | None = None  # None: under a budget in samples
    kept: list[Count] = []
    threads: Annotated[int, msgspec.Meta(ge=1, le=1024)] | None = None
    remedy_history: RemedyHistory | None = None  # None: written before there was one
    sketch: Annotated[list[float], msgspec.Meta(min_length=SKETCH, max_length=SKETCH)] | None = None


def start(task: Task, recipe: Recipe, attempt: int = 0) -> TrainingState:
    """Build networks and optimizers with weights drawn from the recipe's seed."""
    players = drawn(task.players, recipe, attempt)
    generator_ema = copy.deepcopy(players.generator).requires_grad_(False).eval()
    intervals = settled_intervals(recipe, samples_per_round(recipe.game))
    return TrainingState(make_update(recipe.game, players), generator_ema, intervals)


def drawn(make: Callable[[], Players], recipe: Recipe, attempt: int = 0) -> Players:
    """Make networks with weights drawn from the recipe's seed."""
    with torch.random.fork_rng():
        torch.manual_seed(stream_seed(recipe.seed, "weights", 0, attempt))
        return make()


def begin_with(state: TrainingState, run: RunFolder, *, put_weights: bool) -> None:
    """Let a state begin with what its run began with, where that was another run's weights; raises UserError."""
    data = run.read_data()
    if data is None or data.start is None:
        return
    state.begun = data.start.seen
    if not put_weights:
        return
    damage = verify(run.start, START_FILES)
    if damage is not None:
        raise UserError(run.start, f"the weights that this run began with are damaged: {damage}", RESTORE)
    put_start(state, checkpoints.load_tensors(run.start / START_FILES[0]), run.start)


def put_start(state: TrainingState, tensors: dict[str, Tensor], path: Path) -> None:
    """Put the weights of both players and of the average into a fresh state; raises UserError if they do not fit."""
    try:
        for name, module in _modules(state):
            checkpoints.load_module(name, module, tensors)
    except RuntimeError as error:
        raise UserError(path, f"holds the weights of other networks ({error})", RESTORE) from None


def first_nonfinite(state: TrainingState) -> str | None:
    """Return the name of a tensor that holds a number that is not finite, None if all are."""
    return next((name for name, tensor in live_tensors(state).items() if not tensor.isfinite().all()), None)


def save(state: TrainingState, monitor: Monitor, run: RunFolder, write: Write) -> None:
    """Copy everything that a resume needs, and `write` it as one checkpoint."""
    if monitor.is_healthy and _is_planned(state):
        state.healthy = state.samples
    state.saved = state.samples
    state.is_unsaved = False
    keep_every = state.intervals.keep_every
    if keep_every is not None and state.samples % keep_every == 0:
        state.kept.add(state.samples)
    tensors = checkpoints.copied(live_tensors(state))
    values = plain_values(state, monitor)
    samples = state.samples
    now = {score.samples for score in monitor.candidates}
    candidates = now | state.named  # those of the checkpoint before stay, too: a resume may go back to it
    state.named = now
    is_kept = _kept_for_good(state, monitor)

    def job() -> None:
        run.sync_logs()  # first: a power cut must not take lines from the logs that this checkpoint builds on
        checkpoints.save(run.checkpoints, samples, tensors, values, is_kept)
        if not run.has_saved:
            run.write_state(RunState(status="running", has_saved=True))  # if they are lost later, that will be noticed
        prune(run, candidates.__contains__)

    write(job)


def _is_planned(state: TrainingState) -> bool:
    """Return whether a run that nobody interrupts saves here, too: only then may a remedy go back to it."""
    step = samples_per_round(state.update.game, state.adjustments.discriminator_steps)
    return state.is_unsaved or state.intervals.is_saving_due(state.samples, step)


def _kept_for_good(state: TrainingState, monitor: Monitor) -> Callable[[int], bool]:
    """Return which checkpoints stay beside the last two: the best one's, the last healthy one, every n-th if asked."""
    kept = {state.healthy, *state.kept}
    if monitor.best is not None:
        kept.add(monitor.best.samples)
    return kept.__contains__


def live_tensors(state: TrainingState) -> dict[str, Tensor]:
    """Return every tensor that training changes, under the names of the checkpoint; not copies."""
    tensors: dict[str, Tensor] = {}
    for name, module in _modules(state):
        tensors |= checkpoints.module_tensors(name, module)
    return tensors | {f"update.{name}": tensor for name, tensor in state.update.tensors().items()}


def plain_values(state: TrainingState, monitor: Monitor) -> dict[str, Any]:
    """Return everything else that training changes, as values for JSON."""
    return {
        "samples": state.samples,
        "spent": state.spent,
        "attempt": state.attempt,
        "adjustments": asdict(state.adjustments),
        "remedy_history": msgspec.to_builtins(state.remedy_history),
        "evaluated": state.evaluated,
        "healthy": state.healthy,
        "seconds": state.seconds,
        "schedule_seconds": state.schedule_seconds,
        "kept": sorted(state.kept),
        "threads": state.threads,
        "sketch": _plain(state.sketch),
        "meter": state.meter.state_dict(),
        "intervals": state.intervals.measured,
        "has_best": state.best_generator is not None,
        "monitor": monitor.state_dict(),
        "update": state.update.values(),
    }


def _plain(sketch: Tensor | None) -> list[float] | None:
    """Return a sketch as plain numbers; None also where one ran over, which JSON has no number for."""
    if sketch is None or not bool(sketch.isfinite().all()):
        return None
    return sketch.tolist()


def restore(
    task: Task, recipe: Recipe, monitor: Monitor, run: RunFolder, message: Callable[[str], None]
) -> TrainingState:
    """Return a fresh state with the newest good checkpoint in it, and the logs cut back to that; a new run's is fresh.

    `message` is told of damage. Raises UserError where no checkpoint is good, or one does not fit.
    """
    run.tidy()  # first: between two renames the newest checkpoint has another name
    damages: list[str] = []
    state = start(task, recipe)
    found = checkpoints.latest(run.checkpoints, on_damage=damages.append)
    if found is not None:
        take_back(state, found, recipe, monitor)
        checkpoints.prune(
            run.checkpoints, state.samples, _kept_for_good(state, monitor)
        )  # a kill may have prevented it
    begin_with(state, run, put_weights=found is None)
    _match_files(state, monitor, run)
    state.recorded = run.read_paces(state.spent)
    if found is None:
        state.threads = run.first_threads()
    for damage in damages:
        run.log_event(state.samples, state.seconds, "damaged checkpoint", damage, state.attempt)
        message(damage)
    if found is not None:
        message(f"Continuing from the checkpoint at {state.samples:,} samples.")
    return state


def roll_back(
    remedy: Remedy, state: TrainingState, task: Task, recipe: Recipe, monitor: Monitor, run: RunFolder
) -> TrainingState:
    """Return the state of a checkpoint, or a fresh one, with what the remedy changes.

    What was spent stays spent. Nothing is saved here: a run that is killed resumes from a checkpoint before this, meets
    the same condition, and is rolled back the same way.
    """
    rewound = start(task, recipe, state.attempt + 1)
    num_paired = monitor.num_paired
    treatment = remedy.treatment
    if treatment is None:
        treatment = for_non_finite(Situation(recipe, state.adjustments), state.healthy)
    found = checkpoints.latest(run.checkpoints, until=treatment.back_to) if treatment.back_to else None
    if found is None:
        monitor.load_state_dict(Monitor(recipe.stopping, recipe.budget).state_dict())
        run.write_state(RunState(status="running"))  # its checkpoints are about to go, and are not lost
    else:
        take_back(rewound, found, recipe, monitor)
    monitor.num_paired = max(num_paired, monitor.num_paired)  # what was spent of α stays spent
    begin_with(rewound, run, put_weights=found is None)
    rewound.intervals = state.intervals
    adjust(rewound, treatment.adjustments)
    rewound.remedy_history = state.remedy_history.after(remedy.condition)
    rewound.attempt = state.attempt + 1
    rewound.spent = state.spent
    rewound.seconds = state.seconds
    rewound.schedule_seconds = state.schedule_seconds
    rewound.threads = state.threads
    rewound.recorded = state.recorded
    done = _going_back(remedy.condition, in_words(state.adjustments, recipe, treatment), rewound.samples, run)
    text = (
        f"{remedy.message[:1].upper()}{remedy.message[1:]} Went back from {state.samples:,} to {rewound.samples:,} "
        f"samples; {done.changed} "
        f"({rewound.remedy_history.num_tried} of {recipe.remedies.attempts} remedies)."
    )
    kept = set_attempt_aside(run, monitor, state.attempt)
    if kept:
        text += f" The best generator of the abandoned samples is kept in {kept}."
    run.log_event(state.samples, state.seconds, "remedy", text, state.attempt, done)
    for path in checkpoints.named(run.checkpoints):  # or a resume would take an abandoned one for the newest
        if int(path.name) > rewound.samples or found is None:
            discard(path)
    _match_files(rewound, monitor, run)
    return rewound


def _going_back(condition: Condition, changed: str, back_to: int, run: RunFolder) -> RemedyRecord:
    """Return what is remembered of a going back, before the log lines beyond it are cut off."""
    steps = [lenient(StepStats, record) for record in records(run.steps)]
    return RemedyRecord(condition=condition, changed=changed, back_to=back_to, abandoned=spans_beyond(steps, back_to))


def adjust(state: TrainingState, adjustments: Adjustments) -> None:
    """Make these the changes of a game that its remedies have made so far."""
    state.adjustments = adjustments
    game = state.update.game
    if adjustments.penalty and game.weight_clip is not None:  # the penalty is there in its place
        state.update = replace(state.update, game=replace(game, weight_clip=None))
    state.update.set_momentum(adjustments.momentum)


def _match_files(state: TrainingState, monitor: Monitor, run: RunFolder) -> None:
    """Make logs, candidates and `best/` what this state knows of."""
    run.cut_logs(state.samples, state.evaluated)
    prune(run, lambda samples: samples <= state.samples)  # what belongs to evaluations that are taken again
    put_back_best(run, monitor, state.best_generator)
    if state.intervals.is_known:
        run.write_intervals(state.intervals.record())


def take_back(state: TrainingState, found: Checkpoint, recipe: Recipe, monitor: Monitor) -> None:
    """Put a checkpoint into a fresh state and a monitor; raises UserError where it does not fit."""
    try:
        _take_back(state, found, recipe, monitor)
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError, OverflowError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise UserError(
            found.path,
            f"does not fit this run ({reason}): it was written by another version, or for other networks",
            "Resume with the version that wrote it, or start a new run",
            Command("train", recipe.data.source),
        ) from None


def _take_back(state: TrainingState, found: Checkpoint, recipe: Recipe, monitor: Monitor) -> None:
    values = msgspec.convert(found.values, Values)
    if values.samples != int(found.path.name):
        raise ValueError(f"it says that it is of {values.samples} samples")
    if unknown := found.values["adjustments"].keys() - asdict(values.adjustments).keys():
        raise ValueError(f"unknown adjustments {sorted(unknown)}")
    if values.has_best:
        state.best_generator = copy.deepcopy(state.generator_ema)
    for name, module in _modules(state):
        checkpoints.load_module(name, module, found.tensors)
    adjust(state, values.adjustments)  # before its update, which refuses optimizers with another momentum
    of_update = {name.removeprefix("update."): t for name, t in found.tensors.items() if name.startswith("update.")}
    state.update.load(of_update, values.update)
    state.samples = values.samples
    state.kept = set(values.kept)
    state.threads = values.threads
    if values.sketch is not None:
        state.sketch = torch.tensor(values.sketch, device=next(state.players.generator.parameters()).device)
    state.saved = values.samples
    state.spent = values.spent
    state.attempt = values.attempt
    state.remedy_history = values.remedy_history or RemedyHistory(
        {"non-finite": values.attempt} if values.attempt else {}
    )
    state.evaluated = values.evaluated
    state.healthy = values.healthy
    state.seconds = values.seconds
    state.meter.load_state_dict(values.meter)
    if recipe.budget.seconds is not None:
        state.schedule_seconds = values.seconds if values.schedule_seconds is None else values.schedule_seconds
    if not state.intervals.is_known and values.intervals is not None:  # a new budget moves what follows from it
        state.intervals = measured_intervals(*values.intervals, recipe, samples_per_round(recipe.game))
    monitor.load_state_dict(values.monitor)
    state.named = {score.samples for score in monitor.candidates}


def _modules(state: TrainingState) -> list[tuple[str, nn.Module]]:
    found = [
        ("generator", state.players.generator),
        ("discriminator", state.players.discriminator),
        ("generator_ema", state.generator_ema),
    ]
    if state.best_generator is not None:
        found.append(("best_generator", state.best_generator))
    return found
