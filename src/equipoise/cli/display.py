"""The live display: a panel on a terminal, one plain line now and then elsewhere."""

import contextlib
import dataclasses
import math
import os
import sys
import textwrap
import time
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

from equipoise import formatting
from equipoise.cli.text import POLICIES
from equipoise.formatting import printable, printable_lines
from equipoise.health.telling import told_all

if TYPE_CHECKING:
    from equipoise.loop import Progress
    from equipoise.runs.status import Status

PLAIN_SECONDS = 15.0  # between two plain lines
STAGE_SECONDS = 0.1  # between two refreshes of a stage's share
LEFT_SECONDS = 2.0  # of a stage, after which it is told how long it will still take
WIDTH = 96  # columns of the panel, at most
SENTENCE = 165  # letters of a long sentence about the game
STOPPING = 162  # and of one about the stopping
BEST = 80  # and of the best score
EARLY = {  # what ended a training before its budget, in words
    **{policy: f"by the policy {policy}" for policy in POLICIES},
    "diverged": "as it diverged",
    "not-repaired": "as its game could not be repaired",
    "evaluation-failed": "as its evaluations failed",
}


@dataclasses.dataclass(frozen=True)
class Ending:
    """How a training ended: its time, and where it ended before its budget was spent, that in words."""

    seconds: float
    early: str = ""


class Display:
    """Shows preparation and training; entered for as long as there is something to show."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._is_terminal = is_terminal(self._stream)
        self._live: Any = None
        self._progress: Progress | None = None
        self._ending: Ending | None = None
        self._is_shown = True  # nothing waits to be printed
        self._stage = ""
        self._begun = (0.0, 0.0)  # when the present stage began, and at which share
        self._last = -float("inf")

    def __enter__(self) -> "Display":
        if self._is_terminal:
            from rich.console import Console
            from rich.live import Live
            from rich.text import Text

            # Drawn when there is news, by the thread that trains: a thread of its own would take its turns from it.
            self._live = Live(Text(""), console=Console(file=self._stream), auto_refresh=False)
            self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._stage = ""
            self._draw()
            with in_vain(self._stream):
                self._live.__exit__(kind, error, trace)
        elif self._progress is not None and not self._is_shown and error is None:
            self._print(line(self._progress, self._ending))

    def stage(self, text: str, share: float) -> None:
        """Show that a stage around the training is `share` done, 0 to 1; 0 is not shown."""
        now = time.monotonic()
        is_new = text != self._stage
        begun = f"{text} …"
        if is_new:
            self._begun = (now, share)
        done = begun
        if share > 0:
            done = f"{begun} {formatting.percent(share)}{self._left(now, share)}"
        self._stage = text
        if self._live is not None:
            if is_new or share >= 1 or now - self._last >= STAGE_SECONDS:
                self._last = now
                self._draw(done)
        elif is_new and not self._is_shown and self._progress is not None:
            self._is_shown = True
            self._print(line(self._progress))
            self._print(begun)
        elif is_new or (share > 0 and now - self._last >= PLAIN_SECONDS):
            self._last = now
            if is_new:
                done = begun
            self._print(done)

    def _left(self, now: float, share: float) -> str:
        """Say how long the present stage will still take at its speed so far, once that can be told."""
        begun, first = self._begun
        if now - begun < LEFT_SECONDS or share <= first:
            return ""
        return f", {formatting.duration((now - begun) * (1 - share) / (share - first))} left"

    def message(self, text: str) -> None:
        """Show lasting lines."""
        if self._live is not None:
            with in_vain(self._stream):
                self._live.console.print(printable_lines(text), highlight=False, markup=False, emoji=False)
        else:
            self._print(text)

    def progress(self, progress: "Progress") -> None:
        """Show where the training stands."""
        is_first = self._progress is None
        self._progress = progress
        self._is_shown = False
        if self._live is not None:
            self._draw()
        elif is_first or time.monotonic() - self._last >= PLAIN_SECONDS:
            self._last = time.monotonic()
            self._is_shown = True
            self._print(line(progress))

    def ended(self, now: "Status") -> None:
        """Show a training as its run's folder says that it ended, in place of where it last stood."""
        if self._progress is None:
            return
        share = self._progress.share if now.share is None else now.share
        self._progress = dataclasses.replace(
            self._progress,
            samples=now.samples,
            spent=now.spent,
            share=share,
            seconds_left=math.nan,
            last=now.last,
            best=now.best,
            sentence=now.diagnosis,
            health=told_all(now.diagnoses, now.num_lines, None if now.is_custom_loop else now.recipe),
            is_sick=bool(now.diagnoses),
            stopping_status=now.stopping_status,
        )
        self._ending = Ending(now.seconds, _early(now, share))
        self._is_shown = False

    def _draw(self, stage: str = "") -> None:
        from rich.console import Group
        from rich.text import Text

        parts: list[Any] = []
        if self._progress is not None:
            parts.append(panel(self._progress, min(WIDTH, self._live.console.width), self._ending))
        if stage or not parts:
            parts.append(Text(printable(stage)))
        with in_vain(self._stream):
            self._live.update(Group(*parts), refresh=True)

    def _print(self, text: str) -> None:
        with in_vain(self._stream):
            print(printable_lines(text), file=self._stream, flush=True)


@contextlib.contextmanager
def in_vain(stream: TextIO) -> Iterator[None]:
    """Go on in silence where what is shown can no longer be: a closed pipe, a terminal that is gone, a full disk."""
    try:
        yield
    except OSError:
        silence(stream)


def silence(stream: TextIO) -> None:
    """Send nowhere what a stream has still to show; one without a descriptor has nothing to be sent elsewhere."""
    with contextlib.suppress(OSError):
        descriptor = stream.fileno()
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), descriptor)


def is_terminal(stream: TextIO) -> bool:
    """Return whether a stream is a terminal on which lines can be redrawn."""
    return stream.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")


def _early(now: "Status", share: float) -> str:
    """Say where and by what a training ended before its budget was spent; empty where it was, or a signal came."""
    if now.stop_reason not in EARLY:
        return ""
    return f"ended at {formatting.percent(share)} of the budget, {EARLY[now.stop_reason]}"


def line(progress: "Progress", ending: Ending | None = None) -> str:
    """Return the progress and the game's sentence as one plain line."""
    text = formatting.progress_line(
        progress.spent,
        progress.horizon if ending is None else None,  # of an ended one, the share of the budget comes first
        progress.samples_per_second,
        progress.seconds_left,
        progress.last,
        progress.best,
        progress.label,
    )
    if ending is not None:
        text = f"{ending.early or f'{formatting.percent(progress.share)} of the budget'} · {text}"
    text = f"{text} · {progress.sentence}"
    return f"{text} {progress.health}." if progress.is_sick else text


def panel(progress: "Progress", width: int, ending: Ending | None = None) -> Any:
    """Return the progress as a rich panel: a bar, rate and time left, last and best score, the game in words.

    Its height does not change from one moment to the next. A training that ended early has words in place of the bar,
    which would look as if something were left to do.
    """
    from rich.console import Group
    from rich.panel import Panel
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    head = Table.grid(padding=(0, 2), expand=True)
    head.add_column(ratio=1)
    head.add_column(no_wrap=True, justify="right")
    bar = ProgressBar(total=1.0, completed=progress.share, complete_style="cyan", finished_style="cyan")
    if ending is not None and ending.early:
        head.add_row(Text(ending.early, overflow="ellipsis", no_wrap=True), "")
    else:
        head.add_row(bar, formatting.percent(progress.share))
    body = Table.grid(padding=(0, 2))
    body.add_column(style="dim", no_wrap=True)
    body.add_column()
    for label, text in _rows(progress, width, ending):
        body.add_row(label, Text(text))
    title = Text(printable(progress.name), overflow="ellipsis", no_wrap=True)
    return Panel(Group(head, "", body), title=title, title_align="left", border_style="dim", width=width)


def _rows(progress: "Progress", width: int, ending: Ending | None) -> list[tuple[str, str]]:
    samples = formatting.count(progress.spent)
    if progress.horizon:
        samples += f" of {formatting.count(max(progress.spent, progress.horizon))}"
    parts = [f"{samples} samples", f"{progress.samples_per_second:,.0f} a second"]
    if ending is None:
        parts.append(f"{formatting.duration(progress.seconds_left)} left")
    else:
        parts.append(f"in {formatting.duration(ending.seconds)}")
    last = "none yet"
    if progress.last is not None:
        last = f"{progress.label} {formatting.score(progress.last)}, lower is better"
    columns = max(20, width - 16)
    rows = [
        ("progress", " · ".join(parts)),
        ("last score", last),
        ("best score", _padded(_best(progress), columns, BEST)),
        ("game", _padded(progress.sentence, columns, SENTENCE)),
        ("health", "\n".join(textwrap.wrap(printable(progress.health), columns))),
    ]
    if progress.stopping_status:
        rows.append(("stopping", _padded(progress.stopping_status, columns, STOPPING)))
    return rows


def _best(progress: "Progress") -> str:
    last = progress.last
    best = progress.best
    if best is None:
        return "none yet"
    if last is not None and best.samples == last.samples:
        return "the last score"
    text = f"{progress.label} {formatting.score(best)}, after {formatting.count(best.samples)} samples"
    if last is not None and formatting.is_lower_not_significant(last, best):
        text += "; the last is lower, not significantly"
    return text


def _padded(text: str, columns: int, longest: int) -> str:
    """Break a text into as many lines as one of so many letters takes, so that the panel keeps its height."""
    lines = textwrap.wrap(printable(text), columns)
    return "\n".join([*lines, *[""] * (math.ceil(longest / columns) - len(lines))])
