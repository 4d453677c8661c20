import itertools
import math

import pytest
import torch
from made_generators import Linear, Mapped, ready
from torch import Tensor

from equipoise.explore.space import Space, centre_of, closed_walk, codes_of, images_of, images_of_codes, on_shell, slerp
from equipoise.randomness import Randomness


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_slerp_keeps_the_length_and_turns_evenly() -> None:
    one, other = on_shell(normal(2, 9))
    points = slerp(one, other, torch.linspace(0, 1, 5))
    assert torch.allclose(points.norm(dim=1), torch.full((5,), 3.0), atol=1e-5)
    assert torch.allclose(points[[0, -1]], torch.stack([one, other]), atol=1e-5)
    angles = [math.acos(float(a @ b) / 9) for a, b in itertools.pairwise(points)]
    assert angles == pytest.approx([sum(angles) / 4] * 4, abs=1e-3)
    assert sum(angles) == pytest.approx(math.acos(float(one @ other) / 9), abs=1e-3)


def test_slerp_between_lengths_stays_between_them_and_knows_equal_ends() -> None:
    one = normal(9)
    assert slerp(one, 2 * one, torch.tensor([0.5]))[0] == pytest.approx((1.5 * one).tolist(), abs=1e-4)
    assert slerp(one, one, torch.tensor([0.3])).isfinite().all()


def test_a_walk_passes_its_stops_and_closes() -> None:
    stops = normal(3, 9)
    walk = closed_walk(stops, 4)
    assert walk.shape == (12, 9)
    assert torch.allclose(walk[::4], stops, atol=1e-5)
    back = slerp(stops[2], stops[0], torch.tensor([0.75, 1.0]))
    assert torch.allclose(walk[-1], back[0], atol=1e-5)
    assert torch.allclose(walk[0], back[1], atol=1e-5)


def test_without_a_mapping_codes_are_latents_around_zero() -> None:
    space = Space(ready(Linear(0.1 * normal(16, 5))), 5)
    latents = normal(7, 5)
    assert torch.equal(codes_of(space, latents), latents)
    assert torch.equal(centre_of(space), torch.zeros(5))
    assert torch.equal(images_of_codes(space, latents), images_of(space, latents))


def test_codes_of_a_mapping_network_give_its_images_back_in_any_batch() -> None:
    torch.manual_seed(0)
    space = Space(ready(Mapped()), 6, batch=3)
    latents = normal(7, 6)
    codes = codes_of(space, latents)
    assert codes.shape == (7, 5)
    assert torch.allclose(images_of_codes(space, codes), images_of(space, latents), atol=1e-6)
    assert not torch.allclose(images_of_codes(space, codes + 1), images_of(space, latents), atol=1e-2)
    assert torch.allclose(images_of(space, latents), Space(space.generator, 6).generator(latents), atol=1e-6)


def test_the_centre_of_a_mapping_network_is_the_mean_of_its_codes() -> None:
    torch.manual_seed(0)
    space = Space(ready(Mapped()), 6)
    many = codes_of(space, Randomness(5).normal("others", 20_000, 6))
    assert torch.allclose(centre_of(space), many.mean(0), atol=4 * float(many.std(0).max()) / 64)
