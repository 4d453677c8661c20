"""The Dirac-GAN of arXiv:1801.04406, section 2: published games, and where 500 updates of each take them.

Data is a point at 0, G's only sample is θ, D(x) = ψx, the step 0.2, the start (θ, ψ) = (1, 1) in that paper's sign, in
which D is low on real data: ψ = −1 in ours. The golden alternation moves G first, and a round of ours D: so G takes one
step by itself, then come 499 rounds, then D's step. The golden radii were computed in float64.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn

from equipoise.game.losses import loss_named
from equipoise.game.penalties import wgan_gp, zero_centered
from equipoise.game.updates import Players, Role, Terms, Update, make_update
from equipoise.recipe import Correction, Game, LossName, OptimizerSettings, UpdateName

STEP = 0.2
NUM_UPDATES = 500
REAL = torch.zeros(1, dtype=torch.float64)


class Number(nn.Module):
    """A network of one weight."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([value], dtype=torch.float64))


@dataclass(frozen=True)
class Dirac:
    """One of the games that are played there."""

    loss: LossName
    penalty: Literal["none", "r1", "wgan-gp"] = "none"
    gamma: float = 0.0
    weight_clip: float | None = None

    def update(
        self, rule: UpdateName, theta: float, psi: float, *, step: float = STEP, num_steps: int = 1, **options: Any
    ) -> Update:
        """Return the update of this game at a point."""
        settings = OptimizerSettings(optimizer="sgd", rate=step)
        game = Game(
            update=rule,
            generator=settings,
            discriminator=settings,
            discriminator_steps=num_steps,
            weight_clip=self.weight_clip,
            **options,
        )
        return make_update(game, Players(Number(theta), Number(psi)))

    def terms(self, players: Players, role: Role) -> Terms:
        """Return a player's loss terms at the present point."""
        theta, psi = players.generator.weight, players.discriminator.weight
        assert isinstance(theta, Tensor)
        assert isinstance(psi, Tensor)
        loss = loss_named(self.loss)
        if role == "generator":
            return Terms({"adversarial": loss.generator(psi * REAL, psi * theta)}, {})
        real = REAL.clone().requires_grad_()
        losses = {"adversarial": loss.discriminator(psi * real, psi * theta)}
        if self.penalty == "r1":
            losses["r1"] = zero_centered(psi * real, real, self.gamma)
        elif self.penalty == "wgan-gp":
            critic, fake = (lambda points: psi * points), theta.detach()
            losses["wgan-gp"] = wgan_gp(critic, REAL, fake, self.gamma, torch.Generator())
        return Terms(losses, {})

    def play(self, update: Update, num: int, only: Role | None = None) -> None:
        """Play rounds, of both players or with one of them at rest."""
        for _ in range(num):
            update.round(
                lambda role, draw: Terms({}, {}) if only not in (None, role) else self.terms(update.players, role)
            )


def point(update: Update) -> list[float]:
    """Return where the players stand."""
    return [next(update.players.of(role).parameters()).item() for role in ("generator", "discriminator")]


def final_radius(game: Dirac, rule: UpdateName, num_steps: int = 1, **options: Any) -> float:
    update = game.update(rule, 1.0, -1.0, num_steps=num_steps, **options)
    if rule == "alternating":
        game.play(update, 1, only="generator")
        game.play(update, NUM_UPDATES - 1)
        game.play(update, 1, only="discriminator")
    else:
        game.play(update, NUM_UPDATES)
    return math.hypot(*point(update))


# A game, its radius after simultaneous play, after alternating play, and with five steps of D for one of G.
GOLDEN = {
    "minimax": (Dirac("minimax"), "3.09695", "1.42102", "1.84527"),
    "non-saturating": (Dirac("non-saturating"), "0.640207", "0.283923", "0.138877"),
    "wgan": (Dirac("wasserstein", weight_clip=1.0), "1.00215", "1.02412", "0.916885"),
    # The published weight, 0.7, multiplies ½(‖∇D‖ − 1)².
    "wgan-gp": (Dirac("wasserstein", "wgan-gp", gamma=0.35), "1.80179", "1.22107", "0.716301"),
    "minimax + R1": (Dirac("minimax", "r1", gamma=0.3), "2.64266e-06", "2.30091e-07", "9.2e-34"),
    "non-saturating + R1": (Dirac("non-saturating", "r1", gamma=0.3), "2.21196e-06", "1.49942e-07", "4.0e-34"),
    "minimax + strong R1": (Dirac("minimax", "r1", gamma=1.0), "9.5e-22", "7.5e-17", "5.1435e-12"),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_simultaneous_play_ends_at_the_golden_radius(name: str):
    game, golden, _, _ = GOLDEN[name]
    assert rounded(final_radius(game, "simultaneous"), golden) == golden


@pytest.mark.parametrize("name", GOLDEN)
def test_alternating_play_ends_at_the_golden_radius(name: str):
    game, _, golden, _ = GOLDEN[name]
    assert rounded(final_radius(game, "alternating"), golden) == golden


@pytest.mark.parametrize("name", GOLDEN)
def test_five_discriminator_steps_end_at_the_golden_radius(name: str):
    game, _, _, golden = GOLDEN[name]
    assert rounded(final_radius(game, "alternating", num_steps=5), golden) == golden


# Of the bilinear game, Dirac's WGAN without any bound.
OF_UPDATES: dict[str, tuple[UpdateName, dict[str, Any], str]] = {
    "simultaneous": ("simultaneous", {}, "25636"),
    "alternating": ("alternating", {}, "1.39786"),
    "extragradient": ("extragradient", {}, "7.92736e-05"),
    "optimistic": ("optimistic", {}, "3.47074e-05"),
    "competitive": ("competitive", {}, "7.80154e-05"),
    "lookahead on simultaneous": ("simultaneous", {"lookahead": 5}, "0.000674544"),
}


@pytest.mark.parametrize("name", OF_UPDATES)
def test_the_bilinear_game_ends_at_the_golden_radius_of_each_update(name: str):
    rule, options, golden = OF_UPDATES[name]
    assert rounded(final_radius(Dirac("wasserstein"), rule, **options), golden) == golden


def test_past_extragradient_ends_at_the_golden_radius():
    """The golden first half step is taken with the field at the start; ours begins with a step of nothing."""
    game = Dirac("wasserstein")
    update = game.update("past-extragradient", 1.0, -1.0)
    update.memory["generator.direction.0"] = torch.tensor([STEP * -1.0], dtype=torch.float64)  # θ' = ψ
    update.memory["discriminator.direction.0"] = torch.tensor([-STEP * 1.0], dtype=torch.float64)  # ψ' = −θ
    game.play(update, NUM_UPDATES)
    assert rounded(math.hypot(*point(update)), "3.32586e-05") == "3.32586e-05"


def test_lookahead_on_alternating_play_ends_at_the_golden_radius():
    """The golden alternation moves G first; in this game the players' names can be exchanged, θ → −ψ and ψ → θ."""
    game = Dirac("wasserstein")
    update = game.update("alternating", 1.0, 1.0, lookahead=5)
    game.play(update, NUM_UPDATES)
    assert rounded(math.hypot(*point(update)), "2.8717e-06") == "2.8717e-06"


def consensus_field(theta: float, psi: float, counted: float = 1.0) -> tuple[float, float]:
    """Return v + ∇½‖v‖² of minimax by formulas: v = (−σ(ψθ) ψ, σ(ψθ) θ), and ½‖v‖² = ½ σ² (θ² + ψ²).

    `counted` is how much of the part counts that comes from the slope of σ.
    """
    share = 1 / (1 + math.exp(-psi * theta))
    slope = counted * share**2 * (1 - share) * (theta**2 + psi**2)
    return -share * psi + share**2 * theta + slope * psi, share * theta + share**2 * psi + slope * theta


def test_consensus_ends_where_the_gradient_of_half_the_fields_square_leads():
    game = Dirac("minimax")
    update = game.update("simultaneous", 1.0, -1.0, correction=Correction(kind="consensus", weight=1.0))
    theta, psi = 1.0, -1.0
    for _ in range(NUM_UPDATES):
        of_theta, of_psi = consensus_field(theta, psi)
        theta, psi = theta - STEP * of_theta, psi - STEP * of_psi
    game.play(update, NUM_UPDATES)
    assert point(update) == pytest.approx([theta, psi], rel=1e-6)
    assert math.hypot(*point(update)) == pytest.approx(2.57855e-10, rel=1e-5)


@pytest.mark.parametrize(("num_steps", "golden"), [(None, "2.08084e-10"), (1, "1.33231e-11"), (5, "4.6e-33")])
def test_the_golden_radii_of_consensus_are_those_of_half_a_second_derivative(num_steps: int | None, golden: str):
    """They count half of the part that comes from the slope of σ, so ours, the whole gradient, ends elsewhere."""
    theta, psi = 1.0, -1.0
    for _ in range(NUM_UPDATES):
        of_theta, of_psi = consensus_field(theta, psi, counted=0.5)
        theta -= STEP * of_theta
        if num_steps is None:
            psi -= STEP * of_psi
            continue
        for _ in range(num_steps):
            psi -= STEP * consensus_field(theta, psi, counted=0.5)[1]
    assert rounded(math.hypot(theta, psi), golden) == golden


def test_linearised_r1_game_contracts_at_the_published_eigenvalues():
    """Near the equilibrium the field is linear with eigenvalues −γ/2 ± √(γ²/4 − ¼): arXiv:1801.04406, lemma 4.1."""
    gamma, epsilon, step = 0.3, 1e-6, 1e-3
    game = Dirac("minimax", "r1", gamma=gamma)
    columns = []
    for start in ((epsilon, 0.0), (0.0, epsilon)):
        update = game.update("simultaneous", *start, step=step)
        game.play(update, 1)
        moved = torch.tensor(point(update), dtype=torch.float64) - torch.tensor(start, dtype=torch.float64)
        columns.append(moved / step / epsilon)
    eigenvalues = torch.linalg.eigvals(torch.stack(columns, dim=1))
    expected = complex(-gamma / 2, math.sqrt(0.25 - gamma**2 / 4))
    for eigenvalue in eigenvalues.tolist():
        assert abs(complex(eigenvalue.real, abs(eigenvalue.imag)) - expected) < 1e-6


def rounded(radius: float, golden: str) -> str:
    """Write a radius with as many significant digits as the golden value has."""
    digits = len(golden.split("e")[0].replace(".", "").lstrip("0"))
    return f"{radius:#.{digits}g}".rstrip(".")
