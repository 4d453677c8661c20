"""The live display: a panel on a terminal, one plain line now and then elsewhere."""

import contextlib
import math
import os
import sys
import textwrap
import time
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO

from equipoise import formatting
from equipoise.formatting import printable as printable

if TYPE_CHECKING:
    from equipoise.loop import Progress

PLAIN_SECONDS = 15.0  # between two plain lines
STAGE_SECONDS = 0.1  # between two refreshes of a stage's share
WIDTH = 96  # columns of the panel, at most
SENTENCE = 150  # letters of a long sentence about the game
OUTLOOK = 140  # and of one about the stopping
BEST = 64  # and of the best score


class Display:
    """Shows preparation and training; entered for as long as there is something to show."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._is_terminal = is_terminal(self._stream)
        self._live: Any = None
        self._told: Progress | None = None
        self._is_told = True  # nothing waits to be printed
        self._stage = ""
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
        elif self._told is not None and not self._is_told and error is None:
            self._print(line(self._told))

    def preparing(self, stage: str, share: float) -> None:
        """Show that a stage around the training is `share` done, 0 to 1; 0 is not shown."""
        now, is_new = time.monotonic(), stage != self._stage
        text = f"{stage} … {formatting.percent(share)}" if share > 0 else f"{stage} …"
        self._stage = stage
        if self._live is not None:
            if is_new or share >= 1 or now - self._last >= STAGE_SECONDS:
                self._last = now
                self._draw(text)
        elif is_new and not self._is_told and self._told is not None:
            self._is_told = True
            self._print(line(self._told))
            self._print(f"{stage} …")
        elif is_new or (share > 0 and now - self._last >= PLAIN_SECONDS):
            self._last = now
            self._print(f"{stage} …" if is_new else text)

    def note(self, text: str) -> None:
        """Show one lasting line."""
        if self._live is not None:
            with in_vain(self._stream):
                self._live.console.print(printable(text), highlight=False, markup=False, emoji=False)
        else:
            self._print(text)

    def tell(self, progress: "Progress") -> None:
        """Show where the training stands."""
        is_first, self._told, self._is_told = self._told is None, progress, False
        if self._live is not None:
            self._draw()
        elif is_first or time.monotonic() - self._last >= PLAIN_SECONDS:
            self._last, self._is_told = time.monotonic(), True
            self._print(line(progress))

    def _draw(self, stage: str = "") -> None:
        from rich.console import Group
        from rich.text import Text

        parts: list[Any] = []
        if self._told is not None:
            parts.append(panel(self._told, min(WIDTH, self._live.console.width)))
        if stage or not parts:
            parts.append(Text(printable(stage)))
        with in_vain(self._stream):
            self._live.update(Group(*parts), refresh=True)

    def _print(self, text: str) -> None:
        with in_vain(self._stream):
            print(printable(text), file=self._stream, flush=True)


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


def line(progress: "Progress") -> str:
    """Return the progress and the game's sentence as one plain line."""
    text = formatting.progress_line(
        progress.samples,
        progress.horizon,
        progress.samples_per_second,
        progress.seconds_left,
        progress.last,
        progress.best,
        progress.metric,
    )
    return f"{text} · {progress.sentence}"


def panel(progress: "Progress", width: int) -> Any:
    """Return the progress as a rich panel: a bar, rate and time left, last and best score, the game in words.

    Its height does not change from one moment to the next.
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
    head.add_row(bar, formatting.percent(progress.share))
    body = Table.grid(padding=(0, 2))
    body.add_column(style="dim", no_wrap=True)
    body.add_column()
    for label, text in _rows(progress, width):
        body.add_row(label, Text(text))
    title = Text(printable(progress.name), overflow="ellipsis", no_wrap=True)
    return Panel(Group(head, "", body), title=title, title_align="left", border_style="dim", width=width)


def _rows(progress: "Progress", width: int) -> list[tuple[str, str]]:
    samples = formatting.count(progress.samples)
    if progress.horizon:
        samples += f" of {formatting.count(max(progress.samples, progress.horizon))}"
    parts = [f"{samples} samples", f"{progress.samples_per_second:,.0f} a second"]
    parts.append(f"{formatting.duration(progress.seconds_left)} left")
    name, last, best = progress.metric.upper(), progress.last, progress.best
    score = f"{name} {formatting.score(last, progress.metric)}, lower is better" if last else "none yet"
    if best is None:
        best_text = "none yet"
    elif last is not None and best.samples == last.samples:
        best_text = "the last score"
    else:
        best_text = f"{name} {formatting.score(best, progress.metric)}, after {formatting.count(best.samples)} samples"
        if last is not None and formatting.is_lower_uncertified(last, best, progress.metric):
            best_text += "; the last not certified"
    columns = max(20, width - 16)
    best_lines = textwrap.wrap(best_text, columns)
    best_lines += [""] * (math.ceil(BEST / columns) - len(best_lines))
    game = textwrap.wrap(printable(progress.sentence), columns)
    game += [""] * (math.ceil(SENTENCE / columns) - len(game))
    outlook = textwrap.wrap(progress.outlook, columns)
    outlook += [""] * (math.ceil(OUTLOOK / columns) - len(outlook))
    return [
        ("progress", " · ".join(parts)),
        ("last score", score),
        ("best score", "\n".join(best_lines)),
        ("game", "\n".join(game)),
        *([("stopping", "\n".join(outlook))] if progress.outlook else []),
    ]
