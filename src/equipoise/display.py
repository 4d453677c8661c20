"""The live display: a panel on a terminal, one plain line now and then elsewhere."""

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

from equipoise.runs import format

if TYPE_CHECKING:
    from equipoise.loop import Progress

PLAIN_SECONDS = 15.0  # between two plain lines
PER_SECOND = 4  # refreshes of the panel


class Display:
    """Shows preparation and training; entered for as long as there is something to show."""

    def __init__(self) -> None:
        self._is_terminal = sys.stdout.isatty()
        self._live: Any = None
        self._last = -float("inf")
        self._stage = ""

    def __enter__(self) -> "Display":
        if self._is_terminal:
            from rich.live import Live

            self._live = Live(refresh_per_second=PER_SECOND, transient=False)
            self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.__exit__(kind, error, trace)

    def preparing(self, stage: str, share: float) -> None:
        """Show that a stage before the training is `share` done."""
        if self._live is not None:
            from rich.text import Text

            self._live.update(Text(f"{stage} … {format.percent(share)}"))
        elif stage != self._stage:
            print(f"{stage} …", flush=True)
        self._stage = stage

    def note(self, text: str) -> None:
        """Show one lasting line."""
        if self._live is not None:
            self._live.console.print(text, highlight=False, markup=False)
        else:
            print(text, flush=True)

    def tell(self, progress: "Progress") -> None:
        """Show where the training stands."""
        if self._live is not None:
            self._live.update(panel(progress))
        elif time.monotonic() - self._last >= PLAIN_SECONDS:
            self._last = time.monotonic()
            print(line(progress), flush=True)


def line(progress: "Progress") -> str:
    """Return the progress and the game's sentence as one plain line."""
    text = format.progress_line(
        progress.samples,
        progress.horizon,
        progress.samples_per_second,
        progress.seconds_left,
        progress.last,
        progress.best,
        progress.metric,
    )
    return f"{text} · {progress.sentence}"


def panel(progress: "Progress") -> Any:
    """Return the progress as a rich panel: a bar, rate and time left, the game in words, last and best score."""
    from rich.console import Group
    from rich.panel import Panel
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    rate = f"{progress.samples_per_second:,.0f} samples/s"
    left = f"{format.duration(progress.seconds_left)} left"
    table.add_row("progress", f"{format.count(progress.samples)} samples · {rate} · {left}")
    table.add_row("game", Text(progress.sentence))
    if progress.last is not None:
        name = progress.metric.upper()
        table.add_row("last", f"{name} {format.score(progress.last, progress.metric)}")
        if progress.best is not None:
            at = f"after {format.count(progress.best.samples)} samples"
            table.add_row("best", f"{name} {format.score(progress.best, progress.metric)}, {at}")
    bar = ProgressBar(total=1.0, completed=progress.share)
    return Panel(Group(bar, "", table), title=progress.name, title_align="left", border_style="dim", width=96)
