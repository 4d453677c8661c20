"""How far an image is from its original: PSNR and SSIM on luma, as super-resolution is compared in the literature.

Y = 16 + (65.481 R + 128.553 G + 24.966 B)/255 of 8-bit values (ITU-R BT.601, studio range), rounded to 8 bits; a border
of `scale` pixels is left out.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

WEIGHTS = (65.481, 128.553, 24.966)
WINDOW, SIGMA = 11, 1.5  # of SSIM (IEEE TIP 13:600), with K1 = 0.01, K2 = 0.03
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def luma(images: Tensor) -> Tensor:
    """Return Y [N, 1, H, W] in 16..235, rounded, of RGB images [N, 3, H, W] in 0..255, which are rounded first."""
    weights = torch.tensor(WEIGHTS, dtype=torch.float64, device=images.device).view(1, 3, 1, 1)
    values = images.double().round().clamp(0, 255)
    return (16 + (values * weights).sum(1, keepdim=True) / 255).round()


def squared_error(images: Tensor, originals: Tensor, border: int) -> Tensor:
    """Return the mean squared error of Y [N] of RGB images [N, 3, H, W] in 0..255, without a border."""
    error = (luma(images) - luma(originals)).square()
    return _inside(error, border).flatten(1).mean(1)


def psnr(error: float) -> float:
    """Return 10 log₁₀(255²/MSE) in dB; infinite for no error."""
    return 10 * math.log10(255**2 / error) if error > 0 else math.inf


def ssim(images: Tensor, originals: Tensor, border: int) -> Tensor:
    """Return the structural similarity of Y [N], averaged over all whole windows, without a border."""
    x = _inside(luma(images), border)
    y = _inside(luma(originals), border)
    mean_x, mean_y = _blurred(x), _blurred(y)
    var_x = _blurred(x * x) - mean_x.square()
    var_y = _blurred(y * y) - mean_y.square()
    covariance = _blurred(x * y) - mean_x * mean_y
    above = (2 * mean_x * mean_y + C1) * (2 * covariance + C2)
    below = (mean_x.square() + mean_y.square() + C1) * (var_x + var_y + C2)
    return (above / below).flatten(1).mean(1)


def _inside(values: Tensor, border: int) -> Tensor:
    height, width = values.shape[-2:]
    return values[..., border : height - border, border : width - border]


def _blurred(values: Tensor) -> Tensor:
    places = torch.arange(WINDOW, dtype=torch.float64, device=values.device) - (WINDOW - 1) / 2
    window = torch.exp(-places.square() / (2 * SIGMA**2))
    window = window / window.sum()
    rows = F.conv2d(values, window.view(1, 1, -1, 1))
    return F.conv2d(rows, window.view(1, 1, 1, -1))
