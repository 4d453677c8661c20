"""What comes before a training, and for how long: shown, told once, and written down for who asks meanwhile."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import msgspec

from equipoise import formatting
from equipoise.recipe import Recipe
from equipoise.runs.folder import RunFolder
from equipoise.storage.records import Preparing, RunState

TELL_SECONDS = 2.0  # of a stage, after which it is known how long it will still take
WRITE_SECONDS = 5.0  # between two lines in the run's state

Stage = Callable[[str, float], None]


@dataclass
class Preparation:
    """How far what comes before a training is, and what was said and written of it."""

    folder: RunFolder
    before: RunState  # as the run stood
    budget_left: float  # seconds; NaN of a budget in samples
    show: Stage
    message: Callable[[str], None]
    now: Preparing | None = None
    begun: tuple[float, float] = (0.0, 0.0)  # when the present stage began, and at which share
    is_told: bool = False
    written: float = -math.inf

    def stage(self, text: str, share: float) -> None:
        """Take in that a stage is `share` done, 0 to 1; show it, and tell and write down how long it will take."""
        now = time.monotonic()
        if self.now is None or self.now.what != text:
            self.begun = (now, share)
            self.is_told = False
        seconds, first = now - self.begun[0], share - self.begun[1]
        left = math.nan
        if seconds >= TELL_SECONDS and first > 0:
            left = seconds * (1 - share) / first
        self.now = Preparing(what=text, share=share, seconds_left=left)
        self.show(f"preparing {after(self.budget_left)}: {text}", share)
        if math.isfinite(left) and not self.is_told:
            self.is_told = True
            self.message(told(self.now, self.budget_left))
        if now - self.written >= WRITE_SECONDS:
            self.written = now
            self.write()

    def write(self) -> None:
        """Write down how far it is; it is for readers, so a disk that takes nothing ends no training."""
        with contextlib.suppress(OSError):
            self.folder.write_state(msgspec.structs.replace(self.before, preparing=self.now))


@contextlib.contextmanager
def preparing(folder: RunFolder, recipe: Recipe, show: Stage, message: Callable[[str], None]) -> Iterator[Stage]:
    """Lend what to tell of the stages before a training of a run that the caller holds; an end of it is told, too."""
    before = folder.read_state()
    budget_left = math.nan
    if recipe.budget.seconds is not None:
        budget_left = max(0.0, recipe.budget.seconds - before.seconds)
    preparation = Preparation(folder, before, budget_left, show, message)
    try:
        yield preparation.stage
    except KeyboardInterrupt:
        if preparation.now is not None:
            preparation.write()
            done = formatting.percent(preparation.now.share)
            message(f"Interrupted at {done} of: {preparation.now.what}. A resume of {folder.path} goes on from there.")
        raise


def told(now: Preparing, budget_left: float) -> str:
    """Say how long what comes before a training takes, and how long all of it."""
    text = f"Preparing {after(budget_left)}: {now.what}; about {formatting.duration(now.seconds_left)} more"
    if math.isnan(budget_left):
        return f"{text}. The budget does not count it."
    whole = formatting.duration(now.seconds_left + budget_left)
    return f"{text}. The budget does not count it, so all of it takes about {whole}."


def after(budget_left: float) -> str:
    """Name the training that follows, by its time where that is known."""
    if math.isnan(budget_left):
        return "the training"
    return f"{formatting.duration(budget_left)} of training"
