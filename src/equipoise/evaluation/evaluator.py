"""The judge: generated images against real ones under a protocol, which every score carries."""

import dataclasses
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from equipoise.errors import UserError
from equipoise.metrics.features.load import Features
from equipoise.metrics.fid import Moments, fid, moments
from equipoise.metrics.kid import KernelSums, kernel_within, kid
from equipoise.metrics.memorization import mann_whitney, nearest_distances
from equipoise.metrics.prdc import prdc, squared_radii

NEIGHBOUR_SAMPLES = 10_000  # precision, recall, density and coverage use at most so many of each side, the first ones
COPYING_SAMPLES = 5_000  # and the test for copying at most so many


class NotFiniteError(ValueError):
    """Generated images hold NaN or infinity: a fault of the training, not of the caller."""


@dataclass(frozen=True)
class Protocol:
    """What two scores must share to be compared."""

    features: str
    features_digest: str
    data_digest: str
    split: str
    num_real: int
    num_generated: int
    neighbours: int = 5
    seed: int = 0


@dataclass(frozen=True)
class Score:
    """What a judge found; lower is better for kid and fid, higher for the next four.

    `copying` is C_T (arXiv:2004.05675), far below 0 where the generator copies training images; NaN if not looked for.
    """

    kid: float
    kid_se: float
    fid: float
    precision: float
    recall: float
    density: float
    coverage: float
    protocol: Protocol
    seconds: float
    copying: float = math.nan


@dataclass(frozen=True)
class Judge:
    """Features of the real split [N, D] with what can be computed from them once.

    Where features of training images [K, D] are given, scores say whether the generator copies them.
    """

    features: Features
    protocol: Protocol
    real: Tensor
    real_kernel: KernelSums
    real_moments: Moments
    real_radii: Tensor
    train: Tensor | None = None
    real_to_train: Tensor | None = None  # distances to the nearest of `train`


@dataclass(frozen=True)
class Comparison:
    """Score b against score a: differences b − a (negative KID and FID: b is better)."""

    kid: float
    kid_se: float  # as if the two were independent: shared reals and latents make the true error smaller
    fid: float
    precision: float
    recall: float
    density: float
    coverage: float


def make_judge(
    features: Features,
    real_batches: Iterable[Tensor],
    *,
    data_digest: str,
    split: str,
    num_generated: int,
    neighbours: int = 5,
    seed: int = 0,
    train_batches: Iterable[Tensor] | None = None,
) -> Judge:
    """Return a judge by real images [N, C, H, W] in [-1, 1]; raises UserError if they are too few.

    With `train_batches`, images that the generator learned from (5,000 are plenty), it also looks for copying.
    """
    real = extracted(features, real_batches)
    if min(len(real), num_generated) <= neighbours:
        raise UserError(
            f"judging by {neighbours} neighbours: {len(real)} real and {num_generated} generated images; "
            f"give at least {neighbours + 1} of each (a larger {split} split, or judging.num_samples)."
        )
    protocol = Protocol(
        features=features.name,
        features_digest=features.digest,
        data_digest=data_digest,
        split=split,
        num_real=len(real),
        num_generated=num_generated,
        neighbours=neighbours,
        seed=seed,
    )
    train = None if train_batches is None else extracted(features, train_batches)
    return Judge(
        features=features,
        protocol=protocol,
        real=real,
        real_kernel=kernel_within(real),
        real_moments=moments(real),
        real_radii=squared_radii(real[:NEIGHBOUR_SAMPLES] - real[:NEIGHBOUR_SAMPLES].mean(0), neighbours),
        train=train,
        real_to_train=None if train is None else nearest_distances(real[:COPYING_SAMPLES], train),
    )


@torch.no_grad()
def extracted(features: Features, batches: Iterable[Tensor]) -> Tensor:
    """Return the features [N, D] of images [N, C, H, W] in [-1, 1]; raises NotFiniteError where one is not finite."""
    parts = []
    for images in batches:
        if not torch.isfinite(images).all():
            bad = int((~torch.isfinite(images.flatten(1))).any(1).sum())
            raise NotFiniteError(f"{bad} of {len(images)} images to be judged hold NaN or infinity.")
        parts.append(features.extract(images))
    return torch.cat(parts) if parts else torch.empty(0, features.dimension)


def score(judge: Judge, batches: Iterable[Tensor]) -> Score:
    """Score generated images [N, C, H, W] in [-1, 1], as many as the protocol says.

    Raises NotFiniteError where an image is not finite, UserError where the number is not the protocol's.
    """
    start = time.perf_counter()
    found = score_features(judge, extracted(judge.features, batches))
    return dataclasses.replace(found, seconds=time.perf_counter() - start)


def score_features(judge: Judge, fake: Tensor) -> Score:
    """Score features [N, D] of generated images, as many as the protocol says; else raises UserError."""
    start = time.perf_counter()
    if len(fake) != judge.protocol.num_generated:
        raise UserError(
            f"{len(fake)} generated images were given; the protocol says {judge.protocol.num_generated}. "
            "Give as many, or make another judge: scores of different numbers are not comparable."
        )
    distance = kid(judge.real, fake, judge.real_kernel)
    shares = prdc(judge.real[:NEIGHBOUR_SAMPLES], fake[:NEIGHBOUR_SAMPLES], judge.protocol.neighbours, judge.real_radii)
    copying = math.nan
    if judge.train is not None and judge.real_to_train is not None:
        copying = mann_whitney(nearest_distances(fake[:COPYING_SAMPLES], judge.train), judge.real_to_train)
    return Score(
        kid=distance.value,
        kid_se=distance.standard_error,
        fid=fid(judge.real_moments, moments(fake)),
        precision=shares.precision,
        recall=shares.recall,
        density=shares.density,
        coverage=shares.coverage,
        protocol=judge.protocol,
        seconds=time.perf_counter() - start,
        copying=copying,
    )


def compare(a: Score, b: Score) -> Comparison:
    """Return how b differs from a; raises UserError that names the fields in which the protocols differ."""
    ours, theirs = dataclasses.asdict(a.protocol), dataclasses.asdict(b.protocol)
    differing = [f"{name} ({ours[name]} and {theirs[name]})" for name in ours if ours[name] != theirs[name]]
    if differing:
        raise UserError(
            f"scores of different protocols are not comparable; they differ in {', '.join(differing)}. "
            "Judge both generators again under one protocol."
        )
    return Comparison(
        kid=b.kid - a.kid,
        kid_se=(a.kid_se**2 + b.kid_se**2) ** 0.5,
        fid=b.fid - a.fid,
        precision=b.precision - a.precision,
        recall=b.recall - a.recall,
        density=b.density - a.density,
        coverage=b.coverage - a.coverage,
    )


def to_dict(score: Score) -> dict[str, Any]:
    """Return a score with its protocol as plain values."""
    return dataclasses.asdict(score)


def from_dict(values: dict[str, Any]) -> Score:
    """Build a score from plain values; raises UserError where a field is missing or unknown.

    `copying` may be missing (an older score) or null (how a JSON file says NaN).
    """
    try:
        read = Score(**{**values, "protocol": Protocol(**values["protocol"])})
        return read if read.copying is not None else dataclasses.replace(read, copying=math.nan)
    except (KeyError, TypeError) as error:
        raise UserError(f"not a score: {error}. A score is what judge.protocol.to_dict returns.") from None
