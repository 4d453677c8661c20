"""A generator whose latents begin with codes: a category and numbers that its images are to show (arXiv:1606.03657)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equipoise.game.judged import codes_of


class CodedGenerator(nn.Module):
    """Latents [N, Z] from a normal distribution, labels [N] → images [N, C, H, W] of a family's own generator.

    That one is given a 1 at the category and 0 at the others, the uniform numbers, and the other latents as they are.
    """

    def __init__(self, own: nn.Module, num_categories: int, num_numbers: int):
        super().__init__()
        self.own = own
        self.num_categories = num_categories
        self.num_numbers = num_numbers

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        codes = codes_of(latents, self.num_categories, self.num_numbers)
        parts = [codes.numbers, latents[:, self.num_categories + self.num_numbers :]]
        if codes.categories is not None:
            parts.insert(0, F.one_hot(codes.categories, self.num_categories).to(latents.dtype))
        return self.own(torch.cat(parts, dim=1), labels)
