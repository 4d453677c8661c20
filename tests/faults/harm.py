"""What is put in place of files to do harm, and what must come of it: one line, and no code that runs."""

import hashlib
import io
import json
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from equipoise.errors import UserError
from equipoise.report.report import write_report
from equipoise.runs.compare import compare
from equipoise.runs.folder import RunFolder
from equipoise.runs.replay_read import read_run
from equipoise.runs.status import read_status
from equipoise.storage import checkpoints
from equipoise.storage.files import MANIFEST


class Canary:
    """An object whose unpickling would make a file."""

    def __init__(self, path: Path) -> None:
        """Remember which file."""
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (os.fspath(self.path), "w")


def awaited(folder: Path) -> Iterator[Path]:
    """Yield the path of the file that must never appear, and look for it at the end."""
    path = folder / "canary"
    yield path
    assert not path.exists(), "code in a file has run"


def as_pickle(canary: Path) -> bytes:
    """Return a pickle."""
    return pickle.dumps(Canary(canary))


def as_torch(canary: Path) -> bytes:
    """Return what torch saves."""
    file = io.BytesIO()
    torch.save({"w": Canary(canary)}, file)
    return file.getvalue()


def as_npy(canary: Path) -> bytes:
    """Return an array of objects."""
    file = io.BytesIO()
    np.save(file, np.array([Canary(canary)], dtype=object), allow_pickle=True)
    return file.getvalue()


FORMS = pytest.mark.parametrize("form", [as_pickle, as_torch, as_npy])


def refused(act: Callable[[], object]) -> str:
    """Return in what words something is refused, which must be one line."""
    with pytest.raises(UserError) as caught:
        act()
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    assert len(message) < 1000
    return message


def done_or_refused(act: Callable[[], object]) -> None:
    """Do something that may be refused, in one line."""
    message = ""
    try:
        act()
    except UserError as error:
        message = str(error)
    assert len(message.splitlines()) <= 1
    assert len(message) < 1000


def seal(folder: Path, names: tuple[str, ...] = checkpoints.FILES) -> None:
    """Make the manifest speak the truth about whatever lies there."""
    digests = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}
    (folder / MANIFEST).write_text(json.dumps(digests))


def change_json(path: Path, **changes: Any) -> None:
    """Change some values of a file."""
    path.write_text(json.dumps(json.loads(path.read_bytes()) | changes))


READERS: tuple[Callable[[RunFolder], object], ...] = (
    read_status,
    write_report,
    lambda run: compare([run, run]),
    lambda run: read_run(run.path),
)
