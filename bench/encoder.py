"""What the training of the evaluation encoder takes, and how an encoder judges that began with another one's weights.

    python bench/encoder.py threads DATA [--rounds 5]
    python bench/encoder.py begun DATA [--sets clothing-96.zip:40:1200 emoji-64.zip:32:1000 flowers-128.zip:64:2000]

`threads`: seconds of a step with one and with two threads in turn, without and with a process that computes without
end, and the share of all cores that other processes took meanwhile. `begun`: encoders are taught from random weights,
or from those of an encoder that knows 70 % of their images and as many others as they have new ones; then KID to
held-out images, of held-out images with its error and of damaged ones in its standard errors above them. A set is
FILE:SIZE:IMAGES. DATA is the folder of the sets. Writes records/encoder.json.
"""

import argparse
import contextlib
import json
import os
import statistics
import time
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from common import RECORDS, hardware
from torch import Tensor
from waiting import company

from equipoise.data.pool import prepare
from equipoise.metrics.features import encoder
from equipoise.metrics.features.corruptions import blurred, holed, mixed, noisy, speckled, warped
from equipoise.metrics.features.encoder import Encoder, train_encoder
from equipoise.metrics.features.kept import KNOWN, Start
from equipoise.metrics.kid import discrepancy, kernel_within
from equipoise.recipe import Data, Images

CASES = (("mnist.npz", 28), ("emoji-64.zip", 32), ("emoji-64.zip", 64))
NUM_STEPS = 12  # of a turn
MOST_COMPARED = 1_500
LEVELS = {
    "blur": (0.4, 0.6, 0.8, 1.2),
    "noise": (0.03, 0.06, 0.12, 0.25),
    "speckles": (0.01, 0.03, 0.1),
    "warp": (0.4, 0.8, 1.6, 3.2),
    "holes": (0.1, 0.2, 0.3),
    "mixed": (0.1, 0.2, 0.3),
}


def images_of(source: Path, size: int, channels: Literal[1, 3] | None = None) -> np.ndarray:
    """Return all images of a source at a size, uint8 [N, C, H, W]."""
    return prepare(Data(source=str(source)), Images(size=size, channels=channels)).images


def jiffies() -> tuple[int, int]:
    """Return what all cores have worked, and worked or rested, in hundredths of a second."""
    values = list(map(int, Path("/proc/stat").read_text().splitlines()[0].split()[1:9]))
    return sum(values) - values[3] - values[4], sum(values)


def turn(images: np.ndarray, threads: int) -> tuple[float, float]:
    """Return the seconds of a step, and the share of the cores that others took."""
    torch.set_num_threads(threads)
    worked, passed = jiffies()
    own = time.process_time()
    begin = time.perf_counter()
    train_encoder(images, steps=NUM_STEPS)
    seconds = (time.perf_counter() - begin) / NUM_STEPS
    worked_now, passed_now = jiffies()
    others = worked_now - worked - 100 * (time.process_time() - own)
    return seconds, others / max(1, passed_now - passed)


def threads(data: Path, rounds: int) -> dict[str, Any]:
    """Measure one and two threads in turn, without and with a busy process."""
    encoder.NUM_FOR_SCALE = 0  # next to nothing but steps is timed
    encoder._one_thread = contextlib.nullcontext
    found: dict[str, Any] = {}
    for is_busy in (False, True):
        for name, size in CASES:
            images = images_of(data / name, size)[:2_000]
            seconds: dict[int, list[float]] = {1: [], 2: []}
            others = []
            with company(is_busy):
                for number in range(rounds):
                    for count in (1, 2) if number % 2 else (2, 1):
                        taken, share = turn(images, count)
                        seconds[count].append(round(taken, 4))
                        others.append(round(share, 2))
            place = f"{name} {size}, {'with one busy process more' if is_busy else 'beside what ran'}"
            medians = {count: statistics.median(values) for count, values in seconds.items()}
            found[place] = {"seconds": seconds, "medians": medians, "share_of_others": others}
            print(place, found[place], flush=True)
    return found


def floats(images: np.ndarray) -> Tensor:
    """Return uint8 images as floats in [-1, 1]."""
    return torch.from_numpy(np.array(images)).float() / 127.5 - 1


@torch.no_grad()
def features(network: Encoder, images: Tensor) -> Tensor:
    """Return the features [N, D] of images."""
    return torch.cat([network(part) for part in images.split(250)])


def damaged(kind: str, images: Tensor, level: float, generator: torch.Generator) -> Tensor:
    """Return images with a damage of one level."""
    levels = torch.full((len(images),), level)
    match kind:
        case "blur":
            return blurred(images, levels)
        case "noise":
            return noisy(images, levels, generator)
        case "speckles":
            return speckled(images, levels, generator)
        case "warp":
            return warped(images, levels, generator)
        case "holes":
            return holed(images, levels, generator)
        case _:
            return mixed(images, levels, generator)


def judged(network: Encoder, real: Tensor, fresh: Tensor) -> dict[str, Any]:
    """Return KID of fresh images against real ones with its error, and how far damage raises it, in its errors."""
    of_real = features(network, real)
    kernel = kernel_within(of_real)
    same = discrepancy(of_real, features(network, fresh), kernel).estimate
    generator = torch.Generator().manual_seed(0)
    raised = {}
    for kind, levels in LEVELS.items():
        parts = [features(network, damaged(kind, fresh, level, generator)) for level in levels]
        found = [discrepancy(of_real, part, kernel).estimate for part in parts]
        raised[kind] = [round((one.value - same.value) / one.standard_error, 1) for one in found]
    return {"same": [round(same.value, 4), round(same.standard_error, 4)], "raised": raised}


def begun(data: Path, sets: list[str]) -> dict[str, Any]:
    """Compare encoders from random weights with such that began with what another has learned of most of the images."""
    return {text: begun_of(data, *text.split(":")) for text in sets}


def begun_of(data: Path, name: str, size: str, num: str) -> dict[str, Any]:
    """Compare them on one set of images."""
    images = images_of(data / name, int(size), 3)
    order = np.random.default_rng(0).permutation(len(images))
    num_known = round(KNOWN * int(num))
    taught = order[: int(num)]
    before = np.concatenate([taught[:num_known], order[int(num) : 2 * int(num) - num_known]])
    rest = order[2 * int(num) - num_known :]
    half = len(rest) // 2
    compared = floats(images[rest[: min(half, MOST_COMPARED)]])
    fresh = floats(images[rest[half : half + MOST_COMPARED]])
    found: dict[str, Any] = {}

    def judge(label: str, network: Encoder, seconds: float) -> None:
        found[label] = {"cpu_seconds": round(seconds, 1), **judged(network, compared, fresh)}
        print(name, label, json.dumps(found[label]), flush=True)

    for seed in (0, 1):
        judge(f"random weights, 500 steps, seed {seed}", *trained(images[taught], 500, seed=seed))
        other, _ = trained(images[before], 500, seed=seed)
        judge(f"begun, 200 steps, seed {seed}", *trained(images[taught], 200, other, seed))
    judge("random weights, 200 steps", *trained(images[taught], 200))
    return found


def trained(images: np.ndarray, steps: int, other: Encoder | None = None, seed: int = 0) -> tuple[Encoder, float]:
    """Train an encoder by one thread for so many steps, and return it with the seconds of the processor."""
    encoder.SEED = seed
    encoder.STARTED_SHARE = 1.0
    start = None
    if other is not None:
        start = Start(encoder._packed(other), "00")
    before = time.process_time()
    network = train_encoder(images, steps=steps, start=start)
    return network, time.process_time() - before


def main() -> None:
    """Measure one or the other, and write it into the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("threads", "begun"))
    parser.add_argument("data", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--sets", nargs="+", default=["clothing-96.zip:40:1200", "emoji-64.zip:32:1000", "flowers-128.zip:64:2000"]
    )
    options = parser.parse_args()
    begin = {**hardware(), "load": os.getloadavg()[0]}
    if options.what == "threads":
        found = {**begin, **threads(options.data, options.rounds)}
    else:
        found = {**begin, **begun(options.data, options.sets)}
    path = RECORDS / "encoder.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**before, options.what: found}, indent=1) + "\n")
    print(path)


if __name__ == "__main__":
    main()
