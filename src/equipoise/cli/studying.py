"""The command `study`: many short games, and the folder in which they are kept."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from equipoise.cli.commands import _printed
from equipoise.cli.display import Display

if TYPE_CHECKING:
    from equipoise.study.studies import Row

SHOWN = 12  # rows of the table that are printed


def study(options: argparse.Namespace) -> int:
    """Play a study, or go on with it, and write its page."""
    import msgspec

    from equipoise.study import studies

    given: dict[str, Any] = {"seeds": options.seeds, "rounds": options.rounds}
    for name in ("games", "methods", "losses", "rates"):
        if getattr(options, name):
            given[name] = tuple(getattr(options, name))
    asked = studies.Study(**given)
    studies.refuse_impossible(asked)
    studies.open_study(options.out, asked)
    with Display(sys.stderr) as show:
        from equipoise.study.page import write

        try:
            results = studies.play_on(options.out, asked, options.workers, show.stage)
        except KeyboardInterrupt:
            kept = f"{len(studies.results_of(options.out)):,} of {len(studies.cells_of(asked)):,} games"
            show.message(f"{kept} are kept in {options.out}; the same command goes on with the rest.")
            raise
        show.stage("drawing the page", 0.0)
        rows = write(options.out, results)
    return _printed(options, lambda: msgspec.to_builtins(rows), lambda: study_text(rows, options.out))


def study_text(rows: "Sequence[Row]", out: Path) -> str:
    """Say which methods train at most rates in each game, and where the page is."""
    lines = []
    for game in dict.fromkeys(row.game for row in rows):
        of_game = sorted((row for row in rows if row.game == game), key=lambda row: (-row.share, -row.partly))
        names = [f"{row.method}, {row.loss}" for row in of_game[:SHOWN]]
        width = max(44, *map(len, names))
        lines.append(f"{game:<{width + 2}}  trains  in part  best score  ms a round")
        for name, row in zip(names, of_game[:SHOWN], strict=True):
            shares = f"{100 * row.share:>4.0f} %   {100 * row.partly:>4.0f} %"
            lines.append(f"  {name:<{width}}  {shares}  {row.score:>10.2f}  {row.cost:>10.2f}")
        if len(of_game) > SHOWN:
            lines.append(f"  and {len(of_game) - SHOWN} more in the page")
    lines.append("Trains and in part: the share of all pairs of rates that train, and that train at least in part.")
    lines.append(f"The page: {out / 'index.html'}")
    return "\n".join(lines)
