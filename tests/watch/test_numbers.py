"""The numbers of a step and of a score: what logits mean, and what says nothing."""

import math
from typing import Any

import pytest
import torch

from equipoise.errors import Option, UserError
from equipoise.game.losses import logit_stats, loss_named
from equipoise.recipe import LossName
from equipoise.watch.numbers import logit_numbers, probability_numbers, score_of, stat_names

LOSSES: tuple[LossName | None, ...] = (
    *("minimax", "non-saturating", "least-squares", "hinge", "wasserstein"),
    *("relativistic", "relativistic-average", None),
)


@pytest.mark.parametrize("loss", LOSSES)
def test_numbers_of_logits_are_those_of_the_loop(loss: LossName | None) -> None:
    generator = torch.Generator().manual_seed(0)
    real = torch.randn(64, generator=generator) + 0.3
    fake = torch.randn(64, generator=generator)
    expected = {
        name: float(value) for name, value in logit_stats(loss_named(loss or "wasserstein"), real, fake).items()
    }
    expected = {name: value for name, value in expected.items() if not math.isnan(value)}
    found = {name: float(value) for name, value in logit_numbers(loss, real[:, None], fake[:, None]).items()}
    assert found == pytest.approx(expected)
    plain = {name: float(value) for name, value in logit_numbers(loss, real.tolist(), fake.numpy()).items()}
    assert plain == pytest.approx(expected, abs=1e-6)


def test_probabilities_have_an_accuracy_of_their_own() -> None:
    found = {name: float(value) for name, value in probability_numbers([0.9, 0.4], [0.2, 0.1]).items()}
    assert found == pytest.approx({"real_probability": 0.65, "fake_probability": 0.15, "accuracy": 0.75})


def test_a_mean_of_logits_has_no_accuracy() -> None:
    assert logit_numbers("hinge", 0.5, torch.tensor(-0.5)) == {"real_logit": 0.5, "fake_logit": torch.tensor(-0.5)}
    assert probability_numbers(0.75, None) == {"real_probability": 0.75}
    assert logit_numbers("hinge", None, None) == {}


def test_names_of_a_loops_own_lead_to_known_ones() -> None:
    found = stat_names({"d": "discriminator_loss"})
    assert (found["d"], found["real_logits"]) == ("discriminator_loss", "real_logits")
    with pytest.raises(UserError) as error:
        stat_names({"d": "d_los"})
    assert error.value.subject == Option("names")


def scored(metric: str, **numbers: Any) -> Any:
    return score_of(metric, numbers, 10, math.nan, "mine")


def test_a_score_holds_every_number_and_the_deciding_one_with_its_error() -> None:
    found = scored("fid", fid=12, coverage=0.5, recall=None)
    assert (found.loss, math.isnan(found.error), found.values) == (12.0, True, {"fid": 12.0, "coverage": 0.5})
    assert (found.samples, found.protocol) == (10, {"numbers": "mine"})
    assert scored("mmd", mmd=0.1, mmd_error=0.02).error == 0.02
    assert scored("kid", kid=0.1, kid_se=0.03).error == scored("kid", kid=0.1, kid_error=0.03).error == 0.03
    assert math.isnan(scored("loss", loss=math.nan).loss)


@pytest.mark.parametrize("numbers", [{}, {"kid_se": 0.0}, {"kid_se": math.nan}, {"kid_error": -1.0}])
def test_a_kid_below_zero_needs_its_error(numbers: dict[str, float]) -> None:
    with pytest.raises(UserError) as error:
        scored("kid", kid=-0.001, **numbers)
    assert error.value.subject == Option("kid", -0.001)
    assert error.value.remedies[-1] == Option("kid_error", 0.01)
    assert scored("kid", kid=-0.001, kid_se=0.01).loss == -0.001
