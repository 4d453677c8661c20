"""DINOv2 ViT-S/14 in plain torch (arXiv:2304.07193), in the layout of `facebook/dinov2-small`."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equipoise.nets.weights import Weights

WEIGHTS = Weights(
    file="dinov2-small.safetensors",
    url="https://huggingface.co/facebook/dinov2-small/resolve/ed25f3a31f01632728cabb09d1542f84ab7b0056/model.safetensors",
    sha256="ae1e99fcefd534ed978cdeb8326f08030c96e28b7a81ffcbc98a857c84d14be1",
)
DIMENSION = 384
NUM_LAYERS = 12
NUM_HEADS = 6
PATCH = 14  # pixels a side
SIZE = 224  # pixels a side that images are resized to
TRAINED_PATCHES = 37  # patches a side that the position embeddings were trained for (518 pixels)
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


class Block(nn.Module):
    """Pre-norm self-attention and MLP, each scaled by a learned vector."""

    def __init__(self):
        super().__init__()
        self.norm1 = nn.LayerNorm(DIMENSION, eps=1e-6)
        self.query = nn.Linear(DIMENSION, DIMENSION)
        self.key = nn.Linear(DIMENSION, DIMENSION)
        self.value = nn.Linear(DIMENSION, DIMENSION)
        self.out = nn.Linear(DIMENSION, DIMENSION)
        self.scale1 = nn.Parameter(torch.ones(DIMENSION))
        self.norm2 = nn.LayerNorm(DIMENSION, eps=1e-6)
        self.fc1 = nn.Linear(DIMENSION, 4 * DIMENSION)
        self.fc2 = nn.Linear(4 * DIMENSION, DIMENSION)
        self.scale2 = nn.Parameter(torch.ones(DIMENSION))

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm1(x)
        projected = (layer(normed).unflatten(2, (NUM_HEADS, -1)) for layer in (self.query, self.key, self.value))
        attended = F.scaled_dot_product_attention(*(heads.transpose(1, 2) for heads in projected))
        x = x + self.scale1 * self.out(attended.transpose(1, 2).flatten(2))
        return x + self.scale2 * self.fc2(F.gelu(self.fc1(self.norm2(x))))


class DinoV2(nn.Module):
    """Normalised images [N, 3, 224, 224] to the normalised class token [N, 384]."""

    def __init__(self):
        super().__init__()
        self.class_token = nn.Parameter(torch.zeros(1, 1, DIMENSION))
        self.positions = nn.Parameter(torch.zeros(1, 1 + TRAINED_PATCHES**2, DIMENSION))
        self.patches = nn.Conv2d(3, DIMENSION, PATCH, PATCH)
        self.blocks = nn.ModuleList(Block() for _ in range(NUM_LAYERS))
        self.norm = nn.LayerNorm(DIMENSION, eps=1e-6)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.patches(images)
        positions = self._positions_for(tokens.shape[2], tokens.shape[3])
        tokens = tokens.flatten(2).transpose(1, 2)
        x = torch.cat([self.class_token.expand(len(tokens), -1, -1), tokens], 1) + positions
        for block in self.blocks:
            x = block(x)
        return self.norm(x[:, 0])

    def _positions_for(self, height: int, width: int) -> Tensor:
        grid = self.positions[:, 1:].transpose(1, 2).unflatten(2, (TRAINED_PATCHES, TRAINED_PATCHES))
        grid = F.interpolate(grid, size=(height, width), mode="bicubic", align_corners=False)
        return torch.cat([self.positions[:, :1], grid.flatten(2).transpose(1, 2)], 1)


def _names() -> dict[str, str]:
    """Return the published name of each of the network's tensors."""
    names = {
        "class_token": "embeddings.cls_token",
        "positions": "embeddings.position_embeddings",
        "norm.weight": "layernorm.weight",
        "norm.bias": "layernorm.bias",
    }
    layers = {"patches": "embeddings.patch_embeddings.projection"}
    for i in range(NUM_LAYERS):
        ours = f"blocks.{i}"
        theirs = f"encoder.layer.{i}"
        layers |= {f"{ours}.{name}": f"{theirs}.attention.attention.{name}" for name in ("query", "key", "value")}
        layers |= {f"{ours}.{name}": f"{theirs}.{name}" for name in ("norm1", "norm2")}
        layers |= {f"{ours}.{name}": f"{theirs}.mlp.{name}" for name in ("fc1", "fc2")}
        layers[f"{ours}.out"] = f"{theirs}.attention.output.dense"
        names |= {f"{ours}.scale{j}": f"{theirs}.layer_scale{j}.lambda1" for j in (1, 2)}
    return names | {f"{a}.{part}": f"{b}.{part}" for a, b in layers.items() for part in ("weight", "bias")}


def load_dinov2(state: dict[str, Tensor]) -> DinoV2:
    """Return the network with published weights, for evaluation; raises KeyError where a tensor is missing."""
    with torch.device("meta"):
        network = DinoV2()
    network.load_state_dict({ours: state[theirs] for ours, theirs in _names().items()}, assign=True)
    return network.eval().requires_grad_(False)


def dinov2_features(network: DinoV2, images: Tensor) -> Tensor:
    """Return features [N, 384] of images [N, 1 or 3, H, W] in [-1, 1], resized bicubically to 224 × 224."""
    images = F.interpolate(images, size=(SIZE, SIZE), mode="bicubic", align_corners=False, antialias=True)
    images = (images.clamp(-1, 1) + 1) / 2
    mean = images.new_tensor(MEAN).view(1, 3, 1, 1)
    std = images.new_tensor(STD).view(1, 3, 1, 1)
    return network((images.expand(-1, 3, -1, -1) - mean) / std)
