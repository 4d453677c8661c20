"""Recipes of other networks: a few rounds change all that is in the game, and what grows resumes as it was."""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from trainings import TrainSmall, assert_the_same, copy_at_first_checkpoint, final_tensors, task_of

import equipoise as eq
from equipoise import loop
from equipoise.game.updates import ROLES
from equipoise.recipe import Images, Recipe, with_settings
from equipoise.recipes import Facts, build
from equipoise.state import TrainingState, start

NAMES = ("sagan", "biggan", "stylegan2", "r3gan", "growing", "stackgan")
SHORT = ("networks.width=8", "game.batch=8", "evaluation.num_samples=100")
SETTINGS = {"growing": ("networks.growing=96",), "stackgan": ("networks.stacked=96",)}
NUM_ROUNDS = 20


def played(name: str, shapes: Path, num_rounds: int, *settings: str) -> tuple[Recipe, TrainingState]:
    """Return the state after some rounds of a recipe with narrow networks."""
    recipe = dataclasses.replace(build(name, Facts(size=16, num_train=192)), task=Images(size=16))
    recipe = with_settings(recipe, [f"data.source={shapes}", *SHORT, *SETTINGS.get(name, ()), *settings])
    task = task_of(recipe)
    state = start(task, recipe)
    for _ in range(num_rounds):
        loop.set_rates(state, recipe, 0.1)
        for numbers in state.update.round(partial(loop.terms_of, task, state, recipe, 0.1)):
            assert all(bool(number.isfinite()) for key, number in numbers.items() if key.endswith(("loss", "gradient")))
            assert not any(bool(number) for key, number in numbers.items() if key.endswith("skipped"))
        state.samples += loop.step_of(state, recipe)
    return recipe, state


@pytest.mark.slow
@pytest.mark.parametrize("conditional", ["false", "true"])
@pytest.mark.parametrize("name", NAMES)
def test_twenty_rounds_change_the_weights_which_stay_finite(
    small: None, shapes: Path, name: str, conditional: str
) -> None:
    setting = f"networks.conditional={conditional}"
    _, begun = played(name, shapes, 0, setting)
    _, state = played(name, shapes, NUM_ROUNDS, setting)
    for before, after in (
        (begun.players.generator, state.players.generator),
        (begun.players.discriminator, state.players.discriminator),
    ):
        assert all(bool(parameter.isfinite().all()) for parameter in after.parameters())
        changed = [not torch.equal(*pair) for pair in zip(before.parameters(), after.parameters(), strict=True)]
        assert sum(changed) > 0.8 * len(changed)


def test_the_level_of_both_networks_is_that_of_the_last_round(small: None, shapes: Path) -> None:
    for num_rounds in (4, 16, NUM_ROUNDS):
        _, state = played("growing", shapes, num_rounds)
        drawn = 8 * num_rounds  # the generator's step is of the next batch
        level = min(1.0, max(0.0, 2 * (drawn - 96) / 96))
        players: list[Any] = [state.players.generator, state.players.discriminator]
        for player in players:
            assert player.level.level.item() == pytest.approx(level)


NAMED = ("networks.conditional=true", "networks.condition=naming", "game.auxiliary=1", "networks.label_scale=0.1")
CODED = ("networks.categorical_codes=3", "networks.continuous_codes=2", "game.information=1")
SEVERAL = ("networks.discriminators=2", "networks.latent_size=24")
TOGETHER = {
    "growing, at scales": ("growing", (*NAMED, *CODED, *SEVERAL, "networks.scales=2", "networks.growing=48")),
    "two stages": ("stackgan", (*NAMED, *CODED, *SEVERAL, "networks.stacked=48")),
    "styles": ("stylegan2", (*NAMED, *CODED, *SEVERAL)),
    "latents in blocks": ("biggan", (*NAMED[:3], *CODED, *SEVERAL)),
    "two stages of autoencoders": (
        "stackgan",
        ("networks.autoencoder=true", "game.loss=energy", "game.margin=0.1", "networks.stacked=48"),
    ),
}


@pytest.mark.parametrize("case", TOGETHER)
def test_heads_codes_and_several_discriminators_go_with_every_architecture(
    small: None, shapes: Path, case: str
) -> None:
    name, settings = TOGETHER[case]
    _, begun = played(name, shapes, 0, *settings)
    _, state = played(name, shapes, 10, *settings)  # the last rounds are at the full size
    for role in ROLES:
        pairs = zip(begun.players.of(role).parameters(), state.players.of(role).parameters(), strict=True)
        changed = [not torch.equal(*pair) for pair in pairs]
        assert sum(changed) > 0.8 * len(changed), f"{role}: {sum(changed)} of {len(changed)}"


LEVELS = [
    pytest.param(["networks.growing=128"], 0.5, id="growing-dcgan"),
    pytest.param(["networks.growing=128", "networks.family=resnet"], 0.5, id="growing-resnet", marks=pytest.mark.slow),
    pytest.param(["networks.stacked=200"], 0.0, id="stacked"),
]


@pytest.mark.parametrize(("settings", "level"), LEVELS)
def test_a_checkpoint_has_the_level_and_a_resume_is_the_run_that_never_stopped(
    train_small: TrainSmall, tmp_path: Path, settings: list[str], level: float
) -> None:
    settings = ["networks.family=dcgan", "networks.width=4", "networks.generator_norm=batch", *settings]
    with pytest.MonkeyPatch.context() as patch:
        copy_at_first_checkpoint(patch, "cut")
        whole = train_small("whole", "task.size=16", *settings)
    cut = final_tensors(eq.load(tmp_path / "cut"))
    names = [name for name in cut if name.endswith("level.level")]
    assert {name.partition(".")[0] for name in names} >= {"generator", "generator_ema", "discriminator"}
    assert all(cut[name].item() == pytest.approx(level, abs=0.13) for name in names)
    resumed = eq.resume(tmp_path / "cut")
    assert_the_same(whole, resumed)
    assert all(
        tensor.item() == 1 for name, tensor in final_tensors(resumed).items() if name.endswith("generator.level")
    )
    assert eq.load(resumed.folder.path).best.sample(2).shape == (2, 1, 16, 16)
