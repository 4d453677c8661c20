"""Signals at any moment: it leaves soon and in order, and the resumed run is the one that was never stopped."""

import signal
import threading
import time
from functools import partial
from pathlib import Path

import lives
import pytest

from equipoise.interrupt import Abandoned, Interruption, leaving_in_order
from equipoise.runs.folder import RunFolder

LOOK = "judging.score_features"
MOMENTS = {
    "step": ("loop.take_generator_step", 20, 0.0),
    "first look": (LOOK, 1, 30.0),
    "later look": (LOOK, 2, 30.0),
    "last look": (LOOK, 4, 30.0),
    "save": ("checkpoint.written_whole", 3, 0.0),
    "lesson": ("judge.encoder._loss", 2, 30.0),
    "images": ("data.store._write_images", 1, 30.0),
    "second judging": ("conclude.judged_again", 1, 30.0),
    "test": ("conclude.with_nearest", 1, 30.0),
    "report": ("conclude.write_report", 1, 30.0),
}
BEFORE = ("lesson", "images")
AFTER = ("second judging", "test", "report")


@pytest.fixture
def command(shapes: Path, tmp_path_factory: pytest.TempPathFactory) -> lives.Command:
    return lives.Command(shapes, tmp_path_factory.getbasetemp() / "cache")


whole: dict[str, str] = {}


def expected(command: lives.Command, folder: Path) -> dict[str, str]:
    if not whole:
        whole.update(command.finished(folder / "whole"))
    return whole


def check_left(life: lives.Life, within: float = lives.LONGEST) -> None:
    assert life.ended(within) == 130, life.told()
    assert "Traceback" not in life.said() + life.told()
    assert life.told().count("\n") <= 1


@pytest.mark.faults
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
@pytest.mark.parametrize("moment", MOMENTS)
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
    assert command.finished(tmp_path / "run") == expected(command, tmp_path)


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
        hang = partial(lives.at, "runs.files._replace_folder", 1, partial(lives.send, 0, 60.0))
        hook = partial(lives.both, hook, hang)
    life = command.begun(tmp_path / "run", hook)
    check_left(life, within=25.0)
    assert "resume" in lives.one_line(life.told())
    assert command.finished(tmp_path / "run") == expected(command, tmp_path)


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
    assert lives.parts_of(tmp_path / "run") == expected(command, tmp_path)


@pytest.mark.faults
@pytest.mark.parametrize("output", [lives.broken_pipe, lives.full_output, lives.no_output])
def test_a_training_goes_on_where_nobody_reads_what_it_says(
    command: lives.Command, tmp_path: Path, output: lives.Deed
) -> None:
    life = command.begun(tmp_path / "run", output)
    assert life.ended() == 0, life.told()
    assert life.told() == ""
    assert lives.parts_of(tmp_path / "run") == expected(command, tmp_path)


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
    time.sleep(0.05)  # a timer that was cancelled needs an instant to end
    assert threading.active_count() == threads
    assert [signal.getsignal(number) for number in numbers] == before


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
