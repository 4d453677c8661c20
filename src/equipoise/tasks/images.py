"""Task: images from latents, conditional on a class or not; the judge compares features of held-out images."""

import math
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from equipoise.data.augment import augment, random_flip
from equipoise.data.cache import default_cache
from equipoise.data.changes import name_hashes
from equipoise.data.glance import Glance, glance
from equipoise.data.pool import (
    AS_FOUND,
    Pool,
    gather,
    names_of,
    prepare,
    to_float,
    to_uint8,
    told_by,
    train_indices,
    with_scale,
)
from equipoise.data.sources import subject_of
from equipoise.data.splits import Splits, content_digests, larger_shares, to_hashes
from equipoise.data.values import CONVENTIONS
from equipoise.errors import Part, Setting, UserError, together
from equipoise.game.judged import judged
from equipoise.game.losses import Loss
from equipoise.game.terms import (
    StepContext,
    discriminator_terms,
    generator_terms,
    variety_term,
    with_noise,
)
from equipoise.game.updates import Players, Terms
from equipoise.metrics.feature_judge import NEIGHBOURS, FeatureJudge
from equipoise.metrics.features.kept import RunEncoder
from equipoise.metrics.features.load import Features
from equipoise.nets import weights
from equipoise.nets.efficientnet import LITE0_WEIGHTS
from equipoise.nets.growing import set_levels
from equipoise.nets.layers import whole_packs
from equipoise.nets.made_for import cost_note, size_note
from equipoise.nets.players import make_players
from equipoise.randomness import Randomness
from equipoise.recipe import Data, Images, Networks, Recipe, TaskSettings
from equipoise.recipes import Facts
from equipoise.sizes import Size, size_of_shape
from equipoise.storage.records import DataRecord
from equipoise.tasks import are_alike
from equipoise.tasks.base import Examples, Exhibit, JudgedSplit, Rival, Split, Task, indices_of
from equipoise.tasks.idle import refuse_idle_augmentation
from equipoise.tasks.image_cautions import Seen, image_cautions
from equipoise.tasks.image_groups import Groups, classes_of, groups_of, groups_of_run, refuse_too_many, shares_of
from equipoise.tasks.image_judging import (
    NUM_NEAREST,
    NUM_REAL,
    Stage,
    batches,
    describe,
    feature_judge,
    features_of,
    image_exhibits,
    image_rivals,
    leak,
    num_shown,
    snapshot_of,
)
from equipoise.tasks.image_model import ImageModel, known_classes, model_of
from equipoise.tasks.image_pairs import Kinds, in_pairs, kinds_of, sees_pairs
from equipoise.tasks.image_sides import image_side, seen, sheet_hint
from equipoise.tasks.image_summary import summary_of, untold_note, with_left_out
from equipoise.tasks.image_terms import num_judges, second_terms, spread_of
from equipoise.tasks.sides import Caution, Side, halved

MAX_SIZE_CPU = 64  # pixels a side when the size is left open; --size asks for more
MAX_SIZE_GPU = 256
LEAST_DISTINCT = 22  # images without which no setting helps
LEAST_HELD_OUT = 10
ENOUGH = 200  # with which no setting has to be changed
LEAST_AUGMENTED = 0.2  # probability below which a leak would not be seen
NUM_LEAK = 500  # validation images by which one is looked for
OF_IMAGENET = ("efficientnet", "inception")  # features that were learned from its classes


@dataclass(frozen=True)
class ImageBatch:
    """Real images `[N, C, H, W]` in [-1, 1] with their labels `[N]`, if the game is conditional."""

    real: Tensor
    labels: Tensor | None


@dataclass(frozen=True)
class ImageTask(Task):
    """Image generation from a pool of real images, as a recipe says."""

    recipe: Recipe
    pool: Pool
    features: Features
    loss: Loss
    device: torch.device
    precision: torch.dtype
    num_real: int | None = None  # real images that it is judged by, at most; None: as many as in a training
    groups: Groups | None = None  # where networks are told them
    trained_on: DataRecord | None = None  # of other images, which a generator that is judged by these learned from

    @cached_property
    def _model(self) -> ImageModel:
        data = self.trained_on or self.describe()
        if self.groups is not None:
            data = msgspec.structs.replace(data, group_counts=self.groups.counts, group_classes=self.groups.classes)
        return model_of(self.recipe, data)

    def model(self) -> ImageModel:
        """Return what can be done with the generator without the data."""
        return self._model

    def describe(self) -> DataRecord:
        """Return what the images are."""
        return describe(self.pool, self.recipe.data.source)

    def players(self) -> Players:
        """Build generator and discriminator for this pool's size and channels."""
        players = self._model.players(self.recipe.game.packing)
        layout = {"device": self.device, "memory_format": torch.channels_last}
        return Players(players.generator.to(**layout), players.discriminator.to(**layout))

    def batch(self, randomness: Randomness, num: int) -> ImageBatch:
        """Gather the `num` real training images at this position, flipped if the recipe says so."""
        indices = train_indices(self.pool, randomness, num)
        if self._kinds is not None and sees_pairs(self.recipe.networks) and not self._model.sets:
            indices = in_pairs(indices, self._kinds, randomness)
        images = to_float(gather(self.pool, indices).to(self.device, non_blocking=True))
        if _settings(self.recipe).flip:
            images = random_flip(images, randomness.generator("flip"))
        return ImageBatch(images.contiguous(memory_format=torch.channels_last), self._labels(indices))

    def discriminator_terms(self, players: Players, batch: ImageBatch, step: StepContext) -> Terms:
        """Return the adversarial term and, when it is due, the gradient penalty."""
        set_levels(step.randomness.samples, players.generator, players.discriminator)
        with step.graph_if_needed(), self._autocast():
            latents = self._latents("discriminator latents", step, len(batch.real))
            told = self._told(batch.labels)
            fake = players.generator(latents, told)
        return discriminator_terms(
            self.recipe.game,
            self.loss,
            self._seen(batch.real, "real", step),
            self._seen(fake.float(), "fake", step),
            lambda images: players.discriminator(images, told),
            step,
            self._autocast,
            lambda of_real, of_fake: second_terms(self.recipe, told, latents, of_fake, of_real),
            num_judges(self.recipe.networks),
        )

    def generator_terms(self, players: Players, batch: ImageBatch, step: StepContext) -> Terms:
        """Return the adversarial term; relativistic losses compare with the batch's real images."""
        set_levels(step.randomness.samples, players.generator, players.discriminator)
        with self._autocast():
            latents = self._latents("generator latents", step, len(batch.real))
            told = self._told(batch.labels)
            fake = players.generator(latents, told)
        terms = generator_terms(
            self.loss,
            self._seen(fake.float(), "generated", step),
            lambda: self._seen(batch.real, "compared", step),
            lambda images: players.discriminator(images, told),
            self._autocast,
            lambda of_fake: second_terms(self.recipe, told, latents, of_fake),
            step,
        )
        if weight := self.recipe.game.variety:
            terms["variety"] = weight * self._variety(players.generator, fake, batch, step)
        return Terms(terms)

    def _variety(self, generator: nn.Module, fake: Tensor, batch: ImageBatch, step: StepContext) -> Tensor:
        """Return the term of variety, of the first half of a batch and of as many images of other latents."""
        half = (len(fake) + 1) // 2
        labels = None if batch.labels is None else batch.labels[:half]
        with self._autocast():
            other = generator(self._latents("other latents", step, half), self._told(labels))
        wanted = self._spread if labels is None else self._spread[labels]
        return variety_term(fake[:half].float(), other.float(), wanted.to(fake.device))

    @cached_property
    def _spread(self) -> Tensor:
        """The mean distance `[K]` of two training images of each class or combination, or `[1]` of any two."""
        return spread_of(self.pool, [self.pool.splits.train] if self._kinds is None else self._kinds.parts)

    def examples(self, split: Split, begin: int, size: int) -> Examples:
        """Return (labels, images `[n, C, H, W]` in [-1, 1]) of one split; its order is random and fixed."""
        indices = indices_of(self.pool.splits, split)[begin : begin + size]
        images = to_float(gather(self.pool, indices))
        return Examples(self._labels(torch.from_numpy(indices)), images)

    def outputs(self, generator: nn.Module, randomness: Randomness, split: Split, begin: int, size: int) -> Tensor:
        """Draw `size` images `[size, C, H, W]` in [-1, 1]; they do not depend on the split."""
        return self._model.draw(generator, randomness, size)

    def logits(self, discriminator: nn.Module, inputs: Tensor | None, outputs: Tensor) -> Tensor:
        """Return the discriminator's logits `[N]` of images with their labels, or of packs; the mean of several."""
        told = self._told(inputs)
        logits = judged(discriminator(whole_packs(outputs, self.recipe.game.packing).to(self.device), told)).logits
        return logits if logits.ndim == 1 else logits.mean(1)

    def augmentation_leak(self, generator: nn.Module, randomness: Randomness, more: float) -> float:
        """Return (KID to augmented real images − KID to real ones) in standard errors, of a few validation images.

        Below 0 generated images look augmented. NaN where fewer than one in five is augmented.
        """
        kinds = self.recipe.augment.kinds
        probability = min(1.0, self.recipe.augment.probability + more)
        if not kinds or probability < LEAST_AUGMENTED:
            return math.nan
        real = self.examples("validation", 0, NUM_LEAK).targets
        changed = augment(real, kinds, probability, randomness.generator("leak")).clamp(-1, 1)
        return leak(self.features, real, changed, self._model.draw(generator, randomness, len(real)))

    def judge(self, split: JudgedSplit) -> FeatureJudge | None:
        """Return the judge by a split's images."""
        return feature_judge(self.pool, self.features, split, self.recipe.evaluation.num_samples, self.num_real)

    def judging(self, indices: np.ndarray) -> "ImageTask":
        """Return this task with these images as its test split, all of them."""
        return self._resplit(self.pool.splits.train, indices)

    def halved(self) -> "ImageTask | None":
        """Return this task with one half of its test split to learn from and the other to test by; None of too few."""
        test = self.pool.splits.test
        first, second = halved(to_hashes(content_digests(self.pool.images[test])))
        if min(len(first), len(second)) <= NEIGHBOURS:
            return None
        return self._resplit(test[first[:NUM_REAL]], test[second[:NUM_REAL]])

    def _resplit(self, train: np.ndarray, test: np.ndarray) -> "ImageTask":
        """Return this task with these images to learn from and to test by; no other ones are held out."""
        splits = Splits(train, test[:0], test)
        return replace(self, pool=replace(self.pool, splits=splits), num_real=len(test))

    def rivals(self) -> tuple[Rival, ...]:
        """Return the floor (the mean training image with noise) and the ceiling (training images)."""
        return image_rivals(self.pool)

    def snapshot(self, generator: nn.Module) -> Exhibit:
        """Return the first images of fixed latents."""
        return snapshot_of(self.outputs(generator, Randomness(0), "validation", 0, num_shown(self.pool)))

    def exhibits(self, generator: nn.Module) -> list[Exhibit]:
        """Return generated images beside real ones, and some beside the training images nearest to them."""
        num = num_shown(self.pool)
        images = self.outputs(generator, Randomness(0), "validation", 0, max(num, NUM_NEAREST)).cpu()
        return image_exhibits(images[:num], images[:NUM_NEAREST], self.pool, self.features)

    def _labels(self, indices: Tensor) -> Tensor | None:
        labels = self.pool.labels if self.groups is None else self.groups.groups
        if not self._model.classes or labels is None or self.trained_on is not None:
            return None
        return torch.from_numpy(labels[indices.numpy()]).to(self.device)

    @cached_property
    def _kinds(self) -> Kinds | None:
        """The class, combination of labels or group of each image, where the networks are told them."""
        labels = self._labels(torch.arange(len(self.pool.images)))
        if labels is None:
            return None
        return kinds_of(labels.cpu().numpy(), self.pool.splits.train, self._model.num_kinds)

    def _told(self, labels: Tensor | None) -> Tensor | None:
        """Return what the networks are told of images with these labels `[N]`: 0 and 1 `[N, L]` if they are of sets."""
        return labels if labels is None or not self._model.sets else self._rows[labels]

    @cached_property
    def _rows(self) -> Tensor:
        return self._model.rows.to(self.device)  # once, as a step shall not wait for it

    def _latents(self, stream: str, step: StepContext, num: int) -> Tensor:
        return step.randomness.normal(stream, num, self.recipe.networks.latent_size).to(self.device)

    def _autocast(self) -> AbstractContextManager:
        return torch.autocast(self.device.type, dtype=self.precision, enabled=self.precision != torch.float32)

    def _seen(self, images: Tensor, stream: str, step: StepContext) -> Tensor:
        """Return images as the discriminator sees them: augmented, and with instance noise."""
        kinds = self.recipe.augment.kinds
        probability = min(1.0, self.recipe.augment.probability + step.adjustments.augment)
        if kinds and probability > 0:
            generator = step.randomness.generator(f"augment {stream}")
            with torch.autocast(self.device.type, enabled=False):  # whatever the networks compute in
                images = augment(images, kinds, probability, generator)
        return with_noise(images, self.recipe.game, stream, step)


# From a source to a task


@dataclass(frozen=True)
class ImageSource:
    """Images that were read and not yet a task."""

    pool: Pool
    device: torch.device
    name: str = ""
    settings: Images = AS_FOUND
    stage: Stage = lambda text, share: None
    encoder: RunEncoder | None = None  # of the run that these images are to be judged for
    groups: Groups | None = None  # of that run
    trained_on: DataRecord | None = None  # by that run, where these images are others

    @property
    def facts(self) -> Facts:
        """What a recipe is made from."""
        size, channels = shape_of(self.pool)
        is_cpu = self.device.type == "cpu"
        has_pretrained = weights.find(LITE0_WEIGHTS, default_cache()) is not None
        return Facts(size.side, channels, len(self.pool.splits.train), is_cpu, has_pretrained, min(size))

    @property
    def digest(self) -> str:
        """The digest of the images and their splits."""
        return self.pool.digest

    def describe(self, recipe: Recipe) -> DataRecord:
        """Return what the images are."""
        return describe(self.pool, recipe.data.source)

    @property
    def splits(self) -> Splits:
        """How the images are split."""
        return self.pool.splits

    @property
    def hashes(self) -> np.ndarray:
        """The hashes uint64 [N] of the images' pixels."""
        return self.pool.hashes

    def name_hashes(self) -> np.ndarray | None:
        """Return the hashes uint64 [N] of the images' names; None where they are rows of an array, or never change.

        Raises UserError where the source has changed since it was read.
        """
        if not Path(self.name).expanduser().exists() or self.name.lower().endswith(".npz"):
            return None
        return _names(Data(source=self.name), self.pool)

    def among(self, contents: np.ndarray, settings: TaskSettings) -> np.ndarray:
        """Return which images, bool [N], are among contents that these settings have made of images.

        With others than these here, the source is read once more: the name of an image says which it is in both.
        Raises UserError where it cannot be read so.
        """
        if are_alike(self._found_settings, settings):
            return np.isin(self.hashes, contents)
        assert isinstance(settings, Images)
        try:
            other = prepare(Data(source=self.name), settings, progress=told_by(self.stage))
        except UserError as error:
            if isinstance(error.subject, Setting) and error.subject.field == "task.channels":
                return np.zeros(len(self.hashes), bool)  # no run with these settings has read any of them
            raise
        data = Data(source=self.name)
        names = _names(data, other)[np.isin(other.hashes, contents)]
        return np.isin(_names(data, self.pool), names)

    def as_begun(self, data: DataRecord) -> "ImageSource":
        """Return the same images under a run's digest."""
        return replace(self, pool=replace(self.pool, digest=data.digest))

    @property
    def _found_settings(self) -> Images:
        """The settings with what was found in the images."""
        size, channels = shape_of(self.pool)
        return with_scale(msgspec.structs.replace(self.settings, size=size.given, channels=channels), self.pool.scale)

    def players(self, recipe: Recipe) -> Players:
        """Return both networks of a recipe for these images."""
        return planned(recipe.networks, self.pool).players(recipe.game.packing)

    @cached_property
    def found(self) -> Glance:
        """What the files say of themselves, and a look at some of them."""
        return glance(self.name, lambda share: self.stage("looking at the files", share))

    @property
    def noun(self) -> str:
        """What one calls them."""
        return "images"

    def judged_like(self, data: DataRecord, weights: Path) -> "ImageSource":
        """Return the same images, judged by a run's evaluation encoder as long as that or the cache has it."""
        return replace(self, encoder=RunEncoder(weights, data.encoder, data.digest))

    def grouped_like(self, data: DataRecord, path: Path) -> "ImageSource":
        """Return the same images in the groups of a run, which are in a file of its folder, drawn by its classes."""
        others = data if data.digest != self.pool.digest else None
        return replace(self, groups=groups_of_run(self.pool, data, path), trained_on=others)

    def most_compared(self, split: str) -> int:
        """Return how many images are compared: of the test split as many as after a training, else all."""
        return NUM_REAL if split == "test" else len(self.pool.images)

    def side(self, indices: np.ndarray, split: str | None, num_seen: int) -> Side:
        """Return what one side of an evaluation is made of, where these images are compared."""
        return image_side(self.name, self.pool, self.settings.fit, self.found, self.hashes[indices], split, num_seen)

    def fitting(self) -> dict[str, Any]:
        """Return what all images were brought to, for the protocol."""
        size, channels = shape_of(self.pool)
        settings = self.settings
        found: dict[str, Any] = {"size": size.plain, "channels": channels, "fit": settings.fit}
        if settings.fit == "pad":
            found["background"] = settings.background
        if self.pool.scale is not None:
            found |= {"black": self.pool.scale[0], "white": self.pool.scale[1]}
        return found

    def on_own_scale(self, recipe: Recipe) -> "ImageSource":
        """Return the images, read by a recipe of others, on their own scale where both are usual ones: -1..1, 0..1.

        Any other scale is that of one kind of measurement, and what is compared shares it. Bytes have none.
        """
        task = _settings(recipe)
        if task.black is None or (self.pool.scale is not None and (task.black, task.white) not in CONVENTIONS):
            return self
        own = opened(replace(recipe, task=with_scale(task, (None, None))), self.device, self.stage)
        return own if own.pool.scale in (*CONVENTIONS, None) else self

    def hint(self) -> str:
        """Say why there may be fewer images than expected: each file may show many."""
        return sheet_hint(self.found, self.name)

    def cautions(self, indices: np.ndarray, generated: "ImageSource | None", drawn: Tensor | None) -> list[Caution]:
        """Return what is doubtful about comparing these images with those of a source, or with drawn ones."""
        fit = self.settings.fit
        real = seen("real", self.name, self.pool, self.hashes, indices, self.found, fit)
        if generated is not None:
            every = np.arange(len(generated.pool.images))
            name = generated.name
            other = seen("generated", name, generated.pool, generated.hashes, every, generated.found, fit)
            return image_cautions(real, other, size_of_shape(self.pool.images.shape))
        pixels = real.pixels[:0]
        if drawn is not None:
            pixels = to_uint8(drawn).cpu().numpy()
        other = Seen("generated", "the run", pixels, to_hashes(content_digests(pixels)))
        return image_cautions(real, other, size_of_shape(self.pool.images.shape))

    def fitted(self, recipe: Recipe) -> Recipe:
        """Return the recipe with the size and channels that were found."""
        size, channels = shape_of(self.pool)
        task = msgspec.structs.replace(_settings(recipe), size=size.given, channels=channels)
        return replace(recipe, task=with_scale(task, self.pool.scale))

    def settled(self, recipe: Recipe) -> Recipe:
        """Return the recipe with the size and channels that were found; raises UserError where it does not fit."""
        recipe = self.fitted(recipe)
        refuse_impossible(recipe, self.pool)
        return recipe

    def everything(self) -> Iterator[Tensor]:
        """Yield all images in batches."""
        return batches(self.pool, np.arange(len(self.pool.images)))

    def summary(self, recipe: Recipe) -> str:
        """Say in a line what was found."""
        size, channels = shape_of(self.pool)
        notes = [size_note(recipe, size), untold_note(recipe.networks, self.pool)]
        if self.device.type == "cpu":
            notes.append(cost_note(recipe.networks, size, channels))
        return summary_of(self.pool, f"images of {recipe.data.source}", *notes)

    def task(self, recipe: Recipe, loss: Loss, precision: torch.dtype, stage: Stage) -> ImageTask:
        """Return the task; the evaluation encoder is trained here, where the cache has none.

        Features of ImageNet flatter a generator that learns from such ones: the protocol says so, which keeps its
        scores apart from other generators'.
        """
        name = recipe.evaluation.features
        features = features_of(self.pool, name, self.device, stage, self.encoder, _settings(recipe))
        if recipe.networks.pretrained and features.name in OF_IMAGENET:
            features = replace(features, flatters=True)
        groups = self._grouped(recipe.networks, stage) if recipe.networks.groups else None
        task = ImageTask(recipe, self.pool, features, loss, self.device, precision)
        return replace(task, groups=groups, trained_on=self.trained_on)

    def _grouped(self, networks: Networks, stage: Stage) -> Groups:
        """Return the groups of the run if they are known, else new ones."""
        if self.groups is not None:
            return self.groups
        return groups_of(self.pool, networks.groups, networks.conditional, default_cache(), self.device, stage)


def opened(recipe: Recipe, device: torch.device, stage: Stage) -> ImageSource:
    """Read the images of a recipe's source, at most as large as this device trains when no size is asked for."""
    pool = prepare(recipe.data, _settings(recipe), max_size=largest(device), progress=told_by(stage))
    return ImageSource(pool, device, recipe.data.source, _settings(recipe), stage)


def _names(data: Data, pool: Pool) -> np.ndarray:
    """Return the hashes uint64 [N] of the names of a pool's images; raises UserError where the source has changed."""
    return name_hashes(names_of(data, pool)) if pool.name_hashes is None else pool.name_hashes


def planned(networks: Networks, pool: Pool) -> ImageModel:
    """Return the generator of these images as far as it is known before they are in groups."""
    size, channels = shape_of(pool)
    shares = shares_of(pool, networks.groups) if networks.conditional and networks.groups else ()
    classes = known_classes(networks, pool.classes)
    return ImageModel(networks, size, channels, classes, group_classes=classes_of(shares))


def shape_of(pool: Pool) -> tuple[Size, int]:
    """Return the size of a pool's images and their channels."""
    return size_of_shape(pool.images.shape), pool.images.shape[1]


def largest(device: torch.device) -> int:
    """Return the pixels a side up to which images keep their size on this device."""
    return MAX_SIZE_CPU if device.type == "cpu" else MAX_SIZE_GPU


def refuse_impossible(recipe: Recipe, pool: Pool) -> None:
    """Raise UserError where recipe and images do not fit, before any network is built; it says all that is missing."""
    refuse_idle_augmentation(recipe.augment)
    source = subject_of(recipe.data.source)
    refuse_few(pool, source)
    missing, settings, num_train = missing_of(pool)
    if num_train < recipe.game.batch:
        missing.append(f"{num_train} images are left to train on, fewer than one batch of {recipe.game.batch}")
        settings.append(Setting("game.batch", max(2, num_train // 2)))
    remedies = ["Add images"] if missing else []
    if recipe.networks.conditional and not pool.classes:
        whys = (note for note in pool.notes if "class" in note or "not used" in note)
        why = next(whys, "there are no sub-folders with images")
        missing.append(f"networks.conditional needs classes, and {why}")
        settings.append(Setting("networks.conditional", False))
        remedies.append("Sort the images into one folder for each class, or train without classes")
    if missing:
        raise UserError(source, with_left_out("; ".join(missing), pool), *remedies, *together(settings))
    refuse_too_many(recipe.networks.groups, num_train)
    if pool.sets and recipe.networks.conditional and recipe.networks.groups:
        problem = "with networks.conditional=true on images with several labels: these have no groups within them"
        ways = (Setting("networks.groups", 0), Setting("networks.conditional", False))
        raise UserError(Setting("networks.groups", recipe.networks.groups), problem, *ways)
    model = planned(recipe.networks, pool)
    with torch.device("meta"):  # takes no memory; refuses what a family of networks cannot do
        shape = {"size": model.size.given, "channels": model.channels, "num_classes": model.num_told}
        make_players(recipe.networks, **shape, packing=recipe.game.packing)


def refuse_few(pool: Pool, subject: Part) -> None:
    """Raise UserError where there are so few images that no setting helps."""
    num_distinct = len(pool.images) - pool.num_duplicates
    if num_distinct < LEAST_DISTINCT:
        problem = (
            f"{num_distinct} distinct images; at least {LEAST_DISTINCT} are needed (10 for validation, 10 for the "
            f"test, 2 to train on), and about {ENOUGH} where no settings are changed"
        )
        raise UserError(subject, with_left_out(problem, pool), f"Add at least {LEAST_DISTINCT - num_distinct} images")


def missing_of(pool: Pool) -> tuple[list[str], list[Setting], int]:
    """Return what the held-out splits lack, the settings that give it, and how many images these leave to train on."""
    num_train = len(pool.splits.train)
    held_out = (len(pool.splits.validation), len(pool.splits.test))
    if min(held_out) >= LEAST_HELD_OUT:
        return [], [], num_train
    missing = (
        f"{len(pool.images):,} images, of which {held_out[0]} validation and {held_out[1]} test images; at least "
        f"{LEAST_HELD_OUT} of each are needed"
    )
    settings, num_left = larger_shares(pool.hashes, LEAST_HELD_OUT, least_train=2)
    if not settings:
        return [missing], [], num_train
    return [missing], settings, num_left


def _settings(recipe: Recipe) -> Images:
    assert isinstance(recipe.task, Images)
    return recipe.task
