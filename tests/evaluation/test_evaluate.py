"""Judging beside the training: what the discriminator is asked changes nothing, and its gap has a scale or is none."""

import dataclasses
import math
from typing import Any

import pytest
import torch

from equipoise import loop
from equipoise.data.pool import Pool
from equipoise.evaluation import evaluate
from equipoise.evaluation.evaluate import discriminator_gap
from equipoise.randomness import Randomness
from equipoise.recipe import Recipe, with_settings
from equipoise.tasks.images import ImageProblem, Opinions

SETTINGS = ["networks.family=dcgan", "networks.width=8", "networks.latent_size=4", "game.batch=8"]


def made(pool: Pool, *settings: str) -> tuple[ImageProblem, Any]:
    recipe = with_settings(Recipe(), [*SETTINGS, *settings])
    problem = ImageProblem(recipe, pool, torch.device("cpu"), torch.float32)
    return problem, loop.start(problem, recipe)


@dataclasses.dataclass(frozen=True)
class Asked:
    """A problem whose discriminator says these logits."""

    found: Opinions

    def opinions(self, *_: Any) -> Opinions:
        return self.found


def gap_of(train: float, validation: float, generated: float, spread: float) -> float:
    around = spread * torch.tensor([-1.0, 1.0] * 250)
    asked: Any = Asked(Opinions(train + around, validation + around, generated + around))
    state: Any = type("State", (), {"players": None})
    return discriminator_gap(asked, state, 0)


def test_the_gap_is_the_share_of_the_way_from_train_to_generated() -> None:
    assert gap_of(2.0, 1.0, -2.0, spread=0.1) == pytest.approx(0.25)
    assert gap_of(2.0, 2.0, -2.0, spread=0.1) == pytest.approx(0.0)
    assert gap_of(2.0, -2.0, -2.0, spread=0.1) == pytest.approx(1.0)


def test_there_is_no_gap_where_the_discriminator_hardly_tells_real_from_generated() -> None:
    assert math.isnan(gap_of(0.1, 0.0, 0.0, spread=1.0))  # 0.1 is 1.6 standard errors
    assert math.isnan(gap_of(-1.0, 0.0, 1.0, spread=0.1))


@pytest.mark.parametrize("settings", [[], ["networks.conditional=true"]])
def test_asking_the_discriminator_changes_neither_player(pool: Pool, settings: list[str]) -> None:
    norms = ["networks.generator_norm=batch", "networks.discriminator_norm=batch", "networks.dropout=0.5"]
    problem, state = made(pool, *norms, *settings)
    players = (state.players.generator, state.players.discriminator)
    before = [{name: tensor.clone() for name, tensor in player.state_dict().items()} for player in players]
    drawn = torch.get_rng_state()
    found = problem.opinions(state.players, Randomness(1), 50)
    again = problem.opinions(state.players, Randomness(1), 50)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(player.training for player in players)
    for player, kept in zip(players, before, strict=True):
        assert all(torch.equal(tensor, kept[name]) for name, tensor in player.state_dict().items())
    assert len(found.train) == 50
    assert len(found.validation) == min(50, len(pool.splits.validation))
    assert torch.equal(found.generated, again.generated), "dropout must be off, and latents those of the position"


def test_looks_at_two_positions_draw_different_latents(pool: Pool) -> None:
    problem, state = made(pool)
    first, again, other = (next(evaluate.generated(problem, state.average, 5, seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
