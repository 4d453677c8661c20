"""PacGAN's games on a ring and a grid (arXiv:1712.04086, section 4.1), by the losses, packs and updates of Equipoise.

What the paper leaves open is as in its authors' programs (github.com/fjxmlzn/PacGAN): both players step at once from
the same latents, the generator's loss is the non-saturating one, a batch is 100 packs, 100,000 packs
are drawn from the points once, with repetition, and each of a pack's places is normalised by itself.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from resumable import Play, Setting
from torch import Tensor, nn

from equipoise.game.losses import loss_named
from equipoise.game.terms import StepContext, discriminator_terms, generator_term
from equipoise.game.updates import Players, Role, Terms, TermsOf, make_update
from equipoise.nets.layers import packed
from equipoise.randomness import Randomness
from equipoise.recipe import Game, OptimizerSettings
from equipoise.tasks.points import Mixture, grid, mode_metrics, ring

NUM_POINTS = 100_000
NUM_SCORED = 2_500
BATCH = 100  # packs
EPOCHS = 400
NUM_LATENTS = 2
HIDDEN = 400  # of the generator
UNITS = 200  # of a maxout layer
PIECES = 5
DEVIATION = 0.02  # of the first weights
FORGOTTEN = 0.05  # of the batch norms' statistics in each round
PLAYER = OptimizerSettings(rate=1e-4, beta1=0.8, beta2=0.999)


class Maxout(nn.Module):
    """Features [N, F] to the largest of five linear maps, unit by unit [N, 200] (arXiv:1302.4389)."""

    def __init__(self, num_in: int) -> None:
        super().__init__()
        self.linear = nn.Linear(num_in, UNITS * PIECES)

    def forward(self, features: Tensor) -> Tensor:
        """Return the maxima."""
        return self.linear(features).view(len(features), UNITS, PIECES).amax(2)


class Packs(nn.Module):
    """Points [N, 2] to logits [N/packing] of three maxout layers."""

    def __init__(self, packing: int) -> None:
        super().__init__()
        self.packing = packing
        self.body = nn.Sequential(Maxout(2 * packing), Maxout(UNITS), Maxout(UNITS), nn.Linear(UNITS, 1))

    def forward(self, points: Tensor) -> Tensor:
        """Judge packs of points."""
        return self.body(packed(points, self.packing))[:, 0]


def generator(packing: int) -> nn.Sequential:
    """Return four layers of 400 units with batch norm, from latents [N, 2] to points [N, 2]."""
    forgotten = 1 - (1 - FORGOTTEN) ** (1 / packing)  # it meets each round's packs place by place
    layers: list[nn.Module] = []
    size = NUM_LATENTS
    for _ in range(4):
        layers += [nn.Linear(size, HIDDEN, bias=False), nn.BatchNorm1d(HIDDEN, 1e-4, forgotten), nn.ReLU()]
        size = HIDDEN
    return nn.Sequential(*layers, nn.Linear(size, 2))


def players_of(packing: int) -> Players:
    """Return both networks, with weights from N(0, 0.02²) and biases of 0."""
    players = Players(generator(packing), Packs(packing))
    for network in (players.generator, players.discriminator):
        for layer in network.modules():
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=DEVIATION)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
    return players


@dataclass(frozen=True)
class PointGame:
    """A game on a mixture: its players, the data, and which pack holds which points [100,000, packing]."""

    game: Game
    players: Players
    mixture: Mixture
    points: Tensor
    packs: Tensor
    seed: int

    def real(self, index: int) -> Tensor:
        """Return the real points [100 · packing, 2] of a round, in packs; each epoch has another order."""
        epoch, place = divmod(index, NUM_POINTS // BATCH)
        order = torch.randperm(NUM_POINTS, generator=Randomness(self.seed, epoch).generator("order"))
        return self.points[self.packs[order[place * BATCH : (place + 1) * BATCH]]].flatten(0, 1)

    def generated(self, index: int) -> Tensor:
        """Return as many generated points of a round, in packs."""
        latents = Randomness(self.seed, index).normal("latents", self.game.packing, BATCH, NUM_LATENTS)
        return torch.stack([self.players.generator(part) for part in latents], 1).flatten(0, 1)

    def terms(self, index: int) -> TermsOf:
        """Return both players' terms of a round: of the same points."""
        loss = loss_named(self.game.loss)
        real = self.real(index)
        step = StepContext(Randomness(self.seed, index), index=index)
        made: list[Tensor] = []

        def terms_of(role: Role, _: int) -> Terms:
            if not made:  # in the generator's turn, which comes first
                made.append(self.generated(index))
            if role == "generator":
                return Terms({"adversarial": generator_term(loss, made[0], lambda: real, self.players.discriminator)})
            return discriminator_terms(self.game, loss, real, made[0].detach(), self.players.discriminator, step)

        return terms_of

    @torch.no_grad()
    def score(self) -> dict[str, float]:
        """Return modes, good points and KL of 2,500 points; `kl_of_good` counts good points alone."""
        network = self.players.generator.eval()
        points = network(Randomness(self.seed).normal("scored", NUM_SCORED, NUM_LATENTS))
        network.train()
        found = mode_metrics(self.mixture, torch.zeros(2), torch.ones(2), points)
        distances, indices = self.mixture.nearest(points)
        num_modes = len(self.mixture.centres)
        shares = torch.bincount(indices[distances < 3 * self.mixture.deviation], minlength=num_modes).double()
        present = shares[shares > 0] / shares.sum()
        of_good = (present * (present * num_modes).log()).sum().item() if len(present) else math.nan
        return {**found, "kl_of_good": of_good}


def settings_of(options: Any) -> list[Setting]:
    """Return a setting for each game that was asked for."""
    return [
        {"experiment": "pacgan", "shape": options.shape, "packing": packing, "epochs": options.epochs, "seed": seed}
        for seed in options.seeds
        for packing in options.packing
    ]


def build(setting: Setting) -> Play:
    """Return a game that can be played."""
    packing = setting["packing"]
    seed = setting["seed"]
    mixture = ring() if setting["shape"] == "ring" else grid()
    game = Game(
        loss="non-saturating",
        update="simultaneous",
        batch=BATCH * packing,
        packing=packing,
        generator=PLAYER,
        discriminator=PLAYER,
    )
    points = mixture.draw(NUM_POINTS, Randomness(seed).generator("points"))
    packs = torch.randint(NUM_POINTS, (NUM_POINTS, packing), generator=Randomness(seed).generator("packs"))
    players = players_of(packing)
    one = PointGame(game, players, mixture, points, packs, seed)
    update = make_update(game, players)

    def play_round(index: int) -> None:
        update.round(one.terms(index))

    return Play(setting["epochs"] * NUM_POINTS // BATCH, update, play_round, one.score, one.score)
