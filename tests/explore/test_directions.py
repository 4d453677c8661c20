import pytest
import torch
from made_generators import Linear, Mapped, ready
from torch import Tensor, nn

from equipoise.explore.directions import (
    along,
    determination,
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
    assert found.explained.tolist() == [1] * 4


def test_directions_of_activations_of_a_linear_layer_are_those_too() -> None:
    space, right = known()
    found = directions_of_activations(space, 3)
    assert cosines(found.vectors, right[:3]) == pytest.approx([1] * 3, abs=0.01)
    assert found.shares.tolist() == pytest.approx((GAINS.square() / GAINS.square().sum())[:3].tolist(), rel=0.1)


class Offset(Linear):
    """A linear generator whose classes differ far more than the images of one of them."""

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        assert labels is not None
        marked = torch.cat([latents, 10 * torch.nn.functional.one_hot(labels, 3)], 1)
        return self.layer(marked).view(-1, 1, 4, 4)


def test_directions_of_activations_of_classes_are_those_within_a_class() -> None:
    right = turned(5, 1)
    left = turned(16, 0)
    matrix = torch.cat([left[:, :5] @ torch.diag(GAINS) @ right, 0.5 * left[:, 5:8]], 1)
    told = lambda randomness, num: torch.randint(3, (num,), generator=randomness.generator("labels"))  # noqa: E731
    space = Space(ready(Offset(matrix)), 5, told)
    found = directions_of_activations(space, 3)
    assert cosines(found.vectors, right[:3]) == pytest.approx([1] * 3, abs=0.01)
    assert found.shares.tolist() == pytest.approx((GAINS.square() / GAINS.square().sum())[:3].tolist(), rel=0.1)
    assert found.explained.min() > 0.99


class Squared(nn.Module):
    """Activations of which the first, the largest, is even in its latent, and the second is not."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 3, bias=False)
        self.bend = Bend()

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        return 0.01 * self.bend(self.layer(latents)).repeat(1, 8)[:, :16].view(-1, 1, 4, 4)


class Bend(nn.Module):
    """Numbers [N, 3] → the first squared, four times; the second as it is; the third at an edge: [N, 3]."""

    def forward(self, given: Tensor) -> Tensor:
        first, second, third = given.split(1, 1)
        return torch.cat([4 * first.square(), 2 * second, third.relu()], 1)


def test_a_component_that_latents_do_not_explain_is_told_as_such() -> None:
    made = Squared()
    made.layer.load_state_dict({"weight": torch.eye(3)})
    found = directions_of_activations(Space(ready(made), 3), 2)
    # variances: 16 · 2, 4, and 1/2 − 1/2π
    whole = 32 + 4 + 0.5 - 0.5 / torch.pi
    assert found.shares.tolist() == pytest.approx([32 / whole, 4 / whole], rel=0.2)
    assert found.explained[0] < 0.01
    assert found.explained[1] > 0.99


def test_what_a_direction_explains_is_the_squared_correlation_without_what_chance_fits() -> None:
    latents = torch.randn(300, 60, generator=torch.Generator().manual_seed(0))
    noise = torch.randn(300, 1, generator=torch.Generator().manual_seed(1))
    unrelated = regressed(latents, noise - noise.mean())
    assert determination(latents, noise - noise.mean(), unrelated)[0] < 0.1
    half = latents[:, :1] + noise  # R² is 1/2
    half = half - half.mean()
    assert float(determination(latents, half, torch.eye(60)[:1])[0]) == pytest.approx(0.5, abs=0.12)


def test_there_are_fewer_directions_than_latents_so_that_something_rests() -> None:
    space, _ = known()
    for found in (directions_of_weights(space, 16), directions_of_activations(space, 16)):
        assert found.vectors.shape == (4, 5)
        assert len(found.shares) == len(found.explained) == 4
        images = along(space, found, torch.ones(1, 5), None, torch.zeros(1))
        assert images.abs().max() > 1e-4, "the picture in the middle is no picture of latents 0"


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
    assert activations.explained.tolist() == pytest.approx([1, 1], abs=1e-3)
    assert cosines(activations.vectors[:1], torch.linalg.eigh(covariance)[1][:, -1:].T)[0] > 0.95
