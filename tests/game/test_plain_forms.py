"""Every update against its plain form: vectors, a full Jacobian and no optimizer object, over 100 rounds in float64."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import pytest
import torch
import torch.nn.functional as F
from once import Once
from torch import Tensor, nn
from torch.func import functional_call, jacrev
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from equipoise.errors import UserError
from equipoise.game.losses import loss_named
from equipoise.game.rules.competitive import conjugate_gradients
from equipoise.game.steps import field_of, inner, products, refuse_without_second_derivatives
from equipoise.game.terms import StepContext, discriminator_terms, generator_term
from equipoise.game.updates import ROLES, Players, Role, Terms, TermsOf, Update, make_update
from equipoise.randomness import Randomness
from equipoise.recipe import Correction, Game, LossName, OptimizerName, OptimizerSettings, Penalty, PenaltyName

NUM = 100
RATE = {"generator": 0.03, "discriminator": 0.05}
Field: TypeAlias = Callable[[Tensor], Tensor]
LossFunction: TypeAlias = Callable[[Tensor, Role], Tensor]


def drawn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


REAL, LATENTS = drawn(16, 2) + 1, drawn(16, 3)


def make_players() -> Players:
    """Return smooth networks in float64: latents [N, 3] → points [N, 2] → logits [N, 1]."""
    torch.manual_seed(0)
    generator = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    return Players(generator.double(), nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 1)).double())


def losses(real_logits: Tensor, fake_logits: Tensor, role: Role) -> Tensor:
    """Return the minimax loss per sample: one wins what the other loses."""
    value = F.softplus(fake_logits)
    return -value if role == "generator" else F.softplus(-real_logits) + value


def terms_of(players: Players) -> TermsOf:
    """Return both players' terms on fixed samples; the graph is never cut."""

    def terms(role: Role, draw: int) -> Terms:
        fake = players.discriminator(players.generator(LATENTS))
        return Terms({"adversarial": losses(players.discriminator(REAL), fake, role).flatten()})

    return terms


@dataclass(frozen=True)
class Plain:
    """The same game as functions of one vector of all weights, the generator's first."""

    players: Players

    @property
    def num(self) -> int:
        """How many weights the generator has."""
        return sum(parameter.numel() for parameter in self.players.generator.parameters())

    def called(self, role: Role, weights: Tensor, inputs: Tensor) -> Tensor:
        """Call a network with other weights."""
        named = dict(self.players.of(role).named_parameters())
        parts = weights.split([parameter.numel() for parameter in named.values()])
        shaped = {name: part.view(named[name].shape) for name, part in zip(named, parts, strict=True)}
        return functional_call(self.players.of(role), shaped, (inputs,))

    def loss(self, weights: Tensor, role: Role) -> Tensor:
        """Return a player's loss []."""
        own, other = weights[: self.num], weights[self.num :]
        fake = self.called("discriminator", other, self.called("generator", own, LATENTS))
        return losses(self.called("discriminator", other, REAL), fake, role).mean()

    def field(self, weights: Tensor) -> Tensor:
        """Return v, each player's gradient of its own loss."""
        of_both = [jacrev(self.loss)(weights, role) for role in ROLES]
        return torch.cat([of_both[0][: self.num], of_both[1][self.num :]])

    @property
    def rates(self) -> Tensor:
        """The rate of each weight."""
        rates = torch.full((len(flat(self.players)),), RATE["discriminator"], dtype=torch.float64)
        rates[: self.num] = RATE["generator"]
        return rates


def flat(players: Players) -> Tensor:
    return torch.cat([parameters_to_vector(players.of(role).parameters()).detach() for role in ROLES])


def simultaneous(game: Plain, weights: Tensor, memory: dict[str, Tensor]) -> Tensor:
    return weights - game.rates * game.field(weights)


def alternating(game: Plain, weights: Tensor, memory: dict[str, Tensor]) -> Tensor:
    weights = weights.clone()
    weights[game.num :] -= (game.rates * game.field(weights))[game.num :]
    weights[: game.num] -= (game.rates * game.field(weights))[: game.num]
    return weights


def extragradient(game: Plain, weights: Tensor, memory: dict[str, Tensor]) -> Tensor:
    return weights - game.rates * game.field(weights - game.rates * game.field(weights))


def past_extragradient(game: Plain, weights: Tensor, memory: dict[str, Tensor]) -> Tensor:
    half = weights - game.rates * memory.get("last", torch.zeros_like(weights))
    memory["last"] = game.field(half)
    return weights - game.rates * memory["last"]


def optimistic(game: Plain, weights: Tensor, memory: dict[str, Tensor]) -> Tensor:
    found = game.field(weights)
    last = memory.get("last", found)
    memory["last"] = found
    return weights - 2 * game.rates * found + game.rates * last


def optimistic_adam(game: Plain, weights: Tensor, memory: dict[str, Tensor]) -> Tensor:
    """arXiv:1711.00141, Algorithm 1, with β 0.5 and 0.9."""
    found = game.field(weights)
    time = memory.get("time", torch.zeros((), dtype=torch.float64)) + 1
    mean = 0.5 * memory.get("mean", torch.zeros_like(found)) + 0.5 * found
    square = 0.9 * memory.get("square", torch.zeros_like(found)) + 0.1 * found.square()
    step = game.rates * (mean / (1 - 0.5**time)) / ((square / (1 - 0.9**time)).sqrt() + 1e-8)
    last = memory.get("step", step)
    memory |= {"time": time, "mean": mean, "square": square, "step": step}
    return weights - 2 * step + last


def consensus(game: Plain, weights: Tensor, memory: dict[str, Tensor]) -> Tensor:
    found, jacobian = game.field(weights), jacrev(game.field)(weights)
    return weights - game.rates * (found + 0.3 * jacobian.T @ found)


def symplectic(game: Plain, weights: Tensor, memory: dict[str, Tensor]) -> Tensor:
    found, jacobian = game.field(weights), jacrev(game.field)(weights)
    adjustment = ((jacobian - jacobian.T) / 2).T @ found
    hamiltonian = jacobian.T @ found
    sign = torch.sign((found @ hamiltonian) * (adjustment @ hamiltonian) / len(found) + 0.1)
    return weights - game.rates * (found + 0.3 * sign * adjustment)


def competitive(game: Plain, weights: Tensor, memory: dict[str, Tensor]) -> Tensor:
    """The system solved whole, with η of SGD or, where a memory of squares is begun, of the adaptive form."""
    found, num = game.field(weights), game.num
    mixed = jacrev(jacrev(game.loss))(weights, "generator")[num:, :num]  # D_ψθ f
    rates = game.rates
    if "square" in memory:
        memory["time"] = memory["time"] + 1
        memory["square"] = 0.9 * memory["square"] + 0.1 * found.square()
        rates = rates / ((memory["square"] / (1 - 0.9 ** memory["time"])).sqrt() + 1e-5)
    low, high = rates[:num].diag(), rates[num:].diag()
    rise = -found[num:]
    step = -torch.linalg.solve(torch.linalg.inv(low) + mixed.T @ high @ mixed, found[:num] + mixed.T @ high @ rise)
    return weights + torch.cat([step, high @ (rise + mixed @ step)])


def adaptive_competitive(game: Plain, weights: Tensor, memory: dict[str, Tensor]) -> Tensor:
    memory.setdefault("square", torch.zeros_like(weights))
    memory.setdefault("time", torch.zeros((), dtype=torch.float64))
    return competitive(game, weights, memory)


def looking_ahead(rule: Any) -> Any:
    def played(game: Plain, weights: Tensor, memory: dict[str, Tensor]) -> Tensor:
        slow = memory.setdefault("slow", weights.clone())
        memory["rounds"] = memory.get("rounds", torch.zeros((), dtype=torch.float64)) + 1
        fast = rule(game, weights, memory)
        if memory["rounds"] % 7:
            return fast
        memory["slow"] = slow + 0.4 * (fast - slow)
        return memory["slow"].clone()

    return played


SGD = {role: OptimizerSettings(optimizer="sgd", rate=rate) for role, rate in RATE.items()}
ADAM = {role: OptimizerSettings(optimizer="adam", rate=rate, beta1=0.5, beta2=0.9) for role, rate in RATE.items()}
RMSPROP = {role: OptimizerSettings(optimizer="rmsprop", rate=rate, beta2=0.9) for role, rate in RATE.items()}
FORMS: dict[str, tuple[Any, dict[str, Any]]] = {
    "simultaneous": (simultaneous, {"update": "simultaneous"}),
    "alternating": (alternating, {"update": "alternating"}),
    "extragradient": (extragradient, {"update": "extragradient"}),
    "past extragradient": (past_extragradient, {"update": "past-extragradient"}),
    "optimistic": (optimistic, {"update": "optimistic"}),
    "optimistic Adam": (optimistic_adam, {"update": "optimistic", **ADAM}),
    "consensus": (consensus, {"update": "simultaneous", "correction": Correction(kind="consensus", weight=0.3)}),
    "symplectic": (symplectic, {"update": "simultaneous", "correction": Correction(kind="symplectic", weight=0.3)}),
    "competitive": (competitive, {"update": "competitive"}),
    "adaptive competitive": (adaptive_competitive, {"update": "competitive", **RMSPROP}),
    "lookahead": (looking_ahead(alternating), {"update": "alternating", "lookahead": 7, "lookahead_share": 0.4}),
    "lookahead, optimistic": (
        looking_ahead(optimistic),
        {"update": "optimistic", "lookahead": 7, "lookahead_share": 0.4},
    ),
}


def made(options: dict[str, Any], players: Players) -> Update:
    game = Game(loss="minimax", generator=SGD["generator"], discriminator=SGD["discriminator"])
    return make_update(replace(game, **options), players)


@pytest.mark.parametrize("name", FORMS)
def test_a_hundred_rounds_are_those_of_the_plain_form(name: str) -> None:
    plain, options = FORMS[name]
    players = make_players()
    game, weights, memory = Plain(make_players()), flat(players), dict[str, Tensor]()
    update = made(options, players)
    start = weights.clone()
    for _ in range(NUM):
        update.round(terms_of(players))
        weights = plain(game, weights, memory)
    assert (weights - start).norm() > 0.5  # somewhere was gone to
    torch.testing.assert_close(flat(players), weights, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("kind", ["consensus", "symplectic"])
def test_a_correction_is_added_whatever_the_order_of_the_steps(kind: Any) -> None:
    """Where players alternate, each steps by its part of the corrected field at the weights it finds."""
    players = make_players()
    game, weights = Plain(make_players()), flat(players)
    rule = {"consensus": consensus, "symplectic": symplectic}[kind]
    made({"update": "alternating", "correction": Correction(kind=kind, weight=0.3)}, players).round(terms_of(players))
    after = weights.clone()
    after[game.num :] = rule(game, after, {})[game.num :]
    after[: game.num] = rule(game, after, {})[: game.num]
    torch.testing.assert_close(flat(players), after)


def test_conjugate_gradients_solve_a_system_and_stay_at_the_solution() -> None:
    matrix = drawn(6, 6)
    matrix = matrix @ matrix.T + torch.eye(6).double()
    right = drawn(6)
    for most in (6, 30):
        (found,) = conjugate_gradients(lambda parts: [matrix @ parts[0]], [right], most)
        torch.testing.assert_close(found, torch.linalg.solve(matrix, right), rtol=1e-5, atol=1e-6)
    (nothing,) = conjugate_gradients(lambda parts: [matrix @ parts[0]], [torch.zeros(6).double()])
    assert not nothing.any()


# What has no second derivatives


SECOND_ORDER: list[dict[str, Any]] = [
    {"update": "competitive"},
    {"update": "simultaneous", "correction": Correction(kind="consensus")},
    {"update": "alternating", "correction": Correction(kind="symplectic")},
]


@pytest.mark.parametrize("options", SECOND_ORDER)
def test_networks_without_second_derivatives_are_refused_with_what_to_type(options: dict[str, Any]) -> None:
    players = make_players()
    inner = players.discriminator
    without = Players(players.generator, Once(inner))
    with pytest.raises(UserError) as refused:
        refuse_without_second_derivatives(made(options, without), terms_of(without))
    assert "second derivatives" in refused.value.problem
    assert any("=" in str(remedy) for remedy in refused.value.remedies)
    refuse_without_second_derivatives(made(options, players), terms_of(players))


@pytest.mark.parametrize("options", SECOND_ORDER)
def test_a_players_terms_that_cut_the_others_graph_are_refused(options: dict[str, Any]) -> None:
    players = make_players()

    def terms(role: Role, draw: int) -> Terms:
        fake = players.generator(LATENTS).detach()
        if role == "generator":  # its gradient depends on no other weights
            return Terms({"adversarial": players.generator(LATENTS).square().sum(1)})
        return Terms({"adversarial": players.discriminator(fake).flatten()})

    with pytest.raises(UserError):
        refuse_without_second_derivatives(made(options, players), terms)


@pytest.mark.parametrize("options", [{"update": "extragradient"}, {"update": "optimistic", "lookahead": 5}])
def test_other_updates_ask_for_no_second_derivatives(options: dict[str, Any]) -> None:
    def never(role: Role, draw: int) -> Terms:
        raise AssertionError("asked for terms")

    refuse_without_second_derivatives(made(options, make_players()), never)


def test_weights_given_as_a_vector_are_those_of_the_networks() -> None:
    """The plain forms compute by the same networks: a check of the check."""
    players = make_players()
    vector_to_parameters(2 * parameters_to_vector(players.generator.parameters()), players.generator.parameters())
    game = Plain(players)
    expected = terms_of(players)("discriminator", 0).losses["adversarial"].mean()
    torch.testing.assert_close(game.loss(flat(players), "discriminator"), expected.detach())


# The field of the losses and penalties that tasks share

LOSSES = ("minimax", "least-squares", "relativistic", "relativistic-average")


@pytest.mark.parametrize("kind", ["none", "r1", "r1+r2", "wgan-gp"])
@pytest.mark.parametrize("name", LOSSES)
def test_the_jacobian_of_shared_terms_is_that_of_finite_differences(name: LossName, kind: PenaltyName) -> None:
    players, loss = make_players(), loss_named(name)
    game = Game(loss=name, penalty=Penalty(kind=kind, gamma=1.0), correction=Correction(kind="consensus"))
    update = make_update(game, players)
    step = StepContext(Randomness(0), needs_graph=True)

    def critic(points: Tensor) -> Tensor:
        return players.discriminator(points)[:, 0]

    def terms(role: Role, draw: int) -> Terms:
        fake, real = players.generator(LATENTS), REAL.clone()
        if role == "generator":
            return Terms({"adversarial": generator_term(loss, fake, lambda: real, critic, step=step)})
        return discriminator_terms(game, loss, real, fake, critic, step)

    weights = [parameter for role in ROLES for parameter in players.of(role).parameters()]
    along = [drawn(*weight.shape) for weight in weights]

    def field_at(share: float) -> list[Tensor]:
        """Return the field some way along a line."""
        moved = [weight.detach().clone() for weight in weights]
        with torch.no_grad():
            for weight, part in zip(weights, along, strict=True):
                weight.add_(share * part)
        found = [part.detach() for role in ROLES for part in field_of(update, terms, 0)[0][role]]
        with torch.no_grad():
            for weight, before in zip(weights, moved, strict=True):
                weight.copy_(before)
        return found

    across = [part.flip(0) - 0.5 for part in along]
    slope = [(one - two) / 2e-5 for one, two in zip(field_at(1e-5), field_at(-1e-5), strict=True)]
    field = [part for role in ROLES for part in field_of(update, terms, 0)[0][role]]
    transposed = products(field, weights, across, keep=False)
    assert inner(transposed, along).item() == pytest.approx(inner(slope, across).item(), rel=1e-5)


# What takes no part


class Staged(nn.Module):
    """A weight for each of two stages, of which one is in play."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ParameterList(nn.Parameter(torch.tensor([1.0])) for _ in range(2))
        self.stage = 0

    def value(self) -> Tensor:
        """Return the weight that is in play."""
        return self.stages[self.stage]


@pytest.mark.parametrize("options", SECOND_ORDER)
def test_a_stage_that_is_done_is_not_moved_by_momentum_or_decay(options: dict[str, Any]) -> None:
    settings = OptimizerSettings(optimizer="adam", rate=0.01, beta1=0.5, weight_decay=0.1)
    if options["update"] == "competitive":
        settings = OptimizerSettings(optimizer="rmsprop", rate=0.01)
    players = Players(Staged(), Staged())
    update = make_update(Game(loss="minimax", generator=settings, discriminator=settings, **options), players)

    def terms(role: Role, draw: int) -> Terms:
        product = players.generator.value() * players.discriminator.value()  # type: ignore[operator]
        return Terms({"product": product if role == "generator" else -product})

    def play(stage: int) -> list[float]:
        players.generator.stage = players.discriminator.stage = stage  # type: ignore[assignment]
        for _ in range(3):
            update.round(terms)
        return [players.of(role).stages[0].item() for role in ROLES]  # type: ignore[index]

    before = play(0)
    assert before != [1.0, 1.0]
    memory = {name: value.clone() for name, value in update.memory.items() if name.endswith("square.0")}
    assert play(1) == before
    assert all(torch.equal(update.memory[name], value) for name, value in memory.items())
    assert all(players.of(role).stages[0].grad is None for role in ROLES)  # type: ignore[index]


@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop"])
def test_a_competitive_step_of_infinite_mixed_derivatives_is_refused(optimizer: OptimizerName) -> None:
    settings = OptimizerSettings(optimizer=optimizer, rate=0.1)
    players = Players(Staged(), Staged())
    game = Game(loss="minimax", update="competitive", generator=settings, discriminator=settings)
    update = make_update(game, players)

    def terms(role: Role, draw: int) -> Terms:
        product = players.generator.value() * players.discriminator.value()  # type: ignore[operator]
        value = product.abs() ** 1.5  # at 0 its gradient is 0, and its second derivative infinite
        return Terms({"product": value if role == "generator" else -value})

    update.round(terms)
    with torch.no_grad():
        players.generator.stages[0].zero_()  # type: ignore[index]
    before = [flat(players), *(value.clone() for value in update.memory.values())]
    for numbers in update.round(terms):
        assert max(value.item() for name, value in numbers.items() if name.endswith("_skipped")) == 1.0
    assert all(map(torch.equal, [flat(players), *update.memory.values()], before))


@pytest.mark.parametrize("options", SECOND_ORDER)
def test_a_player_that_never_has_terms_is_named(options: dict[str, Any]) -> None:
    players = make_players()

    def terms(role: Role, draw: int) -> Terms:
        return Terms({"error": players.generator(LATENTS).square().sum(1)} if role == "generator" else {})

    with pytest.raises(UserError, match="the discriminator has no loss terms"):
        refuse_without_second_derivatives(made(options, players), terms)
