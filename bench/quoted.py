"""The measured numbers as README and docs quote them, made from the records alone.

    python bench/quoted.py                 print them
    python bench/quoted.py README.md …     put them where {{name}} stands

A test compares what the texts say with what the records say.
"""

import json
import re
import statistics
import sys
from pathlib import Path
from typing import Any

RECORDS = Path(__file__).parent / "records"


def numbers() -> dict[str, str]:
    """Return every quoted number by its name."""
    return demo() | overhead() | precision() | startup() | recipes()


def demo() -> dict[str, str]:
    """Return the comparison of five minutes each."""
    record = _read("demo")
    found = {
        "demo.date": record["date"],
        "demo.processor": record["processor"],
        "demo.threads": str(record["threads"]),
        "demo.seeds": ", ".join(str(seed) for seed in sorted({run["seed"] for run in record["runs"]})),
        "demo.classifier_accuracy": f"{100 * record['classifier_accuracy']:.1f} %",
    }
    for name in ("modern", "mlp-classic"):
        runs, key = _runs(record, name), name.replace("-", "_")
        found[f"demo.frechet_{key}"] = _median(run["frechet_distance"] for run in runs)
        found[f"demo.smallest_class_{key}"] = f"{100 * min(min(run['class_shares']) for run in runs):.1f} %"
        found[f"demo.kid_{key}"] = f"{_short(runs[0]['kid_test'])} ± {_short(runs[0]['kid_test_se'])}"
        found[f"demo.samples_{key}"] = f"{statistics.median(run['samples'] for run in runs) / 1000:.0f}k"
    return found


def overhead() -> dict[str, str]:
    """Return what everything around the bare step costs."""
    record = _read("overhead")
    low, high = (f"{100 * (ratio - 1):.1f}" for ratio in record["ratio_interval_95"])
    return {
        "overhead.percent": f"{100 * (record['ratio_of_totals'] - 1):.1f} %",
        "overhead.range": f"{low}–{high} %",
    }


def precision() -> dict[str, str]:
    """Return bfloat16 against float32."""
    medians = _read("precision")["medians"]
    return {
        "precision.speedup": f"{medians['bfloat16']['samples'] / medians['float32']['samples']:.2f}",
        "precision.kid_bfloat16": _short(medians["bfloat16"]["kid_test"]),
        "precision.kid_float32": _short(medians["float32"]["kid_test"]),
    }


def startup() -> dict[str, str]:
    """Return how long a person waits for the first letter."""
    seconds = _read("startup")["seconds"]
    return {f"startup.{name}": f"{seconds[name]['median']:.2f} s" for name in ("help", "import", "status")}


def recipes() -> dict[str, str]:
    """Return one line a recipe, and how they were measured."""
    record = _read("recipes")
    seconds = round(max(run["seconds"] for run in record["runs"]) / 30) * 30
    cores = "one core" if record["threads"] == 1 else "two cores"
    setting = (
        f"Fréchet distance of 5,000 samples in an outside classifier's features on MNIST after {seconds} s of training "
        f"on {cores}, one seed, lower is better; in brackets the share of the rarest class"
    )
    found = {"recipes.setting": setting}
    for run in record["runs"]:
        rarest = 100 * min(run["class_shares"])
        found[f"recipes.{run['recipe']}"] = f"{_short(run['frechet_distance'])} ({rarest:.1f} %)"
    return found


def fill(path: Path, found: dict[str, str]) -> None:
    """Replace {{name}} in a file; raises KeyError for a name that is not measured."""
    path.write_text(re.sub(r"\{\{([\w.-]+)\}\}", lambda match: found[match[1]], path.read_text()))


def _read(name: str) -> dict[str, Any]:
    return json.loads((RECORDS / f"{name}.json").read_text())


def _runs(record: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [run for run in record["runs"] if run["recipe"] == name]


def _median(values: Any) -> str:
    return _short(statistics.median(values))


def _short(value: float) -> str:
    """Return three significant digits, whole numbers from 100."""
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def main() -> None:
    """Print the numbers, or fill them into files."""
    found = numbers()
    for name in sys.argv[1:]:
        fill(Path(name), found)
    if len(sys.argv) == 1:
        print(json.dumps(found, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
