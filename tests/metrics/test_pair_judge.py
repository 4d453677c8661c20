"""The judge by pairs: what decides, the guards, sizes and numbers that are not finite, and errors by image."""

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from equipoise.errors import UserError
from equipoise.metrics.distortion import psnr, squared_error, ssim
from equipoise.metrics.feature_judge import NotFiniteError
from equipoise.metrics.features.load import Features
from equipoise.metrics.kid import kid
from equipoise.metrics.pair_judge import (
    CONSISTENT,
    EXACT,
    PATCH,
    PairJudge,
    enlarged_by,
    make_pair_judge,
    patches_of,
)
from equipoise.metrics.units import difference
from equipoise.nets.super_resolution import enlarge, reduce
from equipoise.storage.records import deciding

SIZES = ((64, 96), (96, 64), (64, 64), (96, 96))


def pooled(images: Tensor) -> Tensor:
    """Return what the patches' quarters and their spread are, [N, 15]."""
    means = torch.nn.functional.avg_pool2d(images, PATCH // 2).flatten(1)
    return 2 * torch.cat([means, images.flatten(2).std(2)], 1)


FEATURES = Features("pooled", "p" * 64, 15, pooled)


def photos(seed: int, sizes: tuple[tuple[int, int], ...] = SIZES) -> list[np.ndarray]:
    """Return photographs uint8 [3, H, W]: a colour each, blocks, and grain."""
    draw = np.random.default_rng(seed)
    found = []
    for height, width in sizes:
        blocks = np.kron(draw.normal(0, 25, (3, height // 16, width // 16)), np.ones((1, 16, 16)))
        image = 128 + draw.normal(0, 40, (3, 1, 1)) + blocks + draw.normal(0, 10, (3, height, width))
        found.append(np.clip(image, 0, 255).astype(np.uint8))
    return found


def halved(images: list[np.ndarray]) -> list[np.ndarray]:
    small = [reduce(torch.from_numpy(image)[None].float(), 2)[0] for image in images]
    return [image.round().clamp(0, 255).to(torch.uint8).numpy() for image in small]


def judge_of(images: list[np.ndarray], *, is_faithful: bool) -> PairJudge:
    protocol: dict[str, Any] = {"split": "validation", "data_digest": "d"}
    return make_pair_judge(images, halved(images), FEATURES, scale=2, is_faithful=is_faithful, protocol=protocol)


def floats(images: list[np.ndarray]) -> list[Tensor]:
    return [torch.from_numpy(image) / 127.5 - 1 for image in images]


def bicubic(images: list[np.ndarray]) -> list[Tensor]:
    return [enlarged_by("bicubic", image, 2) for image in floats(halved(images))]


@pytest.mark.parametrize("is_faithful", [True, False])
def test_every_value_is_that_of_its_own_function(is_faithful: bool):
    images = photos(1)
    judge, outputs = judge_of(images, is_faithful=is_faithful), bicubic(images)
    found = judge.measure([outputs[:1], outputs[1:]])
    large = [((image + 1) * 127.5).round().clamp(0, 255)[None] for image in outputs]
    originals = [torch.from_numpy(image).float()[None] for image in images]
    errors = [squared_error(a, b, 2).item() for a, b in zip(large, originals, strict=True)]
    assert found.values["mse"] == pytest.approx(np.mean(errors), rel=1e-9)
    assert found.values["psnr"] == pytest.approx(np.mean([psnr(error) for error in errors]), rel=1e-9)
    similar = [ssim(a, b, 2).item() for a, b in zip(large, originals, strict=True)]
    assert found.values["ssim"] == pytest.approx(np.mean(similar), rel=1e-9)
    again = [reduce(image, 2).round().clamp(0, 255) for image in large]
    small = [torch.from_numpy(image).float()[None] for image in halved(images)]
    kept = [psnr((a - b).square().mean().item()) for a, b in zip(again, small, strict=True)]
    assert found.values["consistency"] == pytest.approx(np.mean(kept), rel=1e-9)
    patches = [torch.cat([patches_of(image[0]) for image in of]) / 127.5 - 1 for of in (originals, large)]
    expected = kid(pooled(patches[0]), pooled(patches[1])).value
    assert found.values["patch_kid"] == pytest.approx(expected, rel=1e-6)
    assert found.loss == found.values[deciding(judge.metrics).name]
    assert deciding(judge.metrics).name == ("mse" if is_faithful else "patch_kid")
    assert found.num == len(found.units[0]) == len(SIZES)


def test_error_of_a_faithful_run_is_that_of_a_mean_over_images():
    images = photos(1)
    judge = judge_of(images, is_faithful=True)
    before, after = bicubic(images), [image.clamp(-0.9, 0.9) for image in bicubic(images)]
    measured = [judge.measure([outputs]) for outputs in (before, after)]
    changes = measured[1].units[0] - measured[0].units[0]
    found = difference(*measured)
    assert found.value == pytest.approx(changes.mean().item(), rel=1e-9)
    assert found.standard_error == pytest.approx((changes.var() / len(SIZES)).sqrt().item(), rel=1e-9)


def test_error_of_patches_adds_up_each_images_share_of_the_kernel_distance_by_hand():
    """The influence of an image is the sum of those of its patches on both sides: a larger image moves more."""
    images = photos(1)
    outputs = [image.clamp(-0.5, 0.5) for image in floats(images)]
    found = judge_of(images, is_faithful=False).measure([outputs])
    parts = [
        [pooled(patches_of((image + 1) * 127.5) / 127.5 - 1).double() for image in of]
        for of in (floats(images), outputs)
    ]
    x, y = (torch.cat(part) for part in parts)
    num, shares = len(x), []
    k = lambda a, b: (a @ b.T / a.shape[1] + 1) ** 3  # noqa: E731
    within = [(k(z, z).sum(1) - k(z, z).diagonal()) / (num - 1) for z in (x, y)]
    influence = 2 * (within[0] - k(x, y).mean(1)) + 2 * (within[1] - k(x, y).mean(0))
    begin = 0
    for part in parts[0]:
        shares.append((influence[begin : begin + len(part)] - influence.mean()).sum().item() / num)
        begin += len(part)
    expected = math.sqrt(len(images) ** 2 * np.var(shares, ddof=1) / len(images))
    assert found.error == pytest.approx(expected, rel=0.01)  # outputs are rounded to 8 bits


def test_the_originals_themselves_are_exact_and_consistent():
    images = photos(2)
    found = judge_of(images, is_faithful=True).measure([floats(images)])
    assert (found.loss, found.values["psnr"], found.values["ssim"]) == (0.0, EXACT, pytest.approx(1.0))
    assert found.values["consistency"] == EXACT


def test_guards_are_bicubics_own_error_and_forty_decibels_of_consistency():
    images = photos(1)
    by_name = {metric.name: metric for metric in judge_of(images, is_faithful=False).metrics}
    found = judge_of(images, is_faithful=False).measure([bicubic(images)])
    assert by_name["psnr"].guard == pytest.approx(found.values["psnr"], abs=1e-9)
    assert by_name["consistency"].guard == CONSISTENT
    assert by_name["psnr"].is_kept_by(found.values["psnr"])
    worse = judge_of(images, is_faithful=False).measure([[image + 0.05 for image in bicubic(images)]])
    assert not by_name["psnr"].is_kept_by(worse.values["psnr"])
    assert not by_name["consistency"].is_kept_by(worse.values["consistency"])
    assert [metric.name for metric in judge_of(images, is_faithful=True).metrics if metric.guard] == ["consistency"]


def test_an_output_of_another_size_is_refused_and_one_that_is_not_finite_is_an_error_of_its_own():
    images = photos(1)
    judge, outputs = judge_of(images, is_faithful=True), bicubic(images)
    with pytest.raises(UserError, match=r"96.*64"):
        judge.measure([[outputs[0], outputs[0], *outputs[2:]]])
    outputs[2][0, 3, 3] = math.nan
    with pytest.raises(NotFiniteError, match="2"):
        judge.measure([outputs])


@pytest.mark.parametrize("num", [3, 5])
def test_another_number_of_outputs_than_originals_is_refused(num: int):
    images = photos(1)
    outputs = [*bicubic(images), bicubic(images)[0]][:num]
    for is_faithful in (True, False):
        with pytest.raises(UserError, match=str(min(num, len(SIZES)))):
            judge_of(images, is_faithful=is_faithful).measure([outputs])


def test_protocol_says_what_decides_and_survives_json():
    judges = [judge_of(photos(1), is_faithful=is_faithful) for is_faithful in (True, False)]
    assert [judge.protocol["decides"] for judge in judges] == ["mse", "patch_kid"]
    assert [judge.num for judge in judges] == [len(SIZES)] * 2
    for judge in judges:
        assert json.loads(json.dumps(judge.protocol)) == judge.protocol
        assert judge.sized(1) is judge


def test_enlarging_keeps_the_range_and_repeats_pixels_where_it_must():
    small = torch.tensor([[-1.0, 1.0], [1.0, -1.0]]).expand(3, 2, 2)
    assert enlarged_by("nearest", small, 2).tolist() == small.repeat_interleave(2, 1).repeat_interleave(2, 2).tolist()
    found = enlarged_by("bicubic", small, 4)
    assert found.abs().max() == 1.0
    assert enlarge(small[None], (8, 8)).abs().max() > 1.0, "it overshoots by itself"


def test_patches_tile_an_image_and_leave_out_what_is_too_small():
    image = torch.arange(3 * 70 * 40).view(3, 70, 40).float()
    assert torch.equal(patches_of(image), torch.stack([image[:, :32, :32], image[:, 32:64, :32]]))


@pytest.mark.slow
@pytest.mark.parametrize(
    "sizes", [((64, 64),) * 12, (*((32, 64),) * 8, *((160, 160),) * 4)], ids=["equal sizes", "unequal sizes"]
)
def test_an_error_by_image_covers_the_spread_of_patches_that_share_an_image(sizes: tuple[tuple[int, int], ...]):
    """Each image has a colour of its own, and a generator's fault is one for all patches of an image."""
    differences, claimed, losses, errors = [], [], [], []
    for seed in range(120):
        images = photos(seed, sizes)
        judge = judge_of(images, is_faithful=False)
        fault = torch.randn(len(sizes), 3, 1, 1, generator=torch.Generator().manual_seed(seed)) / 10
        outputs = [
            [(image + shift + weight * own).clamp(-1, 1) for image, own in zip(floats(images), fault, strict=True)]
            for shift, weight in ((0.1, 1.0), (0.03, 2.0))
        ]
        one, other = (judge.measure([each]) for each in outputs)
        found = difference(one, other)
        differences.append(found.value)
        claimed.append(found.standard_error)
        losses.append(one.loss)
        errors.append(one.error)
    assert 0.95 < np.sqrt(np.mean(np.square(errors))) / np.std(losses) < 1.5
    assert 0.95 < np.sqrt(np.mean(np.square(claimed))) / np.std(differences) < 1.8
