"""Five minutes on two cores: the default recipe against the perceptron of most tutorials, scored from outside.

    python bench/demo.py [--seconds 300] [--seeds 0 1 2] [--recipes modern mlp-classic]
    python bench/demo.py --before PATH [--seconds 300] [--seeds 0 1 2]

All train for the same wall time, each in a process of its own. A classifier that training never sees gives the Fréchet
distance of 5,000 samples to the test split in its penultimate features, and the share of each class. Writes
records/demo.json, a picture of both curves and one grid of samples a recipe. `zoo.py` measures all recipes.

With `--before`, the same recipe is trained by the code of another checkout and by this one's, in turn, and samples a
second stand beside the distance: whether the demo is as good and as fast as before. Writes records/demo-before.json.
With `--throttled 30` too, every step of the first 30 seconds takes six times as long in both, and this one trains once
more without that: what a slow start costs. Writes records/slow-start.json.
"""

import argparse
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from checkouts import ROOT, Order, trained
from classifier import accuracy, features_and_classes, frechet_distance, trained_classifier
from common import RECORDS, write_record
from torch import Tensor
from torch.nn import functional

from equipoise.data.pool import prepare
from equipoise.recipe import Data
from equipoise.report import charts
from equipoise.tasks.exhibits import grid

NUM = 5_000
NUM_SHOWN = 64
TONES: tuple[charts.Tone, charts.Tone] = ("accent", "ink")
STYLE = (
    "<style>svg{background:#fff}text{font:12px system-ui,sans-serif;fill:#555}.line,.mark{fill:none;stroke-width:2}"
    ".line.accent{stroke:#0f766e}.line.ink{stroke:#666}.dots.accent{fill:#0f766e}.dots.ink{fill:#666}"
    ".band{opacity:.15}.band.accent{fill:#0f766e}.band.ink{fill:#666}.grid,.axis{stroke:#ddd;fill:none}"
    ".label.accent{fill:#0f766e;font-weight:600}.label.ink{fill:#444;font-weight:600}</style>"
)


@dataclass(frozen=True)
class Entrant:
    """A recipe, and the checkout whose code trains it."""

    name: str
    recipe: str
    checkout: Path = ROOT
    throttled: float = 0.0  # seconds
    settings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Measurement:
    """What one training came to, as it goes into the record, and samples to look at."""

    values: dict[str, Any]
    shown: Tensor


def measured(entrant: Entrant, budget: str, seed: int, folder: Path) -> Measurement:
    """Train one entrant and measure its samples from outside."""
    order = Order(
        recipe=entrant.recipe,
        budget=budget,
        out=str(folder / f"{entrant.name}-{seed}"),
        seed=seed,
        settings=("stopping.policy=budget", *entrant.settings),  # every recipe to the end
        draws=((NUM, 1), (NUM_SHOWN, 0)),
        throttled=entrant.throttled,
    )
    run = trained(entrant.checkout, order)
    images, shown = run.drawn()
    pool = prepare(Data())
    model = trained_classifier(pool)
    if images.shape[-1] != pool.images.shape[-1]:
        images = functional.interpolate(images, pool.images.shape[-2:], mode="bilinear", antialias=True)
    _, classes = features_and_classes(model, images)
    state = run.state
    test = run.test
    a_sample = state["seconds"] / state["samples"]
    values = {
        "entrant": entrant.name,
        "recipe": entrant.recipe,
        "seed": seed,
        "seconds": state["seconds"],
        "samples": state["samples"],
        "samples_per_second": 1 / a_sample,
        "frechet_distance": frechet_distance(model, pool, images),
        "class_shares": [float((classes == label).float().mean()) for label in range(10)],
        "kid_test": test["loss"],
        "kid_test_se": test["error"],
        "fid_test": test["fid"],
        "curve": [[score["samples"] * a_sample, score["loss"], score["error"]] for score in run.scores],
    }
    return Measurement(values, shown)


def entered(entrants: list[Entrant], seconds: int, seeds: list[int]) -> list[Measurement]:
    """Measure every entrant with every seed, interleaved, so that the machine's moods meet all."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for place, seed in enumerate(seeds):
            turns = entrants
            if place % 2:  # whoever comes second may meet a warmer machine
                turns = entrants[::-1]
            for entrant in turns:
                found.append(measured(entrant, f"{seconds}s", seed, Path(folder)))
                print(told(found[-1].values), flush=True)
    return found


def told(run: dict[str, Any]) -> str:
    """Say in a line what one training came to."""
    return (
        f"{run['entrant']} seed {run['seed']}: Fréchet distance {run['frechet_distance']:.1f}, smallest class "
        f"{min(run['class_shares']):.1%}, KID {run['kid_test']:.3f}, {run['samples_per_second']:.0f} samples a second"
    )


def medians(runs: list[dict[str, Any]], field: str) -> dict[str, float]:
    """Return the median of a number over seeds, by entrant."""
    names = list(dict.fromkeys(run["entrant"] for run in runs))
    return {name: statistics.median(run[field] for run in runs if run["entrant"] == name) for name in names}


def picture(runs: list[dict[str, Any]]) -> str:
    """Return the first seed's curves of KID against seconds of training as a standalone SVG."""
    first = [run for run in runs if run["seed"] == runs[0]["seed"]]
    lines = []
    for run, tone in zip(first, TONES, strict=False):
        seconds, losses, errors = map(list, zip(*run["curve"], strict=True))
        lines.append(charts.line_of(run["recipe"], seconds, losses, errors, tone=tone))
    title = "KID against seconds of training"
    chart = charts.line_chart(lines, title=title, width=720, height=320, log=True, unit="seconds")
    named = chart.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
    return named.replace("<clipPath", STYLE + "<clipPath", 1)


def compare(before: Path, recipe: str, seconds: int, seeds: list[int], throttled: float) -> None:
    """Train one recipe with the code of two checkouts in turn, write the record, and print the verdict."""
    entrants = [Entrant("before", recipe, before, throttled), Entrant("now", recipe, ROOT, throttled)]
    if throttled:
        entrants.append(Entrant("not throttled", recipe))
    found = entered(entrants, seconds, seeds)
    runs = [one.values for one in found]
    distances = medians(runs, "frechet_distance")
    speeds = medians(runs, "samples_per_second")
    values = {
        "num_generated": NUM,
        "recipe": recipe,
        "frechet_distance": distances,
        "samples_per_second": speeds,
        "speed_ratio": speeds["now"] / speeds["before"],
        "distance_ratio": distances["now"] / distances["before"],
        "throttled": throttled,
        "runs": runs,
    }
    print(write_record("slow-start" if throttled else "demo-before", values))
    for name in distances:
        print(f"{name}: Fréchet distance {distances[name]:.1f}, {speeds[name]:.0f} samples a second (medians)")


def show(recipes: list[str], seconds: int, seeds: list[int]) -> None:
    """Train all recipes in turn, and write the record and the pictures."""
    found = entered([Entrant(recipe, recipe) for recipe in recipes], seconds, seeds)
    runs = [one.values for one in found]
    pool = prepare(Data())
    values = {
        "classifier_accuracy": accuracy(trained_classifier(pool), pool),
        "num_generated": NUM,
        "medians": medians(runs, "frechet_distance"),
        "runs": runs,
    }
    print(write_record("demo", values))
    for one in found:
        if one.values["seed"] == seeds[0]:
            (RECORDS / f"samples-{one.values['recipe']}.png").write_bytes(grid(one.shown))
    if len(recipes) == 2:
        (RECORDS / "demo.svg").write_text(picture(runs))


def main() -> None:
    """Read the arguments; measure recipes, or two checkouts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--recipes", nargs="+", metavar="NAME", help="default: modern mlp-classic; before: modern")
    parser.add_argument("--before", type=Path, metavar="PATH", help="another checkout, to compare this one with")
    parser.add_argument("--throttled", type=float, default=0.0, metavar="SECONDS", help="with --before: a slow start")
    options = parser.parse_args()
    trained_classifier(prepare(Data()))  # a mistake shows before anything is trained
    if options.before is None:
        show(options.recipes or ["modern", "mlp-classic"], options.seconds, options.seeds)
        return
    recipe, *others = options.recipes or ["modern"]
    if others:
        parser.error("--before compares one recipe at a time")
    compare(options.before, recipe, options.seconds, options.seeds, options.throttled)


if __name__ == "__main__":
    main()
