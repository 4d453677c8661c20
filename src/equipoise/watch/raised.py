"""What is raised while a watch does its part: whether it is meant for the loop, and must go through."""

import functools
import signal
from typing import Any


def is_for_the_loop(error: BaseException) -> bool:
    """Return whether an error ends the training on purpose: Ctrl-C, and what a handler of a signal raised.

    Anything else, SystemExit too, came from what the watch called, and is no reason to end it.
    """
    if isinstance(error, KeyboardInterrupt):
        return True
    handlers = {_code(signal.getsignal(number)) for number in signal.valid_signals()} - {None}
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code in handlers:
            return True
        trace = trace.tb_next
    return False


def _code(handler: Any) -> Any:
    """Return the code of a handler that is written in Python, None for every other."""
    while isinstance(handler, functools.partial):
        handler = handler.func
    function = getattr(handler, "__func__", handler)
    called = vars(type(handler)).get("__call__")  # of an object that is called like a function
    return getattr(function, "__code__", getattr(called, "__code__", None))
