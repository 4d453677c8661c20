"""Self-attention between all places of a picture, one layer in each network (arXiv:1805.08318)."""

import torch
from torch import Tensor, nn

from equipoise.errors import Setting, UserError
from equipoise.sizes import GivenSize, resolutions, size_of

REDUCED = 8  # channels of the features for each one that places are compared by


class SelfAttention(nn.Module):
    """[N, C, H, W] → the same: y = γ · o + x, where o_j = v(Σ_i β_ji h(x_i)) (arXiv:1805.08318, Eq. 1–3).

    β_ji is the softmax over i of f(x_i)·g(x_j). γ begins at 0, so that what is near is learned first. All is written
    out, as a fused kernel has no second derivative, which gradient penalties need.
    """

    def __init__(self, channels: int):
        super().__init__()
        inner = max(1, channels // REDUCED)
        self.key = nn.Conv2d(channels, inner, 1, bias=False)  # f
        self.query = nn.Conv2d(channels, inner, 1, bias=False)  # g
        self.value = nn.Conv2d(channels, inner, 1, bias=False)  # h
        self.project = nn.Conv2d(inner, channels, 1, bias=False)  # v
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, features: Tensor) -> Tensor:
        keys = self.key(features).flatten(2)  # [N, C', H·W]
        queries = self.query(features).flatten(2)
        values = self.value(features).flatten(2)
        weights = torch.softmax(queries.transpose(1, 2) @ keys, dim=2)  # [N, j, i], a sum of 1 over i
        attended = (values @ weights.transpose(1, 2)).unflatten(2, features.shape[2:])
        return self.gamma * self.project(attended) + features


def attended_place(size: GivenSize, attention: int) -> int | None:
    """Return how often images of a size are halved where both networks attend: the lowest side that is not below it.

    None without attention. Raises UserError where no features are so large.
    """
    if not attention:
        return None
    sides = [min(low) for low in resolutions(size)]
    places = [place for place in range(1, len(sides)) if sides[place] >= attention]
    if not places:
        problem = f"the features of images of {size_of(size)} pixels have sides of {sides[1]} or less in both networks"
        ways = (Setting("networks.attention", sides[1]), Setting("networks.attention", 0))
        raise UserError(Setting("networks.attention", attention), problem, *ways)
    return max(places)
