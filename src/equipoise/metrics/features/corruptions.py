"""Views and graded corruptions of images [N, C, H, W] in [-1, 1], from an explicit generator."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

NUM_KINDS = 6


def uniform(num: int, low: float, high: float, generator: torch.Generator) -> Tensor:
    """Draw [num] numbers between low and high."""
    return torch.rand(num, generator=generator) * (high - low) + low


def view(images: Tensor, generator: torch.Generator) -> Tensor:
    """Rotate by ±15°, scale by 0.85 to 1.2, shift by ±7.5 % and change the contrast by ±20 %, each at random.

    No mirroring: an image that is mirrored and should not be is a fault that a judge must see.
    """
    num = len(images)
    angle = uniform(num, -math.pi / 12, math.pi / 12, generator)
    scale = uniform(num, 0.85, 1.2, generator)
    maps = torch.zeros(num, 2, 3)
    maps[:, 0, 0] = maps[:, 1, 1] = scale * angle.cos()
    maps[:, 1, 0] = scale * angle.sin()
    maps[:, 0, 1] = -maps[:, 1, 0]
    maps[:, :, 2] = uniform(2 * num, -0.15, 0.15, generator).view(num, 2)
    images = _sampled(images, F.affine_grid(maps, list(images.shape), align_corners=False))
    mean = images.mean((1, 2, 3), keepdim=True)
    return (images - mean) * uniform(num, 0.8, 1.2, generator).view(-1, 1, 1, 1) + mean


def corrupted(images: Tensor, kinds: Tensor, strengths: Tensor, generator: torch.Generator) -> Tensor:
    """Corrupt each image by its kind in 0..5 and strength in [0, 1]; at strength 0 it stays as it is."""
    result = images.clone()
    for kind in range(NUM_KINDS):
        rows = (kinds == kind) & (strengths > 0)
        if not rows.any():
            continue
        chosen = images[rows]
        strength = strengths[rows]
        match kind:
            case 0:
                result[rows] = blurred(chosen, 0.3 + 1.5 * strength)
            case 1:
                result[rows] = noisy(chosen, 0.5 * strength, generator)
            case 2:
                result[rows] = speckled(chosen, 0.2 * strength, generator)
            case 3:
                result[rows] = warped(chosen, 2.5 * strength, generator)
            case 4:
                result[rows] = holed(chosen, 0.4 * strength, generator)
            case _:
                result[rows] = mixed(chosen, 0.5 * strength, generator)
    return result


def blurred(images: Tensor, sigma: Tensor) -> Tensor:
    """Blur by a Gaussian of sigma [N] pixels of an image 32 pixels wide, and more in larger ones."""
    num, channels, height, width = images.shape
    factor = max(1.0, width / 32)
    radius = min(round(4 * factor), height - 1, width - 1)
    offsets = torch.arange(-radius, radius + 1, dtype=images.dtype)
    kernel = torch.exp(-offsets.square() / (2 * (sigma[:, None] * factor).square()))
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(channels, 0)[:, None]
    flat = F.pad(images.reshape(1, num * channels, height, width), (radius,) * 4, mode="replicate")
    flat = F.conv2d(flat, kernel[:, :, None, :], groups=num * channels)
    return F.conv2d(flat, kernel[:, :, :, None], groups=num * channels).view_as(images)


def noisy(images: Tensor, sigma: Tensor, generator: torch.Generator) -> Tensor:
    """Add Gaussian noise of standard deviation sigma [N]."""
    noise = torch.randn(images.shape, generator=generator)
    return (images + sigma.view(-1, 1, 1, 1) * noise).clamp(-1, 1)


def speckled(images: Tensor, share: Tensor, generator: torch.Generator) -> Tensor:
    """Turn a share [N] of the pixels black or white."""
    draw = torch.rand(len(images), 1, *images.shape[2:], generator=generator)
    half = share.view(-1, 1, 1, 1) / 2
    return torch.where(draw < half, -1.0, torch.where(draw > 1 - half, 1.0, images))


def warped(images: Tensor, pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Displace smoothly by about pixels [N] of an image 32 pixels wide."""
    num, _, height, width = images.shape
    field = F.interpolate(
        torch.randn(num, 2, 5, 5, generator=generator), size=(height, width), mode="bicubic", align_corners=True
    )
    grid = F.affine_grid(torch.eye(2, 3).expand(num, 2, 3), list(images.shape), align_corners=False)
    grid = grid + field.permute(0, 2, 3, 1) * pixels.view(-1, 1, 1, 1) / 16
    return _sampled(images, grid, mode="bicubic").clamp(-1, 1)  # bilinear would blur more than it displaces


def holed(images: Tensor, side: Tensor, generator: torch.Generator) -> Tensor:
    """Fill a square, side [N] in shares of the image, with the image's darkest value."""
    num, _, height, width = images.shape
    centre = uniform(2 * num, 0.25, 0.75, generator).view(2, num, 1)
    rows = ((torch.arange(height) + 0.5) / height - centre[0]).abs() < side[:, None] / 2
    columns = ((torch.arange(width) + 0.5) / width - centre[1]).abs() < side[:, None] / 2
    hole = (rows[:, :, None] & columns[:, None, :])[:, None]
    return torch.where(hole, images.amin((2, 3), keepdim=True), images)


def mixed(images: Tensor, share: Tensor, generator: torch.Generator) -> Tensor:
    """Blend a share [N] of another of the images into each."""
    offset = int(torch.randint(1, max(2, len(images)), (), generator=generator))  # never an image with itself
    return torch.lerp(images, images.roll(offset, 0), share.view(-1, 1, 1, 1))


def _sampled(images: Tensor, grid: Tensor, mode: str = "bilinear") -> Tensor:
    return F.grid_sample(images, grid, mode=mode, padding_mode="border", align_corners=False)
