"""Task: large photographs from small ones; judged by image against the originals, and by patches against real ones."""

from collections import Counter
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, get_args

import msgspec
import numpy as np
import torch
from torch import Tensor, nn

from equipoise.data.cache import default_cache, writing_to
from equipoise.data.changes import name_hashes
from equipoise.data.photos import Photos, read_photos
from equipoise.data.pool import to_float
from equipoise.data.sources import subject_of
from equipoise.data.splits import Splits, larger_shares, split
from equipoise.errors import Setting, UserError, together
from equipoise.game.losses import Loss
from equipoise.game.terms import StepContext, discriminator_terms
from equipoise.game.updates import Players, Terms
from equipoise.metrics.features.kept import RunEncoder
from equipoise.metrics.features.load import Features, load_features
from equipoise.metrics.pair_judge import PATCH, PairJudge, enlarged_by, make_pair_judge, patches_of
from equipoise.nets.super_resolution import SuperDiscriminator, SuperGenerator, enlarge, reduce
from equipoise.randomness import Randomness
from equipoise.recipe import FeaturesName, Recipe, SuperResolution, TaskSettings
from equipoise.recipes import Facts
from equipoise.storage.records import DataRecord
from equipoise.storage.safe_open import writable_text
from equipoise.tasks.base import Examples, Exhibit, JudgedSplit, Rival, Split, Task, digest_with, indices_of, judged
from equipoise.tasks.exhibits import grid, picture
from equipoise.tasks.idle import IDLE_ON_PHOTOGRAPHS, refuse_without_effect
from equipoise.tasks.image_judging import ENCODER_STAGE, Stage, lesson_of
from equipoise.tasks.sides import Caution, Side, num_distinct, repeated
from equipoise.tasks.super_resolution_model import SuperModel

NUM_FOR_ENCODER = 20_000  # patches of training photographs that the evaluation encoder learns from
RAMP = 0.1  # of the budget, over which the adversarial term comes in
WARM_UP = 0.05  # of the budget, for which the discriminator is trained before that
LEAST_PHOTOS = 22
LEAST_HELD_OUT = 2
NUM_SHOWN = 4
SIDE_SHOWN = 120  # pixels a side of a crop in a picture
CHUNK = 4


class PhotoFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What an evaluation of a run must know of its photographs; kept in `data.json`."""

    encoder: str  # the key of its evaluation encoder in the cache


class Pairs(NamedTuple):
    """Large patches `[N, 3, H, W]` in [-1, 1] and what they become when reduced."""

    large: Tensor
    small: Tensor


@dataclass(frozen=True, eq=False)
class PhotoSource:
    """Photographs that were read and not yet a task."""

    name: str
    photos: Photos
    splits: Splits
    device: torch.device
    encoder: RunEncoder | None = None  # of the run that these photographs are to be judged for
    begun_as: str | None = None  # the digest of a run that began with the same ones, in another order

    @property
    def digest(self) -> str:
        """The digest of the photographs and their splits."""
        return self.begun_as or digest_with(self.photos.digest.encode(), self.splits)

    @property
    def facts(self) -> Facts:
        """What a recipe is made from."""
        return Facts(num_train=len(self.splits.train), channels=3, is_cpu=self.device.type == "cpu")

    def describe(self, recipe: Recipe) -> DataRecord:
        """Return what the photographs are."""
        splits = self.splits
        return DataRecord(
            source=self.name,
            path=writable_text(str(Path(self.name).expanduser().resolve())),
            digest=self.digest,
            noun="images",
            summary=f"photographs, enlarged {_settings(recipe).scale} times",
            num_train=len(splits.train),
            num_validation=len(splits.validation),
            num_test=len(splits.test),
            num_duplicates=len(self.photos.hashes) - len(np.unique(self.photos.hashes)),
            rejected=self.photos.rejected,
            facts={
                "encoder": _encoder_key(self),
            },
        )

    @property
    def hashes(self) -> np.ndarray:
        """The hashes uint64 [N] of the photographs."""
        return self.photos.hashes

    @property
    def noun(self) -> str:
        """What one calls them."""
        return "photographs"

    def among(self, contents: np.ndarray, settings: TaskSettings) -> np.ndarray:
        """Return which photographs, bool [N], are among contents."""
        return np.isin(self.hashes, contents)

    def as_begun(self, data: DataRecord) -> "PhotoSource":
        """Return the same photographs under a run's digest."""
        return replace(self, begun_as=data.digest)

    def name_hashes(self) -> np.ndarray | None:
        """Return the hashes uint64 [N] of their files' names; None where they are rows of an array."""
        return None if self.name.lower().endswith(".npz") else name_hashes(self.photos.names)

    def players(self, recipe: Recipe) -> Players:
        """Return both networks of a recipe."""
        networks = recipe.networks
        generator = SuperGenerator(_settings(recipe).scale, networks.width)
        return Players(generator, SuperDiscriminator(networks.width, spectral_norm=networks.spectral_norm))

    def judged_like(self, data: DataRecord, weights: Path) -> "PhotoSource":
        """Return the same photographs, judged by a run's evaluation encoder as long as that or the cache has it."""
        is_own = data.digest == self.digest
        key = _encoder_key(self) if is_own else msgspec.convert(data.facts, PhotoFacts).encoder
        return replace(self, encoder=RunEncoder(weights, data.encoder, key))

    def grouped_like(self, data: DataRecord, path: Path) -> "PhotoSource":
        """Return the same photographs, which are in no groups."""
        return self

    def most_compared(self, split: str) -> int:
        """Return how many photographs are compared: all."""
        return len(self.photos.images)

    def side(self, indices: np.ndarray, split: str | None, num_seen: int) -> Side:
        """Return what the photographs are that outputs are compared with."""
        photos = self.photos
        return Side(
            source=self.name,
            num_found=len(photos.images) + len(photos.rejected) + photos.num_left_out,
            num_used=len(photos.images),
            num_compared=len(indices),
            num_distinct=num_distinct(self.hashes[indices]),
            split=split,
            num_seen=num_seen,
            rejected=photos.rejected,
            sizes=Counter((image.shape[2], image.shape[1]) for image in photos.images),
            notes=(f"{photos.num_left_out} left out for want of memory",) if photos.num_left_out else (),
        )

    def fitting(self) -> dict[str, Any]:
        """Return nothing: photographs keep their size."""
        return {}

    def on_own_scale(self, recipe: Recipe) -> "PhotoSource":
        """Return the same: photographs have one scale."""
        return self

    def hint(self) -> str:
        """Say nothing."""
        return ""

    def cautions(self, indices: np.ndarray, generated: "PhotoSource | None", drawn: Any) -> list[Caution]:
        """Return where the photographs are one and the same."""
        return repeated("real", self.name, "photographs", self.hashes[indices])

    def fitted(self, recipe: Recipe) -> Recipe:
        """Return the recipe as it is."""
        return recipe

    def settled(self, recipe: Recipe) -> Recipe:
        """Return the recipe; raises UserError where it does not fit the photographs."""
        num = len(self.photos.images)
        held_out = min(len(self.splits.validation), len(self.splits.test))
        if num < LEAST_PHOTOS or held_out < LEAST_HELD_OUT:
            problem = (
                f"{num} photographs, {len(self.splits.validation)} for validation and {len(self.splits.test)} for the "
                f"test; at least {LEAST_PHOTOS} are needed, {LEAST_HELD_OUT} of them in each"
            )
            larger: list[Setting] = []
            if num >= LEAST_PHOTOS:
                larger, _ = larger_shares(self.photos.hashes, LEAST_HELD_OUT, least_train=1)
            raise UserError(subject_of(self.name), problem, "Add photographs", *together(larger))
        settings = _settings(recipe)
        if settings.patch % settings.scale:
            problem = f"not a multiple of task.scale={settings.scale}"
            raise UserError(Setting("task.patch", settings.patch), problem, Setting("task.patch", 24 * settings.scale))
        refuse_without_effect(recipe, "super-resolution", IDLE_ON_PHOTOGRAPHS)
        if recipe.game.update == "competitive":
            problem = "on super-resolution: the generator has terms that the discriminator does not raise"
            raise UserError(Setting("game.update", "competitive"), problem, Setting("game.update", "extragradient"))
        return recipe

    def summary(self, recipe: Recipe) -> str:
        """Say in a line what was found."""
        text = f"{len(self.photos.images):,} photographs of {self.name}, {len(self.splits.train):,} to train on"
        if self.photos.rejected:
            first = "; ".join(f"{item.name}: {item.reason}" for item in self.photos.rejected[:3])
            text += f"; {len(self.photos.rejected)} could not be used ({first})"
        if self.photos.num_left_out:
            text += f"; {self.photos.num_left_out} left out, as they do not fit into memory"
        if self.photos.num_skipped:
            text += f"; {self.photos.num_skipped:,} files ignored, as their names are not those of images"
        return ". ".join([text, *(f"{note[:1].upper()}{note[1:]}" for note in self.photos.notes)])

    def everything(self) -> NoReturn:
        """Raise UserError: without their inputs, large images cannot be judged."""
        problem = "super-resolution is evaluated by a run, not by its outputs"
        raise UserError("evaluate", problem, "Use: equipoise evaluate RUN --against photos/")

    def task(self, recipe: Recipe, loss: Loss, precision: torch.dtype, stage: Stage) -> "SuperTask":
        """Return the task; the evaluation encoder is trained here, where the cache has none."""
        features = _features(self, recipe.evaluation.features, stage)
        return SuperTask(recipe, self, features, loss, self.device, precision)


@dataclass(frozen=True, eq=False)
class SuperTask(Task):
    """Super-resolution, as a recipe says."""

    recipe: Recipe
    source: PhotoSource
    features: Features
    loss: Loss
    device: torch.device
    precision: torch.dtype

    @property
    def settings(self) -> SuperResolution:
        """The task's settings."""
        return _settings(self.recipe)

    @cached_property
    def _small(self) -> tuple[np.ndarray, ...]:
        """Every photograph reduced, as uint8 [3, h, w]."""
        return tuple(reduced(image, self.settings.scale) for image in self.source.photos.images)

    def model(self) -> SuperModel:
        """Return what can be done with the generator without the data."""
        return SuperModel(self.recipe.networks, self.settings.scale)

    def describe(self) -> DataRecord:
        """Return what the photographs are."""
        return self.source.describe(self.recipe)

    def players(self) -> Players:
        """Build both networks."""
        players = self.source.players(self.recipe)
        layout = {"device": self.device, "memory_format": torch.channels_last}
        return Players(players.generator.to(**layout), players.discriminator.to(**layout))

    def batch(self, randomness: Randomness, num: int) -> Pairs:
        """Cut `num` large patches and their small ones at this position, flipped and turned at random."""
        generator = randomness.generator("patches")
        train = self.source.splits.train
        chosen = torch.randint(len(train), (num,), generator=generator).tolist()
        draws = torch.rand(num, 2, generator=generator).tolist()
        turns = torch.randint(8, (num,), generator=generator).tolist()
        large = []
        small = []
        scale = self.settings.scale
        side = self.settings.patch // scale
        for place, (down, across), turn in zip(chosen, draws, turns, strict=True):
            index = int(train[place])
            low = self._small[index]
            top = int(down * (low.shape[1] - side + 1))
            left = int(across * (low.shape[2] - side + 1))
            high = self.source.photos.images[index]
            patch = high[:, top * scale : (top + side) * scale, left * scale : (left + side) * scale]
            large.append(_turned(patch, turn))
            small.append(_turned(low[:, top : top + side, left : left + side], turn))
        return Pairs(*(self._placed(torch.from_numpy(np.stack(part))) for part in (large, small)))

    def adversarial_weight(self, progress: float) -> float:
        """Return the weight of the adversarial term: none while faithful, then ramped up."""
        into = (progress - self.settings.faithful) / RAMP
        return self.settings.adversarial * min(1.0, max(0.0, into))

    def discriminator_terms(self, players: Players, batch: Pairs, step: StepContext) -> Terms:
        """Return the adversarial term in pairs; none as long as the generator has no use of it."""
        if self.settings.adversarial == 0 or step.progress < self.settings.faithful - WARM_UP:
            return Terms({})
        with step.graph_if_needed(), self._autocast():
            fake = players.generator(batch.small).float()
        enlarged = enlarge(batch.small, batch.large.shape[-2:])
        return discriminator_terms(
            self.recipe.game,
            self.loss,
            batch.large,
            fake,
            lambda large: players.discriminator(large, enlarged),
            step,
            self._autocast,
        )

    def generator_terms(self, players: Players, batch: Pairs, step: StepContext) -> Terms:
        """Return the mean absolute error, and later the adversarial term and the distance of D's features."""
        with self._autocast():
            fake = players.generator(batch.small).float()
        losses = {"l1": (fake - batch.large).abs().flatten(1).mean(1)}
        if self.adversarial_weight(step.progress) > 0:
            losses |= self._adversarial(players.discriminator, fake, batch, step)
        return Terms(losses)

    def _adversarial(
        self, discriminator: nn.Module, fake: Tensor, batch: Pairs, step: StepContext
    ) -> dict[str, Tensor]:
        """Return the terms of G that are ramped up: the adversarial one, and the distance of D's features."""
        assert isinstance(discriminator, SuperDiscriminator)
        weight = self.adversarial_weight(step.progress)
        enlarged = enlarge(batch.small, batch.large.shape[-2:])
        with self._autocast():
            of_fake = discriminator.features(fake, enlarged)
            with step.graph_if_needed():
                of_real = discriminator.features(batch.large, enlarged)
            distances = [
                (a.float() - b.float()).abs().flatten(1).mean(1) for a, b in zip(of_fake, of_real, strict=True)
            ]
            fake_logits = discriminator.logits(of_fake).float()
            with step.graph_if_needed():
                real_logits = discriminator.logits(of_real).float()
        adversarial = self.loss.generator(real_logits, fake_logits)
        return {"adversarial": weight * adversarial, "features": weight * torch.stack(distances).mean(0)}

    def examples(self, split: Split, begin: int, size: int) -> Examples:
        """Return lists of small images and of their originals `[3, H, W]` in [-1, 1]."""
        chosen = indices_of(self.source.splits, split)[begin : begin + size]
        small = [to_float(torch.from_numpy(self._small[index])) for index in chosen]
        return Examples(small, [to_float(torch.from_numpy(self.source.photos.images[index])) for index in chosen])

    def outputs(
        self, generator: nn.Module, randomness: Randomness, split: Split, begin: int, size: int
    ) -> list[Tensor]:
        """Return a list of large images `[3, H, W]` in [-1, 1], one for each small image of these positions."""
        model = self.model()
        return [model.enlarged(generator, small) for small in self.examples(split, begin, size).inputs]

    def logits(self, discriminator: nn.Module, inputs: list[Tensor], outputs: list[Tensor]) -> Tensor:
        """Return the discriminator's logits `[N]` of large images with their small ones."""
        found = []
        for small, large in zip(inputs, outputs, strict=True):
            pair = (large[None].to(self.device), enlarge(small[None].to(self.device), large.shape[-2:]))
            found.append(discriminator(*pair))
        return torch.cat(found)

    @property
    def chunk(self) -> int:
        """How many photographs are enlarged at once."""
        return CHUNK

    def judge(self, split: JudgedSplit) -> PairJudge | None:
        """Return the judge by the photographs of a split, None where there are none."""
        return self._judges[split]

    @cached_property
    def _judges(self) -> dict[JudgedSplit, PairJudge | None]:
        names: tuple[JudgedSplit, ...] = get_args(JudgedSplit)
        return {split: self._made_judge(split) for split in names}

    def _made_judge(self, split: JudgedSplit) -> PairJudge | None:
        indices = judged(split, self.source.splits.validation, self.source.splits.test)
        if not len(indices):
            return None
        photos = self.source.photos.images
        small = self._small
        return make_pair_judge(
            [photos[index] for index in indices],
            [small[index] for index in indices],
            self.features,
            scale=self.settings.scale,
            is_faithful=self.settings.adversarial == 0,
            protocol={"data_digest": self.source.digest, "split": split},
        )

    def judging(self, indices: np.ndarray) -> "SuperTask":
        """Return this task with these photographs as its test split."""
        splits = replace(self.source.splits, test=indices)
        return replace(self, source=replace(self.source, splits=splits))

    def halved(self) -> "SuperTask":
        """Return this task: its baselines learn nothing, so all photographs test them."""
        return self

    def rivals(self) -> tuple[Rival, ...]:
        """Return nearest-neighbour and bicubic enlargement, and the originals themselves."""
        return (
            Rival("nearest-neighbour", "floor", partial(self._enlarged_by, "nearest")),
            Rival("bicubic", "rival", partial(self._enlarged_by, "bicubic")),
            Rival("the originals", "ceiling", lambda split, begin, size: self.examples(split, begin, size).targets),
        )

    def _enlarged_by(self, mode: str, split: Split, begin: int, size: int) -> list[Tensor]:
        return [enlarged_by(mode, small, self.settings.scale) for small in self.examples(split, begin, size).inputs]

    def snapshot(self, generator: nn.Module) -> Exhibit:
        """Return crops of the first validation images, enlarged."""
        crops = [_crop(image) for image in self.outputs(generator, Randomness(0), "validation", 0, NUM_SHOWN)]
        return picture("snapshot", "How the samples developed", grid(torch.stack(crops), 2, 1))

    def exhibits(self, generator: nn.Module) -> list[Exhibit]:
        """Return triplets of validation images: input, output, truth."""
        inputs, targets = self.examples("validation", 0, NUM_SHOWN)
        outputs = self.outputs(generator, Randomness(0), "validation", 0, NUM_SHOWN)
        tiles = []
        for small, output, target in zip(inputs, outputs, targets, strict=True):
            nearest = enlarged_by("nearest", small, self.settings.scale)
            bicubic = enlarged_by("bicubic", small, self.settings.scale)
            tiles += [_crop(image) for image in (nearest, bicubic, output, target)]
        caption = "From left to right: the input, bicubic enlargement, the best generator's output, the original."
        return [picture("triplets", "Samples", grid(torch.stack(tiles), 4, 1), caption)]

    def _placed(self, patches: Tensor) -> Tensor:
        return to_float(patches.to(self.device)).contiguous(memory_format=torch.channels_last)

    def _autocast(self) -> AbstractContextManager:
        return torch.autocast(self.device.type, dtype=self.precision, enabled=self.precision != torch.float32)


def _crop(image: Tensor) -> Tensor:
    """Return the middle of an image [3, H, W], padded where it is smaller."""
    top = max(0, (image.shape[-2] - SIDE_SHOWN) // 2)
    left = max(0, (image.shape[-1] - SIDE_SHOWN) // 2)
    part = image[:, top : top + SIDE_SHOWN, left : left + SIDE_SHOWN]
    canvas = torch.ones(3, SIDE_SHOWN, SIDE_SHOWN)
    canvas[:, : part.shape[1], : part.shape[2]] = part
    return canvas


def _turned(patch: np.ndarray, turn: int) -> np.ndarray:
    """Return a patch [3, H, H] in one of its eight orientations."""
    if turn >= 4:
        patch = patch[:, :, ::-1]
    return np.ascontiguousarray(np.rot90(patch, turn % 4, (1, 2)))


def reduced(image: np.ndarray, scale: int) -> np.ndarray:
    """Return an image uint8 [3, H, W] reduced, rounded to 8 bits."""
    return reduce(torch.from_numpy(image)[None].float(), scale)[0].round().clamp(0, 255).to(torch.uint8).numpy()


def _features(source: PhotoSource, name: FeaturesName, stage: Stage) -> Features:
    """Return the judge's features, which learn from patches of training photographs."""
    if name == "auto":
        name = "encoder"
    if not len(source.splits.train):
        problem = f"{len(source.photos.images)} photographs, none of them for the evaluation encoder to learn from"
        raise UserError(subject_of(source.name), problem, "Add photographs")
    photos = [torch.from_numpy(source.photos.images[index]) for index in source.splits.train]
    every = torch.cat(list(map(patches_of, photos))).numpy()
    chosen = np.random.default_rng(0).permutation(len(every))[:NUM_FOR_ENCODER]
    cache = default_cache()
    with writing_to(cache):
        return load_features(
            name,
            train_images=lambda: every[chosen],
            channels=3,
            cache=cache,
            pool_digest=_encoder_key(source),
            lesson=lesson_of(source.hashes, source.splits, source.splits.train),
            run=source.encoder,
            device=source.device,
            report=lambda share: stage(ENCODER_STAGE, share),
        )


def _encoder_key(source: PhotoSource) -> str:
    """Return under what an encoder of these photographs is kept in the cache."""
    return f"patches of {source.photos.digest} {len(source.splits.train)}"


def opened(recipe: Recipe, device: torch.device, stage: Stage) -> PhotoSource:
    """Read the photographs of a recipe's source; raises UserError."""
    settings = _settings(recipe)
    name = recipe.data.source
    photos = read_photos(
        name,
        settings.scale,
        max(settings.patch, PATCH),  # the judge's patches must fit, too
        lambda done, total: stage("reading the photographs", done / total),
    )
    return PhotoSource(name, photos, split(photos.hashes, recipe.data.validation, recipe.data.test), device)


def model_of(recipe: Recipe, data: DataRecord) -> SuperModel:
    """Return the generator of a run."""
    return SuperModel(recipe.networks, _settings(recipe).scale)


def _settings(recipe: Recipe) -> SuperResolution:
    assert isinstance(recipe.task, SuperResolution)
    return recipe.task
