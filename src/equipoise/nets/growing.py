"""Networks that grow: small pictures first, then twice the side, each new stage faded in (arXiv:1710.10196).

Images have their full size throughout. A generator's picture of a stage is doubled up to it, and a discriminator
averages what it sees down to the stage. How far both have grown is a buffer, so checkpoints, averages and saved
generators have it; the task sets it before each step, from the position in samples alone.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equipoise.errors import Option, Setting, UserError
from equipoise.nets.layers import halved
from equipoise.sizes import GivenSize, evenly_halved, resolutions, size_of

Step = Callable[[int, Tensor], Tensor]  # from a stage and what comes into it to what goes out


class Level(nn.Module):
    """How far a network of stages 0 (the smallest pictures) to `num_stages` - 1 (the full size) has grown.

    A level of 1.25 is stage 1 with a quarter of stage 2 faded in. Each stage takes `samples`, the first half of which
    fades it in, or nothing where `fades` is false; with `samples` of 0 a network is whole from the start.
    """

    level: Tensor

    def __init__(self, num_stages: int, samples: int = 0, *, fades: bool = True):
        super().__init__()
        self.top = num_stages - 1
        self.samples = samples
        self.fades = fades
        if samples:  # on the CPU also where networks are made to look at their shapes, as its value decides these
            self.register_buffer("level", torch.tensor(float(self.top), device="cpu"))

    def at(self, samples: int) -> float:
        """Return the level at a position: stage n comes in at n times the samples of a stage."""
        stage, since = divmod(samples, self.samples)
        if stage == 0:
            return 0.0
        if stage > self.top:
            return float(self.top)
        return stage - 1 + min(1.0, 2 * since / self.samples) if self.fades else float(stage)

    def reach(self, samples: int) -> None:
        """Set the level to that of a position."""
        if self.samples:
            self.level.fill_(self.at(samples))

    def shares(self) -> dict[int, float]:
        """Return the one or two stages that are seen at present, each with its share; the higher one comes last.

        The number decides what is computed, so a GPU is waited for where networks grow.
        """
        if not self.samples:
            return {self.top: 1.0}
        level = min(max(float(self.level), 0.0), float(self.top))
        stage = int(level)
        part = level - stage
        return {stage: 1 - part, stage + 1: part} if part else {stage: 1.0}

    def pictured(self, features: Tensor, higher: Step, picture: Step) -> Tensor:
        """Return images [N, C, H, W] of the full size from the features of stage 0.

        `higher` gives a stage's features from those of the one below, `picture` a stage's picture from its features.
        """
        shares = self.shares()
        images: Tensor | None = None
        for stage in range(max(shares) + 1):
            if stage:
                features = higher(stage, features)
            if stage in shares:
                own = doubled(picture(stage, features), self.top - stage)
                own = own if len(shares) == 1 else shares[stage] * own
                images = own if images is None else images + own
        assert images is not None
        return images

    def judged(self, images: Tensor, entry: Step, lower: Step) -> Tensor:
        """Return the features of the lowest stage from images [N, C, H, W].

        Stages are counted by halvings here, from 0 at the full size. `entry` gives a stage's features from images of
        its side, `lower` from the features of the stage above.
        """
        shares = self.shares()
        place = self.top - max(shares)
        for _ in range(place):
            images = halved(images)
        features = entry(place, images)
        if len(shares) == 2:
            old, new = shares.values()
            place += 1
            features = new * lower(place, features) + old * entry(place, halved(images))
        for stage in range(place + 1, self.top + 1):
            features = lower(stage, features)
        return features


def doubled(images: Tensor, times: int) -> Tensor:
    """Return images [N, C, H, W] with both sides doubled so many times, each pixel becoming a square."""
    return F.interpolate(images, scale_factor=2**times, mode="nearest") if times else images


def set_levels(samples: int, *networks: nn.Module) -> None:
    """Let networks be as far grown as they are at a position; those that do not grow stay as they are."""
    for network in networks:
        for module in network.modules():
            if isinstance(module, Level):
                module.reach(samples)


def refuse_uneven(size: GivenSize, growing: int) -> None:
    """Raise UserError for a size whose halves are not whole: its stages would show other parts of a picture."""
    given = size_of(size)
    even = evenly_halved(given)
    if even != given:
        odd = next(low for low in resolutions(size)[:-1] if low.width % 2 or low.height % 2)
        problem = f"images of {given} pixels are halved until a side has 3 or 4, and {odd} cannot be halved"
        without = Setting("networks.growing", 0)
        raise UserError(Setting("networks.growing", growing), problem, Option("size", even.typed), without)
