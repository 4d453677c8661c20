"""Real trainings as processes that are killed, and what is compared once they are through."""

import hashlib
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from small import SMALL, as_options

from equipoise.runs import digest
from equipoise.runs.folder import RunFolder
from equipoise.storage.files import verify
from equipoise.storage.logs import records

# A process of this server has torch imported already, and no thread yet: it begins to train in a fraction of a second.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["equipoise.api", "equipoise.cli", "equipoise.cli.display", "torch._dynamo"])

SETTLED = (*SMALL, "saving.every=80", "saving.log_every=40", "data.validation=0.3")
NUM_REAL = 200  # images of the last choice and the test: the 5,000 as shipped would take half of a life
NUM_SNAPSHOT = 4  # images in a picture, for the same reason
LONGEST = 100.0  # seconds; far more than any of these lives takes on a busy machine

Hook = Callable[[], None]


@dataclass(frozen=True)
class Case:
    """One training by the command line that begins it or goes on with it, whichever is due."""

    source: Path
    cache: Path
    budget: int = 1600
    settings: tuple[str, ...] = SETTLED
    recipe: str = "modern"
    as_shipped: bool = False  # with as many images as the package shows and chooses by

    def command(self, out: Path) -> list[str]:
        """Return the arguments of the command line."""
        words = ["--recipe", self.recipe, "--budget", str(self.budget), "--device", "cpu", "--seed", "3"]
        words += as_options(self.settings)
        return ["train", os.fspath(self.source), "--out", os.fspath(out), "--resume", *words]

    def but(self, *settings: str, **changes: Any) -> "Case":
        """Return this case with more settings, the last of which count."""
        return replace(self, settings=(*self.settings, *settings), **changes)


def begun(case: Case, out: Path, hook: Hook | None = None) -> BaseProcess:
    """Start the process of a training; `hook` is called in it before all else."""
    process = CONTEXT.Process(target=_live, args=(case, out, hook))
    process.start()
    return process


def lived(case: Case, out: Path, hook: Hook | None = None) -> int:
    """Let the process of a training live as long as it will, and return its exit code."""
    process = begun(case, out, hook)
    process.join(LONGEST)
    if process.exitcode is None:
        process.kill()
        raise AssertionError(f"still alive after {LONGEST:g} s: {said(out)}")
    return process.exitcode


def said(out: Path) -> str:
    """Return what the processes of a run have said so far."""
    log = out.with_name(f"{out.name}.said")
    return log.read_text(errors="replace") if log.exists() else ""


def finished(case: Case, out: Path) -> dict[str, Any]:
    """Let a run come to its end and return its facts."""
    code = lived(case, out)
    assert code == 0, f"exit code {code}: {said(out)}"
    return facts(out)


def killed_after(case: Case, out: Path, seconds: float) -> bool:
    """Kill the process of a training after some seconds; return whether it was alive then."""
    return _killed(begun(case, out), seconds)


def killed_in(case: Case, out: Path, where: str, seconds: float) -> bool:
    """Kill the process of a training some seconds after it has come to a region; return whether it was alive then."""
    process = begun(case, out)
    while process.is_alive() and region(case, out) != where:
        time.sleep(0.002)
    return _killed(process, seconds)


def _killed(process: BaseProcess, seconds: float) -> bool:
    process.join(seconds)
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


def region(case: Case, out: Path) -> str:
    """Return how far the run had come that was killed, by what it left."""
    if not RunFolder.is_run(out):
        return "before the run"
    samples = saved(out)
    if not samples:
        return "before the first checkpoint"
    return "in training" if samples < case.budget else "in the end"


def saved(out: Path) -> int:
    """Return the samples of a run's last checkpoint, 0 where there is none."""
    return max((int(path.name) for path in out.glob("checkpoints/[0-9]*")), default=0)


def facts(out: Path) -> dict[str, Any]:
    """Return all that must not depend on whether, when and how often a run was killed: everything but times."""
    run, found = RunFolder(out), digest.digest(RunFolder(out))
    state = run.read_state()
    best = run.best
    assert verify(best) is None
    names = sorted(path.relative_to(out).as_posix() for path in out.rglob("*"))
    return {
        "names": names,
        **{f"digest of {name}": part for name, part in found.parts.items()},
        "digest": (found.samples, found.sha256),
        "steps": [timeless(record) for record in records(run.steps)],
        "scores": [timeless(record) for record in records(run.scores)],
        "events": [timeless(record) for record in records(run.events)],
        "state": timeless({name: state.get(name) for name in ("status", "samples", "reason", "policy", "best")}),
        "rescored": timeless(state.get("rescored")),
        "test": timeless(state.get("test")),
        "weights": {name: _sha256(out / name) for name in names if name.endswith("generator.safetensors")},
        "pictures": {name: _sha256(out / name) for name in names if name.endswith(".png")},
        "recipe": run.read_recipe(),
        "report": run.report.is_file() and run.report.read_text().rstrip().endswith("</html>"),
    }


def timeless(value: Any) -> Any:
    """Return a value without what only tells the time."""
    if isinstance(value, dict):
        return {name: timeless(inner) for name, inner in value.items() if name not in digest.TIMES}
    return [timeless(inner) for inner in value] if isinstance(value, list) else value


def differences(found: dict[str, Any], expected: dict[str, Any]) -> str:
    """Return which facts differ and how, nothing where none does."""
    lines = [
        f"{name}: {found[name]!r} instead of {expected[name]!r}" for name in expected if found[name] != expected[name]
    ]
    return "\n".join(line[:2000] for line in lines)


@dataclass
class Tally:
    """Where kills have fallen."""

    regions: dict[str, int] = field(default_factory=dict)
    late: int = 0  # processes that were through before their kill
    num_runs: int = 0

    @property
    def num_kills(self) -> int:
        """Return how many processes were killed."""
        return sum(self.regions.values())

    def add(self, where: str) -> None:
        """Count one kill."""
        self.regions[where] = self.regions.get(where, 0) + 1


REGIONS = ("before the run", "before the first checkpoint", "in training", "in the end")


def kill_at_random(case: Case, folder: Path, num_kills: int, seed: int) -> Tally:
    """Kill runs again and again until so many kills have fallen, each run one to three times; compare each at its end.

    The moments are uniform over the life of a process, one in each part of it in turn, so that no part is left out by
    chance; what a life turns out to take corrects it. Every fourth run has to prepare its images and teach its judge.
    """
    chance, tally = random.Random(seed), Tally()
    expected, life = _timed(case, folder / "whole")
    parts = chance.sample(range(num_kills), num_kills)
    while tally.num_kills < num_kills:
        out = folder / f"run-{tally.num_runs}"
        own = replace(case, cache=folder / f"cache-{tally.num_runs}") if tally.num_runs % 4 == 3 else case
        tally.num_runs += 1
        for _ in range(min(chance.choice((1, 1, 2, 3)), num_kills - tally.num_kills)):
            share = (parts[tally.num_kills] + chance.random()) / num_kills
            if not killed_after(own, out, share * life):
                tally.late += 1
                life *= 0.95
                break
            tally.add(region(own, out))
        is_whole = not out.exists() and own is case
        found, seconds = _timed(own, out)
        life = 0.5 * (life + seconds) if is_whole else life
        difference = differences(found, expected)
        assert not difference, f"seed {seed}, {out.name}: {difference}"
        shutil.rmtree(out)
    return tally


def _timed(case: Case, out: Path) -> tuple[dict[str, Any], float]:
    begin = time.monotonic()
    return finished(case, out), time.monotonic() - begin


def with_threads(num: int, seen: Path) -> None:
    """Give this process a number of threads, and write down with how many it trains."""
    import torch

    from equipoise import loop

    torch.set_num_threads(num)
    real = loop.train

    def train(*given: Any) -> Any:
        seen.write_text(str(torch.get_num_threads()))
        return real(*given)

    loop.train = train


def _live(case: Case, out: Path, hook: Hook | None) -> None:
    log = os.open(out.with_name(f"{out.name}.said"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    live(case.command(out), case.cache, hook, as_shipped=case.as_shipped)


def live(arguments: list[str], cache: Path, hook: Hook | None, *, as_shipped: bool = False) -> None:
    """Be the command line, with a judge that learns in a second and, unless as shipped, few images to choose by."""
    os.environ["EQUIPOISE_CACHE"] = os.fspath(cache)
    import torch
    from quick import quicken

    from equipoise import api, cli
    from equipoise.evaluation import evaluate, finish

    torch.set_num_threads(1)
    quicken()
    if not as_shipped:
        api.NUM_REAL, evaluate.NUM_SNAPSHOT, finish.NUM_SNAPSHOT = NUM_REAL, NUM_SNAPSHOT, NUM_SNAPSHOT
    if hook is not None:
        hook()
    sys.exit(cli.main(arguments))


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
