"""What a loop has set in torch for the whole process: evaluations go by the usual settings, generators by the loop's.

A default type of float64, a default device, autocast or deterministic algorithms would change scores, or fail in code
that was not written for them.
"""

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass

import numpy as np
import torch

CPU = torch.device("cpu")
DEVICES = ("cpu", "cuda")  # on which there may be autocast


@dataclass(frozen=True)
class TorchSettings:
    """The settings that a computation depends on; autocast types by device, where it is on."""

    dtype: torch.dtype = torch.float32
    device: torch.device = CPU
    autocast: tuple[tuple[str, torch.dtype], ...] = ()
    is_deterministic: bool = False
    only_warns: bool = False
    finds_anomalies: bool = False
    checks_nan: bool = True


USUAL = TorchSettings()
_OUTSIDE: ContextVar[TorchSettings | None] = ContextVar("settings of the loop", default=None)


def present_settings() -> TorchSettings:
    """Return the settings as they are."""
    kinds = [kind for kind in DEVICES if torch.is_autocast_enabled(kind)]
    return TorchSettings(
        dtype=torch.get_default_dtype(),
        device=torch.get_default_device(),
        autocast=tuple((kind, torch.get_autocast_dtype(kind)) for kind in kinds),
        is_deterministic=torch.are_deterministic_algorithms_enabled(),
        only_warns=torch.is_deterministic_algorithms_warn_only_enabled(),
        finds_anomalies=torch.is_anomaly_enabled(),
        checks_nan=torch.is_anomaly_check_nan_enabled(),
    )


@contextlib.contextmanager
def usual_settings() -> Iterator[None]:
    """Compute by the usual settings, whatever the loop has set, and put its own back."""
    token = None
    if _OUTSIDE.get() is None:
        token = _OUTSIDE.set(present_settings())
    try:
        with _set(USUAL):
            yield
    finally:
        if token is not None:
            _OUTSIDE.reset(token)


@contextlib.contextmanager
def settings_of_the_loop() -> Iterator[None]:
    """Compute by the settings of the loop around `usual_settings`, and put back whatever is set meanwhile."""
    with _set(_OUTSIDE.get() or present_settings()):
        yield


@contextlib.contextmanager
def _set(wanted: TorchSettings) -> Iterator[None]:
    before = present_settings()
    threads = torch.get_num_threads()
    precision = torch.get_float32_matmul_precision()
    with contextlib.ExitStack() as stack:
        stack.enter_context(np.errstate())
        if wanted.device != before.device:
            stack.enter_context(wanted.device)
        if wanted.autocast != before.autocast:
            types = dict(wanted.autocast)
            for kind in {*types, *dict(before.autocast)}:
                stack.enter_context(torch.autocast(kind, dtype=types.get(kind), enabled=kind in types))
        try:
            _adopt(wanted)
            yield
        finally:
            _adopt(before)
            if torch.get_num_threads() != threads:
                torch.set_num_threads(threads)
            if torch.get_float32_matmul_precision() != precision:
                torch.set_float32_matmul_precision(precision)


def _adopt(wanted: TorchSettings) -> None:
    """Set what is not set by entering a context."""
    torch.set_default_dtype(wanted.dtype)
    torch.use_deterministic_algorithms(wanted.is_deterministic, warn_only=wanted.only_warns)
    torch.autograd.set_detect_anomaly(wanted.finds_anomalies, wanted.checks_nan)
