"""What the channels of images are: 1 is grey, 3 are red, green and blue, 4 these and opacity; others are measured.

Colours with opacity are premultiplied while a training has them: multiplied by the opacity, so that a pixel that is not
seen has no colour, and neighbours mix as they do on a screen. Files hold the plain colours.
"""

import numpy as np
import torch
from torch import Tensor

OPACITY = 4  # channels, of which the last one is the opacity
NEUTRAL = (160, 160, 160)  # grey behind transparent pictures that are shown: neither white nor black vanishes on it


def is_measured(channels: int) -> bool:
    """Return whether so many channels are measurements side by side, and no colours."""
    return channels not in (1, 3, OPACITY)


def plain_colours(pixels: np.ndarray) -> np.ndarray:
    """Return premultiplied colours uint8 [..., 4] as files hold them; what is not seen at all is black."""
    opacity = pixels[..., 3:].astype(np.float32)
    colours = pixels[..., :3] * (255 / np.maximum(opacity, 1))
    colours = np.rint(np.where(opacity > 0, colours, 0)).clip(0, 255)
    return np.concatenate([colours.astype(np.uint8), pixels[..., 3:]], axis=-1)


def in_colour(images: Tensor, background: tuple[int, int, int] = NEUTRAL) -> Tensor:
    """Return images `[N, C, H, W]` in [-1, 1] as they are shown, grey or in colour.

    Those with opacity lie over a background; of measured channels the first three are red, green and blue.
    """
    num_channels = images.shape[1]
    if num_channels in (1, 3):
        return images
    if num_channels == OPACITY:
        behind = images.new_tensor(background).view(1, 3, 1, 1) / 127.5
        opacity = (images[:, 3:] + 1) / 2
        return (images[:, :3] + (1 - opacity) * behind).clamp(-1, 1)
    missing = images.new_full((len(images), max(0, 3 - num_channels), *images.shape[2:]), -1.0)
    return torch.cat([images[:, :3], missing], dim=1)
