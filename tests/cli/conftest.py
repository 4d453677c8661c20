"""A finished run, and the command line run inside this process: what succeeds, and what is refused in one line."""

import fcntl
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from quick import QUICK_STEPS, encoder_defaults
from small import FEW, as_options

from equipoise.cli import main

QUICK = Path(__file__).parents[1] / "quick.py"
STAGES = r"([a-z ]+ …( [0-9]+ %)?\n)*"  # what is said of a long wait where there is no terminal
BESIDE = {
    "evaluate": rf"({STAGES}|Warning: .+\n)*",
    "sample": r"(Quality: (.+\n)+)?",
    "apply": r"(Quality: (.+\n)+)?",
    "explore": rf"{STAGES}(Quality: (.+\n)+)?",
}  # on standard error


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    cache = os.fspath(tmp_path_factory.getbasetemp() / "cache")
    return os.environ | {"OMP_NUM_THREADS": "1", "EQUIPOISE_CACHE": cache, "TERM": "xterm-256color"}


@pytest.fixture(scope="session")
def trained(shapes: Path, environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a finished run, which tests must not change."""
    path = tmp_path_factory.mktemp("runs") / "one"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EQUIPOISE_CACHE", environment["EQUIPOISE_CACHE"])
        patch.setitem(encoder_defaults(), "steps", QUICK_STEPS)
        for place, num in FEW.items():
            patch.setattr(place, num)
        assert main(["train", str(shapes), "--budget", "800", "--out", str(path), *as_options()]) == 0
    return path


@pytest.fixture
def copy(trained: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(trained, tmp_path / "copy"))


@pytest.fixture
def output(small: None, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Return a function that runs a command which succeeds, and returns what it printed."""

    def run(*arguments: Any, code: int = 0) -> str:
        assert main([str(argument) for argument in arguments]) == code
        out, err = capsys.readouterr()
        assert re.fullmatch(BESIDE.get(str(arguments[0]), ""), err)
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", out), "plain output has no control characters"
        return out

    return run


@pytest.fixture
def refused(small: None, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Return a function that runs a command which is a mistake, and returns its one line."""

    def run(*arguments: Any, code: int = 2) -> str:
        assert main([str(argument) for argument in arguments]) == code
        line = capsys.readouterr().err
        assert line.startswith("equipoise: ")
        assert line.endswith("\n")
        assert line.count("\n") == 1
        return line

    return run


@pytest.fixture
def on_terminal(environment: dict[str, str]) -> Callable[..., str]:
    """Return a function that runs a command which succeeds on a terminal of 80 columns, and returns what it drew."""

    def run(*arguments: Any) -> str:
        master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        chunks: list[bytes] = []

        def read() -> None:
            try:
                while chunk := os.read(master, 65536):
                    chunks.append(chunk)
            except OSError:
                pass  # how Linux says that the terminal has closed

        reader = threading.Thread(target=read)
        reader.start()
        plain = {name: value for name, value in environment.items() if name not in ("NO_COLOR", "COLUMNS")}
        command = [sys.executable, os.fspath(QUICK), *map(str, arguments)]
        with subprocess.Popen(command, env=plain, stdout=slave, stderr=slave, stdin=slave) as process:
            os.close(slave)
            process.wait(timeout=90)
        reader.join(timeout=10)
        os.close(master)
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", b"".join(chunks).decode())
        assert process.returncode == 0, text
        return text

    return run
