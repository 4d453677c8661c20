import dataclasses
import math

import pytest
import torch
from made_generators import Linear, ready
from torch import Tensor, nn

from equipoise.explore import projection
from equipoise.explore.projection import multi_scale, projected, rmse
from equipoise.explore.space import Space, images_of
from equipoise.randomness import Randomness


def space_of_five() -> Space:
    torch.manual_seed(0)
    return Space(ready(Linear(0.12 * torch.randn(16, 5))), 5)


def test_projection_recovers_the_latents_of_a_linear_generator() -> None:
    space = space_of_five()
    latents = torch.randn(3, 5, generator=torch.Generator().manual_seed(1))
    latents *= math.sqrt(5) / latents.norm(dim=1, keepdim=True)
    found = projected(space, images_of(space, latents), Randomness(0), candidates=100)
    assert torch.allclose(found.latents, latents, atol=0.03)
    assert found.rmse.max() < 1
    assert (found.rmse < found.nearest).all(), "better than the nearest random picture"
    assert min(found.psnr) > 20 * math.log10(255)


def test_what_no_latents_show_keeps_an_error() -> None:
    space = space_of_five()
    white = torch.ones(1, 1, 4, 4)
    found, again = (projected(space, white, Randomness(0), candidates=100, steps=50) for _ in range(2))
    assert found.rmse[0] > 10
    assert found.latents.square().mean() < 4, "latents stay near where normal ones lie"
    assert torch.equal(found.latents, again.latents)


class TwoColours(nn.Module):
    """Dark or bright images by their label."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 16)

    def forward(self, latents: Tensor, labels: Tensor) -> Tensor:
        return 0.05 * self.layer(latents).view(-1, 1, 4, 4) + (labels.view(-1, 1, 1, 1) * 1.6 - 0.8)


def test_projection_takes_the_label_of_the_nearest_pictures() -> None:
    torch.manual_seed(0)
    told = lambda randomness, num: torch.arange(num) % 2  # noqa: E731
    space = Space(ready(TwoColours()), 2, told)
    given = torch.tensor([-0.8, 0.8]).view(2, 1, 1, 1).expand(2, 1, 4, 4)
    found = projected(space, given, Randomness(0), candidates=50, steps=20)
    assert found.labels is not None
    assert found.labels.tolist() == [0, 1]


def test_the_nearest_random_picture_is_found_in_whichever_part_it_is_drawn() -> None:
    space = space_of_five()
    given = images_of(space, torch.randn(2, 5, generator=torch.Generator().manual_seed(1)))
    whole = projected(space, given, Randomness(0), candidates=90, steps=0)
    parts = projected(dataclasses.replace(space, batch=7), given, Randomness(0), candidates=90, steps=0)
    drawn = images_of(space, space.latents(Randomness(0), 90, "candidates"))
    errors = torch.stack([rmse(picture[None], drawn) for picture in given])
    for found in (whole, parts):
        assert found.nearest.tolist() == errors.amin(1).tolist()
        assert torch.allclose(found.random, drawn[errors.argmin(1)], atol=1e-6)
    assert torch.equal(whole.latents, parts.latents)


def test_the_number_of_steps_is_read_when_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    space = space_of_five()
    white = torch.ones(1, 1, 4, 4)
    monkeypatch.setattr(projection, "STEPS", 2)
    short = projected(space, white, Randomness(0), candidates=20)
    assert torch.equal(short.latents, projected(space, white, Randomness(0), candidates=20, steps=2).latents)


def test_the_error_at_several_scales_is_the_mean_of_each() -> None:
    fine = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(4, 4)[None, None]
    nothing = torch.zeros(1, 1, 8, 8)
    assert multi_scale(fine, nothing).tolist() == [0.5], "1 at 8 pixels, 0 at 4, where it averages out"
    assert multi_scale(torch.ones(1, 1, 8, 8), nothing).tolist() == [1.0]


def test_errors_are_those_of_files() -> None:
    assert rmse(torch.full((1, 1, 2, 2), 5.0), torch.full((1, 1, 2, 2), -1.0)).tolist() == [255.0]
    assert rmse(torch.full((1, 1, 2, 2), -1.0), torch.full((1, 1, 2, 2), 2 / 255 - 1)).tolist() == pytest.approx([1.0])
