"""An image generator without its data: it draws images, and writes them as files."""

import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from equipoise.data.cache import default_cache
from equipoise.data.channels import OPACITY, in_colour, is_measured, plain_colours
from equipoise.data.decode import Target, parse_background
from equipoise.data.pool import to_uint8
from equipoise.data.several import Sets, places_of
from equipoise.data.values import Scale
from equipoise.errors import Option, UserError, suggested
from equipoise.game.judged import with_category
from equipoise.game.updates import Players
from equipoise.nets.efficientnet import LITE0, LITE0_WEIGHTS, published
from equipoise.nets.players import make_generator, make_players
from equipoise.randomness import Randomness
from equipoise.recipe import Images, Networks, Recipe
from equipoise.sizes import Size, size_of
from equipoise.storage.files import write_bytes
from equipoise.storage.records import DataRecord
from equipoise.tasks.base import Model, chunks
from equipoise.tasks.exhibits import as_picture, grid

ONE = torch.ones(1, dtype=torch.float64)


class ImageFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a generator is built from without its data; kept in `data.json`."""

    size: int | tuple[int, int]
    channels: int


@dataclass(frozen=True, eq=False)
class Told:
    """What a generator can be told of an image, int64 [K] or 0 and 1 [K, L], and how often each is drawn, [K]."""

    labels: Tensor
    weights: Tensor


@dataclass(frozen=True)
class ImageModel(Model):
    """An image generator without its data: `[N, C, H, W]` in [-1, 1] from latents `[N, Z]` and labels `[N]`.

    Where an image has several labels, the networks are told them all at once, as 0 and 1 `[N, L]`. Where classes are
    parted into groups, they are told the group, which says the class.
    """

    networks: Networks
    size: Size
    channels: int
    classes: tuple[str, ...] = ()  # that the generator knows of
    counts: tuple[int, ...] = ()  # how often each kind is drawn: a class, one of `sets`, or a group
    scale: tuple[float, float] | None = None  # numbers of the real images that became black and white
    sets: Sets = ()  # the combinations of several labels: places of classes
    group_classes: tuple[int, ...] = ()  # of groups within classes, the place of the class of each

    def network(self) -> nn.Module:
        """Build the generator."""
        return make_generator(self.networks, **self._shape)

    def players(self, packing: int = 1) -> Players:
        """Build both networks; the discriminator judges `packing` images at once. Raises UserError."""
        pretrained = None
        if self.networks.pretrained:
            pretrained, _ = published(LITE0_WEIGHTS, LITE0, default_cache())
        return Players(*make_players(self.networks, **self._shape, packing=packing, pretrained=pretrained))

    @property
    def _shape(self) -> dict[str, Any]:
        return {"size": self.size.given, "channels": self.channels, "num_classes": self.num_told}

    @property
    def num_told(self) -> int:
        """Return how many classes, labels or groups the networks are told apart."""
        return len(self.group_classes or self.classes)

    @property
    def num_kinds(self) -> int:
        """Return how many kinds of images there are by what the networks are told."""
        return len(self.sets) or self.num_told

    @cached_property
    def rows(self) -> Tensor:
        """The combinations of labels as 0 and 1, `[K, L]`."""
        rows = torch.zeros(len(self.sets), len(self.classes))
        for row, one in zip(rows, self.sets, strict=True):
            row[list(one)] = 1
        return rows

    @torch.no_grad()
    def draw(
        self,
        generator: nn.Module,
        randomness: Randomness,
        num: int,
        asked: Told | None = None,
        category: int | None = None,
    ) -> Tensor:
        """Draw `num` images `[num, C, H, W]` in [-1, 1] in float32: a function of the randomness alone.

        With classes, labels come as often as in the training split, unless all are `asked` to be of some kinds.
        A `category` is one of the code in the latents.
        """
        device = next(generator.parameters()).device
        latents = randomness.normal("latents", num, self.networks.latent_size)
        if category is not None:
            latents = with_category(latents, category, self.networks.categorical_codes)
        labels = self.labels(randomness, num, asked)
        labels = labels if labels is None else labels.to(device)
        return generator(latents.to(device), labels).float().clamp(-1, 1)

    def labels(self, randomness: Randomness, num: int, asked: Told | None = None) -> Tensor | None:
        """Draw what the networks are told of `num` images, int64 `[num]` or 0 and 1 `[num, L]`; None if nothing."""
        if not self.classes:
            return None
        told = self._told if asked is None else asked
        drawn = torch.multinomial(told.weights, num, replacement=True, generator=randomness.generator("labels"))
        return told.labels[drawn]

    def samples(self, generator: nn.Module, num: int, seed: int, label: str | None) -> Iterator[Tensor]:
        """Yield `num` images in batches; `label` names a class, or several labels with commas between.

        Of a generator without classes it is a category of its code, counted from 1. Raises UserError for one that is
        not known.
        """
        has_code = self.networks.categorical_codes > 0 and not self.classes
        category = self._category(label) if label is not None and has_code else None
        asked = self.asked(label) if label is not None and not has_code else None
        for begin, size in chunks(num):
            yield self.draw(generator, Randomness(seed, begin), size, asked, category).cpu()

    @cached_property
    def _told(self) -> Told:
        labels = self.rows if self.sets else torch.arange(self.num_kinds)
        return Told(labels, torch.tensor(self.counts, dtype=torch.float64))

    def write(self, batches: Iterable[Tensor], out: Path) -> str:
        """Write images as one PNG grid where `out` ends in .png, else as a folder of PNG files."""
        if out.suffix.lower() == ".png" and not out.is_dir():
            images = torch.cat(list(batches))
            out.parent.mkdir(parents=True, exist_ok=True)
            write_bytes(out, grid(in_colour(images)))
            how = f" (of {self.channels} channels the first three, in colour)" if is_measured(self.channels) else ""
            return f"{out}{how}"
        return f"{save_each(batches, out, self.scale)} images in {out}"

    def _category(self, label: str) -> int:
        """Return the place of a category of the code by its number from 1 on; raises UserError for another one."""
        names = [str(place + 1) for place in range(self.networks.categorical_codes)]
        if label in names:
            return names.index(label)
        problem = f"this generator has no classes, and a code of {len(names)} categories: 1 to {len(names)}"
        raise UserError(Option("label", label), problem, Option("label", 1))

    def asked(self, label: str) -> Told:
        """Return what a class, or several labels with commas between, stand for; raises UserError if not known."""
        if not self.classes:
            problem = "this generator was not trained with classes"
            way = "Leave it out, or train another one with the setting networks.conditional=true"
            raise UserError(Option("label", label), problem, way)
        if self.sets:
            row = torch.zeros(len(self.classes))
            row[list(places_of(label, self.classes))] = 1
            return Told(row[None], ONE)
        if label not in self.classes:
            one = "one class a picture: " if re.search("[,;|]", label) else ""
            problem = f"this generator knows {one}{', '.join(self.classes)}"
            raise UserError(Option("label", label), problem, *suggested(label, self.classes))
        place = self.classes.index(label)
        if not self.group_classes:
            return Told(torch.tensor([place]), ONE)
        groups = torch.tensor(self.group_classes) == place
        weights = self._told.weights[groups]
        if not weights.any():  # held-out images alone are of this class
            weights = torch.ones_like(weights)
        return Told(groups.nonzero()[:, 0], weights)


def save_each(batches: Iterable[Tensor], folder: Path, scale: tuple[float, float] | None = None) -> int:
    """Write batches of images `[N, C, H, W]` in [-1, 1] as `folder/000000.png`, …; return their number.

    Measured channels are written as arrays [H, W, C], `folder/000000.npy`, …: in the numbers of the real ones where
    these are on a scale, else as uint8.
    """
    folder.mkdir(parents=True, exist_ok=True)
    num = 0
    for images in batches:
        for image in images:
            stem = folder / f"{num:06d}"
            if is_measured(len(image)):
                write_bytes(stem.with_suffix(".npy"), npy_of(numbers_of(image, scale)))
            else:
                as_picture(pixels_of(image)).save(stem.with_suffix(".png"))
            num += 1
    return num


def pixels_of(image: Tensor) -> np.ndarray:
    """Return an image `[C, H, W]` in [-1, 1] as files hold it: uint8 [H, W, C], colours with opacity not multiplied."""
    pixels = to_uint8(image).numpy().transpose(1, 2, 0)
    return plain_colours(pixels) if pixels.shape[2] == OPACITY else pixels


def numbers_of(image: Tensor, scale: tuple[float, float] | None) -> np.ndarray:
    """Return channels `[C, H, W]` in [-1, 1] as [H, W, C]: float32 on a scale from black to white, or uint8."""
    if scale is None:
        return pixels_of(image)
    low, high = scale
    values = low + (image.float().clamp(-1, 1) + 1) / 2 * (high - low)
    return values.permute(1, 2, 0).numpy()


def npy_of(values: np.ndarray) -> bytes:
    """Return an array as the bytes of an `.npy` file."""
    file = io.BytesIO()
    np.lib.format.write_array(file, np.ascontiguousarray(values), allow_pickle=False)
    return file.getvalue()


def known_classes(networks: Networks, classes: tuple[str, ...]) -> tuple[str, ...]:
    """Return what a recipe's networks know of these images: their classes, groups by name, or nothing."""
    if networks.conditional:
        return classes
    return names_of_groups(networks.groups)


def names_of_groups(num: int) -> tuple[str, ...]:
    """Return what groups of images are called, as classes are."""
    return tuple(f"group-{place:0{len(str(num))}}" for place in range(1, num + 1))


def scale_in(recipe: Recipe) -> tuple[float, float] | None:
    """Return the numbers that became black and white, where the images of a recipe are deep."""
    task = recipe.task
    if not isinstance(task, Images) or task.black is None or task.white is None:
        return None
    return task.black, task.white


def target_of(recipe: Recipe, model: ImageModel) -> Target:
    """Return what every image becomes that a generator of images is to learn from, or is compared with."""
    task = recipe.task
    assert isinstance(task, Images)
    scale = None if model.scale is None else Scale(*model.scale)
    return Target(model.size, model.channels, task.fit, parse_background(task.background), scale)


def model_of(recipe: Recipe, data: DataRecord) -> ImageModel:
    """Return the generator of a run from what it wrote down; raises msgspec.ValidationError for damage."""
    facts = msgspec.convert(data.facts, ImageFacts)
    classes = known_classes(recipe.networks, data.classes)
    sets = data.sets if recipe.networks.conditional else ()
    counts = data.group_counts if recipe.networks.groups else data.set_counts if sets else data.class_counts
    size, scale = size_of(facts.size), scale_in(recipe)
    return ImageModel(recipe.networks, size, facts.channels, classes, counts, scale, sets, data.group_classes)
