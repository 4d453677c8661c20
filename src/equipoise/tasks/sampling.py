"""Drawing from a generator in one way, for the judge, for people and for files: one seed is one set of images."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from equipoise.randomness import Randomness

CHUNK = 250  # images drawn at once


def chunks(num: int) -> Iterator[tuple[int, int]]:
    """Yield (begin, size) of the chunks in which `num` images are drawn."""
    for begin in range(0, num, CHUNK):
        yield begin, min(CHUNK, num - begin)


@torch.no_grad()
def drawn(
    generator: nn.Module,
    randomness: Randomness,
    num: int,
    latent_size: int,
    class_counts: Sequence[int] = (),
    label: int | None = None,
) -> Tensor:
    """Draw `num` images `[num, C, H, W]` in [-1, 1] in float32: a function of the randomness alone.

    With classes, labels come as often as in the training split, unless `label` names one.
    """
    device = next(generator.parameters()).device
    latents = randomness.normal("latents", num, latent_size)
    labels = None
    if class_counts:
        weights = torch.tensor(class_counts, dtype=torch.float64)
        labels = torch.multinomial(weights, num, replacement=True, generator=randomness.generator("labels"))
        labels = (labels if label is None else torch.full((num,), label)).to(device)
    return generator(latents.to(device), labels).float().clamp(-1, 1)
