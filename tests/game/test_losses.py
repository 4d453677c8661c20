"""The losses against hand computation, their gradients, and identities between them."""

import math
from typing import get_args

import pytest
import torch

from equipoise.game.losses import discriminator_loss, generator_loss
from equipoise.recipe import LossName

REAL, FAKE = [0.5, -2.0, 3.0], [1.0, 0.25, -1.5]
MEAN_REAL, MEAN_FAKE = 0.5, -0.25 / 3


def sigmoid(t: float) -> float:
    return 1 / (1 + math.exp(-t))


def by_hand(name: LossName, r: float, f: float) -> tuple[float, float]:
    """Return the losses of D and of G at one real and one fake logit, from the papers' formulas in σ and log."""
    log = math.log
    by_name = {
        "minimax": (-log(sigmoid(r)) - log(1 - sigmoid(f)), log(1 - sigmoid(f))),
        "non-saturating": (-log(sigmoid(r)) - log(1 - sigmoid(f)), -log(sigmoid(f))),
        "least-squares": (((r - 1) ** 2 + f**2) / 2, (f - 1) ** 2 / 2),
        "wasserstein": (f - r, -f),
        "hinge": (max(0, 1 - r) + max(0, 1 + f), -f),
        "relativistic": (-log(sigmoid(r - f)), -log(sigmoid(f - r))),
        "relativistic-average": (
            -log(sigmoid(r - MEAN_FAKE)) - log(1 - sigmoid(f - MEAN_REAL)),
            -log(sigmoid(f - MEAN_REAL)) - log(1 - sigmoid(r - MEAN_FAKE)),
        ),
    }
    return by_name[name]


def logits(values: list[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("name", get_args(LossName))
def test_losses_are_the_papers_per_sample(name: LossName):
    real, fake = logits(REAL), logits(FAKE)
    expected = torch.tensor([by_hand(name, r, f) for r, f in zip(REAL, FAKE, strict=True)], dtype=torch.float64)
    torch.testing.assert_close(discriminator_loss(name, real, fake), expected[:, 0])
    torch.testing.assert_close(generator_loss(name, real, fake), expected[:, 1])


@pytest.mark.parametrize("name", get_args(LossName))
def test_losses_and_gradients_are_finite_at_logits_where_the_sigmoid_is_0_or_1(name: LossName):
    real = torch.tensor([-1e4, 1e4, 200.0], requires_grad=True)
    fake = torch.tensor([1e4, -1e4, -200.0], requires_grad=True)
    total = discriminator_loss(name, real, fake).sum() + generator_loss(name, real, fake).sum()
    gradients = torch.autograd.grad(total, [real, fake])
    assert total.isfinite()
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("name", get_args(LossName))
def test_gradients_agree_with_finite_differences(name: LossName):
    real, fake = logits(REAL), logits(FAKE)
    assert torch.autograd.gradcheck(lambda r, f: discriminator_loss(name, r, f), (real, fake))
    assert torch.autograd.gradcheck(lambda r, f: generator_loss(name, r, f), (real, fake))


def test_minimax_generator_is_the_negative_of_the_discriminators_fake_part():
    fake = logits(FAKE)
    sure = torch.full_like(fake, 1e4)  # the real part is 0 where D is sure
    assert torch.equal(generator_loss("minimax", sure, fake), -discriminator_loss("minimax", sure, fake))


def test_non_saturating_generator_pushes_where_minimax_has_no_gradient():
    fake = logits([-30.0])
    (weak,) = torch.autograd.grad(generator_loss("minimax", fake, fake).sum(), fake)
    (strong,) = torch.autograd.grad(generator_loss("non-saturating", fake, fake).sum(), fake)
    assert abs(weak.item()) < 1e-12
    assert strong.item() == pytest.approx(-1.0)


@pytest.mark.parametrize("name", ["relativistic", "relativistic-average"])
def test_relativistic_losses_see_only_differences_and_are_symmetric(name: LossName):
    real, fake = logits(REAL), logits(FAKE)
    torch.testing.assert_close(discriminator_loss(name, real + 7, fake + 7), discriminator_loss(name, real, fake))
    torch.testing.assert_close(generator_loss(name, real, fake), discriminator_loss(name, fake, real))


@pytest.mark.parametrize("name", [n for n in get_args(LossName) if not n.startswith("relativistic")])
def test_generator_of_the_other_losses_ignores_real_logits(name: LossName):
    fake = logits(FAKE)
    assert torch.equal(generator_loss(name, logits(REAL), fake), generator_loss(name, -logits(REAL), fake))


@pytest.mark.parametrize("name", ["minimax", "non-saturating"])
def test_label_smoothing_moves_the_optimum_to_the_smoothed_label(name: LossName):
    """The real part −(1−s) log σ − s log(1−σ) is least where σ(r) = 1 − s."""
    smoothing = 0.1
    optimum = logits([math.log((1 - smoothing) / smoothing)])
    values = discriminator_loss(name, optimum, logits([0.0]), smoothing)
    expected = -(1 - smoothing) * math.log(1 - smoothing) - smoothing * math.log(smoothing) + math.log(2)
    assert values.item() == pytest.approx(expected)
    (slope,) = torch.autograd.grad(values.sum(), optimum)
    assert slope.item() == pytest.approx(0.0, abs=1e-12)
