"""The Inception-v3 of FID: TensorFlow's graph of 2015-12-05 in plain torch (arXiv:1706.08500)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equipoise.nets.weights import Weights

WEIGHTS = Weights(
    file="weights-inception-2015-12-05-6726825d.pth",
    url="https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/weights-inception-2015-12-05-6726825d.pth",
    sha256="6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2",
)
DIMENSION = 2048
SIZE = 299


class ConvNormRelu(nn.Module):
    """Convolution, batch normalisation, ReLU."""

    def __init__(self, num_in: int, num_out: int, kernel: int | tuple[int, int], stride: int = 1, same: bool = True):
        super().__init__()
        if isinstance(kernel, int):
            kernel = (kernel, kernel)
        padding = (kernel[0] // 2, kernel[1] // 2) if same else 0
        self.conv = nn.Conv2d(num_in, num_out, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(num_out, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


def _average(x: Tensor) -> Tensor:
    """3×3 average pooling that leaves the padding out of the average, as TensorFlow does."""
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)


class BlockA(nn.Module):
    """35×35: 1×1, 5×5, double 3×3 and pooled branches."""

    def __init__(self, num_in: int, num_pooled: int):
        super().__init__()
        self.branch1x1 = ConvNormRelu(num_in, 64, 1)
        self.branch5x5_1 = ConvNormRelu(num_in, 48, 1)
        self.branch5x5_2 = ConvNormRelu(48, 64, 5)
        self.branch3x3dbl_1 = ConvNormRelu(num_in, 64, 1)
        self.branch3x3dbl_2 = ConvNormRelu(64, 96, 3)
        self.branch3x3dbl_3 = ConvNormRelu(96, 96, 3)
        self.branch_pool = ConvNormRelu(num_in, num_pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        five = self.branch5x5_2(self.branch5x5_1(x))
        return torch.cat([self.branch1x1(x), five, double, self.branch_pool(_average(x))], 1)


class BlockB(nn.Module):
    """35×35 to 17×17."""

    def __init__(self, num_in: int):
        super().__init__()
        self.branch3x3 = ConvNormRelu(num_in, 384, 3, stride=2, same=False)
        self.branch3x3dbl_1 = ConvNormRelu(num_in, 64, 1)
        self.branch3x3dbl_2 = ConvNormRelu(64, 96, 3)
        self.branch3x3dbl_3 = ConvNormRelu(96, 96, 3, stride=2, same=False)

    def forward(self, x: Tensor) -> Tensor:
        double = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), double, F.max_pool2d(x, 3, stride=2)], 1)


class BlockC(nn.Module):
    """17×17: 7×7 convolutions as pairs of 1×7 and 7×1."""

    def __init__(self, num_in: int, width: int):
        super().__init__()
        self.branch1x1 = ConvNormRelu(num_in, 192, 1)
        self.branch7x7_1 = ConvNormRelu(num_in, width, 1)
        self.branch7x7_2 = ConvNormRelu(width, width, (1, 7))
        self.branch7x7_3 = ConvNormRelu(width, 192, (7, 1))
        self.branch7x7dbl_1 = ConvNormRelu(num_in, width, 1)
        self.branch7x7dbl_2 = ConvNormRelu(width, width, (7, 1))
        self.branch7x7dbl_3 = ConvNormRelu(width, width, (1, 7))
        self.branch7x7dbl_4 = ConvNormRelu(width, width, (7, 1))
        self.branch7x7dbl_5 = ConvNormRelu(width, 192, (1, 7))
        self.branch_pool = ConvNormRelu(num_in, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        single = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        double = self.branch7x7dbl_3(self.branch7x7dbl_2(self.branch7x7dbl_1(x)))
        double = self.branch7x7dbl_5(self.branch7x7dbl_4(double))
        return torch.cat([self.branch1x1(x), single, double, self.branch_pool(_average(x))], 1)


class BlockD(nn.Module):
    """17×17 to 8×8."""

    def __init__(self, num_in: int):
        super().__init__()
        self.branch3x3_1 = ConvNormRelu(num_in, 192, 1)
        self.branch3x3_2 = ConvNormRelu(192, 320, 3, stride=2, same=False)
        self.branch7x7x3_1 = ConvNormRelu(num_in, 192, 1)
        self.branch7x7x3_2 = ConvNormRelu(192, 192, (1, 7))
        self.branch7x7x3_3 = ConvNormRelu(192, 192, (7, 1))
        self.branch7x7x3_4 = ConvNormRelu(192, 192, 3, stride=2, same=False)

    def forward(self, x: Tensor) -> Tensor:
        seven = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat([self.branch3x3_2(self.branch3x3_1(x)), seven, F.max_pool2d(x, 3, stride=2)], 1)


class BlockE(nn.Module):
    """8×8: branches that end in 1×3 beside 3×1."""

    def __init__(self, num_in: int, max_pool: bool):
        super().__init__()
        self.max_pool = max_pool  # the second of the two blocks takes the maximum in the published graph
        self.branch1x1 = ConvNormRelu(num_in, 320, 1)
        self.branch3x3_1 = ConvNormRelu(num_in, 384, 1)
        self.branch3x3_2a = ConvNormRelu(384, 384, (1, 3))
        self.branch3x3_2b = ConvNormRelu(384, 384, (3, 1))
        self.branch3x3dbl_1 = ConvNormRelu(num_in, 448, 1)
        self.branch3x3dbl_2 = ConvNormRelu(448, 384, 3)
        self.branch3x3dbl_3a = ConvNormRelu(384, 384, (1, 3))
        self.branch3x3dbl_3b = ConvNormRelu(384, 384, (3, 1))
        self.branch_pool = ConvNormRelu(num_in, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        single = self.branch3x3_1(x)
        double = self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        pooled = F.max_pool2d(x, 3, stride=1, padding=1) if self.max_pool else _average(x)
        return torch.cat(
            [
                self.branch1x1(x),
                self.branch3x3_2a(single),
                self.branch3x3_2b(single),
                self.branch3x3dbl_3a(double),
                self.branch3x3dbl_3b(double),
                self.branch_pool(pooled),
            ],
            1,
        )


class Inception(nn.Module):
    """Images [N, 3, H, W] in 0..255 to 2048 pooled features; `fc` is there because the weights hold it."""

    def __init__(self):
        super().__init__()
        self.Conv2d_1a_3x3 = ConvNormRelu(3, 32, 3, stride=2, same=False)
        self.Conv2d_2a_3x3 = ConvNormRelu(32, 32, 3, same=False)
        self.Conv2d_2b_3x3 = ConvNormRelu(32, 64, 3)
        self.Conv2d_3b_1x1 = ConvNormRelu(64, 80, 1)
        self.Conv2d_4a_3x3 = ConvNormRelu(80, 192, 3, same=False)
        self.Mixed_5b = BlockA(192, num_pooled=32)
        self.Mixed_5c = BlockA(256, num_pooled=64)
        self.Mixed_5d = BlockA(288, num_pooled=64)
        self.Mixed_6a = BlockB(288)
        self.Mixed_6b = BlockC(768, width=128)
        self.Mixed_6c = BlockC(768, width=160)
        self.Mixed_6d = BlockC(768, width=160)
        self.Mixed_6e = BlockC(768, width=192)
        self.Mixed_7a = BlockD(768)
        self.Mixed_7b = BlockE(1280, max_pool=False)
        self.Mixed_7c = BlockE(2048, max_pool=True)
        self.fc = nn.Linear(DIMENSION, 1008)

    def forward(self, pixels: Tensor) -> Tensor:
        x = (resize_as_tensorflow1(pixels, SIZE) - 128) / 128
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = F.max_pool2d(x, 3, stride=2)
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x))
        x = F.max_pool2d(x, 3, stride=2)
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(x)))
        x = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x)))))
        x = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(x)))
        return x.mean((2, 3))


def resize_as_tensorflow1(images: Tensor, size: int) -> Tensor:
    """Resize [N, C, H, W] to `size`² bilinearly as TensorFlow 1 did: pixel i reads position i · H/size."""
    rows = _linear_weights(images.shape[2], size, images)
    columns = _linear_weights(images.shape[3], size, images)
    return rows @ images @ columns.T


def _linear_weights(length: int, size: int, like: Tensor) -> Tensor:
    """Return the [size, length] matrix of linear interpolation without half-pixel centres."""
    position = torch.arange(size, dtype=torch.float32) * torch.tensor(length / size)  # TensorFlow's own rounding
    low = position.long()
    high = (low + 1).clamp(max=length - 1)
    part = position - low
    matrix = torch.zeros(size, length)
    matrix.scatter_add_(1, low[:, None], (1 - part)[:, None])
    matrix.scatter_add_(1, high[:, None], part[:, None])
    return matrix.to(like)


def inception_features(network: Inception, images: Tensor) -> Tensor:
    """Return features [N, 2048] of images [N, 1 or 3, H, W] in [-1, 1], rounded to 8 bits as files are."""
    pixels = ((images + 1) * 127.5).round().clamp(0, 255)
    return network(pixels.expand(-1, 3, -1, -1))


def load_inception(state: dict[str, Tensor]) -> Inception:
    """Return the network with published weights, for evaluation; raises RuntimeError where the keys differ."""
    with torch.device("meta"):  # no random initialisation: the global stream stays untouched
        network = Inception()
    network.load_state_dict(state, assign=True)
    return network.eval().requires_grad_(False)
