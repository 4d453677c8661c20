"""A run that was killed at any moment and resumed is, bit for bit, the run that was not."""

import contextlib
import dataclasses
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import get_args

import calls
import killing
import pytest
import torch
from killing import Case
from small import by_update

from equipoise.recipe import (
    BoundaryName,
    ConditionName,
    CorrectionName,
    FamilyName,
    LossName,
    OptimizerName,
    PenaltyName,
    PolicyName,
    UpdateName,
)
from equipoise.recipes import NAMES, RecipeName
from equipoise.storage import checkpoints
from equipoise.storage.logs import records

QUICK = Path(__file__).parent.parent / "quick.py"
BRIEF = ("evaluation.every=24", "saving.every=16", "saving.log_every=8")  # two evaluations and four saves in six steps
NUM_BRIEF = 48
EVERY = 15  # of all calls, in the quick part
PARTS = 3  # of all calls, in the long one
CHANGING = {"fsync", "rename", "replace", "unlink", "rmdir", "mkdir", "open", "within write"}


@pytest.mark.slow
def test_a_few_kills_leave_no_trace(case: Case, tmp_path: Path, seed: int) -> None:
    """At random moments, with fewer of them than in the long part."""
    assert killing.kill_at_random(case.but(budget=800), tmp_path, 5, seed).num_kills == 5


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_fifty_kills_all_over_the_life_of_a_training_leave_no_trace(case: Case, tmp_path: Path, seed: int) -> None:
    """At random moments, spread over all of a life."""
    tally = killing.kill_at_random(case, tmp_path, 50, seed)
    print(tally)
    assert tally.num_kills == 50
    assert set(tally.regions) <= set(killing.REGIONS)


@pytest.mark.faults
@pytest.mark.timeout(900)
@pytest.mark.parametrize("where", killing.REGIONS)
def test_kills_in_every_region_of_a_life_leave_no_trace(case: Case, tmp_path: Path, where: str, seed: int) -> None:
    """The short ones are hit by chance only now and then: here by what lies on the disk, until each is hit thrice."""
    expected = killing.finished(case, tmp_path / "whole")
    chance = random.Random(seed)
    num_hits = 0
    latest = 0.1
    for attempt in range(30):
        out = tmp_path / f"run-{attempt}"
        if killing.killed_in(case, out, where, chance.uniform(0, latest)) and killing.region(case, out) == where:
            num_hits += 1
        else:
            latest /= 2  # seconds; it was over by then
        killing.check_same(killing.finished(case, out), expected, f"seed {seed}, attempt {attempt}")
        if num_hits == 3:
            return
    raise AssertionError(f"hit {num_hits} times only")


@pytest.mark.slow
def test_kills_leave_no_trace_in_a_run_that_started_from_another_ones_weights(
    case: Case, tmp_path: Path, seed: int
) -> None:
    killing.finished(case.but(budget=320), tmp_path / "first")
    started = case.but(start=tmp_path / "first", budget=480)
    assert killing.kill_at_random(started, tmp_path, 4, seed).num_kills == 4


OTHER_TASKS = ("points", "super-resolution", "own")
UPDATES: dict[str, tuple[str, ...]] = {name: by_update(name) for name in get_args(UpdateName)}
UPDATES["consensus"] = ("game.update=simultaneous", "game.correction.kind=consensus", "game.lookahead=7")
IN_TASKS = {
    "points": UPDATES,
    "super-resolution": {"alternating": ()},
    "own": {"extragradient": UPDATES["extragradient"]},
}


@pytest.mark.faults
@pytest.mark.timeout(900)
@pytest.mark.parametrize(("task", "update"), [(task, update) for task in IN_TASKS for update in IN_TASKS[task]])
def test_kills_leave_no_trace_whatever_is_learned(
    case_of: Callable[[str], Case], tmp_path: Path, task: str, update: str, seed: int
) -> None:
    """Points by each order of the players' steps, photographs, and a task that Python defines."""
    changed = case_of(task).but(*IN_TASKS[task][update])
    assert killing.kill_at_random(changed, tmp_path, 8, seed).num_kills == 8


@pytest.mark.slow
@pytest.mark.parametrize("task", OTHER_TASKS)
def test_a_kill_leaves_no_trace_whatever_is_learned(
    case_of: Callable[[str], Case], tmp_path: Path, task: str, seed: int
) -> None:
    """The same once."""
    assert killing.kill_at_random(case_of(task).but(budget=320), tmp_path, 1, seed).num_kills == 1


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_kills_of_the_true_command_line_leave_no_trace(case: Case, tmp_path: Path, seed: int) -> None:
    """As a person has it: new processes, threads of writing, hash seeds of their own, all images to choose by."""
    case = dataclasses.replace(case, as_shipped=True)
    chance = random.Random(seed)
    out = tmp_path / "run"
    expected = killing.finished(case, tmp_path / "whole")
    num_kills = 0
    environment = os.environ | {"EQUIPOISE_CACHE": os.fspath(case.cache), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, os.fspath(QUICK), *case.command(out)]
    for samples in (80, 480, 880):  # the later lives of a run begin where the earlier ones were killed
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
        while process.poll() is None and killing.saved(out) < samples:
            time.sleep(0.005)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(chance.uniform(0.0, 0.5))
        process.kill()
        num_kills += process.wait() == -signal.SIGKILL
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert num_kills
    killing.check_same(killing.facts(out), expected)


def brief(case: Case) -> Case:
    """Return a training of six steps, in which everything happens."""
    return case.but(*BRIEF, budget=NUM_BRIEF)


def kill_at_every(case: Case, folder: Path, step: int, begin: int = 0) -> Counter[str]:
    """Kill one run before each `step`-th of its calls, and within the writes of logs among them."""
    expected = killing.finished(case, folder / "whole")
    found = killing.calls_of(case, folder)
    return killing.kill_at_calls(case, folder, expected, found, range(begin, len(found), step))


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_kill_before_every_fifteenth_call_leaves_no_trace(case: Case, tmp_path: Path) -> None:
    """The quick part of the next test."""
    assert kill_at_every(brief(case), tmp_path, EVERY).total() > 12


@pytest.mark.faults
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("part", range(PARTS))
def test_a_kill_before_any_call_that_changes_a_file_leaves_no_trace(case: Case, tmp_path: Path, part: int) -> None:
    """Every sync, rename, removal and write of a whole life; in parts, which may be tried side by side."""
    tally = kill_at_every(brief(case), tmp_path, PARTS, part)
    print(tally)
    assert tally.total() > 200 // PARTS
    assert set(tally) >= CHANGING


@pytest.mark.faults
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("task", OTHER_TASKS)
def test_a_kill_at_every_place_that_writes_leaves_no_trace_whatever_is_learned(
    case_of: Callable[[str], Case], tmp_path: Path, task: str
) -> None:
    """The first call of each kind on each kind of file: points, photographs, and a task that Python defines."""
    case = brief(case_of(task))
    expected = killing.finished(case, tmp_path / "whole")
    tally = killing.kill_at_places(case, tmp_path, expected, killing.calls_of(case, tmp_path))
    print(tally)
    assert tally.total() > 80
    assert set(tally) >= CHANGING


def test_what_a_checkpoint_relies_on_is_on_the_disk_before_it_has_its_name(case: Case, tmp_path: Path) -> None:
    """What no kill can show, since the system keeps what a killed process has written: the order of the syncs."""
    for name, is_careless in (("careful", False), ("careless", True)):
        out = tmp_path / name
        lines = tmp_path / f"{name}.calls"
        assert killing.lived(brief(case), out, partial(calls.record, out, lines, is_careless=is_careless)) == 0
        found = calls.recorded(lines, failed=False)
        assert sum("checkpoints/0" in call.target and not call.target.endswith(".gone") for call in found) >= 3
        broken = calls.broken_promises(found)
        assert bool(broken) == is_careless, "\n".join(broken)


STRACE = shutil.which("strace")
TRACED = "fsync,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,rmdir"


@dataclasses.dataclass(frozen=True)
class Traced:
    """One call of a process that strace saw: of which thread, and which of its calls of this name, from 1."""

    thread: str
    name: str
    number: int
    call: calls.Call


def traced(text: str, base: Path) -> list[Traced]:
    """Return the calls of a process that concern what is in a folder."""
    found = []
    numbers = Counter[tuple[str, str]]()
    for line in text.splitlines():
        match = re.match(r"(\d+) +(\w+)\((.*)", line)
        if match is None or "resumed>" in line:
            continue
        thread, name, rest = match.groups()
        numbers[thread, name] += 1
        words = re.findall(r'"([^"]*)"', rest)
        path = _path(rest, words)
        if Path(path) != base and not path.startswith(f"{base}/"):
            continue
        target = ""
        if name == "rename":
            target = os.path.relpath(words[1], base)
        call = calls.Call(_plain_name(name, rest), os.path.relpath(path, base), target)
        found.append(Traced(thread, name, numbers[thread, name], call))
    return found


def _path(rest: str, words: list[str]) -> str:
    """Return the path that a call is of: that of its descriptor, and what lies below it."""
    folder = re.match(r"(?:\w+)<([^>]*)>", rest)
    if folder is None:
        return words[0]
    return os.path.join(folder[1], *words[:1])


def _plain_name(name: str, rest: str) -> str:
    if name != "unlinkat":
        return name
    if "AT_REMOVEDIR" in rest:
        return "rmdir"
    return "unlink"


# The true command line, which writes down its own calls besides.
RECORDING = """
import runpy, shutil, sys  # shutil looks which functions are the system's own when it is imported
from pathlib import Path
folder, program, out, lines = sys.argv[1:5]
sys.path.append(folder)
import calls
calls.record(Path(out), Path(lines), synchronous=False)
sys.argv[1:] = sys.argv[5:]
runpy.run_path(program, run_name="__main__")
"""


def under_strace(case: Case, out: Path, *options: str, to: Path | None = None) -> tuple[int, str]:
    """Let the true command line live under strace; return its exit code, and what strace saw.

    `to` is a file for the calls that it sees itself.
    """
    assert STRACE is not None
    lines = out.with_name(f"{out.name}.strace")
    environment = {"EQUIPOISE_CACHE": os.fspath(case.cache), "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    command = [STRACE, "-f", "-qq", "-y", "-s", "4096", "-o", os.fspath(lines), *options]
    program = [os.fspath(QUICK)]
    if to is not None:
        program = ["-c", RECORDING, *map(os.fspath, (Path(__file__).parent, QUICK, out, to))]
    command += [sys.executable, *program, *case.command(out)]
    done = subprocess.run(
        command, stdout=subprocess.DEVNULL, env=os.environ | environment, timeout=killing.LONGEST, check=False
    )
    return done.returncode, lines.read_text()


@pytest.mark.faults
@pytest.mark.timeout(1800)
@pytest.mark.skipif(STRACE is None, reason="strace is not installed")
def test_a_kill_by_the_kernel_at_any_sync_rename_or_unlink_of_an_evaluation_and_a_save_leaves_no_trace(
    case: Case, tmp_path: Path
) -> None:
    """Injected by strace into the true command line, whose calls must be those that the other tests count."""
    (tmp_path / "seen").mkdir()
    seen = tmp_path / "seen" / "run"
    lines = tmp_path / "lines"
    code, text = under_strace(brief(case), seen, "-e", f"trace={TRACED}", to=lines)
    if code != 0 and not text:
        pytest.skip("strace may not follow processes here")
    assert code == 0
    found = traced(text, seen.parent)
    names = {"fsync", "rename", "unlink", "rmdir", "mkdir"}
    wrapped = Counter(call.kind for call in calls.recorded(lines) if call.kind[0] in names)
    assert Counter(one.call.kind for one in found) == wrapped, "the kernel saw other calls than the tests that wrap"

    whole = killing.finished(brief(case), tmp_path / "whole")
    del whole["exhibits"]  # the processes that resume here draw fewer images into one
    points = [one for one in found if one.name in ("fsync", "rename", "unlink", "unlinkat", "rmdir")]
    saver = next(one.thread for one in found if "/checkpoints/" in one.call.path)
    points = [one for one in points if one.thread == saver]
    begin = next(place for place, one in enumerate(points) if "/candidates/" in one.call.path)  # the first evaluation
    saved = next(place for place, one in enumerate(points) if place > begin and one.call.path.endswith("/checkpoints"))
    gone = next(place for place, one in enumerate(points) if one.call.target.endswith(".gone"))  # an old checkpoint
    end = next(place for place, one in enumerate(points) if place > gone and one.name == "rmdir")
    chosen = points[begin : saved + 1] + points[gone : end + 1]
    tally = Counter[str]()
    for place, one in enumerate(chosen):
        out = tmp_path / f"run-{place}"
        inject = f"inject={one.name}:signal=KILL:when={one.number}"
        code, _ = under_strace(brief(case), out, "-e", f"trace={one.name}", "-e", inject)
        assert code in (-signal.SIGKILL, 128 + signal.SIGKILL), f"{one}: exit code {code}"
        killing.check_same(killing.finished(brief(case), out), whole, f"at {one}")
        tally[one.name] += 1
        shutil.rmtree(out)
    print(tally)
    assert {"fsync", "rename", "rmdir"} <= set(tally)
    assert set(tally) & {"unlink", "unlinkat"}


WIDE = ("networks.width=4", "networks.latent_size=4")
CONVOLUTIONS = (*WIDE, "networks.family=dcgan", "networks.generator_norm=batch")
PROBABLE = "game.loss=non-saturating"
ENERGIES = ("networks.autoencoder=true", "game.loss=energy", "game.margin=0.5")
SETTINGS: dict[str, tuple[str, ...]] = {
    "batch norm, conditional": (*CONVOLUTIONS, "networks.conditional=true"),
    "spectral norm": (*WIDE, "networks.family=resnet", "networks.spectral_norm=true", "game.loss=hinge"),
    "layer norm": (*CONVOLUTIONS, "networks.discriminator_norm=layer"),
    "augmented": ("augment.kinds=flip,translation,rotation,scale,crop,color,cutout", "augment.probability=0.6"),
    "dropout": ("networks.dropout=0.3", "task.flip=true"),
    "two discriminator steps": ("game.discriminator_steps=2",),
    "lazy penalty, noise": ("game.penalty.every=3", "game.penalty.gamma_end=0.01", "game.instance_noise=0.2"),
    "weight clip": ("game.loss=wasserstein", "game.weight_clip=0.01", "game.penalty.kind=none"),
    "clipped gradients, rates": ("game.generator.clip_norm=0.5", "game.discriminator.rate_end=0.0001"),
    "linear rates": ("game.generator.schedule=linear", "game.generator.rate_end=0.0001"),
    "smoothed labels": ("game.label_smoothing=0.1", PROBABLE),
    "no average": ("game.ema_half_life=0",),
    "normal mixture": ("stopping.policy=evidence", "stopping.evidence.boundary=normal-mixture"),
    "bfloat16": ("precision=bfloat16",),
    "kept checkpoints": ("saving.keep=2",),
    "attention, latents in blocks": (
        *CONVOLUTIONS,
        *("networks.family=resnet", "networks.attention=4", "networks.latent_skips=true", "networks.orthogonal=true"),
        *("networks.generator_spectral_norm=true", "networks.conditional=true"),
    ),
    "growing": (*CONVOLUTIONS, "networks.growing=100", "task.size=16"),
    "stacked": (*CONVOLUTIONS, "networks.stacked=200", "task.size=16"),
    "second beta": ("game.generator.beta2=0.9", "game.generator.beta2_end=0.99"),
    "loss energy": (*CONVOLUTIONS, *ENERGIES, "game.pulling_away=0.1"),
    "codes": (*CONVOLUTIONS, "networks.categorical_codes=2", "networks.continuous_codes=1", "game.information=1"),
    "several discriminators": (*CONVOLUTIONS, "task.size=16", "networks.discriminators=2", "networks.scales=2"),
}
for _name in get_args(ConditionName):
    naming = ("game.auxiliary=1",) if _name == "naming" else ()
    SETTINGS[f"condition {_name}"] = (*WIDE, "networks.conditional=true", f"networks.condition={_name}", *naming)
for _name in get_args(FamilyName):
    SETTINGS[f"family {_name}"] = (*WIDE, f"networks.family={_name}", "networks.generator_norm=none")
for _name in get_args(LossName):
    if _name not in ("custom", "energy"):  # functions of Python's: tests/test_resume.py; an autoencoder's: above
        SETTINGS[f"loss {_name}"] = (f"game.loss={_name}",)
for _name in get_args(PenaltyName):
    SETTINGS[f"penalty {_name}"] = (f"game.penalty.kind={_name}",)
for _name in get_args(UpdateName):
    SETTINGS[f"update {_name}"] = (*CONVOLUTIONS, *by_update(_name))
for _name in get_args(CorrectionName):
    SETTINGS[f"correction {_name}"] = (f"game.correction.kind={_name}", "game.update=simultaneous")
SETTINGS["lookahead"] = ("game.lookahead=7", "game.update=optimistic")
for _name in get_args(OptimizerName):
    SETTINGS[f"optimizer {_name}"] = tuple(
        f"game.{player}.{setting}"
        for player in ("generator", "discriminator")
        for setting in (f"optimizer={_name}", "beta1=0.5", "weight_decay=0.01", "rate=0.001")
    )
for _name in get_args(PolicyName):
    SETTINGS[f"policy {_name}"] = (f"stopping.policy={_name}", "stopping.patience.evaluations=2", PROBABLE)
IN_QUICK = ("spectral norm", "optimizer sgd", "policy evidence", "update simultaneous")


def short(case: Case) -> Case:
    """Return a training that is long enough for three evaluations."""
    return case.but("game.penalty.gamma=0.1", budget=480)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in IN_QUICK else pytest.mark.faults) for name in SETTINGS]
)
def test_a_kill_leaves_no_trace_whatever_is_trained(case: Case, tmp_path: Path, name: str, seed: int) -> None:
    """Every network, loss, penalty, optimizer, update and policy."""
    assert killing.kill_at_random(short(case).but(*SETTINGS[name]), tmp_path, 1, seed).num_kills == 1


@pytest.mark.faults
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", NAMES)
def test_a_kill_leaves_no_trace_in_any_named_recipe(case: Case, tmp_path: Path, name: RecipeName, seed: int) -> None:
    """With the recipe's own game, and small networks."""
    names = ("evaluation.", "saving.", "data.", "networks.latent_size=", "game.batch=")
    settings = tuple(setting for setting in killing.SETTLED if setting.startswith(names))
    if name == "infogan":  # whose codes are made of 12 latents
        settings = tuple(setting for setting in settings if not setting.startswith("networks.latent_size="))
    if name not in ("dcgan-64", "conv-28"):  # which have a size of their own
        settings += ("task.size=16",)
    changed = dataclasses.replace(case, recipe=name, settings=(*settings, "networks.width=4"), budget=320)
    assert killing.kill_at_random(changed, tmp_path, 1, seed).num_kills == 1


def test_every_name_is_tried() -> None:
    """A name that is new has a case in `SETTINGS`."""
    tried = " ".join(setting for settings in SETTINGS.values() for setting in settings)
    names = (*get_args(BoundaryName)[1:], *get_args(OptimizerName), *get_args(LossName), *get_args(FamilyName))
    names += (*get_args(UpdateName), *get_args(CorrectionName), *get_args(ConditionName), *get_args(PenaltyName))
    for name in (*names, *get_args(PolicyName)):
        assert f"={name}" in tried or name == "custom"
    assert set(IN_QUICK) <= set(SETTINGS)


def killed_in_the_middle(case: Case, folder: Path, out: Path) -> None:
    """Kill a run just after its second checkpoint."""
    found = killing.calls_of(case, folder)
    written = [place for place, call in enumerate(found) if re.search(r"/checkpoints/\d+$", call.target)]
    killing.killed_at(case, out, written[1] + 1)
    assert killing.region(case, out) == "in training"


@pytest.mark.timeout(300)
def test_a_resume_with_another_number_of_threads_keeps_the_runs_own(case: Case, tmp_path: Path) -> None:
    """Sums in another order would end the equality."""
    case = brief(case)
    out = tmp_path / "run"
    expected = killing.finished(case, tmp_path / "whole")
    killed_in_the_middle(case, tmp_path, out)
    threads = tmp_path / "threads"
    assert killing.lived(case, out, partial(killing.with_threads, 2, threads)) == 0
    assert threads.read_text() == "1"
    killing.check_same(killing.facts(out), expected)  # no event tells of another environment


@pytest.mark.timeout(300)
def test_a_resume_under_another_version_says_so_on_the_terminal_in_the_events_and_in_the_report(
    case: Case, tmp_path: Path
) -> None:
    """It is not bit for bit the same run, and nobody must have to find that out."""
    out = tmp_path / "run"
    environment = out / "environment.json"
    killed_in_the_middle(brief(case), tmp_path, out)
    environment.write_text(re.sub(r'"torch": "[^"]*"', '"torch": "1.0.0"', environment.read_text()))
    assert killing.lived(brief(case), out) == 0
    change = f"torch 1.0.0 → {torch.__version__}"
    events = [event for event in records(out / "log" / "events.jsonl") if event["kind"] == "environment changed"]
    assert [change in event["message"] for event in events] == [True]
    assert change in " ".join(killing.said(out).split())
    assert change in (out / "report.html").read_text()


def test_a_checkpoint_taken_after_a_fall_back_is_not_given_up_for_damaged_later_ones(tmp_path: Path) -> None:
    """The damaged ones are newer by their names, and no reason to remove the only good one."""
    for samples in (80, 160, 240, 320):
        checkpoints.save(tmp_path, samples, {"weight": torch.ones(1)}, {"samples": samples}, lambda old: True)
    for samples in (160, 240, 320):
        (tmp_path / f"{samples:012d}" / "tensors.safetensors").write_bytes(b"")
    checkpoints.save(tmp_path, 96, {"weight": torch.zeros(1)}, {"samples": 96})
    found = checkpoints.latest(tmp_path)
    assert found is not None
    assert found.values["samples"] == 96
