"""Signals of a round are what their names say, in games where they are known by hand; looking changes nothing."""

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from equipoise.game.signals import SIGNAL, SKETCH, Look, look_at_round, parts_of, sketch_of
from equipoise.game.updates import ROLES, Players


class Images(nn.Module):
    """A generator of images that are what its one parameter says, the same or not for each latent."""

    def __init__(self, spread: float, level: float = 0.0) -> None:
        super().__init__()
        self.spread = spread
        self.level = nn.Parameter(torch.tensor(level))

    def forward(self, latents: Tensor) -> Tensor:
        return self.level + self.spread * latents


def looked(
    players: Players, real: Tensor, latents: Tensor, before: Tensor | None = None, step: float = 0.1
) -> tuple[dict[str, float], Look]:
    """Play a round by hand in which both players move by a step against their gradient, and return its signals."""
    with look_at_round(players, before, is_whole=True) as look:
        for role in ("discriminator", "generator"):
            player = players.of(role)
            for other in ROLES:
                players.of(other).requires_grad_(other == role)
            player.zero_grad()
            loss = (players.discriminator(real) - 1).square().mean()
            loss = loss + (players.discriminator(players.generator(latents)) + 1).square().mean()
            (loss if role == "discriminator" else -loss).backward()
            with torch.no_grad():
                for weight in player.parameters():
                    weight -= step * weight.grad  # type: ignore[operator]
    assert all(name.startswith(SIGNAL) for name in look.signals)
    return {name.removeprefix(SIGNAL): float(value) for name, value in look.signals.items()}, look


def linear(*sizes: int) -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for num_in, num_out in itertools.pairwise(sizes):
        layers += [nn.Linear(num_in, num_out), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def test_how_far_a_player_moved_is_a_share_of_its_weights() -> None:
    generator = Images(1.0, 2.0)
    players = Players(generator, linear(3, 1))
    before = torch.nn.utils.parameters_to_vector(players.discriminator.parameters()).detach().clone()
    found, _ = looked(players, torch.randn(8, 3), torch.randn(8, 3))
    moved = torch.nn.utils.parameters_to_vector(players.discriminator.parameters()).detach() - before
    assert found["step/discriminator"] == pytest.approx(float(moved.norm() / before.norm()), rel=1e-4)
    assert found["step/discriminator"] == pytest.approx(found["step/discriminator/0"])
    assert found["step/generator"] == pytest.approx(abs(generator.level.item() - 2.0) / 2.0, rel=1e-4)


def test_the_gradient_of_every_part_is_told_and_vanishes_towards_the_input_of_a_deep_sigmoid_network() -> None:
    torch.manual_seed(0)
    layers = [layer for _ in range(8) for layer in (nn.Linear(8, 8), nn.Sigmoid())]
    players = Players(Images(1.0), nn.Sequential(nn.Linear(3, 8), *layers, nn.Linear(8, 1)))
    found, _ = looked(players, torch.randn(8, 3), torch.randn(8, 3))
    parts = [value for name, value in found.items() if name.startswith("gradient/discriminator/")]
    assert len(parts) == 4
    assert parts[0] < 1e-2 * parts[-1]


def test_units_that_never_fire_are_counted_as_dead() -> None:
    players = Players(Images(1.0), linear(3, 10, 1))
    with torch.no_grad():
        players.discriminator[0].bias[:4] = -100.0  # type: ignore[index]
    found, _ = looked(players, torch.randn(32, 3), torch.randn(32, 3))
    assert found["dead/discriminator"] == pytest.approx(4 / 11)


@pytest.mark.parametrize(("spread", "expected"), [(1.0, 1.0), (0.25, 0.25), (0.0, 0.0)])
def test_a_collapsed_batch_is_told_from_a_varied_one(spread: float, expected: float) -> None:
    torch.manual_seed(0)
    latents = torch.randn(64, 20)
    found, _ = looked(Players(Images(spread), linear(20, 1)), torch.randn(64, 20), latents)
    assert found["spread"] == pytest.approx(expected, rel=0.1)
    assert found["nearest"] == pytest.approx(expected, rel=0.1)


def test_what_the_discriminator_is_shown_in_the_generator_s_turn_is_not_taken_for_the_real_batch() -> None:
    """Where both step together the generator's terms come first: D is shown the generated batch before the real one."""
    torch.manual_seed(0)
    players = Players(Images(0.25), linear(20, 1))
    with look_at_round(players, None, is_whole=True) as look:
        players.discriminator.requires_grad_(False)
        players.discriminator(players.generator(torch.randn(64, 20)))
        players.discriminator(torch.randn(64, 20))
        players.discriminator.requires_grad_(True)
        players.discriminator(torch.randn(64, 20))
        players.discriminator(players.generator(torch.randn(64, 20)).detach())
    assert look.signals[f"{SIGNAL}spread"].item() == pytest.approx(0.25, rel=0.1)


def test_two_modes_instead_of_many_have_a_spread_but_no_distance_to_neighbours() -> None:
    torch.manual_seed(0)
    real = torch.randn(64, 20)
    modes = torch.randn(2, 20)[torch.arange(64) % 2]
    found, _ = looked(Players(Images(1.0), linear(20, 1)), real, modes)
    assert found["spread"] > 0.5
    assert found["nearest"] < 1e-3


def test_values_at_the_ends_of_the_range_are_counted_where_real_ones_are_within_it() -> None:
    real = torch.full((4, 10), 0.5)
    real[:, :2] = -1.0
    found, _ = looked(Players(Images(0.0, 0.99), linear(10, 1)), real, torch.zeros(4, 10))
    assert found["saturated/generated"] == 1.0
    assert found["saturated/real"] == pytest.approx(0.2)
    found, _ = looked(Players(Images(0.0, 0.99), linear(10, 1)), 3 * real, torch.zeros(4, 10))
    assert math.isnan(found["saturated/real"])


def test_what_is_no_pair_of_batches_is_left_out() -> None:
    found, _ = looked(Players(Images(1.0), linear(3, 1)), torch.randn(5, 3), torch.randn(8, 3))
    assert "spread" not in found
    assert "step/generator" in found


def test_the_rotation_is_the_cosine_between_two_joint_updates() -> None:
    torch.manual_seed(0)
    players = Players(Images(1.0), linear(30, 1))
    with look_at_round(players, None, is_whole=False) as first:
        for player in (players.generator, players.discriminator):
            for weight in player.parameters():
                weight.data.add_(1.0)
    assert first.signals == {}
    for sign in (1.0, -1.0):
        with look_at_round(players, first.sketch, is_whole=True) as look:
            for player in (players.generator, players.discriminator):
                for weight in player.parameters():
                    weight.data.add_(sign * 0.5)
        assert look.signals[f"{SIGNAL}rotation"].item() == pytest.approx(sign, abs=1e-4)


@pytest.mark.parametrize("cosine", [0.9, 0.3, 0.0, -0.8])
def test_a_sketch_keeps_the_cosine_of_long_vectors(cosine: float) -> None:
    torch.manual_seed(0)
    one = [torch.randn(300, 200), torch.randn(70_001), torch.randn(3)]
    other = [cosine * part + (1 - cosine**2) ** 0.5 * torch.randn_like(part) for part in one]
    sketches = [sketch_of(parts) for parts in (one, other)]
    assert sketches[0].shape == (SKETCH,)
    assert torch.nn.functional.cosine_similarity(*sketches, dim=0).item() == pytest.approx(cosine, abs=0.12)


def test_networks_of_many_layers_are_told_apart_in_four_stretches() -> None:
    assert parts_of(["a.weight", "a.bias", "b.0.weight", "b.1.weight"]) == {"a": [0, 1], "b.0": [2], "b.1": [3]}
    deep = parts_of([f"layers.{index}.weight" for index in range(10)])
    assert list(deep) == ["layers.0..layers.1", "layers.2..layers.4", "layers.5..layers.6", "layers.7..layers.9"]
    assert sorted(place for places in deep.values() for place in places) == list(range(10))


def test_looking_leaves_random_streams_weights_and_hooks_alone() -> None:
    players = Players(Images(1.0), linear(3, 4, 1))
    real, latents = torch.randn(8, 3), torch.randn(8, 3)
    drawn = torch.random.get_rng_state()
    with look_at_round(players, None, is_whole=True):
        players.discriminator(real)
        players.discriminator(players.generator(latents))
    assert torch.equal(torch.random.get_rng_state(), drawn)
    assert not players.generator._forward_hooks
    assert not players.discriminator._forward_pre_hooks


def test_sparse_gradients_and_empty_weights_are_no_obstacle() -> None:
    discriminator = nn.Sequential(nn.Flatten(), nn.Linear(3, 0), nn.Linear(0, 1))
    table = nn.EmbeddingBag(5, 1, sparse=True)
    discriminator.register_module("table", nn.Identity())
    players = Players(Images(1.0), discriminator)
    found, _ = looked(players, torch.randn(8, 3), torch.randn(8, 3))
    assert math.isfinite(found["step/discriminator"])
    table(torch.tensor([[0, 1]])).sum().backward()
    with look_at_round(Players(players.generator, table), None, is_whole=True) as look:
        pass
    assert math.isfinite(look.signals[f"{SIGNAL}gradient/discriminator/weight"])


def test_several_discriminators_have_the_parts_of_one() -> None:
    names = [f"judges.{judge}.{part}.weight" for judge in (0, 1) for part in ("downwards.0", "downwards.1", "head")]
    assert parts_of(names) == {"downwards.0": [0, 3], "downwards.1": [1, 4], "head": [2, 5]}
