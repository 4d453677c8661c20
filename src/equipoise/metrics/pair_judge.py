"""The judge by pairs: each large image against its original, and patches of all against real patches."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from msgspec.structs import replace
from torch import Tensor, nn

from equipoise.data.pool import to_float, to_uint8
from equipoise.data.splits import JudgedSplit
from equipoise.errors import UserError
from equipoise.metrics.distortion import psnr, squared_error, ssim
from equipoise.metrics.feature_judge import NotFiniteError, extracted
from equipoise.metrics.features.load import Features
from equipoise.metrics.kid import Discrepancy, KernelSums, discrepancy, kernel_within
from equipoise.metrics.units import Measured, by_cluster, mean_measured, standard_error
from equipoise.nets.super_resolution import enlarge, reduce
from equipoise.storage.records import Metric

PATCH = 32  # pixels a side of the patches that are compared
CONSISTENT = 40.0  # dB that reducing an output must keep of its input
EXACT = 100.0  # dB that stand for no error at all

MSE = Metric(name="mse", label="MSE-Y", meaning="mean squared error of luma, of 255²")
PSNR = Metric(name="psnr", label="PSNR-Y", unit="dB", meaning="10 log₁₀(255²/MSE), mean over images", better="higher")
SSIM = Metric(name="ssim", label="SSIM-Y", meaning="structural similarity, mean over images", better="higher")
PATCH_KID = Metric(name="patch_kid", label="patch KID", meaning="kernel distance of patches to real ones", signed=True)
CONSISTENCY = Metric(
    name="consistency",
    unit="dB",
    meaning="PSNR of the reduced output to the input",
    better="higher",
    guard=CONSISTENT,
)


@dataclass(frozen=True, eq=False)
class PairJudge:
    """Judges large images against their originals one by one, and their patches against real patches."""

    originals: list[Tensor]  # [3, H, W] in 0..255
    small: list[Tensor]
    features: Features
    real: Tensor  # features of the real patches [M, D]
    real_kernel: KernelSums
    clusters: Tensor  # which image each patch is of [M]
    scale: int
    protocol: dict[str, Any]
    metrics: tuple[Metric, ...]

    @property
    def split(self) -> JudgedSplit:
        """The split whose photographs it compares with."""
        return self.protocol["split"]

    @property
    def num(self) -> int:
        """How many images it takes: all of its split."""
        return len(self.originals)

    @property
    def seed(self) -> int:
        """Nothing is drawn."""
        return 0

    def sized(self, num: int) -> "PairJudge":
        """Return itself: each output stands beside one original."""
        return self

    def measure(self, outputs: Iterable[list[Tensor]]) -> Measured:
        """Measure lists of large images `[3, H, W]` in [-1, 1], as many as there are originals, in their order.

        Raises NotFiniteError where one is not finite, UserError where one has another size than its original, or
        their number is another.
        """
        scale = self.scale
        errors, similar, kept, patches = [], [], [], []
        for place, output in enumerate(image for images in outputs for image in images):
            if place == self.num:
                raise _other_number(f"more than {self.num}", self.num)
            original = self.originals[place]
            if output.shape != original.shape:
                problem = f"an output of {list(output.shape)} for an original of {list(original.shape)}"
                raise UserError("super-resolution", problem)
            if not output.isfinite().all():
                raise NotFiniteError(f"output {place} holds NaN or infinity.")
            image = to_uint8(output).float()[None]
            errors.append(squared_error(image, original[None], scale))
            similar.append(ssim(image, original[None], scale))
            kept.append(_consistency(image, self.small[place][None], scale))
            patches.append(patches_of(image[0]))
        if len(errors) < self.num:
            raise _other_number(str(len(errors)), self.num)
        error = torch.cat(errors)
        found = discrepancy(self.real, extracted(self.features, _floats(patches)), self.real_kernel)
        values = {
            "mse": error.mean().item(),
            "psnr": float(np.mean([min(EXACT, psnr(value)) for value in error.tolist()])),
            "ssim": torch.cat(similar).mean().item(),
            "patch_kid": found.estimate.value,
            "consistency": float(np.mean(kept)),
        }
        values = {metric.name: values[metric.name] for metric in self.metrics}
        if self.protocol["decides"] == "mse":
            return mean_measured(error, values)
        return _by_image(found, self.real_kernel, self.clusters, values, len(error))


def _other_number(given: str, num: int) -> UserError:
    return UserError("super-resolution", f"{given} outputs for {num} originals; give one for each")


def _by_image(
    found: Discrepancy, real_kernel: KernelSums, clusters: Tensor, values: dict[str, float], num: int
) -> Measured:
    """Return the patches' KID with one influence value an image: its patches stand on both sides of the comparison."""
    of_outputs, of_originals = found.units
    of_originals = of_originals + 2 * real_kernel.row_means
    units = _weighted(of_outputs, clusters) + _weighted(of_originals, clusters)
    return Measured(found.estimate.value, standard_error(units), values, (units,), num)


def _weighted(values: Tensor, clusters: Tensor) -> Tensor:
    """Return the influence values [K] of images on a mean over patches [n]: a larger image has more of them."""
    values = values.double() - values.double().mean()
    counts = clusters.bincount()
    counts = counts[counts > 0].double()
    return by_cluster(values, clusters) * counts / counts.mean()


def make_pair_judge(
    photos: list[np.ndarray],
    small: list[np.ndarray],
    features: Features,
    *,
    scale: int,
    is_faithful: bool,
    protocol: dict[str, Any],
) -> PairJudge:
    """Return the judge of some photographs; its guards are bicubic's PSNR, and 40 dB of consistency."""
    originals = [torch.from_numpy(image).float() for image in photos]
    patches = [patches_of(image) for image in originals]
    real = extracted(features, _floats(patches))
    clusters = torch.cat([torch.full((len(part),), place) for place, part in enumerate(patches)])
    bicubic = [enlarged_by("bicubic", to_float(torch.from_numpy(image)), scale) for image in small]
    rounded = [to_uint8(image).float()[None] for image in bicubic]
    errors = [squared_error(image, target[None], scale) for image, target in zip(rounded, originals, strict=True)]
    floor = float(np.mean([psnr(value.item()) for value in errors]))
    return PairJudge(
        originals=originals,
        small=[torch.from_numpy(image).float() for image in small],
        features=features,
        real=real,
        real_kernel=kernel_within(real),
        clusters=clusters,
        scale=scale,
        protocol={
            **features.protocol,
            **protocol,
            "num_images": len(originals),
            "scale": scale,
            "decides": "mse" if is_faithful else "patch_kid",
            "seed": 0,
        },
        metrics=metrics_of(floor, is_faithful=is_faithful),
    )


def metrics_of(bicubic: float, *, is_faithful: bool) -> tuple[Metric, ...]:
    """Return what is measured: the error decides a faithful run, patches one with an adversarial term, under guards."""
    if is_faithful:
        return (replace(MSE, decides=True), PSNR, SSIM, PATCH_KID, CONSISTENCY)
    guarded = replace(PSNR, guard=bicubic)
    return (replace(PATCH_KID, decides=True), guarded, SSIM, MSE, CONSISTENCY)


def _consistency(image: Tensor, small: Tensor, scale: int) -> float:
    """Return the PSNR in dB of a reduced output [1, 3, H, W] in 0..255 to its input."""
    again = reduce(image, scale).round().clamp(0, 255)
    return min(EXACT, psnr((again - small).square().mean().item()))


def patches_of(image: Tensor) -> Tensor:
    """Return the patches [n, 3, 32, 32] that tile an image [3, H, W]."""
    tiles = image.unfold(1, PATCH, PATCH).unfold(2, PATCH, PATCH)
    return tiles.permute(1, 2, 0, 3, 4).reshape(-1, 3, PATCH, PATCH)


def _floats(patches: list[Tensor]) -> Iterator[Tensor]:
    """Yield patches in 0..255 as floats in [-1, 1], image by image."""
    for part in patches:
        yield part / 127.5 - 1


def enlarged_by(mode: str, small: Tensor, scale: int) -> Tensor:
    """Return an image [3, h, w] in [-1, 1] enlarged by a classical method."""
    size = (small.shape[-2] * scale, small.shape[-1] * scale)
    if mode == "nearest":
        return nn.functional.interpolate(small[None], size=size, mode="nearest")[0]
    return enlarge(small[None], size)[0].clamp(-1, 1)
