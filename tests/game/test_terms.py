"""The adversarial terms that tasks share: the loss, the penalty when it is due and as strong as it must be, noise."""

import contextlib
import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from equipoise.game.losses import Loss, loss_named
from equipoise.game.terms import (
    Adjustments,
    StepContext,
    discriminator_terms,
    generator_term,
    mean_distance,
    variety_term,
    with_noise,
)
from equipoise.game.updates import Terms
from equipoise.randomness import Randomness
from equipoise.recipe import Game, Penalty, PenaltyName

WEIGHT = torch.tensor([3.0, 4.0])  # of a linear critic: the norm of its gradient is 5 everywhere
LOSS = loss_named("non-saturating")


def critic(samples: Tensor) -> Tensor:
    return samples @ WEIGHT


def draw(seed: int, num: int = 6) -> Tensor:
    return torch.randn(num, 2, generator=torch.Generator().manual_seed(seed))


def at(index: int = 0, progress: float = 0.0, **adjustments: Any) -> StepContext:
    return StepContext(Randomness(1, 64), progress, index, Adjustments(**adjustments))


def penalised(kind: PenaltyName, gamma: float = 1.0, step: StepContext | None = None, **changes: Any) -> Terms:
    game = Game(penalty=Penalty(kind=kind, gamma=gamma, **changes))
    return discriminator_terms(game, LOSS, draw(1), draw(2), critic, step or at(), contextlib.nullcontext)


def test_adversarial_term_is_the_loss_of_the_critics_logits():
    found = penalised("none")
    torch.testing.assert_close(found.losses["adversarial"], LOSS.discriminator(critic(draw(1)), critic(draw(2))))
    assert list(found.losses) == ["adversarial"]
    assert found.stats["penalty"] == 0.0
    assert found.stats["real_logit"] == critic(draw(1)).mean()


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("r1", {"r1": 0.5 * 0.8 * 25}),
        ("r2", {"r2": 0.5 * 0.8 * 25}),
        ("r1+r2", {"r1": 10.0, "r2": 10.0}),
        ("wgan-gp", {"wgan-gp": 0.8 * 16}),  # γ (5 − 1)²
    ],
)
def test_each_penalty_is_a_term_of_its_own_and_their_sum_a_stat(kind: PenaltyName, expected: dict[str, float]):
    found = penalised(kind, 0.8)
    assert found.losses.keys() == {"adversarial", *expected}
    for name, value in expected.items():
        torch.testing.assert_close(found.losses[name], torch.full((6,), value))
    assert found.stats["penalty"].item() == pytest.approx(sum(expected.values()))


def test_a_lazy_penalty_is_taken_on_every_nth_step_and_n_times_as_strong():
    due = [penalised("r1", 0.8, at(index), every=4).losses for index in range(9)]
    assert [index for index, losses in enumerate(due) if "r1" in losses] == [0, 4, 8]
    torch.testing.assert_close(due[4]["r1"], torch.full((6,), 4 * 10.0))
    assert penalised("r1", 0.8, at(1), every=4).stats["penalty"] == 0.0


def test_strength_moves_on_a_cosine_and_by_what_a_remedy_has_made_of_it():
    for progress, gamma in ((0.0, 1.0), (0.25, (2 + 2**0.5) / 4), (1.0, 0.0)):
        found = penalised("r1", 1.0, at(progress=progress), gamma_end=0.0)
        assert found.losses["r1"][0].item() == pytest.approx(0.5 * gamma * 25, abs=1e-6)
    assert penalised("r1", 1.0, at(gamma=3.0)).losses["r1"][0].item() == pytest.approx(3 * 12.5)


def test_interpolation_is_drawn_by_position():
    game = Game(penalty=Penalty(kind="wgan-gp", gamma=1.0))
    seen: list[Tensor] = []

    def watching(samples: Tensor) -> Tensor:
        seen.append(samples.detach())
        return critic(samples)

    for samples in (64, 64, 128):
        step = StepContext(Randomness(1, samples))
        discriminator_terms(game, LOSS, draw(1), draw(2), watching, step, contextlib.nullcontext)
    points = seen[2::3]  # after the real and the generated ones
    assert torch.equal(points[0], points[1])
    assert not torch.equal(points[0], points[2])


@pytest.mark.parametrize("uses_real", [True, False])
def test_generator_draws_real_samples_only_where_its_loss_looks_at_them(uses_real: bool):
    drawn: list[int] = []

    def real() -> Tensor:
        drawn.append(1)
        return draw(1)

    loss = Loss(lambda r, f: f - r, lambda r, f: r - 2 * f, uses_real=uses_real)
    found = generator_term(loss, draw(2), real, critic, contextlib.nullcontext)
    expected = -2 * critic(draw(2)) + (critic(draw(1)) if uses_real else 0)
    torch.testing.assert_close(found, expected)
    assert len(drawn) == uses_real


def test_generator_sends_no_gradient_through_real_logits():
    weight = WEIGHT.clone().requires_grad_()
    fake = draw(2).requires_grad_()
    loss = loss_named("relativistic")
    found = generator_term(loss, fake, lambda: draw(1), lambda samples: samples @ weight, contextlib.nullcontext)
    (of_weight,) = torch.autograd.grad(found.sum(), weight, retain_graph=True)
    slope = torch.sigmoid(critic(draw(1)) - fake.detach() @ WEIGHT)  # of softplus(r − f) by r
    torch.testing.assert_close(of_weight, -(slope[:, None] * fake.detach()).sum(0))


def test_where_the_update_needs_it_the_generators_term_depends_on_the_critic_through_real_logits_too():
    step = StepContext(Randomness(0), needs_graph=True)
    weight = WEIGHT.clone().requires_grad_()
    fake = draw(2).requires_grad_()
    loss = loss_named("relativistic")
    found = generator_term(loss, fake, lambda: draw(1), lambda samples: samples @ weight, step=step)
    (of_weight,) = torch.autograd.grad(found.sum(), weight, retain_graph=True)
    slope = torch.sigmoid(critic(draw(1)) - fake.detach() @ WEIGHT)  # of softplus(r − f) by r
    torch.testing.assert_close(of_weight, (slope[:, None] * (draw(1) - fake.detach())).sum(0))


def test_losses_are_in_float32_whatever_the_critic_computes_in():
    found = discriminator_terms(
        Game(), LOSS, draw(1), draw(2), lambda samples: critic(samples).bfloat16(), at(), contextlib.nullcontext
    )
    assert found.losses["adversarial"].dtype == torch.float32


# Noise


def spread(step: StepContext, noise: float) -> float:
    game = replace(Game(), instance_noise=noise)
    return (with_noise(torch.zeros(20_000), game, "real", step)).std().item()


def test_noise_falls_linearly_and_a_remedy_adds_to_it():
    assert spread(at(), 0.2) == pytest.approx(0.2, rel=0.02)
    assert spread(at(progress=0.75), 0.2) == pytest.approx(0.05, rel=0.02)
    assert spread(at(progress=0.75, noise=0.1), 0.2) == pytest.approx(0.15, rel=0.02)
    samples = draw(1)
    assert with_noise(samples, replace(Game(), instance_noise=0.2), "real", at(progress=1.0)) is samples
    assert with_noise(samples, Game(), "real", at()) is samples


def test_noise_of_two_streams_and_of_two_positions_is_not_the_same():
    game, zeros = replace(Game(), instance_noise=1.0), torch.zeros(100)
    one = with_noise(zeros, game, "real", at())
    assert torch.equal(one, with_noise(zeros, game, "real", at()))
    for other in (
        with_noise(zeros, game, "generated", at()),
        with_noise(zeros, game, "real", StepContext(Randomness(1, 128))),
        with_noise(zeros, game, "real", StepContext(Randomness(1, 64, attempt=1))),
    ):
        assert abs(torch.corrcoef(torch.stack([one, other]))[0, 1].item()) < 4 / math.sqrt(100)


# Variety


def test_variety_is_asked_for_by_the_share_by_which_two_images_differ_too_little():
    flat = torch.zeros(3, 1, 32, 32)
    other = flat + torch.tensor([0.0, 0.1, 0.5]).view(3, 1, 1, 1)
    found = variety_term(flat, other, torch.tensor([0.4, 0.4, 0.4]))
    assert torch.allclose(found, torch.tensor([1.0, 0.75, 0.0])), "nothing is gained by more than real images differ"


def test_the_spread_is_the_mean_distance_of_all_pairs_of_real_images():
    levels = torch.tensor([0.0, 0.2, 0.8])
    images = levels.view(3, 1, 1, 1).expand(3, 3, 40, 24)
    assert float(mean_distance(images)) == pytest.approx((0.2 + 0.8 + 0.6) / 3, rel=1e-5)


def test_noise_in_the_pixels_is_little_variety():
    noise = torch.randn(40, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    shades = torch.randn(40, 3, 1, 1, generator=torch.Generator().manual_seed(1)).expand(40, 3, 64, 64)
    assert float(mean_distance(noise)) < 0.3 * float(mean_distance(shades))


def test_the_term_of_variety_pushes_two_images_apart():
    one = torch.full((1, 1, 16, 16), 0.1, requires_grad=True)
    other = torch.full((1, 1, 16, 16), -0.1, requires_grad=True)
    variety_term(one, other, torch.tensor([1.0])).sum().backward()
    assert one.grad is not None
    assert other.grad is not None
    assert (one.grad < 0).all(), "a step against the gradient makes it brighter"
    assert (other.grad > 0).all()
