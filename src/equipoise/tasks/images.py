"""What is learned: the Problem protocol, and image generation as its first instance.

The loop knows nothing of images. A problem hands it two networks, batches at a position, and named loss
terms; a table, a waveform or super-resolution (whose generator takes the batch's low-resolution images
instead of latents alone) are other problems, never branches in the loop.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, assert_never

import numpy as np
import torch
from torch import Tensor, nn

from equipoise.data.augment import augment, random_flip
from equipoise.data.pool import Pool, gather, to_float, train_indices
from equipoise.game.losses import discriminator_loss, generator_loss
from equipoise.game.penalties import wgan_gp, zero_centered
from equipoise.game.schedules import scheduled
from equipoise.nets.players import make_players
from equipoise.randomness import Randomness
from equipoise.recipe import LossName, Recipe
from equipoise.tasks.pictures import save_grid
from equipoise.tasks.sampling import chunks, drawn

Split = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Players:
    """The two networks of a game."""

    generator: nn.Module
    discriminator: nn.Module


@dataclass(frozen=True)
class Moment:
    """Where in a run a step stands: its randomness, its share of the budget, and what changes with time."""

    randomness: Randomness
    progress: float = 0.0  # 0 at the start, 1 at the end of the budget
    discriminator_steps: int = 0  # taken so far; lazy penalties count them
    strength: float = 0.0  # of the augmentation


@dataclass(frozen=True)
class Terms:
    """Named loss terms, weighted and per sample `[N]` (the loop adds up their means), and named signals."""

    losses: dict[str, Tensor]
    signals: dict[str, Tensor]


@dataclass(frozen=True)
class Opinions:
    """A discriminator's logits `[N]` of samples it trains on, of others, and of generated ones."""

    train: Tensor
    validation: Tensor
    generated: Tensor


class Problem(Protocol):
    """What the loop asks of a problem; `batch` is the problem's own type, opaque to the loop."""

    def networks(self) -> Players:
        """Build both networks; their weights are drawn from the global generator, which the loop seeds."""
        ...

    def batch(self, randomness: Randomness, num: int) -> Any:
        """Return `num` real samples: a function of the position alone."""
        ...

    def discriminator_terms(self, players: Players, batch: Any, moment: Moment) -> Terms:
        """Return what the discriminator minimises on this batch."""
        ...

    def generator_terms(self, players: Players, batch: Any, moment: Moment) -> Terms:
        """Return what the generator minimises on this batch."""
        ...

    def generate(self, generator: nn.Module, randomness: Randomness, num: int) -> Tensor:
        """Draw `num` samples from a generator, for the judge and for people."""
        ...

    def opinions(self, players: Players, randomness: Randomness, num: int) -> Opinions:
        """Ask the discriminator about up to `num` samples of each kind, without changing anything."""
        ...

    def real(self, split: Split, num: int) -> Tensor:
        """Return up to `num` real samples of one split, always the same ones."""
        ...

    def show(self, samples: Tensor, path: Path) -> None:
        """Write samples as one picture for people."""
        ...


@dataclass(frozen=True)
class ImageBatch:
    """Real images `[N, C, H, W]` in [-1, 1] with their labels `[N]`, if the game is conditional."""

    real: Tensor
    labels: Tensor | None


LossPair = tuple[Callable[[Tensor, Tensor], Tensor], Callable[[Tensor, Tensor], Tensor]]


@dataclass(frozen=True)
class ImageProblem:
    """Image generation from a pool of real images, as a recipe says.

    `losses`, if given, replaces the recipe's pair: two functions from (real logits, fake logits) `[N]` to
    per-sample losses `[N]`, the discriminator's and the generator's.
    """

    recipe: Recipe
    pool: Pool
    device: torch.device
    precision: torch.dtype
    losses: LossPair | None = None

    @property
    def num_classes(self) -> int:
        """The number of classes that the networks are told of: 0 unless the recipe is conditional."""
        return len(self.pool.classes) if self.recipe.networks.conditional else 0

    @property
    def class_counts(self) -> tuple[int, ...]:
        """The training images of each class; empty unless the recipe is conditional."""
        if not self.num_classes or self.pool.labels is None:
            return ()
        counts = np.bincount(self.pool.labels[self.pool.splits.train], minlength=self.num_classes)
        return tuple(counts.tolist())

    def networks(self) -> Players:
        """Build generator and discriminator for this pool's size and channels."""
        _, channels, size, _ = self.pool.images.shape
        generator, discriminator = make_players(
            self.recipe.networks, size=size, channels=channels, num_classes=self.num_classes
        )
        layout = {"device": self.device, "memory_format": torch.channels_last}
        return Players(generator.to(**layout), discriminator.to(**layout))

    def batch(self, randomness: Randomness, num: int) -> ImageBatch:
        """Gather the `num` real training images at this position, flipped if the recipe says so."""
        indices = train_indices(self.pool, randomness.seed, randomness.samples, num)
        images = to_float(gather(self.pool, indices).to(self.device, non_blocking=True))
        if self.recipe.data.flip:
            images = random_flip(images, randomness.generator("flip"))
        return ImageBatch(images.contiguous(memory_format=torch.channels_last), self._labels(indices))

    def discriminator_terms(self, players: Players, batch: ImageBatch, moment: Moment) -> Terms:
        """Return the adversarial term and, when it is due, the gradient penalty."""
        num, penalty = len(batch.real), self.recipe.game.penalty
        with torch.no_grad(), self._autocast():
            fake = players.generator(self._latents("discriminator latents", moment, num), batch.labels)
        real = self._seen(batch.real, "real", moment)
        fake = self._seen(fake.float(), "fake", moment)
        due = penalty.kind != "none" and moment.discriminator_steps % penalty.every == 0
        real.requires_grad_(due and penalty.kind in ("r1", "r1+r2"))
        fake.requires_grad_(due and penalty.kind in ("r2", "r1+r2"))
        with self._autocast():
            real_logits = players.discriminator(real, batch.labels).float()
            fake_logits = players.discriminator(fake, batch.labels).float()
        losses = {"adversarial": self._discriminator_loss(real_logits, fake_logits)}
        found = signals(None if self.losses else self.recipe.game.loss, real_logits.detach(), fake_logits.detach())
        found["penalty"] = torch.zeros(())
        if due:
            gamma = scheduled(penalty.gamma, penalty.gamma_end, moment.progress, "cosine") * penalty.every
            penalties = self._penalties(
                players.discriminator, real, fake, real_logits, fake_logits, gamma, batch, moment
            )
            found["penalty"] = torch.stack([values.detach().mean() for values in penalties.values()]).sum()
            losses |= penalties
        return Terms(losses, found)

    def generator_terms(self, players: Players, batch: ImageBatch, moment: Moment) -> Terms:
        """Return the adversarial term; relativistic losses compare with the batch's real images."""
        with self._autocast():
            fake = players.generator(self._latents("generator latents", moment, len(batch.real)), batch.labels)
            fake_logits = players.discriminator(self._seen(fake.float(), "generated", moment), batch.labels).float()
            real_logits = torch.zeros_like(fake_logits)
            if self.losses or self._is_relativistic:
                with torch.no_grad():
                    seen = self._seen(batch.real, "compared", moment)
                    real_logits = players.discriminator(seen, batch.labels).float()
        if self.losses:
            loss = self.losses[1](real_logits, fake_logits)
        else:
            loss = generator_loss(self.recipe.game.loss, real_logits, fake_logits)
        return Terms({"adversarial": loss}, {})

    def generate(self, generator: nn.Module, randomness: Randomness, num: int) -> Tensor:
        """Draw `num` images `[num, C, H, W]` in [-1, 1]; with classes, each as often as in the training split."""
        return drawn(generator, randomness, num, self.recipe.networks.latent_size, self.class_counts)

    @torch.no_grad()
    def opinions(self, players: Players, randomness: Randomness, num: int) -> Opinions:
        """Ask the discriminator about the first `num` images of the two splits, and about as many generated ones."""
        generator, discriminator = players.generator, players.discriminator
        modes = generator.training, discriminator.training
        generator.eval()
        discriminator.eval()  # running statistics must not see these images
        try:
            train, validation = (split_indices(self.pool, split)[:num] for split in ("train", "validation"))
            latents = randomness.normal("latents", len(train), self.recipe.networks.latent_size).to(self.device)
            found: dict[str, list[Tensor]] = {"train": [], "validation": [], "generated": []}
            for name, indices in (("train", train), ("validation", validation)):
                for begin, size in chunks(len(indices)):  # large images would not fit into memory at once
                    part = indices[begin : begin + size]
                    labels = self._labels(torch.from_numpy(part))
                    found[name].append(discriminator(to_float(gather(self.pool, part)).to(self.device), labels))
                    if name == "train":
                        fake = generator(latents[begin : begin + size], labels)
                        found["generated"].append(discriminator(fake, labels))
            return Opinions(**{name: torch.cat(logits).float().cpu() for name, logits in found.items()})
        finally:
            generator.train(modes[0])
            discriminator.train(modes[1])

    def real(self, split: Split, num: int) -> Tensor:
        """Return up to `num` images of one split as `[n, C, H, W]` in [-1, 1]; a split's order is random and fixed."""
        return to_float(gather(self.pool, split_indices(self.pool, split)[:num]))

    def show(self, samples: Tensor, path: Path) -> None:
        """Write images `[N, C, H, W]` in [-1, 1] as one grid; of large ones only the first 16."""
        save_grid(samples if samples.shape[-1] <= 64 else samples[:16], path)

    @property
    def _is_relativistic(self) -> bool:
        return self.recipe.game.loss in ("relativistic", "relativistic-average")

    def _labels(self, indices: Tensor) -> Tensor | None:
        if not self.num_classes or self.pool.labels is None:
            return None
        return torch.from_numpy(self.pool.labels[indices.numpy()]).to(self.device)

    def _latents(self, stream: str, moment: Moment, num: int) -> Tensor:
        return moment.randomness.normal(stream, num, self.recipe.networks.latent_size).to(self.device)

    def _autocast(self) -> AbstractContextManager:
        return torch.autocast(self.device.type, dtype=self.precision, enabled=self.precision != torch.float32)

    def _seen(self, images: Tensor, stream: str, moment: Moment) -> Tensor:
        """Return images as the discriminator sees them: augmented, and with instance noise."""
        kinds = self.recipe.augment.kinds
        if kinds and moment.strength > 0:
            generator = moment.randomness.generator(f"augment {stream}")
            with torch.autocast(self.device.type, enabled=False):  # whatever the networks compute in
                images = augment(images, kinds, moment.strength, generator)
        deviation = self.recipe.game.instance_noise * (1 - moment.progress)
        if deviation > 0:
            noise = torch.randn(
                images.shape,
                generator=moment.randomness.generator(f"noise {stream}", self.device),
                device=self.device,
            )
            images = images + deviation * noise
        return images

    def _discriminator_loss(self, real_logits: Tensor, fake_logits: Tensor) -> Tensor:
        if self.losses:
            return self.losses[0](real_logits, fake_logits)
        game = self.recipe.game
        return discriminator_loss(game.loss, real_logits, fake_logits, game.label_smoothing)

    def _penalties(
        self,
        discriminator: nn.Module,
        real: Tensor,
        fake: Tensor,
        real_logits: Tensor,
        fake_logits: Tensor,
        gamma: float,
        batch: ImageBatch,
        moment: Moment,
    ) -> dict[str, Tensor]:
        match self.recipe.game.penalty.kind:
            case "none":
                return {}
            case "r1":
                return {"r1": zero_centered(real_logits, real, gamma)}
            case "r2":
                return {"r2": zero_centered(fake_logits, fake, gamma)}
            case "r1+r2":
                return {
                    "r1": zero_centered(real_logits, real, gamma),
                    "r2": zero_centered(fake_logits, fake, gamma),
                }
            case "wgan-gp":
                generator = moment.randomness.generator("interpolation")

                def critic(images: Tensor) -> Tensor:
                    return discriminator(images, batch.labels)

                return {"wgan-gp": wgan_gp(critic, real, fake, gamma, generator)}


def split_indices(pool: Pool, split: Split) -> np.ndarray:
    """Return the indices of one split's images."""
    match split:
        case "train":
            return pool.splits.train
        case "validation":
            return pool.splits.validation
        case "test":
            return pool.splits.test


def signals(loss: LossName | None, real_logits: Tensor, fake_logits: Tensor) -> dict[str, Tensor]:
    """Return the numbers of one discriminator step that the watch reads, each a scalar.

    Where a loss gives logits a meaning, accuracy is the share on the right side of its boundary; where only their
    differences count, or the loss is the caller's own (None), it is the share of pairs with the real one above. The
    probability of being real is NaN for losses that do not speak of one.
    """
    pairs, none = (real_logits > fake_logits).float(), torch.full((2,), torch.nan)
    match loss:
        case "minimax" | "non-saturating":
            right = torch.cat([real_logits > 0, fake_logits < 0]).float()
            real_probability, fake_probability = real_logits.sigmoid(), fake_logits.sigmoid()
        case "least-squares":
            right = torch.cat([real_logits > 0.5, fake_logits < 0.5]).float()
            real_probability, fake_probability = real_logits.clamp(0, 1), fake_logits.clamp(0, 1)
        case "hinge":
            right = torch.cat([real_logits > 0, fake_logits < 0]).float()
            real_probability, fake_probability = none, none
        case "wasserstein" | "relativistic" | "relativistic-average" | None:
            right, real_probability, fake_probability = pairs, none, none
        case _ as unreachable:
            assert_never(unreachable)
    return {
        "real_logit": real_logits.mean(),
        "fake_logit": fake_logits.mean(),
        "real_probability": real_probability.mean(),
        "fake_probability": fake_probability.mean(),
        "accuracy": right.mean(),
    }
