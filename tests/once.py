"""A layer whose gradient cannot be differentiated: what updates by second derivatives refuse."""

from typing import Any

import torch
from torch import Tensor, nn


class Rounded(torch.autograd.Function):
    """The identity, by a function that can be differentiated once."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        return values.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grad_outputs: Tensor) -> Any:  # type: ignore[override]
        return grad_outputs[0]


class Once(nn.Module):
    """Layers behind such a function."""

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, values: Tensor) -> Tensor:
        return self.layers(Rounded.apply(values))
