"""A grouped convolution that can be differentiated twice without a loop over its groups.

torch differentiates the gradient of a grouped convolution one group at a time: a gradient penalty through networks of
hundreds of groups then takes thousands of small convolutions a step. The gradients are convolutions themselves, linear
in both of their arguments, so their derivatives are written down here once; any order follows.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Shape(NamedTuple):
    """Stride, padding, dilation and groups of a convolution."""

    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int


class GroupedConv2d(nn.Conv2d):
    """[N, C, H, W] → [N, C', H', W'], as `nn.Conv2d` with zeros around the image."""

    def forward(self, input: Tensor) -> Tensor:
        assert self.padding_mode == "zeros"
        assert not isinstance(self.padding, str)
        weight = self.weight
        bias = self.bias
        device = input.device.type
        if device == "meta":  # shapes without numbers, which autocast does not know
            return super().forward(input)
        if torch.is_autocast_enabled(device):  # a function of one's own has to cast by itself
            dtype = torch.get_autocast_dtype(device)
            input = input.to(dtype)
            weight = weight.to(dtype)
        shape = Shape(self.stride, self.padding, self.dilation, self.groups)
        with torch.autocast(device, enabled=False):
            result: Any = _Convolution.apply(input, weight, shape)
        return result if bias is None else result + bias.to(result.dtype)[:, None, None]


class _Convolution(torch.autograd.Function):
    """y = x ∗ w."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, shape: Shape) -> Tensor:
        ctx.save_for_backward(images, weight)
        ctx.shape = shape
        return F.conv2d(images, weight, None, *shape)  # pyright: ignore[reportArgumentType]: of lengths 2, 2, 2

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        images, weight = ctx.saved_tensors
        needs = ctx.needs_input_grad[:2]
        of_images, of_weight = _Gradients.apply(gradients[0], images, weight, ctx.shape, needs)
        return of_images, of_weight, None


class _Gradients(torch.autograd.Function):
    """From the gradient g of y those of x and w: T(g, w), linear in g and w, and W(x, g), linear in x and g."""

    @staticmethod
    def forward(
        ctx: Any, gradient: Tensor, images: Tensor, weight: Tensor, shape: Shape, needs: tuple[bool, bool]
    ) -> tuple[Tensor | None, Tensor | None]:
        ctx.save_for_backward(gradient, images, weight)
        ctx.shape = shape
        ctx.set_materialize_grads(False)
        return _backward(gradient, images, weight, shape, needs)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        gradient, images, weight = ctx.saved_tensors
        by_images, by_weight = gradients
        of_gradient = of_images = of_weight = None
        if by_images is not None:
            by_images = by_images.to(gradient.dtype)
            of_gradient = _Convolution.apply(by_images, weight, ctx.shape)
            _, of_weight = _Gradients.apply(gradient, by_images, weight, ctx.shape, (False, True))
        if by_weight is not None:
            by_weight = by_weight.to(gradient.dtype)
            added: Any = _Convolution.apply(images, by_weight, ctx.shape)
            of_gradient = added if of_gradient is None else of_gradient + added
            of_images, _ = _Gradients.apply(gradient, images, by_weight, ctx.shape, (True, False))
        return of_gradient, of_images, of_weight, None, None


def _backward(
    gradient: Tensor, images: Tensor, weight: Tensor, shape: Shape, needs: tuple[bool, bool]
) -> tuple[Tensor | None, Tensor | None]:
    found = torch.ops.aten.convolution_backward(
        gradient, images, weight, None, *shape[:3], False, [0, 0], shape.groups, [*needs, False]
    )
    return found[0], found[1]
