"""What a generated sample is nearest to in the training data, and whether the generator copies.

C_T (arXiv:2004.05675) is `mann_whitney` of the distances of generated and of held-out samples to training ones.
"""

import math

import torch
from torch import Tensor

from equipoise.errors import UserError
from equipoise.metrics.prdc import squared_distances

CHUNK = 4096  # rows of the bank compared at once


@torch.no_grad()
def nearest(query: Tensor, bank: Tensor, k: int = 1) -> tuple[Tensor, Tensor]:
    """Return Euclidean distances [N, k], ascending, and indices [N, k] of the nearest bank features.

    Takes features [N, D] and [M, D]; raises UserError if the bank holds fewer than k.
    """
    if not 1 <= k <= len(bank):
        raise UserError("nearest features", f"k={k}; it must be from 1 to {len(bank)}")
    centre = bank.mean(0)
    query, bank = query - centre, bank - centre
    best = torch.full((len(query), k), torch.inf, dtype=query.dtype, device=query.device)
    indices = torch.zeros((len(query), k), dtype=torch.int64, device=query.device)
    for start in range(0, len(bank), CHUNK):
        distances = squared_distances(query, bank[start : start + CHUNK])
        positions = torch.arange(start, start + distances.shape[1], device=query.device).expand_as(distances)
        best, order = torch.cat([best, distances], 1).topk(k, largest=False)
        indices = torch.cat([indices, positions], 1).gather(1, order)
    # Once more without ‖a‖² − 2ab + ‖b‖², which cannot tell a copy from a near copy.
    distances = (query[:, None] - bank[indices]).norm(dim=2)
    distances, order = distances.sort(1)
    return distances, indices.gather(1, order)


def nearest_distances(query: Tensor, bank: Tensor) -> Tensor:
    """Return the Euclidean distance [N] of each query feature [N, D] to the nearest of a bank [M, D] of training ones.

    Raises UserError if the bank is empty.
    """
    if not len(bank):
        raise UserError("copying", "there are no training samples to compare with", "Give some, or leave the test out")
    return torch.cat([nearest(part, bank)[0][:, 0] for part in query.split(CHUNK)])


def mann_whitney(a: Tensor, b: Tensor) -> float:
    """Return Z_U = (U − (nm/2 − ½))/√(nm(n + m + 1)/12) for samples [n] and [m]; below 0: a is the smaller one.

    U counts the pairs in which a is the larger, ties by half; raises UserError if a sample is empty.
    """
    if not len(a) or not len(b):
        raise UserError("copying", f"{len(a)} generated and {len(b)} held-out samples; give at least one of each")
    order, num_pairs = b.sort().values, len(a) * len(b)
    below, not_above = torch.searchsorted(order, a), torch.searchsorted(order, a, right=True)
    larger = (below + not_above).sum().item() / 2
    return (larger - (num_pairs - 1) / 2) / math.sqrt(num_pairs * (len(a) + len(b) + 1) / 12)
