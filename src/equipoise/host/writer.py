"""Writing beside the training: one job at a time, in order, so that no step waits for the disk."""

import queue
import threading
from collections.abc import Callable
from contextlib import suppress

MOST_WAITING = 4  # jobs; each holds a copy of what it writes, so a slow disk must hold the training back in the end
MOST_SECONDS = 5.0  # for the job in hand when all else is left; on a disk that works it takes well under one


class BackgroundWriter:
    """A thread that does what it is given, one after the other; after a job that failed none of the next is done.

    Used as a context, which ends when all is written. Left at once (a second Ctrl-C) it drops what waits and lets
    only the job in hand come to its end, for a few seconds: whoever may write here next must not meet it. The thread
    is a daemon: what hangs even then is left half done, which is no worse than a kill.
    """

    def __init__(self) -> None:
        self._jobs: queue.Queue[Callable[[], None] | None] = queue.Queue(MOST_WAITING)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="background writer", daemon=True)

    def submit(self, job: Callable[[], None]) -> None:
        """Have a job done after the earlier ones; raises what an earlier one raised."""
        self.check()
        self._jobs.put(job)

    def check(self) -> None:
        """Raise what a job raised, if one did."""
        if self._error is not None:
            raise self._error

    def wait(self) -> None:
        """Wait until all jobs are done; raises what one raised."""
        self._jobs.join()
        self.check()

    def __enter__(self) -> "BackgroundWriter":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None or issubclass(kind, Exception):
                self._jobs.join()
        finally:  # also where a Ctrl-C ends that waiting; one more ends this one, too
            self._end()
        if kind is None:
            self.check()

    def _end(self) -> None:
        with suppress(queue.Empty):
            while True:
                self._jobs.get_nowait()
                self._jobs.task_done()
        self._jobs.put(None)
        self._thread.join(MOST_SECONDS)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                if self._error is None:
                    job()
            except BaseException as error:
                self._error = error
            finally:
                self._jobs.task_done()


def run_now(job: Callable[[], None]) -> None:
    """Do a job now, where there is no training to do it beside."""
    job()
