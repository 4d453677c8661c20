"""What `explore` prints: each picture with its sentence, and where the page is."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from equipoise.cli.text import labelled
from equipoise.formatting import printable

if TYPE_CHECKING:
    from equipoise.tasks.base import Exhibit

INDENT = 2


def explore_text(files: "Mapping[str, Exhibit]", left_out: Sequence[str], out: Path) -> str:
    """Return the pictures by title, with a sentence each, what was left out, and the page."""
    lines: list[str] = []
    title = ""
    for name, exhibit in files.items():
        if exhibit.title != title:
            title = exhibit.title
            lines += ["", title] if lines else [title]
        lines.append(f"  {name}")
        lines += labelled("", printable(exhibit.caption), 2 * INDENT)
    for text in left_out:
        lines += ["", *labelled("Left out: ", printable(text), 10)]
    return "\n".join([*lines, "", *labelled("Page: ", printable(str(out / "index.html")), 6)])
