"""Stacked MNIST: three digits as the channels of an image, so 1,000 modes, with losses and penalties side by side.

The protocol is that of PacGAN (arXiv:1712.04086, section 4.2), the comparison of losses that of R3GAN
(arXiv:2501.05441). Without a batch norm in the discriminator, which no penalty goes with, but in the two
games that the first of them published: DCGAN, and its packed form.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from classifier import features_and_classes, trained_classifier
from resumable import Play, Setting
from torch import Tensor, nn

from equipoise.data.pool import Pool, prepare, to_float
from equipoise.errors import UserError
from equipoise.game.losses import loss_named
from equipoise.game.terms import StepContext, discriminator_terms, generator_term
from equipoise.game.updates import Players, Role, Terms, TermsOf, make_update
from equipoise.nets.dcgan import DCGANDiscriminator, DCGANGenerator
from equipoise.randomness import Randomness
from equipoise.recipe import Data, Game, LossName, OptimizerSettings, Penalty, PenaltyName

NUM_STACKS = 128_000
NUM_SCORED = 26_000
NUM_GLANCED = 2_600
NUM_MODES = 1_000
NUM_LATENTS = 100
BATCH = 64
CHUNK = 500
SURE = 0.9  # probability of a digit
PLAYER = OptimizerSettings(rate=2e-4, beta1=0.5, beta2=0.999)


@dataclass(frozen=True)
class Variant:
    """A loss with its penalty, and what is around it."""

    loss: LossName
    penalty: PenaltyName = "none"
    packing: int = 1
    is_dcgan: bool = False  # with batch norm in D, and two steps of G in a round


VARIANTS = {
    "dcgan": Variant("non-saturating", is_dcgan=True),
    "pacdcgan2": Variant("non-saturating", packing=2, is_dcgan=True),
    "minimax": Variant("minimax"),
    "non-saturating": Variant("non-saturating"),
    "relativistic": Variant("relativistic"),
    "r1": Variant("relativistic", "r1"),
    "r2": Variant("relativistic", "r2"),
    "r1+r2-minimax": Variant("minimax", "r1+r2"),
    "r1+r2-non-saturating": Variant("non-saturating", "r1+r2"),
    "r1+r2-relativistic": Variant("relativistic", "r1+r2"),
}


@dataclass(frozen=True)
class Size:
    """How large the networks are, how long they play, and how strong a penalty is."""

    width: int
    rounds: int
    gamma: float
    rate: float


FULL = Size(width=64, rounds=100_000, gamma=1.0, rate=2e-4)
REDUCED = Size(width=16, rounds=6_000, gamma=1.0, rate=1e-3)


def digits() -> Pool:
    """Return all of MNIST, from the folder that EQUIPOISE_DATA names; raises UserError without one."""
    folder = os.environ.get("EQUIPOISE_DATA")
    if folder is None:
        raise UserError("EQUIPOISE_DATA", "is not set; it names the folder in which mnist.npz lies")
    return prepare(Data(source=str(Path(folder) / "mnist.npz")))


def prepare_once() -> None:
    """Train the classifier where it is not kept from an earlier time: before there are several processes."""
    print("the classifier of digits: about two minutes the first time", flush=True)
    trained_classifier(digits())


@dataclass(frozen=True)
class StackGame:
    """A game on stacks: its players, the digits uint8 [N, 28, 28], and which stack holds which digits [128,000, 3]."""

    game: Game
    players: Players
    images: Tensor
    stacks: Tensor
    classifier: nn.Sequential
    seed: int

    def real(self, index: int) -> Tensor:
        """Return the real stacks [N, 3, 28, 28] of a round, in their order, again and again."""
        size = self.game.batch
        chosen = torch.arange(index * size, (index + 1) * size) % NUM_STACKS
        return to_float(self.images[self.stacks[chosen]])

    def latents(self, stream: str, index: int, num: int) -> Tensor:
        """Draw latents [N, 100], each even in −1 to 1."""
        return torch.rand(num, NUM_LATENTS, generator=Randomness(self.seed, index).generator(stream)) * 2 - 1

    def terms(self, index: int, rests: bool = False) -> TermsOf:
        """Return both players' terms of a round; the discriminator may rest."""
        loss = loss_named(self.game.loss)
        size = self.game.batch
        critic = self.players.discriminator
        step = StepContext(Randomness(self.seed, index * size), index=index)

        def terms_of(role: Role, _: int) -> Terms:
            if role == "generator":
                fake = self.players.generator(self.latents("latents", index, size))
                return Terms({"adversarial": generator_term(loss, fake, lambda: self.real(index), critic)})
            if rests:
                return Terms({})
            with torch.no_grad():
                fake = self.players.generator(self.latents("latents", index, size))
            return discriminator_terms(self.game, loss, self.real(index), fake, critic, step)

        return terms_of

    @torch.no_grad()
    def score(self, num: int = NUM_SCORED) -> dict[str, float]:
        """Return the score of `num` samples."""
        network = self.players.generator.eval()
        latents = self.latents("scored", 0, num).split(CHUNK)
        found = score_of(self.classifier, (network(part) for part in latents))
        network.train()
        return found


def score_of(classifier: nn.Sequential, batches: Iterable[Tensor]) -> dict[str, float]:
    """Return how many of the 1,000 modes stacks have, the KL of their shares to even ones, and `sure`.

    That one is the share of stacks of which the classifier is sure: a blur has some mode, too.
    """
    found = [modes_of(classifier, part) for part in batches]
    modes = torch.cat([modes for modes, _ in found])
    shares = torch.bincount(modes, minlength=NUM_MODES).double() / len(modes)
    present = shares[shares > 0]
    return {
        "modes": float(len(present)),
        "kl": (present * (present * NUM_MODES).log()).sum().item(),
        "sure": torch.cat([sure for _, sure in found]).double().mean().item(),
    }


@torch.no_grad()
def score_of_real(seed: int) -> dict[str, float]:
    """Return the score of as many real stacks, which is what a perfect generator would have."""
    pool = digits()
    chosen = torch.randint(len(pool.images), (NUM_SCORED, 3), generator=Randomness(seed).generator("real")).split(CHUNK)
    images = images_of(pool)
    return score_of(trained_classifier(pool), (to_float(images[part]) for part in chosen))


def images_of(pool: Pool) -> Tensor:
    """Return the digits uint8 [N, 28, 28]."""
    return torch.from_numpy(np.array(pool.images[:, 0]))


def modes_of(classifier: nn.Sequential, stacks: Tensor) -> tuple[Tensor, Tensor]:
    """Return which of the 1,000 modes each stack [N, 3, 28, 28] is, and whether all three digits of it are sure."""
    features, classes = features_and_classes(classifier, stacks.flatten(0, 1)[:, None])
    is_sure = classifier[-1](features).softmax(1).amax(1) >= SURE
    return classes.view(-1, 3) @ torch.tensor([100, 10, 1]), is_sure.view(-1, 3).all(1)


def settings_of(options: Any) -> list[Setting]:
    """Return a setting for each game that was asked for."""
    size = REDUCED if options.reduced else FULL
    found = []
    for seed in options.seeds:
        for loss in options.loss:
            setting: Setting = {"experiment": "stacked-mnist", "loss": loss, "width": size.width, "rate": size.rate}
            setting["rounds"] = size.rounds if options.rounds is None else options.rounds
            if VARIANTS[loss].penalty != "none":
                setting["gamma"] = size.gamma if options.gamma is None else options.gamma
            found.append({**setting, "seed": seed})
    return found


def build(setting: Setting) -> Play:
    """Return a game that can be played."""
    variant = VARIANTS[setting["loss"]]
    seed = setting["seed"]
    player = replace(PLAYER, rate=setting["rate"])
    game = Game(
        loss=variant.loss,
        penalty=Penalty(kind=variant.penalty, gamma=setting.get("gamma", 0.0)),
        batch=BATCH * variant.packing,
        packing=variant.packing,
        generator=player,
        discriminator=player,
    )
    players = players_of(variant, setting["width"])
    pool = digits()
    stacks = torch.randint(len(pool.images), (NUM_STACKS, 3), generator=Randomness(seed).generator("stacks"))
    one = StackGame(game, players, images_of(pool), stacks, trained_classifier(pool), seed)
    update = make_update(game, players)

    def play_round(index: int) -> None:
        update.round(one.terms(index))
        if variant.is_dcgan:
            update.round(one.terms(index, rests=True))

    return Play(setting["rounds"], update, play_round, one.score, partial(one.score, NUM_GLANCED))


def players_of(variant: Variant, width: int) -> Players:
    """Return both networks of a variant."""
    generator = DCGANGenerator(size=28, channels=3, num_classes=0, latent_size=NUM_LATENTS, width=width)
    discriminator = DCGANDiscriminator(
        size=28,
        channels=3,
        num_classes=0,
        width=width,
        norm="batch" if variant.is_dcgan else "none",
        packing=variant.packing,
    )
    return Players(generator, discriminator)
