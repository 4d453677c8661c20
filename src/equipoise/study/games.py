"""The games of a study: two of two weights each, whose every step can be drawn, and three of networks.

- `dirac`: the data are a point at 0, G's only sample is θ, and D(x) = ψx (arXiv:1801.04406, section 2).
- `bilinear`: min over θ and max over ψ of θψ, by itself or with what a loss makes of it.
- `ring`, `grid`: 8 and 25 modes in the plane, perceptrons of three hidden layers.
- `digits`: handwritten digits of 14×14 pixels, small perceptrons.

A game ends with a score in 0..1, higher is better: of the first two, by how much nearer to their equilibrium the
players are than at the start, at the worst of the last rounds, since they may turn around it; of the others, the share
of the probability that is where it should be.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from equipoise.datasets import load_images
from equipoise.game.losses import loss_named
from equipoise.game.steps import needs_graph
from equipoise.game.terms import StepContext, discriminator_terms, generator_term
from equipoise.game.updates import ROLES, Players, Role, Terms, TermsOf, step_index
from equipoise.nets.points import PointDiscriminator, PointGenerator
from equipoise.randomness import Randomness
from equipoise.recipe import Game, Networks
from equipoise.tasks.points import GOOD, Mixture, grid, ring

START = (1.0, -1.0)  # θ, ψ: D is low on G's sample
FAR = 1e3  # a radius from which nothing comes back
NUM_SCORED = 2_500
WIDTH = 64
SIDE = 14  # pixels of a small digit
NUM_PARTS = 16  # principal components by which digits are compared
NUM_CELLS = 40  # parts of the space of digits, by nearest of as many real ones


@dataclass(frozen=True)
class Arena:
    """One game, begun: its players, their terms in a round, and how well it stands."""

    players: Players
    terms: Callable[[int], TermsOf]  # of a round
    score: Callable[[], float]  # in 0..1, NaN where it is lost
    point: Callable[[], tuple[float, float] | None] = field(default=lambda: None)  # of two weights
    turns: bool = False  # around its equilibrium, so that the score of one round would be chance


class Number(nn.Module):
    """A network of one weight in float64."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor([value], dtype=torch.float64))

    def forward(self, values: Tensor) -> Tensor:
        """Return values times the weight."""
        return values * self.weight


def begun(name: str, game: Game, seed: int) -> Arena:
    """Return a game at its start."""
    match name:
        case "dirac":
            return _two_weights(game, seed, is_bilinear=False)
        case "bilinear":
            return _two_weights(game, seed, is_bilinear=True)
        case "ring":
            return _points(ring(0.05), game, seed)
        case "grid":
            return _points(grid(0.1), game, seed)
        case "digits":
            return _digits(game, seed)
    raise ValueError(name)


def ceiling(name: str) -> float:
    """Return the score of fresh samples of the data themselves: what a perfect generator would reach."""
    source = Randomness(2).generator("ceiling")
    match name:
        case "ring":
            return _of_modes(ring(0.05).draw(NUM_SCORED, source), ring(0.05))
        case "grid":
            return _of_modes(grid(0.1).draw(NUM_SCORED, source), grid(0.1))
        case "digits":
            digits = _small_digits()
            return _in_common(digits[torch.randint(len(digits), (NUM_SCORED,), generator=source)])
        case _:
            return 1.0


# Of two weights


def _two_weights(game: Game, seed: int, *, is_bilinear: bool) -> Arena:
    """Return Dirac's game, or the bilinear one; seeds above 0 begin elsewhere at the same distance."""
    angle = math.atan2(START[1], START[0]) + seed
    radius = math.hypot(*START)
    players = Players(Number(radius * math.cos(angle)), Number(radius * math.sin(angle)))

    def point() -> tuple[float, float]:
        """Return (θ, ψ)."""
        theta, psi = (next(players.of(role).parameters()) for role in ROLES)
        return theta.item(), psi.item()

    def score() -> float:
        """Return 1 − ‖now‖ / ‖start‖, at least 0."""
        now = math.hypot(*point())
        return max(0.0, 1 - now / radius) if now < FAR else math.nan

    def terms(index: int) -> TermsOf:
        """Return the terms of a round."""
        return lambda role, draw: field_terms(game, players, role, index, is_bilinear=is_bilinear)

    return Arena(players, terms, score, point, turns=True)


def field_terms(game: Game, players: Players, role: Role, index: int, *, is_bilinear: bool) -> Terms:
    """Return a player's terms of a game of two weights: D's logits of a sample x are ψx, the real one is at 0."""
    theta, psi = (next(players.of(one).parameters()) for one in ROLES)
    loss = loss_named("wasserstein" if is_bilinear else game.loss)
    if role == "generator":
        return Terms({"adversarial": loss.generator(psi * torch.zeros_like(theta), psi * theta)})
    step = StepContext(Randomness(0), index=index, needs_graph=needs_graph(game))
    fake = theta if needs_graph(game) else theta.detach().clone()
    return discriminator_terms(game, loss, torch.zeros_like(theta), fake, players.discriminator, step)


# Of networks


def _points(mixture: Mixture, game: Game, seed: int) -> Arena:
    """Return a game of perceptrons on a mixture."""
    networks = Networks(family="mlp", width=WIDTH, latent_size=2)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        players = Players(PointGenerator(networks), PointDiscriminator(networks))
    scale = mixture.centres.std()
    for player in (players.generator, players.discriminator):
        player.get_buffer("scale").fill_(scale)

    def score() -> float:
        """Return the probability in common with the mixture."""
        return _of_modes(_drawn(players.generator, 2), mixture)

    return Arena(players, _sampled(game, players, 2, mixture.draw, seed), score)


def _of_modes(points: Tensor, mixture: Mixture) -> float:
    """Return the probability in common with a mixture: Σ over modes of min(share of good points, 1/K)."""
    distances, modes = mixture.nearest(points)
    good = modes[distances < GOOD * mixture.deviation]
    shares = torch.bincount(good, minlength=len(mixture.centres)) / len(points)
    return shares.clamp(max=1 / len(mixture.centres)).sum().item()


def _digits(game: Game, seed: int) -> Arena:
    """Return a game of perceptrons on small digits."""
    digits = _small_digits()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        generator = nn.Sequential(*_hidden(16, 2 * WIDTH, nn.ReLU()), nn.Linear(2 * WIDTH, SIDE**2), nn.Tanh())
        layers = (*_hidden(SIDE**2, 2 * WIDTH, nn.LeakyReLU(0.2)), nn.Linear(2 * WIDTH, 1), nn.Flatten(0))
        players = Players(generator, nn.Sequential(*layers))

    def real(num: int, source: torch.Generator) -> Tensor:
        """Draw digits [num, 196]."""
        return digits[torch.randint(len(digits), (num,), generator=source)]

    return Arena(players, _sampled(game, players, 16, real, seed), lambda: _in_common(_drawn(players.generator, 16)))


def _hidden(num: int, width: int, activation: nn.Module) -> list[nn.Module]:
    return [nn.Linear(num, width), activation, nn.Linear(width, width), activation]


@cache
def _small_digits() -> Tensor:
    """Return the package's digits as rows [N, 196] in [-1, 1]."""
    images = torch.from_numpy(load_images("mnist")).float()
    return F.avg_pool2d(images, 2).flatten(1) / 127.5 - 1


def _in_common(generated: Tensor) -> float:
    """Return the probability that digits [N, 196] have in common with real ones.

    It is by cells of the space of the real ones' principal components. A generated digit farther from all cells than
    99 % of real ones are is nowhere.
    """
    digits = _small_digits()
    mean = digits.mean(0)
    _, _, directions = torch.linalg.svd(digits[:4_000] - mean, full_matrices=False)
    axes = directions[:NUM_PARTS].T
    source = torch.Generator().manual_seed(0)
    order = torch.randperm(len(digits), generator=source)
    centres = (digits[order[:NUM_CELLS]] - mean) @ axes
    rest = digits[order[NUM_CELLS : NUM_CELLS + NUM_SCORED]] - mean
    fake = generated - mean
    # What lies off the principal components counts as distance, too: noise is no digit.
    off = [(part - part @ axes @ axes.T).norm(dim=1) for part in (rest, fake)]
    near = [torch.cdist(part @ axes, centres).min(1) for part in (rest, fake)]
    is_near = near[1].values <= near[0].values.quantile(0.99)
    is_digit = (off[1] <= off[0].quantile(0.99)) & (off[1] >= off[0].quantile(0.01)) & is_near
    real_shares = torch.bincount(near[0].indices, minlength=NUM_CELLS) / len(rest)
    fake_shares = torch.bincount(near[1].indices[is_digit], minlength=NUM_CELLS) / len(fake)
    return torch.minimum(real_shares, fake_shares).sum().item()


@torch.no_grad()
def _drawn(generator: nn.Module, latent_size: int) -> Tensor:
    return generator(Randomness(1).normal("latents", NUM_SCORED, latent_size)).float()


def _sampled(
    game: Game,
    players: Players,
    latent_size: int,
    real: Callable[[int, torch.Generator], Tensor],
    seed: int,
) -> Callable[[int], TermsOf]:
    """Return the terms of a round of a game on samples, each draw a function of seed and round alone."""
    loss = loss_named(game.loss)

    def of_round(index: int) -> TermsOf:
        def terms(role: Role, draw: int) -> Terms:
            samples = (2 * index + draw) * game.batch
            randomness = Randomness(seed, samples)
            step = StepContext(
                randomness, index=step_index(game, index * game.batch, draw), needs_graph=needs_graph(game)
            )
            batch = real(game.batch, randomness.generator("real"))
            latents = randomness.normal(f"{role} latents", game.batch, latent_size)
            if role == "generator":
                fake = players.generator(latents)
                term = generator_term(loss, fake, lambda: batch, players.discriminator, step=step)
                return Terms({"adversarial": term})
            with step.graph_if_needed():
                fake = players.generator(latents)
            return discriminator_terms(game, loss, batch, fake, players.discriminator, step)

        return terms

    return of_round
