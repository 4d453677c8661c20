"""Signals at any moment: it leaves soon and in order, and the resumed run is the one that was never stopped."""

import json
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import calls
import killing
import lives
import pytest

from equipoise.host.signals import Abandoned, Interruption, leaving_in_order
from equipoise.runs.folder import RunFolder
from equipoise.storage.logs import records

LOOK = "evaluation.evaluate.score_features"
MOMENTS = {
    "step": ("loop.take_generator_step", 20, 0.0),
    "first look": (LOOK, 1, 30.0),
    "later look": (LOOK, 2, 30.0),
    "last look": (LOOK, 4, 30.0),
    "save": ("storage.checkpoints.written_whole", 3, 0.0),
    "lesson": ("metrics.features.encoder._loss", 2, 30.0),
    "images": ("data.store._write_images", 1, 30.0),
    "second judging": ("evaluation.finish.judged_again", 1, 30.0),
    "test": ("evaluation.finish.with_nearest", 1, 30.0),
    "report": ("evaluation.finish.write_report", 1, 30.0),
}
BEFORE = ("lesson", "images")
AFTER = ("second judging", "test", "report")
SENT = [(moment, signal.SIGTERM) for moment in MOMENTS]
SENT += [(moment, signal.SIGINT) for moment in ("step", "first look", "second judging")]  # handled alike


def check_left(life: lives.Life, within: float = lives.LONGEST) -> None:
    assert life.ended(within) == 130, life.told()
    assert "Traceback" not in life.said() + life.told()
    assert life.told().count("\n") <= 1


@pytest.mark.faults
@pytest.mark.parametrize(("moment", "number"), SENT, ids=lambda part: getattr(part, "name", part))
def test_a_signal_at_any_moment_is_heard_soon_and_costs_nothing(
    command: lives.Command, tmp_path: Path, moment: str, number: int
) -> None:
    place, call, wait = MOMENTS[moment]
    fresh = command if moment not in BEFORE else lives.Command(command.source, tmp_path / "cache")
    life = fresh.begun(tmp_path / "run", lives.signalled(place, call, number, wait))
    check_left(life, within=25.0)  # 10 s, and the start on a busy machine; what hangs would last for 30
    if moment in BEFORE:
        assert not (tmp_path / "run").exists()
        assert not list((tmp_path / "cache").rglob(".aside-*"))
        assert "begin again" in lives.one_line(life.told())
    elif moment in AFTER:
        assert "resume" in lives.one_line(life.told())
    else:
        assert life.told() == ""
        assert "Go on:  equipoise resume" in life.said()
        assert RunFolder(tmp_path / "run").read_state()["status"] == "stopped"
    assert command.finished(tmp_path / "run") == lives.expected(command)


@pytest.mark.faults
@pytest.mark.parametrize("moment", ["step", "first look", "save"])
def test_a_second_ctrl_c_leaves_at_once_and_nothing_half_is_taken_for_whole(
    command: lives.Command, tmp_path: Path, moment: str
) -> None:
    place, call, _ = MOMENTS[moment]
    # What hangs lasts for a minute. A look is given up for the first signal, the end of the training for the second.
    deed = partial(lives.send_twice, signal.SIGINT, 1.5, 0.0 if moment == "first look" else 60.0)
    hook = partial(lives.at, place, call, deed)
    if moment == "first look":
        hang = partial(lives.at, "storage.files._replace_folder", 1, partial(lives.send, 0, 60.0))
        hook = partial(lives.both, hook, hang)
    life = command.begun(tmp_path / "run", hook)
    check_left(life, within=25.0)
    assert "resume" in lives.one_line(life.told())
    assert command.finished(tmp_path / "run") == lives.expected(command)


def stopped_in_look(case: killing.Case, out: Path, number: int, hook: lives.Deed = lives.both) -> int:
    """Stop a run in one of its looks, and return the samples of its last checkpoint, which has that look before it."""
    sent = lives.signalled(LOOK, number, signal.SIGTERM, 30.0)
    assert killing.lived(case, out, partial(lives.both, hook, sent)) == 130, killing.said(out)
    samples = RunFolder(out).newest_good()
    assert samples is not None
    values = json.loads((out / "checkpoints" / f"{samples:012d}" / "state.json").read_text())
    assert values["judged"] < samples
    return samples


def check_through(case: killing.Case, out: Path, expected: dict[str, Any], hook: lives.Deed | None = None) -> None:
    """Let a run that was stopped and killed come to its end, as if neither had happened."""
    assert killing.lived(case, out, hook) == 0, killing.said(out)
    found = killing.facts(out)
    found["events"] = [one for one in found["events"] if not one["message"].startswith("You stopped it")]
    difference = killing.differences(found, expected)
    assert not difference, difference


@pytest.mark.faults
def test_a_kill_while_the_checkpoint_of_a_look_that_was_given_up_is_written_again_leaves_no_trace(
    case: killing.Case, tmp_path: Path
) -> None:
    case = case.but("judging.every=24", "saving.every=32", "saving.log_every=8", budget=48)
    expected, stopped = killing.finished(case, tmp_path / "whole"), tmp_path / "stopped"
    assert stopped_in_look(case, stopped, 1) == 24
    again = shutil.copytree(stopped, tmp_path / "again")
    assert killing.lived(case, again, partial(calls.record, again, tmp_path / "calls")) == 0
    found = calls.recorded(tmp_path / "calls")
    end = next(index for index, call in enumerate(found) if "000000000032" in call.path + call.target)
    assert any(call.target.endswith("checkpoints/000000000024") for call in found[:end]), "it is not written again"
    begin = next(index for index, call in enumerate(found) if "checkpoints/" in call.path)
    soon = partial(lives.at, "loop.take_generator_step", 1, lives.kill)  # or a start from 0 would mend what it lost
    for index, call in enumerate(found[begin:end], begin):
        if call.name in ("fsync", "rename", "replace", "rmdir"):
            out = shutil.copytree(stopped, tmp_path / f"run-{index}")
            code = killing.lived(case, out, partial(calls.kill_before, out, index))
            assert code == -signal.SIGKILL, f"call {index}, {call}: exit code {code}: {killing.said(out)}"
            assert killing.lived(case, out, soon) == -signal.SIGKILL, killing.said(out)
            check_through(case, out, expected)
            shutil.rmtree(out)


@pytest.mark.faults
def test_a_look_that_was_given_up_and_finds_no_candidate_is_logged_once_after_a_kill(
    case: killing.Case, tmp_path: Path
) -> None:
    case = case.but("judging.every=24", "saving.every=40", "saving.log_every=8", budget=128)
    assert killing.lived(case, tmp_path / "whole", lives.worsening) == 0
    expected, out = killing.facts(tmp_path / "whole"), tmp_path / "run"
    assert stopped_in_look(case, out, 4, lives.worsening) == 96
    killed = partial(lives.at, "loop.take_generator_step", 1, lives.kill)  # after the look, before the next save
    assert killing.lived(case, out, partial(lives.both, lives.worsening, killed)) == -signal.SIGKILL
    assert RunFolder(out).newest_good() == 96, "the look found a candidate"
    assert [record["samples"] for record in records(RunFolder(out).scores)] == [24, 48, 72, 96]
    check_through(case, out, expected, lives.worsening)
    assert [record["samples"] for record in records(RunFolder(out).scores)] == [24, 48, 72, 96, 120, 128]


LATE = {
    "in the last save": ("loop.save", 7),
    "while the last save is waited for": ("saver.Saver.wait", 1),
    "after the last verdict": ("interrupt.Interruption.__exit__", 1),
}


@pytest.mark.faults
@pytest.mark.parametrize("moment", LATE)
def test_a_signal_too_late_for_the_training_stops_what_follows_it(
    command: lives.Command, tmp_path: Path, moment: str
) -> None:
    life = command.begun(tmp_path / "run", lives.signalled(*LATE[moment], signal.SIGTERM))
    check_left(life)
    run = RunFolder(tmp_path / "run")
    state = run.read_state()
    assert run.newest_good() == command.budget, "it came before the last save"
    assert state["status"] != "finished"
    assert state.get("rescored") is None
    assert state.get("test") is None
    assert not (run.samples / "nearest.png").exists()
    assert command.finished(run.path) == lives.expected(command)


@pytest.mark.faults
def test_a_closed_terminal_ends_the_training_in_order_unless_that_is_to_be_ignored(
    command: lives.Command, tmp_path: Path
) -> None:
    hang_up = lives.signalled("loop.take_generator_step", 20, signal.SIGHUP)
    gone = partial(lives.at, "loop.take_generator_step", 20, partial(lives.both, lives.full_output))
    life = command.begun(tmp_path / "run", partial(lives.both, gone, hang_up))
    check_left(life)
    assert life.told() == ""
    assert RunFolder(tmp_path / "run").read_state()["status"] == "stopped"
    ignored = partial(lives.ignore, signal.SIGHUP)  # as nohup does
    life = command.begun(tmp_path / "run", partial(lives.both, ignored, hang_up))
    assert life.ended() == 0
    assert lives.parts_of(tmp_path / "run") == lives.expected(command)


@pytest.mark.faults
@pytest.mark.parametrize("output", [lives.broken_pipe, lives.full_output, lives.no_output])
def test_a_training_goes_on_where_nobody_reads_what_it_says(
    command: lives.Command, tmp_path: Path, output: lives.Deed
) -> None:
    life = command.begun(tmp_path / "run", output)
    assert life.ended() == 0, life.told()
    assert life.told() == ""
    assert lives.parts_of(tmp_path / "run") == lives.expected(command)


@pytest.fixture(autouse=True)
def _no_nohup() -> Iterator[None]:
    """Hear SIGHUP also where the tests run under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


def test_what_is_no_training_is_left_in_order_too_and_the_handlers_are_put_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)]
    for number in (signal.SIGTERM, signal.SIGHUP):
        with pytest.raises(KeyboardInterrupt), leaving_in_order():
            signal.raise_signal(number)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)] == before
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with leaving_in_order(), Interruption() as interruption:
            signal.raise_signal(signal.SIGHUP)
        assert interruption.requested is None
    finally:
        signal.signal(signal.SIGHUP, before[1])


def test_a_look_is_given_up_for_a_signal_and_no_thread_or_handler_is_left() -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM)
    before, threads = [signal.getsignal(number) for number in numbers], threading.active_count()
    for number in numbers[:3]:
        with Interruption() as interruption:
            with pytest.raises(Abandoned), interruption.look(60.0):
                signal.raise_signal(number)
            assert interruption.requested == signal.Signals(number).name
            with pytest.raises(Abandoned), interruption.look(60.0):
                raise AssertionError("after a signal no look is begun")
            assert interruption.verdict() is not None
    lives.until(lambda: threading.active_count() <= threads)  # a timer that was cancelled needs an instant to end
    assert [signal.getsignal(number) for number in numbers] == before


def test_a_signal_that_no_verdict_has_told_of_is_raised_on_leaving() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), Interruption():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before


def test_alarms_of_somebody_else_are_passed_on_also_after_a_look_that_took_too_long() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, _frame: heard.append(number))
    try:
        with Interruption() as interruption:
            with interruption.look(60.0):
                signal.raise_signal(signal.SIGALRM)
            with pytest.raises(TimeoutError, match=r"0\.01 s"), interruption.look(0.01):
                time.sleep(30.0)
            signal.raise_signal(signal.SIGALRM)
    finally:
        signal.signal(signal.SIGALRM, before)
    assert len(heard) == 2
