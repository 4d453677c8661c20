"""The default recipe on a GPU: what a step costs by size and batch, and what a training of some minutes reaches.

    python bench/gpu.py steps [--sizes 32 64] [--batches 64 256] [--set SETTING …]
    python bench/gpu.py train SOURCE [--size 64] [--minutes 8] [--seed 0] [--set SETTING …] [--out FOLDER]

`steps`: rounds of the game on drawn images in colour with the loop's own numerics: samples a second, memory, and the
operations that take most of the time. `train`: a training as a user has it, with its scores, floor and ceiling. Both
add to records/gpu.json.
"""

import argparse
import json
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import RECORDS, device_name, hardware
from torch.profiler import ProfilerActivity, profile

import equipoise as eq
from equipoise.api import SILENT
from equipoise.game.ema import ema_decay, update_ema
from equipoise.host.device import chosen_precision
from equipoise.loop import set_rates, terms_of
from equipoise.recipe import Images, Recipe, with_settings
from equipoise.recipes import Facts, build
from equipoise.setup import loss_of
from equipoise.state import TrainingState, start
from equipoise.tasks import images
from equipoise.tasks.images import ImageTask

GPU = torch.device("cuda")
NUM_IMAGES = 4_000
WARM_UP = 15  # rounds
MEASURED = 40
PROFILED = 5
MOST_SHOWN = 12  # operations


def drawn(folder: Path, size: int) -> Path:
    """Write colour images of noise, and return their file."""
    path = folder / f"{size}.npz"
    pixels = np.random.default_rng(0).integers(0, 256, (NUM_IMAGES, size, size, 3), dtype=np.uint8)
    np.savez(path, x_train=pixels)
    return path


def rounds(task: ImageTask, recipe: Recipe, state: TrainingState, num: int) -> None:
    """Play so many rounds of the game, as the loop does, and wait for the device."""
    for _ in range(num):
        set_rates(state, recipe, 0.0)
        for numbers in state.update.round(partial(terms_of, task, state, recipe, 0.0), 1):
            state.meter.add(numbers)
        state.samples += recipe.game.batch
        decay = ema_decay(recipe.game.batch, recipe.game.ema_half_life, state.samples)
        update_ema(state.generator_ema, state.players.generator, decay)
    torch.cuda.synchronize()


def measured_steps(folder: Path, size: int, settings: list[str]) -> dict[str, Any]:
    """Return the seconds of a round and the memory it takes, and the dearest operations."""
    first = with_settings(Recipe(), [f"data.source={drawn(folder, size)}", f"task.size={size}"])
    source = images.opened(first, GPU, SILENT.stage)
    recipe = build("modern", Facts(size=size, channels=3, num_train=50_000, is_cpu=False), Images(size=size))
    recipe = source.settled(with_settings(recipe, [f"data.source={first.data.source}", *settings]))
    task = ImageTask(recipe, source.pool, None, loss_of(recipe, None), GPU, chosen_precision(recipe, GPU))  # type: ignore[arg-type]
    state = start(task, recipe)
    torch.cuda.reset_peak_memory_stats()
    rounds(task, recipe, state, WARM_UP)
    begin = time.perf_counter()
    rounds(task, recipe, state, MEASURED)
    seconds = (time.perf_counter() - begin) / MEASURED
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as profiled:
        rounds(task, recipe, state, PROFILED)
    events = [event for event in profiled.key_averages() if event.self_device_time_total > 0]
    on_device = sum(event.self_device_time_total for event in events if event.device_type.name == "CUDA")
    print(profiled.key_averages().table(sort_by="self_cuda_time_total", row_limit=MOST_SHOWN, max_name_column_width=60))
    return {
        "size": size,
        "batch": recipe.game.batch,
        "settings": settings,
        "precision": str(task.precision).removeprefix("torch."),
        "milliseconds_a_round": 1000 * seconds,
        "milliseconds_on_the_device": on_device / 1000 / PROFILED,
        "samples_per_second": recipe.game.batch / seconds,
        "mebibytes": torch.cuda.max_memory_allocated() / 2**20,
    }


def trained(options: argparse.Namespace) -> dict[str, Any]:
    """Train as a user does, and return what came of it."""
    out = Path(options.out) if options.out else Path(tempfile.mkdtemp()) / "run"
    begin = time.perf_counter()
    run = eq.train(
        options.source,
        size=options.size,
        budget=f"{round(60 * options.minutes)}s",
        seed=options.seed,
        out=out,
        device="cuda",
        settings=options.set,
    )
    state = run.state
    assert state.test is not None
    return {
        "source": Path(options.source).name,
        "size": options.size,
        "settings": options.set,
        "seed": options.seed,
        "budget_minutes": options.minutes,
        "seconds_in_all": time.perf_counter() - begin,
        "samples": state.samples,
        "stop": state.stop_reason,
        "message": state.message,
        "test": json.loads((run.folder.path / "state.json").read_text())["test"],
        "rivals": [
            {"name": score.name, "role": score.role, "values": dict(score.values)}
            for score in run.folder.read_rivals().scores
        ],
    }


def main() -> None:
    """Measure on the first GPU, and add to the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    modes = parser.add_subparsers(dest="mode", required=True)
    steps = modes.add_parser("steps")
    steps.add_argument("--sizes", type=int, nargs="+", default=[32, 64])
    steps.add_argument("--batches", type=int, nargs="+", default=[64, 256])
    steps.add_argument("--set", action="append", default=[])
    train = modes.add_parser("train")
    train.add_argument("source")
    train.add_argument("--size", type=int, default=64)
    train.add_argument("--minutes", type=float, default=8.0)
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--out")
    train.add_argument("--set", action="append", default=[])
    options = parser.parse_args()
    if options.mode == "train":
        found = [trained(options)]
    else:
        with tempfile.TemporaryDirectory() as folder:
            found = []
            for size in options.sizes:
                for batch in options.batches:
                    found.append(measured_steps(Path(folder), size, [*options.set, f"game.batch={batch}"]))
                    print(found[-1], flush=True)
    path = RECORDS / "gpu.json"
    record = json.loads(path.read_text()) if path.exists() else {}
    facts = {**hardware(), "device": device_name(GPU)}
    record.setdefault(options.mode, []).extend({**facts, **values} for values in found)
    path.write_text(json.dumps(record, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
