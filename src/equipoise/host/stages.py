"""The stages before and after a training: shown, their time told, and written down for who asks meanwhile."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec

from equipoise import formatting
from equipoise.errors import RunInterrupted
from equipoise.recipe import Recipe
from equipoise.runs.folder import RunFolder
from equipoise.storage.records import RunState, StageRecord

TELL_SECONDS = 2.0  # of a stage, after which it is known how long it will still take
WRITE_SECONDS = 5.0  # between two writes of one stage into the run's state

Stage = Callable[[str, float], None]


@dataclass
class Stages:
    """How far the stage is that a run is in, and what was told and written of it."""

    folder: RunFolder
    before: RunState  # as the run stood
    show: Callable[[StageRecord], None]
    tell: Callable[[StageRecord], None]
    is_after: bool = False
    now: StageRecord | None = None
    begun: tuple[float, float] = (0.0, 0.0)  # when the present stage began, and at which share
    is_told: bool = False
    written: float = -math.inf

    def stage(self, text: str, share: float) -> None:
        """Take in that a stage is `share` done, 0 to 1; show it, and tell and write down how long it will take."""
        now = time.monotonic()
        is_new = self.now is None or self.now.what != text
        if is_new:
            self.begun = (now, share)
            self.is_told = False
        seconds = now - self.begun[0]
        done = share - self.begun[1]
        left = math.nan
        if seconds >= TELL_SECONDS and done > 0:
            left = seconds * (1 - share) / done
        self.now = StageRecord(what=text, share=share, seconds_left=left, is_after=self.is_after)
        self.show(self.now)
        if math.isfinite(left) and not self.is_told:
            self.is_told = True
            self.tell(self.now)
        if is_new or now - self.written >= WRITE_SECONDS:
            self.write(self.now)

    def write(self, now: StageRecord | None) -> None:
        """Write down the stage, or that it is over; it is for readers, so a disk that takes nothing ends no run."""
        self.written = time.monotonic()
        with contextlib.suppress(OSError):
            self.folder.write_state(msgspec.structs.replace(self.before, stage=now))


@contextlib.contextmanager
def recorded(stages: Stages) -> Iterator[Stage]:
    """Lend what to tell of stages; raises RunInterrupted, which says in which one, for a KeyboardInterrupt."""
    try:
        yield stages.stage
    except KeyboardInterrupt as error:
        if stages.now is None:
            raise
        stages.write(stages.now)
        raise RunInterrupted(stages.folder.path, _named(stages.now)) from error
    if stages.now is not None:
        stages.write(None)


@contextlib.contextmanager
def preparing(folder: RunFolder, recipe: Recipe, show: Stage, message: Callable[[str], None]) -> Iterator[Stage]:
    """Lend what to tell of the stages before a training of a run that the caller holds; the time left is told once."""
    before = folder.read_state()
    budget_left = math.nan
    if recipe.budget.seconds is not None:
        budget_left = max(0.0, recipe.budget.seconds - before.seconds)

    def shown(now: StageRecord) -> None:
        show(f"preparing {after(budget_left)}: {now.what}", now.share)

    def tell(now: StageRecord) -> None:
        message(told(now, budget_left))

    with recorded(Stages(folder, before, shown, tell)) as stage:
        yield stage


@contextlib.contextmanager
def at_training(folder: RunFolder, show: Stage, *, is_after: bool) -> Iterator[Stage]:
    """Lend what to tell of the stages just before a training, or after it, of a run that the caller holds."""

    def shown(now: StageRecord) -> None:
        show(now.what, now.share)

    with recorded(Stages(folder, folder.read_state(), shown, lambda now: None, is_after)) as stage:
        yield stage


@contextlib.contextmanager
def interruptible(folder: RunFolder) -> Iterator[None]:
    """Raise RunInterrupted, which names the run, for every KeyboardInterrupt while entered."""
    try:
        yield
    except RunInterrupted:
        raise
    except KeyboardInterrupt as error:
        raise RunInterrupted(folder.path) from error


def _named(now: StageRecord) -> str:
    """Name a stage, with how far it is where that is known."""
    if now.share > 0:
        return f"{now.what} ({formatting.percent(now.share)} done)"
    return now.what


def told(now: StageRecord, budget_left: float) -> str:
    """Say how long what comes before a training takes, how long that and the training take, and what follows."""
    text = f"Preparing {after(budget_left)}: {now.what}; about {formatting.duration(now.seconds_left)} more"
    if math.isnan(budget_left):
        return f"{text}. The budget counts neither it nor the evaluation at the end."
    whole = formatting.duration(now.seconds_left + budget_left)
    return (
        f"{text}. The budget does not count it, so both take about {whole} together; the evaluation at the end "
        "comes on top."
    )


def after(budget_left: float) -> str:
    """Name the training that follows, by its time where that is known."""
    if math.isnan(budget_left):
        return "the training"
    return f"{formatting.duration(budget_left)} of training"
