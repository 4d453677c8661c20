"""Runs side by side: what differs in their recipes, and their scores, each kept to its protocol."""

import math
import re
import string
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from equipoise import formatting
from equipoise.health.stats import ScoreLine, metric_value
from equipoise.recipe import MetricName, Recipe, to_dict
from equipoise.runs.folder import RunFolder
from equipoise.runs.status import Status, read_status

WIDTH = 80
HEADINGS = ("KID", "FID", "precision", "recall", "density", "coverage", "at samples")


@dataclass(frozen=True)
class Entry:
    """One score of one run with everything that must agree before it is compared."""

    run: str
    split: str  # "validation" for the best score, "test" for the final one
    line: ScoreLine
    protocol: dict[str, Any]
    metric: MetricName


def flattened(values: Any, prefix: str = "") -> dict[str, Any]:
    """Return nested dicts as one, with dotted paths as keys."""
    if not isinstance(values, dict) or not values:
        return {prefix: values}
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= flattened(value, f"{prefix}.{key}" if prefix else str(key))
    return flat


def differences(recipes: Sequence[Recipe | dict[str, Any]]) -> dict[str, list[Any]]:
    """Return the dotted fields in which recipes differ, each with the value of every recipe in order.

    They may be given as plain values; what one does not have is None.
    """
    flats = [flattened(to_dict(recipe) if isinstance(recipe, Recipe) else recipe) for recipe in recipes]
    fields = dict.fromkeys(field for flat in flats for field in flat)
    rows = {field: [flat.get(field) for flat in flats] for field in fields}
    return {field: row for field, row in rows.items() if any(value != row[0] for value in row)}


def protocol_differences(protocols: Sequence[dict[str, Any]]) -> list[str]:
    """Return the dotted fields in which protocols differ."""
    flats = [flattened(protocol) for protocol in protocols]
    fields = dict.fromkeys(field for flat in flats for field in flat)
    return [field for field in fields if any(flat.get(field) != flats[0].get(field) for flat in flats)]


def compare(runs: Sequence[RunFolder]) -> str:
    """Return the differing recipe fields and the scores as plain text, one table for each protocol."""
    states = [read_status(run) for run in runs]
    names = _names(runs)
    lines = ["Recipes", ""]
    settings = [state.settings for state in states]
    flats = [flattened(values) for values in settings]
    rows = [
        [field, *(_shown(value) if field in flat else "–" for value, flat in zip(values, flats, strict=True))]
        for field, values in differences(settings).items()
    ]
    lines += table(["", *names], rows) if rows else ["  The recipes are the same."]
    groups = _grouped(_entries(runs, states, names))
    for split in ("validation", "test"):
        group = [entries for entries in groups if entries[0].split == split]
        lines += _score_lines(split, group) if group else []
    if not groups:
        lines += ["", "No scores yet."]
    if missing := [name for name, state in zip(names, states, strict=True) if state.best is None]:
        lines += ["", f"Without a score: {', '.join(missing)}."]
    return "\n".join(map(formatting.printable, lines))


def compare_values(runs: Sequence[RunFolder]) -> dict[str, Any]:
    """Return the same as plain values for `--json`; only scores within one group may be compared."""
    states = [read_status(run) for run in runs]
    names = _names(runs)
    groups = _grouped(_entries(runs, states, names))
    return {
        "runs": [{"name": name, "path": str(run.path)} for name, run in zip(names, runs, strict=True)],
        "differences": {
            field: dict(zip(names, values, strict=True))
            for field, values in differences([state.settings for state in states]).items()
        },
        "groups": [
            {
                "split": entries[0].split,
                "protocol": entries[0].protocol,
                "scores": {entry.run: {**vars(entry.line), "protocol": None} for entry in entries},
            }
            for entries in groups
        ],
    }


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return lines of a plain table: the first column to the left, the others to the right."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]
    lines = []
    for row in [head, ["─" * width for width in widths], *rows]:
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        lines.append("  " + "  ".join([row[0].ljust(widths[0]), *cells[1:]]))
    return lines


def score_cells(line: ScoreLine) -> list[str]:
    """Return the scores as cells under `HEADINGS`."""
    shares = [line.precision, line.recall, line.density, line.coverage]
    return [
        formatting.with_error(line.kid, line.kid_se),
        formatting.value(line.fid),
        *[f"{share:.3f}" if math.isfinite(share) else "–" for share in shares],
        formatting.count(line.samples),
    ]


def _score_lines(split: str, groups: Sequence[Sequence[Entry]]) -> list[str]:
    title = "Best scores, on the validation split" if split == "validation" else "Final scores, on the test split"
    lines = ["", title, ""]
    marks = string.ascii_uppercase
    fields = protocol_differences([entries[0].protocol for entries in groups])
    if "data_digest" in fields:  # of the same images
        fields = [field for field in fields if field != "data digest"]
    if len(groups) > 1:
        differ = f"These scores were taken under {len(groups)} protocols, which differ in {', '.join(fields)}."
        lines += _wrapped(differ)
        lines += _wrapped("Scores of different protocols measure different things: compare only within one table.")
        lines.append("")
    for index, entries in enumerate(groups):
        if len(groups) > 1:
            flat = flattened(entries[0].protocol)
            which = ", ".join(f"{field}: {_shown(flat.get(field))}" for field in fields)
            lines += _wrapped(f"Protocol {marks[index % 26]} ({which})")
        lines += table(["", *HEADINGS], [[_marked(entry, entries), *score_cells(entry.line)] for entry in entries])
        lines.append("")
    if all(len(entries) == 1 for entries in groups):  # none is marked
        return lines[:-1]
    return [*lines, "  * lowest of its table. A difference below twice its standard error is noise."]


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)


def _marked(entry: Entry, entries: Sequence[Entry]) -> str:
    best = min(metric_value(other.line, entry.metric) for other in entries)
    lowest = len(entries) > 1 and metric_value(entry.line, entry.metric) == best
    return f"{entry.run} *" if lowest else entry.run


def _entries(runs: Sequence[RunFolder], states: Sequence[Status], names: Sequence[str]) -> list[Entry]:
    entries = []
    for run, state, name in zip(runs, states, names, strict=True):
        data = {"data digest": run.read_data().get("digest")}
        for split, line in (("validation", state.best), ("test", state.test)):
            if line is not None:
                entries.append(Entry(name, split, line, {**line.protocol, **data}, state.metric))
    return entries


def _grouped(entries: Sequence[Entry]) -> list[list[Entry]]:
    groups: list[list[Entry]] = []
    for entry in entries:
        for group in groups:
            if group[0].split == entry.split and group[0].protocol == entry.protocol:
                group.append(entry)
                break
        else:
            groups.append([entry])
    return groups


def _names(runs: Sequence[RunFolder]) -> list[str]:
    names = [run.path.resolve().name for run in runs]
    return names if len(set(names)) == len(names) else [str(run.path) for run in runs]


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ",".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, str) and re.fullmatch("[0-9a-f]{32,}", value):  # a digest, which --json gives whole
        return f"{value[:12]}…"
    return "none" if value is None else str(value)
