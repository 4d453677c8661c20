"""The last layers of a discriminator, the same for every family: how it is told the label, and what else it is asked.

A family ends in a `ProjectionHead`, `style` in a `ScaledHead`, and that is the whole head where nothing else is asked.
`refitted` puts a `Head` in its place, which is told the label by concatenation, or not at all, and which also names the
class or reads codes.
"""

from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equipoise.game.judged import Judged, Said
from equipoise.nets.layers import SLOPE, ProjectionHead, add_spectral_norm, embedded, needed
from equipoise.nets.style import ScaledHead

Module = TypeVar("Module", bound=nn.Module)
NUM_OF_LABEL = 50  # of the label's vector, and of the layer that it and the features meet in, as arXiv:1411.1784
NUM_JOINT = 240


@dataclass(frozen=True)
class Asked:
    """What a head is told and asked; without anything, the family's own head stays."""

    concatenated: int = 0  # classes or labels that it is told by concatenation
    named: int = 0  # classes or labels that it names
    codes: int = 0  # logits and numbers that it reads

    @property
    def told(self) -> "Asked":
        """The same without questions, for a judge beside the first one."""
        return Asked(concatenated=self.concatenated)


class ConcatenationHead(nn.Module):
    """Features [N, F], labels [N] → logits [N]: joined with a vector of the label before a hidden layer.

    That is where arXiv:1411.1784 joins them, section 4.1; with leaky ReLUs in place of maxout. Of several labels it is
    the sum of their vectors.
    """

    def __init__(self, num_features: int, num_classes: int):
        super().__init__()
        self.embedding = nn.Embedding(num_classes, NUM_OF_LABEL)
        self.joint = _drawn(nn.Linear(num_features + NUM_OF_LABEL, NUM_JOINT))
        self.linear = _drawn(nn.Linear(NUM_JOINT, 1))

    def forward(self, features: Tensor, labels: Tensor | None) -> Tensor:
        vectors = embedded(self.embedding, needed(labels))
        joint = F.leaky_relu(self.joint(torch.cat([features, vectors], dim=1)), SLOPE)
        return self.linear(joint).squeeze(1)


class Head(nn.Module):
    """Features [N, F], labels [N] → what a discriminator says: logits [N], and what it names and reads if asked."""

    def __init__(self, judge: nn.Module, num_features: int, asked: Asked):
        super().__init__()
        self.judge = judge
        self.namer = _drawn(nn.Linear(num_features, asked.named)) if asked.named else None
        self.reader = _drawn(nn.Linear(num_features, asked.codes)) if asked.codes else None

    def forward(self, features: Tensor, labels: Tensor | None) -> Said:
        logits = self.judge(features, labels)
        if self.namer is None and self.reader is None:
            return logits
        named = None if self.namer is None else self.namer(features)
        codes = None if self.reader is None else self.reader(features)
        return Judged(logits, named=named, codes=codes)


def refitted(discriminator: Module, asked: Asked, spectral_norm: bool = False) -> Module:
    """Return a discriminator whose heads are told and asked this; the layers before them stay as they are."""
    if asked == Asked():
        return discriminator
    for parent in list(discriminator.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, ProjectionHead | ScaledHead):
                parent.add_module(name, _refitted(child, asked, spectral_norm))
    return discriminator


def _refitted(own: ProjectionHead | ScaledHead, asked: Asked, spectral_norm: bool) -> nn.Module:
    num_features = own.num_features
    if not asked.concatenated:
        head = Head(own, num_features, asked)
        new = [head.namer, head.reader]  # its own is normalised as its family wants it
    else:
        head = Head(ConcatenationHead(num_features, asked.concatenated), num_features, asked)
        new = [head]
    for module in new:
        if spectral_norm and module is not None:
            add_spectral_norm(module)
    return head


def _drawn(layer: nn.Linear) -> nn.Linear:
    """Draw a layer that keeps variance behind a leaky ReLU (arXiv:1502.01852, Eq. 15); the bias is 0."""
    nn.init.kaiming_normal_(layer.weight, SLOPE)
    nn.init.zeros_(layer.bias)
    return layer
