"""The judge by features: generated samples against real ones under a protocol, which every score carries."""

import dataclasses
import math
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from equipoise.data.splits import JudgedSplit
from equipoise.errors import UserError
from equipoise.metrics.crossfit import fold_losses
from equipoise.metrics.features.load import Features
from equipoise.metrics.fid import Moments, fid, moments
from equipoise.metrics.kid import Kernel, KernelSums, discrepancy, kernel_within, polynomial_kernel
from equipoise.metrics.memorization import mann_whitney, nearest_distances
from equipoise.metrics.prdc import PRDC, prdc, squared_radii
from equipoise.metrics.two_sample import told_apart
from equipoise.metrics.units import Measured
from equipoise.storage.records import Metric

NEIGHBOURS = 5
NEIGHBOUR_SAMPLES = 10_000  # of each side, the first ones, for precision, recall, density and coverage, at most
COPYING_SAMPLES = 5_000  # and the test for copying at most so many

METRICS = (
    Metric(name="kid", label="KID", meaning="kernel distance to the real images", decides=True, signed=True),
    Metric(name="fid", label="FID", meaning="Fréchet distance to the real images"),
    Metric(name="precision", meaning="share of generated images near real ones", better="higher"),
    Metric(name="recall", meaning="share of real images near generated ones", better="higher"),
    Metric(name="density", meaning="how deep generated images lie among real ones; about 1 is ideal", better="higher"),
    Metric(name="coverage", meaning="share of real images with a generated one nearby", better="higher"),
    Metric(
        name="c2st",
        label="C2ST",
        meaning="share of pairs in which a linear classifier tells the generated image from the real one; 0.5 is ideal",
    ),
    Metric(
        name="copying",
        label="C_T",
        meaning="far below 0: nearer to the training images than held-out images are (arXiv:2004.05675)",
        better="higher",
    ),
)


class NotFiniteError(ValueError):
    """Generated samples hold NaN or infinity: a fault of the training, not of the caller."""


@dataclass(frozen=True)
class FeatureJudge:
    """Features of the real split [N, D] with what can be computed from them once.

    Where features of training samples [K, D] are given, measurements say whether the generator copies them.
    `more`, if given, finds further metrics in the features of generated samples.
    """

    features: Features
    protocol: dict[str, Any]
    real: Tensor
    real_kernel: KernelSums
    real_moments: Moments
    real_radii: Tensor  # of the first `neighbour_samples`
    train: Tensor | None = None
    real_to_train: Tensor | None = None  # distances to the nearest of `train`
    kernel: Kernel = polynomial_kernel
    metrics: tuple[Metric, ...] = METRICS
    more: Callable[[Tensor], dict[str, float]] | None = None

    @property
    def split(self) -> JudgedSplit:
        """The split whose real samples it compares with."""
        return self.protocol["split"]

    @property
    def num(self) -> int:
        """How many generated samples it takes."""
        return self.protocol["num_generated"]

    @property
    def seed(self) -> int:
        """The seed of the inputs of its generated samples."""
        return self.protocol["seed"]

    def sized(self, num: int) -> "FeatureJudge":
        """Return this judge for another number of generated samples; its scores compare by KID alone."""
        size = neighbour_samples(len(self.real), num)
        changes = {"num_generated": num, "neighbour_samples": size}
        radii = self.real_radii
        if size != len(radii):
            radii = _radii(self.real[:size], self.protocol["neighbours"])
        return dataclasses.replace(self, protocol=self.protocol | changes, real_radii=radii)

    def measure(self, outputs: Iterable[Tensor]) -> Measured:
        """Measure generated samples `[N, …]` in batches, as many as the protocol says.

        Raises NotFiniteError where a sample is not finite, UserError where the number is not the protocol's.
        """
        return self.measure_features(extracted(self.features, outputs))

    def measure_features(self, fake: Tensor) -> Measured:
        """Measure features [N, D] of generated samples, as many as the protocol says; else raises UserError."""
        if len(fake) != self.num:
            problem = f"{len(fake)} generated samples were given; the protocol says {self.num}"
            raise UserError("judge", problem, "Scores of different numbers are not comparable")
        found = discrepancy(self.real, fake, self.real_kernel, self.kernel)
        values = {
            self.decides: found.estimate.value,
            "fid": fid(self.real_moments, moments(fake)),
            **self._by_neighbours(fake),
            "copying": self._copying(fake),
            "c2st": self._told_apart(fake),
            **(self.more(fake) if self.more is not None else {}),
        }
        known = {metric.name: values[metric.name] for metric in self.metrics}
        folds = fold_losses(found.units, self.protocol["folds"]) if "folds" in self.protocol else ()
        return Measured(found.estimate.value, found.estimate.standard_error, known, found.units, len(fake), folds)

    @property
    def decides(self) -> str:
        """The name of the metric that decides."""
        return next(metric.name for metric in self.metrics if metric.decides)

    def _by_neighbours(self, fake: Tensor) -> dict[str, float]:
        """Return precision, recall, density and coverage: means over groups of as many generated as real samples.

        Of more generated samples some would lie in the wide balls of few real ones by chance alone, and coverage be 1.
        """
        size = self.protocol["neighbour_samples"]
        groups = [group for group in fake[:NEIGHBOUR_SAMPLES].split(size) if len(group) == size]
        near = self.real[:size]
        found = [prdc(near, group, self.protocol["neighbours"], self.real_radii) for group in groups]
        names = [field.name for field in dataclasses.fields(PRDC)]
        return {name: statistics.fmean(getattr(one, name) for one in found) for name in names}

    def _copying(self, fake: Tensor) -> float:
        if self.train is None or self.real_to_train is None:
            return math.nan
        return mann_whitney(nearest_distances(fake[:COPYING_SAMPLES], self.train), self.real_to_train)

    def _told_apart(self, fake: Tensor) -> float:
        """Return how well a classifier of training samples and half of the generated ones does on the other half."""
        if self.train is None or not len(self.train) or all(metric.name != "c2st" for metric in self.metrics):
            return math.nan
        half = len(fake) // 2
        return told_apart(self.train, fake[:half], self.real, fake[half:])


def make_feature_judge(
    features: Features,
    real_batches: Iterable[Tensor],
    *,
    data_digest: str,
    split: str,
    num_generated: int,
    seed: int = 0,
    neighbours: int = NEIGHBOURS,
    train_batches: Iterable[Tensor] | None = None,
    kernel: Kernel = polynomial_kernel,
    metrics: tuple[Metric, ...] = METRICS,
    more: Callable[[Tensor], dict[str, float]] | None = None,
    num_folds: int | None = None,
) -> FeatureJudge:
    """Extract the real split's features once and return the judge by them; raises UserError if they are too few.

    With batches of training samples (a few thousand are plenty, none of them among the real ones), it also looks for
    copying, and whether a classifier tells generated samples from real ones. With `num_folds` the loss is also found
    by so many parts of the real samples, so that a choice by them can be cross-fitted; the protocol says so.
    """
    real = extracted(features, real_batches)
    if min(len(real), num_generated) <= neighbours:
        raise UserError(
            f"judging by {neighbours} neighbours",
            f"{len(real)} real and {num_generated} generated samples; give at least {neighbours + 1} of each",
            f"Use a larger {split} split, or a larger evaluation.num_samples",
        )
    train = None if train_batches is None else extracted(features, train_batches)
    size = neighbour_samples(len(real), num_generated)
    return FeatureJudge(
        features=features,
        protocol={
            **features.protocol,
            "data_digest": data_digest,
            "split": split,
            "num_real": len(real),
            "num_generated": num_generated,
            "neighbours": neighbours,
            "neighbour_samples": size,
            "seed": seed,
            **({} if num_folds is None else {"folds": num_folds}),
        },
        real=real,
        real_kernel=kernel_within(real, kernel),
        real_moments=moments(real),
        real_radii=_radii(real[:size], neighbours),
        train=train,
        real_to_train=None if train is None else nearest_distances(real[:COPYING_SAMPLES], train),
        kernel=kernel,
        metrics=metrics,
        more=more,
    )


def neighbour_samples(num_real: int, num_generated: int) -> int:
    """Return how many of each side precision, recall, density and coverage are measured on, the same of both."""
    return min(num_real, num_generated, NEIGHBOUR_SAMPLES)


def _radii(real: Tensor, neighbours: int) -> Tensor:
    return squared_radii(real - real.mean(0), neighbours)


@torch.no_grad()
def extracted(features: Features, batches: Iterable[Tensor]) -> Tensor:
    """Return the features [N, D] of samples in batches; raises NotFiniteError where one is not finite."""
    parts = []
    for samples in batches:
        if not torch.isfinite(samples).all():
            bad = int((~torch.isfinite(samples.flatten(1))).any(1).sum())
            raise NotFiniteError(f"{bad} of {len(samples)} generated samples hold NaN or infinity.")
        parts.append(features.extract(samples))
    return torch.cat(parts) if parts else torch.empty(0, features.dimension)


def plain_features(name: str, dimension: int, shift: Tensor, scale: Tensor) -> Features:
    """Return features that are the samples `[N, D]` themselves, standardised by a shift and a scale [D]."""
    return Features(name, "none", dimension, partial(_standardised, shift=shift, scale=scale))


def _standardised(samples: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return (samples.detach().float().cpu() - shift) / scale
