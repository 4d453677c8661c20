"""How well features see what is wrong with images: the encoder of a run against EfficientNet-Lite1 at several sizes.

    python bench/features.py see DATA [--sets flowers-128.zip:64 emoji-64.zip:32 cifar10-jpeg.zip:32 clothing-96.zip:64]
                                      [--sizes 96 128] [--num 500]
    python bench/features.py agree DATA [--num 500]
    python bench/features.py table

`see`: real images of a set against held-out ones that were damaged in ten ways at three strengths (six of them the
encoder was taught to measure, four not), mixed with images of another set, or without some of their classes. Noted are
KID, its standard error and the time an image takes. `agree`: the same images of CIFAR-10 by a classifier that was
trained on its training part, and how well the order by its Fréchet distance is the order by each KID. DATA is the
folder of the sets. `table` prints what is in records/features.json, to which the others add.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from common import RECORDS, hardware
from encoder import damaged as damaged_as_taught
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from equipoise.data.cache import default_cache
from equipoise.data.pool import Pool, gather, prepare, to_float
from equipoise.host.device import chosen_precision
from equipoise.metrics.features.encoder import load_or_train
from equipoise.metrics.fid import fid, moments
from equipoise.metrics.kid import kernel_within, kid
from equipoise.nets import efficientnet
from equipoise.recipe import Data, Images, Recipe

RECORD = RECORDS / "features.json"
SETS = ("flowers-128.zip:64", "emoji-64.zip:32", "cifar10-jpeg.zip:32", "clothing-96.zip:64")
OTHERS = {"flowers-128.zip": "clothing-96.zip", "emoji-64.zip": "cifar10-jpeg.zip"}  # else flowers
TAUGHT = ("blur", "noise", "speckles", "warp", "holes", "mixed")
LEVELS: dict[str, tuple[float, ...]] = {
    "blur": (0.3, 0.6, 1.2),
    "noise": (0.03, 0.08, 0.2),
    "speckles": (0.005, 0.02, 0.08),
    "warp": (0.4, 1.0, 2.5),
    "holes": (0.1, 0.2, 0.35),
    "mixed": (0.1, 0.2, 0.4),
    "checkerboard": (0.03, 0.08, 0.2),
    "colours": (0.1, 0.25, 0.6),
    "patches": (0.05, 0.15, 0.4),
    "faded": (0.1, 0.25, 0.6),
    "mixture": (0.05, 0.15, 0.4),
    "dropped": (0.2, 0.4, 0.7),
}
FEW = 100  # images to time features with

Extract = Callable[[Tensor], Tensor]


def checkered(images: Tensor, amount: float) -> Tensor:
    """Add what a transposed convolution leaves: every second pixel of every second row brighter, the others darker."""
    height, width = images.shape[2:]
    odd = (torch.arange(height)[:, None] % 2) * (torch.arange(width) % 2)
    return (images + amount * (4 * odd - 1)).clamp(-1, 1)


def recoloured(images: Tensor, share: float) -> Tensor:
    """Turn red towards green, green towards blue, blue towards red."""
    return torch.lerp(images, images.roll(1, 1), share)


def shuffled(images: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Exchange a share of an image's 64 patches for those at the same places of the next image."""
    num, _, height, width = images.shape
    chosen = (torch.rand(num, 1, 8, 8, generator=generator) < share).float()
    mask = F.interpolate(chosen, size=(height, width), mode="nearest")
    return torch.where(mask > 0, images.roll(1, 0), images)


def damaged(kind: str, images: Tensor, level: float, generator: torch.Generator) -> Tensor:
    """Return images [N, 3, H, W] with one kind of damage."""
    match kind:
        case "checkerboard":
            return checkered(images, level)
        case "colours":
            return recoloured(images, level)
        case "patches":
            return shuffled(images, level, generator)
        case "faded":
            return torch.lerp(images, images.mean(1, keepdim=True).expand_as(images), level)
        case _:
            return damaged_as_taught(kind, images, level, generator)


def series(pool: Pool, other: Pool, held_out: np.ndarray, num: int) -> dict[str, list[Tensor]]:
    """Return what is compared with the real images, by its kind, from the weakest to the strongest."""
    generator = torch.Generator().manual_seed(1)
    images = to_float(gather(pool, held_out[:num]))
    found: dict[str, list[Tensor]] = {"none": [images]}
    strangers = to_float(gather(other, np.arange(num)))
    for kind, levels in LEVELS.items():
        if kind == "mixture":
            found[kind] = [torch.cat([strangers[: round(s * num)], images[round(s * num) :]]) for s in levels]
        elif kind == "dropped":
            found[kind] = [to_float(gather(pool, without(pool, held_out, share)[:num])) for share in levels]
        else:
            found[kind] = [damaged(kind, images, level, generator) for level in levels]
    return found


def without(pool: Pool, indices: np.ndarray, share: float) -> np.ndarray:
    """Return the images of all but the first classes; those that are left stand for them."""
    assert pool.labels is not None
    labels = pool.labels[indices]
    kept = indices[labels >= round(share * (int(pool.labels.max()) + 1))]
    return np.resize(kept, len(indices))


def at_size(network: efficientnet.EfficientNetLite, size: int, images: Tensor) -> Tensor:
    """Return features of images enlarged to another size than the product's."""
    images = F.interpolate(images, size=(size, size), mode="bicubic", align_corners=False, antialias=True).clamp(-1, 1)
    return efficientnet.SCALE * network(images.contiguous(memory_format=torch.channels_last))


@torch.no_grad()
def in_batches(extract: Extract, images: Tensor) -> Tensor:
    """Return the features of many images."""
    return torch.cat([extract(part) for part in images.split(50)])


def extractors(pool: Pool, sizes: list[int]) -> dict[str, Extract]:
    """Return the features to compare by name."""
    train = pool.images[pool.splits.train]
    found: dict[str, Extract] = {
        "encoder": load_or_train(train, default_cache() / "bench", pool.digest).network,
    }
    network, _ = efficientnet.published(efficientnet.LITE1_WEIGHTS, efficientnet.LITE1, default_cache())
    found["efficientnet"] = partial(efficientnet.efficientnet_features, network)
    for size in sizes:
        found[f"efficientnet at {size}"] = partial(at_size, network, size)
    return found


def halves(pool: Pool, num: int) -> tuple[np.ndarray, np.ndarray]:
    """Return real images to compare with, and others to be damaged; where there are enough, none taught the encoder."""
    free = np.concatenate([pool.splits.validation, pool.splits.test])
    if len(free) < 2 * num:
        free = np.concatenate([free, pool.splits.train[-(2 * num - len(free)) :]])
    free = np.random.default_rng(0).permutation(free)
    return free[: len(free) // 2], free[len(free) // 2 :]


def see(data: Path, name: str, side: int, sizes: list[int], num: int) -> dict[str, Any]:
    """Measure one set by all features."""
    pool = prepare(Data(source=str(data / name)), Images(size=side, channels=3))
    other = prepare(Data(source=str(data / OTHERS.get(name, "flowers-128.zip"))), Images(size=side, channels=3))
    real, held_out = halves(pool, num)
    shown = series(pool, other, held_out, num)
    result: dict[str, Any] = {}
    for features, extract in extractors(pool, sizes).items():
        real_features = in_batches(extract, to_float(gather(pool, real[:num])))
        within = kernel_within(real_features)
        begin = time.perf_counter()
        in_batches(extract, to_float(gather(pool, real[:FEW])))
        cost = (time.perf_counter() - begin) / FEW * 1000
        by_kind = {}
        for kind, levels in shown.items():
            found = [kid(real_features, in_batches(extract, images), within) for images in levels]
            by_kind[kind] = [[one.value, one.standard_error] for one in found]
        result[features] = {"milliseconds": cost, "kid": by_kind}
        print(name, summary(result[features]), features, flush=True)
    return result


def above(kid_and_error: list[float], none: list[float]) -> float:
    """Return by how many standard errors a KID lies above that of undamaged images."""
    return (kid_and_error[0] - none[0]) / max(none[1], kid_and_error[1])


def summary(found: dict[str, Any]) -> str:
    """Return in a line what a table says of features on one set."""
    by_kind = found["kid"]
    none = by_kind["none"][0]
    rows = []
    for kinds in (TAUGHT, ("checkerboard", "colours", "patches", "faded"), ("mixture",), ("dropped",)):
        z = [[above(level, none) for level in by_kind[kind]] for kind in kinds]
        rising = sum(one == sorted(one) for one in z)
        medians = "/".join(f"{statistics.median(one[level] for one in z):.1f}" for level in range(3))
        rows.append(f"{medians} ({rising} of {len(z)})")
    return f"{found['milliseconds']:5.1f} ms  real {none[0] / none[1]:+.1f}  " + "  ".join(rows)


def trained_classifier(pool: Pool, steps: int = 1_500) -> nn.Sequential:
    """Train a classifier of CIFAR-10 on the training split, or load it from an earlier time."""
    path = default_cache() / "bench" / f"classifier-{pool.digest[:12]}-{steps}.safetensors"
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for num_in, num_out in ((3, 48), (48, 96), (96, 192)):
        for first in (num_in, num_out):
            layers += [nn.Conv2d(first, num_out, 3, padding=1, bias=False), nn.BatchNorm2d(num_out), nn.ReLU()]
        layers.append(nn.MaxPool2d(2))
    network = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(192, 10))
    network = network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]: missing from stubs
    precision = chosen_precision(Recipe(), torch.device("cpu"))
    if path.exists():
        network.load_state_dict(load_file(path))
        return network.eval()
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.2, total_steps=steps)
    rng = np.random.default_rng(0)
    assert pool.labels is not None
    for _ in range(steps):
        indices = rng.choice(pool.splits.train, 128)
        images = to_float(gather(pool, indices))
        if rng.random() < 0.5:
            images = images.flip(3)
        images = torch.roll(images, tuple(int(shift) for shift in rng.integers(-3, 4, 2)), (2, 3))
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", dtype=precision, enabled=precision != torch.float32):
            logits = network(images)
        loss = F.cross_entropy(logits.float(), torch.from_numpy(pool.labels[indices]).long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({key: value.contiguous() for key, value in network.state_dict().items()}, path)
    return network.eval()


def of_cifar(data: Path) -> Pool:
    """Return the images of CIFAR-10, which the classifier learns from."""
    return prepare(Data(source=str(data / "cifar10-jpeg.zip")), Images(size=32, channels=3))


def classifier_features(data: Path) -> Extract:
    """Return the last features [N, 192] of the classifier of CIFAR-10, which sees images at 32 × 32."""
    body = trained_classifier(of_cifar(data))[:-1]

    def extract(images: Tensor) -> Tensor:
        if images.shape[-2:] != (32, 32):
            images = F.interpolate(images, (32, 32), mode="bilinear", antialias=True, align_corners=False)
        return in_batches(body, images)

    return extract


def agree(data: Path, num: int) -> dict[str, Any]:
    """Return the Fréchet distance by a classifier's features of all that `see` compares on CIFAR-10."""
    pool = of_cifar(data)
    other = prepare(Data(source=str(data / "flowers-128.zip")), Images(size=32, channels=3))
    network = trained_classifier(pool)
    assert pool.labels is not None
    held = pool.splits.test[:2000]
    with torch.no_grad():
        right = network(to_float(gather(pool, held))).argmax(1).numpy() == pool.labels[held]
    real, held_out = halves(pool, num)
    body = network[:-1]
    of_real = moments(in_batches(body, to_float(gather(pool, real[:5000]))))
    found = {
        kind: [fid(of_real, moments(in_batches(body, images))) for images in levels]
        for kind, levels in series(pool, other, held_out, num).items()
    }
    return {"accuracy": float(right.mean()), "fid": found}


def ranks(values: list[float]) -> np.ndarray:
    """Return the rank of each value."""
    return np.argsort(np.argsort(values)).astype(float)


def agreement(by_classifier: dict[str, list[float]], by_features: dict[str, Any]) -> float:
    """Return Spearman's correlation of the two orders."""
    one = [value for levels in by_classifier.values() for value in levels]
    other = [value for kind in by_classifier for value, _ in by_features[kind]]
    return float(np.corrcoef(ranks(one), ranks(other))[0, 1])


def table(record: dict[str, Any]) -> None:
    """Print what was measured."""
    for name, by_features in record.get("see", {}).items():
        print(name)
        for features, found in by_features.items():
            line = summary(found)
            if name.startswith("cifar") and "agree" in record:
                line += f"  {agreement(record['agree']['fid'], found['kid']):.3f}"
            print(f"  {features:28} {line}")


def main() -> None:
    """Measure, and add to the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["see", "agree", "table"])
    parser.add_argument("data", type=Path, nargs="?")
    parser.add_argument("--sets", nargs="+", default=list(SETS))
    parser.add_argument("--sizes", nargs="+", type=int, default=[])
    parser.add_argument("--num", type=int, default=500)
    asked = parser.parse_args()
    record = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    if asked.what == "see":
        for one in asked.sets:
            name, side = one.rsplit(":", 1)
            found = see(asked.data, name, int(side), asked.sizes, asked.num)
            record.setdefault("see", {}).setdefault(one, {}).update(found)
            record = {**record, **hardware(), "num": asked.num}
            RECORD.write_text(json.dumps(record, indent=1) + "\n")
    elif asked.what == "agree":
        record["agree"] = {**hardware(), "num": asked.num, **agree(asked.data, asked.num)}
        RECORD.write_text(json.dumps(record, indent=1) + "\n")
    table(record)


if __name__ == "__main__":
    main()
