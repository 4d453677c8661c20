"""By how much a final score of few images gains where all held-out ones judge, and cross-fitting corrects it.

    python bench/few_judge.py DATA [--num-draws 2000] [--seed 0]

DATA is the folder of flowers-128.zip. A training is imitated: 20 checkpoints draw real images that are damaged, the
first twelve less and less, the last eight in several ways, so that few images cannot tell the best ones apart. Of 210
images 42 are held out, drawn anew each time from thousands that no checkpoint draws. `apart`: 21 choose, and the 21
others score what was chosen. `together`: all 42 choose and score, with cross-fitting; `uncorrected`: without it. As in
a run the lowest three are judged again with other inputs, the lowest of these is chosen, and scored with inputs of its
own. What the chosen one is worth is its KID to all thousands with these same inputs. Writes records/few_judge.json.
"""

import argparse
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import write_record
from encoder import damaged
from torch import Tensor

from equipoise.data.cache import default_cache
from equipoise.data.pool import gather, prepare, to_float
from equipoise.metrics.crossfit import NUM_FOLDS, fold_shares, optimism
from equipoise.metrics.kid import kernel_within, polynomial_kernel
from equipoise.nets import efficientnet
from equipoise.recipe import Data, Images

NUM_HELD_OUT = 42
NUM_FAKE = 200  # images a checkpoint draws at a time; of these each time others
NUM_TIMES = 3  # while it trains, to select, to score
NUM_CANDIDATES = 3
NEAR = (("blur", 0.5), ("noise", 0.05), ("speckles", 0.01), ("warp", 0.6), ("holes", 0.12), ("mixed", 0.1))
CHECKPOINTS = (
    *(("mixed", round(0.6 - 0.04 * step, 2)) for step in range(12)),
    *NEAR,
    ("blur", 0.55),
    ("noise", 0.045),
)


@torch.no_grad()
def in_batches(extract: Any, images: Tensor) -> Tensor:
    """Return the features of many images."""
    return torch.cat([extract(part) for part in images.split(50)])


def measured(real: Tensor, fakes: Tensor) -> tuple[Tensor, Tensor]:
    """Return ff [T] and u [T, M] of what each checkpoint draws [T, N, D], for real features [M, D]."""
    within = torch.tensor([kernel_within(fake).mean for fake in fakes], dtype=torch.float64)
    between = torch.stack([-2 * polynomial_kernel(fake, real).double().mean(0) for fake in fakes])
    return within, between


def by_folds(times: tuple[Tensor, Tensor], chosen: Tensor, num_folds: int = NUM_FOLDS) -> Tensor:
    """Return the losses [T, K] of each checkpoint by folds of the chosen real images."""
    within, between = times
    return torch.stack([within + part.mean(1) for part in between[:, chosen].tensor_split(num_folds, 1)], 1)


def scored(kernel: Tensor, found: list[tuple[Tensor, Tensor]], judges: Tensor, testers: Tensor) -> tuple[int, float]:
    """Choose among the checkpoints by some real images; return which, and its score by others (or the same)."""
    training, again, final = found
    lowest = by_folds(training, judges, 1)[:, 0].argsort()[:NUM_CANDIDATES]
    best = int(lowest[by_folds(again, judges, 1)[lowest, 0].argmin()])
    part = kernel[testers][:, testers]
    num = len(testers)
    alone = (part.sum() - part.diagonal().sum()) / (num * (num - 1))
    return best, (alone + by_folds(final, testers, 1)[best, 0]).item()


def main() -> None:
    """Draw held-out images many times, judge in each way, and write down by how much the scores are off."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--num-draws", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    pool = prepare(Data(source=str(given.data / "flowers-128.zip")), Images(size=32))
    order = np.random.default_rng(given.seed).permutation(len(pool.images))
    network, _ = efficientnet.published(efficientnet.LITE1_WEIGHTS, efficientnet.LITE1, default_cache())
    extract = partial(efficientnet.efficientnet_features, network)
    num_drawn = NUM_TIMES * NUM_FAKE
    real = in_batches(extract, to_float(gather(pool, order[num_drawn : num_drawn + 3_000])))
    generator = torch.Generator().manual_seed(given.seed)
    drawn = to_float(gather(pool, order[:num_drawn]))
    found = []
    for images in drawn.split(NUM_FAKE):
        fakes = [in_batches(extract, damaged(kind, images, level, generator)) for kind, level in CHECKPOINTS]
        found.append(measured(real, torch.stack(fakes)))
    kernel = polynomial_kernel(real, real).double()
    num = len(real)
    alone = (kernel.sum() - kernel.diagonal().sum()) / (num * (num - 1))
    truth = alone + found[-1][0] + found[-1][1].mean(1)
    shares = fold_shares(NUM_HELD_OUT, NUM_FOLDS)
    errors: dict[str, list[float]] = {"apart": [], "uncorrected": [], "together": []}
    worth: dict[str, list[float]] = {"apart": [], "together": []}
    for _ in range(given.num_draws):
        held_out = torch.randperm(num, generator=generator)[:NUM_HELD_OUT]
        best, score = scored(kernel, found, held_out[: NUM_HELD_OUT // 2], held_out[NUM_HELD_OUT // 2 :])
        errors["apart"].append(score - truth[best].item())
        worth["apart"].append(truth[best].item())
        best, score = scored(kernel, found, held_out, held_out)
        errors["uncorrected"].append(score - truth[best].item())
        errors["together"].append(errors["uncorrected"][-1] + optimism(by_folds(found[0], held_out), shares))
        worth["together"].append(truth[best].item())
    values = {
        "what": "error of the final score of a training with 42 held-out images, against thousands",
        "seed": given.seed,
        "num_draws": given.num_draws,
        "num_real": num,
        "num_generated": NUM_FAKE,
        "truth": {f"{kind} {level}": value for (kind, level), value in zip(CHECKPOINTS, truth.tolist(), strict=True)},
        "bias": {name: float(np.mean(found)) for name, found in errors.items()},
        "bias_error": {name: float(np.std(found) / len(found) ** 0.5) for name, found in errors.items()},
        "spread": {name: float(np.std(found)) for name, found in errors.items()},
        "root_mean_square": {name: float(np.sqrt(np.mean(np.square(found)))) for name, found in errors.items()},
        "worth_of_the_chosen": {name: float(np.mean(found)) for name, found in worth.items()},
    }
    print(write_record("few_judge", values))
    print(values)


if __name__ == "__main__":
    main()
