"""Every named recipe trains: twenty steps on tiny images change both networks' weights, and all numbers are finite."""

import dataclasses
from functools import partial

import pytest
import torch

from equipoise.data.pool import Pool
from equipoise.game.losses import loss_named
from equipoise.game.terms import StepContext
from equipoise.game.updates import ROLES, Players, Role, Terms, make_update
from equipoise.metrics.features.load import Features
from equipoise.randomness import Randomness
from equipoise.recipe import Recipe, with_settings
from equipoise.recipes import NAMES, Facts, RecipeName, build
from equipoise.tasks.images import ImageTask

CPU = torch.device("cpu")
FLAT = Features("flat", "none", 64, lambda pixels: pixels.flatten(1))
TINY = ("networks.width=4", "game.batch=8", "networks.frozen=0", "networks.pretrained=false", "networks.groups=0")
NUM_ROUNDS = 20
OF_EIGHT = tuple(name for name in NAMES if name != "stackgan")  # which needs 16 pixels: tests/test_zoo_architectures.py


def tiny(name: RecipeName, pool: Pool) -> Recipe:
    """Return a named recipe for images of 8 pixels, with few channels; what needs no weights of ImageNet."""
    recipe = build(name, Facts(size=8, num_train=len(pool.splits.train)))
    settings = (*TINY, "networks.width=16") if recipe.networks.family == "mlp" else TINY
    return with_settings(dataclasses.replace(recipe, seed=3), settings)


def terms(task: ImageTask, players: Players, samples: int, role: Role, draw: int) -> Terms:
    """Return one player's terms at a position, as the loop asks for them."""
    batch = task.recipe.game.batch
    randomness = Randomness(3, samples + draw * batch)
    torch.manual_seed(samples)
    step = StepContext(randomness, index=samples // batch)
    found = task.discriminator_terms if role == "discriminator" else task.generator_terms
    return found(players, task.batch(randomness, batch), step)


@pytest.mark.parametrize("name", OF_EIGHT)
def test_twenty_rounds_of_a_recipe_change_both_networks_and_stay_finite(name: RecipeName, pool: Pool) -> None:
    recipe = tiny(name, pool)
    game = recipe.game
    loss = loss_named(game.loss, game.label_smoothing, game.margin)
    task = ImageTask(recipe, pool, FLAT, loss, CPU, torch.float32)
    torch.manual_seed(0)
    players = task.players()
    update = make_update(game, players)
    before = {role: [weight.detach().clone() for weight in players.of(role).parameters()] for role in ROLES}
    numbers = [
        update.round(partial(terms, task, players, place * game.discriminator_steps * game.batch))
        for place in range(NUM_ROUNDS)
    ]
    for steps in numbers:
        for step in steps:
            assert all(value.isfinite().all() for key, value in step.items() if "probability" not in key), step
    for role in ROLES:
        after = list(players.of(role).parameters())
        moved = [not torch.equal(old, new) for old, new in zip(before[role], after, strict=True)]
        assert all(weight.isfinite().all() for weight in after)
        assert sum(moved) > 0.7 * len(moved), f"{role}: {sum(moved)} of {len(moved)}"
    images = task.outputs(players.generator, Randomness(0), "validation", 0, 6)
    labels = None if not recipe.networks.conditional else torch.tensor([0, 1, 0, 1, 0, 1])
    logits = task.logits(players.discriminator, labels, images)
    assert logits.shape == (6 // game.packing,)
    assert logits.isfinite().all()
