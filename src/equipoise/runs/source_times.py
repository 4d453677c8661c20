"""Whether the data of a run seem to have changed since it last read them: by times alone, in an instant."""

import contextlib
import os
from pathlib import Path

from equipoise.runs.folder import RunFolder
from equipoise.storage.records import DataRecord

MOST_ENTRIES = 100_000  # files and folders looked through: more would take longer than a status may


def seems_changed(run: RunFolder, data: DataRecord) -> bool:
    """Return whether the file or a folder of a run's data was written to after a training last began with them.

    The time of a folder tells of files that came, went or got another name, and not of one that was overwritten.
    """
    read_at = _time(run.path / "environment.json") or _time(run.examples)
    if data.path is None or read_at is None:
        return False
    source = Path(data.path)
    if not source.is_dir():
        return (_time(source) or 0.0) > read_at
    return _is_written_after(source, read_at, run.path.resolve())


def _is_written_after(source: Path, read_at: float, left_out: Path) -> bool:
    """Return whether a folder, or one in it that is neither hidden nor a link, was written to after a time."""
    folders = [source]
    num = 0
    while folders and num < MOST_ENTRIES:
        folder = folders.pop()
        if (_time(folder) or 0.0) > read_at:
            return True
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                num += 1
                if num >= MOST_ENTRIES:
                    break
                if entry.is_dir(follow_symlinks=False) and not entry.name.startswith("."):
                    folders += [Path(entry.path)] * (Path(entry.path) != left_out)
    return False


def _time(path: Path) -> float | None:
    """Return when a file or a folder was last written to, None where it is not there."""
    with contextlib.suppress(OSError, ValueError):
        return path.stat().st_mtime
    return None
