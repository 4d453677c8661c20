"""Cures of mode collapse, each alone in games that collapse: on a ring, on a grid, and on handwritten digits.

    python bench/cures.py                    # into records/cures.json and docs/images/cures-*.png
    python bench/cures.py --only ring        # one of them, to look at

The game is the non-saturating one without a penalty, whose generator learns five times as fast as the discriminator.
Learning rates are constant, so what a game is after fewer rounds does not depend on how long it goes on. A cure is
scored twice: after as many samples as the game without one, and after as many as it sees in the same time. What a round
costs is measured first, all cures in turns. Digits are told apart by a classifier (bench/classifier.py), which is
trained in a few minutes the first time.
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import torch
from classifier import features_and_classes, trained_classifier
from common import write_record
from cured_tasks import Labelled, Several, Unrolled
from pictures_of_cures import contact, tile_of_digits, tile_of_points
from PIL import Image
from quoted import cure_cells
from torch import Tensor

from equipoise import tasks
from equipoise.api import SILENT
from equipoise.data.pool import gather, prepare, to_float
from equipoise.game.terms import StepContext
from equipoise.game.updates import Players, Role, Terms, make_update
from equipoise.metrics.fid import fid, moments
from equipoise.randomness import Randomness
from equipoise.recipe import Data, Points, Recipe, with_settings
from equipoise.recipes import Facts, recipe_for
from equipoise.setup import loss_of
from equipoise.tasks.images import ImageTask
from equipoise.tasks.points import Mixture, mixture_named, mode_metrics

CPU = torch.device("cpu")
IMAGES = Path(__file__).parents[1] / "docs" / "images"
Place = Literal["ring", "grid", "digits"]
PLACES: tuple[Place, ...] = ("digits", "ring", "grid")
ROUNDS: dict[Place, int] = {"ring": 1_200, "grid": 1_200, "digits": 1_500}
SEEDS: dict[Place, int] = {"ring": 5, "grid": 5, "digits": 3}
NUM_SCORED = 2_500
NUM_SHOWN: dict[Place, int] = {"ring": 1_000, "grid": 1_000, "digits": 25}
REACH = {"ring": 1.5, "grid": 5.0}  # of a picture of points, from its middle
LEAST_SHARE = 0.01  # of the samples, from which a digit counts as drawn
TURNS = 30  # in which every cure plays a few rounds, to find what one costs
ROUNDS_A_TURN = 5

COLLAPSING = (
    "game.batch=64",
    "game.loss=non-saturating",
    "game.generator.rate=1e-3",
    "game.generator.rate_end=none",
    "game.discriminator.rate=2e-4",
    "game.discriminator.rate_end=none",
)
OF_DIGITS = (
    "networks.family=mlp",
    "networks.generator_norm=none",
    "networks.discriminator_norm=none",
    "networks.width=256",
)
PENALTIES = ("game.penalty.kind=r1+r2", "game.penalty.gamma=0.3")


@dataclass(frozen=True)
class Cure:
    """A cure: the settings that switch it on, or a change of the task where there is no setting."""

    name: str
    settings: tuple[str, ...] = ()
    change: Callable[[Any], Any] | None = None


NOTHING = Cure("nothing")
LABELS = Cure("conditional", ("networks.conditional=true",))
CURES = (
    NOTHING,
    Cure("packing 2", ("game.packing=2",)),
    Cure("packing 4", ("game.packing=4",)),
    Cure("minibatch deviation", ("networks.minibatch_deviation=true",)),
    Cure("3 discriminators", change=Several),
    Cure("unrolling 5 steps", change=Unrolled),
    Cure("R1 + R2", PENALTIES),
    Cure("R1 + R2, pairs", (*PENALTIES, "game.loss=relativistic")),
    LABELS,
    Cure("equal rates", ("game.discriminator.rate=1e-3",)),
)


# A game


@dataclass(frozen=True)
class Game:
    """A game that can be played: its recipe, and its task with the cure."""

    recipe: Recipe
    task: Any


def game_of(place: Place, cure: Cure) -> Game:
    """Return the game on a ring, a grid or digits with a cure."""
    source = "mnist" if place == "digits" else place
    kind = tasks.task_settings("images" if place == "digits" else "points", source)
    settings = [f"data.source={source}", *COLLAPSING, *cure.settings]
    change = cure.change
    if place == "digits":
        settings[1:1] = OF_DIGITS
    elif cure == LABELS:  # points have no setting for it
        settings[-1] = f"networks.latent_size={2 + len(mixture_of(place).centres)}"
        change = Labelled
    recipe = with_settings(recipe_for("dcgan", Facts(), kind), settings)
    opened: Any = tasks.opened(recipe, CPU, SILENT.stage)
    recipe = opened.settled(recipe)
    task: Any
    if place == "digits":
        unused: Any = None  # no judge is asked, so no encoder is taught
        task = ImageTask(recipe, opened.pool, unused, loss_of(recipe, None), CPU, torch.float32)
    else:
        task = opened.task(recipe, loss_of(recipe, None), torch.float32, SILENT.stage)
    return Game(recipe, task if change is None else change(task))


def mixture_of(place: Place) -> Mixture:
    """Return the modes of a ring or a grid."""
    found = mixture_named(place, Points())
    assert found is not None
    return found


def played(game: Game, seed: int) -> Iterator[Players]:
    """Yield the players before each round, of which there is no end."""
    torch.manual_seed(seed)
    update = make_update(game.recipe.game, game.task.players())
    batch = game.recipe.game.batch
    for index in itertools.count():
        yield update.players

        def terms(role: Role, draw: int, index: int = index) -> Terms:
            step = StepContext(Randomness(seed, (index + draw) * batch), index=index)
            real = game.task.batch(step.randomness, batch)
            if role == "discriminator":
                return game.task.discriminator_terms(update.players, real, step)
            return game.task.generator_terms(update.players, real, step)

        update.round(terms)


def costs(games: dict[str, Game]) -> dict[str, dict[str, float]]:
    """Return what a round of each game costs beside one without a cure: median and range over turns."""
    plays = {name: played(game, 0) for name, game in games.items()}
    seconds: dict[str, list[float]] = {name: [] for name in games}
    order = list(plays.items())
    for _ in range(TURNS + 1):
        order = [*order[1:], order[0]]  # who comes first may find the processor cold
        for name, play in order:
            begin = time.perf_counter()
            for _ in range(ROUNDS_A_TURN):
                next(play)
            seconds[name].append(time.perf_counter() - begin)
    found = {}
    for name in games:
        ratios = [one / none for one, none in zip(seconds[name][1:], seconds[NOTHING.name][1:], strict=True)]
        milliseconds = 1000 * statistics.median(seconds[name][1:]) / ROUNDS_A_TURN
        found[name] = {
            "median": statistics.median(ratios),
            "min": min(ratios),
            "max": max(ratios),
            "milliseconds": milliseconds,
        }
    return found


# Scores


def drawn(game: Game, players: Players, num: int) -> Tensor:
    """Draw samples of the generator as it is, not averaged, always from the same latents."""
    return game.task.outputs(players.generator, Randomness(1), "test", 0, num)


@torch.no_grad()
def score(place: Place, samples: Tensor) -> dict[str, float]:
    """Return how many modes were found, how good the samples are, and how far the shares of modes are from even."""
    if place != "digits":
        return mode_metrics(mixture_of(place), torch.zeros(2), torch.ones(2), samples)
    pool = prepare(Data())
    model = trained_classifier(pool)
    features, classes = features_and_classes(model, samples)
    real, _ = features_and_classes(model, to_float(gather(pool, pool.splits.test[:NUM_SCORED])))
    shares = torch.bincount(classes, minlength=10).double() / len(classes)
    present = shares[shares > 0]
    return {
        "modes": float((shares >= LEAST_SHARE).sum()),
        "frechet_distance": fid(moments(real), moments(features)),
        "kl": (present * (present * 10).log()).sum().item(),
    }


def scored(place: Place, game: Game, seed: int, cost: float) -> tuple[dict[str, Any], Tensor]:
    """Play a game and return its scores after as many samples, and in the same time; with samples to show."""
    as_many = ROUNDS[place]
    as_long = round(as_many / cost)
    found: dict[str, Any] = {"seed": seed}
    shown = torch.empty(0)
    for index, players in enumerate(played(game, seed)):
        if index == as_many:
            shown = drawn(game, players, NUM_SCORED)
            found["equal_samples"] = score(place, shown)
        if index == as_long:
            found["equal_time"] = score(place, drawn(game, players, NUM_SCORED))
        if index >= max(as_many, as_long):
            break
    return found, shown[: NUM_SHOWN[place]]


# All of them


def bench(place: Place, num_seeds: int) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Measure every cure in one place, and return the record with samples of the first seed's games."""
    games = {cure.name: game_of(place, cure) for cure in CURES}
    found = costs(games)
    record: dict[str, Any] = {"rounds": ROUNDS[place], "cost": found, "games": {}}
    pictures: dict[str, Tensor] = {}
    for name, game in games.items():
        runs = []
        for seed in range(num_seeds):
            run, shown = scored(place, game, seed, found[name]["median"])
            runs.append(run)
            pictures.setdefault(name, shown)
        record["games"][name] = runs
        cells = [cure_cells([run[when] for run in runs]) for when in ("equal_samples", "equal_time")]
        print(f"{place}, {name}: {' | '.join(cells)} | {found[name]['median']:.2f}", flush=True)
    return record, pictures


def picture(place: Place, record: dict[str, Any], samples: dict[str, Tensor]) -> Image.Image:
    """Return a contact picture of the first seed's samples, a tile a cure."""
    tiles: list[tuple[str, str, Image.Image]] = []
    for name, shown in samples.items():
        run = record["games"][name][0]["equal_samples"]
        if place == "digits":
            tiles.append((name, f"{run['modes']:.0f} of 10 digits", tile_of_digits(shown)))
            continue
        centres = mixture_of(place).centres
        caption = f"{run['modes']:.0f} of {len(centres)} modes"
        tiles.append((name, caption, tile_of_points(shown, centres, REACH[place])))
    return contact(tiles)


def measured(place: Place) -> dict[str, Any]:
    """Measure every cure in one place on one core, save the picture, and return the record."""
    torch.set_num_threads(1)
    record, samples = bench(place, SEEDS[place])
    picture(place, record, samples).save(IMAGES / f"cures-{place}.png", optimize=True)
    return record


def main() -> None:
    """Measure, and write the record where all of it was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=PLACES, default=PLACES)
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    begin = time.perf_counter()
    with ProcessPoolExecutor(options.processes, get_context("spawn")) as pool:
        records = dict(zip(options.only, pool.map(measured, options.only), strict=True))
    if tuple(options.only) == PLACES:
        write_record("cures", {"seconds": time.perf_counter() - begin, "settings": COLLAPSING, **records})


if __name__ == "__main__":
    main()
