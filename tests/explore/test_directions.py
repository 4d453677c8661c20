import pytest
import torch
from made_generators import Linear, Mapped, ready
from torch import Tensor

from equipoise.explore.directions import (
    along,
    directions_of_activations,
    directions_of_weights,
    principal_components,
    regressed,
    resting,
)
from equipoise.explore.space import Space, codes_of, images_of

GAINS = torch.tensor([0.08, 0.05, 0.03, 0.02, 0.01])


def turned(size: int, seed: int) -> Tensor:
    """Return an orthogonal matrix."""
    return torch.linalg.qr(torch.randn(size, size, generator=torch.Generator().manual_seed(seed)))[0]


def known() -> tuple[Space, Tensor]:
    """Return a linear generator and its right singular vectors as rows."""
    right = turned(5, 1)
    matrix = turned(16, 0)[:, :5] @ torch.diag(GAINS) @ right
    return Space(ready(Linear(matrix)), 5), right


def cosines(found: Tensor, wanted: Tensor) -> list[float]:
    return (found * wanted).sum(1).abs().tolist()


def test_directions_of_weights_are_the_right_singular_vectors() -> None:
    space, right = known()
    found = directions_of_weights(space, 4)
    assert found.layers == ("layer",)
    assert cosines(found.vectors, right[:4]) == pytest.approx([1] * 4, abs=1e-4)
    assert found.shares.tolist() == pytest.approx((GAINS.square() / GAINS.square().sum())[:4].tolist(), rel=1e-3)
    assert found.deviations.tolist() == [1] * 4


def test_directions_of_activations_of_a_linear_layer_are_those_too() -> None:
    space, right = known()
    found = directions_of_activations(space, 3)
    assert cosines(found.vectors, right[:3]) == pytest.approx([1] * 3, abs=0.01)
    assert found.shares.tolist() == pytest.approx((GAINS.square() / GAINS.square().sum())[:3].tolist(), rel=0.1)


def test_principal_components_find_a_known_covariance() -> None:
    axes = turned(40, 2)
    deviations = torch.cat([torch.tensor([5.0, 3.0, 2.0]), torch.full((37,), 0.5)])
    scores = torch.randn(3_000, 40, generator=torch.Generator().manual_seed(3)) * deviations
    components, shares = principal_components(scores @ axes.T + 7, 3)
    whole = scores.var(0).sum()
    assert shares.tolist() == pytest.approx((scores.var(0)[:3] / whole).tolist(), rel=0.01)
    for place in range(3):
        both = torch.stack([components[:, place], scores[:, place]])
        assert torch.corrcoef(both)[0, 1].abs() > 0.99


def test_regression_finds_the_latents_of_components() -> None:
    latents = torch.randn(2_000, 6, generator=torch.Generator().manual_seed(0))
    latents, _ = torch.linalg.qr(latents - latents.mean(0))
    vectors = turned(6, 4)[:2]
    assert cosines(regressed(latents, latents @ vectors.T), vectors) == pytest.approx([1, 1], abs=1e-4)


def test_steps_move_one_coordinate_and_start_from_one_picture() -> None:
    space, _ = known()
    found = directions_of_weights(space, 3)
    latents = torch.randn(1, 5, generator=torch.Generator().manual_seed(0))
    steps = torch.tensor([-2.0, 0.0, 2.0])
    images = along(space, found, latents, None, steps).unflatten(0, (3, 3))
    assert torch.allclose(images[0, 1], images[2, 1], atol=1e-6), "the middle column is one picture"
    for place in range(3):
        moved = (images[place, 2] - images[place, 0]).flatten().norm()
        assert float(moved) == pytest.approx(4 * float(GAINS[place]), rel=1e-3)


def test_a_resting_latent_has_nothing_along_the_directions_and_keeps_its_length() -> None:
    latents = torch.randn(2, 6, generator=torch.Generator().manual_seed(0))
    vectors = turned(6, 5)[:3]
    found = resting(latents, torch.zeros(6), vectors, keeps_length=True)
    assert (found @ vectors.T).abs().max() < 1e-5
    assert torch.allclose(found.norm(dim=1), latents.norm(dim=1), atol=1e-5)
    assert resting(latents, torch.zeros(6), turned(6, 5), keeps_length=True).abs().max() < 1e-5


def test_behind_a_mapping_network_steps_are_of_its_codes_spread() -> None:
    torch.manual_seed(0)
    space = Space(ready(Mapped()), 6)
    latents = torch.randn(2_000, 6)
    for found in (directions_of_weights(space, 2), directions_of_activations(space, 2)):
        assert found.vectors.shape == (2, 5)
        spread = (codes_of(space, latents) @ found.vectors.T).std(0)
        assert found.deviations.tolist() == pytest.approx(spread.tolist(), rel=0.1)
        shown = along(space, found, latents[:1], None, torch.tensor([-1.0, 0.0, 1.0]))
        assert shown.shape == (6, *images_of(space, latents[:1]).shape[1:])
    activations = directions_of_activations(space, 2)
    assert activations.layers == ("mapping",)
    covariance = torch.cov(codes_of(space, latents).T)
    assert cosines(activations.vectors[:1], torch.linalg.eigh(covariance)[1][:, -1:].T)[0] > 0.95
