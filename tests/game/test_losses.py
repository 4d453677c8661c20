"""The losses against hand computation, their gradients, and identities between them."""

import math
from typing import get_args

import pytest
import torch

from equipoise.errors import Setting, UserError
from equipoise.game.losses import Loss, logit_stats, loss_named
from equipoise.recipe import PROBABILISTIC, LossName

NAMES: tuple[LossName, ...] = tuple(name for name in get_args(LossName) if name != "custom")
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
        "energy": (-r + max(0, 1 - (-f)), -f),  # E = −logit, m = 1
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


@pytest.mark.parametrize("name", NAMES)
def test_losses_are_the_papers_per_sample(name: LossName):
    real, fake = logits(REAL), logits(FAKE)
    expected = torch.tensor([by_hand(name, r, f) for r, f in zip(REAL, FAKE, strict=True)], dtype=torch.float64)
    torch.testing.assert_close(loss_named(name).discriminator(real, fake), expected[:, 0])
    torch.testing.assert_close(loss_named(name).generator(real, fake), expected[:, 1])


@pytest.mark.parametrize("name", NAMES)
def test_losses_and_gradients_are_finite_at_logits_where_the_sigmoid_is_0_or_1(name: LossName):
    real = torch.tensor([-1e4, 1e4, 200.0], requires_grad=True)
    fake = torch.tensor([1e4, -1e4, -200.0], requires_grad=True)
    total = loss_named(name).discriminator(real, fake).sum() + loss_named(name).generator(real, fake).sum()
    gradients = torch.autograd.grad(total, [real, fake])
    assert total.isfinite()
    assert all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_agree_with_finite_differences(name: LossName):
    real, fake = logits(REAL), logits(FAKE)
    assert torch.autograd.gradcheck(lambda r, f: loss_named(name).discriminator(r, f), (real, fake))
    assert torch.autograd.gradcheck(lambda r, f: loss_named(name).generator(r, f), (real, fake))


def test_minimax_generator_is_the_negative_of_the_discriminators_fake_part():
    fake = logits(FAKE)
    sure = torch.full_like(fake, 1e4)  # the real part is 0 where D is sure
    assert torch.equal(loss_named("minimax").generator(sure, fake), -loss_named("minimax").discriminator(sure, fake))


def test_non_saturating_generator_pushes_where_minimax_has_no_gradient():
    fake = logits([-30.0])
    (weak,) = torch.autograd.grad(loss_named("minimax").generator(fake, fake).sum(), fake)
    (strong,) = torch.autograd.grad(loss_named("non-saturating").generator(fake, fake).sum(), fake)
    assert abs(weak.item()) < 1e-12
    assert strong.item() == pytest.approx(-1.0)


@pytest.mark.parametrize("name", ["relativistic", "relativistic-average"])
def test_relativistic_losses_see_only_differences_and_are_symmetric(name: LossName):
    real, fake = logits(REAL), logits(FAKE)
    torch.testing.assert_close(
        loss_named(name).discriminator(real + 7, fake + 7), loss_named(name).discriminator(real, fake)
    )
    torch.testing.assert_close(loss_named(name).generator(real, fake), loss_named(name).discriminator(fake, real))


@pytest.mark.parametrize("name", [n for n in NAMES if not n.startswith("relativistic")])
def test_generator_of_the_other_losses_ignores_real_logits(name: LossName):
    fake = logits(FAKE)
    assert torch.equal(loss_named(name).generator(logits(REAL), fake), loss_named(name).generator(-logits(REAL), fake))


@pytest.mark.parametrize("name", ["minimax", "non-saturating"])
def test_label_smoothing_moves_the_optimum_to_the_smoothed_label(name: LossName):
    """The real part −(1−s) log σ − s log(1−σ) is least where σ(r) = 1 − s."""
    smoothing = 0.1
    optimum = logits([math.log((1 - smoothing) / smoothing)])
    values = loss_named(name, smoothing).discriminator(optimum, logits([0.0]))
    expected = -(1 - smoothing) * math.log(1 - smoothing) - smoothing * math.log(smoothing) + math.log(2)
    assert values.item() == pytest.approx(expected)
    (slope,) = torch.autograd.grad(values.sum(), optimum)
    assert slope.item() == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_only_a_loss_that_looks_at_real_logits_is_said_to(name: LossName):
    found, fake = loss_named(name), logits(FAKE)
    looks = not torch.equal(found.generator(logits(REAL), fake), found.generator(-logits(REAL), fake))
    assert found.uses_real == looks


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("minimax", "non-saturating")])
def test_smoothing_moves_no_loss_without_a_label(name: LossName):
    real, fake = logits(REAL), logits(FAKE)
    assert torch.equal(loss_named(name, 0.3).discriminator(real, fake), loss_named(name).discriminator(real, fake))


def test_functions_of_ones_own_have_no_name():
    with pytest.raises(UserError) as refused:
        loss_named("custom")
    assert refused.value.subject == Setting("game.loss", "custom")
    assert refused.value.remedies


# What the logits say


def stats_of(loss: Loss, real: list[float], fake: list[float]) -> dict[str, float]:
    return {name: value.item() for name, value in logit_stats(loss, torch.tensor(real), torch.tensor(fake)).items()}


@pytest.mark.parametrize("name", NAMES)
def test_logits_have_a_probability_only_where_the_loss_speaks_of_one(name: LossName):
    found = stats_of(loss_named(name), REAL, FAKE)
    assert found["real_logit"] == pytest.approx(MEAN_REAL)
    assert found["fake_logit"] == pytest.approx(MEAN_FAKE)
    for side in ("real_probability", "fake_probability"):
        assert math.isfinite(found[side]) == (name in PROBABILISTIC), side


@pytest.mark.parametrize("name", ["minimax", "non-saturating"])
def test_probability_of_a_logit_is_the_logistic_function(name: LossName):
    found = stats_of(loss_named(name), REAL, FAKE)
    assert found["real_probability"] == pytest.approx(sum(map(sigmoid, REAL)) / 3)
    assert found["fake_probability"] == pytest.approx(sum(map(sigmoid, FAKE)) / 3)


def test_probability_of_least_squares_is_the_logit_itself_within_0_and_1():
    found = stats_of(loss_named("least-squares"), [0.25, 3.0, -1.0], [0.5, 0.25, 0.75])
    assert (found["real_probability"], found["fake_probability"]) == pytest.approx((1.25 / 3, 0.5))


@pytest.mark.parametrize(
    ("name", "accuracy"),
    [
        ("minimax", 3 / 4),  # above 0: 0.4 and 2; below 0: -1
        ("hinge", 3 / 4),
        ("least-squares", 3 / 4),  # above ½: 2; below ½: 0.1 and -1
        ("relativistic", 2 / 2),  # 0.4 > 0.1 and 2 > -1
        ("relativistic-average", 2 / 2),
        ("wasserstein", 2 / 2),
    ],
)
def test_accuracy_is_by_the_boundary_of_the_loss_or_in_pairs_where_it_has_none(name: LossName, accuracy: float):
    assert stats_of(loss_named(name), [0.4, 2.0], [0.1, -1.0])["accuracy"] == pytest.approx(accuracy)


def test_pairs_of_unequal_numbers_are_compared_as_far_as_they_go():
    assert stats_of(loss_named("wasserstein"), [0.0, 1.0, -9.0], [-1.0, 2.0])["accuracy"] == 0.5


def test_a_loss_of_ones_own_says_itself_what_its_logits_mean():
    shifted = Loss(lambda r, f: f - r, lambda r, f: -f, boundary=2.0, probability=lambda logits: logits / 4)
    found = stats_of(shifted, [1.0, 3.0], [1.5, 1.0])
    assert (found["accuracy"], found["real_probability"], found["fake_probability"]) == (3 / 4, 0.5, 0.3125)
