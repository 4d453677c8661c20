"""A custom loop's real images as what an evaluation asks for: judge, rivals and exhibits are the image task's."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor

from equipoise.data.pool import Pool, prepare
from equipoise.data.splits import content_digests, split, to_hashes
from equipoise.errors import Option, UserError
from equipoise.host.device import chosen_device
from equipoise.metrics.feature_judge import FeatureJudge
from equipoise.metrics.features.load import Features
from equipoise.randomness import Randomness
from equipoise.recipe import Data, Recipe
from equipoise.storage.records import DataRecord
from equipoise.tasks.base import Evaluated, Exhibit, JudgedSplit, Rival, Split
from equipoise.tasks.image_judging import (
    NUM_NEAREST,
    describe,
    feature_judge,
    features_of,
    image_exhibits,
    image_rivals,
    num_shown,
    snapshot_of,
)
from equipoise.tasks.images import LEAST_HELD_OUT
from equipoise.watch.generators import Draw

HELD_OUT = 0.1  # of the distinct images, for validation, and as many for the test
NUM_TRIED = 8
LARGEST = 1.5  # values beyond are no images in [-1, 1] that overshoot a little
PART = 4096  # images converted at once


@dataclass(frozen=True)
class GivenImages(Evaluated):
    """Real images and the latents of a generator; a generator is what draws images from latents."""

    pool: Pool
    features: Features
    num_samples: int
    latents: tuple[int, ...]  # the shape of one
    seed: int

    def outputs(self, generator: Draw, randomness: Randomness, split: Split, begin: int, size: int) -> Tensor:
        """Draw `size` images `[size, C, H, W]` in [-1, 1]; raises UserError for images of another shape."""
        return self._drawn(generator, randomness, size).clamp(-1, 1)

    def _drawn(self, generator: Draw, randomness: Randomness, size: int) -> Tensor:
        images = generator(randomness.normal(f"latents of {self.seed}", size, *self.latents))
        expected = [size, *self.pool.images.shape[1:]]
        if list(images.shape) != expected:
            problem = (
                f"for {size} latents it gave {list(images.shape)}; the real images ask for {expected} [N, C, H, W]"
            )
            raise UserError("generator", problem)
        return images

    def judge(self, split: JudgedSplit) -> FeatureJudge | None:
        """Return the judge by a split's images."""
        return feature_judge(self.pool, self.features, split, self.num_samples)

    def rivals(self) -> tuple[Rival, ...]:
        """Return the floor and the ceiling."""
        return image_rivals(self.pool)

    def snapshot(self, generator: Draw) -> Exhibit:
        """Return the first images of fixed latents."""
        return snapshot_of(self.outputs(generator, Randomness(0), "validation", 0, num_shown(self.pool)))

    def exhibits(self, generator: Draw) -> list[Exhibit]:
        """Return generated images beside real ones, and some beside the training images nearest to them."""
        num = num_shown(self.pool)
        images = self.outputs(generator, Randomness(0), "validation", 0, num)
        return image_exhibits(images, images[:NUM_NEAREST], self.pool, self.features)

    def refuse_misfit(self, generator: Draw) -> None:
        """Raise UserError where a first few images have another shape, or another range than [-1, 1]."""
        largest = float(self._drawn(generator, Randomness(0), NUM_TRIED).abs().max())
        if largest > LARGEST:
            problem = f"its images reach {largest:.3g}; values in [-1, 1] are needed, as a final tanh gives them"
            raise UserError("generator", problem, "Rescale them by generate=, a function of (generator, latents)")


def given_images(real: Any, latents: Any, recipe: Recipe, stage: Callable[[str, float], None]) -> GivenImages:
    """Split real images by content, and train the evaluation encoder; raises UserError for images of no use.

    They are a source as `equipoise train` takes it, or all images [N, C, H, W], uint8 or floats in [-1, 1]; `latents`
    is the size of one latent, or its shape.
    """
    pool = prepare(Data(source=str(real))) if isinstance(real, str | Path) else _pool(_as_uint8(real))
    held_out = (len(pool.splits.validation), len(pool.splits.test))
    if min(held_out) < LEAST_HELD_OUT:
        problem = (
            f"of {len(pool.images)} images {held_out[0]} are held out for validation and {held_out[1]} for the test; "
            f"{LEAST_HELD_OUT} of each are needed"
        )
        raise UserError(Option("real"), problem, "Give at least 200 images")
    shape = tuple(np.atleast_1d(latents).tolist())
    features = features_of(pool, recipe.evaluation.features, chosen_device("auto"), stage)
    return GivenImages(pool, features, recipe.evaluation.num_samples, shape, recipe.seed)


def record_of(given: GivenImages, real: Any) -> DataRecord:
    """Return what a run writes down of its real images."""
    if isinstance(real, str | Path):
        return describe(given.pool, str(real))
    return msgspec.structs.replace(describe(given.pool, "images given to the watch"), path=None)


def _as_uint8(real: Any) -> np.ndarray:
    """Return images as uint8 [N, C, H, W]; raises UserError for another shape, type or range."""
    images = real.detach().cpu() if isinstance(real, Tensor) else torch.as_tensor(np.asarray(real))
    subject = Option("real")
    if images.ndim != 4 or images.shape[1] not in (1, 3) or min(images.shape) < 1:
        remedy = "C is 1 for grey and 3 for colour"
        if images.ndim == 4 and images.shape[-1] in (1, 3):
            remedy = "Move the channels: np.moveaxis(images, -1, 1)"
        raise UserError(subject, f"its shape is {list(images.shape)}; give [N, C, H, W]", remedy)
    if images.dtype == torch.uint8:
        return np.ascontiguousarray(images.numpy())
    allowed = "give uint8 0..255, or floats in [-1, 1]"
    if not images.is_floating_point():
        raise UserError(subject, f"its type is {str(images.dtype).removeprefix('torch.')}; {allowed}")
    low, high = float(images.min()), float(images.max())
    if not (-1.001 <= low <= high <= 1.001):  # also where one is NaN
        raise UserError(subject, f"its values are in {low:.3g}..{high:.3g}; {allowed}")
    if low >= 0:
        raise UserError(subject, f"its values are in {low:.3g}..{high:.3g}; {allowed}", "Rescale them: 2 * images - 1")
    parts = [part.float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8) for part in images.split(PART)]
    return np.ascontiguousarray(torch.cat(parts).numpy())


def _pool(images: np.ndarray) -> Pool:
    digests = content_digests(images)
    hashes = to_hashes(digests)
    splits = split(hashes, HELD_OUT, HELD_OUT)
    digest = hashlib.sha256(f"{images.shape[1:]}".encode() + b"".join(digests))
    for part in (splits.train, splits.validation, splits.test):
        digest.update(f"/{len(part)}/".encode() + part.tobytes())
    return Pool(
        images=images,
        labels=None,
        classes=(),
        splits=splits,
        digest=digest.hexdigest(),
        rejected=(),
        num_duplicates=len(hashes) - len(np.unique(hashes)),
        num_skipped=0,
    )
