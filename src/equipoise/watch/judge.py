"""The judge of somebody's own loop: their generator against their real images, paired with the best one so far."""

import contextlib
import copy
import dataclasses
import hashlib
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from equipoise.api import NUM_REAL, features_of, judge_of, rescoring_judge, silent
from equipoise.data.pool import Pool, default_cache, gather, prepare, to_float
from equipoise.data.splits import content_digests, split, to_hashes
from equipoise.errors import UserError
from equipoise.evaluation.evaluator import Judge, extracted, score_features, to_dict
from equipoise.evaluation.finish import NUM_NEAREST, with_nearest
from equipoise.health.stats import ScoreLine
from equipoise.host.device import chosen_device
from equipoise.metrics.paired import kid_difference
from equipoise.randomness import Randomness, stream_seed
from equipoise.recipe import Data, Judging, Recipe
from equipoise.runs.folder import RunFolder
from equipoise.storage.checkpoints import load_tensors
from equipoise.tasks.pictures import save_grid
from equipoise.tasks.sampling import chunks
from equipoise.watch.keep import KERAS_WEIGHTS, WEIGHTS, is_keras

NUM_SHOWN = 64  # images of fixed latents in a picture
MIN_HELD_OUT = 10
VALIDATION = TEST = 0.1  # shares of the distinct images

Generate = Callable[[Any, Tensor], Any]  # (generator, latents [N, ...]) to images [N, C, H, W] in [-1, 1]
Draw = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Champion:
    """A copy of the best generator so far, by what it draws, and the samples it was reached at."""

    draw: Draw
    samples: int


class ImageJudge:
    """Scores generators under one protocol, each against the champion with fresh latents that both share."""

    def __init__(
        self,
        real: Any,
        latents: int | tuple[int, ...],
        generate: Generate | None,
        judging: Judging,
        seed: int = 0,
        preparing: Callable[[str, float], None] = silent,
    ) -> None:
        """Learn what real images look like on their training split; raises UserError for unusable images."""
        self.pool = pool_of(real)
        self.champion: Champion | None = None
        self.like: Any = None  # the module or Keras model that was judged last: kept weights are loaded into its copy
        self.has_judged = False
        self._latents = (latents,) if isinstance(latents, int) else tuple(latents)
        self._generate = generate
        self._judging = judging
        self._seed = seed
        self._features = features_of(self.pool, judging.features, chosen_device("auto"), preparing)
        self._judge = judge_of(self.pool, self._features, "validation", judging.num_samples)
        self.protocol: dict[str, Any] = asdict(self._judge.protocol)

    def score(self, generator: Any, samples: int) -> ScoreLine:
        """Score a generator, and the champion beside it where KID decides and there is one.

        Raises UserError for images of another shape, NotFiniteError where some hold NaN.
        """
        return self._scored(self._bound(generator), samples)

    def score_kept(self, kept: Champion) -> ScoreLine:
        """Score one that was loaded as `score` does."""
        return self._scored(kept.draw, kept.samples)

    def _scored(self, draw: Draw, samples: int) -> ScoreLine:
        begin, seed = time.monotonic(), stream_seed(self._seed, "judging", samples)
        fake = self._extracted(draw, seed, self._judging.num_samples)
        values = to_dict(score_features(self._judge, fake))
        if self.champion is not None and self._judging.metric == "kid":
            champion = self._extracted(self.champion.draw, seed, self._judging.num_samples)
            found = kid_difference(self._judge.real, champion, fake)
            values |= {
                "champion": self.champion.samples,
                "difference": found.value,
                "difference_se": found.standard_error,
            }
        return ScoreLine.from_score(samples, values | {"seconds": time.monotonic() - begin})

    def adopt(self, generator: Any, samples: int) -> None:
        """Make a copy of this generator the champion; one that cannot be copied leaves none."""
        draw = frozen(generator, self._generate)
        self.champion = Champion(draw, samples) if draw else None

    def load(self, folder: Path, samples: int) -> Champion | None:
        """Return the generator whose weights lie in a folder, in a copy of the one judged last; None if it cannot be.

        There is none to copy before the first of a session was judged.
        """
        draw = None if self.like is None else frozen(self.like, self._generate, folder)
        return Champion(draw, samples) if draw else None

    def rescoring(self) -> Judge | None:
        """Return the judge by validation images that had no part before, None where they are too few for that."""
        make = rescoring_judge(self.pool, self._features, dataclasses.replace(Recipe(), judging=self._judging))
        return make() if make else None

    def judged_again(self, candidate: Champion, judge: Judge) -> tuple[ScoreLine, Tensor]:
        """Score a candidate by another judge, with latents that are the same for all; return its features [N, D], too.

        Raises NotFiniteError.
        """
        fake = self._extracted(candidate.draw, stream_seed(self._seed, "rescoring", 0), judge.protocol.num_generated)
        return ScoreLine.from_score(candidate.samples, to_dict(score_features(judge, fake))), fake

    def test(self, samples: int) -> dict[str, Any] | None:
        """Score the champion once on the test split with latents of its own, as the fields of a score line.

        None where it is not the one that was reached at these samples.
        """
        if self.champion is None or self.champion.samples != samples:
            return None
        judge = judge_of(self.pool, self._features, "test", NUM_REAL)
        seed = stream_seed(self._seed, "test", self.champion.samples)
        fake = self._extracted(self.champion.draw, seed, NUM_REAL)
        return asdict(ScoreLine.from_score(self.champion.samples, to_dict(score_features(judge, fake))))

    def snapshot(self, generator: Any, path: Path) -> None:
        """Write a picture of fixed latents."""
        save_grid(self._shown(self._bound(generator)), path)

    def pictures(self, run: RunFolder) -> None:
        """Write the champion's images, real ones, and each of some beside its nearest training image."""
        real = to_float(gather(self.pool, self.pool.splits.validation[:NUM_SHOWN]))
        save_grid(real if real.shape[-1] <= NUM_SHOWN else real[:16], run.samples / "real.png")
        if self.champion is not None:
            images = self._shown(self.champion.draw)
            save_grid(images, run.samples / "best.png")
            pairs = with_nearest(images[:NUM_NEAREST], self.pool, self._features)
            save_grid(pairs, run.samples / "nearest.png", NUM_NEAREST)

    def described(self, source: str) -> dict[str, Any]:
        """Return what the images are, for `data.json`."""
        _, channels, height, width = self.pool.images.shape
        return {
            "source": source,
            "digest": self.pool.digest,
            "size": width if width == height else None,
            "channels": channels,
            "classes": list(self.pool.classes),
            "num_train": len(self.pool.splits.train),
            "num_validation": len(self.pool.splits.validation),
            "num_test": len(self.pool.splits.test),
            "num_duplicates": self.pool.num_duplicates,
            "rejected": [asdict(item) for item in self.pool.rejected],
        }

    def refuse_misfit(self, generator: Any) -> None:
        """Raise UserError where a first few images have another shape, or another range than [-1, 1]."""
        images = self._fitting(self._bound(generator)(self._fixed(8)), 8)
        low, high = float(images.min()), float(images.max())
        if high > 1.5 or low < -1.5:
            raise UserError(
                f"judge: the generated images lie in {low:.3g}..{high:.3g}; the judge needs -1..1, as a final tanh "
                "gives. Try: Watch(..., generate=lambda generator, latents: generator(latents) / 127.5 - 1)"
            )

    def _bound(self, generator: Any) -> Draw:
        return lambda latents: drawn(generator, self._generate, latents)

    def _extracted(self, draw: Draw, seed: int, num: int) -> Tensor:
        return extracted(self._features, self._batches(draw, seed, num))

    def _batches(self, draw: Draw, seed: int, num: int) -> Iterator[Tensor]:
        for begin, size in chunks(num):
            images = draw(Randomness(seed, begin).normal("latents", size, *self._latents))
            yield self._fitting(images, size).clamp(-1, 1)

    def _fitting(self, images: Tensor, num: int) -> Tensor:
        """Return the images if they have the shape of the real ones; raises UserError."""
        expected = (num, *self.pool.images.shape[1:])
        if tuple(images.shape) != expected:
            raise UserError(
                f"judge: for {num} latents the generator gave {list(images.shape)}; the real images ask for "
                f"{list(expected)}, which is [N, C, H, W]"
            )
        return images

    def _fixed(self, num: int) -> Tensor:
        return Randomness(self._seed).normal("shown latents", num, *self._latents)

    def _shown(self, draw: Draw) -> Tensor:
        num = NUM_SHOWN if self.pool.images.shape[-1] <= NUM_SHOWN else 16
        return self._fitting(draw(self._fixed(num)), num).clamp(-1, 1)


def pool_of(real: Any) -> Pool:
    """Return real images as a pool, split by content: a source as `equipoise train` takes it, or all images at once.

    Images are [N, C, H, W], uint8 or floats in [-1, 1], as a tensor or an array; raises UserError.
    """
    pool = prepare(Data(source=str(real))) if isinstance(real, str | Path) else _pool_of_images(_as_uint8(real))
    held_out = [len(pool.splits.validation), len(pool.splits.test)]
    if min(held_out) < MIN_HELD_OUT:
        raise UserError(
            f"real: of {len(pool.images)} images {held_out[0]} are held out for scores and {held_out[1]} for the test; "
            f"{MIN_HELD_OUT} of each are needed. Give at least 200 images"
        )
    return pool


@torch.no_grad()
def drawn(generator: Any, generate: Generate | None, latents: Tensor) -> Tensor:
    """Draw images in evaluation mode as float32 on the CPU; the generator's mode and all randomness stay as they were.

    A Keras model's images are turned into [N, C, H, W].
    """
    if is_keras(generator):
        images = generate(generator, latents) if generate else _of_keras(generator, latents)
        return _tensor(images)
    if not isinstance(generator, nn.Module):
        return _tensor(generate(generator, latents) if generate else generator(latents))
    first = next(iter((*generator.parameters(), *generator.buffers())), None)
    if first is not None:
        latents = latents.to(first.device, first.dtype if first.is_floating_point() else None)
    with _evaluating(generator), torch.random.fork_rng([first.device] if first is not None and first.is_cuda else []):
        return _tensor(generate(generator, latents) if generate else generator(latents))


def frozen(generator: Any, generate: Generate | None, folder: Path | None = None) -> Draw | None:
    """Return what draws from a copy of a generator, or of it with the weights in a folder; None if neither can be had.

    A torch module is copied. A Keras model is lent the weights for as long as it draws. A function cannot be copied.
    """
    if is_keras(generator):
        return _frozen_keras(generator, generate, folder)
    if not isinstance(generator, nn.Module) or (folder is not None and not (folder / WEIGHTS).is_file()):
        return None
    try:
        copied = copy.deepcopy(generator).requires_grad_(False).eval()
        if folder is not None:
            copied.load_state_dict(load_tensors(folder / WEIGHTS))
    except (RuntimeError, TypeError, UserError):  # tensors in the midst of a graph, locks; damaged, another network's
        return None
    return lambda latents: drawn(copied, generate, latents)


def _frozen_keras(generator: Any, generate: Generate | None, folder: Path | None) -> Draw | None:
    def lent(weights: list[Any], act: Callable[[], Any]) -> Any:
        own = generator.get_weights()
        try:
            generator.set_weights(weights)
            return act()
        finally:
            generator.set_weights(own)

    kept = generator.get_weights()
    if folder is not None:
        if not (folder / KERAS_WEIGHTS).is_file():
            return None
        own = kept
        try:
            generator.load_weights(folder / KERAS_WEIGHTS)
            kept = generator.get_weights()
        except Exception:  # weights of another network, or no such file at all: Keras raises many types
            return None
        finally:
            generator.set_weights(own)
    return lambda latents: lent(kept, lambda: drawn(generator, generate, latents))


def _of_keras(generator: Any, latents: Tensor) -> Any:
    keras = sys.modules["keras"]
    images = keras.ops.convert_to_numpy(generator(keras.ops.convert_to_tensor(latents.numpy()), training=False))
    return np.moveaxis(images, -1, 1) if keras.config.image_data_format() == "channels_last" else images


def _tensor(images: Any) -> Tensor:
    if isinstance(images, Tensor):
        return images.detach().float().cpu()
    try:
        return torch.from_numpy(np.array(images, dtype=np.float32))
    except (TypeError, ValueError):
        raise UserError(f"judge: the generator gave {type(images).__name__}; images [N, C, H, W] are needed") from None


@contextlib.contextmanager
def _evaluating(module: nn.Module) -> Iterator[None]:
    """Switch to evaluation mode, and back to each part's own mode."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for part, mode in modes:
            part.training = mode


def _as_uint8(real: Any) -> np.ndarray:
    """Return images as uint8 [N, C, H, W]; raises UserError for another shape, type or range."""
    images = real.detach().cpu() if isinstance(real, Tensor) else torch.as_tensor(np.asarray(real))
    if images.ndim != 4 or images.shape[1] not in (1, 3) or min(images.shape) < 1:
        channels_last = images.ndim == 4 and images.shape[-1] in (1, 3)
        remedy = "Try: real=np.moveaxis(images, -1, 1)" if channels_last else "C is 1 for grey and 3 for colour"
        raise UserError(f"real: shape {list(images.shape)}; give [N, C, H, W]. {remedy}")
    if images.dtype == torch.uint8:
        return np.ascontiguousarray(images.numpy())
    if not images.is_floating_point():
        raise UserError(f"real: {str(images.dtype).removeprefix('torch.')}; give uint8 0..255, or floats in [-1, 1]")
    low, high = float(images.min()), float(images.max())
    if not (-1.001 <= low <= high <= 1.001):  # also where one is NaN
        raise UserError(f"real: values in {low:.3g}..{high:.3g}; give floats in [-1, 1], or uint8 0..255")
    if low >= 0:
        raise UserError(f"real: floats in {low:.3g}..{high:.3g}, and the judge needs -1..1. Try: real=2 * images - 1")
    parts = [part.float().add(1).mul(127.5).round().clamp(0, 255).to(torch.uint8) for part in images.split(4096)]
    return np.ascontiguousarray(torch.cat(parts).numpy())


def _pool_of_images(images: np.ndarray) -> Pool:
    digests = content_digests(images)
    hashes = to_hashes(digests)
    splits = split(hashes, VALIDATION, TEST)
    digest = hashlib.sha256(f"{images.shape[1:]}".encode() + b"".join(digests))
    for part in (splits.train, splits.validation, splits.test):
        digest.update(f"/{len(part)}/".encode() + part.tobytes())
    return Pool(
        images=images,
        labels=None,
        classes=(),
        splits=splits,
        digest=digest.hexdigest(),
        rejected=(),
        num_duplicates=len(hashes) - len(np.unique(hashes)),
        num_skipped=0,
        folder=default_cache(),
    )
