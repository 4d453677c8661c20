"""The background writer: jobs in order, one at a time, an error that ends the training, and only a few that wait."""

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import FrameType

import pytest

from equipoise.host import writer as module
from equipoise.host.writer import MOST_WAITING, BackgroundWriter, run_now

IN_HAND = "in hand"
SOON = 20.0  # seconds; a limit that only something that hangs reaches


def lasting(gate: threading.Event) -> Callable[[], None]:
    """Return a job that lasts until the gate opens."""

    def job() -> None:
        assert gate.wait(SOON)

    return job


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def is_within(frame: FrameType | None, *names: str) -> bool:
    """Return whether a thread is within functions of all these names."""
    found = set()
    while frame is not None:
        found.add(frame.f_code.co_name)
        frame = frame.f_back
    return found >= set(names)


def test_jobs_are_done_in_order_and_never_two_at_once() -> None:
    done: list[int] = []
    busy = threading.Lock()

    def job(number: int) -> None:
        assert busy.acquire(blocking=False), "two jobs at once"
        time.sleep(0.002)
        done.append(number)
        busy.release()

    with BackgroundWriter() as writer:
        for number in range(20):
            writer.submit(lambda number=number: job(number))
        writer.wait()
        assert done == list(range(20))


def test_a_job_is_done_beside_the_training() -> None:
    gate = threading.Event()
    with BackgroundWriter() as writer:
        writer.submit(lasting(gate))
        writer.check()
        gate.set()  # only the training can open it, which is here while the job lasts


def test_leaving_waits_until_all_is_written() -> None:
    done: list[int] = []
    with BackgroundWriter() as writer:
        for number in range(3):
            writer.submit(lambda number=number: (time.sleep(0.01), done.append(number))[0])
    assert done == [0, 1, 2]


def test_an_error_is_raised_in_the_training_and_nothing_after_it_is_written() -> None:
    done: list[str] = []
    gate = threading.Event()

    def fail() -> None:
        assert gate.wait(SOON)
        raise OSError(28, "No space left on device")

    with suppress(OSError), BackgroundWriter() as writer:
        writer.submit(lambda: done.append("before"))
        writer.submit(fail)
        writer.submit(lambda: done.append("after"))
        gate.set()
        with pytest.raises(OSError, match="28"):
            writer.wait()
        with pytest.raises(OSError, match="28"):
            writer.check()
        with pytest.raises(OSError, match="28"):
            writer.submit(lambda: done.append("later"))
    assert done == ["before"]


def test_an_error_of_the_last_job_is_raised_on_leaving() -> None:
    def fail() -> None:
        raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="5"), BackgroundWriter() as writer:
        writer.submit(fail)


def test_an_error_of_the_training_is_not_hidden_by_one_of_the_writer_and_what_waits_is_written() -> None:
    done: list[int] = []

    def fail() -> None:
        raise OSError(5, "Input/output error")

    def train() -> None:
        with BackgroundWriter() as writer:
            writer.submit(lambda: done.append(1))
            writer.submit(fail)
            raise ValueError("training")

    with pytest.raises(ValueError, match="training"):
        train()
    assert done == [1]


def test_a_slow_disk_holds_the_training_back_once_as_many_wait_as_may() -> None:
    gate, submitted = threading.Event(), []

    def train(writer: BackgroundWriter) -> None:
        for number in range(MOST_WAITING + 2):
            writer.submit(lasting(gate))
            submitted.append(number)

    with BackgroundWriter() as writer:
        training = threading.Thread(target=train, args=(writer,))
        training.start()
        until(lambda: len(submitted) == MOST_WAITING + 1)  # one is being written, the others wait
        until(lambda: is_within(sys._current_frames().get(training.ident or 0), "submit", "wait"))
        assert len(submitted) == MOST_WAITING + 1
        gate.set()
        training.join(SOON)
        assert not training.is_alive()
    assert len(submitted) == MOST_WAITING + 2


class Held:
    """A job in hand and one that waits, until the gate opens; a run that ends while they last."""

    def __init__(self) -> None:
        self.gate, self.done = threading.Event(), list[str]()
        self.thread: threading.Thread | None = None

    def in_hand(self) -> None:
        self.thread = threading.current_thread()
        self.done.append(IN_HAND if self.gate.wait(SOON) else "waited for too long")

    def train(self, error: BaseException | None) -> None:
        with BackgroundWriter() as writer:
            writer.submit(self.in_hand)
            writer.submit(lambda: self.done.append("waiting"))
            until(lambda: self.thread is not None)
            if error is not None:
                raise error

    def check_end(self) -> None:
        """The thread ends with the job in hand, and what waited is never written."""
        thread = self.thread
        assert thread is not None
        until(lambda: thread.ident not in sys._current_frames())  # is_alive is wrong after a join that was interrupted
        assert self.done == [IN_HAND]


@pytest.fixture
def held() -> Iterator[Held]:
    held = Held()
    yield held
    held.gate.set()


AT_ONCE = [KeyboardInterrupt(), SystemExit()]


@pytest.mark.parametrize("error", AT_ONCE, ids=repr)
def test_leaving_at_once_lets_the_job_in_hand_come_to_its_end_and_drops_what_waits(
    held: Held, error: BaseException
) -> None:
    opening = threading.Timer(0.1, held.gate.set)  # long after a writer that does not wait would have been left
    opening.start()
    with pytest.raises(type(error)):
        held.train(error)
    assert held.done == [IN_HAND], "the lock of the run is free and its writer writes on"
    held.check_end()


@pytest.mark.parametrize("error", AT_ONCE, ids=repr)
def test_leaving_at_once_does_not_wait_for_a_disk_that_hangs(
    held: Held, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_SECONDS", 0.05)
    with pytest.raises(type(error)):
        held.train(error)
    assert not held.done, "a second Ctrl-C had to wait for the disk"
    held.gate.set()
    held.check_end()


class Again:
    """A Ctrl-C that comes as soon as the main thread waits within one of the functions of a writer."""

    def __init__(self, *names: str) -> None:
        self.names, self.is_over = names, threading.Event()
        self.thread = threading.Thread(target=self._send)
        self.before = signal.signal(signal.SIGINT, self._hear)

    def __enter__(self) -> None:
        self.thread.start()

    def __exit__(self, *_: object) -> None:
        self.is_over.set()
        self.thread.join()
        signal.signal(signal.SIGINT, self.before)

    def _send(self) -> None:
        while not self.is_over.wait(0.005):
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    def _hear(self, _number: int, frame: FrameType | None) -> None:
        if not self.is_over.is_set() and is_within(frame, *self.names):
            self.is_over.set()
            raise KeyboardInterrupt


def test_one_more_ctrl_c_leaves_the_wait_for_the_job_in_hand(held: Held, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_SECONDS", 2 * SOON)
    with pytest.raises(KeyboardInterrupt), Again("_end", "join"):
        held.train(SystemExit())
    assert not held.done, "a third Ctrl-C had to wait for the disk"
    held.gate.set()
    held.check_end()


@pytest.mark.parametrize("error", [None, ValueError("training")], ids=repr)
def test_a_ctrl_c_while_all_is_being_written_drops_what_waits(
    held: Held, error: Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MOST_SECONDS", 0.05)
    with pytest.raises(KeyboardInterrupt), Again("__exit__", "join"):
        held.train(error)
    assert not held.done
    held.gate.set()
    held.check_end()


def test_the_thread_of_a_writer_keeps_no_process_alive_and_ends_with_its_context() -> None:
    before = set(threading.enumerate())
    with BackgroundWriter() as writer:
        writer.submit(lambda: None)
        [thread] = set(threading.enumerate()) - before
        assert thread.daemon
    assert not thread.is_alive()


def test_run_now_does_a_job_now() -> None:
    done: list[int] = []
    run_now(lambda: done.append(1))
    assert done == [1]
