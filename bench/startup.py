"""How long a person waits before anything happens: whole processes, medians.

    python bench/startup.py [--rounds 15]

Measures `equipoise --help`, `import equipoise` and `equipoise status RUN` as processes, interleaved. Writes
records/startup.json. `python -c pass` is measured with them: what Python alone takes.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import spread, write_record

from equipoise.recipe import Recipe
from equipoise.runs.folder import RunFolder


def main() -> None:
    """Time every command in turn and record the spread in seconds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = RunFolder.create(Path(folder) / "run", Recipe())
        program = Path(sys.executable).with_name("equipoise")
        commands = {
            "python": [sys.executable, "-c", "pass"],
            "help": [program, "--help"],
            "import": [sys.executable, "-c", "import equipoise"],
            "status": [program, "status", run.path],
        }
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(options.rounds):
            for name, command in commands.items():
                begin = time.perf_counter()
                subprocess.run(command, check=True, capture_output=True)
                seconds[name].append(time.perf_counter() - begin)
    values = {name: spread(times) for name, times in seconds.items()}
    print(values)
    print(write_record("startup", {"seconds": values}))


if __name__ == "__main__":
    main()
