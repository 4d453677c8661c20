"""A custom loop's real images as what an evaluation asks for: judge, rivals and exhibits are the image task's."""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor

from equipoise.data.pool import Pool, gather, names_of, prepare, to_float, told_by
from equipoise.data.splits import content_digests, split, to_hashes
from equipoise.errors import Option, Setting, UserError, together
from equipoise.host.device import chosen_device
from equipoise.metrics.feature_judge import FeatureJudge
from equipoise.metrics.features.kept import RunEncoder
from equipoise.metrics.features.load import Features
from equipoise.randomness import Randomness
from equipoise.recipe import Data, Images, Recipe
from equipoise.runs.folder import RunFolder
from equipoise.storage.files import write_bytes
from equipoise.storage.records import DataRecord
from equipoise.tasks.base import Evaluated, Exhibit, JudgedSplit, Rival, Split
from equipoise.tasks.image_judging import (
    NUM_NEAREST,
    describe,
    feature_judge,
    features_of,
    image_exhibits,
    image_rivals,
    num_shown,
    snapshot_of,
)
from equipoise.tasks.image_summary import summary_of, with_left_out
from equipoise.tasks.images import ENOUGH, missing_of, refuse_few
from equipoise.watch.generators import Draw
from equipoise.watch.reading import read
from equipoise.watch.torch_settings import usual_settings

GIVEN = "images given to the watch"
NUM_TRIED = 16
NUM_COMPARED = 64  # real images whose range is compared with that of generated ones
MOST_VALUES = 1_000_000
LARGEST = 1.5  # values beyond are no images in [-1, 1] that overshoot a little
OF_BYTES = 20.0  # values beyond, with none as far below zero, are meant as 0..255
SLIGHTLY_MORE = 1.1
CLIPPED = 0.05  # share of values that are cut, from which on it is said
BELOW_ZERO = -0.2  # real images that reach below it use the lower half of [-1, 1], too
ALL_BLACK = -0.98  # nothing is brighter than the third of 255 grey levels
NARROW = 0.5  # of the real images' range


@dataclass(frozen=True)
class GivenImages(Evaluated):
    """Real images and the latents of a generator; a generator is what draws images from latents."""

    pool: Pool
    features: Features
    num_samples: int
    latents: tuple[int, ...]  # the shape of one
    seed: int
    folder: Path | None = None  # where the images are files of a folder
    names: tuple[str, ...] | None = None  # of the pool's images, where they come from a source

    def outputs(self, generator: Draw, randomness: Randomness, split: Split, begin: int, size: int) -> Tensor:
        """Draw `size` images `[size, C, H, W]` in [-1, 1]; raises UserError for images of another shape."""
        images = self._drawn(generator, randomness, size)
        return images.masked_fill(images.isinf(), torch.nan).clamp(-1, 1)  # else clamp would make infinity white

    def _drawn(self, generator: Draw, randomness: Randomness, size: int) -> Tensor:
        images = generator(randomness.normal(f"latents of {self.seed}", size, *self.latents))
        expected = [size, *self.pool.images.shape[1:]]
        if list(images.shape) != expected:
            problem = (
                f"for {size} latents it gave {list(images.shape)}; the real images ask for {expected} [N, C, H, W]"
            )
            raise UserError("generator", problem, *_remedies_of_shape(list(images.shape), expected))
        return images

    def judge(self, split: JudgedSplit) -> FeatureJudge | None:
        """Return the judge by a split's images."""
        return feature_judge(self.pool, self.features, split, self.num_samples)

    def rivals(self) -> tuple[Rival, ...]:
        """Return the floor and the ceiling."""
        return image_rivals(self.pool)

    def snapshot(self, generator: Draw) -> Exhibit:
        """Return the first images of fixed latents."""
        return snapshot_of(self.outputs(generator, Randomness(0), "validation", 0, num_shown(self.pool)))

    def exhibits(self, generator: Draw) -> list[Exhibit]:
        """Return generated images beside real ones, and some beside the training images nearest to them."""
        num = num_shown(self.pool)
        images = self.outputs(generator, Randomness(0), "validation", 0, num)
        return image_exhibits(images, images[:NUM_NEAREST], self.pool, self.features)

    def tried(self, generator: Draw) -> Tensor:
        """Return a first few images as the generator gives them."""
        return self._drawn(generator, Randomness(0), NUM_TRIED)

    def refuse_misfit(self, images: Tensor) -> None:
        """Raise UserError where generated images are of 0..255 and not of [-1, 1], beyond any doubt."""
        least = float(images.min())
        most = float(images.max())
        if most > OF_BYTES and least >= -LARGEST:
            problem = f"its images reach {most:.3g}; values in [-1, 1] are needed, as a final tanh gives them"
            remedy = "Give generate=lambda generator, latents: generator(latents) / 127.5 - 1"
            raise UserError("generator", problem, remedy)

    def doubt(self, images: Tensor, *, is_early: bool) -> str | None:
        """Say what looks wrong about the range of generated images, None where nothing does.

        Early in a training they may well have little contrast.
        """
        low, high = _usual(images)
        real = to_float(gather(self.pool, self.pool.splits.train[:NUM_COMPARED]))
        real_low, real_high = _usual(real)
        beyond = float((images.abs() > SLIGHTLY_MORE).float().mean())
        seen = f"the generator's images are in {low:.2g}..{high:.2g}, the real ones in {real_low:.2g}..{real_high:.2g}"
        if high <= ALL_BLACK < real_high:
            return (
                f"{seen}: they are all black. Whole numbers are taken as 0..255; if yours are 0 and 1, give "
                "generate=lambda generator, latents: 2.0 * generator(latents) - 1"
            )
        if beyond > CLIPPED:
            return f"{seen}; {beyond:.0%} of the values lie beyond [-1, 1] and are cut: let it end in a tanh"
        if float(images.min()) >= 0 and float(images.max()) <= 1 and real_low < BELOW_ZERO:
            return (
                f"{seen}; as from a sigmoid. They are taken as half the contrast of [-1, 1]. If 0 means black, give "
                "generate=lambda generator, latents: 2.0 * generator(latents) - 1"
            )
        if not is_early and high - low < NARROW * (real_high - real_low):
            return f"{seen}: they have little contrast. If their range is another, rescale them to [-1, 1] by generate="
        return None


def _remedies_of_shape(shape: list[int], expected: list[int]) -> list[str]:
    """Return what makes images of the expected shape of others, where that is plain."""
    made = "generate=lambda generator, latents: generator(latents)"
    num, channels, height, width = expected
    if shape == [num, height, width, channels]:
        return [f"Move the channels: {made}.permute(0, 3, 1, 2)"]
    if shape[:1] == [num] and len(shape) < 4 and math.prod(shape) == math.prod(expected):
        return [f"Give each its sides: {made}.reshape(-1, {channels}, {height}, {width})"]
    if shape == [num, 1, height, width]:
        return [f"Repeat the grey channel: {made}.expand(-1, {channels}, -1, -1)"]
    if shape == [num, channels + 1, height, width]:
        return [f"Leave the transparency out: {made}[:, :{channels}]"]
    if len(shape) == 4 and shape[:2] == [num, channels]:
        return ['Give real images of that size, or with a folder settings=["task.size=…"]']
    return []


def _usual(images: Tensor) -> tuple[float, float]:
    """Return the values between which all but one per cent at each end lie."""
    values = images.flatten().float()
    values = values[:: max(1, len(values) // MOST_VALUES)]  # quantile takes no more than 16 million
    found = torch.quantile(values, torch.tensor([0.01, 0.99]))
    return float(found[0]), float(found[1])


@usual_settings()
def given_images(
    real: Any, latents: tuple[int, ...], recipe: Recipe, stage: Callable[[str, float], None], folder: Path | None = None
) -> GivenImages:
    """Split real images by content, and train the evaluation encoder; raises UserError for images of no use.

    They are a source as `equipoise train` takes it, or what `reading.read` takes; `latents` is the shape of one
    latent. A run in `folder` keeps the encoder that it began with.
    """
    names = None
    if isinstance(real, str | Path):
        pool = _prepared(str(real), recipe, stage)
        names = names_of(_data(str(real), recipe), pool)
    else:
        pool = _pool_of(real, recipe, stage)
    subject = Option("real")
    refuse_few(pool, subject)
    missing, settings, _ = missing_of(pool)
    if missing:
        remedy = f"Give at least {ENOUGH} images"
        raise UserError(subject, with_left_out("; ".join(missing), pool), remedy, *together(settings))
    run = None if folder is None else _encoder_of(folder, pool)
    assert isinstance(recipe.task, Images)
    features = features_of(pool, recipe.evaluation.features, chosen_device("auto"), stage, run, recipe.task)
    return GivenImages(pool, features, recipe.evaluation.num_samples, latents, recipe.seed, _folder(real), names)


def _encoder_of(folder: Path, pool: Pool) -> RunEncoder | None:
    """Return where the run in a folder has its encoder; None where there is no run on these images that noted one."""
    data = RunFolder(folder).read_data() if RunFolder.is_run(folder) else None
    if data is None or data.encoder is None or data.digest != pool.digest:
        return None
    return RunEncoder(RunFolder(folder).encoder, data.encoder, data.digest)


def record_of(given: GivenImages, real: Any) -> DataRecord:
    """Return what a run writes down of its real images, and by which encoder it judges."""
    taught = given.features.taught
    encoder = None if taught is None else taught.record
    if isinstance(real, str | Path):
        return msgspec.structs.replace(describe(given.pool, str(real)), encoder=encoder)
    return msgspec.structs.replace(describe(given.pool, GIVEN), path=None, encoder=encoder)


def keep_encoder(run: RunFolder, given: GivenImages) -> None:
    """Write the encoder's weights into the run's folder; raises OSError."""
    if given.features.taught is not None:
        write_bytes(run.encoder, given.features.taught.data)


def summary_of_given(given: GivenImages, real: Any) -> str:
    """Say what the real images are, what was left out of them, and in the last line which to train on."""
    what = GIVEN
    train_on = "Train on those of watch.train_indices alone"
    if isinstance(real, str | Path):
        what = f"images of {real}"
        train_on = "Train on watch.train_names alone"
    if given.folder is not None:
        train_on = "Train on watch.train_paths alone"
    return f"{summary_of(given.pool, what)}\n  {train_on}."


def _folder(real: Any) -> Path | None:
    if isinstance(real, str | Path) and str(real) != "mnist" and Path(real).expanduser().is_dir():
        return Path(real).expanduser()
    return None


def _data(source: str, recipe: Recipe) -> Data:
    return replace(recipe.data, source=source)


def _prepared(source: str, recipe: Recipe, stage: Callable[[str, float], None]) -> Pool:
    assert isinstance(recipe.task, Images)
    return prepare(_data(source, recipe), recipe.task, progress=told_by(stage))


def _pool_of(real: Any, recipe: Recipe, stage: Callable[[str, float], None]) -> Pool:
    """Return images that a loop gives as a pool; raises UserError."""
    settings = recipe.task
    assert isinstance(settings, Images)
    for field in ("size", "channels", "fit", "background"):
        value = getattr(settings, field)
        if value != getattr(Images(), field):
            problem = "it is for images of a folder, a zip or an .npz; those given are taken as they are"
            raise UserError(Setting(f"task.{field}", value), problem, "Leave it out")
    found = read(real, Option("real"), settings.black, settings.white, told_by(stage))
    digests = content_digests(found.images)
    hashes = to_hashes(digests)
    splits = split(hashes, recipe.data.validation, recipe.data.test)
    digest = hashlib.sha256(f"{found.images.shape[1:]}".encode() + b"".join(digests))
    for part in (splits.train, splits.validation, splits.test):
        digest.update(f"/{len(part)}/".encode() + part.tobytes())
    return Pool(
        images=found.images,
        labels=None,
        classes=(),
        splits=splits,
        digest=digest.hexdigest(),
        rejected=(),
        num_duplicates=len(hashes) - len(np.unique(hashes)),
        num_skipped=0,
        notes=found.notes,
        scale=None if found.scale is None else (found.scale.low, found.scale.high),
        hashes=hashes,
    )
