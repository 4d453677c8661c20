"""Task: points in the plane, the laboratory for everything about games; its modes are known, so they are counted."""

import csv
import io
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn

from equipoise.data.sources import subject_of
from equipoise.data.splits import Splits, content_digests, larger_shares, split, to_hashes
from equipoise.errors import Option, Setting, UserError, together
from equipoise.game.losses import Loss
from equipoise.game.terms import StepContext, discriminator_terms, generator_term, with_noise
from equipoise.game.updates import Players, Terms
from equipoise.metrics.feature_judge import NEIGHBOURS, FeatureJudge, make_feature_judge, plain_features
from equipoise.metrics.kid import gaussian_kernel
from equipoise.nets.layers import whole_packs
from equipoise.nets.points import PointDiscriminator, PointGenerator
from equipoise.randomness import Randomness, stream_seed
from equipoise.recipe import Networks, Points, Recipe, TaskSettings
from equipoise.recipes import Facts
from equipoise.storage.files import write_bytes
from equipoise.storage.records import DataRecord, Metric
from equipoise.storage.safe_open import writable_text
from equipoise.tasks.base import (
    SEEDS,
    Examples,
    Exhibit,
    JudgedSplit,
    Model,
    Rival,
    Split,
    Task,
    chunks,
    digest_with,
    indices_of,
    judged,
)
from equipoise.tasks.exhibits import picture, rows
from equipoise.tasks.idle import IDLE_ON_POINTS, refuse_without_effect
from equipoise.tasks.point_files import read_points
from equipoise.tasks.sides import Caution, Side, halved, num_distinct, repeated, same_on_both

NUM_POINTS = 100_000  # of a mixture (arXiv:1712.04086)
NUM_JUDGED = 2_500  # real points and generated ones a score
NUM_OF_MIXTURE = 10_000  # real points of a mixture where none of its splits is asked for: it has any number of them
NUM_SHOWN = 2_500
WIDTHS = (0.03, 0.1, 0.3, 1.0)  # of the kernel, in standard deviations of the data
GOOD = 3.0  # deviations from the nearest centre within which a point counts as good
LEAST = 100
LEAST_HELD_OUT = 10
SIDE = 420  # pixels of a picture
FLOOR_SEED, RIVAL_SEED, DATA_SEED = 3, 4, 0

Stage = Callable[[str, float], None]

DISTANCE = Metric(name="mmd", label="MMD", meaning="kernel distance to the real points", decides=True, signed=True)
SHARES = (
    Metric(name="precision", meaning="share of generated points near real ones", better="higher"),
    Metric(name="recall", meaning="share of real points near generated ones", better="higher"),
    Metric(name="coverage", meaning="share of real points with a generated one nearby", better="higher"),
)
OF_MODES = (
    Metric(name="modes", meaning="modes with at least one good point", better="higher"),
    Metric(name="good", meaning=f"share of points within {GOOD:g} deviations of a mode", better="higher"),
    Metric(name="kl", label="KL", meaning="divergence of the shares by mode from the true ones"),
)


@dataclass(frozen=True)
class Mixture:
    """Gaussians of one deviation at centres `[K, 2]`, all as likely."""

    centres: Tensor
    deviation: float

    def draw(self, num: int, generator: torch.Generator) -> Tensor:
        """Draw points `[num, 2]`."""
        chosen = torch.randint(len(self.centres), (num,), generator=generator)
        return self.centres[chosen] + self.deviation * torch.randn(num, 2, generator=generator)

    def nearest(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Return for points `[N, 2]` the distance to the nearest centre `[N]`, and which that is `[N]`."""
        found = torch.cdist(points, self.centres).min(1)
        return found.values, found.indices

    def shares(self, points: Tensor) -> Tensor:
        """Return the share of points by nearest centre `[K]`."""
        return torch.bincount(self.nearest(points)[1], minlength=len(self.centres)).double() / max(1, len(points))


def ring(deviation: float | None = None) -> Mixture:
    """Return 8 modes on the unit circle (arXiv:1712.04086, section 4.1: deviation 0.01)."""
    angles = torch.arange(8) * (math.pi / 4)
    return Mixture(torch.stack([angles.cos(), angles.sin()], 1), deviation or 0.01)


def grid(deviation: float | None = None) -> Mixture:
    """Return 25 modes at {−4, −2, 0, 2, 4}² (arXiv:1712.04086, section 4.1: deviation 0.05)."""
    places = torch.arange(-4.0, 5.0, 2.0)
    return Mixture(torch.cartesian_prod(places, places), deviation or 0.05)


def spiral(deviation: float | None = None) -> Mixture:
    """Return 20 modes along two turns of a spiral from radius 0.2 to 1, deviation 0.02."""
    share = torch.linspace(0, 1, 20).sqrt()
    radius = 0.2 + 0.8 * share
    angles = 4 * math.pi * share
    return Mixture(torch.stack([radius * angles.cos(), radius * angles.sin()], 1), deviation or 0.02)


def mixture_named(name: str, settings: Points) -> Mixture | None:
    """Return the mixture that a source names, None where it is a file."""
    match name:
        case "ring":
            return ring(settings.deviation)
        case "grid":
            return grid(settings.deviation)
        case "spiral":
            return spiral(settings.deviation)
    return None


@dataclass(frozen=True)
class PointModel(Model):
    """A generator of points without its data."""

    networks: Networks

    def network(self) -> nn.Module:
        """Build the generator."""
        return PointGenerator(self.networks)

    @torch.no_grad()
    def draw(self, generator: nn.Module, randomness: Randomness, num: int) -> Tensor:
        """Draw points `[num, 2]`."""
        device = next(generator.parameters()).device
        return generator(randomness.normal("latents", num, self.networks.latent_size).to(device)).float()

    def samples(self, generator: nn.Module, num: int, seed: int, label: str | None) -> Iterator[Tensor]:
        """Yield `num` points in batches; raises UserError for a label, as there are none."""
        if label is not None:
            raise UserError(Option("label", label), "points have no classes")
        for begin, size in chunks(num):
            yield self.draw(generator, Randomness(seed, begin), size).cpu()

    def write(self, batches: Iterable[Tensor], out: Path) -> str:
        """Write points as a CSV file with the columns x and y."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["x", "y"])
        num = 0
        for points in batches:
            writer.writerows([f"{value:.7g}" for value in point] for point in points.tolist())
            num += len(points)
        out.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(out, text.getvalue().encode())
        return f"{num} points in {out}"


def hashes_of(points: Tensor) -> np.ndarray:
    """Return the hashes uint64 [N] of points [N, 2]."""
    return to_hashes(content_digests(np.ascontiguousarray(points.float().numpy()).view(np.uint8)))


@dataclass(frozen=True, eq=False)
class PointSource:
    """Points that were read and not yet a task."""

    name: str
    points: Tensor  # [N, 2]
    splits: Splits
    mixture: Mixture | None
    device: torch.device
    num_duplicates: int = 0
    note: str = ""  # how a file was read, where that needs saying
    begun_as: str | None = None  # the digest of a run that began with the same ones, in another order

    @property
    def digest(self) -> str:
        """The digest of the points and their splits."""
        return self.begun_as or digest_with(self.points.numpy().tobytes(), self.splits)

    @property
    def facts(self) -> Facts:
        """What a recipe is made from."""
        return Facts(num_train=len(self.splits.train), is_cpu=self.device.type == "cpu")

    def describe(self, recipe: Recipe) -> DataRecord:
        """Return what the points are."""
        splits = self.splits
        mixture = self.mixture
        path = None
        summary = "points in the plane"
        if mixture is None:
            path = writable_text(str(Path(self.name).expanduser().resolve()))
        else:
            summary = f"points around {len(mixture.centres)} modes"
        return DataRecord(
            source=self.name,
            path=path,
            digest=self.digest,
            noun="points",
            summary=summary,
            num_train=len(splits.train),
            num_validation=len(splits.validation),
            num_test=len(splits.test),
            num_duplicates=self.num_duplicates,
        )

    def of(self, part: Split) -> Tensor:
        """Return the points of a split, in its random and fixed order."""
        return self.points[torch.from_numpy(indices_of(self.splits, part))]

    @cached_property
    def _hashes(self) -> np.ndarray:
        """The hashes uint64 [N] of the points."""
        return hashes_of(self.points)

    @property
    def hashes(self) -> np.ndarray:
        """The hashes uint64 [N] of what they are."""
        return self._hashes

    @property
    def noun(self) -> str:
        """What one calls them."""
        return "points"

    def among(self, contents: np.ndarray, settings: TaskSettings) -> np.ndarray:
        """Return which points, bool [N], are among contents."""
        return np.isin(self.hashes, contents)

    def as_begun(self, data: DataRecord) -> "PointSource":
        """Return the same points under a run's digest."""
        return replace(self, begun_as=data.digest)

    def name_hashes(self) -> None:
        """Return nothing: a line has no name."""

    def players(self, recipe: Recipe) -> Players:
        """Return both networks of a recipe."""
        return Players(PointGenerator(recipe.networks), PointDiscriminator(recipe.networks, recipe.game.packing))

    def judged_like(self, data: DataRecord, weights: Path) -> "PointSource":
        """Return itself: points are compared as they are."""
        return self

    def grouped_like(self, data: DataRecord, path: Path) -> "PointSource":
        """Return the same points, which are in no groups."""
        return self

    def most_compared(self, split: str) -> int:
        """Return how many points are compared: of the test split as many as after a training, else all of a file."""
        whole = len(self.points) if self.mixture is None else NUM_OF_MIXTURE
        return NUM_JUDGED if split == "test" else whole

    def side(self, indices: np.ndarray, split: str | None, num_seen: int) -> Side:
        """Return what one side of an evaluation is made of, where these points are compared."""
        return Side(
            source=self.name,
            num_found=len(self.points),
            num_used=len(self.points),
            num_compared=len(indices),
            num_distinct=num_distinct(self.hashes[indices]),
            split=split,
            num_seen=num_seen,
        )

    def fitting(self) -> dict[str, Any]:
        """Return nothing: points stay as they are."""
        return {}

    def on_own_scale(self, recipe: Recipe) -> "PointSource":
        """Return the same: points have none."""
        return self

    def hint(self) -> str:
        """Say nothing: a line is a point."""
        return ""

    def cautions(self, indices: np.ndarray, generated: "PointSource | None", drawn: Tensor | None) -> list[Caution]:
        """Return what is doubtful about comparing these points with those of a source, or with drawn ones."""
        found = repeated("real", self.name, "points", self.hashes[indices])
        if generated is not None:
            found += repeated("generated", generated.name, "points", generated.hashes)
            found += same_on_both(self.hashes[indices], generated.hashes, "points")
        elif drawn is not None:
            found += repeated("generated", "the run", "points", hashes_of(drawn.cpu()))
        return found

    def fitted(self, recipe: Recipe) -> Recipe:
        """Return the recipe as it is: points bring nothing to it."""
        return recipe

    def settled(self, recipe: Recipe) -> Recipe:
        """Return the recipe; raises UserError where it does not fit points."""
        refuse_without_effect(recipe, "points", IDLE_ON_POINTS)
        if self.mixture is None:
            refuse_without_effect(recipe, "points of a file", {"task.deviation": None})
        if len(self.points) < LEAST:
            problem = f"{len(self.points)} points; at least {LEAST} are needed"
            raise UserError(subject_of(self.name), problem, "Give more points")
        self._refuse_few(recipe)
        return recipe

    def _refuse_few(self, recipe: Recipe) -> None:
        num = len(self.points) - self.num_duplicates
        num_train = len(self.splits.train)
        held_out = (len(self.splits.validation), len(self.splits.test))
        missing: list[str] = []
        settings: list[Setting] = []
        if min(held_out) < LEAST_HELD_OUT:
            missing.append(
                f"{num} distinct points, of which {held_out[0]} validation and {held_out[1]} test points; at least "
                f"{LEAST_HELD_OUT} of each are needed"
            )
            settings, num_left = larger_shares(hashes_of(self.points), LEAST_HELD_OUT, least_train=2)
            if settings:
                num_train = num_left
        if num_train < recipe.game.batch:
            missing.append(f"{num_train} points to train on, fewer than one batch of {recipe.game.batch}")
            settings.append(Setting("game.batch", max(2, num_train // 2)))
        if missing:
            raise UserError(subject_of(self.name), "; ".join(missing), "Give more points", *together(settings))

    def summary(self, recipe: Recipe) -> str:
        """Say in a line what was found."""
        modes = ""
        if self.mixture is not None:
            modes = f" around {len(self.mixture.centres)} modes"
        text = f"{len(self.points):,} points of {self.name}{modes}, {len(self.splits.train):,} to train on"
        return f"{text}; read: {self.note}" if self.note else text

    def everything(self) -> Iterator[Tensor]:
        """Yield all points in batches."""
        yield from self.points.split(1_000)

    def task(
        self, recipe: Recipe, loss: Loss, precision: torch.dtype, stage: Callable[[str, float], None]
    ) -> "PointTask":
        """Return the task."""
        return PointTask(recipe, self, loss, self.device)


@dataclass(frozen=True, eq=False)
class PointTask(Task):
    """Generation of points, as a recipe says."""

    recipe: Recipe
    source: PointSource
    loss: Loss
    device: torch.device
    num_real: int | None = None  # real points that it is judged by, at most; None: as many as in a training
    moments: tuple[Tensor, Tensor] | None = None  # mean and deviation that points are compared on; None: its own

    @cached_property
    def _train(self) -> Tensor:
        return self.source.of("train")

    @cached_property
    def _moments(self) -> tuple[Tensor, Tensor]:
        if self.moments is not None:
            return self.moments
        train = self._train.double()
        if len(train) < 2:
            train = self.source.points.double()
        return train.mean(0).float(), train.std(0).clamp(min=1e-12).float()

    def model(self) -> PointModel:
        """Return what can be done with the generator without the data."""
        return PointModel(self.recipe.networks)

    def describe(self) -> DataRecord:
        """Return what the points are."""
        return self.source.describe(self.recipe)

    def players(self) -> Players:
        """Build both networks, which know the data's scale."""
        players = self.source.players(self.recipe)
        for network in (players.generator, players.discriminator):
            shift, scale = self._moments
            network.get_buffer("shift").copy_(shift)
            network.get_buffer("scale").copy_(scale)
            network.to(self.device)
        return players

    def batch(self, randomness: Randomness, num: int) -> Tensor:
        """Draw `num` training points `[num, 2]` at this position, with replacement."""
        chosen = torch.randint(len(self._train), (num,), generator=randomness.generator("points"))
        return self._train[chosen].to(self.device)

    def discriminator_terms(self, players: Players, batch: Tensor, step: StepContext) -> Terms:
        """Return the adversarial term and, when it is due, the gradient penalty."""
        with step.graph_if_needed():
            fake = players.generator(self._latents("discriminator latents", step, len(batch)))
        real = self._seen(batch, "real", step)
        fake = self._seen(fake, "fake", step)
        return discriminator_terms(self.recipe.game, self.loss, real, fake, players.discriminator, step)

    def generator_terms(self, players: Players, batch: Tensor, step: StepContext) -> Terms:
        """Return the adversarial term."""
        fake = players.generator(self._latents("generator latents", step, len(batch)))
        fake = self._seen(fake, "generated", step)
        real = partial(self._seen, batch, "compared", step)
        return Terms({"adversarial": generator_term(self.loss, fake, real, players.discriminator, step=step)})

    def examples(self, split: Split, begin: int, size: int) -> Examples:
        """Return (None, points `[size, 2]`) of one split."""
        return Examples(None, self.source.of(split)[begin : begin + size])

    def outputs(self, generator: nn.Module, randomness: Randomness, split: Split, begin: int, size: int) -> Tensor:
        """Draw `size` points `[size, 2]`; they do not depend on the split."""
        return self.model().draw(generator, randomness, size)

    def logits(self, discriminator: nn.Module, inputs: None, outputs: Tensor) -> Tensor:
        """Return the discriminator's logits `[N]` of points, or of packs of points."""
        return discriminator(whole_packs(outputs, self.recipe.game.packing).to(self.device))

    def judge(self, split: JudgedSplit) -> FeatureJudge | None:
        """Return the judge by the real points of a split, None where there are none."""
        real = judged(split, self.source.of("validation"), self.source.of("test"))
        if not len(real):
            return None
        mixture = self.source.mixture
        more = None
        if mixture is not None:
            more = partial(mode_metrics, mixture, *self._moments)
        num = self.recipe.evaluation.num_samples
        if split != "validation":
            num = max(NUM_JUDGED, num)
        return make_feature_judge(
            plain_features("points", 2, *self._moments),
            [real[: self.num_real or NUM_JUDGED]],
            data_digest=self.source.digest,
            split=split,
            num_generated=num,
            seed=SEEDS[split],
            kernel=partial(gaussian_kernel, widths=WIDTHS),
            metrics=metrics_of(mixture),
            more=more,
        )

    def judging(self, indices: np.ndarray) -> "PointTask":
        """Return this task with these points as its test split, all of them."""
        return self._resplit(self.source.splits.train, indices)

    def halved(self) -> "PointTask | None":
        """Return this task with one half of its test split to learn from and the other to test by; None of too few."""
        test = self.source.splits.test
        first, second = halved(self.source.hashes[test])
        if min(len(first), len(second)) <= NEIGHBOURS:
            return None
        return self._resplit(test[first], test[second])

    def _resplit(self, train: np.ndarray, test: np.ndarray) -> "PointTask":
        source = replace(self.source, splits=replace(self.source.splits, train=train, test=test))
        return replace(self, source=source, num_real=len(test), moments=self._moments)

    def rivals(self) -> tuple[Rival, ...]:
        """Return one Gaussian, a kernel density estimate, and real points."""
        train = self._train
        mean = train.double().mean(0).float()
        deviation = train.double().std(0).clamp(min=1e-12).float()
        bandwidth = deviation * len(train) ** (-1 / 6)  # Scott's rule in two dimensions
        root = _root(torch.cov(train.double().T)).float()

        def gaussian(_: Split, begin: int, size: int) -> Tensor:
            return mean + Randomness(FLOOR_SEED, begin).normal("floor", size, 2) @ root.T

        def density(_: Split, begin: int, size: int) -> Tensor:
            randomness = Randomness(RIVAL_SEED, begin)
            chosen = torch.randint(len(train), (size,), generator=randomness.generator("rival"))
            return train[chosen] + bandwidth * randomness.normal("kernel", size, 2)

        def real(_: Split, begin: int, size: int) -> Tensor:
            return train[begin : begin + size]

        return (
            Rival("one Gaussian", "floor", gaussian),
            Rival("a kernel density estimate", "rival", density),
            Rival("real points", "ceiling", real, num=len(train)),
        )

    def snapshot(self, generator: nn.Module) -> Exhibit:
        """Return a scatter picture of points from fixed latents."""
        points = self.outputs(generator, Randomness(0), "validation", 0, NUM_SHOWN).cpu()
        return picture("snapshot", "How the samples developed", scatter(points, self._bounds))

    def exhibits(self, generator: nn.Module) -> list[Exhibit]:
        """Return generated points beside real ones, and where the modes are known, the share of each."""
        points = self.outputs(generator, Randomness(0), "validation", 0, NUM_SHOWN).cpu()
        real = self.source.of("validation")[:NUM_SHOWN]
        shown = [
            picture("best", "Samples", scatter(points, self._bounds), "Generated by the best generator."),
            picture("real", "Samples", scatter(real, self._bounds), "Real points of the validation split."),
        ]
        if self.source.mixture is not None:
            shown.append(self._modes(self.source.mixture, points, real))
        return shown

    def _modes(self, mixture: Mixture, points: Tensor, real: Tensor) -> Exhibit:
        found = mixture.shares(points).tolist()
        true = mixture.shares(real).tolist()
        cells = [
            [f"({round(x, 3) + 0.0:g}, {round(y, 3) + 0.0:g})", f"{100 * share:.1f} %", f"{100 * expected:.1f} %"]
            for (x, y), share, expected in zip(mixture.centres.tolist(), found, true, strict=True)
        ]
        caption = "The share of points by their nearest mode. One with far fewer than it should have is being dropped."
        return rows("modes", "Modes", ["mode", "generated", "real"], cells, caption)

    @property
    def _bounds(self) -> tuple[float, float, float, float]:
        low = self._train.min(0).values
        high = self._train.max(0).values
        pad = 0.15 * (high - low).max()
        return (*(low - pad).tolist(), *(high + pad).tolist())

    def _latents(self, stream: str, step: StepContext, num: int) -> Tensor:
        return step.randomness.normal(stream, num, self.recipe.networks.latent_size).to(self.device)

    def _seen(self, points: Tensor, stream: str, step: StepContext) -> Tensor:
        return with_noise(points, self.recipe.game, stream, step)


def _root(covariance: Tensor) -> Tensor:
    """Return R with R Rᵀ = a covariance [2, 2], which may be singular: points can lie on a line."""
    values, vectors = torch.linalg.eigh(covariance)
    return vectors * values.clamp(min=0).sqrt()


def metrics_of(mixture: Mixture | None) -> tuple[Metric, ...]:
    """Return what is measured: of a mixture also its modes."""
    if mixture is None:
        return (DISTANCE, *SHARES)
    return (DISTANCE, *OF_MODES, *SHARES)


def mode_metrics(mixture: Mixture, shift: Tensor, scale: Tensor, features: Tensor) -> dict[str, float]:
    """Return modes found, share of good points, and KL of the shares by mode, from standardised points `[N, 2]`."""
    points = features * scale + shift
    distances, indices = mixture.nearest(points)
    is_good = distances < GOOD * mixture.deviation
    num = len(mixture.centres)
    shares = mixture.shares(points)
    present = shares[shares > 0]
    return {
        "modes": float(len(indices[is_good].unique())),
        "good": is_good.double().mean().item(),
        "kl": (present * (present * num).log()).sum().item(),
    }


def scatter(points: Tensor, bounds: tuple[float, float, float, float]) -> bytes:
    """Return points `[N, 2]` within bounds (left, bottom, right, top) as a PNG; those outside are not shown."""
    left, bottom, right, top = bounds
    scale = 2 * SIDE / max(right - left, top - bottom)
    image = Image.new("RGB", (2 * SIDE, 2 * SIDE), "white")
    layer = Image.new("L", image.size, 0)
    pen = ImageDraw.Draw(layer)
    for x, y in points.tolist():
        column = (x - (left + right) / 2) * scale + SIDE
        row = SIDE - (y - (bottom + top) / 2) * scale
        pen.ellipse((column - 3, row - 3, column + 3, row + 3), fill=200)
    image.paste((15, 111, 99), mask=layer)
    file = io.BytesIO()
    image.resize((SIDE, SIDE), Image.Resampling.LANCZOS).save(file, "PNG", optimize=True)
    return file.getvalue()


def opened(recipe: Recipe, device: torch.device) -> PointSource:
    """Draw a mixture's points, or read those of a CSV file; raises UserError."""
    name = recipe.data.source
    assert isinstance(recipe.task, Points)
    mixture = mixture_named(name, recipe.task)
    note = ""
    if mixture is None:
        found = read_points(Path(name).expanduser(), name)
        points = found.points
        note = found.note
    else:
        generator = torch.Generator().manual_seed(stream_seed(DATA_SEED, f"points of {name}", 0))
        points = mixture.draw(NUM_POINTS, generator)
    hashes = hashes_of(points)
    splits = split(hashes, recipe.data.validation, recipe.data.test)
    return PointSource(name, points, splits, mixture, device, len(hashes) - len(np.unique(hashes)), note)


def model_of(recipe: Recipe, data: DataRecord) -> PointModel:
    """Return the generator of a run."""
    return PointModel(recipe.networks)
