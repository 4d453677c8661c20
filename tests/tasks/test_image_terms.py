"""Terms beside the adversarial one, as a task of images gives them to both players."""

import dataclasses
from types import SimpleNamespace

import pytest
import torch
from small import SMALL
from torch import Tensor, nn

from equipoise.data.pool import Pool
from equipoise.errors import Setting, Together, UserError
from equipoise.game.judged import Judged, codes_of, information_loss, naming_loss, pulling_away
from equipoise.game.losses import loss_named
from equipoise.game.terms import StepContext
from equipoise.game.updates import Players
from equipoise.metrics.features.load import Features
from equipoise.randomness import Randomness
from equipoise.recipe import Recipe, with_settings
from equipoise.recipes import Facts, build
from equipoise.tasks.images import ImageSource, ImageTask

CPU = torch.device("cpu")
FLAT = Features("flat", "none", 64, lambda pixels: pixels.flatten(1))
START = StepContext(Randomness(0))
NAMING = ("networks.conditional=true", "networks.condition=naming", "game.auxiliary=0.5")
CODES = ("networks.categorical_codes=2", "networks.continuous_codes=1", "game.information=2")
ENERGIES = ("networks.family=dcgan", "networks.autoencoder=true", "game.loss=energy", "game.margin=1")


def made(pool: Pool, *settings: str) -> ImageTask:
    """Return the task of these images."""
    recipe = with_settings(Recipe(), [*SMALL, *settings])
    return ImageTask(recipe, pool, FLAT, loss_named(recipe.game.loss), CPU, torch.float32)


class Telling(nn.Module):
    """A discriminator that says simple sums of an image, and keeps what it has said."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))
        self.said: list[Judged] = []

    def forward(self, images: Tensor, labels: Tensor | None = None) -> Judged:
        flat = self.weight * images.flatten(1)
        said = Judged(flat.sum(1), named=flat[:, :2], codes=flat[:, 3:6], encoded=flat[:, 6:9])
        self.said.append(said)
        return said


class Fanned(nn.Module):
    """A generator whose image repeats its latents."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        return (self.weight * latents).repeat(1, 64 // latents.shape[1]).view(-1, 1, 8, 8)


def game(task: ImageTask) -> SimpleNamespace:
    """Return what both players' terms are at the start, and what the discriminator had said."""
    discriminator = Telling()
    players = Players(Fanned(), discriminator)
    batch = task.batch(Randomness(0), 6)
    of_discriminator = task.discriminator_terms(players, batch, START).losses
    real, fake = discriminator.said
    of_generator = task.generator_terms(players, batch, START).losses
    generated = discriminator.said[2]
    return SimpleNamespace(
        d=of_discriminator, g=of_generator, real=real, fake=fake, generated=generated, labels=batch.labels
    )


def test_both_players_gain_where_the_class_is_named_and_d_on_real_images_too(pool: Pool) -> None:
    found = game(made(pool, *NAMING, "game.loss=hinge"))
    both = naming_loss(found.real.named, found.labels) + naming_loss(found.fake.named, found.labels)
    torch.testing.assert_close(found.d["auxiliary"], 0.5 * both)
    torch.testing.assert_close(found.g["auxiliary"], 0.5 * naming_loss(found.generated.named, found.labels))


def test_both_players_gain_where_the_codes_of_generated_images_are_read(pool: Pool) -> None:
    found = game(made(pool, *CODES, "game.loss=hinge"))
    for terms, said in ((found.d, found.fake), (found.g, found.generated)):
        latents = torch.cat([said.named, said.encoded[:, :1]], 1)  # an image repeats them: places 0, 1 and 6
        expected = 2 * information_loss(said.codes, codes_of(latents, 2, 1))
        torch.testing.assert_close(terms["information"], expected)


def test_the_generator_alone_pulls_codes_away(pool: Pool) -> None:
    found = game(made(pool, *ENERGIES, "game.pulling_away=3"))
    assert "pulling away" not in found.d
    torch.testing.assert_close(found.g["pulling away"], 3 * pulling_away(found.generated.encoded))


def test_without_such_settings_there_are_no_such_terms(pool: Pool) -> None:
    found = game(made(pool, "game.loss=hinge"))
    assert found.d.keys() == found.g.keys() == {"adversarial"}


@pytest.mark.parametrize("name", ["cgan", "cgan-projection", "acgan"])
def test_a_recipe_of_classes_is_refused_without_them_and_says_what_to_type(pool: Pool, name: str) -> None:
    source = ImageSource(dataclasses.replace(pool, classes=(), labels=None), CPU, "shapes")
    recipe = with_settings(build(name, Facts(size=8, num_train=150)), ["game.batch=8"])
    with pytest.raises(UserError) as caught:
        source.settled(recipe)
    settings = [
        setting
        for part in caught.value.remedies
        for setting in (part.settings if isinstance(part, Together) else [part])
    ]
    assert Setting("networks.conditional", False) in settings
    source.settled(with_settings(recipe, ["networks.conditional=false"]))
