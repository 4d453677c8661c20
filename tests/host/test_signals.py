"""Signals around a look: none is lost in the instants before it begins."""

import signal
import threading

import pytest

from equipoise.host.signals import Abandoned, Interruption, given_up_after


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_first_instant_of_a_look_gives_it_up(
    monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    class Interrupted(threading.Timer):
        def __init__(self, *given: object) -> None:
            signal.raise_signal(number)  # the last instant before anything looks
            super().__init__(*given)  # type: ignore[arg-type]

    begun: list[bool] = []
    monkeypatch.setattr(threading, "Timer", Interrupted)
    with Interruption() as interruption:
        with pytest.raises(Abandoned), interruption.look(60.0):
            begun.append(True)
        assert interruption.verdict()
    assert not begun


def test_a_signal_in_what_is_given_up_after_some_time_leaves_at_once_and_puts_the_handlers_back() -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)}
    begun: list[int] = []

    def interrupted() -> None:
        with given_up_after(60.0):
            begun.append(1)
            signal.raise_signal(signal.SIGTERM)
            begun.append(2)

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert begun == [1]
    assert {number: signal.getsignal(number) for number in before} == before
