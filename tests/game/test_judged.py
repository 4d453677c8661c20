"""Terms of what a discriminator says besides a logit, by hand; codes are uniform; energies."""

import math

import pytest
import torch

from equipoise.game.judged import (
    Codes,
    Judged,
    codes_of,
    information_loss,
    judged,
    naming_loss,
    pulling_away,
    with_category,
    with_number,
)
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


def test_latents_with_a_chosen_category_have_it_and_all_else_as_before() -> None:
    latents = torch.randn(500, 7)
    chosen = torch.arange(500) % 4
    found = with_category(latents, chosen, 4)
    codes = codes_of(found, 4, 1)
    assert codes.categories is not None
    assert codes.categories.equal(chosen)
    assert found[:, 4:].equal(latents[:, 4:])
    assert found[:, :4].sort(1).values.equal(latents[:, :4].sort(1).values), "the lengths would change"
    assert with_category(latents, 2, 4).equal(with_category(latents, torch.full((500,), 2), 4))


def test_latents_with_a_chosen_category_are_distributed_as_those_that_have_drawn_it() -> None:
    latents = torch.randn(200_000, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    drawn = latents[latents.argmax(1) == 1]
    forced = with_category(latents, 1, 3)
    for statistic in (
        lambda rows: rows.mean(0),
        lambda rows: rows.var(0),
        lambda rows: (rows[:, 0] * rows[:, 2]).mean(),
    ):
        assert torch.allclose(statistic(forced), statistic(drawn), atol=0.02)


def test_a_chosen_number_is_what_the_generator_is_told() -> None:
    latents = torch.randn(5, 6)
    values = torch.tensor([-0.9, -0.2, 0.0, 0.3, 0.95])
    found = with_number(latents, 3, values)
    assert torch.allclose(codes_of(found, 2, 3).numbers[:, 1], values, atol=1e-6)
    others = [0, 1, 2, 4, 5]
    assert found[:, others].equal(latents[:, others])
    assert codes_of(with_number(latents, 2, 0.5), 2, 1).numbers.flatten().tolist() == pytest.approx([0.5] * 5)
