"""What a run computes with: device, precision, threads, and the record of them."""

import contextlib
import platform
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from equipoise import __version__
from equipoise.errors import Option, UserError
from equipoise.recipe import Recipe

TURN_SECONDS = 0.15  # of small steps that a number of threads is measured by, at a time
GLANCE_SECONDS = 0.05  # the same, where it is only to be seen whether one loses much
TURNS = 3
GLANCES = 5
LOSING = 1.5  # times as long as with the present number a step takes, where a trial would cost more than it may win
FASTER = 1.1  # times as fast must be what takes the place of more threads
MAX_THREADS = 1024  # a file may say anything, and that many more would end the process


def chosen_device(name: str) -> torch.device:
    """Return the device that a recipe asks for; `auto` is the first GPU, else the CPU. Raises UserError."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        problem = f"this machine has {torch.cuda.device_count()} CUDA devices"
        raise UserError(Option("device", name), problem, Option("device", "cpu"))
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UserError(Option("device", name), "this machine has no Metal device", Option("device", "cpu"))
    return device


def chosen_precision(recipe: Recipe, device: torch.device) -> torch.dtype:
    """Return what `auto` means: bfloat16 where the processor multiplies it in hardware."""
    if recipe.precision == "float32":
        return torch.float32
    if recipe.precision == "bfloat16":
        return torch.bfloat16
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float32
    return torch.bfloat16 if device.type == "cpu" and processor_has_bfloat16() else torch.float32


def processor_has_bfloat16() -> bool:
    """Return whether this processor multiplies bfloat16 in hardware, as far as Linux tells (elsewhere: no)."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return False
    return bool(flags & {"avx512_bf16", "amx_bf16", "bf16"})


def environment_of(device: torch.device, precision: torch.dtype) -> dict[str, Any]:
    """Return what a run computes with: versions, device, threads, precision, as far as they decide its last bits."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    return {
        "equipoise": __version__,
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": device.type,
        "device_name": name,
        "instructions": torch.backends.cpu.get_cpu_capability(),  # which of torch's kernels the processor runs
        "threads": torch.get_num_threads(),
        "precision": str(precision).removeprefix("torch."),
    }


@contextlib.contextmanager
def threads_of(begun: object, device: torch.device) -> Iterator[None]:
    """Compute with the number of threads that a run began with: sums in another order would end its equality."""
    own = torch.get_num_threads()
    if device.type == "cpu" and type(begun) is int and 0 < begun <= MAX_THREADS:
        torch.set_num_threads(begun)
    try:
        yield
    finally:
        torch.set_num_threads(own)


def fastest_threads(most: int, seconds_of: Callable[[int], float] | None = None) -> int:
    """Return the number of threads, of `most` and its halves, that small steps are fastest with on this machine now.

    Beside other work, threads that wait for each other lose almost everything; quiet, more of them are faster.
    `seconds_of` measures one turn with a number of threads.
    """
    seconds_of = seconds_of or partial(_seconds_of_a_step, least=TURN_SECONDS)
    best = most
    while best > 1:
        fewer = best // 2
        of_best, of_fewer = _in_turn(best, fewer, seconds_of, TURNS)
        if statistics.median(of_best) < FASTER * statistics.median(of_fewer):
            break
        best = fewer
    return best


def is_losing(threads: int, present: int, seconds_of: Callable[[int], float] | None = None) -> bool:
    """Return whether small steps take much longer with a number of threads than with the present one now.

    The longest of its turns counts: other work comes and goes, and a trial meets more of it than a glance.
    """
    seconds_of = seconds_of or partial(_seconds_of_a_step, least=GLANCE_SECONDS)
    found, usual = _in_turn(threads, present, seconds_of, GLANCES)
    return max(found) > LOSING * statistics.median(usual)


def _in_turn(
    one: int, other: int, seconds_of: Callable[[int], float], num: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return the seconds of steps with two numbers of threads, taken in turn, as other work comes and goes."""
    turns = [(seconds_of(one), seconds_of(other)) for _ in range(num)]
    of_one, of_other = zip(*turns, strict=True)
    return of_one, of_other


def _seconds_of_a_step(threads: int, least: float) -> float:
    """Return the seconds of a small convolution, forward and backward, of at least so many of them.

    It changes no random stream.
    """
    with threads_of(threads, torch.device("cpu")):
        weights = torch.full((32, 32, 3, 3), 0.01, requires_grad=True)
        images = torch.ones(32, 32, 16, 16)
        begin = time.perf_counter()
        num = 0
        while num == 0 or time.perf_counter() - begin < least:
            torch.nn.functional.conv2d(images, weights, padding=1).square().mean().backward()
            num += 1
        return (time.perf_counter() - begin) / num
