"""Pieces that the network families share: resolutions, norms, label conditioning, spectral norm."""

from typing import Literal, assert_never

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from equipoise.sizes import Size

NormName = Literal["batch", "layer", "none"]
SLOPE = 0.2  # of every leaky ReLU


def stage_channels(width: int, num_stages: int) -> list[int]:
    """Return channels from the highest resolution down: `width`, doubled each time, at most 8 · width."""
    return [width * min(2**stage, 8) for stage in range(num_stages)]


def crop(images: Tensor, size: Size) -> Tensor:
    """Cut [N, C, H, W] to `size`, where doubling an odd halving left one row or column too many."""
    return images[:, :, : size.height, : size.width]


def evened(images: Tensor) -> Tensor:
    """Add a row and a column of zeros to [N, C, H, W] where a side is odd, so that it can be halved by a stride."""
    return F.pad(images, (0, images.shape[-1] % 2, 0, images.shape[-2] % 2))


class Smooth(nn.Module):
    """Filter [N, C, H, W] by [1, 2, 1] / 4 in both directions, edges repeated (arXiv:1904.11486, binomial filter).

    A transposed convolution of stride 2 makes each of four neighbouring pixels by weights of its own, so that a
    checkerboard lies over the images; this filter is 0 at its frequency.
    """

    def forward(self, features: Tensor) -> Tensor:
        padded = F.pad(features, (1, 1, 1, 1), mode="replicate")
        return F.avg_pool2d(F.avg_pool2d(padded, 2, 1), 2, 1)  # [1, 1] twice


def halved(images: Tensor) -> Tensor:
    """Average 2×2 pixels of [N, C, H, W]; at an odd edge only the pixels that exist count."""
    return F.avg_pool2d(images, 2, ceil_mode=True, count_include_pad=False)


def make_norm(name: NormName, channels: int, dimensions: Literal[0, 2] = 2) -> nn.Module:
    """Return a normalisation of [N, C] (dimensions=0) or [N, C, H, W]; "layer" is over everything but N."""
    match name:
        case "batch":
            if dimensions == 0:
                return nn.BatchNorm1d(channels)
            return nn.BatchNorm2d(channels)
        case "layer":
            return nn.GroupNorm(1, channels)
        case "none":
            return nn.Identity()
        case _ as unreachable:
            assert_never(unreachable)


def packed(samples: Tensor, num: int) -> Tensor:
    """Return packs [N/num, num·C, …] of `num` samples [N, C, …] in a row, which D judges as one (arXiv:1712.04086)."""
    if num == 1:
        return samples
    return samples.reshape(len(samples) // num, num * samples.shape[1], *samples.shape[2:])


def whole_packs(samples: Tensor, num: int) -> Tensor:
    """Return samples [N, …] without the last few that fill no pack."""
    return samples[: len(samples) // num * num]


class MinibatchDeviation(nn.Module):
    """[N, C, …] → [N, C + 1, …]: the last channel says how much the samples differ (arXiv:1710.10196, section 3).

    It is the standard deviation of each feature over the batch, averaged over all features and places: one number. With
    labels [N] it is that of the samples of the same label: else a class whose samples are all alike would not show.
    """

    def forward(self, features: Tensor, labels: Tensor | None = None) -> Tensor:
        values = features if features.dtype == torch.float64 else features.float()
        if labels is None:
            deviation = (values.var(0, correction=0) + 1e-8).sqrt().mean().expand(len(features))
        else:
            deviation = (_variance_within(values.flatten(1), labels) + 1e-8).sqrt().mean(1)
        channel = deviation.to(features.dtype).view(-1, 1, *(1 for _ in features.shape[2:]))
        return torch.cat([features, channel.expand(-1, 1, *features.shape[2:])], dim=1)


def _variance_within(values: Tensor, labels: Tensor) -> Tensor:
    """Return the variance [N, F] of values [N, F] among those of the same label [N]; 0 where there is one alone."""
    same = (labels[:, None] == labels).to(values.dtype)
    same = same / same.sum(1, keepdim=True)
    with torch.autocast(values.device.type, enabled=False):  # else their products are too coarse to show it
        return same @ (values - same @ values).square()


class LabelledLatents(nn.Module):
    """Latents [N, Z] → [N, `size`]: with classes, a learned vector of the label is appended.

    Of m labels it is the sum of their vectors divided by √m, on the scale of one.
    """

    def __init__(self, latent_size: int, num_classes: int):
        super().__init__()
        # Standard normal like the latents, so that both halves reach the first layer on one scale.
        self.embedding = nn.Embedding(num_classes, latent_size) if num_classes else None
        self.size = latent_size
        if num_classes:
            self.size *= 2

    def forward(self, latents: Tensor, labels: Tensor | None) -> Tensor:
        if self.embedding is None:
            return latents
        labels = needed(labels)
        vectors = embedded(self.embedding, labels)
        if labels.ndim == 2:  # a sum of many is larger than one
            vectors = vectors / labels.sum(1, keepdim=True).clamp(min=1).sqrt()
        return torch.cat([latents, vectors], dim=1)


class ProjectionHead(nn.Module):
    """Features [N, F] → logits [N]: w·h + b, with classes + ⟨embedding(label), h⟩ (arXiv:1802.05637, Eq. 3).

    Of several labels it is the sum over them, as log-likelihood ratios of independent ones add up.
    """

    def __init__(self, num_features: int, num_classes: int):
        super().__init__()
        self.num_features = num_features
        self.linear = nn.Linear(num_features, 1)
        self.embedding = nn.Embedding(num_classes, num_features) if num_classes else None
        if self.embedding is not None:
            nn.init.normal_(self.embedding.weight, std=num_features**-0.5)

    def forward(self, features: Tensor, labels: Tensor | None) -> Tensor:
        logits = self.linear(features).squeeze(1)
        if self.embedding is None:
            return logits
        return logits + (embedded(self.embedding, needed(labels)) * features).sum(dim=1)


class ConditionalBatchNorm(nn.Module):
    """Batch norm of [N, C, H, W]; with classes, gain and bias belong to the label (arXiv:1610.07629).

    Of several labels what each adds to a gain of 1 and a bias of 0 is summed.
    """

    def __init__(self, channels: int, num_classes: int):
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=not num_classes)
        self.gain = self.bias = None
        if num_classes:
            self.gain = nn.Embedding(num_classes, channels)
            self.bias = nn.Embedding(num_classes, channels)
            nn.init.ones_(self.gain.weight)
            nn.init.zeros_(self.bias.weight)

    def forward(self, features: Tensor, labels: Tensor | None) -> Tensor:
        features = self.norm(features)
        if self.gain is None or self.bias is None:
            return features
        labels = needed(labels)
        gain = embedded(self.gain, labels)
        if labels.ndim == 2:
            gain = gain + (1 - labels.sum(1, keepdim=True))
        return features * gain[:, :, None, None] + embedded(self.bias, labels)[:, :, None, None]


def embedded(embedding: nn.Embedding, labels: Tensor) -> Tensor:
    """Return the vectors [N, D] of labels, int64 [N]; or of several labels each, 0 and 1 [N, L], the vectors' sum."""
    return embedding(labels) if labels.ndim == 1 else labels.to(embedding.weight.dtype) @ embedding.weight


def needed(labels: Tensor | None) -> Tensor:
    """Return the labels, [N] or [N, L]; raises ValueError where a class-conditional network is called without them."""
    if labels is None:
        raise ValueError("this network is class-conditional: call it with labels, int64 [N], or 0 and 1 [N, L]")
    return labels


def add_spectral_norm(network: nn.Module) -> None:
    """Divide every layer's weight by its largest singular value, by power iteration (arXiv:1802.05957).

    Vectors of labels are layers of a discriminator; in a generator they are left out (`spectral_generator`).
    """
    for layer in list(network.modules()):
        if isinstance(layer, nn.Conv2d | nn.Linear | nn.Embedding):
            parametrizations.spectral_norm(layer)


def spectral_generator(network: nn.Module) -> None:
    """Divide the weight of a generator's convolutions and linear layers by its largest singular value.

    Gains by the label are no map from inputs to outputs (arXiv:1805.08318, section 4.1).
    """
    for layer in list(network.modules()):
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            parametrizations.spectral_norm(layer)
