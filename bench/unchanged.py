"""Whether a restructuring has preserved what is computed: every recipe trained by two checkouts, compared bit by bit.

    python bench/unchanged.py --before PATH [--recipes modern dcgan ...] [--samples 3000]

Each recipe trains on the embedded digits with the code of the other checkout and with this one's, at the same fixed
intervals, on one thread, from the same seed. Compared are all tensors of the two last checkpoints bit by bit, which
evaluations gave a new best, and the relative differences of all scores, the test included, and of all logged means.
Writes records/unchanged.json; exit status 1 where a tensor differs or is missing.
"""

import argparse
import math
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from checkouts import ROOT, Order, Trained, trained
from common import write_record

from equipoise.recipes import NAMES

NUM_EVALUATIONS = 3
SETTINGS = ("evaluation.num_samples=200", "stopping.policy=budget", "device=cpu")
OF_THE_MACHINE = ("seconds", "samples_per_second", "test_seconds")  # they tell the time, or what ran beside


@dataclass(frozen=True)
class Difference:
    """How far apart two numbers of one name are: |a − b| over the larger of the two."""

    name: str
    relative: float


def main() -> None:
    """Train all, compare, write the record, and say what came out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", type=Path, required=True, metavar="PATH")
    parser.add_argument("--recipes", nargs="+", choices=NAMES, default=NAMES)
    parser.add_argument("--samples", type=int, default=3_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        for recipe in options.recipes:
            runs = {}
            for name, checkout in (("before", options.before), ("now", ROOT)):
                out = Path(folder) / f"{recipe}-{name}"
                order = Order(recipe, str(options.samples), str(out), options.seed, settings_for(options.samples))
                runs[name] = trained(checkout, order, num_threads=1)
            found[recipe] = compared(runs["before"], runs["now"])
            print(f"{recipe}: {told(found[recipe])}", flush=True)
    num = sum(is_same(one) for one in found.values())
    values = {"samples": options.samples, "seed": options.seed, "settings": settings_for(options.samples)}
    print(write_record("unchanged", {**values, "threads": 1, "same": num, "recipes": found}))
    print(f"{num} of {len(found)} recipes end in the same tensors, bit for bit")
    sys.exit(int(num < len(found)))


def settings_for(samples: int) -> tuple[str, ...]:
    """Return settings with fixed intervals, so that no machine's speed decides anything."""
    every = max(1, samples // NUM_EVALUATIONS)
    log_every = max(1, every // 2)
    return (*SETTINGS, f"evaluation.every={every}", f"saving.every={every}", f"saving.log_every={log_every}")


def compared(before: Trained, now: Trained) -> dict[str, Any]:
    """Return what two runs of one recipe have in common."""
    scores = differences(before.scores, now.scores)
    scores += differences([before.test], [now.test], "test_")
    means = differences(flattened(before.steps), flattened(now.steps))
    return {
        "tensors": tensors_compared(before.tensors(), now.tensors()),
        "same_encoder": before.features_digest == now.features_digest,
        "last_checkpoint": [before.last_checkpoint.name, now.last_checkpoint.name],
        "num_scores": [len(before.scores), len(now.scores)],
        "num_intervals": [len(before.steps), len(now.steps)],
        "new_bests": [bests(before), bests(now)],
        "selected": [before.state["best"]["samples"], now.state["best"]["samples"]],
        "scores": worst(scores),
        "means": worst(means),
    }


def tensors_compared(before: dict[str, torch.Tensor], now: dict[str, torch.Tensor]) -> dict[str, Any]:
    """Return how many tensors are equal bit for bit, and the names of those that are not."""
    both = before.keys() & now.keys()
    different = sorted(name for name in both if not is_equal(before[name], now[name]))
    missing = sorted(before.keys() ^ now.keys())
    return {"num": len(both), "equal": len(both) - len(different), "different": different, "in_one_alone": missing}


def is_equal(before: torch.Tensor, now: torch.Tensor) -> bool:
    """Return whether two tensors have the same type, shape and bits."""
    if before.dtype != now.dtype or before.shape != now.shape:
        return False
    return torch.equal(before.contiguous().flatten().view(torch.uint8), now.contiguous().flatten().view(torch.uint8))


def differences(before: list[dict[str, Any]], now: list[dict[str, Any]], prefix: str = "") -> list[Difference]:
    """Return the relative difference of every number that stands in both, line by line."""
    found = []
    for one, other in zip(before, now, strict=False):
        for name in one.keys() & other.keys():
            if name not in OF_THE_MACHINE and not isinstance(one[name], bool):
                found.append(Difference(f"{prefix}{name}", relative_difference(one[name], other[name])))
    return found


def relative_difference(before: float | None, now: float | None) -> float:
    """Return |a − b| / max(|a|, |b|), infinite where only one of the two is a number."""
    if before is None or now is None:
        return 0.0 if before is now else math.inf
    if before == now:
        return 0.0
    return abs(before - now) / max(abs(before), abs(now))


def flattened(steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return logged intervals with the loss terms beside the other means."""
    return [{name: value for name, value in line.items() if name != "terms"} | line.get("terms", {}) for line in steps]


def bests(run: Trained) -> list[int]:
    """Return the samples of the evaluations that gave a new best generator."""
    return [score["samples"] for score in run.scores if score["best"]]


def worst(found: list[Difference]) -> dict[str, Any]:
    """Return how many numbers were compared, how many of them are equal, and the largest relative differences."""
    by_name: dict[str, float] = {}
    for one in found:
        if one.relative:
            by_name[one.name] = max(by_name.get(one.name, 0.0), one.relative)
    largest_first = dict(sorted(by_name.items(), key=lambda item: -item[1]))
    equal = sum(one.relative == 0 for one in found)
    return {"num": len(found), "equal": equal, "worst": max(by_name.values(), default=0.0), "differ": largest_first}


def is_same(found: dict[str, Any]) -> bool:
    """Return whether two runs ended at the same position in the same tensors."""
    tensors = found["tensors"]
    first, second = found["last_checkpoint"]
    return first == second and tensors["num"] == tensors["equal"] > 0 and not tensors["in_one_alone"]


def told(found: dict[str, Any]) -> str:
    """Say in a line what came out for one recipe."""
    tensors = found["tensors"]
    parts = [f"{tensors['equal']} of {tensors['num']} tensors equal, {len(tensors['in_one_alone'])} in one alone"]
    for what in ("scores", "means"):
        of = found[what]
        worst_of = next(iter(of["differ"]), "none")
        parts.append(f"{what} differ by at most {of['worst']:.1e} ({worst_of})")
    return "; ".join(parts)


if __name__ == "__main__":
    main()
