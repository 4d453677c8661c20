"""What a watch writes into its folder: a disk that does not take it now, or ever, ends no training."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from equipoise.errors import what_failed
from equipoise.runs.folder import RunFolder
from equipoise.storage.locks import Holder
from equipoise.watch.raised import is_for_the_loop
from equipoise.watch.saying import in_words

MOST_WAITING = 10_000  # log lines that wait in memory for a disk

Notice = Callable[[str], None]


@dataclass(frozen=True)
class Line:
    """One line of a log, to be written."""

    log: str
    samples: int | None  # where it was taken; None: it stays, wherever the run goes back to
    write: Callable[[], None]


class Writer:
    """Writes what a watch has to write; what the disk does not take is told once, and lines of logs wait for it."""

    def __init__(self, run: RunFolder, notice: Notice) -> None:
        """Write for the run that is held now; `notice` is called with what could not be written, and why."""
        self._run = run
        self._notice = notice
        self._holder: Holder | None = run.holder()
        self._waiting: deque[Line] = deque(maxlen=MOST_WAITING)
        self._failing: set[str] = set()  # what the disk did not take when it was last tried
        self.is_lost = False  # somebody else holds the folder: nothing more is written

    def log(self, log: str, samples: int | None, write: Callable[[], None]) -> None:
        """Append a line to a log, after those that wait; raises nothing."""
        line = Line(log, samples, write)
        self.check_holder()
        if log in self._failing or not self.attempt(log, write):
            self._waiting.append(line)

    def flush(self) -> None:
        """Try again to write the lines that wait, those of each log in their order."""
        refused: set[str] = set()
        kept: list[Line] = []
        for line in self._waiting:
            if line.log in refused or not self.attempt(line.log, line.write):
                refused.add(line.log)
                kept.append(line)
        self._waiting = deque(kept, maxlen=MOST_WAITING)

    def forget(self, beyond: int) -> None:
        """Drop the lines that wait, but those of no place and those of up to so many samples."""
        kept = [line for line in self._waiting if line.samples is None or line.samples <= beyond]
        self._waiting = deque(kept, maxlen=MOST_WAITING)

    def attempt(self, what: str, write: Callable[[], object]) -> bool:
        """Write something now and return whether it is written; raises nothing."""
        if self.is_lost:
            return False
        try:
            write()
        except BaseException as error:
            if is_for_the_loop(error):
                raise
            if what not in self._failing:
                self._failing.add(what)
                self._notice(f"{what}: {why(error)}; the training goes on, and it is tried again")
            return False
        self._failing.discard(what)
        return True

    def check_holder(self) -> None:
        """Stop writing where somebody else trains in this folder by now: it was removed, and made again."""
        holder = self._run.holder()
        if self.is_lost or holder in (None, self._holder) or self._holder is None:
            return
        self.is_lost = True
        self._notice(f"another process trains in {self._run.path} by now, so nothing more is written there")


def why(error: BaseException) -> str:
    """Return why something could not be written, in words."""
    if isinstance(error, OSError) and not isinstance(error, TimeoutError):
        return what_failed(error)
    return in_words(error)
