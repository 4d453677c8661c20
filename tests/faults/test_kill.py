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
from functools import partial
from pathlib import Path
from typing import get_args

import calls
import killing
import pytest
import torch
from killing import Case

from equipoise.recipe import BoundaryName, FamilyName, LossName, OptimizerName, PenaltyName, PolicyName
from equipoise.recipes import RecipeName
from equipoise.storage import checkpoints
from equipoise.storage.logs import records

QUICK = Path(__file__).parent.parent / "quick.py"
BRIEF = ("judging.every=24", "saving.every=16", "saving.log_every=8")  # two looks and four saves in six steps
NUM_BRIEF = 48
EVERY = 15  # of all calls, in the quick part


@pytest.fixture
def seed() -> int:
    """Return another seed each time, which pytest shows where a test fails."""
    seed = int(os.environ.get("EQUIPOISE_KILL_SEED", random.randrange(10**6)))
    print(f"EQUIPOISE_KILL_SEED={seed}")
    return seed


@pytest.mark.slow
def test_a_few_kills_leave_no_trace(case: Case, tmp_path: Path, seed: int) -> None:
    assert killing.kill_at_random(case.but(budget=800), tmp_path, 5, seed).num_kills == 5


@pytest.mark.faults
def test_fifty_kills_all_over_the_life_of_a_training_leave_no_trace(case: Case, tmp_path: Path, seed: int) -> None:
    tally = killing.kill_at_random(case, tmp_path, 50, seed)
    print(tally)
    assert tally.num_kills == 50
    assert set(tally.regions) <= set(killing.REGIONS)


@pytest.mark.faults
@pytest.mark.parametrize("where", killing.REGIONS)
def test_kills_in_every_region_of_a_life_leave_no_trace(case: Case, tmp_path: Path, where: str, seed: int) -> None:
    """The short ones are hit by chance only now and then: here by what lies on the disk, until each is hit thrice."""
    expected, chance = killing.finished(case, tmp_path / "whole"), random.Random(seed)
    num_hits, latest = 0, 0.1
    for attempt in range(30):
        out = tmp_path / f"run-{attempt}"
        if killing.killed_in(case, out, where, chance.uniform(0, latest)) and killing.region(case, out) == where:
            num_hits += 1
        else:
            latest /= 2  # seconds; it was over by then
        difference = killing.differences(killing.finished(case, out), expected)
        assert not difference, f"seed {seed}, attempt {attempt}: {difference}"
        if num_hits == 3:
            return
    raise AssertionError(f"hit {num_hits} times only")


@pytest.mark.faults
@pytest.mark.timeout(600)
def test_kills_of_the_true_command_line_leave_no_trace(case: Case, tmp_path: Path, seed: int) -> None:
    """As a person has it: new processes, threads of saving, hash seeds of their own, all images to choose by."""
    case, chance, out = dataclasses.replace(case, as_shipped=True), random.Random(seed), tmp_path / "run"
    expected, num_kills = killing.finished(case, tmp_path / "whole"), 0
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
    difference = killing.differences(killing.facts(out), expected)
    assert not difference, difference


def brief(case: Case) -> Case:
    return case.but(*BRIEF, budget=NUM_BRIEF)


def killed_at(case: Case, out: Path, index: int, torn: bool) -> None:
    """Kill a run before one of its calls, and fail where it was not killed."""
    code = killing.lived(case, out, partial(calls.kill_before, out, index, torn))
    assert code == -signal.SIGKILL, f"call {index}: exit code {code}: {killing.said(out)}"


def kill_at_calls(case: Case, folder: Path, step: int) -> Counter[str]:
    """Kill one run before each `step`-th of its calls, and within each write of a log; return how many of each kind."""
    expected = killing.finished(case, folder / "whole")
    killing.lived(case, folder / "counted", partial(calls.record, folder / "counted", folder / "calls"))
    found, tally = calls.recorded(folder / "calls"), Counter[str]()
    # With one thread nothing lies between the end of a call and the next call: before the one is after the other.
    points = [(index, False) for index in range(0, len(found), step)]
    torn = [index for index, call in enumerate(found) if call.name == "write"]
    points += [(index, True) for index in torn[:: max(1, step // 5)]]
    for index, is_torn in points:
        out = folder / f"run-{index}-{is_torn}"
        killed_at(case, out, index, is_torn)
        difference = killing.differences(killing.finished(case, out), expected)
        assert not difference, f"{'within' if is_torn else 'before'} call {index}, {found[index]}: {difference}"
        tally[f"within {found[index].name}" if is_torn else found[index].name] += 1
        shutil.rmtree(out)
    return tally


@pytest.mark.slow
def test_a_kill_before_every_fifteenth_call_leaves_no_trace(case: Case, tmp_path: Path) -> None:
    assert kill_at_calls(brief(case), tmp_path, EVERY).total() > 12


@pytest.mark.faults
def test_a_kill_before_any_call_that_changes_a_file_leaves_no_trace(case: Case, tmp_path: Path) -> None:
    tally = kill_at_calls(brief(case), tmp_path, 1)
    print(tally)
    assert tally.total() > 200
    assert {"fsync", "rename", "replace", "unlink", "rmdir", "mkdir", "open", "within write"} <= set(tally)


def test_what_a_checkpoint_relies_on_is_on_the_disk_before_it_has_its_name(case: Case, tmp_path: Path) -> None:
    """What no kill can show, since the system keeps what a killed process has written: the order of the syncs."""
    for name, is_careless in (("careful", False), ("careless", True)):
        out, lines = tmp_path / name, tmp_path / f"{name}.calls"
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
    found, numbers = [], Counter[tuple[str, str]]()
    for line in text.splitlines():
        match = re.match(r"(\d+) +(\w+)\((.*)", line)
        if match is None or "resumed>" in line:
            continue
        thread, name, rest = match.groups()
        numbers[thread, name] += 1
        folder, words = re.match(r"(?:\w+)<([^>]*)>", rest), re.findall(r'"([^"]*)"', rest)
        path = os.path.join(folder[1], words[0]) if folder and words else folder[1] if folder else words[0]
        if Path(path) != base and not path.startswith(f"{base}/"):
            continue
        plain = {"unlinkat": "rmdir" if "AT_REMOVEDIR" in rest else "unlink"}.get(name, name)
        target = os.path.relpath(words[1], base) if name == "rename" else ""
        found.append(
            Traced(thread, name, numbers[thread, name], calls.Call(plain, os.path.relpath(path, base), target))
        )
    return found


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
    done = subprocess.run(command, stdout=subprocess.DEVNULL, env=os.environ | environment, timeout=120, check=False)
    return done.returncode, lines.read_text()


@pytest.mark.faults
@pytest.mark.timeout(900)
@pytest.mark.skipif(STRACE is None, reason="strace is not installed")
def test_a_kill_by_the_kernel_at_any_sync_rename_or_unlink_of_a_look_and_a_save_leaves_no_trace(
    case: Case, tmp_path: Path
) -> None:
    (tmp_path / "seen").mkdir()
    seen, lines = tmp_path / "seen" / "run", tmp_path / "lines"
    code, text = under_strace(brief(case), seen, "-e", f"trace={TRACED}", to=lines)
    if code != 0 and not text:
        pytest.skip("strace may not follow processes here")
    assert code == 0
    found, names = traced(text, seen.parent), {"fsync", "rename", "unlink", "rmdir", "mkdir"}
    wrapped = Counter(call.kind for call in calls.recorded(lines) if call.kind[0] in names)
    assert Counter(one.call.kind for one in found) == wrapped, "the kernel saw other calls than the tests that wrap"

    whole = killing.finished(brief(case), tmp_path / "whole")
    del whole["pictures"]  # the processes that resume here draw fewer images into one
    points = [one for one in found if one.name in ("fsync", "rename", "unlink", "unlinkat", "rmdir")]
    saver = next(one.thread for one in found if "/checkpoints/" in one.call.path)
    points = [one for one in points if one.thread == saver]
    begin = next(place for place, one in enumerate(points) if "/candidates/" in one.call.path)  # the first look
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
        difference = killing.differences(killing.finished(brief(case), out), whole)
        assert not difference, f"at {one}: {difference}"
        tally[one.name] += 1
        shutil.rmtree(out)
    print(tally)
    assert {"fsync", "rename", "rmdir"} <= set(tally)
    assert set(tally) & {"unlink", "unlinkat"}


WIDE = ("networks.width=4", "networks.latent_size=4")
CONVOLUTIONS = (*WIDE, "networks.family=dcgan", "networks.generator_norm=batch")
PROBABLE = "game.loss=non-saturating"
SETTINGS: dict[str, tuple[str, ...]] = {
    "batch norm, conditional": (*CONVOLUTIONS, "networks.conditional=true"),
    "spectral norm": (*WIDE, "networks.family=resnet", "networks.spectral_norm=true", "game.loss=hinge"),
    "layer norm": (*CONVOLUTIONS, "networks.discriminator_norm=layer"),
    "augmented": ("augment.kinds=flip,translation,rotation,scale,crop,color,cutout", "augment.strength=0.6"),
    "dropout": ("networks.dropout=0.3", "data.flip=true"),
    "two discriminator steps": ("game.discriminator_steps=2",),
    "lazy penalty, noise": ("game.penalty.every=3", "game.instance_noise=0.2"),
    "weight clip": ("game.loss=wasserstein", "game.weight_clip=0.01", "game.penalty.kind=none"),
    "clipped gradients, rates": ("game.generator.clip_norm=0.5", "game.discriminator.rate_end=0.0001"),
    "no average": ("game.ema_half_life=0",),
    "by fid": ("judging.metric=fid", "stopping.policy=evidence"),
    "normal mixture": ("stopping.policy=evidence", "stopping.boundary=normal-mixture"),
    "bfloat16": ("precision=bfloat16",),
    "kept checkpoints": ("saving.keep=2",),
}
for _name in get_args(FamilyName):
    SETTINGS[f"family {_name}"] = (*WIDE, f"networks.family={_name}", "networks.generator_norm=none")
for _name in get_args(LossName):
    SETTINGS[f"loss {_name}"] = (f"game.loss={_name}",)
for _name in get_args(PenaltyName):
    SETTINGS[f"penalty {_name}"] = (f"game.penalty.kind={_name}",)
for _name in get_args(OptimizerName):
    SETTINGS[f"optimizer {_name}"] = tuple(
        f"game.{player}.{setting}"
        for player in ("generator", "discriminator")
        for setting in (f"optimizer={_name}", "beta1=0.5", "weight_decay=0.01", "rate=0.001")
    )
for _name in get_args(PolicyName):
    SETTINGS[f"policy {_name}"] = (f"stopping.policy={_name}", "stopping.patience=2", PROBABLE)
IN_QUICK = ("spectral norm", "optimizer sgd", "policy evidence")


def short(case: Case) -> Case:
    return case.but("game.penalty.gamma=0.1", budget=480)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in IN_QUICK else pytest.mark.faults) for name in SETTINGS]
)
def test_a_kill_leaves_no_trace_whatever_is_trained(case: Case, tmp_path: Path, name: str, seed: int) -> None:
    assert killing.kill_at_random(short(case).but(*SETTINGS[name]), tmp_path, 1, seed).num_kills == 1


@pytest.mark.faults
@pytest.mark.parametrize("name", get_args(RecipeName))
def test_a_kill_leaves_no_trace_in_any_named_recipe(case: Case, tmp_path: Path, name: RecipeName, seed: int) -> None:
    names = ("networks.width=", "judging.", "saving.", "data.", "networks.latent_size=", "game.batch=")
    settings = tuple(setting for setting in killing.SETTLED if setting.startswith(names))
    settings += ("data.size=16" if name not in ("dcgan-64", "conv-28") else "seed=3",)
    changed = dataclasses.replace(case, recipe=name, settings=(*settings, "networks.width=4"), budget=320)
    assert killing.kill_at_random(changed, tmp_path, 1, seed).num_kills == 1


def test_every_name_is_tried() -> None:
    tried = " ".join(setting for settings in SETTINGS.values() for setting in settings)
    for name in (*get_args(BoundaryName)[1:], *get_args(OptimizerName), *get_args(LossName), *get_args(FamilyName)):
        assert f"={name}" in tried
    assert set(IN_QUICK) <= set(SETTINGS)


def test_a_resume_with_another_number_of_threads_keeps_the_runs_own(case: Case, tmp_path: Path) -> None:
    case, out = brief(case), tmp_path / "run"
    expected = killing.finished(case, tmp_path / "whole")
    killed_at(case, out, 130, torn=False)
    assert killing.region(case, out) == "in training"
    threads, said = tmp_path / "threads", killing.said(out)
    assert killing.lived(case, out, partial(killing.with_threads, 2, threads)) == 0
    assert threads.read_text() == "1"
    assert "not bit for bit" not in killing.said(out)[len(said) :]
    difference = killing.differences(killing.facts(out), expected)
    assert not difference, difference


def test_a_resume_under_another_version_says_so_on_the_terminal_in_the_events_and_in_the_report(
    case: Case, tmp_path: Path
) -> None:
    out, environment = tmp_path / "run", tmp_path / "run" / "environment.json"
    killed_at(brief(case), out, 130, torn=False)
    environment.write_text(re.sub(r'"torch": "[^"]*"', '"torch": "1.0.0"', environment.read_text()))
    assert killing.lived(brief(case), out) == 0
    said = " ".join(killing.said(out).split())
    assert "torch 1.0.0 →" in said
    assert "not bit for bit" in said
    events = [event for event in records(out / "log" / "events.jsonl") if event["kind"] == "another environment"]
    assert ["torch 1.0.0 →" in event["message"] for event in events] == [True]
    assert "torch 1.0.0 →" in (out / "report.html").read_text()


def test_a_checkpoint_taken_after_a_fall_back_is_not_given_up_for_damaged_later_ones(tmp_path: Path) -> None:
    for samples in (80, 160, 240, 320):
        checkpoints.save(tmp_path, samples, {"weight": torch.ones(1)}, {"samples": samples}, lambda old: True)
    for samples in (160, 240, 320):
        (tmp_path / f"{samples:012d}" / "tensors.safetensors").write_bytes(b"")
    checkpoints.save(tmp_path, 96, {"weight": torch.zeros(1)}, {"samples": 96})
    found = checkpoints.latest(tmp_path)
    assert found is not None
    assert found.values["samples"] == 96
