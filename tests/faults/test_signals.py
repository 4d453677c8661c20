"""Signals at any moment: it leaves soon and in order, and the resumed run is the one that was never stopped.

The flag, the handlers and the deadline by themselves are in tests/host.
"""

import dataclasses
import shlex
import shutil
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import calls
import killing
import lives
import pytest

from equipoise.runs.folder import RunFolder
from equipoise.storage.files import read_json
from equipoise.storage.logs import records

EVALUATE = "evaluation.scoring.evaluate"
CHUNK = "evaluation.evaluate.checked_outputs"  # three chunks of a generator, and of the best one in later evaluations
ROUND = "loop.set_rates"
HANGING = 2 * lives.LONGEST  # seconds, for which only what is heard ends it
MOMENTS = {
    "round": (ROUND, 20, 0.0),
    "first evaluation": (CHUNK, 2, 0.0),
    "later evaluation": (CHUNK, 7, 0.0),
    "last evaluation": (CHUNK, 17, 0.0),
    "save": ("storage.checkpoints.written_whole", 3, 0.0),
    "encoder": ("metrics.features.encoder._loss", 2, HANGING),
    "images": ("data.store._write_images", 1, HANGING),
    "baselines": ("evaluation.rivals.checked_outputs", 1, HANGING),
    "selection": ("evaluation.finish.select_best", 1, HANGING),
    "exhibits": ("evaluation.finish.write_exhibits", 1, HANGING),
    "test": ("evaluation.finish.judge_rivals", 1, HANGING),
    "report": ("setup.write_report", 1, HANGING),
}
FRESH = ("encoder", "images")  # these happen with an empty cache only
AROUND = {  # there is a run, and nothing to save; and what it says of itself
    "encoder": "new",
    "baselines": "running",
    "selection": "running",
    "exhibits": "running",
    "test": "running",
    "report": "finished",
}
SENT = [(moment, signal.SIGTERM) for moment in MOMENTS]
SENT += [(moment, signal.SIGINT) for moment in ("round", "first evaluation", "selection")]  # handled alike


@pytest.fixture
def command(command: lives.Command) -> lives.Command:
    """Return the command of a training whose evaluations have several chunks."""
    return dataclasses.replace(command, settings=(*command.settings, "evaluation.num_samples=600"))


@pytest.fixture(autouse=True)
def _no_nohup() -> Iterator[None]:
    """Hear SIGHUP also where the tests run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def check_left(life: lives.Life) -> None:
    """See that a process left by itself, with a code of its own and at most one line."""
    assert life.ended(lives.LEAVING) == 130, life.told()
    assert "Traceback" not in life.said() + life.told()
    assert life.told().count("\n") <= 1


def hook_of(moment: str, number: int) -> lives.Deed:
    """Return what sends a signal at a moment; of an evaluation that is given up no further chunk may begin."""
    place, call, wait = MOMENTS[moment]
    if place == CHUNK:
        return partial(lives.at_last, place, call, partial(lives.send, number, wait))
    return lives.signalled(place, call, number, wait)


@pytest.mark.faults
@pytest.mark.parametrize(("moment", "number"), SENT, ids=lambda part: getattr(part, "name", part))
def test_a_signal_at_any_moment_is_heard_soon_and_costs_nothing(
    command: lives.Command, tmp_path: Path, moment: str, number: int
) -> None:
    """Before the training, in it and after it."""
    fresh = command
    if moment in FRESH:
        fresh = dataclasses.replace(command, cache=tmp_path / "cache")
    run = RunFolder(tmp_path / "run")
    life = fresh.begun(run.path, hook_of(moment, number))
    check_left(life)
    assert not list((tmp_path / "cache").rglob(".aside-*"))
    if moment == "images":
        assert not run.path.exists()
        lives.one_line(life.told())
    elif moment in AROUND:
        assert "equipoise resume" in lives.one_line(life.told())
        assert run.read_state().status == AROUND[moment]
    else:
        assert life.told() == ""
        assert f"equipoise resume {shlex.quote(str(run.path))}" in " ".join(life.said().split())
        assert run.read_state().status == "stopped"
    assert command.finished(run.path) == lives.expected(command)


@pytest.mark.faults
@pytest.mark.parametrize("moment", ["round", "first evaluation", "save"])
def test_a_second_ctrl_c_leaves_at_once_and_nothing_half_is_taken_for_whole(
    command: lives.Command, tmp_path: Path, moment: str
) -> None:
    """The first one ends an evaluation; what hangs then, or hung before, is ended by the second."""
    place, call, _ = MOMENTS[moment]
    wait = HANGING
    hook: lives.Deed = lives.both
    if moment == "first evaluation":
        wait = 0.0
        hook = partial(lives.at, "storage.files._replace_folder", 1, partial(lives.send, 0, HANGING))
    twice = partial(lives.at, place, call, partial(lives.send_twice, signal.SIGINT, 1.5, wait))
    life = command.begun(tmp_path / "run", partial(lives.both, hook, twice))
    check_left(life)
    assert "equipoise resume" in lives.one_line(life.told())
    assert command.finished(tmp_path / "run") == lives.expected(command)


def stopped_in_evaluation(case: killing.Case, out: Path, number: int, hook: lives.Deed = lives.both) -> int:
    """Stop a run in one of its evaluations, and return the samples of its last checkpoint, which is of before that."""
    sent = lives.signalled(EVALUATE, number, signal.SIGTERM)
    assert killing.lived(case, out, partial(lives.both, hook, sent)) == 130, killing.said(out)
    samples = RunFolder(out).newest_good()
    assert samples is not None
    values = read_json(out / "checkpoints" / f"{samples:012d}" / "state.json")
    assert values is not None
    assert values["evaluated"] < samples
    return samples


def check_through(case: killing.Case, out: Path, expected: dict[str, Any], hook: lives.Deed | None = None) -> None:
    """Let a run that was stopped and killed come to its end, as if neither had happened; the stop is an event."""
    assert killing.lived(case, out, hook) == 0, killing.said(out)
    found = killing.facts(out)
    events = [[event for event in facts["events"] if event["kind"] != "stop"] for facts in (found, expected)]
    killing.check_same(found | {"events": events[0]}, expected | {"events": events[1]})


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_a_kill_while_the_checkpoint_of_an_evaluation_that_was_given_up_is_written_again_leaves_no_trace(
    case: killing.Case, tmp_path: Path
) -> None:
    """The resume takes the evaluation again, and replaces the checkpoint that it began from."""
    case = case.but("evaluation.every=24", "saving.every=32", "saving.log_every=8", budget=48)
    expected = killing.finished(case, tmp_path / "whole")
    stopped = tmp_path / "stopped"
    assert stopped_in_evaluation(case, stopped, 1) == 24
    again = shutil.copytree(stopped, tmp_path / "again")
    assert killing.lived(case, again, partial(calls.record, again, tmp_path / "calls")) == 0
    found = calls.recorded(tmp_path / "calls")
    end = next(index for index, call in enumerate(found) if "000000000032" in call.path + call.target)
    assert any(call.target.endswith("checkpoints/000000000024") for call in found[:end]), "it is not written again"
    begin = next(index for index, call in enumerate(found) if "checkpoints/" in call.path)
    soon = partial(lives.at, ROUND, 1, lives.kill)  # or a start from 0 would mend what it lost
    for index, call in enumerate(found[begin:end], begin):
        if call.name in ("fsync", "rename", "replace", "rmdir"):
            out = shutil.copytree(stopped, tmp_path / f"run-{index}")
            killing.killed_at(case, out, index)
            assert killing.lived(case, out, soon) == -signal.SIGKILL, killing.said(out)
            check_through(case, out, expected)
            shutil.rmtree(out)


@pytest.mark.faults
def test_an_evaluation_that_was_given_up_and_finds_no_candidate_is_logged_once_after_a_kill(
    case: killing.Case, tmp_path: Path
) -> None:
    """The resume takes it again, and is killed before the next save."""
    case = case.but("evaluation.every=24", "saving.every=40", "saving.log_every=8", budget=128)
    assert killing.lived(case, tmp_path / "whole", lives.worsening) == 0
    expected = killing.facts(tmp_path / "whole")
    out = tmp_path / "run"
    assert stopped_in_evaluation(case, out, 4, lives.worsening) == 96
    killed = partial(lives.at, ROUND, 1, lives.kill)
    assert killing.lived(case, out, partial(lives.both, lives.worsening, killed)) == -signal.SIGKILL
    assert RunFolder(out).newest_good() == 96, "the evaluation found a candidate"
    assert [record["samples"] for record in records(RunFolder(out).scores)] == [24, 48, 72, 96]
    check_through(case, out, expected, lives.worsening)
    assert [record["samples"] for record in records(RunFolder(out).scores)] == [24, 48, 72, 96, 120, 128]


LATE = {
    "in the last save": ("loop.save", 7),
    "while the last save is waited for": ("host.writer.BackgroundWriter.wait", 1),
    "after the last verdict": ("host.signals.Interruption.__exit__", 1),
}


@pytest.mark.faults
@pytest.mark.parametrize("moment", LATE)
def test_a_signal_too_late_for_the_training_stops_what_follows_it(
    command: lives.Command, tmp_path: Path, moment: str
) -> None:
    """The test split stays untouched, and the resume ends the run."""
    life = command.begun(tmp_path / "run", lives.signalled(*LATE[moment], signal.SIGTERM))
    check_left(life)
    run = RunFolder(tmp_path / "run")
    state = run.read_state()
    assert run.newest_good() == command.budget, "it came before the last save"
    assert state.status != "finished"
    assert state.selection is None
    assert state.test is None
    assert command.finished(run.path) == lives.expected(command)


@pytest.mark.faults
def test_a_closed_terminal_ends_the_training_in_order_unless_that_is_to_be_ignored(
    command: lives.Command, tmp_path: Path
) -> None:
    """Nothing that is said can be shown any more."""
    hang_up = lives.signalled(ROUND, 20, signal.SIGHUP)
    gone = partial(lives.at, ROUND, 20, lives.full_output)
    life = command.begun(tmp_path / "run", partial(lives.both, gone, hang_up))
    check_left(life)
    assert life.told() == ""
    assert RunFolder(tmp_path / "run").read_state().status == "stopped"
    ignored = partial(lives.ignore, signal.SIGHUP)  # as nohup does
    life = command.begun(tmp_path / "run", partial(lives.both, ignored, hang_up))
    assert life.ended() == 0
    assert lives.parts_of(tmp_path / "run") == lives.expected(command)


@pytest.mark.faults
@pytest.mark.parametrize("output", [lives.broken_pipe, lives.full_output, lives.no_output])
def test_a_training_goes_on_where_nobody_reads_what_it_says(
    command: lives.Command, tmp_path: Path, output: lives.Deed
) -> None:
    """What cannot be shown is no reason to stop."""
    life = command.begun(tmp_path / "run", output)
    assert life.ended() == 0, life.told()
    assert life.told() == ""
    assert lives.parts_of(tmp_path / "run") == lives.expected(command)
