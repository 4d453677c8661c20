"""Signals set a flag that the loop and an evaluation read; none is lost, and the handlers come back."""

import signal
import threading
from collections.abc import Iterator
from types import FrameType

import pytest

from equipoise.host.deadline import Abandoned, Deadline
from equipoise.host.signals import ASKING, Interruption, leaving_in_order

EACH = pytest.mark.parametrize("number", ASKING, ids=lambda number: number.name)


@pytest.fixture(autouse=True)
def _handlers_come_back() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in ASKING}
    yield
    assert {number: signal.getsignal(number) for number in ASKING} == before


@EACH
def test_a_signal_asks_for_a_stop_and_interrupts_nothing(number: signal.Signals) -> None:
    done: list[int] = []
    with Interruption() as interruption:
        assert interruption.verdict() is None
        signal.raise_signal(number)
        done.append(1)
        stop = interruption.verdict()
        assert stop is not None
        assert stop.reason == "interrupted"
        assert number.name in stop.message
        interruption.heed()
    assert done == [1]


@EACH
def test_a_signal_gives_an_evaluation_up_at_its_next_chunk(number: signal.Signals) -> None:
    chunks: list[int] = []
    with Interruption() as interruption:
        deadline = Deadline(60.0, lambda: interruption.requested is not None)

        def evaluate() -> None:
            for chunk in range(10):
                deadline.check()
                chunks.append(chunk)
                if chunk == 2:
                    signal.raise_signal(number)

        with pytest.raises(Abandoned):
            evaluate()
        interruption.heed()
    assert chunks == [0, 1, 2]


def test_a_second_ctrl_c_leaves_at_once() -> None:
    done: list[int] = []

    def train() -> None:
        with Interruption():
            signal.raise_signal(signal.SIGINT)
            done.append(1)
            signal.raise_signal(signal.SIGINT)
            done.append(2)

    with pytest.raises(KeyboardInterrupt):
        train()
    assert done == [1]


def test_a_ctrl_c_after_another_signal_leaves_at_once_and_another_signal_after_a_ctrl_c_does_not() -> None:
    def both() -> None:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt), Interruption():
        both()
    with Interruption() as interruption:
        signal.raise_signal(signal.SIGINT)
        for number in ASKING[1:]:
            signal.raise_signal(number)
        interruption.heed()


@EACH
def test_a_signal_that_nobody_heeded_ends_what_follows_the_training(number: signal.Signals) -> None:
    """It came between the last verdict and the end: nothing more must begin."""
    with pytest.raises(KeyboardInterrupt), Interruption():
        signal.raise_signal(number)


def test_an_error_of_the_training_is_not_hidden_by_a_signal_that_came_before() -> None:
    def fail() -> None:
        signal.raise_signal(signal.SIGTERM)
        raise ValueError("own")

    with pytest.raises(ValueError, match="own"), Interruption():
        fail()


def test_a_hang_up_that_somebody_wants_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interruption() as interruption:
            signal.raise_signal(signal.SIGHUP)
            assert interruption.requested is None
        with leaving_in_order():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_another_thread_than_the_main_one_trains_without_hearing_signals() -> None:
    errors: list[BaseException] = []

    def train() -> None:
        try:
            with Interruption() as interruption, leaving_in_order():
                assert interruption.verdict() is None
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert not errors


@EACH
def test_everything_but_a_training_is_left_at_once_by_any_signal_as_by_ctrl_c(number: signal.Signals) -> None:
    done: list[int] = []

    def work() -> None:
        with leaving_in_order():
            done.append(1)
            signal.raise_signal(number)
            done.append(2)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == [1]


def test_handlers_of_somebody_else_are_put_back() -> None:
    heard: list[int] = []

    def own(number: int, _frame: FrameType | None) -> None:
        heard.append(number)

    before = signal.signal(signal.SIGTERM, own)
    try:
        with Interruption() as interruption:
            signal.raise_signal(signal.SIGTERM)
            interruption.heed()
        with leaving_in_order():
            pass
        assert heard == []
        signal.raise_signal(signal.SIGTERM)
        assert heard == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)
