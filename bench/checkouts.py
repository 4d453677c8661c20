"""Trainings of the embedded digits by the code of any checkout, each in a process of its own.

What a restructuring has changed is measured by `demo.py --before PATH` and `unchanged.py --before PATH`. Two checkouts
have the signature of `equipoise.train` and the files of a run in common; where names in them differ, they are turned
into those of today here. This file is also what each process runs.
"""

import dataclasses
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
DRAWN = "drawn.safetensors"  # beside the run's folder, since that is the training's
TENSORS = {  # how the names of a checkpoint's tensors began before, and begin today
    "average.": "generator_ema.",
    "champion.": "best_generator.",
    "generator_optimizer.": "update.generator.",
    "discriminator_optimizer.": "update.discriminator.",
}
SCORES = {"kid_se": "error", "champion": "compared_with", "difference_se": "difference_error"}
SLOWER = 6
NO_MEASURES = ("seconds", "protocol", "broken", "values")  # fields of a score that are no number of the generator


@dataclass(frozen=True)
class Order:
    """What to train, in today's names, and how many samples of the best generator to draw by which seeds."""

    recipe: str
    budget: str
    out: str
    seed: int = 0
    settings: tuple[str, ...] = ()
    draws: tuple[tuple[int, int], ...] = ()  # (number, seed)
    throttled: float = 0.0  # seconds from the first step on, in which every step takes SLOWER times as long


@dataclass(frozen=True)
class Trained:
    """A finished run of any checkout."""

    path: Path

    @property
    def state(self) -> dict[str, Any]:
        """How the run ended, as it was written; `samples` and `seconds` have always been in it."""
        return json.loads((self.path / "state.json").read_text())

    @property
    def test(self) -> dict[str, Any]:
        """The score on the test split."""
        return score_in_todays_names(self.state["test"])

    @property
    def scores(self) -> list[dict[str, Any]]:
        """The scores of the training."""
        return [score_in_todays_names(line) for line in _lines(self.path / "log" / "scores.jsonl")]

    @property
    def features_digest(self) -> str:
        """What the images were seen by: scores compare only where it is the same."""
        return _lines(self.path / "log" / "scores.jsonl")[-1]["protocol"]["features_digest"]

    @property
    def steps(self) -> list[dict[str, Any]]:
        """The means of the logging intervals."""
        return _lines(self.path / "log" / "steps.jsonl")

    @property
    def last_checkpoint(self) -> Path:
        """The folder of the last checkpoint."""
        return max((self.path / "checkpoints").glob("[0-9]*"))

    def tensors(self) -> dict[str, Any]:
        """Read the tensors of the last checkpoint: all that decides how the training would continue.

        The sums since the last log line, which were tensors before and are values today, are left out.
        """
        from safetensors.torch import load_file

        found = load_file(self.last_checkpoint / "tensors.safetensors")
        return {tensor_in_todays_names(name): found[name] for name in found if not name.startswith("meter.")}

    def drawn(self) -> list[Any]:
        """Read the samples `[N, C, H, W]` that were drawn, in the order's order."""
        from safetensors.torch import load_file

        found = load_file(self.path.with_name(f"{self.path.name}-{DRAWN}"))
        return [found[str(place)] for place in range(len(found))]


def trained(checkout: Path, order: Order, *, num_threads: int | None = None) -> Trained:
    """Train with the code of a checkout; raises CalledProcessError where that fails."""
    environment = os.environ | {"PYTHONPATH": str(checkout.resolve() / "src")}
    if num_threads is not None:
        environment["OMP_NUM_THREADS"] = str(num_threads)
    command = [sys.executable, str(Path(__file__)), json.dumps(dataclasses.asdict(order))]
    subprocess.run(command, env=environment, check=True)
    return Trained(Path(order.out))


def score_in_todays_names(line: dict[str, Any]) -> dict[str, Any]:
    """Return the numbers of a score, all beside each other, whatever version wrote it."""
    found: dict[str, Any] = dict(line.get("values", {}))
    for name, value in line.items():
        if name not in NO_MEASURES:
            found[SCORES.get(name, name)] = value
    found.setdefault("loss", found.get("kid"))
    return found


def tensor_in_todays_names(name: str) -> str:
    """Return the present name of a checkpoint's tensor."""
    for before, now in TENSORS.items():
        if name.startswith(before):
            return now + name.removeprefix(before)
    return name


def _lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def throttle(seconds: float) -> None:
    """Let every optimizer's step take SLOWER times as long in the first seconds, as on a machine that is busy then."""
    from torch.optim.optimizer import register_optimizer_step_post_hook

    begin = 0.0
    last = 0.0

    def wait(*_: Any) -> None:
        nonlocal begin, last
        now = time.monotonic()
        if not begin:
            begin = now
        elif now - begin < seconds:
            time.sleep((SLOWER - 1) * (now - last))
        last = time.monotonic()

    register_optimizer_step_post_hook(wait)


def main() -> None:
    """Train as ordered on the command line, with the code that Python finds first."""
    import torch
    from safetensors.torch import save_file

    import equipoise as eq
    from equipoise.recipe import Recipe
    from equipoise.recipes import checked_name

    source = Path(eq.__file__)
    wanted = Path(os.environ["PYTHONPATH"])
    if not source.is_relative_to(wanted):
        raise SystemExit(f"the code below {wanted} was asked for, and Python found {source}")
    order = Order(**json.loads(sys.argv[1]))
    if order.throttled:
        throttle(order.throttled)
    settings = list(order.settings)
    if not hasattr(Recipe(), "evaluation"):  # it was called judging
        settings = [setting.replace("evaluation.", "judging.", 1) for setting in settings]
    out = Path(order.out)
    recipe = checked_name(order.recipe)
    run = eq.train("mnist", recipe=recipe, budget=order.budget, seed=order.seed, out=out, settings=settings)
    drawn: dict[str, torch.Tensor] = {}
    for place, (num, seed) in enumerate(order.draws):
        drawn[str(place)] = run.best.sample(num, seed=seed).contiguous()
    if drawn:
        save_file(drawn, out.with_name(f"{out.name}-{DRAWN}"))


if __name__ == "__main__":
    main()
