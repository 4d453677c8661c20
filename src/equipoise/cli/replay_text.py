"""What stopping policies would have saved, as text."""

import math
from collections.abc import Sequence

from equipoise import formatting
from equipoise.cli.text import WIDTH, counted, table
from equipoise.errors import listed
from equipoise.runs.replay import Replayed, Summary
from equipoise.runs.replay_read import Series

HEADINGS = ("policy", "runs", "saved", "within 2 %", "within 5 %", "mean regret", "p90", "worst")
MEANING = (
    "saved is the mean share of a run's steps that came after the stop. regret is the best score that the policy had "
    "seen, divided by the best of the whole run: 1 where nothing was lost. Nine runs in ten lose no more than p90 "
    "(nearest rank)."
)


def replay_text(found: Sequence[Summary], series: Sequence[Series]) -> str:
    """Return summaries as a table with sentences that say what the numbers are; for one run also every reason."""
    lines = table(HEADINGS, [_cells(one) for one in found])
    if len(series) == 1:
        lines += ["", *(line for one in found for line in formatting.wrapped(_stop(one.each[0]), WIDTH))]
    if without := found[-1].without_regret:
        text = (
            f"In {without} of {len(series)} runs the best score is zero or below (a KID can be), and no ratio to it "
            "means anything: they count in saved only."
        )
        lines += ["", *formatting.wrapped(text, WIDTH)]
    for note in dict.fromkeys(", ".join(one.notes) for one in series if one.notes):
        lines += ["", *formatting.wrapped(f"{note}.", WIDTH, "Read as:", 9)]
    metrics = listed(sorted({one.metric.shown for one in series}))
    text = f"{counted(len(series), 'run')}, scored by {metrics}. {MEANING}"
    return "\n".join([*lines, "", *formatting.wrapped(text, WIDTH)])


def _cells(one: Summary) -> list[str]:
    rated = one.runs - one.without_regret
    near = ["–", "–"]
    if rated:
        near = [f"{num} ({formatting.percent(num / rated)})" for num in (one.within_2pct, one.within_5pct)]
    regrets = [_regret(number) for number in (one.mean_regret, one.p90_regret, one.worst_regret)]
    return [one.policy, str(one.runs), f"{100 * one.saved:.1f} %", *near, *regrets]


def _regret(number: float) -> str:
    if math.isnan(number):
        return "–"
    return f"{number:.3f}" if math.isfinite(number) else "∞"


def _stop(result: Replayed) -> str:
    if result.message is None:
        return f"{result.policy} continues to the last step, {result.last_samples:,}."
    return f"{result.policy} stops at step {result.stop_samples:,} of {result.last_samples:,}: {result.message}"
