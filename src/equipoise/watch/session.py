"""A run that a watch follows: where it stands, what is due, when to stop, and how it is saved and gone back to."""

import contextlib
import itertools
import math
import time
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from equipoise import formatting
from equipoise.errors import UserError
from equipoise.health.stats import Meter, interval_stats
from equipoise.health.telling import told_all
from equipoise.host.clock import Clock
from equipoise.recipe import Recipe
from equipoise.runs.candidates import find, promote, prune, set_later_aside
from equipoise.runs.folder import RunFolder
from equipoise.stopping.monitor import Monitor
from equipoise.stopping.verdicts import Stop
from equipoise.storage.files import read_json, write_json
from equipoise.storage.records import EventKind, NotNegativeInt, RunState, Score, plain
from equipoise.watch.keeping import Keeper
from equipoise.watch.numbers import LOSSES, drop_impossible
from equipoise.watch.raised import is_for_the_loop
from equipoise.watch.saying import Say, in_words, said
from equipoise.watch.settings import intervals_of
from equipoise.watch.writing import Writer

STATE = "watch.json"
SAY_SECONDS = 15.0  # between two lines on how the game is going
SAVE_SECONDS = 10.0  # between two writings of the state where no score comes between
NUM_PINNED = 2  # states last given out by `state_dict`, whose candidates are kept besides the present ones
DIVERGED = (
    "A player's loss has not been finite once for three intervals: the training has diverged, and the present weights "
    "are probably lost. Go back to the best generator, and try lower learning rates."
)


class WatchState(msgspec.Struct, kw_only=True):
    """All that a watch knows of a training, as `watch.json` and `state_dict` hold it."""

    samples: NotNegativeInt = 0
    evaluated: NotNegativeInt = 0  # samples at the last score, also at one that failed
    seconds: float = 0.0
    speed: float | None = None  # samples a second, measured once
    evaluation_seconds: float | None = None  # the price of a score, measured once
    has_accuracy: bool = False  # one was ever given, so that it can be said who is ahead
    is_broken: bool = False  # the last losses were not finite
    meter: dict[str, Any]
    monitor: dict[str, Any]
    sentence: str = ""


class Session:
    """One session of a run that a watch follows; holds all that a later one must find.

    Nothing that happens to it ends a training: what could not be done is an event, and what could not be written is
    tried again.
    """

    def __init__(self, run: RunFolder, recipe: Recipe, monitor: Monitor, say: Say) -> None:
        """Begin at the beginning; `resume` goes to where an earlier session ended."""
        self.run = run
        self.recipe = recipe
        self.monitor = monitor
        self.is_over = False  # closed: nothing is written any more
        self.writer = Writer(run, lambda text: self.event("not written", text))
        self.keeper = Keeper(run, monitor, self.writer, self.event)
        self.now = WatchState(meter={}, monitor={})
        self.stop: Stop | None = None
        self._due_at: float | None = None  # when a score became due
        self._meter = Meter()
        self._clock: Clock | None = None
        self._intervals = intervals_of(recipe, None, None)
        self._pinned: list[list[int]] = []  # samples of the candidates of the states that were given out last
        self._say = say
        self._noted: set[str] = set()  # what was an event once, and is none again
        self._said_at = -math.inf
        self._saved_at = -math.inf

    def resume(self) -> bool:
        """Take back where an earlier session ended; return whether there was one. Raises UserError."""
        state = read_json(self.run.path / STATE)
        if state is None:
            return False
        try:
            self._pinned = msgspec.convert(state.pop("pinned", []), list[list[int]])
        except msgspec.ValidationError as error:
            raise UserError(self.run.path / STATE, f"damaged ({error})", "Restore it from a copy") from None
        self.load(state)
        return True

    @property
    def seconds(self) -> float:
        """Seconds since the first step, over all sessions of the run."""
        if self._clock is None:
            return self.now.seconds
        return self._clock.seconds()

    def halt_clock(self) -> None:
        """Let the clock stand: the training is over."""
        self.now.seconds = self.seconds
        self._clock = None

    def go_on(self) -> None:
        """Go on after an end, as it was: what the end has selected is a candidate as before."""
        self.is_over = False
        self.put_back_best()
        self.save()

    @property
    def is_evaluation_due(self) -> bool:
        """Whether it is time for a score: the first once the speed is known, one an interval, and one at the end."""
        every = self._intervals.evaluate_every
        is_behind = self.now.evaluated < self.now.samples
        if self.stop is not None and self.stop.reason == "budget":
            return is_behind
        if every is None:
            return is_behind and self.now.speed is not None
        return self.now.samples // every > self.now.evaluated // every

    def sentence(self) -> str:
        """Say in one sentence how the game is going."""
        return self.monitor.sentence(knows_game=self.now.has_accuracy or self.now.is_broken)

    def event(self, kind: EventKind, text: str) -> None:
        """Write an event down, and say it."""
        self._log_event(kind, text)
        self.say(f"{kind}: {text}")

    def event_once(self, about: str, kind: EventKind, text: str) -> None:
        """Make an event of something, unless that about the same was one before in this session."""
        if about not in self._noted:
            self._noted.add(about)
            self.event(kind, text)

    def say(self, text: str) -> None:
        """Say a line; that it could not be said is written down, the first time."""
        failure = said(self._say, text)
        if failure is not None and "say" not in self._noted:
            self._noted.add("say")
            self._log_event("not said", f"a line could not be given to say ({failure}); the training goes on")

    @contextlib.contextmanager
    def going_on(self, what: str) -> Iterator[None]:
        """Let nothing that fails meanwhile end the training: it is an event. Ctrl-C goes through."""
        try:
            yield
        except BaseException as error:
            if is_for_the_loop(error):
                raise
            self.event_once(f"{what}: {type(error).__name__}", "watch failed", f"{what}: {in_words(error)}")

    def _log_event(self, kind: EventKind, text: str) -> None:
        samples = self.now.samples
        seconds = self.seconds
        self.writer.log("events.jsonl", None, lambda: self.run.log_event(samples, seconds, kind, text))

    @property
    def waited(self) -> float:
        """Seconds since a score became due, NaN where none is due."""
        return math.nan if self._due_at is None else time.monotonic() - self._due_at

    # Steps and scores

    def step(self, num: int, numbers: Mapping[str, Any]) -> None:
        """Take in a step on `num` real samples with its numbers; on none, a number that is not finite says nothing."""
        self._meter.add(numbers, is_empty=num == 0)
        self.now.has_accuracy |= "accuracy" in numbers
        self.now.samples += num
        is_first = self._clock is None
        clock = self._clock or Clock(self.now.seconds, self.now.samples)  # the first step is over already
        self._clock = clock
        if not is_first and self.now.speed is None and clock.is_warm(self.now.samples, self.recipe.budget):
            self.now.speed = clock.speed(self.now.samples)
            self._set_intervals()
        if self._intervals.is_log_due(self.now.samples, num):
            speed = math.nan
            if not is_first:
                speed = clock.lap(self.now.samples)
            self._log(speed)
        self.decide()
        if self._due_at is None and self.is_evaluation_due:
            self._due_at = time.monotonic()

    def scored(self, seconds: float) -> None:
        """Note that a score was taken, also one that failed, and what it took; then decide, say and save."""
        self.now.evaluated = self.now.samples
        was_due = self._due_at is not None
        self._due_at = None
        if was_due and self.now.evaluation_seconds is None and self.now.speed is not None:
            self.now.evaluation_seconds = seconds
            self._set_intervals()
        self.decide()
        self._show()
        self.save()

    def note_error(self, score: Score) -> None:
        """Learn from a score with a standard error that noise can carry such scores below zero."""
        if self.monitor.metric.signed or not math.isfinite(score.error):
            return
        self.monitor.metric = msgspec.structs.replace(self.monitor.metric, signed=True)
        self.writer.attempt("data.json", self._write_metric)

    def _write_metric(self) -> None:
        data = self.run.read_data()
        if data is not None:
            self.run.write_data(msgspec.structs.replace(data, metrics=(self.monitor.metric,)))

    def decide(self) -> None:
        """Ask for a verdict; a stop stays, and is written down and said once."""
        if self.stop is not None:
            return
        found = self.monitor.verdict(self.now.samples, self.seconds)
        if not isinstance(found, Stop):
            return
        if found.reason == "diverged":  # the monitor's words are for Equipoise's own loop, which refuses such steps
            found = Stop("diverged", DIVERGED)
        self.stop = found
        self._log_event("stop", found.message)
        self.say(f"Time to stop ({found.reason}): {found.message}")

    def _set_intervals(self) -> None:
        self._intervals = intervals_of(self.recipe, self.now.speed, self.now.evaluation_seconds)
        self.writer.attempt("intervals.json", lambda: self.run.write_intervals(self._intervals.record()))

    def _log(self, speed: float) -> None:
        """Write down the means since the last log line; now and then, say how the game is going."""
        stats, mistakes = drop_impossible(interval_stats(self._meter, self.now.samples, self.seconds, speed))
        sums = self._meter.fold()
        missing = {name: 0.0 for name in LOSSES if name not in sums}
        observed = msgspec.structs.replace(stats, **missing)  # a loss that was not given is no sign of divergence
        self.now.is_broken = not (math.isfinite(observed.discriminator_loss) and math.isfinite(observed.generator_loss))
        self.monitor.observe(observed)
        stats = msgspec.structs.replace(stats, diagnoses=self.monitor.diagnoses)
        self.writer.log("steps.jsonl", stats.samples, lambda: self.run.log_step(stats))
        bad = max((sums[name].num_not_finite for name in LOSSES if name in sums), default=0)
        self._meter.clear()
        if bad:
            self.event("not finite", f"{bad} of the last steps had a loss that is not a finite number")
        for name, text in mistakes.items():
            self.event_once(name, "ignored", text)
        if time.monotonic() - self._said_at >= SAY_SECONDS:
            self._show()
        if time.monotonic() - self._saved_at >= SAVE_SECONDS:
            self.save()

    def _show(self) -> None:
        self._said_at = time.monotonic()
        budget = self.recipe.budget
        left = math.nan
        if budget.seconds is not None:
            left = max(0.0, budget.seconds - self.seconds)
        line = formatting.progress_line(
            self.now.samples,
            budget.samples,
            self.now.samples / max(self.seconds, 1e-9),
            left,
            self.monitor.last,
            self.monitor.best,
            self.monitor.metric.shown,
        )
        line = f"{line} · {self.sentence()}"
        if self.monitor.diagnoses:
            line += f" {told_all(self.monitor.diagnoses, len(self.monitor.recent))}."
        self.say(line)

    # Saving, and going back

    def state(self) -> dict[str, Any]:
        """Return all of it as plain JSON."""
        return plain(
            msgspec.structs.replace(
                self.now,
                seconds=self.seconds,
                meter=self._meter.state_dict(),
                monitor=self.monitor.state_dict(),
                sentence=self.sentence(),
            )
        )

    def save(self) -> None:
        """Write what a later session takes back; only then remove the candidates that it no longer speaks of."""
        self._saved_at = time.monotonic()
        if self.is_over:
            return
        self.writer.check_holder()
        self.writer.flush()
        self.keeper.keep_again()
        # First: it says of an ended run that it goes on.
        self.writer.attempt("state.json", lambda: self.run.write_state(self.standing(status="running")))
        if self.writer.attempt(STATE, lambda: write_json(self.run.path / STATE, self._saved())):
            kept = {*itertools.chain(*self._pinned), *self._candidates()}
            self.writer.attempt("candidates", lambda: prune(self.run, kept.__contains__))

    def _saved(self) -> dict[str, Any]:
        return self.state() | {"pinned": self._pinned}

    def standing(self, **values: Any) -> RunState:
        """Return how the run stands."""
        now = self.now
        return RunState(samples=now.samples, spent=now.samples, seconds=self.seconds, best=self.monitor.best, **values)

    def pin(self) -> None:
        """Keep the present candidates for a return to this state."""
        others = [pinned for pinned in self._pinned if pinned != self._candidates()]
        self._pinned = [*others, self._candidates()][-NUM_PINNED:]

    def load(self, state: Mapping[str, Any]) -> None:
        """Take a state back exactly, and cut the run's logs back to it; raises UserError if it is none."""
        meter = Meter()
        try:
            found = msgspec.convert(dict(state), WatchState)
            meter.load_state_dict(found.meter)
        except (msgspec.ValidationError, TypeError, ValueError) as error:
            raise UserError("state", f"is no state of a watch ({error})", "Give what state_dict() returned") from None
        self.monitor.load_state_dict(found.monitor)  # the last that can fail, and it takes all or nothing
        self.now = found
        self._meter = meter
        self._clock = None
        self._due_at = None
        self.stop = None
        self._intervals = intervals_of(self.recipe, found.speed, found.evaluation_seconds)
        self.writer.forget(found.samples)
        self.keeper.forget()
        self.writer.attempt("log", lambda: self.run.cut_logs(found.samples))
        self.put_back_best()
        self.decide()
        self.save()

    def put_back_best(self) -> None:
        """Make `best/` that of the present state again, and set a later one aside; a failing disk is an event."""
        self.writer.attempt("best", self._put_back_best)

    def _put_back_best(self) -> None:
        best = self.monitor.best
        moved = set_later_aside(self.run, self.monitor)
        if moved is not None:
            samples, place = moved
            self.event("set aside", f"a best generator, of {samples:,} samples, that this state does not know: {place}")
        if best is None:
            return
        folder = find(self.run, best)
        if folder is not None:
            promote(self.run, folder)
        elif moved is not None:
            text = (
                f"the best generator of this state, of {best.samples:,} samples, is no longer kept: only those of the "
                f"last {NUM_PINNED} states are. Its score still counts"
            )
            self.event("not found", text)

    def _candidates(self) -> list[int]:
        return [score.samples for score in self.monitor.candidates]
