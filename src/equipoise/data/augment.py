"""Differentiable augmentation of what the discriminator sees, real and generated alike (arXiv:2006.10738).

Each kind is applied to each image with probability p (arXiv:2006.06676), and mildly enough that the generator
cannot gain by imitating it. Gradients of any order flow to the images.
"""

import math
from collections.abc import Sequence
from typing import Any, assert_never

import torch
import torch.nn.functional as F
from torch import Tensor

from equipoise.data.channels import OPACITY
from equipoise.recipe import AugmentationName

MAX_ROTATION = math.radians(30.0)
MAX_SCALE = 2.0**0.4  # up and down
MAX_TRANSLATION = 1 / 8  # of a side (arXiv:2006.10738, Appendix B)
MIN_CROP = 0.75  # of a side
CUTOUT = 0.5  # of a side (arXiv:2006.10738, Appendix B)


def augment(images: Tensor, kinds: Sequence[AugmentationName], strength: float, generator: torch.Generator) -> Tensor:
    """Return images [N, C, H, W] in [-1, 1], each kind applied to each with probability `strength`.

    Flip, translation, rotation, scale and crop become one bilinear warp; color may leave [-1, 1], as nothing
    is clamped. Parameters are drawn on the CPU from `generator`; strength 0 returns the input itself.
    """
    if strength <= 0 or not kinds or not len(images):
        return images
    if images.dtype != torch.float64:
        images = images.float()
    num, _, height, width = images.shape
    warps = torch.eye(3, dtype=torch.float64).repeat(num, 1, 1)
    warped = torch.zeros(num, dtype=torch.bool)
    for kind in kinds:
        chosen = torch.rand(num, generator=generator) < strength
        match kind:
            case "color":
                images = _coloured(images, chosen, generator)
                continue
            case "cutout":
                images = images * _cutout(images, chosen, generator)
                continue
            case "flip":
                chosen = chosen & (torch.rand(num, generator=generator) < 0.5)  # half of the chosen ones
                warp = _flip(num)
            case "translation":
                warp = _translation(num, height, width, generator)
            case "rotation":
                warp = _rotation(num, height, width, generator)
            case "scale":
                warp = _scale(num, generator)
            case "crop":
                warp = _crop(num, generator)
            case _:
                assert_never(kind)
        warps = torch.where(chosen[:, None, None], warps @ warp, warps)
        warped = warped | chosen
    if not warped.any():
        return images
    return _warp(images, warps, warped)


def random_flip(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return images [N, C, H, W] of any type, each mirrored left to right with probability one half."""
    mirrored = torch.rand(len(images), generator=generator) < 0.5
    return torch.where(mirrored.to(images.device)[:, None, None, None], images.flip(-1), images)


def _uniform(num: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    return torch.rand(num, dtype=torch.float64, generator=generator) * (high - low) + low


# Each warp maps places of the output to places of the input, in coordinates where the image spans [-1, 1]².


def _diagonal(x: Tensor, y: Tensor) -> Tensor:
    return torch.diag_embed(torch.stack([x, y, torch.ones_like(x)], dim=1))


def _flip(num: int) -> Tensor:
    ones = torch.ones(num, dtype=torch.float64)
    return _diagonal(-ones, ones)


def _translation(num: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    warps = torch.eye(3, dtype=torch.float64).repeat(num, 1, 1)
    for axis, side in ((0, width), (1, height)):
        reach = max(1, round(side * MAX_TRANSLATION))
        # Whole pixels, as a fraction of one would blur.
        warps[:, axis, 2] = (_uniform(num, 0, 2 * reach + 1, generator).floor() - reach) * 2 / side
    return warps


def _rotation(num: int, height: int, width: int, generator: torch.Generator) -> Tensor:
    angle = _uniform(num, -MAX_ROTATION, MAX_ROTATION, generator)
    warps = torch.eye(3, dtype=torch.float64).repeat(num, 1, 1)
    warps[:, 0, 0] = warps[:, 1, 1] = angle.cos()
    warps[:, 0, 1] = -angle.sin() * height / width
    warps[:, 1, 0] = angle.sin() * width / height
    return warps


def _scale(num: int, generator: torch.Generator) -> Tensor:
    reach = math.log(MAX_SCALE)
    zoom = _uniform(num, -reach, reach, generator).exp()
    return _diagonal(zoom, zoom)


def _crop(num: int, generator: torch.Generator) -> Tensor:
    side = _uniform(num, MIN_CROP, 1.0, generator)
    warps = _diagonal(side, side)
    for axis in (0, 1):
        warps[:, axis, 2] = _uniform(num, -1.0, 1.0, generator) * (1 - side)
    return warps


def _color(images: Tensor, chosen: Tensor, generator: torch.Generator) -> Tensor:
    """Change brightness by ±0.5, saturation by 0..2 times, contrast by 0.5..1.5 times (arXiv:2006.10738)."""
    num = len(images)
    brightness = _uniform(num, -0.5, 0.5, generator) * chosen
    saturation = torch.where(chosen, _uniform(num, 0.0, 2.0, generator), 1.0)
    contrast = torch.where(chosen, _uniform(num, 0.5, 1.5, generator), 1.0)
    factors = torch.stack([brightness, saturation, contrast]).to(images.device, images.dtype)
    brightness, saturation, contrast = factors[:, :, None, None, None]
    colored = images + brightness
    if images.shape[1] == 3:  # of measured channels a mean says nothing
        grey = colored.mean(dim=1, keepdim=True)
        colored = grey + (colored - grey) * saturation
    mean = colored.mean(dim=(1, 2, 3), keepdim=True)
    colored = mean + (colored - mean) * contrast
    return torch.where(chosen.to(images.device)[:, None, None, None], colored, images)


def _coloured(images: Tensor, chosen: Tensor, generator: torch.Generator) -> Tensor:
    """Change the colours alone where the last channel is their opacity, by which they are premultiplied.

    The plain colours are changed, so that what cannot be seen stays without colour.
    """
    if images.shape[1] != OPACITY:
        return _color(images, chosen, generator)
    opacity = (images[:, 3:] + 1) / 2
    colours = images[:, :3] + (1 - opacity)  # of what is not seen at all they are grey: 0
    changed = _color(colours, chosen, generator) - colours
    return torch.cat([images[:, :3] + opacity * changed, images[:, 3:]], dim=1)


def _cutout(images: Tensor, chosen: Tensor, generator: torch.Generator) -> Tensor:
    """Return a mask [N, 1, H, W]: 0 in a square of half a side around a random pixel, 1 elsewhere."""
    num, _, height, width = images.shape
    inside = chosen[:, None, None]
    for side, shape in ((height, (1, -1, 1)), (width, (1, 1, -1))):
        edge = int(side * CUTOUT + 0.5)
        start = (_uniform(num, 0, side, generator).floor() - edge // 2)[:, None, None]
        places = torch.arange(side).view(shape)
        inside = inside & (places >= start) & (places < start + edge)
    return (~inside)[:, None].to(images.device, images.dtype)


def _warp(images: Tensor, warps: Tensor, warped: Tensor) -> Tensor:
    theta = warps[:, :2].to(images.device, images.dtype)
    grid = F.affine_grid(theta, list(images.shape), align_corners=False)
    result: Any = _Warp.apply(images, grid)
    return torch.where(warped.to(images.device)[:, None, None, None], result, images)


class _Warp(torch.autograd.Function):
    """Bilinear sampling as the linear map A(grid) of the images.

    A gradient penalty through the augmentation needs its second derivative, which grid_sample has only in the
    newest releases of torch; here it is exact in all: the derivative of A is its transpose, and that of the
    transpose is A. Past the border the image is mirrored, as a border filled with a constant would look like
    part of the picture.
    """

    @staticmethod
    def forward(ctx: Any, images: Tensor, grid: Tensor) -> Tensor:
        ctx.save_for_backward(grid)
        ctx.shape = images.shape
        return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (grid,) = ctx.saved_tensors
        return _WarpTransposed.apply(gradients[0], grid, ctx.shape), None


class _WarpTransposed(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gradient: Tensor, grid: Tensor, shape: torch.Size) -> Tensor:
        ctx.save_for_backward(grid)
        # Linear in the images: the derivative does not depend on them, so an expanded zero will do.
        zeros = gradient.new_zeros(1).expand(shape)
        modes = (0, 2)  # bilinear, reflection
        return torch.ops.aten.grid_sampler_2d_backward(
            gradient.contiguous(), zeros, grid, *modes, False, [True, False]
        )[0]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        (grid,) = ctx.saved_tensors
        return _Warp.apply(gradients[0], grid), None, None
