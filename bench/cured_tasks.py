"""Cures of mode collapse that no setting has, as tasks around a task: discriminators, unrolling, modes as labels.

They know points `[N, 2]` and images without labels, and the losses of the task; a penalty is taken by the first alone.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from equipoise.game.terms import StepContext, discriminator_terms, generator_term
from equipoise.game.updates import Players, Terms
from equipoise.tasks.points import Mixture


@dataclass
class Changed:
    """A task of which some methods are others."""

    inner: Any

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def drawn(self, players: Players, stream: str, step: StepContext, num: int) -> Tensor:
        """Draw `num` samples from the generator, on the latents of a stream."""
        size = self.inner.recipe.networks.latent_size
        return players.generator(step.randomness.normal(stream, num, size))


def real_of(batch: Any) -> Tensor:
    """Return the real samples `[N, …]` of a batch."""
    return batch if isinstance(batch, Tensor) else batch.real


class Judges(nn.Module):
    """Several discriminators; asked together, they say the mean of their logits `[N]`."""

    def __init__(self, networks: list[nn.Module]) -> None:
        super().__init__()
        self.each = nn.ModuleList(networks)

    def forward(self, samples: Tensor) -> Tensor:
        """Map samples to logits."""
        return torch.stack([judge(samples) for judge in self.each]).mean(0)


@dataclass
class Several(Changed):
    """Discriminators that learn apart, and a generator that minimises the mean of its losses (arXiv:1611.01673)."""

    num: int = 3

    def players(self) -> Players:
        """Build the generator, and discriminators that differ in their first weights."""
        every = [self.inner.players() for _ in range(self.num)]
        return Players(every[0].generator, Judges([players.discriminator for players in every]))

    def discriminator_terms(self, players: Players, batch: Any, step: StepContext) -> Terms:
        """Return the terms of all; each is trained by its own alone."""
        with torch.no_grad():
            fake = self.drawn(players, "discriminator latents", step, len(real_of(batch)))
        losses: dict[str, Tensor] = {}
        stats: dict[str, Tensor] = {}
        for index, judge in enumerate(players.discriminator.get_submodule("each").children()):
            terms = discriminator_terms(self.inner.recipe.game, self.inner.loss, real_of(batch), fake, judge, step)
            losses |= {f"{name} {index}": values for name, values in terms.losses.items()}
            stats = terms.stats
        return Terms(losses, stats)

    def generator_terms(self, players: Players, batch: Any, step: StepContext) -> Terms:
        """Return the mean of the losses by all."""
        fake = self.drawn(players, "generator latents", step, len(real_of(batch)))
        judges = players.discriminator.get_submodule("each").children()
        losses = [generator_term(self.inner.loss, fake, lambda: real_of(batch), judge) for judge in judges]
        return Terms({"adversarial": torch.stack(losses).mean(0)})


@dataclass
class Unrolled(Changed):
    """The generator's loss is that by the discriminator as it will be some steps later (arXiv:1611.02163).

    The gradient goes through these steps. They are plain gradient steps, each tensor's brought to the size of one of
    Adam's, which is held constant: the rate times gradient over its root mean square.
    """

    num: int = 5

    def generator_terms(self, players: Players, batch: Any, step: StepContext) -> Terms:
        """Return the loss by a copy of the discriminator after its steps on this batch."""
        loss = self.inner.loss
        judge = players.discriminator
        real = real_of(batch)
        fake = self.drawn(players, "generator latents", step, len(real))
        weights = {name: weight.detach().clone().requires_grad_() for name, weight in judge.named_parameters()}
        for _ in range(self.num):
            logits = [functional_call(judge, weights, (samples,)) for samples in (real, fake)]
            value = loss.discriminator(*logits).mean()
            gradients = torch.autograd.grad(value, list(weights.values()), create_graph=True)
            weights = {
                name: weight - self.inner.recipe.game.discriminator.rate * scaled(gradient)
                for (name, weight), gradient in zip(weights.items(), gradients, strict=True)
            }
        fake_logits = functional_call(judge, weights, (fake,))
        return Terms({"adversarial": loss.generator(fake_logits, fake_logits)})


def scaled(gradient: Tensor) -> Tensor:
    """Return a gradient over its root mean square, which is held constant."""
    return gradient / gradient.detach().square().mean().sqrt().clamp(min=1e-6)


class GivenModes(nn.Module):
    """A generator of points from latents and the one-hot code of a mode; without one, it is drawn from a latent."""

    def __init__(self, network: nn.Module, num: int) -> None:
        super().__init__()
        self.network = network
        self.num = num

    def forward(self, latents: Tensor, modes: Tensor | None = None) -> Tensor:
        """Map latents `[N, Z + K]`, of which the last K stand for the mode, to points `[N, 2]`."""
        if modes is None:
            uniform = torch.special.ndtr(latents[:, -1])
            chosen = (uniform * self.num).long().clamp(max=self.num - 1)
        else:
            chosen = modes
        code = nn.functional.one_hot(chosen, self.num).float()
        return self.network(torch.cat([latents[:, : -self.num], code], 1))


class JudgeOfModes(nn.Module):
    """A discriminator of points `[N, 2]` with the number of their mode beside them `[N, 1]`."""

    def __init__(self, network: Any, num: int) -> None:
        super().__init__()
        first = network.body[0]
        network.body[0] = nn.Linear(2 + num, first.out_features)
        self.network = network
        self.num = num

    def forward(self, points: Tensor) -> Tensor:
        """Map points and modes `[N, 3]` to logits `[N]`."""
        code = nn.functional.one_hot(points[:, 2].long(), self.num).float()
        places = (points[:, :2] - self.network.shift) / self.network.scale
        return self.network.body(torch.cat([places, code], 1))[:, 0]


@dataclass
class Labelled(Changed):
    """Both players are told the mode, as images are told their class (arXiv:1411.1784)."""

    @property
    def mixture(self) -> Mixture:
        """The modes."""
        return self.inner.source.mixture

    def players(self) -> Players:
        """Build players that take a mode besides."""
        players = self.inner.players()
        num = len(self.mixture.centres)
        return Players(GivenModes(players.generator, num), JudgeOfModes(players.discriminator, num))

    def discriminator_terms(self, players: Players, batch: Tensor, step: StepContext) -> Terms:
        """Return the loss of points beside their modes."""
        modes = self.mixture.nearest(batch)[1]
        with torch.no_grad():
            fake = self.given(players, modes, "discriminator latents", step)
        real = torch.cat([batch, modes[:, None]], 1)
        game = self.inner.recipe.game
        return discriminator_terms(game, self.inner.loss, real, fake, players.discriminator, step)

    def generator_terms(self, players: Players, batch: Tensor, step: StepContext) -> Terms:
        """Return the loss of points beside their modes."""
        modes = self.mixture.nearest(batch)[1]
        fake = self.given(players, modes, "generator latents", step)
        return Terms({"adversarial": generator_term(self.inner.loss, fake, lambda: fake, players.discriminator)})

    def given(self, players: Players, modes: Tensor, stream: str, step: StepContext) -> Tensor:
        """Draw points of these modes, with their modes beside them `[N, 3]`."""
        size = self.inner.recipe.networks.latent_size
        latents = step.randomness.normal(stream, len(modes), size)
        return torch.cat([players.generator(latents, modes), modes[:, None]], 1)
