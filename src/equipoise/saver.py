"""Writing beside the training: one job at a time, in order, so that no step waits for the disk."""

import queue
import threading
from collections.abc import Callable

MOST_WAITING = 4  # jobs; each holds a copy of what it writes, so a slow disk must hold the training back in the end


class Saver:
    """A thread that does what it is given, one after the other; after a job that failed none of the next is done.

    Used as a context, which ends when all is written. The thread is a daemon: leaving at once leaves a job behind
    half done, which is no worse than a kill.
    """

    def __init__(self) -> None:
        self._jobs: queue.Queue[Callable[[], None] | None] = queue.Queue(MOST_WAITING)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="saver", daemon=True)

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

    def __enter__(self) -> "Saver":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and not issubclass(kind, Exception):
            self._error = KeyboardInterrupt()  # a second Ctrl-C: leave at once, and write nothing that still waits
            return
        self._jobs.put(None)
        self._thread.join()
        if kind is None:
            self.check()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                if self._error is None:
                    job()
            except BaseException as error:
                self._error = error
            finally:
                self._jobs.task_done()


def at_once(job: Callable[[], None]) -> None:
    """Do a job now, where there is no training to do it beside."""
    job()
