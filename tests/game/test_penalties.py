"""The penalties on critics whose gradient is known, and by finite differences."""

import pytest
import torch
from torch import Tensor, nn

from equipoise.game.penalties import gradient_norm_squared, safe_sqrt, wgan_gp, zero_centered


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(5)


def test_linear_critic_has_the_norm_of_its_weight_everywhere():
    weight, images = draw(3, 4, 4), draw(5, 3, 4, 4, seed=1).requires_grad_()
    norms = gradient_norm_squared((images * weight).sum(dim=(1, 2, 3)), images)
    torch.testing.assert_close(norms, weight.square().sum().expand(5))


def test_quadratic_critic_has_the_norm_of_its_position():
    """D(x) = ½‖x‖² has the gradient x, sample by sample."""
    images = draw(5, 7).requires_grad_()
    penalty = zero_centered(images.square().sum(dim=1) / 2, images, gamma=0.6)
    torch.testing.assert_close(penalty, 0.3 * images.square().sum(dim=1))


def test_zero_centered_penalty_trains_the_critic_as_its_closed_form_does():
    weight, images = draw(7, seed=3).requires_grad_(), draw(4, 7).requires_grad_()
    penalty = zero_centered((images * weight).sum(dim=1), images, gamma=2.0).mean()
    (gradient,) = torch.autograd.grad(penalty, weight)
    torch.testing.assert_close(gradient, 2 * weight)  # of γ/2 ‖w‖²


def smooth_critic(images: Tensor, first: Tensor, second: Tensor) -> Tensor:
    return torch.tanh(images @ first) @ second


@pytest.mark.parametrize("kind", ["zero-centered", "wgan-gp"])
def test_penalties_pass_first_and_second_order_gradcheck(kind: str):
    first, second = draw(3, 4).requires_grad_(), draw(4, seed=1).requires_grad_()
    real, fake = draw(2, 3, seed=2), draw(2, 3, seed=3)

    def penalty(first: Tensor, second: Tensor) -> Tensor:
        if kind == "wgan-gp":
            return wgan_gp(lambda images: smooth_critic(images, first, second), real, fake, 10.0, generator())
        images = real.clone().requires_grad_()
        return zero_centered(smooth_critic(images, first, second), images, 0.7)

    assert torch.autograd.gradcheck(penalty, (first, second))
    assert torch.autograd.gradgradcheck(penalty, (first, second))


def test_wgan_gp_is_zero_for_a_linear_critic_of_unit_norm_and_known_for_others():
    weight = torch.tensor([0.6, 0.8], dtype=torch.float64)
    real, fake = draw(6, 2), draw(6, 2, seed=1)
    unit = wgan_gp(lambda images: images @ weight, real, fake, 10.0, generator())
    triple = wgan_gp(lambda images: images @ (3 * weight), real, fake, 10.0, generator())
    torch.testing.assert_close(unit, torch.zeros(6, dtype=torch.float64))
    torch.testing.assert_close(triple, torch.full((6,), 40.0, dtype=torch.float64))  # 10 · (3 − 1)²


def test_wgan_gp_looks_at_points_between_real_and_fake_one_position_a_sample():
    real, fake = torch.zeros(200, 2, 3, 3), torch.ones(200, 2, 3, 3)
    seen: list[Tensor] = []

    def critic(images: Tensor) -> Tensor:
        seen.append(images.detach())
        return images.sum(dim=(1, 2, 3))

    wgan_gp(critic, real, fake, 1.0, generator())
    positions = seen[0].flatten(1)
    assert (positions == positions[:, :1]).all()
    assert positions.min() >= 0
    assert positions.max() <= 1
    assert 0.4 < positions.mean() < 0.6
    assert len(positions[:, 0].unique()) > 190


def test_wgan_gp_draws_from_its_generator_alone():
    real, fake = draw(4, 3), draw(4, 3, seed=1)

    def critic(images: Tensor) -> Tensor:
        return images.pow(3).sum(dim=1)

    before = torch.get_rng_state()
    first = wgan_gp(critic, real, fake, 1.0, generator())
    assert torch.equal(first, wgan_gp(critic, real, fake, 1.0, generator()))
    assert torch.equal(before, torch.get_rng_state())


def test_wgan_gp_of_a_constant_critic_has_a_gradient_without_nan():
    scale = torch.zeros(3, requires_grad=True)
    penalty = wgan_gp(lambda images: images @ scale, torch.ones(2, 3), torch.zeros(2, 3), 10.0, generator())
    penalty.sum().backward()
    assert penalty.tolist() == [10.0, 10.0]
    assert scale.grad is not None
    assert scale.grad.tolist() == [0.0, 0.0, 0.0]


def test_safe_sqrt_has_the_slope_of_the_root_off_zero_and_none_at_zero():
    squared = torch.tensor([0.0, 4.0, 1e-30], dtype=torch.float64, requires_grad=True)
    root = safe_sqrt(squared)
    (slope,) = torch.autograd.grad(root.sum(), squared)
    torch.testing.assert_close(root, torch.tensor([0.0, 2.0, 1e-15], dtype=torch.float64))
    torch.testing.assert_close(slope, torch.tensor([0.0, 0.25, 0.5e15], dtype=torch.float64))


def test_penalties_stay_in_float32_under_autocast():
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 1), nn.Flatten(0))
    real, fake = torch.randn(4, 6), torch.randn(4, 6)
    exact = wgan_gp(critic, real, fake, 1.0, generator())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(wgan_gp(critic, real, fake, 1.0, generator()), exact)
        images = real.clone().requires_grad_()
        assert gradient_norm_squared(critic(images), images).dtype == torch.float32


def test_of_packs_the_norm_is_that_over_all_samples_of_a_pack():
    """D(x, y) = a·x + b·y has the gradient (a, b) by a pack."""
    weights = torch.tensor([[3.0, 0.0], [0.0, 4.0]])
    points = torch.randn(6, 2, requires_grad=True)
    logits = (points.view(3, 2, 2) * weights).sum((1, 2))
    assert gradient_norm_squared(logits, points).tolist() == [25.0] * 3


def test_wgan_gp_of_packs_has_one_position_a_pack():
    seen: list[Tensor] = []

    def critic(points: Tensor) -> Tensor:
        seen.append(points.detach())
        return points.reshape(50, 4).sum(1)

    found = wgan_gp(critic, torch.zeros(100, 2), torch.ones(100, 2), 1.0, generator(), packing=2)
    assert found.tolist() == [1.0] * 50  # (√4 − 1)²
    positions = seen[0].reshape(50, 4)
    assert (positions == positions[:, :1]).all()
    assert len(positions[:, 0].unique()) > 45


def test_a_penalty_is_on_the_first_judge_alone_where_a_second_one_has_a_gradient_too():
    """As under updates by second derivatives, where generated images have a history."""
    images = draw(5, 7).requires_grad_()
    own = images.square().sum(dim=1) / 2
    penalty = zero_centered(torch.stack([own, 10 * own], 1), images, gamma=0.6, num_judges=1)
    torch.testing.assert_close(penalty, 0.3 * images.square().sum(dim=1))
