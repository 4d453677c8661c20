"""The Dirac-GAN of arXiv:1801.04406, section 2: published games, and where 500 updates of each take them.

Data is a point at 0, G's only sample is θ, D(x) = ψx, the step 0.2, the start (θ, ψ) = (1, 1) in that paper's sign, in
which D is low on real data: ψ = −1 in ours. Alternating play moves G first. The golden radii were computed in float64.
"""

import math
from dataclasses import dataclass
from typing import Literal

import pytest
import torch
from torch import Tensor

from equipoise.game.losses import discriminator_loss, generator_loss
from equipoise.game.penalties import wgan_gp, zero_centered
from equipoise.recipe import LossName

STEP = 0.2
NUM_UPDATES = 500
REAL = torch.zeros(1, dtype=torch.float64)


@dataclass(frozen=True)
class DiracGame:
    loss: LossName
    penalty: Literal["none", "r1", "wgan-gp"] = "none"
    gamma: float = 0.0
    weight_clip: float = math.inf

    def generator_gradient(self, theta: Tensor, psi: Tensor) -> Tensor:
        theta = theta.clone().requires_grad_()
        loss = generator_loss(self.loss, psi * REAL, psi * theta)
        return torch.autograd.grad(loss.sum(), theta)[0]

    def discriminator_gradient(self, theta: Tensor, psi: Tensor) -> Tensor:
        psi = psi.clone().requires_grad_()
        real = REAL.clone().requires_grad_()
        real_logits = psi * real
        loss = discriminator_loss(self.loss, real_logits, psi * theta)
        if self.penalty == "r1":
            loss = loss + zero_centered(real_logits, real, self.gamma)
        elif self.penalty == "wgan-gp":
            loss = loss + wgan_gp(lambda images: psi * images, REAL, theta, self.gamma, torch.Generator())
        return torch.autograd.grad(loss.sum(), psi)[0]


def final_radius(game: DiracGame, *, simultaneous: bool, discriminator_steps: int = 1) -> float:
    theta, psi = torch.ones(1, dtype=torch.float64), -torch.ones(1, dtype=torch.float64)
    for _ in range(NUM_UPDATES):
        moved = theta - STEP * game.generator_gradient(theta, psi)
        seen = theta if simultaneous else moved
        for _ in range(discriminator_steps):
            psi = psi - STEP * game.discriminator_gradient(seen, psi)
            psi = psi.clamp(-game.weight_clip, game.weight_clip)
        theta = moved
    return math.hypot(theta.item(), psi.item())


# A game, its radius after simultaneous play, after alternating play, and with five steps of D for one of G.
GOLDEN = {
    "minimax": (DiracGame("minimax"), "3.09695", "1.42102", "1.84527"),
    "non-saturating": (DiracGame("non-saturating"), "0.640207", "0.283923", "0.138877"),
    "wgan": (DiracGame("wasserstein", weight_clip=1.0), "1.00215", "1.02412", "0.916885"),
    # The published weight, 0.7, multiplies ½(‖∇D‖ − 1)².
    "wgan-gp": (DiracGame("wasserstein", "wgan-gp", gamma=0.35), "1.80179", "1.22107", "0.716301"),
    "minimax + R1": (DiracGame("minimax", "r1", gamma=0.3), "2.64266e-06", "2.30091e-07", "9.2e-34"),
    "non-saturating + R1": (DiracGame("non-saturating", "r1", gamma=0.3), "2.21196e-06", "1.49942e-07", "4.0e-34"),
    "minimax + strong R1": (DiracGame("minimax", "r1", gamma=1.0), "9.5e-22", "7.5e-17", "5.1435e-12"),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_simultaneous_play_ends_at_the_golden_radius(name: str):
    game, golden, _, _ = GOLDEN[name]
    assert rounded(final_radius(game, simultaneous=True), golden) == golden


@pytest.mark.parametrize("name", GOLDEN)
def test_alternating_play_ends_at_the_golden_radius(name: str):
    game, _, golden, _ = GOLDEN[name]
    assert rounded(final_radius(game, simultaneous=False), golden) == golden


@pytest.mark.parametrize("name", GOLDEN)
def test_five_discriminator_steps_end_at_the_golden_radius(name: str):
    game, _, _, golden = GOLDEN[name]
    assert rounded(final_radius(game, simultaneous=False, discriminator_steps=5), golden) == golden


def test_linearised_r1_game_contracts_at_the_published_eigenvalues():
    """Near the equilibrium the field is linear with eigenvalues −γ/2 ± √(γ²/4 − ¼): arXiv:1801.04406, lemma 4.1."""
    gamma, epsilon = 0.3, 1e-6
    game = DiracGame("minimax", "r1", gamma=gamma)
    columns = []
    for theta, psi in ((epsilon, 0.0), (0.0, epsilon)):
        point = torch.tensor([theta], dtype=torch.float64), torch.tensor([psi], dtype=torch.float64)
        columns.append(torch.cat([-game.generator_gradient(*point), -game.discriminator_gradient(*point)]) / epsilon)
    eigenvalues = torch.linalg.eigvals(torch.stack(columns, dim=1))
    expected = complex(-gamma / 2, math.sqrt(0.25 - gamma**2 / 4))
    for eigenvalue in eigenvalues.tolist():
        assert abs(complex(eigenvalue.real, abs(eigenvalue.imag)) - expected) < 1e-6


def rounded(radius: float, golden: str) -> str:
    """Write a radius with as many significant digits as the golden value has."""
    digits = len(golden.split("e")[0].replace(".", "").lstrip("0"))
    return f"{radius:#.{digits}g}"
