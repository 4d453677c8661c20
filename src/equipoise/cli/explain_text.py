"""The pages on conditions of a game, as text for a terminal and as values."""

import dataclasses
import sys
import textwrap
from typing import Any

from equipoise.errors import Command, UserError, shortened, suggested
from equipoise.health.curves import BARS, PLAIN_BARS, bars, curves_of, games_of, is_logarithmic, label_of, span
from equipoise.health.pages import PAGES, SUBJECTS, Subject, heading

WIDTH = 80


def checked_subject(name: str) -> Subject:
    """Return a subject by its name; raises UserError with the nearest one, or where all are listed, for any other."""
    for subject in SUBJECTS:
        if name.lower() == subject:
            return subject
    near = suggested(name.lower(), SUBJECTS) or (Command("explain"),)
    raise UserError(f'"{shortened(name)}"', "no condition of that name is known", *near)


def list_text() -> str:
    """Return all conditions with a sentence for each."""
    blocks = [f"{subject}\n{_indented(PAGES[subject].meaning)}" for subject in SUBJECTS]
    return "\n".join([*blocks, "", "More on one of them: equipoise explain CONDITION"])


def page_text(subject: Subject) -> str:
    """Return a page as text of 80 columns."""
    found = PAGES[subject]
    rows = [
        ("It means", found.meaning),
        ("It looks like", found.looks),
        ("Told from", found.numbers),
        ("Causes", found.causes),
        ("What helps", ""),
    ]
    lines = [heading(subject), "=" * len(heading(subject))]
    lines += ["", *_drawn(subject)]
    for label, text in rows:
        lines += ["", label, *([_indented(text)] if text else [])]
    for one in found.helps:
        lines.append(
            textwrap.fill(
                f"{one.what[:1].upper()}{one.what[1:]}.", WIDTH, initial_indent="  · ", subsequent_indent="    "
            )
        )
        lines += [f"      --set {setting}" for setting in one.settings]
    return "\n".join([*lines, "", f"Source: {found.source}"])


def _drawn(subject: Subject) -> list[str]:
    """Return the curves of a sick game and of a healthy one, both in one scale."""
    lines = []
    letters = BARS if can_show(BARS) else PLAIN_BARS
    for name, pair in curves_of(subject).items():
        low, high = span(pair)
        scale = ", logarithmic" if is_logarithmic(pair) else ""
        lines.append(f"  {label_of(name)} ({low:.2g} to {high:.2g}{scale})")
        lines += [
            f"    {label:8s} {bars(pair, values, letters)}"
            for label, values in (("sick", pair.sick), ("healthy", pair.healthy))
            if any(value is not None for value in values)
        ]
    return lines


def can_show(letters: str) -> bool:
    """Return whether the standard output has these letters."""
    try:
        letters.encode(sys.stdout.encoding or "utf-8")
    except (UnicodeError, LookupError):
        return False
    return True


def _indented(text: str) -> str:
    return textwrap.fill(text, WIDTH, initial_indent="    ", subsequent_indent="    ")


def page_values(subject: Subject) -> dict[str, Any]:
    """Return a page as plain values, with the curves that its text draws and the names of their games."""
    curves = [
        {
            "name": name,
            "label": label_of(name),
            "sick": {"samples": pair.sick_samples, "values": pair.sick},
            "healthy": {"samples": pair.healthy_samples, "values": pair.healthy},
        }
        for name, pair in curves_of(subject).items()
    ]
    return _text_values(subject) | {"games": games_of(subject), "curves": curves}


def list_values() -> list[dict[str, Any]]:
    """Return all pages as plain values, without their curves."""
    return [_text_values(subject) for subject in SUBJECTS]


def _text_values(subject: Subject) -> dict[str, Any]:
    values = dataclasses.asdict(PAGES[subject])
    del values["curves"]
    return {"condition": subject, "title": heading(subject), **values}
