"""What a run computes with: device, precision, threads, and the record of them."""

import contextlib
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from equipoise import __version__
from equipoise.errors import Option, UserError
from equipoise.recipe import Recipe

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
