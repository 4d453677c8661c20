"""What a generated image was nearest to in the training data."""

import torch
from torch import Tensor

from equipoise.errors import UserError
from equipoise.judge.coverage import squared_distances

CHUNK = 4096  # rows of the bank compared at once


@torch.no_grad()
def nearest(query: Tensor, bank: Tensor, k: int = 1) -> tuple[Tensor, Tensor]:
    """Return Euclidean distances [N, k], ascending, and indices [N, k] of the nearest bank features.

    Takes features [N, D] and [M, D]; raises UserError if the bank holds fewer than k.
    """
    if not 1 <= k <= len(bank):
        raise UserError(f"k={k} nearest of {len(bank)} features: k must be from 1 to {len(bank)}.")
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
