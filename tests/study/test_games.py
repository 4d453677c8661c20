"""The games of a study: fields by hand, scores of known generators, draws by seed and round alone."""

import math

import pytest
import torch
from torch import Tensor, nn

from equipoise.study import games
from equipoise.study.cells import ROUNDS, Cell, play
from equipoise.study.games import START, begun, ceiling
from equipoise.study.methods import LOSSES, METHODS, PLAIN, PRACTICAL, game_of, go_together
from equipoise.study.page import descent, trajectory

SGD = METHODS["sgd"]


def bilinear(of_generator: float, of_discriminator: float) -> Cell:
    return Cell(
        game="bilinear",
        method="simultaneous sgd",
        loss="wasserstein",
        generator_rate=of_generator,
        discriminator_rate=of_discriminator,
    )


def sigma(value: float) -> float:
    return 1 / (1 + math.exp(-value))


FIELDS = {  # of Dirac's game, −∂L_G/∂θ and −∂L_D/∂ψ
    "minimax": lambda t, p: (sigma(p * t) * p, -sigma(p * t) * t),
    "non-saturating": lambda t, p: (sigma(-p * t) * p, -sigma(p * t) * t),
    "non-saturating + R1": lambda t, p: (sigma(-p * t) * p, -sigma(p * t) * t - 0.3 * p),
    "wasserstein": lambda t, p: (p, -t),
}


@pytest.mark.parametrize("point", [(1.0, -1.0), (0.3, 0.8), (-1.5, 0.2)])
@pytest.mark.parametrize("loss", FIELDS)
def test_the_field_of_two_weights_is_the_one_by_hand(loss: str, point: tuple[float, float]) -> None:
    assert descent("dirac", loss, *point) == pytest.approx(FIELDS[loss](*point), abs=1e-12)
    assert descent("bilinear", loss, *point)[0] == pytest.approx(point[1], abs=1e-12)


def test_a_way_through_a_field_follows_the_rule() -> None:
    cell = Cell(
        game="bilinear", method="simultaneous sgd", loss="wasserstein", generator_rate=0.1, discriminator_rate=0.2
    )
    points = trajectory(cell, 3)
    theta, psi = START
    assert points[0] == pytest.approx(START)
    for point in points[1:]:
        theta, psi = theta + 0.1 * psi, psi - 0.2 * theta
        assert point == pytest.approx((theta, psi))


def test_the_score_of_two_weights_is_the_share_of_the_way_that_is_left_behind() -> None:
    arena = begun("dirac", game_of(SGD, "minimax", 0.1, 0.1, 128), 0)
    assert arena.score() == pytest.approx(0, abs=1e-12)
    for player, value in ((arena.players.generator, 0.3), (arena.players.discriminator, 0.4)):
        with torch.no_grad():
            next(player.parameters()).fill_(value)
    assert arena.score() == pytest.approx(1 - 0.5 / math.sqrt(2))
    with torch.no_grad():
        next(arena.players.generator.parameters()).fill_(2 * games.FAR)
    assert math.isnan(arena.score())


class Fixed(nn.Module):
    """A generator that draws from a fixed set of points."""

    def __init__(self, points: Tensor) -> None:
        super().__init__()
        self.points = points

    def forward(self, latents: Tensor) -> Tensor:
        return self.points[torch.arange(len(latents)) % len(self.points)]


@pytest.mark.parametrize(("name", "num"), [("ring", 8), ("grid", 25)])
def test_the_score_of_points_is_the_probability_in_common_with_the_modes(name: str, num: int) -> None:
    arena = begun(name, game_of(SGD, "minimax", 0.1, 0.1, 128), 0)
    mixture = {"ring": games.ring, "grid": games.grid}[name]()

    def scored(points: Tensor) -> float:
        arena.players.generator.forward = Fixed(points).forward  # type: ignore[method-assign]
        return arena.score()

    assert scored(mixture.centres) == pytest.approx(1, abs=0.01)
    assert scored(mixture.centres[:1]) == pytest.approx(1 / num, abs=0.01)
    assert scored(mixture.centres[: num // 2]) == pytest.approx(num // 2 / num, abs=0.01)
    assert scored(torch.full((4, 2), 77.0)) == 0


@pytest.mark.parametrize(
    ("name", "least", "most"), [("ring", 0.94, 1), ("grid", 0.9, 1), ("digits", 0.8, 1), ("dirac", 1, 1)]
)
def test_the_ceiling_is_below_one_by_what_samples_vary(name: str, least: float, most: float) -> None:
    assert least <= ceiling(name) <= most


def test_the_score_of_digits_tells_real_ones_from_noise_and_from_one_picture() -> None:
    digits = games._small_digits()
    shuffled = digits[torch.randperm(len(digits), generator=torch.Generator().manual_seed(7))]
    assert games._in_common(shuffled) > 0.85
    assert games._in_common(digits[:1].expand(2_500, -1)) < 0.1
    assert games._in_common(torch.rand(2_500, digits.shape[1]) * 2 - 1) == 0
    assert games._in_common(digits.mean(0, keepdim=True).expand(2_500, -1)) < 0.1


@pytest.mark.parametrize("game", ["ring", "digits"])
def test_a_cell_is_a_function_of_what_it_says_alone(game: str) -> None:
    cell = Cell(
        game=game,
        method="adam",
        loss="wasserstein + GP",
        generator_rate=1e-3,
        discriminator_rate=1e-3,
        seed=3,
        rounds=6,
    )
    torch.manual_seed(1)
    first = play(cell)
    torch.manual_seed(2)
    assert play(cell).score == first.score
    arena = begun(game, game_of(METHODS["adam"], "minimax", 1e-3, 1e-3, 128), 3)
    one, other = (arena.terms(0)("discriminator", draw).losses["adversarial"] for draw in (0, 1))
    assert not torch.equal(one, other)


@pytest.mark.parametrize("game", ROUNDS)
def test_every_method_plays_every_game_it_can(game: str) -> None:
    losses = ("minimax", "wasserstein + GP") if game in ("dirac", "bilinear") else ("minimax",)
    methods = PLAIN if game in ("dirac", "bilinear") else PRACTICAL
    for method in methods:
        for loss in losses:
            if go_together(METHODS[method], loss):
                cell = Cell(game=game, method=method, loss=loss, generator_rate=1e-3, discriminator_rate=1e-3, rounds=2)
                assert not play(cell).is_lost, (method, loss)


def test_a_game_that_runs_away_ends_early_and_diverges() -> None:
    cell = Cell(
        game="bilinear", method="simultaneous sgd", loss="wasserstein", generator_rate=3.0, discriminator_rate=3.0
    )
    found = play(cell)
    assert found.outcome == "diverges"
    assert found.score == 0
    assert len(found.path) < 20


def test_methods_and_losses_that_do_not_go_together_are_told() -> None:
    assert not go_together(METHODS["competitive rmsprop"], "non-saturating")
    assert all(go_together(METHODS["adam"], loss) for loss in LOSSES)
