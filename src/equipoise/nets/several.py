"""Several discriminators in one module: an ensemble with weights of their own, at one or several scales."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from equipoise.game.judged import Said, judged, with_logits
from equipoise.nets.layers import halved


class SeveralDiscriminators(nn.Module):
    """Images, labels → logits [N, K], one for each judge and pack (arXiv:1611.01673; at scales: arXiv:1711.11585).

    Judge k sees the images averaged down `halvings[k]` times. What is asked besides logits, the first one says.
    """

    def __init__(self, judges: Sequence[nn.Module], halvings: Sequence[int]):
        super().__init__()
        self.judges = nn.ModuleList(judges)
        self.halvings = tuple(halvings)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Said:
        seen = [images]
        for _ in range(max(self.halvings)):
            seen.append(halved(seen[-1]))
        found = [judge(seen[times], labels) for judge, times in zip(self.judges, self.halvings, strict=True)]
        return with_logits(found[0], torch.stack([judged(said).logits for said in found], 1))
