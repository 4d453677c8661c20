"""The grouped convolution is torch's own, to its second derivative, under autocast too, and takes no loop."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from equipoise.nets.grouped import GroupedConv2d

SHAPES = [
    {"kernel_size": 3, "padding": 1, "groups": 3},
    {"kernel_size": 3, "stride": 2, "padding": 1, "groups": 2},
    {"kernel_size": 4, "groups": 6, "bias": False},
    {"kernel_size": 3, "dilation": 2, "padding": (2, 1), "groups": 1},
]


def layer_of(shape: dict, dtype: torch.dtype = torch.float64) -> GroupedConv2d:
    torch.manual_seed(0)
    return GroupedConv2d(6, 6, dtype=dtype, **shape)


def derivatives(layer: GroupedConv2d, images: Tensor, is_own: bool) -> list[Tensor]:
    """Return the output, the norm of its gradient, and how both change with images, weight and bias."""
    inputs = [images, *layer.parameters()]
    found = layer(images) if is_own else torch.nn.Conv2d.forward(layer, images)
    (slope,) = torch.autograd.grad(found.float().sin().sum(), images, create_graph=True)
    loss = slope.square().sum() + found.float().cos().sum()
    return [found, slope, *torch.autograd.grad(loss, inputs)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_the_first_and_second_derivative_are_those_of_finite_differences(shape: dict) -> None:
    layer = layer_of(shape)
    images = torch.randn(2, 6, 5, 5, dtype=torch.float64, requires_grad=True)
    weight = layer.weight.detach().requires_grad_()

    def call(images: Tensor, weight: Tensor) -> Tensor:
        return torch.func.functional_call(layer, {"weight": weight}, (images,))

    assert torch.autograd.gradcheck(call, (images, weight))
    assert torch.autograd.gradgradcheck(call, (images, weight))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_penalty_through_it_is_that_through_torch_s_own(shape: dict) -> None:
    layer = layer_of(shape)
    images = torch.randn(4, 6, 7, 7, dtype=torch.float64, requires_grad=True)
    for own, torchs in zip(derivatives(layer, images, True), derivatives(layer, images, False), strict=True):
        torch.testing.assert_close(own, torchs)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_a_penalty_on_the_gradients_of_images_and_weights_at_once_adds_up_what_comes_from_both(shape: dict) -> None:
    """A check by finite differences takes one of the two at a time."""
    layer = layer_of(shape)
    images = torch.randn(4, 6, 7, 7, dtype=torch.float64, requires_grad=True)
    inputs = [images, *layer.parameters()]

    def penalty_by(found: Tensor) -> tuple[Tensor, ...]:
        slopes = torch.autograd.grad(found.sin().sum(), [images, layer.weight], create_graph=True)
        return torch.autograd.grad(slopes[0].square().sum() + slopes[1].square().sum(), inputs)

    of_torch = penalty_by(torch.nn.Conv2d.forward(layer, images))
    for own, expected in zip(penalty_by(layer(images)), of_torch, strict=True):
        torch.testing.assert_close(own, expected)


def test_under_autocast_it_computes_in_bfloat16_and_its_weights_stay_float32() -> None:
    layer = layer_of(SHAPES[0], torch.float32)
    images = torch.randn(4, 6, 7, 7, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = derivatives(layer, images, True)
    exact = derivatives(layer, images, False)
    assert found[0].dtype == torch.bfloat16
    assert all(gradient.dtype == torch.float32 for gradient in found[2:])
    for rough, expected in zip(found, exact, strict=True):
        assert (rough.float() - expected).norm() < 0.02 * expected.norm()


def test_the_number_of_convolutions_does_not_grow_with_the_groups() -> None:
    counts = []
    for groups in (2, 32):
        layer = GroupedConv2d(64, 64, 3, padding=1, groups=groups)
        images = torch.randn(2, 64, 5, 5, requires_grad=True)
        with profile(activities=[ProfilerActivity.CPU]) as profiled:
            derivatives(layer, images, True)
        counts.append(sum(event.count for event in profiled.key_averages() if "convolution" in event.key))
    assert counts[0] == counts[1]


def test_it_is_a_convolution_to_whoever_looks_for_one() -> None:
    layer = layer_of(SHAPES[0])
    assert isinstance(layer, torch.nn.Conv2d)
    images = torch.randn(2, 6, 5, 5, dtype=torch.float64)
    torch.testing.assert_close(layer(images), F.conv2d(images, layer.weight, layer.bias, 1, 1, 1, 3))
