"""What the rules of an update share: gradients of loss terms, steps that may be refused, and what they must undo.

Where a rule or a correction of the field needs second derivatives, both players' terms are taken at the same weights
with their graphs kept. v = (∇_θ L_G, ∇_ψ L_D) is the game's field and H its Jacobian.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias, cast

import torch
from torch import Tensor, distributed

from equipoise.errors import Setting, UserError
from equipoise.game.optimizers import Copies, gradient_norm, step_unless
from equipoise.game.players import ROLES, Numbers, Players, Role, Terms, TermsOf, refuse_unknown_stats
from equipoise.recipe import Game, OptimizerSettings, UpdateName

if TYPE_CHECKING:
    from equipoise.game.updates import Update

Parts: TypeAlias = dict[Role, list[Tensor]]  # a vector over all weights, a tensor for each of a player's parameters
ALIGNED = 0.1  # ε of arXiv:1802.05642, section 3.5


def needs_graph(game: Game) -> bool:
    """Return whether an update differentiates the players' gradients, so that D's terms must keep the graph of G."""
    return game.correction.kind != "none" or rule_of(game).NEEDS_GRAPH


class Rule(Protocol):
    """A module of `rules`."""

    NEEDS_GRAPH: bool  # whether it differentiates the players' gradients

    def num_batches(self, game: Game, more_steps: int) -> int:
        """Return how many batches of real samples a round shows to the discriminator."""
        ...

    def play(self, update: "Update", terms: TermsOf, more_steps: int) -> list[Numbers]:
        """Play a round; return each step's numbers, scalars on the device."""
        ...


@cache
def rule_named(name: UpdateName) -> Rule:
    """Return the module of a rule."""
    return cast(Rule, import_module(f"equipoise.game.rules.{name.replace('-', '_')}"))


def rule_of(game: Game) -> Rule:
    """Return the rule by which a game is played."""
    return rule_named(game.update)


def settings_of(game: Game, role: Role) -> OptimizerSettings:
    """Return the settings of a player's optimizer."""
    return game.generator if role == "generator" else game.discriminator


def differentiate(update: "Update", terms: TermsOf, role: Role, draw: int) -> tuple[Numbers, Tensor]:
    """Put the gradients of one player's terms into its parameters; return its numbers, and if any is not finite."""
    if update.game.correction.kind != "none":
        return _corrected(update, terms, draw, (role,))[role]
    for other in ROLES:
        update.players.of(other).requires_grad_(other == role)
    update.optimizers[role].zero_grad(set_to_none=True)
    found = terms(role, draw)
    refuse_unknown_stats(found, role)
    if not found.losses:  # this player rests: a sum of no terms, and no gradient to step by
        return resting(update, role)
    loss, numbers = loss_of(found, role)
    loss.backward()
    return measured(update, role, loss, numbers)


def differentiate_both(update: "Update", terms: TermsOf, draw: int) -> dict[Role, tuple[Numbers, Tensor]]:
    """Put both players' gradients at the same weights into their parameters; return what `differentiate` does."""
    if update.game.correction.kind != "none":
        return _corrected(update, terms, draw, ROLES)
    return {role: differentiate(update, terms, role, draw) for role in ROLES}


def resting(update: "Update", role: Role) -> tuple[Numbers, Tensor]:
    """Return the numbers of a player that has no terms in this step."""
    nothing = torch.zeros((), device=next(update.players.of(role).parameters()).device)
    return {f"{role}_loss": nothing, f"{role}_gradient": nothing}, nothing.bool()


def loss_of(found: Terms, role: Role) -> tuple[Tensor, Numbers]:
    """Return the sum of the means of a player's terms [], and its numbers so far."""
    means = {name: values.mean() for name, values in found.losses.items()}
    loss = torch.stack(list(means.values())).sum()
    numbers = {f"term/{role}/{name}": mean.detach() for name, mean in means.items()}
    numbers |= {name: values.detach().mean() for name, values in found.stats.items()}
    return loss, numbers


def measured(update: "Update", role: Role, loss: Tensor, numbers: Numbers) -> tuple[Numbers, Tensor]:
    """Clip the gradients that are there; return the numbers with their norm, and whether anything is not finite."""
    norm = gradient_norm(update.players.of(role).parameters(), settings_of(update.game, role).clip_norm)
    numbers = numbers | {f"{role}_loss": loss.detach(), f"{role}_gradient": norm}
    return numbers, over_ranks(~torch.isfinite(loss.detach() + norm))


# Corrections by second derivatives


def _corrected(
    update: "Update", terms: TermsOf, draw: int, roles: Sequence[Role]
) -> dict[Role, tuple[Numbers, Tensor]]:
    """Put gradients that are corrected by the game's Jacobian into the parameters of these players.

    Consensus (arXiv:1705.10461, Eq. 6): v + γ Hᵀv, the gradient of γ/2 ‖v‖² added. Symplectic gradient adjustment
    (arXiv:1802.05642, section 3): v + λ Aᵀv with A = (H − Hᵀ)/2, its sign aligned.
    """
    field, found, in_play = field_of(update, terms, draw)
    flat = _flat(field)
    vectors = [vector.detach() for vector in flat]
    weight = update.game.correction.weight
    transposed = products(flat, _weights(update), vectors, keep=True)
    if update.game.correction.kind == "consensus":
        addition = [weight * part for part in transposed]
    else:
        forward = _jacobian_product(flat, _weights(update), vectors)
        antisymmetric = [(one - other) / 2 for one, other in zip(transposed, forward, strict=True)]  # Aᵀv
        num = sum(part.numel() for part in vectors)
        alignment = inner(vectors, transposed) * inner(antisymmetric, transposed) / num + ALIGNED
        addition = [weight * alignment.sign() * part for part in antisymmetric]
    corrected = iter([vector + added for vector, added in zip(vectors, addition, strict=True)])
    steps: dict[Role, tuple[Numbers, Tensor]] = {}
    for role in ROLES:
        parts = [next(corrected) for _ in field[role]]
        if role not in roles:
            continue
        if role not in found:
            update.optimizers[role].zero_grad(set_to_none=True)
            steps[role] = resting(update, role)
            continue
        for parameter, part, is_in in zip(update.players.of(role).parameters(), parts, in_play[role], strict=True):
            parameter.grad = part if is_in else None
        steps[role] = measured(update, role, *found[role])
    return steps


def field_of(
    update: "Update", terms: TermsOf, draw: int
) -> tuple[Parts, dict[Role, tuple[Tensor, Numbers]], dict[Role, list[bool]]]:
    """Return the game's field with its graph, the loss and numbers of each player that has terms, and what is in play.

    The last says of each parameter whether its player's loss depends on it: that of a stage which has not come in yet,
    or is done, does not, and an optimizer with momentum must not move it.
    """
    field: Parts = {}
    found: dict[Role, tuple[Tensor, Numbers]] = {}
    in_play: dict[Role, list[bool]] = {}
    for role in ROLES:
        update.players.of(role).requires_grad_(True)
    for role in ("discriminator", "generator"):
        given = terms(role, draw)
        refuse_unknown_stats(given, role)
        parameters = list(update.players.of(role).parameters())
        field[role] = [torch.zeros_like(parameter) for parameter in parameters]
        in_play[role] = [False for _ in parameters]
        if not given.losses:
            continue
        found[role] = loss_of(given, role)
        gradients = torch.autograd.grad(found[role][0], parameters, create_graph=True, allow_unused=True)
        in_play[role] = [gradient is not None for gradient in gradients]
        field[role] = [
            zero if gradient is None else gradient for zero, gradient in zip(field[role], gradients, strict=True)
        ]
    return field, found, in_play


def refuse_without_second_derivatives(update: "Update", terms: TermsOf) -> None:
    """Raise UserError where an update needs second derivatives that the players do not have; nothing changes."""
    if not needs_graph(update.game):
        return
    kept = kept_buffers(update.players)
    subject = Setting("game.update", update.game.update)
    without = Setting("game.update", "extragradient")
    if update.game.correction.kind != "none":
        subject = Setting("game.correction.kind", update.game.correction.kind)
        without = Setting("game.correction.kind", "none")
    pairs: list[tuple[Role, Role]] = [("generator", "discriminator")]
    if update.game.update != "competitive":
        pairs.append(("discriminator", "generator"))
    found: dict[Role, bool] = {}
    try:
        field, losses, _ = field_of(update, terms, 0)
        for role, other in pairs:
            vectors = [torch.ones_like(part) for part in field[role]]
            mixed = products(field[role], list(update.players.of(other).parameters()), vectors, keep=True)
            found[role] = any(bool(part.any()) for part in mixed)
    except RuntimeError as error:  # autograd has no other word for it
        reason = str(error).splitlines()[0]
        problem = f"it needs second derivatives, and the networks, or what lies between them, have none ({reason})"
        raise UserError(subject, problem, without) from None
    finally:
        restore(kept, torch.ones((), dtype=torch.bool))
    for role in ROLES:
        if role not in losses:
            raise UserError(subject, f"it is of two players, and the {role} has no loss terms", without)
    for role, other in pairs:
        if not found[role]:
            problem = f"it needs second derivatives, and the gradient of the {role} does not depend on the {other}: a "
            problem += "layer has none, or a generated batch is detached"
            remedy = "In a task of your own: draw it under step.graph_if_needed()"
            raise UserError(subject, problem, without, remedy)


def _weights(update: "Update") -> list[Tensor]:
    return [parameter for role in ROLES for parameter in update.players.of(role).parameters()]


def _flat(field: Parts) -> list[Tensor]:
    return [part for role in ROLES for part in field[role]]


def products(
    outputs: Sequence[Tensor], inputs: Sequence[Tensor], vectors: Sequence[Tensor], *, keep: bool, graph: bool = False
) -> list[Tensor]:
    """Return (∂outputs/∂inputs)ᵀ times vectors, zero where outputs do not depend on an input."""
    pairs = [(output, vector) for output, vector in zip(outputs, vectors, strict=True) if output.requires_grad]
    if not pairs:
        return [torch.zeros_like(one) for one in inputs]
    ends, weights = zip(*pairs, strict=True)
    found = torch.autograd.grad(ends, inputs, weights, retain_graph=keep, create_graph=graph, allow_unused=True)
    return [torch.zeros_like(one) if part is None else part for one, part in zip(inputs, found, strict=True)]


def _jacobian_product(outputs: Sequence[Tensor], inputs: Sequence[Tensor], vectors: Sequence[Tensor]) -> list[Tensor]:
    """Return ∂outputs/∂inputs times vectors: Hᵀu is linear in u, and its own transposed Jacobian is H."""
    ends = [torch.zeros_like(output, requires_grad=True) for output in outputs]
    transposed = products(outputs, inputs, ends, keep=True, graph=True)
    return products(transposed, ends, vectors, keep=False)


def inner(one: Sequence[Tensor], other: Sequence[Tensor]) -> Tensor:
    """Return the inner product [] of two vectors in parts."""
    return torch.stack([(a * b).sum() for a, b in zip(one, other, strict=True)]).sum()


# Steps that may be refused


def over_ranks(flag: Tensor) -> Tensor:
    """Return a flag [] that is true where it is true in any of the processes that train together."""
    if distributed.is_available() and distributed.is_initialized():
        flag = flag.float()
        distributed.all_reduce(flag, op=distributed.ReduceOp.MAX)
        return flag.bool()
    return flag


def with_flag(numbers: Numbers, is_refused: Tensor, role: Role) -> Numbers:
    """Return a step's numbers, NaN where it was refused, and the flag that says so."""
    found = {name: torch.where(is_refused, torch.nan, value.float()) for name, value in numbers.items()}
    return found | {f"{role}_skipped": is_refused.float()}


def any_of(flags: Sequence[Tensor]) -> Tensor:
    """Return whether any flag is true, []."""
    return torch.stack(list(flags)).any()


def clip_weights(update: "Update", is_refused: Tensor) -> None:
    """Clip the discriminator's weights after its step where the game asks for it (arXiv:1701.07875)."""
    clip = update.game.weight_clip
    if clip is None:
        return
    with torch.no_grad():
        for parameter in update.players.discriminator.parameters():
            parameter.copy_(torch.where(is_refused, parameter, parameter.clamp(-clip, clip)))


def kept_buffers(players: Players) -> list[tuple[Tensor, Tensor]]:
    """Return both players' buffers (running statistics, singular vectors), each with a copy of its values."""
    return [(buffer, buffer.clone()) for buffer in _buffers(players)]


def _buffers(players: Players) -> Iterator[Tensor]:
    for role in ROLES:
        yield from players.of(role).buffers()


@torch.no_grad()
def restore(kept: list[tuple[Tensor, Tensor]], is_refused: Tensor) -> None:
    """Undo what a refused step's forward pass wrote into the buffers."""
    for buffer, before in kept:
        buffer.copy_(torch.where(is_refused, before, buffer))


def ended(
    update: "Update",
    found: dict[Role, tuple[Numbers, Tensor]],
    kept: list[tuple[Tensor, Tensor]],
    is_refused: Tensor,
) -> list[Numbers]:
    """End a round that both players took together: undo what a refused one wrote, clip, and return their numbers."""
    restore(kept, is_refused)
    clip_weights(update, is_refused)
    return [with_flag(found[role][0], is_refused, role) for role in ROLES]


Kept: TypeAlias = Literal["direction", "slow", "square", "count"]  # what a rule remembers of each parameter


def remembered(update: "Update", role: Role, kind: Kept, like: Sequence[Tensor]) -> list[Tensor]:
    """Return what an update remembers of each of a player's parameters; at first a copy of `like`."""
    names = [f"{role}.{kind}.{index}" for index in range(len(like))]
    for name, tensor in zip(names, like, strict=True):
        if name not in update.memory:
            update.memory[name] = tensor.detach().clone()
    return [update.memory[name] for name in names]


# What rules of several steps share


def take_step(update: "Update", terms: TermsOf, role: Role, draw: int) -> Numbers:
    """Take one player's step, unless its loss or a gradient is not finite."""
    kept = kept_buffers(update.players)
    numbers, is_refused = differentiate(update, terms, role, draw)
    step_unless(update.optimizers[role], is_refused)
    restore(kept, is_refused)
    if role == "discriminator":
        clip_weights(update, is_refused)
    return with_flag(numbers, is_refused, role)


@torch.no_grad()
def go_back(update: "Update", before: dict[Role, Copies]) -> None:
    """Put both players' weights back, and leave the moments."""
    for role in ROLES:
        for index, parameter in enumerate(update.players.of(role).parameters()):
            parameter.copy_(before[role][index, ""])


def last_step(update: "Update", role: Role) -> list[Tensor]:
    """Return the last step of each of a player's parameters, zeros before the first."""
    zeros = [torch.zeros_like(parameter) for parameter in update.players.of(role).parameters()]
    return remembered(update, role, "direction", zeros)


@torch.no_grad()
def remember_step(update: "Update", role: Role, before: Copies, is_refused: Tensor) -> None:
    """Remember how far a player has just stepped, unless that was refused or it rests."""
    for index, (parameter, step) in enumerate(
        zip(update.players.of(role).parameters(), last_step(update, role), strict=True)
    ):
        if parameter.grad is not None:
            step.copy_(torch.where(is_refused, step, parameter - before[index, ""]))


@torch.no_grad()
def step_further(update: "Update", role: Role, last: list[Tensor], is_refused: Tensor) -> None:
    """Move a player by what its present step differs from the last one, unless that was refused or it rests."""
    parameters = list(update.players.of(role).parameters())
    counts = remembered(update, role, "count", [parameter.new_zeros(()) for parameter in parameters])  # of steps: 0, 1
    for parameter, step, old, count in zip(parameters, last_step(update, role), last, counts, strict=True):
        if parameter.grad is not None:
            is_plain = is_refused | (count < 1)  # its first step, in the first round or where its stage comes in
            parameter.copy_(torch.where(is_plain, parameter, parameter + step - old))
            count.copy_(torch.where(is_refused, count, torch.ones_like(count)))


@torch.no_grad()
def look_ahead(update: "Update") -> None:
    """After every k-th round, pull both players back to α of the way from their slow weights (arXiv:2006.14567).

    slow ← slow + α (fast − slow), and fast ← slow: of both at once, as Algorithm 1 has it. The optimizers go on.
    """
    update.counts["rounds"] += 1
    if update.counts["rounds"] % update.game.lookahead:
        return
    for role in ROLES:
        for parameter, slow in zip(update.players.of(role).parameters(), slow_weights(update, role), strict=True):
            slow.lerp_(parameter, update.game.lookahead_share)
            parameter.copy_(slow)


def slow_weights(update: "Update", role: Role) -> list[Tensor]:
    """Return a player's slow weights, before the first round a copy of its weights."""
    return remembered(update, role, "slow", list(update.players.of(role).parameters()))
