"""Champion against challenger: the difference of their KIDs on the same latents and the same reals."""

import torch
from torch import Tensor

from equipoise.errors import UserError
from equipoise.metrics.kid import Estimate, kernel_between, kernel_within


@torch.no_grad()
def kid_difference(real: Tensor, champion: Tensor, challenger: Tensor) -> Estimate:
    """Return KID(challenger) − KID(champion), unbiased, with its standard error; negative: the challenger is better.

    Takes features [M, D] of reals and [N, D] of each generator, row i of both from latent i. Raises UserError where
    the numbers of rows differ.

    With a_ij = k(w_i, w_j) − k(y_i, y_j) and b_ij = k(w_i, x_j) − k(y_i, x_j) for challenger w, champion y, real x,
    the terms of the reals alone cancel: the value is mean(a_ij, i ≠ j) − 2 mean(b_ij). Latents and reals are drawn
    independently, so each has its own projection, h_i = mean_j a_ij − mean_j b_ij and g_j = mean_i b_ij, and the
    variance is 4 Var(h)/N + 4 Var(g)/M. This is never negative. It holds the second-order term twice, where the
    truth holds it once: negligible where the generators differ clearly; up to twice the true variance (an interval
    too wide, never too narrow) where they are equal in distribution, which is where a promotion would be an error.
    """
    if champion.shape != challenger.shape:
        raise UserError(
            f"paired KID: champion {tuple(champion.shape)} and challenger {tuple(challenger.shape)} differ in shape; "
            "generate both from the same latents, row by row."
        )
    within = kernel_within(challenger).row_means - kernel_within(champion).row_means
    of_challenger, of_champion = kernel_between(challenger, real), kernel_between(champion, real)
    of_latents = within - (of_challenger.row_means - of_champion.row_means)
    of_reals = of_challenger.column_means - of_champion.column_means
    value = within.mean() - 2 * of_reals.mean()
    variance = 4 * of_latents.var() / len(champion) + 4 * of_reals.var() / len(real)
    return Estimate(value.item(), variance.sqrt().item())
