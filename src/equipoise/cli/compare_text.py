"""Runs side by side, as text."""

import string
from collections.abc import Iterator, Sequence

from equipoise import formatting
from equipoise.cli.text import WIDTH, setting, table
from equipoise.runs.better import verdicts
from equipoise.runs.compare import (
    Comparison,
    Entry,
    clearly_lowest,
    flattened,
    headings,
    known_metrics,
    protocol_differences,
    score_cells,
    words_for,
)
from equipoise.runs.held_out import TITLES, title_of

STAR = "* lower than all others of its table, by more than twice the standard error of the difference."
LEVEL = "No score is lower than all others by more than twice the standard error of the difference."


def compare_text(found: Comparison) -> str:
    """Return the differing recipe fields and the scores as plain text, one table for each protocol."""
    lines = ["Recipes", "", *_recipes(found)]
    if not found.groups:
        lines += ["", "No scores yet."]
    for split in TITLES:
        groups = [group for group in found.groups if group[0].split == split]
        if groups:
            lines += _scores(split, groups)
    if said := verdicts(found):
        lines += ["", "Which is better", ""]
        for verdict in said:
            lines += _wrapped(verdict.sentence)
    if found.without_score:
        lines += ["", f"Without a score: {', '.join(found.without_score)}."]
    return "\n".join(map(formatting.printable, lines))


def _recipes(found: Comparison) -> list[str]:
    if not found.differences:
        return ["  The recipes are the same."]
    rows = []
    for field, values in found.differences.items():
        cells = [setting(value) for value in values]
        rows.append([field, *(cells[index] if field in known else "–" for index, known in enumerate(found.settings))])
    return table(["", *found.names], rows)


def _scores(split: str, groups: Sequence[Sequence[Entry]]) -> Iterator[str]:
    protocols = [group[0].protocol for group in groups]
    yield from ("", title_of(split, protocols), "")
    fields = protocol_differences(protocols)
    if len(groups) > 1:
        differing = "; ".join(words_for(fields))
        yield from _wrapped(f"These scores have {len(groups)} protocols, which differ: {differing}.")
        yield from _wrapped("Scores of different protocols measure different things: compare only within one table.")
        yield ""
    is_starred = False
    for index, group in enumerate(groups):
        if len(groups) > 1:
            flat = flattened(group[0].protocol)
            which = ", ".join(f"{field}: {setting(flat.get(field))}" for field in fields)
            yield from _wrapped(f"Protocol {string.ascii_uppercase[index % 26]} ({which})")
        lowest = clearly_lowest(group)
        is_starred = is_starred or lowest is not None
        names = [f"{entry.run} *" if entry is lowest else entry.run for entry in group]
        metrics = known_metrics(group)
        rows = [[name, *score_cells(entry.score, metrics)] for name, entry in zip(names, group, strict=True)]
        yield from table(["", *headings(metrics)], rows)
        if index + 1 < len(groups):
            yield ""
    if any(len(group) > 1 for group in groups):
        note = STAR if is_starred else LEVEL
        yield from ("", *_wrapped(note))


def _wrapped(text: str) -> list[str]:
    return [f"  {line}" for line in formatting.wrapped(text, WIDTH - 2)]
