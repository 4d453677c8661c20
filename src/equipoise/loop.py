"""THE loop: read first. One function trains any task; only here do verdicts become deeds.

Time is counted in samples: real samples shown to the discriminator. Every random draw is a function of
(seed, stream, samples, attempt), so a resumed run continues exactly where it was.
"""

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Protocol, assert_never

import msgspec
import torch

from equipoise import formatting
from equipoise.evaluation.scoring import adopt_protocol, take_score
from equipoise.game.ema import ema_decay, update_ema
from equipoise.game.schedules import scheduled
from equipoise.game.signals import look_at_round
from equipoise.game.steps import needs_graph, refuse_without_second_derivatives
from equipoise.game.terms import StepContext
from equipoise.game.updates import Role, Terms, samples_per_round, step_index
from equipoise.health.stats import interval_stats, present_rate
from equipoise.health.telling import told_all
from equipoise.host.clock import Clock
from equipoise.host.deadline import Abandoned, Deadline
from equipoise.host.device import is_losing
from equipoise.host.intervals import PRICE_OFF, is_far_off, measured_intervals
from equipoise.host.signals import Interruption
from equipoise.host.threads import ThreadChoice, begins_trial, is_lost, observed, put_off
from equipoise.host.writer import BackgroundWriter
from equipoise.randomness import Randomness
from equipoise.recipe import OptimizerSettings, Recipe
from equipoise.repair import adapt_augmentation, repair_due, repaired
from equipoise.runs.candidates import prune, score_of_best
from equipoise.runs.expectation import expectation, expectation_of_rest
from equipoise.runs.folder import RunFolder
from equipoise.state import TrainingState, first_nonfinite, restore, save, start
from equipoise.stopping.monitor import LEAST_PRICE, Monitor
from equipoise.stopping.verdicts import Continue, Remedy, Stop, Verdict, diverged, nonfinite_cause
from equipoise.storage.records import Pace, Score
from equipoise.tasks.base import Judge, Task

TELL_SECONDS = 60.0  # of training between two lines on this machine's speed
LEAST_LEFT = 0.05  # of a budget, below which none of them is shown


@dataclass(frozen=True)
class Progress:
    """What the loop reports about once a second: the position, its price, the scores, and sentences."""

    name: str
    samples: int  # the position
    spent: int  # the same, those of abandoned attempts included: what the horizon counts
    horizon: int  # 0 where the budget is a time
    share: float  # of the budget that is spent, 0 to 1
    samples_per_second: float
    seconds_left: float
    sentence: str
    label: str  # of what decides
    last: Score | None
    best: Score | None
    stopping_status: str = ""
    health: str = ""  # what is wrong, in words
    is_sick: bool = False  # something is wrong


class Observer(Protocol):
    """Whoever shows a training: the live panel, or anything with these three methods."""

    def progress(self, progress: Progress) -> None:
        """Show where the training stands, about once a second."""
        ...

    def stage(self, text: str, share: float) -> None:
        """Show a stage around the training, and the share of it that is done; 0 is not shown."""
        ...

    def message(self, text: str) -> None:
        """Show lasting lines."""
        ...


@dataclass(frozen=True)
class Outcome:
    """How a training ended: the verdict that stopped it, and the state it left."""

    stop: Stop
    state: TrainingState


@dataclass
class Host:
    """What only this process has: signals of the system, the background writer, the clock, threads to choose."""

    interruption: Interruption
    writer: BackgroundWriter
    clock: Clock
    threads: ThreadChoice
    told_at: float = -math.inf  # seconds of training when a change of this machine's speed was shown last
    told_speed: float = math.nan  # samples a second that were shown last

    @property
    def is_interrupted(self) -> bool:
        """Whether a signal asked for a stop."""
        return self.interruption.requested is not None


@contextlib.contextmanager
def hosted(state: TrainingState, recipe: Recipe) -> Iterator[Host]:
    """Lend what a training needs of its process; the caller's random stream stays as it was."""
    threads = thread_choice(state, recipe)
    torch.set_num_threads(threads.now)
    with torch.random.fork_rng(), Interruption() as interruption, BackgroundWriter() as writer:
        yield Host(interruption, writer, Clock(state.seconds, state.spent), threads)


def thread_choice(state: TrainingState, recipe: Recipe) -> ThreadChoice:
    """Return how many threads there are to choose from; one where the recipe says how many, or none computes here."""
    now = torch.get_num_threads()
    is_elsewhere = any(parameter.device.type != "cpu" for parameter in state.players.generator.parameters())
    if recipe.threads is not None or is_elsewhere:
        return ThreadChoice(most=1, settled=now)
    return ThreadChoice(most=now, settled=state.threads or now)


def train(task: Task, recipe: Recipe, run: RunFolder, judge: Judge, monitor: Monitor, observer: Observer) -> Outcome:
    """Train until a verdict says stop; the run folder then holds the best generator and a last checkpoint.

    Each turn first does what is due at its position, then plays one round, so that a resume at any position does what
    the uninterrupted run does. Raises UserError where a run cannot be continued, OSError where it cannot be written.
    """
    state = restore(task, recipe, monitor, run, observer.message)
    adopt_protocol(task, state, judge, monitor, run)
    tell_rest(state, recipe, monitor, observer)
    with hosted(state, recipe) as host:
        while True:
            # Once in a while: evaluate the averaged generator beside the best one.
            if is_evaluation_due(state, recipe, host):
                evaluate(task, recipe, state, judge, monitor, run, host, observer)
            state.seconds = host.clock.seconds()

            # Decide. Here alone.
            verdict = host.interruption.verdict() or monitor.verdict(
                state.spent, state.seconds, state.remedy_history.num_tried
            )
            if isinstance(verdict, Stop) and not host.is_interrupted and state.evaluated < state.samples:
                # What is returned must have been evaluated.
                evaluate(task, recipe, state, judge, monitor, run, host, observer)
                verdict = host.interruption.verdict() or verdict
            if isinstance(verdict, Continue):
                verdict = repair_due(state, recipe, monitor, run, observer.message)

            # Save when due, and at the end; nothing that is not finite.
            if is_saving_due(state, recipe, verdict):
                verdict = save_finite(state, recipe, monitor, run, host, verdict)

            match verdict:
                case Continue():
                    host.writer.check()
                case Remedy() as remedy:
                    host.writer.wait()
                    state = repaired(remedy, state, task, recipe, monitor, run, observer.message)
                    continue
                case Stop() as stop:
                    return ended(stop, state, monitor, run, host)
                case _ as unreachable:
                    assert_never(unreachable)

            # One round of the game.
            progress = share_of_budget(state, recipe)
            set_rates(state, recipe, progress)
            terms = partial(terms_of, task, state, recipe, progress)
            num = step_of(state, recipe)
            with looked_at(state, recipe, num):
                for numbers in state.update.round(terms, state.adjustments.discriminator_steps):
                    state.meter.add(numbers)
            state.samples += num
            state.spent += num
            decay = ema_decay(num, recipe.game.ema_half_life, state.begun + state.samples)
            update_ema(state.generator_ema, state.players.generator, decay)
            state.seconds = host.clock.seconds()

            # About once a second: log.
            if is_log_due(state, num, host):
                observer.progress(log(state, recipe, monitor, run, host))
                keep_pace(state, recipe, monitor, run, host, observer)


# What is due


def is_evaluation_due(state: TrainingState, recipe: Recipe, host: Host) -> bool:
    """Return whether the generator is due for a score; the first is due once this machine's speed can be told."""
    if state.evaluated >= state.samples:
        return False
    if not state.intervals.is_known and state.recorded:
        return state.spent >= min(state.recorded)  # where an earlier session took it
    if not state.intervals.is_known:
        return host.clock.is_warm(state.spent, recipe.budget)
    return state.intervals.is_evaluation_due(state.samples, step_of(state, recipe))


def is_saving_due(state: TrainingState, recipe: Recipe, verdict: Verdict) -> bool:
    """Return whether a checkpoint is due: on its interval, at the end, and where an evaluation changed something."""
    if isinstance(verdict, Remedy):
        return False  # what is about to be abandoned
    due = isinstance(verdict, Stop) or state.intervals.is_saving_due(state.samples, step_of(state, recipe))
    return state.is_unsaved or (due and state.saved < state.samples)


def is_log_due(state: TrainingState, step: int, host: Host) -> bool:
    """Return whether a log line is due: on its interval, and where a number of threads on trial has lost.

    What an earlier session recorded at such a position is met there again.
    """
    if state.intervals.is_log_due(state.samples, step):
        return True
    if not state.intervals.is_known:
        return False
    return state.spent in state.recorded or is_lost(host.threads, *host.clock.since_lap(state.spent))


def step_of(state: TrainingState, recipe: Recipe) -> int:
    """Return the real samples of one round."""
    return samples_per_round(recipe.game, state.adjustments.discriminator_steps)


# What each block does


def evaluate(
    task: Task,
    recipe: Recipe,
    state: TrainingState,
    judge: Judge,
    monitor: Monitor,
    run: RunFolder,
    host: Host,
    observer: Observer,
) -> None:
    """Score the averaged generator; the first time, also settle the intervals, and tell what the budget pays for.

    One that a signal interrupts leaves no trace, and a resume takes it again.
    """
    speed = host.clock.speed(state.spent)
    since = state.samples - state.evaluated
    begin = host.clock.seconds()
    deadline = Deadline(recipe.evaluation.timeout, lambda: host.is_interrupted)
    try:
        score = take_score(task, state, judge, monitor, run, deadline, host.writer.submit)
    except Abandoned:
        return
    finally:
        host.clock.set_apart(host.clock.seconds() - begin)
    if score is not None:
        adapt_augmentation(state, recipe, score, since, run)
    if state.intervals.is_known:
        return
    pace = state.recorded.pop(state.spent, None)
    is_new = False
    if pace is None:
        pace = Pace(
            spent=state.spent,
            seconds=state.seconds,
            samples_per_second=speed,
            evaluation_seconds=first_price(score),
        )
        run.log_pace(pace)
        is_new = True
    follow(pace, state, recipe, run)
    if is_new:
        host.told_speed = speed
        observer.message(expectation(recipe, speed, state.intervals.horizon or 0))
    state.is_unsaved = True  # a resume must find them


def tell_rest(state: TrainingState, recipe: Recipe, monitor: Monitor, observer: Observer) -> None:
    """Tell what is left of the budget where a run goes on, by the speed that it had before."""
    rate = present_rate(monitor.recent, state.intervals.evaluate_every)
    if not rate > 0:
        return
    if recipe.budget.seconds is not None:
        seconds = recipe.budget.seconds - state.seconds
        samples = round(rate * seconds)
    else:
        samples = (state.intervals.horizon or 0) - state.spent
        seconds = samples / rate
    if samples > 0:
        observer.message(expectation_of_rest(recipe, rate, samples, seconds))


def first_price(score: Score | None) -> float:
    """Return how many seconds an evaluation takes: twice the first, as later ones draw from a best generator, too."""
    return 1.0 if score is None else max(LEAST_PRICE, 2 * score.seconds)


def keep_pace(
    state: TrainingState, recipe: Recipe, monitor: Monitor, run: RunFolder, host: Host, observer: Observer
) -> None:
    """Measure how fast the training gets on: from this follow schedules under a time budget, and the intervals.

    What an earlier session measured at this position is followed as it is, so that a resume meets the same values.
    """
    if recipe.budget.seconds is None and state.intervals.measured is None:
        return  # nothing depends on this machine
    pace = state.recorded.pop(state.spent, None)
    if pace is None:
        choose_threads(state, run, host, observer)
        pace = measured_pace(state, monitor, host)
        run.log_pace(pace)  # also where nothing has changed: a resume shall not measure here
        tell_change(pace, state, recipe, run, host, observer)
    elif pace.threads is not None:
        host.threads = ThreadChoice(most=host.threads.most, settled=pace.threads)
    follow(pace, state, recipe, run)


def choose_threads(state: TrainingState, run: RunFolder, host: Host, observer: Observer) -> None:
    """Try another number of threads now and then, and tell where it is faster."""
    before = host.threads
    host.threads = observed(before, *host.clock.last_lap)
    if begins_trial(before, host.threads) and loses_time(host):
        host.threads = put_off(host.threads)
    now = host.threads
    if now.settled == before.settled:
        return
    threads = "1 thread" if now.settled == 1 else f"{now.settled} threads"
    text = (
        f"Training goes on with {threads}, which is {now.speed / before.speed:.1f} times as fast here as "
        f"{before.settled} now ({now.speed:,.0f} samples a second)."
    )
    run.log_event(state.samples, state.seconds, "threads changed", text, state.attempt)
    observer.message(text)


def loses_time(host: Host) -> bool:
    """Return whether a trial that begins is one of more threads, and these are sure to lose now."""
    if host.threads.now <= host.threads.settled:
        return False
    begin = host.clock.seconds()
    is_lost = is_losing(host.threads.now, host.threads.settled)
    host.clock.set_apart(host.clock.seconds() - begin)
    return is_lost


def measured_pace(state: TrainingState, monitor: Monitor, host: Host) -> Pace:
    """Return the time that is spent; the speed and the price of an evaluation, too, where the intervals no longer fit.

    Nothing is told where the recipe asks for all intervals.
    """
    threads = None
    if host.threads.most > 1:
        threads = host.threads.now
    pace = Pace(spent=state.spent, seconds=state.seconds, threads=threads)
    if state.intervals.measured is None:
        return pace
    before, price = state.intervals.measured
    speed_now = host.clock.present_speed()
    if is_far_off(before, speed_now):
        speed_now = host.clock.latest_speed()  # the other one still holds half of what was before
    price_now = monitor.evaluation_seconds()
    is_other_speed = is_far_off(before, speed_now)
    is_other_price = is_far_off(price, price_now, PRICE_OFF)
    if not is_other_speed and not is_other_price:
        return pace
    return msgspec.structs.replace(
        pace,
        samples_per_second=speed_now if is_other_speed else before,
        evaluation_seconds=price_now if is_other_price else price,
    )


def tell_change(
    pace: Pace, state: TrainingState, recipe: Recipe, run: RunFolder, host: Host, observer: Observer
) -> None:
    """Tell that this machine, or an evaluation, has become faster or slower, where it has, and what follows from it.

    On a machine that changes all the time, all of it is in the events, and a line a minute is shown.
    """
    before = state.intervals
    if math.isnan(pace.samples_per_second):
        return
    now = measured_intervals(pace.samples_per_second, pace.evaluation_seconds, recipe, samples_per_round(recipe.game))
    follows = f"Evaluations come about every {formatting.count(now.evaluate_every or 0)} samples from here on"
    left = 1.0
    if recipe.budget.seconds is not None:
        left = max(0.0, recipe.budget.seconds - state.seconds) / recipe.budget.seconds
        follows += f", and the time left pays for about {formatting.count(left * (now.horizon or 0))} samples"
    is_of_speed = pace.samples_per_second != before.samples_per_second
    prices = [formatting.value(found.evaluation_seconds) for found in (pace, before)]
    text = f"An evaluation takes {prices[0]} s now, {prices[1]} s before. {follows}."
    if is_of_speed:
        text = f"{speeds(pace.samples_per_second, before.samples_per_second)} {follows}."
    run.log_event(state.samples, state.seconds, "speed changed", text, state.attempt)
    told = host.told_speed
    is_known = is_of_speed and not math.isnan(told) and not is_far_off(told, pace.samples_per_second)
    if is_known or left < LEAST_LEFT or state.seconds - host.told_at < TELL_SECONDS:
        return
    host.told_at = state.seconds
    if is_of_speed:
        host.told_speed = pace.samples_per_second
        if not math.isnan(told):  # beside what was shown, not what was only an event
            text = f"{speeds(pace.samples_per_second, told)} {follows}."
    observer.message(text)


def speeds(now: float, before: float) -> str:
    """Say how fast this machine trains now, and how fast before."""
    return f"This machine trains {now:,.0f} samples a second now, {before:,.0f} before."


def follow(pace: Pace, state: TrainingState, recipe: Recipe, run: RunFolder) -> None:
    """Move the schedules of a time budget to a measured time, and settle the intervals where they were measured."""
    if recipe.budget.seconds is not None:
        state.schedule_seconds = pace.seconds
    if pace.threads is not None and pace.threads != state.threads:
        state.threads = pace.threads
        torch.set_num_threads(pace.threads)
    if math.isnan(pace.samples_per_second):
        return
    measured = (pace.samples_per_second, pace.evaluation_seconds)
    state.intervals = measured_intervals(*measured, recipe, samples_per_round(recipe.game))
    run.write_intervals(state.intervals.record())


def save_finite(
    state: TrainingState, recipe: Recipe, monitor: Monitor, run: RunFolder, host: Host, verdict: Verdict
) -> Verdict:
    """Save the state and return the verdict; one that holds a number that is not finite is never saved.

    Whatever was to be done, such a state has diverged.
    """
    name = first_nonfinite(state)
    if name is not None:
        state.is_unsaved = False
        state.saved = state.samples
        message = f"{name} is not finite; the last good checkpoint stays the last"
        run.log_event(state.samples, state.seconds, "not saved", message, state.attempt)
        verdict = verdict_on_nonfinite(verdict, name, state, recipe)
    if isinstance(verdict, Stop):  # before the checkpoint, so that no kill comes between
        run.log_event(state.samples, state.seconds, "stop", verdict.message, state.attempt)
    if name is None:
        save(state, monitor, run, host.writer.submit)
    return verdict


def verdict_on_nonfinite(verdict: Verdict, name: str, state: TrainingState, recipe: Recipe) -> Verdict:
    """Return what to do about a state that cannot be saved: the stop that was due, or what a divergence asks for."""
    if isinstance(verdict, Stop):
        return verdict
    return diverged(nonfinite_cause(name), state.remedy_history.num_tried, recipe.remedies, recipe.game)


def ended(stop: Stop, state: TrainingState, monitor: Monitor, run: RunFolder, host: Host) -> Outcome:
    """Wait until all is written, and return how the training ended; raises OSError where it could not be written."""
    run.log_event(state.samples, state.seconds, "stop", stop.message, state.attempt)  # also where nothing was to save
    host.writer.wait()
    stop = host.interruption.verdict() or stop  # a signal may have come while the disk was waited for
    if stop.reason == "interrupted":
        host.interruption.heed()
    else:
        prune(run, {score.samples for score in monitor.candidates}.__contains__)
    return Outcome(stop, state)


@contextlib.contextmanager
def looked_at(state: TrainingState, recipe: Recipe, step: int) -> Iterator[None]:
    """Look closely at the last two rounds before a log line, and take in the signals of the last one."""
    is_last, is_next = (state.intervals.is_log_due(state.samples + ahead * step, step) for ahead in (1, 2))
    if not is_last and not is_next:
        yield
        return
    num_steps = recipe.game.discriminator_steps + state.adjustments.discriminator_steps
    with look_at_round(state.players, state.sketch, is_whole=is_last, discriminator_steps=num_steps) as look:
        yield
    state.sketch = look.sketch if is_next else None
    state.meter.add(look.signals)


def share_of_budget(state: TrainingState, recipe: Recipe) -> float:
    """Return how much of the budget is spent, 0 to 1, which is where schedules stand.

    Of a time, it is what the last log line saw and recorded: a resume meets the same values.
    """
    if recipe.budget.seconds is not None:
        return min(1.0, (state.schedule_seconds or 0.0) / recipe.budget.seconds)
    return min(1.0, state.spent / (state.intervals.horizon or 1))


def set_rates(state: TrainingState, recipe: Recipe, progress: float) -> None:
    """Set both learning rates to their schedules' values times what remedies have made of them, and Adam's second β."""
    rates = {}
    players: list[tuple[Role, OptimizerSettings]] = [
        ("generator", recipe.game.generator),
        ("discriminator", recipe.game.discriminator),
    ]
    for role, settings in players:
        rates[role] = scheduled(settings.rate, settings.rate_end, progress, settings.schedule)
        if settings.beta2_end is not None:
            state.update.set_smoothing(role, scheduled(settings.beta2, settings.beta2_end, progress))
    state.update.set_rates(
        rates["generator"] * state.adjustments.generator_rate,
        rates["discriminator"] * state.adjustments.discriminator_rate,
    )


def terms_of(task: Task, state: TrainingState, recipe: Recipe, progress: float, role: Role, draw: int) -> Terms:
    """Return one player's loss terms at the present weights; draw 0, 1, … of a round is of other samples and latents.

    The global generator, from which dropout draws, is seeded by position.
    """
    samples = state.samples + draw * recipe.game.batch
    randomness = Randomness(recipe.seed, samples, state.attempt)
    seed = randomness.stream_seed(f"{role} dropout")
    torch.default_generator.manual_seed(seed)  # torch.manual_seed does the same in ten times the time
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)
    index = step_index(recipe.game, state.samples, draw)
    step = StepContext(randomness, progress, index, state.adjustments, needs_graph(recipe.game))
    batch = task.batch(randomness, recipe.game.batch)
    if role == "discriminator":
        return task.discriminator_terms(state.players, batch, step)
    return task.generator_terms(state.players, batch, step)


def refuse_impossible_update(task: Task, recipe: Recipe) -> None:
    """Raise UserError where the update needs second derivatives that the task's players do not have."""
    if not needs_graph(recipe.game):
        return
    state = start(task, recipe)
    with torch.random.fork_rng():  # at the end of the budget, as some terms come in later
        refuse_without_second_derivatives(state.update, partial(terms_of, task, state, recipe, 1.0))


def log(state: TrainingState, recipe: Recipe, monitor: Monitor, run: RunFolder, host: Host) -> Progress:
    """Write the means since the last line, let the monitor see them, and return what is to be shown."""
    stats = interval_stats(
        state.meter,
        state.samples,
        state.seconds,
        host.clock.lap(state.spent),
        discriminator_rate=state.update.rate("discriminator"),
        generator_rate=state.update.rate("generator"),
        attempt=state.attempt,
        spent=state.spent,
    )
    state.meter.clear()
    if stats.skipped_steps and not monitor.is_skipping:  # once, until there is an interval without
        text = f"a loss or a gradient was not finite, so {stats.skipped_steps} steps of this interval were skipped"
        run.log_event(stats.samples, stats.seconds, "steps skipped", text, state.attempt)
    monitor.observe(stats)
    state.remedy_history = state.remedy_history.rested()
    run.log_step(msgspec.structs.replace(stats, diagnoses=monitor.diagnoses))
    return progress_of(state, recipe, monitor, score_of_best(run, monitor))


def progress_of(state: TrainingState, recipe: Recipe, monitor: Monitor, best: Score | None) -> Progress:
    """Return what is to be shown after a log line."""
    rate = present_rate(monitor.recent, state.intervals.evaluate_every)
    horizon = 0
    if recipe.budget.seconds is not None:
        left = recipe.budget.seconds - state.seconds
        share = state.seconds / recipe.budget.seconds
    else:
        horizon = state.intervals.horizon or 1
        left = (horizon - state.spent) / max(rate, 1e-9)
        share = state.spent / horizon
    return Progress(
        name=f"{recipe.name} on {recipe.data.source}",
        samples=state.samples,
        spent=state.spent,
        horizon=horizon,
        share=min(1.0, share),
        samples_per_second=rate,
        seconds_left=max(0.0, left),
        sentence=monitor.sentence(),
        label=monitor.metric.shown,
        last=monitor.last,
        best=best,
        stopping_status=monitor.stopping_status(),
        health=told_all(monitor.diagnoses, len(monitor.recent), recipe),
        is_sick=bool(monitor.diagnoses),
    )
