"""The bilinear game min_x max_y xy: by what factor a round brings the players nearer to their equilibrium.

The published spectral radii (Gidel et al., arXiv:1802.10551; Korpelevich 1976; Schäfer and Anandkumar,
arXiv:1905.12103; Mescheder et al., arXiv:1705.10461; Balduzzi et al., arXiv:1802.05642; Chavdarova et al.,
arXiv:2006.14567) for a step a; below 1 it converges.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from equipoise.game.updates import ROLES, Players, Role, Terms, Update, make_update
from equipoise.recipe import Correction, Game, OptimizerSettings, UpdateName


class Number(nn.Module):
    """A network of one weight."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([value], dtype=torch.float64))


@dataclass(frozen=True)
class Method:
    """A way of playing, and how many rounds of it are one linear map."""

    update: UpdateName = "simultaneous"
    options: dict[str, Any] = field(default_factory=dict)
    num_rounds: int = 1
    remembers: bool = False  # its map is of the weights and of the last step


METHODS = {
    "simultaneous": Method(),
    "alternating": Method("alternating"),
    "extragradient": Method("extragradient"),
    "optimistic": Method("optimistic", remembers=True),
    "past extragradient": Method("past-extragradient", remembers=True),
    "competitive": Method("competitive"),
    "consensus": Method(options={"correction": Correction(kind="consensus", weight=1.0)}),
    "symplectic": Method(options={"correction": Correction(kind="symplectic", weight=1.0)}),
    "lookahead on simultaneous": Method(options={"lookahead": 5}, num_rounds=5),
    "lookahead on alternating": Method("alternating", {"lookahead": 5}, num_rounds=5),
    "lookahead of 20": Method(options={"lookahead": 20}, num_rounds=20),
}


def played(method: Method, step: float, point: list[float]) -> Tensor:
    """Return where the rounds of one map take a point: (x, y), or (x, y, last step of x, last step of y)."""
    settings = OptimizerSettings(optimizer="sgd", rate=step)
    players = Players(Number(point[0]), Number(point[1]))
    game = Game(loss="minimax", update=method.update, generator=settings, discriminator=settings, **method.options)
    update = make_update(game, players)
    if method.remembers:
        set_last_step(update, point[2:])

    def terms(role: Role, draw: int) -> Terms:
        weights = [next(players.of(one).parameters()) for one in ROLES]
        product = weights[0] * weights[1]
        return Terms({"product": product if role == "generator" else -product}, {})

    for _ in range(method.num_rounds):
        update.round(terms)
    found = [next(players.of(one).parameters()).detach() for one in ROLES]
    if method.remembers:
        found += [update.memory[f"{role}.direction.0"] for role in ROLES]
    return torch.cat(found)


def set_last_step(update: Update, steps: list[float]) -> None:
    """Let an update remember steps, as if rounds had been played."""
    for role, step in zip(ROLES, steps, strict=True):
        update.memory[f"{role}.direction.0"] = torch.tensor([step], dtype=torch.float64)
        update.memory[f"{role}.count.0"] = torch.ones((), dtype=torch.float64)


def spectral_radius(method: Method, step: float) -> float:
    """Return the largest modulus of the eigenvalues of a map, which is linear in the point."""
    num = 4 if method.remembers else 2
    columns = [played(method, step, one) for one in torch.eye(num).tolist()]
    matrix = torch.stack(columns, dim=1)
    somewhere = [2.0, -3.0, 0.5, 0.25][:num]
    torch.testing.assert_close(played(method, step, somewhere), matrix @ torch.tensor(somewhere).double())
    return torch.linalg.eigvals(matrix).abs().max().item()


PUBLISHED = {
    "simultaneous": "1.04403",
    "alternating": "1.00000",
    "extragradient": "0.95818",
    "optimistic": "0.94868",
    "past extragradient": "0.94868",
    "competitive": "0.95783",
    "consensus": "0.76158",
    "symplectic": "0.76158",
    "lookahead on simultaneous": "0.83959",
    "lookahead on alternating": "0.72975",
    "lookahead of 20": "1.648",
}


@pytest.mark.parametrize("name", METHODS)
def test_spectral_radius_at_a_step_of_three_tenths_is_the_published_one(name: str):
    golden = PUBLISHED[name]
    digits = len(golden.partition(".")[2])
    assert f"{spectral_radius(METHODS[name], 0.3):.{digits}f}" == golden


FORMULAS = {
    "simultaneous": lambda a: math.sqrt(1 + a**2),
    "alternating": lambda a: 1.0,
    "extragradient": lambda a: math.sqrt(1 - a**2 + a**4),
    "optimistic": lambda a: math.sqrt((1 + math.sqrt(1 - 4 * a**2)) / 2),
    "past extragradient": lambda a: math.sqrt((1 + math.sqrt(1 - 4 * a**2)) / 2),
    "competitive": lambda a: 1 / math.sqrt(1 + a**2),
    "consensus": lambda a: math.sqrt((1 - a) ** 2 + a**2),
    "symplectic": lambda a: math.sqrt((1 - a) ** 2 + a**2),
    "lookahead on simultaneous": lambda a: abs(0.5 + 0.5 * (1 + 1j * a) ** 5),
}


@pytest.mark.parametrize("step", [0.01, 0.1, 0.3, 0.49])
@pytest.mark.parametrize("name", FORMULAS)
def test_spectral_radii_follow_their_formulas(name: str, step: float):
    assert spectral_radius(METHODS[name], step) == pytest.approx(FORMULAS[name](step), rel=1e-10)


def test_alternating_play_stays_on_its_orbit_up_to_a_step_of_two():
    assert spectral_radius(METHODS["alternating"], 1.99) == pytest.approx(1.0, rel=1e-9)
    assert spectral_radius(METHODS["alternating"], 2.1) > 1.5


def test_optimistic_play_is_stable_below_a_step_of_one_over_the_root_of_three():
    assert spectral_radius(METHODS["optimistic"], 0.99 / math.sqrt(3)) < 1
    assert spectral_radius(METHODS["optimistic"], 1.01 / math.sqrt(3)) > 1
