"""Two discriminators, one of pixels and one of ImageNet's features, for photographs in colour on a CPU.

Beside `modern`'s game on pixels a projected discriminator (arXiv:2111.01007) gives shapes. It would forget colours
and kinds: groups that the networks are told (arXiv:2006.10728) keep the kinds, and variety within a group is asked
for by what a batch looks like (arXiv:1710.10196) and by a term of its own (arXiv:1901.09024).
"""

import dataclasses

from equipoise.recipe import Augment, Networks, Recipe
from equipoise.recipes.base import About, Facts, kinds_for
from equipoise.recipes.formulas import formulas_of
from equipoise.recipes.zoo import modern

IN_A_GROUP = 80  # training images, at least, where the networks are told groups
LEAST_GROUPS = 4
MOST_GROUPS = 50

about = About(
    paper="arXiv:2111.01007",
    purpose="the default for colour, 32 to 64 pixels, on a CPU: D also sees ImageNet's features",
    whom="everybody with photographs or drawings in colour; when you have half an hour or more",
    result="not on digits, as it is for colour: docs/recipes.md",
    samples=None,
    formulas=(
        *formulas_of("relativistic", "r1+r2"),
        "D is two: of pixels, and of features of EfficientNet-Lite0; their losses are added",
        "G also: 2 · max(0, 1 − d(G(z₁), G(z₂)) / d(x₁, x₂)), d the mean distance within a group",
    ),
    papers=(
        "A discriminator of fixed features of a pretrained network, at four scales, mixed by random convolutions "
        "that are never trained."
    ),
    differs=(
        "A second discriminator of pixels with modern's loss and penalty beside it (arXiv:2112.09130 has several, "
        "too); groups that both networks are told (arXiv:2006.10728); a minibatch's deviation within a group; the "
        "term of variety (after arXiv:1901.09024); EfficientNet-Lite0 where the paper has a larger one."
    ),
)


def recipe(facts: Facts) -> Recipe:
    """Return the recipe for these facts."""
    base = modern.recipe(dataclasses.replace(facts, is_cpu=True))
    networks = Networks(
        family="dcgan",
        width=32 if facts.is_cpu else 64,
        latent_size=64,
        generator_norm="batch",
        smooth=True,
        pretrained=facts.channels in (1, 3),
        minibatch_deviation=True,
        groups=_groups(facts),
    )
    augment = Augment(kinds=kinds_for(facts), probability=1.0)  # else 48,000 are learned by heart
    game = dataclasses.replace(base.game, variety=2.0)
    return dataclasses.replace(base, networks=networks, game=game, augment=augment)


def _groups(facts: Facts) -> int:
    """Return a number of groups of 80 training images or more each, 0 where there are too few for four."""
    num = min(MOST_GROUPS, facts.num_train // IN_A_GROUP)
    return num if num >= LEAST_GROUPS else 0
