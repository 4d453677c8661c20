"""The command line: arguments in, one line out for a mistake; everything heavy is imported inside the commands."""

import io
import os
import sys
from collections.abc import Sequence

from equipoise.errors import RunBusyError, RunInterrupted, StorageError, UserError, what_failed

EXIT_MISTAKE = 2
EXIT_BUSY = 3
EXIT_STORAGE = 4
EXIT_INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return 0, 2 for a mistake, 3 for a busy run, 4 for a failing disk, 130 when interrupted."""
    from equipoise.cli.commands import run
    from equipoise.host.signals import leaving_in_order

    _settle_streams()
    if arguments is None:
        arguments = sys.argv[1:]
    words = list(arguments)
    try:
        with leaving_in_order():
            code = run(words)
        sys.stdout.flush()  # here, where what it raises is reported
        return code
    except RunBusyError as error:
        return _failed(error, EXIT_BUSY)
    except StorageError as error:
        return _failed(error, EXIT_STORAGE)
    except UserError as error:
        return _failed(error, EXIT_MISTAKE)
    except RunInterrupted as error:
        return _reported(error.told(in_shell=True), EXIT_INTERRUPTED)
    except KeyboardInterrupt:
        return _reported(_interrupted(words), EXIT_INTERRUPTED)
    except BrokenPipeError:
        from equipoise.cli.display import silence

        silence(sys.stdout)  # nobody reads any more: the last flush is quiet
        return 0
    except OSError as error:
        subject = error.filename or "output"
        return _failed(StorageError(subject, what_failed(error), "Check the disk and the permissions"), EXIT_STORAGE)


def _settle_streams() -> None:
    """Make sure that there are streams, and that a letter which a terminal lacks does not end a training."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started this: the next file would get its number
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w"))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _interrupted(words: Sequence[str]) -> str:
    if words[:1] in (["train"], ["resume"]):  # before there was a run, or before it was opened
        return "Interrupted. To try again, give the same command."
    return "Interrupted."


def _failed(error: UserError, code: int) -> int:
    return _reported(error.told(in_shell=True), code)


def _reported(message: str, code: int) -> int:
    from equipoise.cli.display import in_vain
    from equipoise.formatting import printable

    with in_vain(sys.stdout):  # flushed here, or what could not be shown would be reported once more at the exit
        sys.stdout.flush()
    with in_vain(sys.stderr):
        print(f"equipoise: {printable(message)}", file=sys.stderr, flush=True)
    return code
