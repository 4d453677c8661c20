"""A discriminator that judges fixed features of a pretrained network instead of pixels (arXiv:2111.01007).

The pretrained network sees an image at four scales. Random convolutions that are never trained mix the channels of
each scale, and then the scales from the coarsest to the finest (the paper's CCM and CSM), so that none of the features
can be ignored. A small network judges each scale; the logit is the mean of theirs.
"""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equipoise.game.judged import Said, judged, with_logits
from equipoise.nets.efficientnet import MAPPED, EfficientNetLite
from equipoise.nets.layers import SLOPE, MinibatchDeviation, NormName, ProjectionHead, add_spectral_norm, make_norm
from equipoise.sizes import GivenSize, size_of

LEAST_SIDE = 64  # pixels of the larger side to which smaller images are enlarged: the coarsest scale is 2×2 then
LARGEST_SIDE = 256  # to which larger ones are reduced
LOWEST = 4  # a side at which a scale is judged as a whole
MOST_CHANNELS = 8  # times the width


class ProjectedDiscriminator(nn.Module):
    """Images [N, 1 or 3, H, W] in [-1, 1], labels [N] → logits [N].

    The width dial is the channels of the finest scale after mixing, doubled at each coarser one. The pretrained and the
    mixing weights are buffers: no optimizer sees them, and checkpoints have them.
    """

    def __init__(
        self,
        pretrained: EfficientNetLite,
        *,
        size: GivenSize,
        num_classes: int,
        width: int,
        norm: NormName = "batch",
        spectral_norm: bool = True,
        dropout: float = 0.0,
        minibatch_deviation: bool = False,
    ):
        super().__init__()
        width_and_height = size_of(size)
        larger = max(width_and_height)
        factor = min(max(larger, LEAST_SIDE), LARGEST_SIDE) / larger
        self.shape = (round(factor * width_and_height.height), round(factor * width_and_height.width))
        mixed = [width * min(2**scale, MOST_CHANNELS) for scale in range(len(MAPPED))]
        self.pretrained = pretrained
        self.pretrained.head = nn.Identity()  # comes after all maps
        self.mix_channels = nn.ModuleList(
            drawn(nn.Conv2d(before, after, 1)) for before, after in zip(MAPPED.values(), mixed, strict=True)
        )
        self.mix_scales = nn.ModuleList(drawn(nn.Conv2d(low, high, 3, padding=1)) for high, low in pairwise(mixed))
        for fixed in (self.pretrained, self.mix_channels, self.mix_scales):
            freeze(fixed)
        shapes = [[-(-side // 2 ** (scale + 2)) for side in self.shape] for scale in range(len(mixed))]
        self.judges = nn.ModuleList(
            ScaleJudge(channels, shape, width, num_classes, norm, dropout, minibatch_deviation)
            for channels, shape in zip(mixed, shapes, strict=True)
        )
        if spectral_norm:
            add_spectral_norm(self.judges)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Tensor:
        logits = [judge(seen, labels) for judge, seen in zip(self.judges, self.seen(images), strict=True)]
        return torch.stack(logits).mean(0)

    def seen(self, images: Tensor) -> list[Tensor]:
        """Return the mixed features of each scale, from the finest to the coarsest."""
        if images.shape[2:] != self.shape:
            images = F.interpolate(images, size=self.shape, mode="bilinear", align_corners=False, antialias=True)
        maps = self.pretrained.maps(images.expand(-1, 3, -1, -1))
        mixed = [mix(scale) for mix, scale in zip(self.mix_channels, maps, strict=True)]
        for place in reversed(range(len(mixed) - 1)):
            coarser = F.interpolate(mixed[place + 1], size=mixed[place].shape[2:], mode="bilinear", align_corners=False)
            mixed[place] = mixed[place] + self.mix_scales[place](coarser)
        return mixed


class AidedDiscriminator(nn.Module):
    """Images, labels → logits [N, 2]: of a family's own discriminator and of a projected one (arXiv:2112.09130).

    The own ones may be several, and may say more than logits.

    A gradient penalty is on the own one alone: through the pretrained network it would be far larger, and cost more
    than all else. In the discriminator's step images have no history, so the projected one is shown them as constants;
    in the generator's step its gradient goes on to the generator.
    """

    def __init__(self, own: nn.Module, projected: ProjectedDiscriminator):
        super().__init__()
        self.own = own
        self.projected = projected

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Said:
        seen = images.detach() if images.is_leaf else images
        own = self.own(images, labels)
        logits = judged(own).logits
        if logits.ndim == 1:
            logits = logits[:, None]
        return with_logits(own, torch.cat([logits, self.projected(seen, labels)[:, None]], 1))


class ScaleJudge(nn.Module):
    """Features [N, C, H, W], labels [N] → logits [N]: halved by 4×4 convolutions, then judged as a whole.

    With `minibatch_deviation` one more channel says how much the features of a batch differ: of the same label, where
    it is told such; where an image has several labels, of all.
    """

    def __init__(
        self,
        channels: int,
        shape: list[int],
        width: int,
        num_classes: int,
        norm: NormName,
        dropout: float,
        minibatch_deviation: bool,
    ):
        super().__init__()
        layers: list[nn.Module] = []
        after = width
        while max(shape) > LOWEST or not layers:
            kernel, stride = (4, 2) if max(shape) > LOWEST and min(shape) > 1 else (3, 1)
            convolution = nn.Conv2d(channels, after, kernel, stride, 1, bias=norm == "none")
            layers += [convolution, make_norm(norm, after), nn.LeakyReLU(SLOPE), nn.Dropout(dropout)]
            channels = after
            after = min(2 * after, MOST_CHANNELS * width)
            if stride == 1:
                break
            shape = [side // 2 for side in shape]
        self.deviation = MinibatchDeviation() if minibatch_deviation else None
        self.is_told = num_classes > 0
        channels += minibatch_deviation
        self.downwards = nn.Sequential(*layers)
        self.head = ProjectionHead(channels * math.prod(shape), num_classes)

    def forward(self, features: Tensor, labels: Tensor | None) -> Tensor:
        features = self.downwards(features)
        if self.deviation is not None:
            one_each = self.is_told and labels is not None and labels.ndim == 1
            features = self.deviation(features, labels if one_each else None)
        return self.head(features.flatten(1), labels)


def drawn(layer: nn.Conv2d) -> nn.Conv2d:
    """Draw a mixing layer that keeps variance (arXiv:1502.01852); the bias is 0."""
    nn.init.kaiming_normal_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


def freeze(network: nn.Module) -> None:
    """Turn all weights of a network into buffers."""
    for module in network.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            delattr(module, name)
            module.register_buffer(name, weight.detach())
