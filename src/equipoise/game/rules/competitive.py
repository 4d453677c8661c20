"""Competitive gradient descent: each round solves the game's local bilinear approximation (arXiv:1905.12103).

f is the generator's loss, which the discriminator raises; A_G and A_D are the players' rates: η for SGD, and
η / (√s + ε) for each weight with RMSprop's mean square s, which is the adaptive form (arXiv:1910.05852, Algorithm 1).
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from equipoise.game.players import ROLES, Numbers, Role, TermsOf
from equipoise.game.steps import (
    any_of,
    ended,
    field_of,
    inner,
    kept_buffers,
    measured,
    over_ranks,
    products,
    remembered,
    resting,
    settings_of,
)
from equipoise.recipe import Game

if TYPE_CHECKING:
    from equipoise.game.updates import Update

NEEDS_GRAPH = True
MOST_ITERATIONS = 10  # of conjugate gradients
EPSILON = 1e-5  # beside the root of a mean square


def num_batches(game: Game, more_steps: int) -> int:
    """Return how many batches of real samples a round shows to the discriminator."""
    return 1


def play(update: "Update", terms: TermsOf, more_steps: int) -> list[Numbers]:
    """Step to the solution of the bilinear game at the present weights (arXiv:1905.12103, Eq. 3 and Algorithm 1).

    Δθ = −(A_G⁻¹ + D_θψ A_D D_ψθ)⁻¹ (∇_θ f + D_θψ A_D ∇_ψ f), then Δψ = A_D (∇_ψ f + D_ψθ Δθ), where D_ψθ are mixed
    second derivatives of f. The discriminator's own terms, penalties too, take the place of −f in ∇_ψ f.
    """
    kept = kept_buffers(update.players)
    field, losses, in_play = field_of(update, terms, 0)
    found: dict[Role, tuple[Numbers, Tensor]] = {}
    for role in ROLES:
        update.optimizers[role].zero_grad(set_to_none=True)
        if role not in losses:
            found[role] = resting(update, role)
            continue
        parameters = update.players.of(role).parameters()
        for parameter, part, is_in in zip(parameters, field[role], in_play[role], strict=True):
            parameter.grad = part.detach().clone() if is_in else None
        found[role] = measured(update, role, *losses[role])
    moments = {role: _moments(update, role) for role in ROLES}
    rates: dict[Role, list[Tensor]] = {role: _rates(update, role, moments[role]) for role in ROLES}
    if len(losses) == 2:
        steps = _solution(update, field["generator"], field["discriminator"], rates)
    else:
        steps = {role: [-rate * part for rate, part in zip(rates[role], field[role], strict=True)] for role in ROLES}
    # Mixed derivatives may be infinite where all gradients are finite.
    is_odd = ~torch.stack([part.isfinite().all() for role in ROLES for part in steps[role]]).all()
    is_refused = any_of([over_ranks(is_odd), *(refused for _, refused in found.values())])
    with torch.no_grad():
        for role in ROLES:
            for before, after in moments[role]:
                before.copy_(torch.where(is_refused, before, after))
        for role in losses:
            for parameter, step in zip(update.players.of(role).parameters(), steps[role], strict=True):
                parameter.copy_(torch.where(is_refused, parameter, parameter + step))
    return ended(update, found, kept, is_refused)


def _solution(
    update: "Update", of_generator: list[Tensor], of_discriminator: list[Tensor], rates: dict[Role, list[Tensor]]
) -> dict[Role, list[Tensor]]:
    """Return both players' steps from their gradients with graphs and their rates.

    The system is solved for u with Δθ = A_G^½ u, so that it is symmetric and its smallest eigenvalue is 1.
    """
    psi = list(update.players.discriminator.parameters())
    roots = [rate.sqrt() for rate in rates["generator"]]
    slopes = [torch.zeros_like(one, requires_grad=True) for one in of_generator]
    mixed = products(of_generator, psi, slopes, keep=True, graph=True)  # D_ψθ u, linear in u

    def to_discriminator(vectors: list[Tensor]) -> list[Tensor]:
        """Return D_ψθ times vectors of the generator's weights."""
        return products(of_generator, psi, vectors, keep=True)

    def to_generator(vectors: list[Tensor]) -> list[Tensor]:
        """Return D_θψ times vectors of the discriminator's weights."""
        return products(mixed, slopes, vectors, keep=True)

    def system(vectors: list[Tensor]) -> list[Tensor]:
        """Return (I + A_G^½ D_θψ A_D D_ψθ A_G^½) times vectors."""
        forth = to_discriminator(_times(roots, vectors))
        back = to_generator(_times(rates["discriminator"], forth))
        return [vector + root * part for vector, root, part in zip(vectors, roots, back, strict=True)]

    rise = [-part.detach() for part in of_discriminator]  # ∇_ψ f
    answer = to_generator(_times(rates["discriminator"], rise))
    right = [-root * (one.detach() + two) for root, one, two in zip(roots, of_generator, answer, strict=True)]
    step = _times(roots, conjugate_gradients(system, right))
    reply = [up + part for up, part in zip(rise, to_discriminator(step), strict=True)]
    return {"generator": step, "discriminator": _times(rates["discriminator"], reply)}


def conjugate_gradients(
    system: Callable[[list[Tensor]], list[Tensor]], right: list[Tensor], most: int = MOST_ITERATIONS
) -> list[Tensor]:
    """Return nearly the solution of a symmetric positive system; nothing waits for the device to say how nearly."""
    solution = [torch.zeros_like(part) for part in right]
    residual = [part.clone() for part in right]
    direction = [part.clone() for part in right]
    square = inner(residual, residual)
    tiny = torch.finfo(square.dtype).tiny
    least = square * torch.finfo(square.dtype).eps ** 2  # what rounding leaves: then the solution stays as it is
    for _ in range(most):
        is_solved = square <= least
        image = system(direction)
        length = torch.where(is_solved, 0.0, square / inner(direction, image).clamp(min=tiny))
        solution = [one + length * part for one, part in zip(solution, direction, strict=True)]
        residual = [one - length * part for one, part in zip(residual, image, strict=True)]
        after = inner(residual, residual)
        share = torch.where(is_solved, 0.0, after / square.clamp(min=tiny))
        direction = [one + share * part for one, part in zip(residual, direction, strict=True)]
        square = torch.where(is_solved, square, after)
    return solution


@torch.no_grad()
def _moments(update: "Update", role: Role) -> list[tuple[Tensor, Tensor]]:
    """Return what is remembered of each of a player's weights, and last of its steps, with its values after this one.

    These are mean squares, of RMSprop; SGD remembers nothing.
    """
    settings = settings_of(update.game, role)
    if settings.optimizer == "sgd":
        return []
    parameters = list(update.players.of(role).parameters())
    squares = remembered(update, role, "square", [torch.zeros_like(parameter) for parameter in parameters])
    count = remembered(update, role, "count", [parameters[0].new_zeros(())])[0]
    found = []
    for parameter, square in zip(parameters, squares, strict=True):
        after = square
        if parameter.grad is not None:
            after = settings.beta2 * square + (1 - settings.beta2) * parameter.grad.square()
        found.append((square, after))
    is_moving = any(parameter.grad is not None for parameter in parameters)
    return [*found, (count, count + 1 if is_moving else count)]


@torch.no_grad()
def _rates(update: "Update", role: Role, moments: list[tuple[Tensor, Tensor]]) -> list[Tensor]:
    """Return the rate of each of a player's weights."""
    settings = settings_of(update.game, role)
    rate = update.rate(role)
    if not moments:
        return [torch.full_like(parameter, rate) for parameter in update.players.of(role).parameters()]
    *squares, (_, count) = moments
    unbiased = 1 - settings.beta2 ** count.clamp(min=1)
    return [rate / ((square / unbiased).sqrt() + EPSILON) for _, square in squares]


def _times(factors: list[Tensor], parts: list[Tensor]) -> list[Tensor]:
    return [factor * part for factor, part in zip(factors, parts, strict=True)]
