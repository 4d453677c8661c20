"""How images are judged and shown: for the task, and for a training loop that Equipoise did not write."""

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from equipoise.data.cache import default_cache, writing_to
from equipoise.data.channels import OPACITY, in_colour, is_measured
from equipoise.data.decode import parse_background
from equipoise.data.pool import AS_FOUND, Pool, gather, to_float
from equipoise.data.several import counts_of
from equipoise.data.splits import Splits, judge_together
from equipoise.formatting import colours_of
from equipoise.metrics.crossfit import NUM_FOLDS
from equipoise.metrics.feature_judge import METRICS, FeatureJudge, make_feature_judge
from equipoise.metrics.features.kept import Lesson, RunEncoder
from equipoise.metrics.features.load import Features, load_features
from equipoise.metrics.kid import discrepancy
from equipoise.metrics.memorization import nearest
from equipoise.randomness import Randomness
from equipoise.recipe import FeaturesName, Images
from equipoise.sizes import Size, size_of_shape
from equipoise.storage.records import DataRecord
from equipoise.storage.safe_open import writable_text
from equipoise.tasks.base import SEEDS, Exhibit, JudgedSplit, Rival, Split, chunks, judged
from equipoise.tasks.exhibits import grid, picture

NUM_REAL = 5_000  # real images that a score is measured against, at most
NUM_FOR_ENCODER = 60_000  # training images that the judge's encoder learns from, at most; they lie in memory
BYTES_FOR_ENCODER = 2**30
NUM_FOR_TRAIN = 2_000  # training images that the judge compares with, at most
FLOOR_SEED = 3
NUM_FOR_FLOOR = 5_000  # training images of which the floor knows the mean
NUM_SHOWN = 64
LARGE = 64  # pixels a side above which fewer images are shown
NUM_SHOWN_LARGE = 16
NUM_NEAREST = 10  # generated images shown beside their nearest training images
FEWEST_LEAK = 50  # images by which a leak of an augmentation can be seen
NUM_COMPARED = 1_000  # training images compared at once: the features of all would not fit into memory

ENCODER_STAGE = "training the evaluation encoder, which measures the images (once for these images at this size)"

Stage = Callable[[str, float], None]


def judged_indices(pool: Pool, split: JudgedSplit) -> np.ndarray:
    """Return the indices of the images to judge by; the training's "validation" is the first half of that split.

    The second half judges the candidates again. Where few are held out, all of them judge the training as well as its
    end, and there is no second half.
    """
    validation, test = pool.splits.validation, pool.splits.test
    if not are_pooled(pool):
        return judged(split, validation, test)
    every = np.concatenate([validation, test])
    return every[:0] if split == "validation, second half" else every


def are_pooled(pool: Pool) -> bool:
    """Return whether all images that are held out judge together, as they are few."""
    return judge_together(len(pool.splits.validation), len(pool.splits.test))


def feature_judge(
    pool: Pool, features: Features, split: JudgedSplit, num_samples: int, num_real: int | None = None
) -> FeatureJudge | None:
    """Return the judge by up to `num_real` images (5,000) of what `judged_indices` returns, None where there are none.

    The training's judge takes `num_samples` generated images. The candidates are judged by at least twice as many: the
    choice is between close scores. Those of validation and test also compare with up to 2,000 training images, where
    none of these is among the real ones: whether the generator copies, and whether a classifier tells it from them.
    """
    num_final = min(NUM_REAL, features.final_samples)
    num_generated = {
        "validation": num_samples,
        "validation, second half": max(num_final, 2 * num_samples),
        "test": num_final,
    }
    indices = judged_indices(pool, split)
    if not len(indices):
        return None
    train = None
    learned_from = pool.splits.train[:NUM_FOR_TRAIN]
    if split in ("validation", "test") and len(learned_from) and not np.isin(learned_from, indices).any():
        train = batches(pool, learned_from)
    return make_feature_judge(
        features,
        batches(pool, indices[: num_real or NUM_REAL]),
        data_digest=pool.digest,
        split=split,
        num_generated=num_generated[split],
        seed=SEEDS[split],
        train_batches=train,
        num_folds=NUM_FOLDS if are_pooled(pool) else None,
    )


def features_of(
    pool: Pool,
    name: FeaturesName,
    device: torch.device,
    stage: Stage,
    run: RunEncoder | None = None,
    settings: Images = AS_FOUND,
) -> Features:
    """Return the judge's features.

    The encoder learns from all channels. Features made for colours see transparent images over `task.background`, and
    the first three of measured channels.

    The encoder is that of a `run` as long as that or the cache has it. With no training split all images teach it.
    """
    learned_from = pool.splits.train if len(pool.splits.train) else np.arange(len(pool.images))
    background = parse_background(settings.background)
    if name == "auto" and is_measured(pool.images.shape[1]):  # no other features see all of them
        name = "encoder"
    num = min(NUM_FOR_ENCODER, max(1, BYTES_FOR_ENCODER // pool.images[0].nbytes))
    learned_from = learned_from[:num]  # a split's order is random, so any first ones will do
    cache = default_cache()
    with writing_to(cache):
        found = load_features(
            name,
            train_images=lambda: pool.images[learned_from],
            channels=pool.images.shape[1],
            cache=cache,
            pool_digest=pool.digest,
            lesson=lesson_of(pool.hashes, pool.splits, learned_from),
            run=run,
            device=device,
            report=lambda share: stage(ENCODER_STAGE, share),
        )
    return found if found.taught is not None else of_colours(found, pool.images.shape[1], background)


def of_colours(features: Features, channels: int, background: tuple[int, int, int]) -> Features:
    """Return features made for colours for images of any channels; the digest says how these are seen."""
    if channels in (1, 3):
        return features
    digest = hashlib.sha256(f"{features.digest} {channels} {background}".encode()).hexdigest()
    return replace(features, digest=digest, extract=lambda images: features.extract(in_colour(images, background)))


def lesson_of(hashes: np.ndarray, splits: Splits, learned_from: np.ndarray) -> Lesson | None:
    """Return the contents uint64 of the images that are to teach an encoder, and of those that are held out.

    None where the hashes of the images' contents are not known.
    """
    if not len(hashes):
        return None
    held_out = np.concatenate([splits.validation, splits.test])
    return Lesson.of(hashes[learned_from], hashes[held_out])


def image_rivals(pool: Pool) -> tuple[Rival, ...]:
    """Return the floor (the mean training image with noise of each pixel's spread) and the ceiling (real images)."""

    def noisy_mean(_: Split, begin: int, size: int) -> Tensor:
        mean, deviation = moments()
        noise = Randomness(FLOOR_SEED, begin).normal("floor", size, *mean.shape)
        return (mean + deviation * noise).clamp(-1, 1)

    def moments() -> tuple[Tensor, Tensor]:
        if not known:
            images = to_float(gather(pool, pool.splits.train[:NUM_FOR_FLOOR]))
            known.extend([images.mean(0), images.std(0)])
        return known[0], known[1]

    def real(_: Split, begin: int, size: int) -> Tensor:
        return to_float(gather(pool, pool.splits.train[begin : begin + size]))

    known: list[Tensor] = []
    return (
        Rival("the mean image with noise", "floor", noisy_mean),
        Rival("real images", "ceiling", real, num=len(pool.splits.train)),
    )


def snapshot_of(images: Tensor) -> Exhibit:
    """Return a grid of images of fixed latents."""
    return picture("snapshot", "How the samples developed", grid(in_colour(images.cpu())))


def image_exhibits(shown: Tensor, few: Tensor, pool: Pool, features: Features) -> list[Exhibit]:
    """Return generated images beside real ones, and a few beside the training images nearest to them."""
    real = to_float(gather(pool, pool.splits.validation[: num_shown(pool)]))
    pairs = grid(in_colour(with_nearest(few, pool, features)), NUM_NEAREST)
    num_train = len(pool.splits.train)
    among = f", of {features.searched:,} of all {num_train:,}" if features.searched < num_train else ""
    how = how_shown(real.shape[1])
    return [
        picture(
            "best", "Samples", grid(in_colour(shown)), f"Generated by the best generator, not picked by hand.{how}"
        ),
        picture("real", "Samples", grid(in_colour(real)), f"Real, drawn at random from the data.{how}"),
        picture(
            "nearest",
            "Nearest training images",
            pairs,
            f"Above, generated images; below each, the training image nearest to it{among}.",
            "Generated images beside the training images that are nearest to them. A good generator is near in kind "
            "and different in detail; the same image twice would mean that it copies what it was shown.",
        ),
    ]


def how_shown(channels: int) -> str:
    """Say how images are shown whose channels are not grey, or red, green and blue; empty for these."""
    if channels in (1, 3):
        return ""
    if channels == OPACITY:
        return " Transparent parts lie over grey here; `equipoise sample` into a folder keeps them."
    return f" Of {channels} channels the first three are shown, as red, green and blue."


def num_shown(pool: Pool) -> int:
    """Return how many images a picture shows: fewer of large ones."""
    if size_of_shape(pool.images.shape).pixels <= LARGE**2:
        return NUM_SHOWN
    return NUM_SHOWN_LARGE


def with_nearest(images: Tensor, pool: Pool, features: Features) -> Tensor:
    """Return generated images `[N, C, H, W]` followed by each one's nearest training image in the judge's features.

    It is looked for among as many training images as the features' cost allows.
    """
    query = features.extract(images)
    least = torch.full((len(images),), torch.inf)
    found = torch.zeros(len(images), dtype=torch.int64)
    for part in torch.from_numpy(pool.splits.train[: features.searched]).split(NUM_COMPARED):  # their order is random
        distances, places = nearest(query, features.extract(to_float(gather(pool, part))), 1)
        closer = distances[:, 0] < least
        least = torch.where(closer, distances[:, 0].to(least), least)
        found = torch.where(closer, part[places[:, 0]], found)
    return torch.cat([images, to_float(gather(pool, found))])


def describe(pool: Pool, source: str) -> DataRecord:
    """Return what a run writes down of its images."""
    path = None
    if source != "mnist" and not source.startswith("hub:"):
        path = writable_text(str(Path(source).expanduser().resolve()))
    counts: tuple[int, ...] = ()
    set_counts: tuple[int, ...] = ()
    if pool.labels is not None:
        labels = pool.labels[pool.splits.train]
        counts = counts_of(labels, pool.classes, pool.sets)
        set_counts = tuple(np.bincount(labels, minlength=len(pool.sets)).tolist()) if pool.sets else ()
    _, channels, height, width = pool.images.shape
    return DataRecord(
        source=source,
        path=path,
        digest=pool.digest,
        noun="images",
        summary=f"{width} × {height} {colours_of(channels)} images",
        num_train=len(pool.splits.train),
        num_validation=len(pool.splits.validation),
        num_test=len(pool.splits.test),
        num_duplicates=pool.num_duplicates,
        rejected=pool.rejected,
        classes=tuple(writable_text(name) for name in pool.classes),
        class_counts=counts,
        sets=pool.sets,
        set_counts=set_counts,
        metrics=METRICS,
        facts={"size": Size(width, height).plain, "channels": channels},
    )


def batches(pool: Pool, indices: np.ndarray) -> Iterator[Tensor]:
    """Yield images of a pool in [-1, 1], chunk by chunk."""
    for begin, size in chunks(len(indices)):
        yield to_float(gather(pool, indices[begin : begin + size]))


def leak(features: Features, real: Tensor, changed: Tensor, fake: Tensor) -> float:
    """Return (KID to augmented real images − KID to real ones) in standard errors; NaN for too few images.

    All are `[N, C, H, W]` in [-1, 1]. The errors are added as if the two were independent, although both see the same
    generated images. By pairs a poor generator, which is near to neither, would be told to leak: it is often a little
    nearer to augmented ones.
    """
    if len(real) < FEWEST_LEAK:
        return math.nan
    of_fake = features.extract(fake)
    to_real, to_changed = (discrepancy(features.extract(images), of_fake).estimate for images in (real, changed))
    error = math.hypot(to_real.standard_error, to_changed.standard_error)
    return (to_changed.value - to_real.value) / error if error > 0 else math.nan
