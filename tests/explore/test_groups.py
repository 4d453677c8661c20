import pytest
import torch
from made_generators import ready
from torch import Tensor, nn

from equipoise.data.several import NO_LABEL
from equipoise.errors import UserError
from equipoise.explore import sections
from equipoise.explore.groups import blended, each_with, groups_of, moved, row_of, steps_through
from equipoise.explore.sections import names_of
from equipoise.explore.space import Space, images_of
from equipoise.randomness import Randomness
from equipoise.recipe import Networks
from equipoise.sizes import size_of
from equipoise.tasks.image_model import ImageModel


class TwoKinds(nn.Module):
    """Images bright above or below, by the sign of the first latent; the other latents shade them a little."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 16)

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        above = torch.tanh(8 * latents[:, :1]) * torch.tensor([1.0] * 8 + [-1.0] * 8)
        return (0.8 * above + 0.02 * self.layer(latents)).view(-1, 1, 4, 4)


def test_groups_are_the_kinds_and_moves_lead_from_one_to_the_other() -> None:
    torch.manual_seed(0)
    space = Space(ready(TwoKinds()), 4)
    found = groups_of(space, lambda images: images.flatten(1), Randomness(0), 2, seen=400)
    kinds = found.latents[:, 0] > 0
    assert float((found.places == kinds.long()).float().mean()) in (0.0, 1.0)
    assert sum(found.sizes) == 400
    assert found.sizes[0] >= found.sizes[1], "the largest first"
    latents = found.latents[:50]
    own, other = found.means[found.places[:50]], found.means[1 - found.places[:50]]
    arrived = found.nearest(images_of(space, moved(latents, own, other))) == 1 - found.places[:50]
    assert arrived.float().mean() > 0.9
    assert torch.allclose(moved(latents, own, other).square().mean(1), torch.ones(50), atol=1e-4)


def model(**facts) -> ImageModel:
    return ImageModel(Networks(conditional=True), size_of(8), 1, ("cat", "dog", "owl"), **facts)


def test_a_label_becomes_the_row_that_networks_are_told() -> None:
    assert row_of(model(counts=(1, 2, 3)), "dog").tolist() == [0, 1, 0]
    several = model(counts=(1, 2), sets=((0,), (0, 2)))
    assert row_of(several, "owl").tolist() == [0, 0, 1]
    in_groups = model(counts=(5, 9, 3, 4), group_classes=(0, 0, 1, 2))
    assert row_of(in_groups, "cat").tolist() == [0, 1, 0, 0], "the most frequent group"
    with pytest.raises(UserError, match="dog"):
        row_of(model(counts=(1, 2, 3)), "dgo")


def test_a_way_through_classes_is_straight_and_ends_at_them() -> None:
    rows = torch.eye(3)[[0, 2, 1]]
    way = blended(rows, 5)
    assert way.tolist() == [[1, 0, 0], [0.5, 0, 0.5], [0, 0, 1], [0, 0.5, 0.5], [0, 1, 0]]
    assert torch.allclose(way.sum(1), torch.ones(5))


@pytest.mark.parametrize("num", [2, 3, 5, 8, 10, 16])
def test_a_way_shows_each_of_its_classes_and_says_where(num: int) -> None:
    steps = steps_through(num, sections.STEPS)
    assert steps >= sections.STEPS
    names = [f"class {place}" for place in range(num)]
    marks = sections._marks(names, steps)
    assert [mark for mark in marks if mark] == names
    own = blended(torch.eye(num), steps)[[bool(mark) for mark in marks]]
    assert torch.equal(own, torch.eye(num)), "a marked picture is of its class alone"
    assert marks[1] == "", "something lies between"


def test_letters_that_are_lacking_become_the_number_of_the_class_which_the_caption_tells() -> None:
    names = ["cat", "犬", "猫"]
    assert sections._in_letters(["猫", "cat", "cat, 犬", NO_LABEL], names) == ["#3", "cat", "cat, #2", NO_LABEL]
    assert sections._legend(["猫", "cat"], names) == " In the picture, #3 is 猫."
    assert sections._legend(["cat"], names) == ""


def test_a_grid_has_each_latent_with_each_label() -> None:
    latents, rows = each_with(torch.tensor([[1.0], [2.0]]), torch.eye(2))
    assert latents.flatten().tolist() == [1, 1, 2, 2]
    assert rows.tolist() == [[1, 0], [0, 1], [1, 0], [0, 1]]


def test_labels_are_told_in_words_and_so_is_none() -> None:
    several = model(counts=(1, 2), sets=((0,), (0, 2)))
    assert names_of(several, torch.tensor([[1.0, 0, 1], [0, 0, 0]])) == ["cat, owl", "no label"]
    assert names_of(model(counts=(1, 2, 3)), torch.tensor([2, 0])) == ["owl", "cat"]
    assert names_of(model(counts=(1, 2, 3), group_classes=(0, 0, 1)), torch.tensor([1, 2])) == ["cat", "dog"]
