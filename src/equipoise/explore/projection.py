"""Projection: the latents whose picture is nearest to a given one, found by descent from several beginnings."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from equipoise.data.pool import to_uint8
from equipoise.explore.space import Space, images_of
from equipoise.metrics.distortion import psnr
from equipoise.randomness import Randomness

NUM_CANDIDATES = 1_000  # random pictures among which the beginnings are looked for
NUM_STARTS = 4  # of which each picture's descent begins
STEPS = 300
RATE = 0.1  # of Adam (arXiv:1412.6980), which falls to 0 by a cosine
COARSEST = 4  # pixels a side of the smallest scale that is compared
SHELL = 0.01  # weight of (‖z‖² / Z − 1)², against squared errors of pixels in [-1, 1]
TOGETHER = 64  # descents at once

Progress = Callable[[float], None]


@dataclass(frozen=True, eq=False)
class Projection:
    """The latents [N, Z] found for N pictures, with labels if the generator is told any, and what they show.

    `rmse` [N] is the error in steps of 0..255, `nearest` [N] that of the nearest of the random pictures [N, C, H, W].
    """

    latents: Tensor
    labels: Tensor | None
    images: Tensor
    rmse: Tensor
    random: Tensor
    nearest: Tensor

    @property
    def psnr(self) -> list[float]:
        """The error as PSNR in dB, of all channels."""
        return [psnr(error**2) for error in self.rmse.tolist()]


def projected(
    space: Space,
    pictures: Tensor,
    randomness: Randomness,
    *,
    candidates: int = NUM_CANDIDATES,
    starts: int = NUM_STARTS,
    steps: int | None = None,
    progress: Progress = lambda share: None,
) -> Projection:
    """Find latents for pictures [N, C, H, W] in [-1, 1] (arXiv:1609.03552, section 3.1).

    Of many random pictures the nearest are the beginnings; each keeps its label. Adam then lowers the squared error of
    pixels at several scales, with latents held near the length that normal ones have; the best of the descents counts.
    """
    steps = STEPS if steps is None else steps
    drawn = space.latents(randomness, candidates, "candidates")
    labels = space.told(randomness, candidates)
    coarse, random, nearest = _compared(space, pictures, drawn, labels)
    chosen = coarse.topk(starts, largest=False).indices.flatten()
    targets = pictures.repeat_interleave(starts, 0)
    told = labels if labels is None else labels[chosen]
    latents = _descended(space, targets, drawn[chosen], told, steps, progress)
    images = images_of(space, latents, told)
    errors = rmse(images, targets).view(-1, starts)
    best = errors.argmin(1) + starts * torch.arange(len(pictures))
    return Projection(
        latents=latents[best],
        labels=told if told is None else told[best],
        images=images[best],
        rmse=errors.flatten()[best],
        random=random,
        nearest=nearest,
    )


def _compared(space: Space, pictures: Tensor, latents: Tensor, labels: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return the errors of random pictures at several scales [N, M], and the nearest with their errors in 0..255.

    No more of them than are drawn at once are held: a thousand large ones would fill the memory.
    """
    errors: list[Tensor] = []
    random = torch.zeros_like(pictures)
    nearest = torch.full((len(pictures),), math.inf)
    for begin in range(0, len(latents), space.batch):
        part = slice(begin, begin + space.batch)
        shown = images_of(space, latents[part], labels if labels is None else labels[part])
        errors.append(torch.stack([multi_scale(picture[None], shown) for picture in pictures]))
        by_rmse = torch.stack([rmse(picture[None], shown) for picture in pictures])
        found, places = by_rmse.min(1)
        is_nearer = found < nearest
        random[is_nearer] = shown[places[is_nearer]]
        nearest[is_nearer] = found[is_nearer]
    return torch.cat(errors, 1), random, nearest


def multi_scale(images: Tensor, others: Tensor) -> Tensor:
    """Return squared errors [N] of images in [-1, 1], averaged over halvings down to 4 pixels a side.

    The coarse scales say where dark and light are to be while the fine ones disagree everywhere.
    """
    errors = []
    while True:
        errors.append((images - others).square().flatten(1).mean(1))
        if min(images.shape[2:]) < 2 * COARSEST:
            return torch.stack(errors).mean(0)
        images = F.avg_pool2d(images, 2, ceil_mode=True, count_include_pad=False)
        others = F.avg_pool2d(others, 2, ceil_mode=True, count_include_pad=False)


def rmse(images: Tensor, others: Tensor) -> Tensor:
    """Return the root of the mean squared error [N] of images in [-1, 1], as files hold them: in steps of 0..255."""
    difference = to_uint8(images).float() - to_uint8(others).float()
    return difference.square().flatten(1).mean(1).sqrt()


def _descended(
    space: Space, targets: Tensor, begins: Tensor, labels: Tensor | None, steps: int, progress: Progress
) -> Tensor:
    """Return latents [M, Z] from which Adam has gone on from their beginnings, some of them at a time."""
    found: list[Tensor] = []
    num_parts = math.ceil(len(begins) / TOGETHER)
    for place in range(num_parts):
        part = slice(place * TOGETHER, (place + 1) * TOGETHER)
        told = labels if labels is None else labels[part].to(space.device)
        goal = targets[part].to(space.device)
        latents = begins[part].clone().to(space.device).requires_grad_(True)
        optimizer = torch.optim.Adam([latents], lr=RATE)
        for step in range(steps):
            progress((place + step / steps) / num_parts)
            optimizer.param_groups[0]["lr"] = RATE * 0.5 * (1 + math.cos(math.pi * step / steps))
            error = multi_scale(space.generator(latents, told).float(), goal)
            off_shell = (latents.square().mean(1) - 1).square()
            optimizer.zero_grad()
            (error + SHELL * off_shell).sum().backward()  # the descents do not know of each other
            optimizer.step()
        found.append(latents.detach().cpu())
    return torch.cat(found)
