"""The adversarial terms that tasks share: a loss pair, its penalty, and what the logits say.

A task supplies real and generated samples as the discriminator shall see them, and a `critic`, which returns logits.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from equipoise.game.adjustments import Adjustments
from equipoise.game.judged import Judged, Said, judged
from equipoise.game.losses import Loss, logit_stats
from equipoise.game.penalties import wgan_gp, zero_centered
from equipoise.game.schedules import scheduled
from equipoise.game.updates import Terms
from equipoise.randomness import Randomness
from equipoise.recipe import Game, Penalty

COARSE = 16  # squares a side of an image in which variety is measured

# Samples [N, …] to logits [N] or [N, K] of K judges, one for each pack of samples; or to a record with more than them.
Critic = Callable[[Tensor], Said]
Autocast = Callable[[], AbstractContextManager]


@dataclass(frozen=True)
class StepContext:
    """Where in a run a step stands: its randomness, its share of the budget, and what changes with time."""

    randomness: Randomness
    progress: float = 0.0  # 0 at the start, 1 at the end of the budget
    index: int = 0  # discriminator steps taken so far; lazy penalties count them
    adjustments: Adjustments = field(default_factory=Adjustments)
    needs_graph: bool = False  # the update differentiates gradients: what is the other player's keeps its graph, too

    def graph_if_needed(self) -> AbstractContextManager:
        """Return the context of what depends on the other player alone: without a graph, unless the update needs it.

        In D's turn that is the generated batch, in G's turn the logits of real samples.
        """
        return nullcontext() if self.needs_graph else torch.no_grad()


def discriminator_terms(
    game: Game,
    loss: Loss,
    real: Tensor,
    fake: Tensor,
    critic: Critic,
    step: StepContext,
    autocast: Autocast = nullcontext,
    more: Callable[[Judged, Judged], dict[str, Tensor]] | None = None,
    num_judges: int = 1,
) -> Terms:
    """Return the adversarial term and, when it is due, the gradient penalty, with what the logits say.

    `real` and `fake` are samples `[N, …]` as the discriminator shall see them, without a graph unless the update needs
    that of the generator. A critic of packs returns a logit for each. Where several judge, their losses are added, and
    so are the penalties on the first `num_judges`. `more` makes further terms of what the critic says of real and of
    generated samples.
    """
    penalty = penalty_of(game, step.adjustments)
    kind = penalty.kind
    due = kind != "none" and step.index % penalty.every == 0
    real.requires_grad_(due and kind in ("r1", "r1+r2"))
    if not fake.requires_grad:
        fake.requires_grad_(due and kind in ("r2", "r1+r2"))
    with autocast():
        of_real = judged(critic(real))
        of_fake = judged(critic(fake))
    real_logits = in_full(of_real.logits)
    fake_logits = in_full(of_fake.logits)
    losses = {"adversarial": added(loss.discriminator(real_logits, fake_logits))}
    stats = logit_stats(loss, real_logits.detach(), fake_logits.detach())
    stats["penalty"] = torch.zeros((), device=real_logits.device)
    if due:
        gamma = scheduled(penalty.gamma, penalty.gamma_end, step.progress, "cosine")
        gamma *= penalty.every * step.adjustments.gamma
        penalties: dict[str, Tensor] = {}
        if kind in ("r1", "r1+r2"):
            penalties["r1"] = zero_centered(real_logits, real, gamma, num_judges)
        if kind in ("r2", "r1+r2"):
            penalties["r2"] = zero_centered(fake_logits, fake, gamma, num_judges)
        if kind == "wgan-gp":
            generator = step.randomness.generator("interpolation")
            penalties["wgan-gp"] = wgan_gp(
                lambda between: judged(critic(between)).logits, real, fake, gamma, generator, game.packing, num_judges
            )
        stats["penalty"] = torch.stack([values.detach().mean() for values in penalties.values()]).sum()
        losses |= penalties
    if more is not None:
        losses |= more(of_real, of_fake)
    return Terms(losses, stats)


def in_full(logits: Tensor) -> Tensor:
    """Return logits in float32 where they are of half precision; float64 stays."""
    return logits if logits.dtype == torch.float64 else logits.float()


def penalty_of(game: Game, adjustments: Adjustments) -> Penalty:
    """Return the penalty of a game, or R1 + R2 (arXiv:2501.05441) where it has none and a remedy has brought one in."""
    if game.penalty.kind == "none" and adjustments.penalty > 0:
        return Penalty(kind="r1+r2", gamma=adjustments.penalty)
    return game.penalty


def generator_terms(
    loss: Loss,
    fake: Tensor,
    real: Callable[[], Tensor],
    critic: Critic,
    autocast: Autocast = nullcontext,
    more: Callable[[Judged], dict[str, Tensor]] | None = None,
    step: StepContext | None = None,
) -> dict[str, Tensor]:
    """Return the generator's adversarial term `[N]`; `real()` is only drawn if the loss looks at real samples.

    `more` makes further terms of what the critic says of generated samples. An update by second derivatives needs the
    step: it asks how D's weights move the logits of real samples.
    """
    with autocast():
        of_fake = judged(critic(fake))
        fake_logits = in_full(of_fake.logits)
        real_logits = torch.zeros_like(fake_logits)
        if loss.uses_real:
            with torch.no_grad() if step is None else step.graph_if_needed():
                real_logits = in_full(judged(critic(real())).logits)
    losses = {"adversarial": added(loss.generator(real_logits, fake_logits))}
    if more is not None:
        losses |= more(of_fake)
    return losses


def generator_term(
    loss: Loss,
    fake: Tensor,
    real: Callable[[], Tensor],
    critic: Critic,
    autocast: Autocast = nullcontext,
    step: StepContext | None = None,
) -> Tensor:
    """Return the generator's adversarial term `[N]` alone."""
    return generator_terms(loss, fake, real, critic, autocast, step=step)["adversarial"]


def variety_term(one: Tensor, other: Tensor, wanted: Tensor) -> Tensor:
    """Return by which share two images of the same class and other latents differ too little, `[N]` in 0..1.

    Images are `[N, C, H, W]`, `wanted` `[N]` is the `mean_distance` of real ones of that class. 0 where two differ as
    much, so nothing is gained by more (after arXiv:1901.09024, Eq. 2, whose bound is a number to choose, and whose
    distance is divided by that of the latents).
    """
    distances = (_coarse(one) - _coarse(other)).abs().mean(1)
    return (1 - distances / wanted).relu()


def mean_distance(images: Tensor) -> Tensor:
    """Return the mean absolute difference, a scalar, of two of the images `[N, C, H, W]`, over all pairs.

    It is one of means of squares, about 16 a side: of colours and shapes, so that noise in the pixels counts little.
    """
    squares = _coarse(images)
    return torch.pdist(squares, p=1).mean() / squares.shape[1]


def _coarse(images: Tensor) -> Tensor:
    side = max(1, min(images.shape[2:]) // COARSE)
    return F.avg_pool2d(images.float(), side).flatten(1)


def added(losses: Tensor) -> Tensor:
    """Return losses `[N]` of each sample, of one judge `[N]` or of several `[N, K]`."""
    return losses if losses.ndim == 1 else losses.sum(1)


def with_noise(samples: Tensor, game: Game, stream: str, step: StepContext) -> Tensor:
    """Return samples with the game's instance noise, which falls linearly to 0 over the budget."""
    deviation = game.instance_noise * (1 - step.progress) + step.adjustments.noise
    if deviation <= 0:
        return samples
    generator = step.randomness.generator(f"noise {stream}", samples.device)
    noise = torch.randn(samples.shape, generator=generator, device=samples.device)
    return samples + deviation * noise
