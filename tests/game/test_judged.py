"""Terms of what a discriminator says besides a logit, by hand; codes are uniform; energies."""

import math

import pytest
import torch

from equipoise.game.judged import Codes, Judged, codes_of, information_loss, judged, naming_loss, pulling_away
from equipoise.game.losses import loss_named


def test_naming_a_class_costs_minus_the_log_of_its_probability() -> None:
    logits = torch.tensor([[1.0, 2.0, 0.5], [0.0, 0.0, 0.0]])
    total = sum(math.exp(value) for value in (1.0, 2.0, 0.5))
    expected = torch.tensor([-math.log(math.exp(2.0) / total), math.log(3)])
    torch.testing.assert_close(naming_loss(logits, torch.tensor([1, 2])), expected)


def test_of_several_labels_each_is_named_by_itself() -> None:
    def minus_log(logit: float, label: int) -> float:
        probability = 1 / (1 + math.exp(-logit))
        return -math.log(probability if label else 1 - probability)

    logits, labels = [1.0, -2.0, 0.5], [1, 0, 0]
    expected = sum(map(minus_log, logits, labels))
    found = naming_loss(torch.tensor([logits]), torch.tensor([labels]))
    torch.testing.assert_close(found, torch.tensor([expected]))


def test_reading_codes_costs_a_cross_entropy_and_half_of_each_square() -> None:
    read = torch.tensor([[0.0, math.log(3), 0.5, -1.0]])
    codes = Codes(torch.tensor([1]), torch.tensor([[0.1, 0.0]]))
    expected = -math.log(3 / 4) + 0.5 * (0.4**2 + 1.0**2)
    torch.testing.assert_close(information_loss(read, codes), torch.tensor([expected]))
    torch.testing.assert_close(information_loss(read[:, 2:], Codes(None, codes.numbers)), torch.tensor([0.58]))
    alone = Codes(codes.categories, codes.numbers[:, :0])
    torch.testing.assert_close(information_loss(read[:, :2], alone), torch.tensor([-math.log(3 / 4)]))


def test_the_codes_of_normal_latents_are_uniform_and_do_not_depend_on_each_other() -> None:
    latents = torch.randn(40_000, 9, generator=torch.Generator().manual_seed(0))
    codes = codes_of(latents, 5, 2)
    assert codes.categories is not None
    shares = torch.bincount(codes.categories, minlength=5) / 40_000
    assert (shares - 0.2).abs().max() < 5 * math.sqrt(0.16 / 40_000)
    for numbers in codes.numbers.T:
        quantiles = torch.quantile(numbers, torch.linspace(0, 1, 11))
        torch.testing.assert_close(quantiles, torch.linspace(-1, 1, 11), atol=0.03, rtol=0)
    assert torch.corrcoef(codes.numbers.T)[0, 1].abs() < 0.03
    means = torch.stack([codes.numbers[codes.categories == place].mean(0) for place in range(5)])
    assert means.abs().max() < 0.04


def test_without_categories_the_codes_are_the_first_numbers() -> None:
    codes = codes_of(torch.tensor([[0.0, 1.0, 5.0]]), 0, 2)
    assert codes.categories is None
    torch.testing.assert_close(codes.numbers, torch.tensor([[0.0, math.erf(1 / math.sqrt(2))]]))


def test_codes_are_pulled_away_from_those_of_the_same_direction() -> None:
    codes = torch.tensor([[1.0, 0.0], [0.0, 3.0], [2.0, 2.0]])
    expected = torch.tensor([(0 + 0.5) / 2, (0 + 0.5) / 2, (0.5 + 0.5) / 2])
    torch.testing.assert_close(pulling_away(codes), expected)
    torch.testing.assert_close(pulling_away(torch.ones(4, 2)), torch.ones(4))


def test_energies_below_the_margin_are_raised_and_no_others() -> None:
    loss = loss_named("energy", margin=0.5)
    real, fake = torch.tensor([-0.1, -0.1]), torch.tensor([-0.2, -0.8], requires_grad=True)
    found = loss.discriminator(real, fake)
    torch.testing.assert_close(found, torch.tensor([0.1 + 0.3, 0.1]))
    (slope,) = torch.autograd.grad(found.sum(), fake)
    assert slope.tolist() == [1.0, 0.0]
    torch.testing.assert_close(loss.generator(real, fake), torch.tensor([0.2, 0.8]))


def test_logits_alone_are_a_record_too() -> None:
    logits = torch.randn(3)
    assert judged(logits).logits is logits
    record = Judged(logits)
    assert judged(record) is record


@pytest.mark.parametrize("num", [0, 3])
def test_gradients_of_the_terms_agree_with_finite_differences(num: int) -> None:
    read = torch.randn(4, num + 2, dtype=torch.float64, requires_grad=True)
    codes = codes_of(torch.randn(4, 6, dtype=torch.float64), num, 2)
    assert read.shape[1] == num + 2
    (slope,) = torch.autograd.grad(information_loss(read, codes).sum(), read)
    torch.testing.assert_close(slope[:, num:], read.detach()[:, num:] - codes.numbers, atol=1e-5, rtol=1e-4)
