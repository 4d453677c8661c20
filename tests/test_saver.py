"""The saver: jobs in order and one at a time, an error that ends the training, and no more than a few waiting."""

import threading
import time
from collections.abc import Callable
from contextlib import suppress

import pytest

from equipoise.saver import MOST_WAITING, Saver, at_once

SOON = 20.0  # seconds; a limit that only something that hangs reaches


def held(gate: threading.Event) -> Callable[[], None]:
    """Return a job that lasts until the gate opens."""

    def job() -> None:
        assert gate.wait(SOON)

    return job


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_jobs_are_done_in_order_and_never_two_at_once() -> None:
    done: list[int] = []
    busy = threading.Lock()

    def job(number: int) -> None:
        assert busy.acquire(blocking=False), "two jobs at once"
        time.sleep(0.002)
        done.append(number)
        busy.release()

    with Saver() as saver:
        for number in range(20):
            saver.submit(lambda number=number: job(number))
        saver.wait()
        assert done == list(range(20))


def test_a_job_is_done_beside_the_training() -> None:
    gate = threading.Event()
    with Saver() as saver:
        saver.submit(held(gate))
        saver.check()
        gate.set()  # only the training can open it, which is here while the job lasts


def test_leaving_waits_until_all_is_written() -> None:
    done: list[int] = []
    with Saver() as saver:
        for number in range(3):
            saver.submit(lambda number=number: (time.sleep(0.01), done.append(number))[0])
    assert done == [0, 1, 2]


def test_an_error_is_raised_in_the_training_and_nothing_after_it_is_written() -> None:
    done: list[str] = []
    gate = threading.Event()

    def fail() -> None:
        assert gate.wait(SOON)
        raise OSError(28, "No space left on device")

    with suppress(OSError), Saver() as saver:
        saver.submit(lambda: done.append("before"))
        saver.submit(fail)
        saver.submit(lambda: done.append("after"))
        gate.set()
        with pytest.raises(OSError, match="No space"):
            saver.wait()
        with pytest.raises(OSError, match="No space"):
            saver.check()
        with pytest.raises(OSError, match="No space"):
            saver.submit(lambda: done.append("later"))
    assert done == ["before"]


def test_an_error_of_the_last_job_is_raised_on_leaving() -> None:
    def fail() -> None:
        raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output"), Saver() as saver:
        saver.submit(fail)


def test_an_error_of_the_training_is_not_hidden_by_one_of_the_saver_and_what_waits_is_written() -> None:
    done: list[int] = []

    def fail() -> None:
        raise OSError(5, "Input/output error")

    def train() -> None:
        with Saver() as saver:
            saver.submit(lambda: done.append(1))
            saver.submit(fail)
            raise ValueError("of the training")

    with pytest.raises(ValueError, match="of the training"):
        train()
    assert done == [1]


def test_a_slow_disk_holds_the_training_back_once_as_many_wait_as_may() -> None:
    gate, submitted = threading.Event(), []

    def train(saver: Saver) -> None:
        for number in range(MOST_WAITING + 2):
            saver.submit(held(gate))
            submitted.append(number)

    with Saver() as saver:
        training = threading.Thread(target=train, args=(saver,))
        training.start()
        until(lambda: len(submitted) == MOST_WAITING + 1)  # one is being written, the others wait
        training.join(0.2)
        assert training.is_alive(), "nothing holds the training back"
        assert len(submitted) == MOST_WAITING + 1
        gate.set()
        training.join(SOON)
        assert not training.is_alive()
    assert len(submitted) == MOST_WAITING + 2


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_leaving_at_once_waits_for_no_job(kind: type[BaseException]) -> None:
    gate, done = threading.Event(), []

    def train() -> None:
        with Saver() as saver:
            saver.submit(held(gate))
            saver.submit(lambda: done.append("written"))
            raise kind

    with pytest.raises(kind):
        train()
    assert not done, "a second Ctrl-C had to wait for the disk"
    gate.set()


def test_the_thread_of_a_saver_keeps_no_process_alive_and_ends_with_its_context() -> None:
    before = set(threading.enumerate())
    with Saver() as saver:
        saver.submit(lambda: None)
        [thread] = set(threading.enumerate()) - before
        assert thread.daemon
    assert not thread.is_alive()


def test_at_once_does_a_job_now() -> None:
    done: list[int] = []
    at_once(lambda: done.append(1))
    assert done == [1]
