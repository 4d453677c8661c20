"""Exact penalties on the discriminator's gradient with respect to its input, per sample [N], in float32 or better.

How often a penalty is taken, and n times as strong on every n-th step, is the caller's business.
"""

from collections.abc import Callable

import torch
from torch import Tensor

Discriminator = Callable[[Tensor], Tensor]


def gradient_norm_squared(logits: Tensor, images: Tensor) -> Tensor:
    """Return ‖∇D‖² per sample [N], differentiable, from logits [N] already computed on `images` [N, …].

    `images` must require a gradient; each logit must depend on its own image only (no batch norm in D). Where D judges
    packs of several images in a row, it is the norm over a pack. A minibatch's deviation ties samples together, too:
    then it is the gradient of the sum of all logits, as in StyleGAN2 (arXiv:1912.04958).
    """
    (gradient,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return _at_least_float32(gradient).reshape(len(logits), -1).square().sum(dim=1)


def of_each(logits: Tensor, num_judges: int) -> list[Tensor]:
    """Return the logits [N] of each judge whose gradient is penalised: the first ones of [N, K]."""
    return [logits] if logits.ndim == 1 else list(logits[:, :num_judges].unbind(1))


def zero_centered(logits: Tensor, images: Tensor, gamma: float, num_judges: int = 1) -> Tensor:
    """Return γ/2 · ‖∇D‖² per sample [N]: R1 on real images, R2 on generated ones (arXiv:1801.04406, Eq. 9 and 10).

    Of several judges it is the sum over them.
    """
    squared = [gradient_norm_squared(one, images) for one in of_each(logits, num_judges)]
    return 0.5 * gamma * _sum(squared)


def wgan_gp(
    discriminator: Discriminator,
    real: Tensor,
    fake: Tensor,
    gamma: float,
    generator: torch.Generator,
    packing: int = 1,
    num_judges: int = 1,
) -> Tensor:
    """Return γ · (‖∇D(x̂)‖ − 1)² per sample [N], x̂ drawn on the line from real to fake (arXiv:1704.00028, Eq. 3).

    All samples of a pack are drawn at one position. D runs in float32 here, also under autocast: the norm's distance
    from 1 would drown in half precision.
    """
    num = len(real) // packing
    position = torch.rand(num, generator=generator, device=generator.device, dtype=_at_least_float32(real).dtype)
    position = position.repeat_interleave(packing).to(real.device).view(-1, *[1] * (real.dim() - 1))
    # A graph of the generated samples stays: an update by second derivatives asks how G's weights move x̂.
    between = torch.lerp(_at_least_float32(real.detach()), _at_least_float32(fake), position).requires_grad_()
    with torch.autocast(real.device.type, enabled=False):
        logits = discriminator(between)
        squared = [gradient_norm_squared(one, between) for one in of_each(logits, num_judges)]
    return gamma * _sum([(safe_sqrt(one) - 1).square() for one in squared])


def _sum(values: list[Tensor]) -> Tensor:
    return values[0] if len(values) == 1 else torch.stack(values).sum(0)


def safe_sqrt(squared: Tensor) -> Tensor:
    """Return √squared, with the gradient 0 instead of infinity at 0."""
    is_zero = squared == 0
    return torch.where(is_zero, 0.0, torch.where(is_zero, 1.0, squared).sqrt())


def _at_least_float32(values: Tensor) -> Tensor:
    return values.float() if values.dtype in (torch.bfloat16, torch.float16) else values
