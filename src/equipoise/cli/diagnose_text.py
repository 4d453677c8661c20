"""What a log says of a game, on one screen."""

import textwrap

from equipoise import formatting
from equipoise.cli.explain_text import can_show
from equipoise.formatting import printable
from equipoise.health.telling import told
from equipoise.runs.diagnosed import Diagnosed

WIDTH = 80
BAR = 32
NAME = 28
LOSSES = {"generator_loss", "discriminator_loss"}


def diagnose_text(found: Diagnosed) -> str:
    """Return what is wrong, since when and why, a timeline of conditions, and what could not be looked at."""
    of = f"{formatting.count(found.begin)} to {formatting.count(found.end)} {found.unit}"
    lines = _filled(f"{printable(found.source)}: {found.num_lines:,} log lines, {of}")
    if not found.diagnoses:
        alone = " Losses alone tell little." if set(found.read.values()) <= LOSSES and found.read else ""
        lines += ["", f"No sign of trouble at its end.{alone}"]
    for one in found.diagnoses:
        lines += ["", *_filled(told(one, found.unit))]
        lines.append(f"  More: equipoise explain {one.condition}")
    if found.spans:
        lines += ["", "What was told along the log:"]
        lines += [_row(condition, found) for condition in dict.fromkeys(span.condition for span in found.spans)]
    present = {one.condition for one in found.diagnoses}
    for one in (one for condition, one in found.last_told.items() if condition not in present):
        lines += ["", *_filled(f"Over now: {told(one, found.unit)}")]
    if found.read:
        columns = ", ".join(f"{printable(name)} ({kind.replace('_', ' ')})" for name, kind in found.read.items())
        lines += ["", *_filled(f"Read: {columns}")]
    if found.missing:
        unknown = [*found.missing, "how far steps go", "the variety of a batch"]
        lines += _filled(f"Not in this log, so not looked at: {', '.join(unknown)}.")
    return "\n".join(lines)


def _row(condition: str, found: Diagnosed) -> str:
    """Return a condition's name and a bar of the log in which its stretches are full."""
    length = max(1, found.end - found.begin)
    idle, full = ("·", "█") if can_show("·█") else (".", "#")
    cells = [idle] * BAR
    for span in found.spans:
        if span.condition == condition:
            first = (span.begin - found.begin) * (BAR - 1) // length
            last = (span.end - found.begin) * (BAR - 1) // length
            cells[max(0, first) : last + 1] = full * (last + 1 - max(0, first))
    return f"  {condition:{NAME}s} {''.join(cells)}"


def _filled(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, subsequent_indent="  ", break_on_hyphens=False)
