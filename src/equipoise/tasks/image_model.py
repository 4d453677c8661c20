"""An image generator without its data: it draws images, and writes them as files."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec
import torch
from torch import Tensor, nn

from equipoise.data.channels import OPACITY, in_colour, plain_colours
from equipoise.data.pool import to_uint8
from equipoise.errors import Option, UserError, suggested
from equipoise.game.updates import Players
from equipoise.nets.players import make_players
from equipoise.randomness import Randomness
from equipoise.recipe import Networks, Recipe
from equipoise.sizes import Size, size_of
from equipoise.storage.files import write_bytes
from equipoise.storage.records import DataRecord
from equipoise.tasks.base import Model, chunks
from equipoise.tasks.exhibits import as_picture, grid


class ImageFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a generator is built from without its data; kept in `data.json`."""

    size: int | tuple[int, int]
    channels: int


@dataclass(frozen=True)
class ImageModel(Model):
    """An image generator without its data: `[N, C, H, W]` in [-1, 1] from latents `[N, Z]` and labels `[N]`."""

    networks: Networks
    size: Size
    channels: int
    classes: tuple[str, ...] = ()  # that the generator knows of
    class_counts: tuple[int, ...] = ()

    def network(self) -> nn.Module:
        """Build the generator."""
        return self.players().generator

    def players(self, packing: int = 1) -> Players:
        """Build both networks; the discriminator judges `packing` images at once."""
        shape = {"size": self.size.given, "channels": self.channels, "num_classes": len(self.classes)}
        return Players(*make_players(self.networks, **shape, packing=packing))

    @torch.no_grad()
    def draw(self, generator: nn.Module, randomness: Randomness, num: int, label: int | None = None) -> Tensor:
        """Draw `num` images `[num, C, H, W]` in [-1, 1] in float32: a function of the randomness alone.

        With classes, labels come as often as in the training split, unless `label` names one.
        """
        device = next(generator.parameters()).device
        latents = randomness.normal("latents", num, self.networks.latent_size)
        labels = None
        if self.classes:
            weights = torch.tensor(self.class_counts, dtype=torch.float64)
            labels = torch.multinomial(weights, num, replacement=True, generator=randomness.generator("labels"))
            if label is not None:
                labels = torch.full((num,), label)
            labels = labels.to(device)
        return generator(latents.to(device), labels).float().clamp(-1, 1)

    def samples(self, generator: nn.Module, num: int, seed: int, label: str | None) -> Iterator[Tensor]:
        """Yield `num` images in batches; `label` names a class. Raises UserError for one that is not known."""
        index = None
        if label is not None:
            index = self._index(label)
        for begin, size in chunks(num):
            yield self.draw(generator, Randomness(seed, begin), size, index).cpu()

    def write(self, batches: Iterable[Tensor], out: Path) -> str:
        """Write images as one PNG grid where `out` ends in .png, else as a folder of PNG files."""
        if out.suffix.lower() == ".png" and not out.is_dir():
            images = torch.cat(list(batches))
            out.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(out, grid(in_colour(images)))
            return str(out)
        return f"{save_each(batches, out)} images in {out}"

    def _index(self, label: str) -> int:
        if not self.classes:
            problem = "this generator was not trained with classes"
            way = "Leave it out, or train another one with the setting networks.conditional=true"
            raise UserError(Option("label", label), problem, way)
        if label not in self.classes:
            problem = f"this generator knows {', '.join(self.classes)}"
            raise UserError(Option("label", label), problem, *suggested(label, self.classes))
        return self.classes.index(label)


def save_each(batches: Iterable[Tensor], folder: Path) -> int:
    """Write batches of images `[N, C, H, W]` in [-1, 1] as `folder/000000.png`, …; return their number."""
    folder.mkdir(parents=True, exist_ok=True)
    num = 0
    for images in batches:
        for image in to_uint8(images).numpy():
            pixels = image.transpose(1, 2, 0)
            if pixels.shape[2] == OPACITY:
                pixels = plain_colours(pixels)
            as_picture(pixels).save(folder / f"{num:06d}.png")
            num += 1
    return num


def model_of(recipe: Recipe, data: DataRecord) -> ImageModel:
    """Return the generator of a run from what it wrote down; raises msgspec.ValidationError for damage."""
    facts = msgspec.convert(data.facts, ImageFacts)
    classes: tuple[str, ...] = ()
    counts: tuple[int, ...] = ()
    if recipe.networks.conditional:
        classes = data.classes
        counts = data.class_counts
    return ImageModel(recipe.networks, size_of(facts.size), facts.channels, classes, counts)
