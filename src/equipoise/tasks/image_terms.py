"""Terms of a game on images beside the adversarial one: classes that are named, codes that are read, variety."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from equipoise.data.pool import Pool, gather, to_float
from equipoise.game.judged import Judged, codes_of, information_loss, naming_loss, pulling_away
from equipoise.game.terms import mean_distance
from equipoise.recipe import Networks, Recipe

NUM_FOR_SPREAD = 60  # training images of a class by which their distance is known


def num_judges(networks: Networks) -> int:
    """Return how many discriminators are the family's own: each has a penalty of its own."""
    return networks.discriminators * networks.scales


def second_terms(
    recipe: Recipe, told: Tensor | None, latents: Tensor, of_fake: Judged, of_real: Judged | None = None
) -> dict[str, Tensor]:
    """Return the terms `[N]` of what a discriminator says besides logits, of generated images and of real ones.

    Both players lower the first two, as both are to show the class and the codes (arXiv:1610.09585, arXiv:1606.03657);
    generated images are drawn from `latents` and told `told`. Without real images they are the generator's.
    """
    game, networks = recipe.game, recipe.networks
    terms: dict[str, Tensor] = {}
    if game.auxiliary:
        loss = naming_loss(of_fake.named, told)
        if of_real is not None:
            loss = loss + naming_loss(of_real.named, told)
        terms["auxiliary"] = game.auxiliary * loss
    if game.information:
        codes = codes_of(latents, networks.categorical_codes, networks.continuous_codes)
        terms["information"] = game.information * information_loss(of_fake.codes, codes)
    if game.pulling_away and of_real is None:
        terms["pulling away"] = game.pulling_away * pulling_away(of_fake.encoded)
    return terms


def spread_of(pool: Pool, parts: Sequence[np.ndarray]) -> Tensor:
    """Return the mean distance `[K]` of two training images of each part of a pool.

    A part of a single image, or of copies, takes the mean of the others.
    """
    found = torch.zeros(len(parts))
    for place, part in enumerate(parts):
        if len(part) > 1:
            found[place] = mean_distance(to_float(gather(pool, part[:NUM_FOR_SPREAD])))
    known = found > 0
    found[~known] = found[known].mean() if known.any() else 1.0
    return found
