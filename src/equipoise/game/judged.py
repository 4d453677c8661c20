"""What a discriminator may say besides its logit: the class of an image, the codes it was drawn from, its own code.

All are read off the features that the logit is read off. The terms that follow from them are per sample `[N]`.
"""

from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Judged:
    """What a discriminator says of images `[N, C, H, W]`: logits `[N]` or `[N, K]` of K judges, and more if asked."""

    logits: Tensor
    named: Tensor | None = None  # [N, L]: a logit for each class or label
    codes: Tensor | None = None  # [N, K + M]: a logit for each category of a code, then the numbers of that code
    encoded: Tensor | None = None  # [N, Z]: the code of a discriminator that is an autoencoder


Said: TypeAlias = Tensor | Judged  # what a discriminator returns: logits alone where it is asked nothing else


def judged(said: Said) -> Judged:
    """Return what a discriminator has said as a record."""
    return said if isinstance(said, Judged) else Judged(said)


def with_logits(said: Said, logits: Tensor) -> Said:
    """Return the same with other logits."""
    return replace(said, logits=logits) if isinstance(said, Judged) else logits


@dataclass(frozen=True)
class Codes:
    """What part of the latents means: the places int64 `[N]` of a category, and numbers `[N, M]` in -1..1."""

    categories: Tensor | None
    numbers: Tensor


def codes_of(latents: Tensor, num_categories: int, num_numbers: int) -> Codes:
    """Return the codes in normal latents `[N, Z]`, as arXiv:1606.03657 draws them, section 7.1.

    Which of the first K is the largest is one of K categories, all as likely. 2Φ(z) − 1 of the M after them is uniform
    in -1..1. So whatever draws latents draws codes.
    """
    categories = latents[:, :num_categories].argmax(1) if num_categories else None
    numbers = torch.erf(latents[:, num_categories : num_categories + num_numbers] / 2**0.5)
    return Codes(categories, numbers)


def with_category(latents: Tensor, category: Tensor | int, num_categories: int) -> Tensor:
    """Return normal latents [N, Z] with the category of their code changed: to one, or to int64 [N].

    The largest of the first K numbers is the category. It changes places with the one at `category`, so what is
    returned is distributed as latents are that have drawn this category.
    """
    rows = torch.arange(len(latents))
    largest = latents[:, :num_categories].argmax(1)
    found = latents.clone()
    found[rows, largest] = latents[rows, category]
    found[rows, category] = latents[rows, largest]
    return found


def with_number(latents: Tensor, place: int, value: Tensor | float) -> Tensor:
    """Return latents [N, Z] with 2Φ(z) − 1 at a place changed: to one value in −1..1 without the ends, or to [N]."""
    found = latents.clone()
    found[:, place] = 2**0.5 * torch.erfinv(torch.as_tensor(value, dtype=latents.dtype))
    return found


def naming_loss(named: Tensor | None, labels: Tensor | None) -> Tensor:
    """Return −log P(label | image) `[N]` from logits `[N, L]`: arXiv:1610.09585, Eq. 3.

    Labels are int64 `[N]`; or several an image, 0 and 1 `[N, L]`: then the sum over the labels, each by itself.
    """
    assert named is not None
    assert labels is not None
    if labels.ndim == 1:
        return F.cross_entropy(named.float(), labels, reduction="none")
    return F.binary_cross_entropy_with_logits(named.float(), labels.float(), reduction="none").sum(1)


def information_loss(read: Tensor | None, codes: Codes) -> Tensor:
    """Return −log Q(codes | image) `[N]` without constants: arXiv:1606.03657, Eq. 5.

    Of the category it is a cross-entropy, of each number half a square, as of a normal distribution of deviation 1.
    """
    assert read is not None
    read = read.float()
    loss = 0.5 * (read[:, read.shape[1] - codes.numbers.shape[1] :] - codes.numbers).square().sum(1)
    if codes.categories is None:
        return loss
    logits = read[:, : read.shape[1] - codes.numbers.shape[1]]
    return loss + F.cross_entropy(logits, codes.categories, reduction="none")


def pulling_away(encoded: Tensor | None) -> Tensor:
    """Return the mean squared cosine `[N]` of each code `[N, Z]` with those of the others: arXiv:1609.03126, Eq. 4."""
    assert encoded is not None
    unit = F.normalize(encoded.float(), dim=1)
    with torch.autocast(encoded.device.type, enabled=False):
        squared = (unit @ unit.T).square()
    num = len(unit)
    return (squared.sum(1) - squared.diagonal()) / max(1, num - 1)
