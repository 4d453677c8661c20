"""Real trainings as processes that are killed, and what is compared once they are through."""

import hashlib
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import calls
from calls import Call
from places import replace_in_package
from small import SMALL, as_options

from equipoise.runs import digest
from equipoise.runs.folder import RunFolder
from equipoise.storage.files import read_json, verify
from equipoise.storage.logs import records

# A process of this server has torch imported already, and no thread yet: it begins to train in a fraction of a second.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["equipoise.api", "equipoise.cli", "equipoise.cli.display", "torch._dynamo"])

SETTLED = (*SMALL, "saving.every=80", "saving.log_every=40", "data.validation=0.3")
# Examples of the selection and the test, images in a picture, and so on: as shipped they would take half of a life.
FEW = {
    "tasks.image_judging.NUM_REAL": 200,
    "tasks.image_judging.NUM_SHOWN": 4,
    "tasks.points.NUM_JUDGED": 200,
    "tasks.points.NUM_POINTS": 4_000,
    "nets.super_resolution.NUM_BLOCKS": 1,
}
LONGEST = 400.0  # seconds; far more than any of these lives takes on a busy machine
WEIGHTS = ("generator.safetensors", "encoder.safetensors", "examples.safetensors")
RECORDS = ("state.json", "data.json", "rivals.json", "exhibits.json", "intervals.json", "environment.json")

Hook = Callable[[], None]


@dataclass(frozen=True)
class Case:
    """One training, by the command line or from Python, that begins or goes on, whichever is due."""

    source: str | Path
    cache: Path
    budget: int = 1600
    settings: tuple[str, ...] = SETTLED
    recipe: str = "modern"
    task: str | None = None
    is_own: bool = False  # the task is defined in Python: own_task.py
    befallen: Hook | None = None  # done in every one of its processes before all else
    start: Path | None = None  # the run whose weights it begins with
    as_shipped: bool = False  # with as many examples as the package shows and chooses by

    def command(self, out: Path) -> list[str]:
        """Return the arguments of the command line."""
        words = ["--budget", str(self.budget), "--device", "cpu", "--seed", "3"]
        words += ["--recipe", self.recipe] if self.start is None else ["--start-from", os.fspath(self.start)]
        if self.task is not None:
            words += ["--task", self.task]
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
    if not log.exists():
        return ""
    return log.read_text(errors="replace")


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
    if samples < case.budget:
        return "in training"
    return "in the end"


def saved(out: Path) -> int:
    """Return the samples of a run's last checkpoint, 0 where there is none."""
    return max((int(path.name) for path in out.glob("checkpoints/[0-9]*")), default=0)


def facts(out: Path) -> dict[str, Any]:
    """Return all that must not depend on whether, when and how often a run was killed: everything but times."""
    run = RunFolder(out)
    found = digest.digest(run)
    for folder in (run.best, *out.glob("candidates/*"), *out.glob("checkpoints/*")):
        assert verify(folder) is None
    names = sorted(path.relative_to(out).as_posix() for path in out.rglob("*"))
    return {
        "names": names,
        **{f"digest of {name}": part for name, part in found.parts.items()},
        "digest": (found.samples, found.sha256),
        "steps": [timeless(record) for record in records(run.steps)],
        "scores": [timeless(record) for record in records(run.scores)],
        "events": [timeless(record) for record in records(run.events)],
        "weights": {name: _sha256(out / name) for name in names if name.endswith(WEIGHTS)},
        "kept scores": {name: timeless(read_json(out / name)) for name in names if name.endswith("/score.json")},
        "exhibits": {name: _sha256(out / name) for name in names if name.startswith("samples/")},
        "cards": {name: (out / name).read_text() for name in names if name.endswith("/README.md")},
        "recipe": run.read_recipe(),
        **{name: timeless(read_json(out / name)) for name in RECORDS},
        "report": run.report.is_file() and run.report.read_text().rstrip().endswith("</html>"),
    }


def timeless(value: Any) -> Any:
    """Return a value without what only tells the time."""
    if isinstance(value, dict):
        return {name: timeless(inner) for name, inner in value.items() if name not in digest.TIMES}
    if isinstance(value, list):
        return [timeless(inner) for inner in value]
    return value


def differences(found: dict[str, Any], expected: dict[str, Any]) -> str:
    """Return which facts differ and how, nothing where none does."""
    lines = []
    for name in [name for name in expected if found[name] != expected[name]]:
        one, other = found[name], expected[name]
        if isinstance(one, dict) and isinstance(other, dict):  # what is the same of a long record says nothing
            keys = [key for key in {**one, **other} if one.get(key) != other.get(key)]
            one, other = ({key: record.get(key) for key in keys} for record in (one, other))
        lines.append(f"{name}: {one!r} instead of {other!r}")
    return "\n".join(line[:2000] for line in lines)


def check_same(found: dict[str, Any], expected: dict[str, Any], where: str = "") -> None:
    """Assert that two runs left the same."""
    difference = differences(found, expected)
    assert not difference, f"{where}: {difference}"


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
    chance; what a life turns out to take corrects it. Every fourth run has to prepare its data and teach its judge.
    """
    chance = random.Random(seed)
    tally = Tally()
    expected, life = _timed(case, folder / "whole")
    parts = chance.sample(range(num_kills), num_kills)
    while tally.num_kills < num_kills:
        out = folder / f"run-{tally.num_runs}"
        own = case
        if tally.num_runs % 4 == 3:
            own = replace(case, cache=folder / f"cache-{tally.num_runs}")
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
        if is_whole:
            life = 0.5 * (life + seconds)
        check_same(found, expected, f"seed {seed}, {out.name}")
        shutil.rmtree(out)
    return tally


def _timed(case: Case, out: Path) -> tuple[dict[str, Any], float]:
    begin = time.monotonic()
    return finished(case, out), time.monotonic() - begin


def calls_of(case: Case, folder: Path) -> list[Call]:
    """Let a run live whole and return its calls that change a file or sync it."""
    code = lived(case, folder / "counted", partial(calls.record, folder / "counted", folder / "calls"))
    assert code == 0, said(folder / "counted")
    return calls.recorded(folder / "calls")


def killed_at(case: Case, out: Path, index: int, *, torn: bool = False) -> None:
    """Kill a run before one of its calls, and fail where it was not killed."""
    code = lived(case, out, partial(calls.kill_before, out, index, torn))
    assert code == -signal.SIGKILL, f"call {index}: exit code {code}: {said(out)}"


def kill_at_calls(case: Case, folder: Path, expected: dict[str, Any], found: list[Call], chosen: range) -> Counter[str]:
    """Kill runs before some of their calls, and within each write of a log among them; return how many of each kind.

    With one thread nothing lies between the end of a call and the next one: before the one is after the other.
    """
    tally = Counter[str]()
    for index in chosen:
        call = found[index]
        for kind, torn in _ways(call):
            out = folder / f"run-{index}-{torn}"
            killed_at(case, out, index, torn=torn)
            check_same(finished(case, out), expected, f"{kind}, call {index}, {call}")
            tally[kind] += 1
            shutil.rmtree(out)
    return tally


def _ways(call: Call) -> list[tuple[str, bool]]:
    """Return how a run can be killed at a call, and whether that tears it."""
    if call.name == "write":
        return [(call.name, False), ("within write", True)]
    return [(call.name, False)]


KILLS_OF_A_RUN = 3


def kill_at_places(case: Case, folder: Path, expected: dict[str, Any], found: list[Call]) -> Counter[str]:
    """Kill runs at the first call of every place that writes; return how many of each kind of call.

    Each run is killed early, once it has gone on later, and late: what comes first later has not been done before.
    """
    first = {call.place: call for call in reversed(found)}
    order = list(dict.fromkeys(call.place for call in found))
    kills = [(place, kind, torn) for place in order for kind, torn in _ways(first[place])]
    num_runs = -(-len(kills) // KILLS_OF_A_RUN)
    tally = Counter[str]()
    for begin in range(num_runs):
        out = folder / f"run-{begin}"
        own = kills[begin::num_runs]
        for place, kind, torn in own:
            code = lived(case, out, partial(calls.kill_at_place, out, place, torn))
            assert code == -signal.SIGKILL, f"{kind} at {place}: exit code {code}: {said(out)}"
            tally[kind] += 1
        check_same(finished(case, out), expected, f"killed at {own}")
        shutil.rmtree(out)
    return tally


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
    prepare(case.cache, as_shipped=case.as_shipped)
    for deed in (case.befallen, hook):
        if deed is not None:
            deed()
    if case.is_own:
        from own_task import live_from_python

        sys.exit(live_from_python(out, case.budget, case.settings))
    from equipoise import cli

    sys.exit(cli.main(case.command(out)))


def live(arguments: list[str], cache: Path, hook: Hook | None) -> None:
    """Be the command line, with a judge that learns in a second and few examples to choose by."""
    prepare(cache)
    if hook is not None:
        hook()
    from equipoise import cli

    sys.exit(cli.main(arguments))


def prepare(cache: Path, *, as_shipped: bool = False) -> None:
    """Let the judge learn in a second and, unless as shipped, let few examples be shown and judged by."""
    os.environ["EQUIPOISE_CACHE"] = os.fspath(cache)
    import torch
    from quick import quicken

    torch.set_num_threads(1)
    quicken()
    if as_shipped:
        return
    for place, num in FEW.items():
        replace_in_package(place, num)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
