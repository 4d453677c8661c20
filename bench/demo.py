"""Five minutes on two cores: the default recipe against the perceptron of most tutorials, judged from outside.

    python bench/demo.py [--seconds 300] [--seeds 0 1 2] [--recipes modern mlp-classic]

Both recipes train for the same wall time. A classifier that training never sees gives the Fréchet distance of 5,000
samples to the test split in its penultimate features, and the share of each class. Writes records/demo.json, a
picture of both curves and one grid of samples a recipe. The table of recipes is the same measurement of all of them:

    python bench/demo.py --name recipes --seconds 180 --recipes modern dcgan wgan wgan-gp lsgan hinge-sn \
        mlp-classic dcgan-64 conv-28
"""

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

from classifier import accuracy, features_and_classes, frechet_distance, trained_classifier
from common import RECORDS, write_record
from torch.nn import functional

import equipoise as eq
from equipoise.data.pool import prepare
from equipoise.recipe import Data
from equipoise.recipes import checked_name
from equipoise.report import charts
from equipoise.storage import logs
from equipoise.tasks.pictures import save_grid

NUM = 5_000
STYLE = (
    "<style>svg{background:#fff}text{font:12px system-ui,sans-serif;fill:#555}.line,.mark{fill:none;stroke-width:2}"
    ".line.accent{stroke:#0f766e}.line.ink{stroke:#666}.dots.accent{fill:#0f766e}.dots.ink{fill:#666}"
    ".band{opacity:.15}.band.accent{fill:#0f766e}.band.ink{fill:#666}.grid,.axis{stroke:#ddd;fill:none}"
    ".label.accent{fill:#0f766e;font-weight:600}.label.ink{fill:#444;font-weight:600}</style>"
)


def measured(recipe: str, seconds: int, seed: int, folder: Path, snapshots: bool) -> dict[str, Any]:
    """Train one recipe and return its distances and the shares of its classes."""
    run = eq.train(
        "mnist",
        recipe=checked_name(recipe),
        budget=f"{seconds}s",
        seed=seed,
        out=folder / f"{recipe}-{seed}",
        settings=["stopping.policy=budget"],  # every recipe for the same time
    )
    pool = prepare(Data())
    model = trained_classifier(pool)
    images = run.best.sample(NUM, seed=1)
    if images.shape[-1] != pool.images.shape[-1]:
        images = functional.interpolate(images, pool.images.shape[-2:], mode="bilinear", antialias=True)
    _, classes = features_and_classes(model, images)
    if snapshots:
        save_grid(run.best.sample(64, seed=0), RECORDS / f"samples-{recipe}.png")
    state = run.state
    a_sample = state["seconds"] / state["samples"]
    scores = logs.records(run.folder.scores)
    return {
        "recipe": recipe,
        "seed": seed,
        "seconds": state["seconds"],
        "samples": state["samples"],
        "frechet_distance": frechet_distance(model, pool, images),
        "class_shares": [float((classes == label).float().mean()) for label in range(10)],
        "kid_test": state["test"]["kid"],
        "kid_test_se": state["test"]["kid_se"],
        "fid_test": state["test"]["fid"],
        "curve": [[line["samples"] * a_sample, line["kid"], line["kid_se"]] for line in scores],
    }


def picture(runs: list[dict[str, Any]]) -> str:
    """Return the first seed's curves of KID against seconds of training as a standalone SVG."""
    first = [run for run in runs if run["seed"] == runs[0]["seed"]]
    lines = [
        charts.line_of(run["recipe"], *map(list, zip(*run["curve"], strict=True)), tone=tone)
        for run, tone in zip(first, ("accent", "ink"), strict=False)
    ]
    title = "KID against seconds of training"
    chart = charts.line_chart(lines, title=title, width=720, height=320, log=True, unit="seconds")
    return chart.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1).replace(
        "<clipPath", STYLE + "<clipPath", 1
    )


def main() -> None:
    """Run all, write the record and the picture, print the verdict."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=300)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--recipes", nargs="+", default=["modern", "mlp-classic"])
    parser.add_argument("--name", default="demo")
    options = parser.parse_args()
    pool = prepare(Data())
    model = trained_classifier(pool)
    runs = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in options.seeds:  # interleaved: the machine's moods meet every recipe
            for recipe in options.recipes:
                result = measured(recipe, options.seconds, seed, Path(folder), seed == options.seeds[0])
                runs.append(result)
                print(
                    f"{recipe} seed {seed}: Fréchet distance {result['frechet_distance']:.1f}, smallest class "
                    f"{min(result['class_shares']):.1%}, KID {result['kid_test']:.3f}",
                    flush=True,
                )
    medians = {
        recipe: statistics.median(run["frechet_distance"] for run in runs if run["recipe"] == recipe)
        for recipe in options.recipes
    }
    values = {"classifier_accuracy": accuracy(model, pool), "num_generated": NUM, "medians": medians, "runs": runs}
    print(write_record(options.name, values))
    if len(options.recipes) == 2:
        (RECORDS / f"{options.name}.svg").write_text(picture(runs))


if __name__ == "__main__":
    main()
