"""Features: what a judge sees of an image. One name, one extractor, one digest for the protocol."""

import typing
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from equipoise.metrics.features import dinov2, encoder, inception
from equipoise.metrics.features.kept import Kept, Lesson, RunEncoder
from equipoise.nets import efficientnet, weights
from equipoise.recipe import FeaturesName


@dataclass(frozen=True)
class Features:
    """A feature extractor and its identity; `extract` maps images [N, C, H, W] in [-1, 1] to [N, D]."""

    name: str
    digest: str  # SHA-256 of the weights
    dimension: int
    extract: Callable[[Tensor], Tensor]  # float32 on the CPU, without gradients
    final_samples: int = 5_000  # generated samples of a score at the end of a training, as their cost allows
    searched: int = 100_000  # training samples among which the nearest are looked for, at most, as their cost allows
    flatters: bool = False  # the generator learns from features of this kind: its score is no other generator's
    taught: Kept | None = None  # the weights of an encoder as they are kept, and which images taught it

    @property
    def protocol(self) -> dict[str, Any]:
        """What a score's protocol says of them: name, digest, and what an encoder has learned from other images."""
        found: dict[str, Any] = {"features": self.name, "features_digest": self.digest}
        if self.flatters:
            found["features_flatter"] = True
        if self.taught is None:
            return found
        record = self.taught.record
        if record.is_reused:
            others = record.num_taught - record.num_shared
            found["features_taught"] = (
                f"{record.num_shared:,} of {record.num_train:,} training images, {others:,} others"
            )
        if record.started_from:
            found["features_started_from"] = record.started_from
        return found


def automatic(
    channels: int, cache: Path, device: torch.device | str
) -> Literal["inception", "efficientnet", "encoder"]:
    """Return the features that judge images of so many channels where none are asked for; nothing is downloaded.

    On a GPU Inception where its file is at hand; else EfficientNet for colour, also with transparency. For others it is
    the encoder.
    """
    if torch.device(device).type != "cpu" and weights.find(inception.WEIGHTS, cache) is not None:
        return "inception"
    if channels in (3, 4) and weights.find(efficientnet.LITE1_WEIGHTS, cache) is not None:
        return "efficientnet"
    return "encoder"


def load_features(
    name: FeaturesName,
    *,
    train_images: Callable[[], np.ndarray],
    channels: int,
    cache: Path,
    pool_digest: str,
    lesson: Lesson | None = None,
    run: RunEncoder | None = None,
    device: torch.device | str = "cpu",
    report: Callable[[float], None] | None = None,
) -> Features:
    """Return the named features, of images with so many channels; "auto" is what `automatic` says.

    `train_images` returns the training split, uint8 [N, C, H, W]; the encoder learns from it once, calls `report`
    with the share done, and is kept in `cache` under `pool_digest`. The encoder of a `run` is taken before that, or one
    that nearly the same images of the `lesson` have taught; a run that has one keeps it, also where "auto" would be
    something else. Raises UserError where published weights cannot be had.
    """
    if name == "auto":
        has_encoder = run is not None and run.record is not None
        name = "encoder" if has_encoder else automatic(channels, cache, device)
    match name:
        case "efficientnet":
            lite, digest = efficientnet.published(efficientnet.LITE1_WEIGHTS, efficientnet.LITE1, cache)
            lite = lite.to(device)
            extract = in_batches(lambda images: efficientnet.efficientnet_features(lite, images), 50, device)
            return Features(
                "efficientnet", digest, efficientnet.DIMENSION, extract, final_samples=2_000, searched=10_000
            )
        case "inception":
            path = weights.find_or_fetch(inception.WEIGHTS, cache)
            state, digest = weights.read(path, inception.WEIGHTS)
            network = weights.built(inception.load_inception, state, path).to(device)
            extract = in_batches(lambda images: inception.inception_features(network, images), 32, device)
            return Features("inception", digest, inception.DIMENSION, extract)
        case "dinov2":
            path = weights.find_or_fetch(dinov2.WEIGHTS, cache)
            state, digest = weights.read(path, dinov2.WEIGHTS)
            vit = weights.built(dinov2.load_dinov2, state, path).to(device)
            extract = in_batches(lambda images: dinov2.dinov2_features(vit, images), 32, device)
            return Features("dinov2", digest, dinov2.DIMENSION, extract)
        case "encoder":
            found = encoder.load_or_train(train_images(), cache, pool_digest, lesson=lesson, run=run, report=report)
            trained = found.network.to(device)
            extract = in_batches(trained, 500, device)
            return Features("encoder", found.digest, trained.dimension, extract, taught=Kept(found.data, found.record))
        case _:
            typing.assert_never(name)


def in_batches(
    network: Callable[[Tensor], Tensor], batch: int, device: torch.device | str
) -> Callable[[Tensor], Tensor]:
    """Wrap a network so that it runs in small batches, in float32 and without gradients."""
    device = torch.device(device)

    @torch.no_grad()
    def extract(images: Tensor) -> Tensor:
        with torch.autocast(device.type, enabled=False):
            return torch.cat([network(part.to(device).float()).float().cpu() for part in images.split(batch)])

    return extract
