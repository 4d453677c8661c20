"""What every record of a measurement carries: date, machine, versions; and how records are kept."""

import json
import platform
import statistics
from datetime import date
from pathlib import Path
from typing import Any

import torch

import equipoise

RECORDS = Path(__file__).parent / "records"


def hardware() -> dict[str, Any]:
    """Return the machine in words that identify its kind, not itself."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
        flags = set(next(line for line in lines if line.startswith("flags")).split())
        if "avx512_bf16" in flags:
            model += " (avx512_bf16)"
    except (OSError, StopIteration):
        pass
    return {
        "date": date.today().isoformat(),
        "processor": model,
        "threads": torch.get_num_threads(),
        "torch": str(torch.__version__),
        "python": platform.python_version(),
        "equipoise": equipoise.__version__,
    }


def device_name(device: torch.device) -> str:
    """Return the name of a GPU, or "cpu"."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def write_record(name: str, values: dict[str, Any]) -> Path:
    """Write `records/<name>.json`, with the hardware and the date."""
    RECORDS.mkdir(exist_ok=True)
    path = RECORDS / f"{name}.json"
    path.write_text(json.dumps({**hardware(), **values}, indent=1) + "\n")
    return path


def spread(values: list[float]) -> dict[str, float]:
    """Return minimum, median and maximum."""
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}
