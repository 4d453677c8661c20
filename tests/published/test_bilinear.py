"""The bilinear game min_x max_y xy: by what factor one round brings the players nearer to their equilibrium.

The published spectral radii (Gidel et al., arXiv:1802.10551; Korpelevich 1976) for a step a; below 1 it converges.
"""

import math

import pytest
import torch
from torch import Tensor, nn

from equipoise.game.updates import Players, Role, Terms, make_update
from equipoise.recipe import Game, OptimizerSettings, UpdateName


class Number(nn.Module):
    """A network of one weight."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([value], dtype=torch.float64))


def after_a_round(rule: UpdateName, step: float, x: float, y: float) -> Tensor:
    """Return where one round takes the players from a point."""
    settings = OptimizerSettings(optimizer="sgd", rate=step)
    players = Players(Number(x), Number(y))
    update = make_update(Game(update=rule, generator=settings, discriminator=settings), players)

    def terms(role: Role, draw: int) -> Terms:
        weights = [next(players.of(one).parameters()) for one in ("generator", "discriminator")]
        product = weights[0] * weights[1]
        return Terms({"product": product if role == "generator" else -product}, {})

    update.round(terms)
    return torch.cat([next(players.of(one).parameters()).detach() for one in ("generator", "discriminator")])


def spectral_radius(rule: UpdateName, step: float) -> float:
    """Return the largest modulus of the eigenvalues of a round, which is linear in the point."""
    matrix = torch.stack([after_a_round(rule, step, *start) for start in ((1.0, 0.0), (0.0, 1.0))], dim=1)
    torch.testing.assert_close(after_a_round(rule, step, 2.0, -3.0), matrix @ torch.tensor([2.0, -3.0]).double())
    return torch.linalg.eigvals(matrix).abs().max().item()


PUBLISHED = {"simultaneous": "1.04403", "alternating": "1.00000", "extragradient": "0.95818"}


@pytest.mark.parametrize("rule", PUBLISHED)
def test_spectral_radius_at_a_step_of_three_tenths_is_the_published_one(rule: UpdateName):
    assert f"{spectral_radius(rule, 0.3):.5f}" == PUBLISHED[rule]


@pytest.mark.parametrize("step", [0.01, 0.1, 0.5, 0.9])
def test_spectral_radii_follow_their_formulas(step: float):
    assert spectral_radius("simultaneous", step) == pytest.approx(math.sqrt(1 + step**2), rel=1e-12)
    assert spectral_radius("alternating", step) == pytest.approx(1.0, rel=1e-12)
    assert spectral_radius("extragradient", step) == pytest.approx(math.sqrt(1 - step**2 + step**4), rel=1e-12)


def test_alternating_play_stays_on_its_orbit_up_to_a_step_of_two():
    assert spectral_radius("alternating", 1.99) == pytest.approx(1.0, rel=1e-9)
    assert spectral_radius("alternating", 2.1) > 1.5
