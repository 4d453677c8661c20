"""The command `explore`: a run's best generator looked into, and the folder that is written."""

import argparse
import sys
from pathlib import Path

from equipoise.cli.commands import _print_quality, _printed, _taken, _with_generator, _writing
from equipoise.cli.display import Display
from equipoise.cli.explore_text import explore_text
from equipoise.errors import Option, UserError

FOLDER = "explore"  # within the run's, where no other is asked for


def explore(options: argparse.Namespace) -> int:
    """Explore the best generator of a run into a folder."""
    from equipoise.runs.missing_best import refuse_without_best
    from equipoise.tasks import refuse_without_pictures

    folder, _ = _with_generator(options.run)
    refuse_without_pictures(folder.recipe().task, options.run)
    out = options.out or options.run / FOLDER
    _refuse_out(out, options.force)
    refuse_without_best(folder)
    with Display(sys.stderr) as show:
        from equipoise import api
        from equipoise.explore import exploring

        run = api.load(options.run)
        found = exploring.explored(
            run,
            seed=options.seed,
            num=options.num,
            images=options.image,
            labels=options.labels,
            observer=show,
            in_shell=True,
        )
    with _writing(Option("out", out), "explored/"):
        exploring.write(found, out, exploring.title_of(run), force=options.force)
    _printed(options, lambda: found.numbers, lambda: explore_text(found.files, found.left_out, out))
    _print_quality(folder)
    return 0


def _refuse_out(out: Path, force: bool) -> None:
    """Raise UserError where a folder cannot be written under a name, or would overwrite something."""
    option = Option("out", out)
    try:
        if out.exists() and not out.is_dir():
            raise UserError(option, "is a file, and a folder is written", Option("out", "explored/"))
        is_taken = out.exists() and any(out.iterdir())
    except OSError as error:
        raise UserError(option, f"cannot be read ({error.strerror})", Option("out", "explored/")) from None
    if is_taken and not force:
        raise _taken(option)
